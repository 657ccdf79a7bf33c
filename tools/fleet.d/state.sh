# shellcheck shell=bash
# What a fleet remembers, under $FLEET_HOME (default: .fleet in the checkout):
#
#   env       the user's own settings, KEY=VALUE lines, if there is such a file
#   settings  secrets, ports and places that outlive ./fleet down, KEY=VALUE lines
#   run/      wanted (KIND=N lines; there while the fleet is up), broker, database (the URLs in use),
#             redis (likewise), NAME.pid and NAME.json of each process, the keeper's socket
#   logs/     a log for each process, and those of build and packages
#   rabbitmq/ the broker's data, unless its user cannot reach it here (broker.sh)
#   postgresql/  the database's, likewise (database.sh)
#   redis/    that of Redis, likewise (redis.sh)

FLEET_HOME=$(realpath --no-symlinks --canonicalize-missing -- "${FLEET_HOME:-$ROOT/.fleet}")
RUN_DIR=$FLEET_HOME/run
LOG_DIR=$FLEET_HOME/logs
SETTINGS=$FLEET_HOME/settings
LOCK_FD=
export FLEET_HOME

state_open() {
    (
        umask 077
        mkdir -p -- "$FLEET_HOME" "$RUN_DIR" "$LOG_DIR"
    ) || fail "$FLEET_HOME cannot be made"
    chmod 711 -- "$FLEET_HOME" # the servers' users pass through; all else is 0700 and 0600
}

# One command at a time changes a fleet. The lock goes with this process, however it ends.
state_lock() {
    state_open
    while true; do
        exec {LOCK_FD}>>"$FLEET_HOME/lock"
        if ! flock --nonblock "$LOCK_FD"; then
            warn "another ./fleet is at work in $FLEET_HOME; waiting for it"
            flock "$LOCK_FD"
        fi
        # A purge may have taken the file away meanwhile.
        [[ "$FLEET_HOME/lock" -ef "/proc/self/fd/$LOCK_FD" ]] && return
        exec {LOCK_FD}>&-
        state_open
    done
}

state_unlock() {
    [[ -z $LOCK_FD ]] || exec {LOCK_FD}>&-
    LOCK_FD=
}

# Print the value of key $2 in the KEY=VALUE file $1; nothing when there is none.
value_of() {
    local line
    [[ -r $1 ]] || return 0
    while IFS= read -r line; do
        if [[ $line == "$2="* ]]; then
            printf '%s' "${line#*=}"
            return
        fi
    done <"$1"
}

# Set key $2 of the KEY=VALUE file $1 to $3.
set_value() {
    {
        [[ ! -r $1 ]] || grep -v "^$2=" -- "$1" || true
        printf '%s=%s\n' "$2" "$3"
    } | write_private "$1"
}

setting() {
    value_of "$SETTINGS" "$1"
}

set_setting() {
    [[ $(setting "$1") == "$2" ]] || set_value "$SETTINGS" "$1" "$2"
}

# Take the port that setting $1 names, or the next free one if somebody else has taken it. Where
# clients dial it ("dialled" as $3) it stays while there are any.
server_port() {
    local port
    port=$(setting "$1")
    if [[ -n $port && ${3:-} == dialled ]] && { [[ -n ${RESERVED[$port]:-} ]] || port_is_dialled; }; then
        exact_port "$port" ||
            fail "port $port is still taken by somebody else; free it, or give it up by ./fleet down"
        return
    fi
    free_port port "${port:-$2}"
    set_setting "$1" "$port"
}

port_is_dialled() { # there is, or is meant to be, a process that knows the servers' addresses
    fleet_is_up || [[ -n $(names_alive) ]]
}

# Keep the port of setting $1 while the server that listens there restarts.
server_port_hold() {
    local port
    port=$(setting "$1")
    [[ -z $port ]] || port_reserve "$port" || true
}

fleet_hash() { # what tells this fleet from others on the machine
    printf '%s' "$FLEET_HOME" | sha256sum | cut -c1-12
}

# Take the lines of $FLEET_HOME/env into the environment; what is set there already wins. Values
# are literal: one pair of quotes around them is taken off, nothing is expanded. A line that cannot be
# read is kept in ENV_FAULT, for the commands that start something.
state_load_env() {
    local line number=0 key value
    ENV_FAULT=''
    [[ -r $FLEET_HOME/env ]] || return 0
    while IFS= read -r line || [[ -n $line ]]; do
        number=$((number + 1))
        [[ $line =~ ^[[:space:]]*(#|$) ]] && continue
        if [[ ! $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.*)$ ]]; then
            ENV_FAULT="$FLEET_HOME/env, line $number: not KEY=VALUE"
            continue
        fi
        key=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
        if [[ $value =~ ^\"(.*)\"$ || $value =~ ^\'(.*)\'$ ]]; then
            value=${BASH_REMATCH[1]}
        fi
        [[ -n ${!key+set} ]] || export "$key=$value"
    done <"$FLEET_HOME/env"
}

require_env() {
    [[ -z $ENV_FAULT ]] || fail "$ENV_FAULT"
}

# What ./fleet env left in this shell: of another fleet it is not meant for this one; of this one, the
# addresses of private servers name no others, and may be out of date (after a purge, say).
state_forget_env() {
    [[ -n ${CHATFLEET_HOME:-} ]] || return 0
    if [[ $CHATFLEET_HOME != "$FLEET_HOME" ]]; then
        unset RABBITMQ_URL RABBITMQ_MANAGEMENT_URL DATABASE_URL DATABASE_ADMIN_URL REDIS_URL JWT_SECRET \
            INTERNAL_SERVICE_KEY CHATFLEET_URL
        return
    fi
    ! broker_looks_private "${RABBITMQ_URL:-}" || unset RABBITMQ_URL RABBITMQ_MANAGEMENT_URL
    ! database_looks_private "${DATABASE_URL:-}" || unset DATABASE_URL DATABASE_ADMIN_URL
    ! redis_looks_private "${REDIS_URL:-}" || unset REDIS_URL
}

# ---- secrets ----

# Make the secrets once. One that the environment names is taken over as long as nothing runs.
secrets_make() {
    local name
    for name in JWT_SECRET INTERNAL_SERVICE_KEY; do
        if [[ -n ${!name:-} && ${!name} != "$(setting "$name")" ]]; then
            if fleet_is_up; then
                warn "$name of the environment is not the running fleet's: it counts after ./fleet down"
            else
                set_setting "$name" "${!name}"
            fi
        fi
        [[ -n $(setting "$name") ]] || set_setting "$name" "$(random_hex 32)"
    done
}

# ---- how many processes the user wants ----

fleet_is_up() {
    [[ -e $RUN_DIR/wanted ]]
}

require_up() {
    fleet_is_up || fail "the fleet is not up: ./fleet up starts it"
}

wanted() { # of kind $1
    local n
    n=$(value_of "$RUN_DIR/wanted" "$1")
    printf '%d' "${n:-0}"
}

set_wanted() {
    set_value "$RUN_DIR/wanted" "$1" "$2"
}
