#!/bin/sh
# Puts Python bindings of the TensorRT that is installed here into an environment, so that engines
# are compiled by the very library that Triton loads:
# docker/install-tensorrt.sh <environment> [<folder with libnvinfer>]
# The CUDA version comes from CUDA_VERSION, which NVIDIA's images set.
set -eu
. "$(dirname "$0")/read-build-secrets.sh"
environment=$1
libraries=${2:-/usr/lib}

# libnvinfer.so.<major>.<minor>.<patch>, without its companions as libnvinfer_plugin.so.
library=$(find -L "$libraries" -name 'libnvinfer.so.*.*.*' -print -quit)
if [ -z "$library" ]; then
  echo "error: there is no libnvinfer.so under $libraries; this needs NVIDIA's Triton image" >&2
  exit 1
fi
version=${library##*libnvinfer.so.}
cuda=${CUDA_VERSION:?set it to the version of CUDA, as NVIDIA\'s images do}
python3 -m pip --python "$environment/bin/python" install --quiet --disable-pip-version-check \
  --no-compile --no-deps "tensorrt-cu${cuda%%.*}-bindings==$version.*"

# The bindings have another name than the package that brings a library of its own along.
packages=$("$environment/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cat > "$packages/tensorrt.py" <<'PYTHON'
"""TensorRT's bindings under their usual name; the library is the image's."""

import sys

import tensorrt_bindings

sys.modules[__name__] = tensorrt_bindings
PYTHON
echo "TensorRT $version, CUDA $cuda"
