#!/bin/sh
# Installs nginx with its JavaScript module, and Python, from Debian, for the gateway's image.
set -eu
export DEBIAN_FRONTEND=noninteractive
authorities=/run/secrets/ca.crt
if [ -s "$authorities" ]; then
  set -- -o "Acquire::https::CAInfo=$authorities"
fi
apt-get "$@" update -qq
apt-get "$@" install -qq -y --no-install-recommends nginx-light libnginx-mod-http-js python3
rm -rf /var/lib/apt/lists/*
