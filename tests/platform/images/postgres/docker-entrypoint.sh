#!/usr/bin/env bash
# Entry point of the stand-in for the official PostgreSQL image, written from that image's documentation: the same
# variables, defaults and order of events, so that a container made for one runs with the other.
set -Eeuo pipefail

fail() { echo >&2 "error: $*"; exit 1; }

# take_variable NAME [DEFAULT]: NAME, or the contents of the file that NAME_FILE names; never both.
take_variable() {
  local name=$1 default=${2:-} file_name="${1}_FILE" value
  if [ -n "${!name:-}" ] && [ -n "${!file_name:-}" ]; then
    fail "both $name and $file_name are set (but are exclusive)"
  fi
  value=$default
  if [ -n "${!name:-}" ]; then
    value=${!name}
  elif [ -n "${!file_name:-}" ]; then
    value=$(< "${!file_name}")
  fi
  export "$name=$value"
  unset "$file_name"
}

prepare_directories() {
  mkdir -p "$PGDATA" /var/run/postgresql
  chmod 0700 "$PGDATA" || true
  chmod 3775 /var/run/postgresql || true
  if [ "$(id -u)" = 0 ]; then
    find "$PGDATA" /var/run/postgresql \! -user postgres -exec chown postgres '{}' +
  fi
}

require_password() {
  if [ -n "$POSTGRES_PASSWORD" ] || [ "${POSTGRES_HOST_AUTH_METHOD:-}" = trust ]; then return; fi
  fail "Database is uninitialized and superuser password is not specified. Set POSTGRES_PASSWORD to a non-empty value."
}

make_cluster() {
  local waldir=()
  # shellcheck disable=SC2034 # used by eval
  [ -z "${POSTGRES_INITDB_WALDIR:-}" ] || waldir=(--waldir "$POSTGRES_INITDB_WALDIR")
  # The variable is a line of shell words by definition, quotes included.
  eval "initdb --username=\"\$POSTGRES_USER\" --pwfile=<(printf '%s\n' \"\$POSTGRES_PASSWORD\") \
    \"\${waldir[@]}\" $POSTGRES_INITDB_ARGS"
}

admit_clients() {
  local method=${POSTGRES_HOST_AUTH_METHOD:-}
  [ -n "$method" ] || method=$(postgres -C password_encryption "$@")
  printf '\nhost all all all %s\n' "$method" >> "$PGDATA/pg_hba.conf"
}

run_sql() {
  PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password --username "$POSTGRES_USER" "$@"
}

make_database() {
  if [ "$POSTGRES_DB" != postgres ]; then
    run_sql --dbname postgres --set db="$POSTGRES_DB" <<< 'CREATE DATABASE :"db" ;'
  fi
}

run_initial_scripts() {
  local script
  for script in /docker-entrypoint-initdb.d/*; do
    case "$script" in
      *.sh)
        # shellcheck disable=SC1090 # a script that is not executable is sourced, as documented
        if [ -x "$script" ]; then "$script"; else . "$script"; fi ;;
      *.sql) run_sql --dbname "$POSTGRES_DB" --file "$script" ;;
      *.sql.gz) gunzip --stdout "$script" | run_sql --dbname "$POSTGRES_DB" ;;
      *.sql.xz) xzcat "$script" | run_sql --dbname "$POSTGRES_DB" ;;
      *.sql.zst) zstd --decompress --stdout "$script" | run_sql --dbname "$POSTGRES_DB" ;;
    esac
  done
}

# initialize [server option]...
# The server that the scripts talk to is reachable through its socket only: nobody takes it for the real one.
initialize() {
  require_password
  make_cluster
  admit_clients "$@"
  PGUSER=$POSTGRES_USER pg_ctl --pgdata "$PGDATA" -o "$(printf '%q ' "$@" -c listen_addresses='' -p 5432)" --wait start
  make_database
  run_initial_scripts
  PGUSER=$POSTGRES_USER pg_ctl --pgdata "$PGDATA" --mode fast --wait stop
  printf '\n%s\n\n' 'PostgreSQL init process complete; ready for start up.'
}

main() {
  if [ "${1:0:1}" = - ]; then set -- postgres "$@"; fi
  if [ "${1:-}" = postgres ]; then
    prepare_directories
    if [ "$(id -u)" = 0 ]; then exec gosu postgres "${BASH_SOURCE[0]}" "$@"; fi
    take_variable POSTGRES_PASSWORD
    take_variable POSTGRES_USER postgres
    take_variable POSTGRES_DB "$POSTGRES_USER"
    take_variable POSTGRES_INITDB_ARGS
    if [ -s "$PGDATA/PG_VERSION" ]; then
      printf '\n%s\n\n' 'PostgreSQL Database directory appears to contain a database; Skipping initialization'
    else
      initialize "${@:2}"
    fi
    # The server itself needs none of them, and its environment can be read by its clients' programs.
    unset PGPASSWORD
  fi
  exec "$@"
}

main "$@"
