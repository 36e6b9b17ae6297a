#!/usr/bin/env bash
# Creates the two databases, each owned by a role of its own. PostgreSQL's image runs this once, when the data
# volume is empty; on a server of your own, run it with psql's usual PG* variables set.
set -euo pipefail

: "${AIRFLOW_DB_PASSWORD:?the password of role airflow}"
: "${CAMPAIGN_DB_PASSWORD:?the password of role campaign}"

# \getenv reads the passwords inside psql: they never stand on a command line.
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 \
    --username "${POSTGRES_USER:-postgres}" --dbname postgres <<'SQL'
\getenv airflow_password AIRFLOW_DB_PASSWORD
\getenv campaign_password CAMPAIGN_DB_PASSWORD

CREATE ROLE airflow LOGIN PASSWORD :'airflow_password';
CREATE DATABASE airflow OWNER airflow;
REVOKE ALL ON DATABASE airflow FROM PUBLIC;

CREATE ROLE campaign LOGIN PASSWORD :'campaign_password';
CREATE DATABASE campaign OWNER campaign;
REVOKE ALL ON DATABASE campaign FROM PUBLIC;
SQL
