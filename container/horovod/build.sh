#!/usr/bin/env bash
# Builds Horovod from source into the image's virtual environment, which has PyTorch already.
#
# The Dockerfile runs it in the builder stage, with its build arguments as environment variables:
#   WITH_HOROVOD                none, gloo (no MPI anywhere), mpi (Gloo and MPI), nccl (Gloo and MPI, tensors by NCCL)
#   HOROVOD_CXX_STANDARD        the C++ standard that the installed PyTorch asks for
#   HOROVOD_CUDA_ARCHITECTURES  nccl only: the GPUs to compile for, such as 80,90
set -euo pipefail
cd "$(dirname "$0")/.."

VENV=/opt/venv
SOURCE=horovod-0.28.1
PIP=$VENV/bin/pip
FROM=(--no-cache-dir --find-links wheels)

fail() {
    printf 'horovod: %s\n         expected: %s\n         next: %s\n' "$@" >&2
    exit 1
}

# All that can be known to be wrong is said before minutes are spent on compiling.
check_arguments() {
    case "$WITH_HOROVOD" in
        none | gloo | mpi | nccl) ;;
        *) fail "WITH_HOROVOD is '$WITH_HOROVOD'" "none, gloo, mpi or nccl" "correct the build argument" ;;
    esac
    [[ "$HOROVOD_CXX_STANDARD" =~ ^[0-9]{2}$ ]] || fail "HOROVOD_CXX_STANDARD is '$HOROVOD_CXX_STANDARD'" \
        "two digits: 17, or 20 for PyTorch 2.14 and newer" "correct the build argument"
}

check_gpu_build() {
    local cuda
    cuda=$("$VENV/bin/python" -c 'import torch; print(torch.version.cuda or "")')
    [ -n "$cuda" ] || fail "WITH_HOROVOD=nccl, but the installed PyTorch is a build for CPUs" \
        "a CUDA build of PyTorch" "name an index that has one in TORCH_INDEX_URL, and keep CPU wheels out of container/wheels"
    NVCC=$(PATH="$PATH:/usr/local/cuda/bin" command -v nvcc) || fail "WITH_HOROVOD=nccl, but there is no nvcc" \
        "a base image with the CUDA $cuda compiler" "name a CUDA devel image, with Python and pip added, in BASE_IMAGE"
    NVCC=$(readlink -f "$NVCC")
    local compiler
    compiler=$("$NVCC" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
    [ "$compiler" = "${cuda%%.*}" ] || fail "nvcc is of CUDA $compiler, PyTorch is built for CUDA $cuda" \
        "the same major version" "take the base image and the PyTorch build of one CUDA version"
}

install_tools() {
    local packages=(cmake make)
    [ "$WITH_HOROVOD" = gloo ] || packages+=(openmpi-bin libopenmpi-dev)
    apt-get update
    apt-get install -y --no-install-recommends "${packages[@]}"
    rm -rf /var/lib/apt/lists/*
    "$PIP" install "${FROM[@]}" -c constraints.txt -r requirements/horovod.txt
    [ "$WITH_HOROVOD" = gloo ] || "$PIP" install "${FROM[@]}" -c constraints.txt -r requirements/mpi.txt
}

# In hash mode pip refuses an archive that is not the one we know, before it runs a line of it.
get_source() {
    "$PIP" download "${FROM[@]}" --no-deps --no-binary horovod --no-build-isolation \
        --require-hashes -r horovod/source.txt
    tar -xzf "$SOURCE.tar.gz"
}

# Horovod 0.28.1 asks for C++14; PyTorch's headers have needed more since 2.1.
patch_source() {
    local file spare='    count_ = other.count_;'
    for file in CMakeLists.txt horovod/torch/CMakeLists.txt; do
        sed -i "s/set(CMAKE_CXX_STANDARD 14)/set(CMAKE_CXX_STANDARD $HOROVOD_CXX_STANDARD)/" "$SOURCE/$file"
        [ "$(grep -c "^ *set(CMAKE_CXX_STANDARD $HOROVOD_CXX_STANDARD)" "$SOURCE/$file")" = 1 ] ||
            fail "the C++ standard is not set in Horovod's $file" "one line that sets it" "build the Horovod of source.txt"
    done
    # An assignment to a constant, in an operator that nothing calls: gcc 14 refuses it all the same.
    sed -i "/^$spare\$/d" "$SOURCE/third_party/flatbuffers/include/flatbuffers/stl_emulation.h"
    # Contexts of process sets, the global set's among them, forget the interface that they were told to use: then Gloo looks
    # up the host's own name, and crashes where there is none, as without a network.
    local context=horovod/common/gloo/gloo_context.cc interface='device_attr.iface = global_context.gloo_iface_;'
    sed -i "/InitializeForProcessSet(/,/^}/s/device_attr.iface = gloo_iface_;/$interface/" "$SOURCE/$context"
    [ "$(grep -c "$interface" "$SOURCE/$context")" = 1 ] ||
        fail "the interface is not passed on in Horovod's $context" "one line that sets it" "build the Horovod of source.txt"
    # No debugging symbols, and as many compilers as there are cores instead of eight.
    sed -i "s/'RelWithDebInfo'/'Release'/; s/'-j8'/'-j$(nproc)'/" "$SOURCE/setup.py"
    grep -q "'-j$(nproc)'" "$SOURCE/setup.py"
}

# With HOROVOD_WITH_x a missing x is an error; without it, Horovod would quietly be built without.
choose_parts() {
    export HOROVOD_WITH_PYTORCH=1 HOROVOD_WITHOUT_TENSORFLOW=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1
    case "$WITH_HOROVOD" in
        gloo) export HOROVOD_WITHOUT_MPI=1 ;;
        mpi | nccl) export HOROVOD_WITH_MPI=1 ;;
    esac
    [ "$WITH_HOROVOD" = nccl ] && choose_gpu_parts
    # gcc 13 and newer no longer include these two by the way.
    export CXXFLAGS="-include stdexcept -include string"
    export CMAKE_POLICY_VERSION_MINIMUM=3.5 # CMake 4 refuses the Gloo inside Horovod otherwise
}

# One process must not hold two NCCLs, so Horovod is linked to the one that came with PyTorch.
choose_gpu_parts() {
    local nccl
    nccl=$("$VENV/bin/python" -c 'import nvidia.nccl; print(list(nvidia.nccl.__path__)[0])') ||
        fail "PyTorch has no NCCL package" "the pip package nvidia-nccl beside it" "take PyTorch from pip, not from the base image"
    mkdir -p nccl/lib
    ln -sfn "$nccl/include" nccl/include
    ln -sf "$nccl/lib/libnccl.so.2" nccl/lib/libnccl.so
    export HOROVOD_GPU_OPERATIONS=NCCL HOROVOD_NCCL_LINK=SHARED HOROVOD_NCCL_HOME="$PWD/nccl" HOROVOD_WITHOUT_NVTX=1 \
        HOROVOD_CUDA_HOME="${NVCC%/bin/nvcc}" HOROVOD_BUILD_CUDA_CC_LIST="$HOROVOD_CUDA_ARCHITECTURES"
}

compile() {
    echo "compiling Horovod for $WITH_HOROVOD with $(nproc) jobs; this takes minutes and is silent"
    PATH="$VENV/bin:$PATH" "$PIP" install --no-cache-dir --no-deps --no-build-isolation --use-pep517 "./$SOURCE"
}

check_result() {
    local built part
    built=$("$VENV/bin/horovodrun" --check-build)
    printf '%s\n' "$built"
    local parts=(PyTorch Gloo)
    [ "$WITH_HOROVOD" = gloo ] || parts+=(MPI)
    [ "$WITH_HOROVOD" = nccl ] && parts+=(NCCL)
    for part in "${parts[@]}"; do
        grep -qF "[X] $part" <<<"$built" || fail "Horovod was built without $part" "[X] $part above" "read the log above"
    done
}

check_arguments
[ "$WITH_HOROVOD" != none ] || exit 0
[ "$WITH_HOROVOD" != nccl ] || check_gpu_build
install_tools
get_source
patch_source
choose_parts
time compile
check_result
rm -rf "$SOURCE" "$SOURCE.tar.gz"
