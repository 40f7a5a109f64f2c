# One image that trains and serves on Amazon SageMaker. Builds with BuildKit and with the legacy builder.
ARG BASE_IMAGE=python:3.11-slim-bookworm
# What the final image starts from: the same, unless the base is large and only the build needs it (a CUDA devel image).
ARG RUNTIME_IMAGE=${BASE_IMAGE}

# What the final image has from its distribution, in a stage of its own: its bill of materials is read from here.
FROM ${RUNTIME_IMAGE} AS system
# Without the module for headers nginx cannot leave its own name out of answers.
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        ca-certificates nginx-light libnginx-mod-http-headers-more-filter \
    && apt-get clean && rm -rf /var/lib/apt/lists/*
# MPI starts ranks on other hosts through ssh. The host keys that the package makes would be everybody's: they go at once.
ARG WITH_HOROVOD=none
RUN if [ "${WITH_HOROVOD}" = mpi ] || [ "${WITH_HOROVOD}" = nccl ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends openmpi-bin openssh-client openssh-server \
        && apt-get clean && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* \
        && mkdir -p /run/sshd; fi

FROM system AS packages
RUN . /etc/os-release && echo "${ID} ${VERSION_ID}" > /packages.txt \
    && dpkg-query -W -f '${Package} ${Version} ${Architecture} ${source:Package} ${source:Version}\n' >> /packages.txt

# The builder has a compiler, for packages that ship as source only. It leaves /opt/venv and the bill of materials behind.
FROM ${BASE_IMAGE} AS builder
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ python3-dev \
    && rm -rf /var/lib/apt/lists/*

# Where packages come from, for networks with an index or a wheel folder of their own. Nothing of it stays in the image.
ARG PIP_INDEX_URL
ARG PIP_EXTRA_INDEX_URL
ARG PIP_FIND_LINKS
ARG PIP_TRUSTED_HOST
# An index with the CPU or CUDA build of PyTorch that you want; empty: whatever the index above has.
ARG TORCH_INDEX_URL=""

WORKDIR /build
RUN python3 -m venv /opt/venv && python3 -m venv /opt/sbom
COPY container/wheels wheels/
COPY container/constraints.txt ./
COPY container/requirements/sbom.txt requirements/
RUN /opt/sbom/bin/pip install --no-cache-dir --find-links wheels -r requirements/sbom.txt
COPY container/requirements/torch.txt requirements/
RUN /opt/venv/bin/pip install --no-cache-dir --find-links wheels -c constraints.txt \
    ${TORCH_INDEX_URL:+--extra-index-url ${TORCH_INDEX_URL}} -r requirements/torch.txt
# Horovod is compiled against that torch: none, gloo, mpi or nccl. Below this line no change of code compiles it again.
ARG WITH_HOROVOD=none
ARG HOROVOD_CXX_STANDARD=17
ARG HOROVOD_CUDA_ARCHITECTURES=75,80,86,89,90,100
COPY container/requirements/horovod.txt container/requirements/mpi.txt requirements/
COPY container/horovod horovod/
RUN bash horovod/build.sh
COPY container/requirements/runtime.txt requirements/
RUN /opt/venv/bin/pip install --no-cache-dir --find-links wheels -c constraints.txt -r requirements/runtime.txt
# What Arrow, Parquet, images, ONNX, safetensors and typed handlers need; none leaves it out: 270 MB.
ARG WITH_FORMATS=all
COPY container/requirements/formats.txt requirements/
RUN case "${WITH_FORMATS}" in \
        all) /opt/venv/bin/pip install --no-cache-dir --find-links wheels -c constraints.txt -r requirements/formats.txt ;; \
        none) ;; \
        *) echo "formats: WITH_FORMATS is '${WITH_FORMATS}'; expected: all or none; next: correct the build argument" >&2 \
            && exit 1 ;; \
    esac
# Packages' own tests, and programs that PyTorch was tested with: a quarter of a gigabyte that nothing imports.
RUN cd "$(/opt/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')" \
    && bash -O globstar -c 'rm -rf torch/test torch/bin/{test_*,protoc*} pyarrow/{include,tests} \
        {numpy,scipy,sympy,networkx}/**/tests'
# What your own code needs: CODE/requirements.txt, if there is one.
ARG CODE=opt_ml_template/code
COPY container/constraints.txt ${CODE}/requirements*.txt users/
RUN if [ -f users/requirements.txt ]; then \
        /opt/venv/bin/pip install --no-cache-dir --find-links wheels -c constraints.txt -r users/requirements.txt; fi
RUN echo /opt/program/lib > "$(/opt/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/sagemaker_byoc.pth"

# The bill of materials, checked against its schema; the tool that makes it stays behind.
FROM builder AS sbom
COPY --from=packages /packages.txt ./
COPY container/sbom.py ./
RUN /opt/sbom/bin/cyclonedx-py environment --output-reproducible --short-PURLs -o python.cdx.json /opt/venv/bin/python \
    && /opt/sbom/bin/python sbom.py python.cdx.json packages.txt sbom.cdx.json

FROM system
COPY --from=builder /opt/venv /opt/venv

# /opt/program comes first: sagemaker-training brings a `train` of its own.
ENV PATH=/opt/program:/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true \
    com.amazonaws.sagemaker.capabilities.multi-models=true \
    com.amazonaws.sagemaker.capabilities.bidirectional-streaming=true

COPY --from=sbom /build/sbom.cdx.json /opt/program/
COPY container/sagemaker_byoc /opt/program/lib/sagemaker_byoc
ARG CODE=opt_ml_template/code
COPY ${CODE} /opt/program/code
# Readable by any user, and /opt/ml writable by any: serverless endpoints do not run as root.
RUN cp /opt/program/lib/sagemaker_byoc/train /opt/program/lib/sagemaker_byoc/serve \
       /opt/program/lib/sagemaker_byoc/default /opt/program/ \
    && python3 -m compileall -q /opt/program/lib \
    && chmod -R a+rX /opt/program && chmod 755 /opt/program/train /opt/program/serve /opt/program/default \
    && mkdir -p /opt/ml && chmod 777 /opt/ml

WORKDIR /opt/program
EXPOSE 8080
# `docker run IMAGE train` and `docker run IMAGE serve` name their program; this is for clients that name none.
CMD ["default"]
