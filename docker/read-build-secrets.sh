#!/bin/sh
# Sourced by what downloads while an image is built: where the build has the secrets pip.conf and ca.crt,
# they are pip's settings, and the authorities that sign what is downloaded.
set -eu
if [ -s /run/secrets/pip.conf ]; then
  export PIP_CONFIG_FILE=/run/secrets/pip.conf
fi
if [ -s /run/secrets/ca.crt ]; then
  export PIP_CERT=/run/secrets/ca.crt
  export SSL_CERT_FILE=$PIP_CERT REQUESTS_CA_BUNDLE=$PIP_CERT
fi
