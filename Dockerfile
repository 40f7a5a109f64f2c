# One image that trains and serves on Amazon SageMaker. Builds with BuildKit and with the legacy builder.
ARG BASE_IMAGE=python:3.11-slim-bookworm
# What the final image starts from: the same, unless the base is large and only the build needs it (a CUDA devel image).
ARG RUNTIME_IMAGE=${BASE_IMAGE}

# The builder has a compiler, for packages that ship as source only. It leaves /opt/venv behind and nothing else.
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
RUN python3 -m venv /opt/venv
COPY container/wheels wheels/
COPY container/constraints.txt ./
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
# What your own code needs: CODE/requirements.txt, if there is one.
ARG CODE=opt_ml_template/code
COPY container/constraints.txt ${CODE}/requirements*.txt users/
RUN if [ -f users/requirements.txt ]; then \
        /opt/venv/bin/pip install --no-cache-dir --find-links wheels -c constraints.txt -r users/requirements.txt; fi
RUN echo /opt/program/lib > "$(/opt/venv/bin/python -c 'import site; print(site.getsitepackages()[0])')/sagemaker_byoc.pth"

FROM ${RUNTIME_IMAGE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates nginx-light \
    && rm -rf /var/lib/apt/lists/*
# MPI starts ranks on other hosts through ssh. The host keys that the package makes would be everybody's: they go at once.
ARG WITH_HOROVOD=none
RUN if [ "${WITH_HOROVOD}" = mpi ] || [ "${WITH_HOROVOD}" = nccl ]; then \
        apt-get update \
        && apt-get install -y --no-install-recommends openmpi-bin openssh-client openssh-server \
        && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_* \
        && mkdir -p /run/sshd; fi
COPY --from=builder /opt/venv /opt/venv

# /opt/program comes first: sagemaker-training brings a `train` of its own.
ENV PATH=/opt/program:/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONUNBUFFERED=1
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true

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
