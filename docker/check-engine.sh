#!/bin/sh
# Whether Docker can build and run the service here: docker/check-engine.sh
set -eu

fail() { # <what is wrong> <what to do>
  echo "error: $1; $2" >&2
  exit 1
}

at_least() { # <version> <least>
  [ "$(printf '%s\n%s\n' "$2" "${1#v}" | sort -V | head -n 1)" = "$2" ]
}

command -v docker > /dev/null || fail "docker is missing" "install Docker Engine with Compose and buildx"
version=$(docker version --format '{{.Client.Version}}' 2> /dev/null) \
  || fail "Docker's engine cannot be asked ($(docker version 2>&1 > /dev/null | tail -n 1))" \
    "start it, or let this user use it"
at_least "$version" 20.10 || fail "docker is $version" "install 20.10 or newer"
# Clients before 23 have BuildKit without buildx.
if at_least "$version" 23 && ! docker buildx version > /dev/null 2>&1; then
  fail "docker $version has no buildx, without which it builds no image of this project" \
    "install the package docker-buildx-plugin, or docker-buildx"
fi
compose=$(docker compose version --short 2> /dev/null) \
  || fail "docker has no Compose" "install the package docker-compose-plugin, 2.24 or newer"
at_least "$compose" 2.24 || fail "Docker Compose is $compose" "install 2.24 or newer"
