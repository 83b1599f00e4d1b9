#!/bin/sh
# Makes the passwords and keys of docker/compose.yaml, each once: docker/make-secrets.sh [<folder>]
# They stay out of git. Containers of other users read them, so the files are readable; the folder
# is not.
set -eu
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
chmod 700 "$folder"
cd "$folder"

random() { # <bytes>: as hexadecimal digits
  od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

make() { # <file> <text>: unless it is there
  [ -e "$1" ] || printf '%s\n' "$2" > "$1"
  chmod 444 "$1"
}

make mongodb-root-password "$(random 24)"
make mongodb-password "$(random 24)"
make mongodb-uri "mongodb://product_match:$(cat mongodb-password)@mongodb:27017/?authSource=product_match&replicaSet=rs0"
make mongodb-keyfile "$(random 256)"
make picture-secret "$(random 32)"
make triton-admin-secret "$(random 32)"
make gateway-keys "$(printf 'shop match %s\nloader ingest %s' "$(random 32)" "$(random 32)")"
make grafana-password "$(random 12)"

# The page's own. Its key also goes into a file of keys that was there before the page was.
make demo-password "$(random 12)"
make demo-key "$(random 32)"
line="demo match $(cat demo-key)"
if ! grep -qxF "$line" gateway-keys; then
  printf '%s\n%s\n' "$(cat gateway-keys)" "$line" > gateway-keys.new
  chmod 444 gateway-keys.new
  mv -f gateway-keys.new gateway-keys
fi
