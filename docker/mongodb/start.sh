#!/bin/bash
# MongoDB as a replica set of one server with authentication. Members of a replica set know each
# other by a key file, which MongoDB only takes if nobody else can read it; a mounted secret is
# everybody's, so it gets a copy.
set -euo pipefail
install -m 400 -o mongodb -g mongodb /run/secrets/mongodb-keyfile /tmp/keyfile
exec docker-entrypoint.sh mongod --replSet rs0 --keyFile /tmp/keyfile --bind_ip_all
