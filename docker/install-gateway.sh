#!/bin/sh
# Installs nginx with its JavaScript module from Debian; the gateway's image and CI run it.
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends nginx-light libnginx-mod-http-js
rm -rf /var/lib/apt/lists/*
