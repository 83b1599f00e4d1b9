#!/bin/bash
# What the entry of MongoDB's image does, for the local database: the first time it makes the root
# user and runs the scripts of /docker-entrypoint-initdb.d, on loopback and without authentication.
# mongod's own flags are not the local database's.
set -euo pipefail
database() {
  local command=(secantusd-py --config /opt/database/secantusd.toml --port 27017 --storage-path /data/db --log-level WARNING "$@")
  if [ "$(id -u)" = 0 ]; then
    command=(setpriv --reuid mongodb --regid mongodb --init-groups "${command[@]}")
  fi
  exec "${command[@]}"
}

if [ ! -e /data/db/users-are-made ]; then
  (database --host 127.0.0.1 --standalone) &
  until mongosh --quiet --norc --eval 'db.hello()' > /dev/null 2>&1; do sleep 0.5; done
  mongosh --quiet --norc admin --eval '
    const { readFileSync } = require("fs");
    db.createUser({
      user: process.env.MONGO_INITDB_ROOT_USERNAME,
      pwd: readFileSync(process.env.MONGO_INITDB_ROOT_PASSWORD_FILE, "utf8").trim(),
      roles: ["root"],
    });'
  for script in /docker-entrypoint-initdb.d/*.js; do mongosh --quiet --norc "$script"; done
  kill -TERM $!
  wait $! || true
  touch /data/db/users-are-made
fi
database --host 0.0.0.0 --auth
