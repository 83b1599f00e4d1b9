#!/bin/sh
# Removes from the CPU image's environment what serving never opens, a fifth of its size:
# docker/trim-environment.sh <environment>
set -eu
cd "$1"/lib/python3.*/site-packages
version=$(../../../bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')

remove() { # <path>...: one that is not there is a name that has changed
  for path in "$@"; do
    [ -e "$path" ] || { echo "error: $PWD has no $path; see what is in its place" >&2; exit 1; }
    rm -rf "$path"
  done
}

# OpenVINO on devices other than the CPU, and models in other formats than ONNX and its own.
remove openvino/libs/libopenvino_intel_[gn]pu_plugin.so openvino/libs/cache.json openvino/include
for format in gguf jax paddle pytorch tensorflow tensorflow_lite; do
  remove openvino/libs/libopenvino_"$format"_frontend.so.*
done
# The Python backend for other Pythons, and the library of one of them.
[ -e "pytriton/tritonserver/python_backend_stubs/$version" ]
find pytriton/tritonserver/python_backend_stubs -mindepth 1 -maxdepth 1 ! -name "$version" \
  -exec rm -r {} +
for library in nvidia_pytriton.libs/libpython3-*.so.*; do
  case $library in *."${version#*.}".so.*) ;; *) remove "$library" ;; esac
done
# What OpenCV finds faces with.
remove cv2/data
# Nothing is fetched from a model hub.
remove hf_xet
find . -type d -name tests -prune -exec rm -r {} +
