#!/bin/sh
# Makes the database on first start (the official image's POSTGRES_PASSWORD, POSTGRES_USER, POSTGRES_DB, PGDATA), then
# becomes the server. Writes below PGDATA, /tmp and /var/run/postgresql only.
set -eu
user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    [ -n "${POSTGRES_PASSWORD:-}" ] || { echo "POSTGRES_PASSWORD is not set" >&2; exit 1; }
    umask 077
    printf '%s\n' "$POSTGRES_PASSWORD" > /tmp/password
    initdb --pgdata "$PGDATA" --username "$user" --pwfile /tmp/password --encoding UTF8 --locale C.UTF-8 \
        --auth-local trust --auth-host scram-sha-256 > /tmp/initdb.log || { cat /tmp/initdb.log >&2; exit 1; }
    rm /tmp/password
    echo 'host all all all scram-sha-256' >> "$PGDATA/pg_hba.conf"
    [ "$database" = postgres ] || echo "CREATE DATABASE \"$database\";" | postgres --single -D "$PGDATA" postgres > /dev/null
fi
unset POSTGRES_PASSWORD
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/var/run/postgresql "$@"
