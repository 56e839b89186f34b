#!/bin/sh
# Makes the logins of docs/operations.md, each with the rights of one role and no more: one that migrates, one for the
# workers, one that only reads. Postgres runs this when it makes its data folder; it may run any number of times:
#
#   docker compose exec postgres /docker-entrypoint-initdb.d/logins.sh
#
# Passwords come from files, so that none stands in the environment or in a command line.
set -eu
SECRETS=${SECRETS:-/run/secrets}
export SECRETS
psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set migrator `cat "$SECRETS/migrator_password"`
\set worker `cat "$SECRETS/worker_password"`
\set reader `cat "$SECRETS/reader_password"`
SET password_encryption = 'scram-sha-256';
SELECT format('CREATE ROLE %I NOLOGIN', name)
  FROM (VALUES ('migrator'), ('writer'), ('reader')) AS kind(of),
       format('%s_%s', current_database(), kind.of) AS name
  WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) \gexec
SELECT format('CREATE ROLE %I LOGIN', name)
  FROM (VALUES ('deploy'), ('worker'), ('watch')) AS kind(of),
       format('%s_%s', current_database(), kind.of) AS name
  WHERE NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = name) \gexec
SELECT format('ALTER ROLE %I PASSWORD %L', current_database() || '_deploy', :'migrator') \gexec
SELECT format('ALTER ROLE %I PASSWORD %L', current_database() || '_worker', :'worker') \gexec
SELECT format('ALTER ROLE %I PASSWORD %L', current_database() || '_watch', :'reader') \gexec
SELECT format('GRANT %I TO %I', current_database() || '_migrator', current_database() || '_deploy') \gexec
SELECT format('GRANT %I TO %I', current_database() || '_writer', current_database() || '_worker') \gexec
SELECT format('GRANT %I TO %I', current_database() || '_reader', current_database() || '_watch') \gexec
SELECT format('GRANT USAGE, CREATE ON SCHEMA public TO %I', current_database() || '_migrator') \gexec
SQL
