#!/bin/bash
# MongoDB as a replica set of one server with authentication. Members of a replica set know each
# other by a key file, which MongoDB only takes if nobody else can read it; a mounted secret is
# everybody's, so it gets a copy.
set -euo pipefail
install -m 400 -o mongodb -g mongodb /run/secrets/mongodb-keyfile /tmp/keyfile
# The health check looks for the file. What keeps mongosh from it is said after a while: as long as the
# server starts, it cannot be reached.
(
  for ((tries = 1; ; tries++)); do
    if said=$(mongosh --quiet --norc --nodb --file /initiate.js 2>&1); then break; fi
    if ((tries % 10 == 0)); then echo "start.sh: not a primary yet: $said" >&2; fi
    sleep 2
  done
  touch /tmp/is-primary
) &
exec docker-entrypoint.sh mongod --replSet rs0 --keyFile /tmp/keyfile --bind_ip_all
