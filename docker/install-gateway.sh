#!/bin/sh
# Installs nginx with its JavaScript module from Debian, for the gateway's image.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends nginx-light libnginx-mod-http-js
rm -rf /var/lib/apt/lists/*
