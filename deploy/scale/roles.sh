#!/bin/sh
# Run once by the PostgreSQL image, when its volume is new: one role owns the tables, the other may only read and change rows.
set -eu
psql -v ON_ERROR_STOP=1 -v owner_password="$BRIDGE_OWNER_PASSWORD" -v app_password="$BRIDGE_APP_PASSWORD" \
    --username "$POSTGRES_USER" --dbname postgres <<'SQL'
CREATE ROLE bridge_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE bridge_app LOGIN PASSWORD :'app_password';
CREATE DATABASE bridge OWNER bridge_owner;
\connect bridge
ALTER SCHEMA public OWNER TO bridge_owner;
GRANT USAGE ON SCHEMA public TO bridge_app;
ALTER DEFAULT PRIVILEGES FOR ROLE bridge_owner IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO bridge_app;
SQL
