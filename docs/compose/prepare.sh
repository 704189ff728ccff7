#!/bin/sh
# Makes the secrets of compose.yaml in ./secrets, for this user only: passwords of the database, a certificate for the
# name `tokens`, and an encryption key. What is there already stays as it is. Needs openssl and authstate.
set -eu
umask 077
mkdir -p secrets login-home sandbox-home

make_password() { # the role, and the name of its file for libpq
    [ -e "secrets/$2" ] || printf 'postgres:*:logins:%s:%s\n' "$1" "$(openssl rand -hex 24)" >"secrets/$2"
}
make_password postgres owner.pgpass
make_password agents agents.pgpass
cut -d : -f 5 secrets/owner.pgpass | tr -d '\n' >secrets/postgres.password

if [ ! -e secrets/broker.pem ]; then
    # An authority that signs one certificate. Its key is removed, so that it never signs another one.
    key='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc'
    openssl req -x509 $key -days 365 -subj '/CN=authstate brokers' -keyout secrets/ca.key -out secrets/broker-ca.pem \
        -addext keyUsage=critical,keyCertSign
    openssl req -x509 $key -days 365 -subj /CN=tokens -keyout secrets/broker.key -out secrets/broker.pem \
        -CA secrets/broker-ca.pem -CAkey secrets/ca.key -addext subjectAltName=DNS:tokens,DNS:localhost \
        -addext basicConstraints=critical,CA:false -addext keyUsage=critical,digitalSignature
    rm secrets/ca.key
fi
[ -e secrets/logins.keys ] || authstate postgres new-key --keys secrets/logins.keys
