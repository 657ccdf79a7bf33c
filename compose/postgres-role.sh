#!/usr/bin/env bash
# Makes the role that the workers log in as. The postgres image runs it once, on an empty volume.
set -euo pipefail
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username=postgres --dbname=postgres \
    --set=password="$(cat /run/secrets/WORKER_PASSWORD)" <<'SQL'
CREATE ROLE chatfleet LOGIN PASSWORD :'password';
SQL
