#!/bin/sh
# Whether Docker can build and run the service here: docker/check-engine.sh
set -eu

fail() { # <what is wrong> <what to do>
  echo "error: $1; $2" >&2
  exit 1
}

command -v docker > /dev/null || fail "docker is missing" "install Docker Engine with Compose and buildx"
version=$(docker version --format '{{.Client.Version}}' 2>&1) \
  || fail "Docker's engine cannot be asked ($(printf '%s' "$version" | tail -n 1))" \
    "start it, or let this user use it"
# Clients before 23 have BuildKit without buildx.
docker buildx version > /dev/null 2>&1 || [ "${version%%.*}" -lt 23 ] \
  || fail "docker $version has no buildx, without which it builds no image of this project" \
    "install the package docker-buildx-plugin, or docker-buildx"
compose=$(docker compose version --short 2> /dev/null) \
  || fail "docker has no Compose" "install the package docker-compose-plugin, 2.24 or newer"
compose=${compose#v}
[ "$(printf '2.24\n%s\n' "$compose" | sort -V | head -n 1)" = 2.24 ] \
  || fail "Docker Compose is $compose" "install 2.24 or newer"
