# shellcheck shell=bash
# The private PostgreSQL of this fleet, on 127.0.0.1 and a unix socket among its data. DATABASE_URL
# names a running one instead, as the workers' role; DATABASE_ADMIN_URL, as the role that owns the
# schema, is then needed to apply migrations.

DATABASE_USER=chatfleet
DATABASE_ADMIN=chatfleet_admin
DATABASE_NAME=chatfleet
DATABASE_START_SECONDS=60
DATABASE_STOP_SECONDS=60
SOCKET_PATH_MAX=80 # of the folder; the kernel takes 107 with the file

# ---- which database ----

database_private_url() { # as the workers; as ROLE with the password of setting NAME: ROLE NAME
    printf 'postgresql://%s:%s@127.0.0.1:%d/%s' "${1:-$DATABASE_USER}" \
        "$(setting "${2:-DATABASE_PASSWORD}")" "$(setting DATABASE_PORT)" "$DATABASE_NAME"
}

database_looks_private() { # has the URL $1 the form of such a one, of whatever port and password?
    [[ $1 =~ ^postgresql://"$DATABASE_USER":[0-9a-f]{32}@127\.0\.0\.1:[0-9]+/"$DATABASE_NAME"$ ]]
}

database_url() {
    value_of "$RUN_DIR/database" DATABASE_URL
}

database_admin_url() { # nothing when it is not known
    value_of "$RUN_DIR/database" DATABASE_ADMIN_URL
}

database_is_private() {
    local url
    url=$(database_url)
    [[ -z $url || $url == "$(database_private_url)" ]]
}

# Decide once per run of the fleet which database serves it, and remember that.
database_choose() {
    local named=${DATABASE_URL:-} known
    known=$(database_url)
    if fleet_is_up && [[ -n $known ]]; then
        [[ -z $named || $named == "$known" ]] ||
            fail "the fleet runs on another database than DATABASE_URL names: ./fleet down first"
    elif [[ -n $named && $named != "$(database_private_url 2>/dev/null)" ]]; then
        {
            echo "DATABASE_URL=$named"
            echo "DATABASE_ADMIN_URL=${DATABASE_ADMIN_URL:-}"
        } | write_private "$RUN_DIR/database"
    else
        rm -f -- "$RUN_DIR/database"
    fi
}

database_ensure() {
    database_choose
    ! database_is_private || database_start
}

# HOST:PORT/NAME of the database in use, or of the URL $1: without the login.
database_address() {
    local url=${1:-$(database_url)}
    url=${url#*://} url=${url%%\?*}
    printf '%s' "${url##*@}"
}

# Bring the schema to this build's state. Without the administrator's URL, see that it is there.
schema_apply() {
    local verb=apply said status=0
    [[ -n $(database_admin_url) ]] || verb=status
    said=$(DATABASE_URL=$(database_url) DATABASE_ADMIN_URL=$(database_admin_url) \
        "$BIN_DIR/chatfleet" schema "$verb" 2>&1) || status=$?
    case $verb-$status in
        *-0) ;;
        status-2) fail "migrations are pending, and DATABASE_ADMIN_URL is not set to apply them: $said" ;;
        *) fail "the schema could not be applied: $said" ;;
    esac
}

# ---- where it lives ----

# Run a command as the database's user.
as_database() {
    as_root setpriv --reuid postgres --regid postgres --init-groups "$@"
}

database_data() {
    setting DATABASE_DATA
}

# Its data stand under FLEET_HOME if its user gets there, else under /var/lib/chatfleet.
database_make_data() {
    local data shared=/var/lib/chatfleet
    data=$(database_data)
    if [[ -z $data ]]; then
        data=$FLEET_HOME/postgresql
        if ! as_database test -x "$FLEET_HOME"; then
            data=$shared/$(fleet_hash)-postgresql
            as_root install -d -m 711 "$shared"
        fi
        set_setting DATABASE_DATA "$data"
    fi
    as_root install -d -m 700 -o postgres -g postgres "$data"
}

database_purge() {
    local data
    data=$(database_data)
    [[ -n $data ]] || return 0
    [[ $data == "$FLEET_HOME/postgresql" || $data == /var/lib/chatfleet/?*-postgresql ]] ||
        fail "$data does not look like a database's data and is left alone"
    as_root rm -rf -- "$data"
    [[ $data != /var/lib/chatfleet/* ]] || as_root rmdir --ignore-fail-on-non-empty /var/lib/chatfleet
}

# The folder of PostgreSQL's programs: of the version that made the data, else the newest.
database_programs() {
    local version
    version=$(as_root cat "$(database_data)/cluster/PG_VERSION" 2>/dev/null) ||
        version=$(cd /usr/lib/postgresql 2>/dev/null && printf '%s\n' [0-9]* | sort -n | tail -n 1)
    [[ -x /usr/lib/postgresql/$version/bin/postgres ]] ||
        fail "PostgreSQL${version:+ $version} is not installed"
    printf '/usr/lib/postgresql/%s/bin' "$version"
}

# The command "$@" as the database's user, with nothing of our environment, into DATABASE_COMMAND.
database_command() {
    local data
    data=$(database_data)
    DATABASE_COMMAND=(setpriv --reuid postgres --regid postgres --init-groups
        env --ignore-environment --chdir="$data" PATH=/usr/bin:/bin LANG=C.UTF-8 HOME="$data" "$@")
}

# ---- configuration ----

database_configure() {
    server_port DATABASE_PORT 5433 dialled
    [[ -n $(setting DATABASE_PASSWORD) ]] || set_setting DATABASE_PASSWORD "$(random_hex 16)"
    [[ -n $(setting DATABASE_ADMIN_PASSWORD) ]] || set_setting DATABASE_ADMIN_PASSWORD "$(random_hex 16)"
    database_make_data
    as_root test -e "$(database_data)/cluster/PG_VERSION" || database_init
    database_settings | database_file cluster/fleet.conf
    printf '%s all all%s scram-sha-256\n' local '' host ' 127.0.0.1/32' | database_file cluster/pg_hba.conf
}

# An interrupted initdb leaves nothing that could be taken for a database.
database_init() {
    local data programs
    data=$(database_data) programs=$(database_programs)
    as_root rm -rf -- "$data/cluster" "$data/cluster.new"
    setting DATABASE_ADMIN_PASSWORD | database_file password
    database_command "$programs/initdb" --pgdata=cluster.new --encoding=UTF8 --locale=C.UTF-8 \
        --username="$DATABASE_ADMIN" --auth=scram-sha-256 --pwfile=password
    if ! as_root "${DATABASE_COMMAND[@]}" >"$(log_of postgresql)" 2>&1 </dev/null; then
        step_break
        tail -n 15 -- "$(log_of postgresql)" >&2
        fail "initdb failed"
    fi
    as_root rm -f -- "$data/password"
    echo "include 'fleet.conf'" | as_root tee -a "$data/cluster.new/postgresql.conf" >/dev/null
    as_root mv -- "$data/cluster.new" "$data/cluster"
}

# What differs from initdb's choice. Nothing that a commit promised is lost in a crash.
database_settings() {
    local sockets
    sockets=$(database_data)
    ((${#sockets} <= SOCKET_PATH_MAX)) || sockets=
    cat <<CONF
listen_addresses = '127.0.0.1'
port = $(setting DATABASE_PORT)
unix_socket_directories = '$sockets'
cluster_name = 'chatfleet'
max_connections = 200
password_encryption = 'scram-sha-256'
shared_buffers = '128MB'
fsync = on
synchronous_commit = on
timezone = 'UTC'
log_timezone = 'UTC'
log_destination = 'stderr'
log_line_prefix = '%m [%p] %q%u@%d '
CONF
}

database_file() { # $1 in its data, from what comes in
    as_root install -m 600 -o postgres -g postgres /dev/stdin "$(database_data)/$1"
}

# ---- start and stop ----

# psql as the administrator, with the login in its environment, where others cannot see it.
database_psql() {
    local programs
    programs=$(database_programs)
    PGHOST=127.0.0.1 PGPORT=$(setting DATABASE_PORT) PGDATABASE=${PGDATABASE:-$DATABASE_NAME} \
        PGUSER=$DATABASE_ADMIN PGPASSWORD=$(setting DATABASE_ADMIN_PASSWORD) "$programs/psql" "$@"
}

database_answers() {
    pg_isready --quiet --timeout=3 --host=127.0.0.1 --port="$(setting DATABASE_PORT)"
}

database_answers_or_dead() {
    database_answers || is_dead postgresql
}

database_start() {
    local log programs
    log=$(log_of postgresql)
    if is_dead postgresql; then
        database_configure
        database_after_crash
        programs=$(database_programs)
        database_command "$programs/postgres" -D cluster
        launch as_root postgresql "$log" "${DATABASE_COMMAND[@]}"
    fi
    if ! wait_until "$DATABASE_START_SECONDS" database_answers_or_dead || is_dead postgresql; then
        step_break
        tail -n 15 -- "$log" >&2 || true
        fail "PostgreSQL did not start; its log: $log"
    fi
    database_populate
    {
        echo "DATABASE_URL=$(database_private_url)"
        echo "DATABASE_ADMIN_URL=$(database_private_url "$DATABASE_ADMIN" DATABASE_ADMIN_PASSWORD)"
    } | write_private "$RUN_DIR/database"
}

# A server that was killed leaves its lock files. PostgreSQL finds out that nobody works there, but takes
# a dead process that its parent has not buried yet (in a container, say) for a living one.
database_after_crash() {
    local data
    data=$(database_data)
    as_root test -e "$data/cluster/postmaster.pid" || return 0
    wait_until 20 database_is_idle || fail "processes still work in $data/cluster"
    as_root find "$data" -maxdepth 1 -name '.s.PGSQL.*' -delete
    as_root rm -f -- "$data/cluster/postmaster.pid"
}

database_is_idle() { # no process has its data as working directory, as all of PostgreSQL's do
    [[ -z $(as_root find /proc -maxdepth 2 -name cwd -lname "$(database_data)/cluster" 2>/dev/null) ]]
}

# The workers' role and the database, if they are not there yet.
database_populate() {
    local said
    said=$(database_wanted | PGDATABASE=postgres database_psql --no-psqlrc --quiet \
        --set=ON_ERROR_STOP=1 2>&1) || fail "PostgreSQL: $said"
}

database_wanted() {
    cat <<SQL
SELECT 'CREATE ROLE $DATABASE_USER LOGIN PASSWORD ''$(setting DATABASE_PASSWORD)'''
    WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$DATABASE_USER') \gexec
SELECT 'CREATE DATABASE $DATABASE_NAME'
    WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = '$DATABASE_NAME') \gexec
SQL
}

database_stop() {
    signal_to postgresql INT as_root # its "fast" shutdown: open transactions are undone
    await_end "$DATABASE_STOP_SECONDS" as_root postgresql
}

database_restart() {
    is_dead postgresql || server_port_hold DATABASE_PORT
    database_stop
    database_start
}
