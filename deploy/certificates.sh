#!/bin/sh
# Makes what compose.yaml mounts from deploy/secrets: an authority, a certificate for each server, the password of the database.
# What is there already stays, so that it may be run again: to renew a certificate, remove its .pem first.
#
#   sudo sh deploy/certificates.sh                              for this machine only
#   sudo HUB_NAMES=DNS:hub.hospital sh deploy/certificates.sh   with the names by which senders and browsers call the hub
#
# As root, because each key must belong to the user of its container. Then take ca.key off this machine: whoever has it can
# make certificates that the hub believes.
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}
mkdir -p "$folder"
cd "$folder"

POSTGRES_UID=999   # of the image postgres
HUB_UID=10001      # of deploy/Dockerfile

certificate() { # name, the names that its clients call it by
    [ -e "$1.pem" ] && return
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr"
    {
        echo "subjectAltName=$2"
        echo "basicConstraints=critical,CA:FALSE"
        echo "keyUsage=critical,digitalSignature"
        echo "extendedKeyUsage=serverAuth,clientAuth"
        echo "subjectKeyIdentifier=hash"
        echo "authorityKeyIdentifier=keyid"
    } > "$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 825 -extfile "$1.ext" -out "$1.pem"
    rm "$1.csr" "$1.ext"
}

if [ ! -e ca.pem ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=Vaguemestre authority" \
        -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem
fi
certificate postgres DNS:postgres
certificate nats DNS:nats
certificate hub "DNS:localhost${HUB_NAMES:+,$HUB_NAMES}"
[ -e store-password ] || openssl rand -hex 24 > store-password

chmod 644 ca.pem postgres.pem nats.pem hub.pem
if [ "$(id -u)" = 0 ]; then
    chown "$POSTGRES_UID" postgres.key
    chown "$HUB_UID" hub.key store-password
else
    echo "not root: give postgres.key to user $POSTGRES_UID, hub.key and store-password to user $HUB_UID" >&2
fi
