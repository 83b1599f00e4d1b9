#!/bin/bash
# MongoDB as a replica set of one server with authentication. Members of a replica set know each
# other by a key file, which MongoDB only takes if nobody else can read it; a mounted secret is
# everybody's, so it gets a copy.
set -euo pipefail
install -m 400 -o mongodb -g mongodb /run/secrets/mongodb-keyfile /tmp/keyfile
# The health check looks for the file, which a container that starts again still has.
rm -f /tmp/is-primary
(
  until mongosh --quiet --norc --nodb --file /initiate.js > /dev/null 2>&1; do sleep 2; done
  touch /tmp/is-primary
) &
exec docker-entrypoint.sh mongod --replSet rs0 --keyFile /tmp/keyfile --bind_ip_all
