#!/bin/sh
# Makes a Python environment with the project's dependencies, without the project's own code and
# without pip: docker/install-environment.sh <folder> <extra>... or <folder> --only <package>...
# The image builds and a test run it. PIP_ARGS may hold further arguments for pip.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
folder=$1
shift

. "$here/read-build-secrets.sh"
requirements=$(mktemp)
trap 'rm -f "$requirements"' EXIT
python3 "$here/requirements.py" "$@" > "$requirements"
python3 -m venv --without-pip "$folder"
# shellcheck disable=SC2086 # several arguments are meant
python3 -m pip --python "$folder/bin/python" install --quiet --disable-pip-version-check \
  --no-compile ${PIP_ARGS:-} --constraint "$here/../constraints.txt" --requirement "$requirements"
