# shellcheck shell=bash
# The commands: cmd_NAME does it, help_NAME explains it.

help_all() {
    cat <<'TEXT'
Usage: ./fleet COMMAND [ARGUMENTS]

  up                    install, build and start everything, then take a real chat turn
  down [--purge]        stop everything; --purge also deletes data and secrets
  status [--json]       what runs
  scale KIND=N …        run N processes of a kind
  restart [KIND]        replace the processes one by one, without a client noticing
  logs [NAME] [-f]      the logs of a process, a kind, or of all
  env                   export lines with addresses and secrets, for tools of your own
  token [OPTIONS]       a bearer token for the HTTP interface
  chat TEXT             send a message and print the answer while it comes
  test [PATTERN]        build with sanitizers and run all tests against private servers
  bench [NAME]          measure, side by side with bare AMQP and PostgreSQL
  servers COMMAND       run a command beside a private RabbitMQ and PostgreSQL, as tests do
  chaos [OPTIONS]       faults at random under traffic, against private servers, and an accounting
  fuzz [NAME]           inputs that nobody thought of, against what reads texts of strangers
  broker start|stop|restart|ctl
                        the private RabbitMQ
  database start|stop|restart|psql
                        the private PostgreSQL
  redis start|stop|restart|cli
                        the private Redis
  help [COMMAND]        this, or more about a command

State stands in $FLEET_HOME (default: .fleet in the checkout): fleets with different ones run side
by side. Settings of the processes (LOG_LEVEL, CORS_ORIGINS, …) come from the environment, or from
KEY=VALUE lines in $FLEET_HOME/env. For a Debian or Ubuntu machine, as root or with sudo.
TEXT
}

# ---- up ----

help_up() {
    cat <<'TEXT'
Usage: ./fleet up

Installs the packages that are missing, builds build/release, starts a private RabbitMQ, PostgreSQL and
Redis, declares the topology, applies the schema, starts at least one process of each kind, and ends
with a real chat turn and its answer. Does what is left to do: again is harmless, and processes that
died are started again. Those that run keep their build and settings: ./fleet restart renews them.

  RABBITMQ_URL             use this running broker instead of a private one
  RABBITMQ_MANAGEMENT_URL  its management API, http://user:password@host:port, if any
  DATABASE_URL             use this running PostgreSQL instead of a private one, as the workers' role
  DATABASE_ADMIN_URL       the same as a role that may alter the schema, to apply it
  REDIS_URL                use this running Redis instead of a private one (or REDIS_HOST and REDIS_PORT)
  AUTH_AUTO_PROVISION      true where nobody else fills auth.users of that database
  PORT                     of the HTTP interface, or the next free one (3006)
  BIND_ADDRESS             of the HTTP interface (127.0.0.1; 0.0.0.0 for all)
  JWT_SECRET               to sign tokens with; a random one is made once
  INTERNAL_SERVICE_KEY     likewise
  CHATFLEET_BIN            run the binaries of this folder, and build nothing
TEXT
}

cmd_up() {
    (($# == 0)) || usage_error "up takes no arguments"
    require_env
    STEPS=10
    state_lock
    step "packages" packages_ensure run
    step "build" build_release
    step "RabbitMQ${RABBITMQ_URL:+ (${RABBITMQ_URL##*[@/]} of RABBITMQ_URL)}" broker_ensure
    step "PostgreSQL${DATABASE_URL:+ ($(database_address "$DATABASE_URL") of DATABASE_URL)}" database_ensure
    step "Redis$(redis_origin)" redis_ensure
    secrets_make
    step "topology" topology_apply
    step "schema" schema_apply
    step "listening socket" keeper_start
    step "processes" up_processes
    step "a chat turn" up_turn
    up_report
}

redis_origin() { # if it is none of ours
    local named
    named=$(redis_named)
    [[ -z $named ]] || printf ' (%s of REDIS_URL)' "$(redis_address "$named")"
}

build_release() {
    [[ -z ${CHATFLEET_BIN:-} ]] || return 0
    build release
}

build() { # with the preset $1 and cmake's arguments "$2…", one at a time in a checkout
    local preset=$1 log=$LOG_DIR/build-$1.log lock_fd
    shift
    mkdir -p -- "$ROOT/build"
    exec {lock_fd}>>"$ROOT/build/$preset.lock"
    flock "$lock_fd"
    # A checkout that was moved or copied is built anew: its build folder names the old place.
    if [[ -e $ROOT/build/$preset/CMakeCache.txt ]] &&
        ! grep -Fqx "CMAKE_HOME_DIRECTORY:INTERNAL=$ROOT" "$ROOT/build/$preset/CMakeCache.txt"; then
        rm -rf -- "$ROOT/build/$preset"
    fi
    if ! (cd -- "$ROOT" && cmake --preset "$preset" "$@" && cmake --build "build/$preset") \
        >"$log" 2>&1 </dev/null; then
        step_break
        tail -n 40 -- "$log" >&2
        fail "the build failed; all of it: $log"
    fi
    exec {lock_fd}>&-
}

topology_apply() {
    local said
    said=$(RABBITMQ_URL=$(broker_url) "$BIN_DIR/chatfleet" topology apply 2>&1) ||
        fail "the topology could not be declared: $said"
}

up_processes() {
    local kind
    for kind in "${KINDS[@]}"; do
        (($(wanted "$kind") > 0)) || set_wanted "$kind" 1
    done
    stop_leftovers
    mapfile -t UP_KEPT < <(names_alive)
    reconcile_all
}

up_turn() {
    wait_until 15 chat_turn ||
        fail "the turn at $(gateway_url)/api/chat got no answer: $TURN_PROBLEM$(up_turn_hint)"
}

# Processes that ran before this ./fleet up are left as they are, and may be why the turn failed.
up_turn_hint() {
    local name outdated=()
    for name in "${UP_KEPT[@]}"; do
        ! is_outdated "$name" || outdated+=("$name")
    done
    if ((${#outdated[@]} > 0)); then
        printf '\nof an older build: %s; ./fleet restart takes the new one' "${outdated[*]}"
    elif ((${#UP_KEPT[@]} > 0)); then
        printf '\nwith the settings of an earlier start: %s; ./fleet restart takes new ones' "${UP_KEPT[*]}"
    fi
}

up_report() {
    local name program=$0 management
    [[ $program == */* ]] || program=$ROOT/fleet
    [[ $FLEET_HOME == "$ROOT/.fleet" ]] || program="FLEET_HOME=$(printf %q "$FLEET_HOME") $program"
    management=$(broker_management_url)
    echo
    say "asked:    $CHAT_QUESTION"
    say "answered: $TURN_ANSWER"
    say "          (model $TURN_MODEL)"
    echo
    printf '  %-20s %s\n' "HTTP interface" "$(gateway_url)"
    printf '  %-20s %s\n' "RabbitMQ" "$(broker_address)"
    [[ -z $management ]] || printf '  %-20s %s\n' "RabbitMQ management" "$(login_of "$management")"
    printf '  %-20s %s\n' "PostgreSQL" "$(database_address)"
    printf '  %-20s %s\n' "Redis" "$(redis_address)"
    while read -r name; do
        printf '  %-20s http://%s/health /metrics%s\n' "$name" "$(admin_of "$name")" \
            "$(is_outdated "$name" && echo "   (an older build: restart takes the new one)")"
    done < <(all_names)
    cat <<TEXT

Try it:
  $program chat "What should I learn first?" --conversation $CHAT_ID
  curl -sS $(gateway_url)/api/chat/conversations -H "Authorization: Bearer \$($program token --user $CHAT_USER)"
TEXT
}

login_of() { # "http://host:port (user U, password P)" of a URL with both
    local login=${1#*://}
    if [[ $login == *@* ]]; then
        login=${login%@*}
        printf '%s://%s (user %s, password %s)' "${1%%://*}" "${1##*@}" "${login%%:*}" "${login#*:}"
    else
        printf '%s' "$1"
    fi
}

# ---- down ----

help_down() {
    cat <<'TEXT'
Usage: ./fleet down [--purge]

Stops all that ./fleet started here: first the shims, which answer what is under way, then the
workers, then RabbitMQ, PostgreSQL and Redis. What does not end within DRAIN_TIMEOUT_SECONDS (30) and a little more is
killed. Data, secrets and ports are kept for the next ./fleet up (which starts one process of each
kind again); --purge deletes them, too, but never $FLEET_HOME/env. What stands on a broker that
RABBITMQ_URL named, in a database that DATABASE_URL named, or in a Redis that REDIS_URL named, stays there.
TEXT
}

cmd_down() {
    local purge=false kind names
    case "$*" in
        '') ;;
        --purge) purge=true ;;
        *) usage_error "down takes --purge or nothing" ;;
    esac
    [[ -d $FLEET_HOME ]] || return 0
    state_lock
    stop_leftovers
    for kind in "${KINDS[@]}"; do
        mapfile -t names < <(names_of "$kind")
        stop_processes "${names[@]}"
    done
    keeper_stop
    if $purge && ! broker_is_private; then
        say "queues and exchanges on $(broker_address) are left as they are"
    fi
    if $purge && ! database_is_private; then
        say "the database $(database_address) is left as it is"
    fi
    broker_stop
    database_stop
    redis_stop
    rm -f -- "$RUN_DIR/wanted" "$RUN_DIR/broker" "$RUN_DIR/database" "$RUN_DIR/redis"
    if $purge; then
        broker_purge
        database_purge
        redis_purge
        rm -rf -- "$RUN_DIR" "$LOG_DIR" "$SETTINGS" "$FLEET_HOME/lock"
        rmdir --ignore-fail-on-non-empty -- "$FLEET_HOME"
    fi
}

# ---- scale and restart ----

help_scale() {
    cat <<TEXT
Usage: ./fleet scale KIND=N …

Runs N processes (0 to $MAX_PROCESSES) of each KIND named: ${KINDS[*]}.
More are started and awaited, fewer are drained, the highest numbers first; those of any kind that
died are started again. With gateway=0 the port is closed.
TEXT
}

cmd_scale() {
    local change kind n
    (($# > 0)) || usage_error "scale takes KIND=N; the kinds are: ${KINDS[*]}"
    for change in "$@"; do
        kind=${change%%=*} n=${change#*=}
        require_kind "$kind"
        if [[ $change != *=* || ! $n =~ ^[0-9]{1,3}$ ]] || ((10#$n > MAX_PROCESSES)); then
            usage_error "$change: N is a number from 0 to $MAX_PROCESSES, as in $kind=2"
        fi
    done
    require_env
    state_lock
    require_up
    stop_leftovers
    for change in "$@"; do
        kind=${change%%=*} n=$((10#${change#*=}))
        say "$kind: $(wanted "$kind") → $n"
        set_wanted "$kind" "$n"
    done
    broker_ensure
    database_ensure
    redis_ensure
    reconcile_all
}

help_restart() {
    cat <<TEXT
Usage: ./fleet restart [KIND]

Builds, applies the new build's migrations, then replaces the processes, all or those of one KIND
(${KINDS[*]}), one by one: the new one serves before the old one is told to
finish. Clients keep their listening socket and notice nothing.
TEXT
}

cmd_restart() {
    local kinds=("${KINDS[@]}") kind names name
    (($# <= 1)) || usage_error "restart takes one kind or none"
    if (($# == 1)); then
        require_kind "$1"
        kinds=("$1")
    fi
    require_env
    state_lock
    require_up
    build_release
    database_ensure
    redis_ensure
    schema_apply
    stop_leftovers
    for kind in "${kinds[@]}"; do
        mapfile -t names < <(names_of "$kind")
        for name in "${names[@]}"; do
            replace_process "$name"
            say "$name: replaced"
        done
    done
    reconcile_all
}

# ---- logs, env, token ----

help_logs() {
    cat <<'TEXT'
Usage: ./fleet logs [NAME] [-f] [-n LINES]

Prints the last LINES (50) of the logs of NAME: a process (gateway.1), a kind (gateway), rabbitmq,
postgresql, redis, build-release, packages; without NAME, of all processes. -f goes on with what is added.
TEXT
}

cmd_logs() {
    local name='' lines=50 follow=() files=()
    while (($# > 0)); do
        case $1 in
            -f | --follow) follow=(--follow=name --retry) ;;
            -n)
                [[ ${2:-} =~ ^[0-9]+$ ]] || usage_error "-n takes a number of lines"
                lines=$2
                shift
                ;;
            -*) usage_error "logs knows no $1" ;;
            *)
                [[ -z $name ]] || usage_error "logs takes one name"
                name=$1
                ;;
        esac
        shift
    done
    logs_files "$name"
    exec tail --lines="$lines" "${follow[@]}" -- "${files[@]}"
}

logs_files() { # of NAME ($1) into the caller's `files`
    local kind
    shopt -s nullglob
    if [[ -z $1 ]]; then
        for kind in "${KINDS[@]}"; do
            files+=("$LOG_DIR/$kind".*.log)
        done
    elif kind_exists "$1"; then
        files=("$LOG_DIR/$1".*.log)
    elif [[ $1 != */* && -e $LOG_DIR/$1.log ]]; then
        files=("$LOG_DIR/$1.log")
    fi
    shopt -u nullglob
    ((${#files[@]} > 0)) || fail "there is no log of ${1:-any process} yet"
}

help_env() {
    cat <<'TEXT'
Usage: eval "$(./fleet env)"

Prints export lines for a fleet, broker or database that runs: CHATFLEET_URL (while the fleet is
up), RABBITMQ_URL, RABBITMQ_MANAGEMENT_URL (with its login), DATABASE_URL (the workers' role),
DATABASE_ADMIN_URL (the schema's owner), REDIS_URL, JWT_SECRET, INTERNAL_SERVICE_KEY, and CHATFLEET_HOME, by
which ./fleet with another FLEET_HOME knows that they are not meant for it, and this one that private
servers of such addresses are its own.
TEXT
}

cmd_env() {
    (($# == 0)) || usage_error "env takes no arguments"
    [[ -n $(broker_url)$(database_url) ]] || fail "the fleet is not up: ./fleet up starts it"
    ! fleet_is_up || env_line CHATFLEET_URL "$(gateway_url)"
    env_line CHATFLEET_HOME "$FLEET_HOME"
    env_line RABBITMQ_URL "$(broker_url)"
    env_line RABBITMQ_MANAGEMENT_URL "$(broker_management_url)"
    env_line DATABASE_URL "$(database_url)"
    env_line DATABASE_ADMIN_URL "$(database_admin_url)"
    env_line REDIS_URL "$(redis_url)"
    env_line JWT_SECRET "$(setting JWT_SECRET)"
    env_line INTERNAL_SERVICE_KEY "$(setting INTERNAL_SERVICE_KEY)"
}

env_line() {
    [[ -z $2 ]] || printf 'export %s=%q\n' "$1" "$2"
}

help_token() {
    cat <<'TEXT'
Usage: ./fleet token [--user U] [--tenant T] [--role R] [--tier T] [--expires SECONDS]

Prints a bearer token, signed with the fleet's secret.
TEXT
}

cmd_token() {
    [[ -x $BIN_DIR/chatfleet ]] || fail "nothing is built yet: ./fleet up does it"
    issue_token "$@"
}

# ---- broker ----

help_broker() {
    cat <<'TEXT'
Usage: ./fleet broker start | stop | restart | ctl ARGUMENTS…

The private RabbitMQ of this fleet, alone: starts it (with no process of the fleet), stops it,
stops and starts it; ctl is rabbitmqctl against it, as in ./fleet broker ctl list_queues. A port
that somebody else has taken meanwhile is awaited while the fleet is up, else the next one is used.
TEXT
}

cmd_broker() {
    local verb=${1:-}
    [[ $verb == ctl ]] || (($# == 1)) || usage_error "broker takes start, stop, restart or ctl"
    case $verb in
        ctl)
            shift
            broker_ctl "$@"
            ;;
        start | stop | restart)
            state_lock
            ! fleet_is_up || broker_is_private || fail "the fleet's broker is not a private one"
            secrets_make
            "broker_$verb"
            ;;
        *) usage_error "broker takes start, stop, restart or ctl, not \"$verb\"" ;;
    esac
}

# ---- database ----

help_database() {
    cat <<'TEXT'
Usage: ./fleet database start | stop | restart | psql ARGUMENTS…

The private PostgreSQL of this fleet, alone: starts it (with no process of the fleet, and without
the schema: that is chatfleet schema apply), stops it, stops and starts it; psql is psql against it
as its administrator, as in ./fleet database psql -c 'TABLE chat.schema_migrations'. A port that
somebody else has taken meanwhile is awaited while the fleet is up, else the next one is used.
TEXT
}

cmd_database() {
    local verb=${1:-}
    [[ $verb == psql ]] || (($# == 1)) || usage_error "database takes start, stop, restart or psql"
    case $verb in
        psql)
            shift
            is_alive postgresql || fail "no private PostgreSQL runs here"
            database_psql "$@"
            ;;
        start | stop | restart)
            state_lock
            ! fleet_is_up || database_is_private || fail "the fleet's database is not a private one"
            secrets_make
            "database_$verb"
            ;;
        *) usage_error "database takes start, stop, restart or psql, not \"$verb\"" ;;
    esac
}

# ---- redis ----

help_redis() {
    cat <<'TEXT'
Usage: ./fleet redis start | stop | restart | cli ARGUMENTS…

The private Redis of this fleet, alone: starts it (with no process of the fleet), stops it, stops and
starts it; cli is redis-cli against it, as in ./fleet redis cli KEYS '*'. The fleet goes on without it.
TEXT
}

cmd_redis() {
    local verb=${1:-}
    [[ $verb == cli ]] || (($# == 1)) || usage_error "redis takes start, stop, restart or cli"
    case $verb in
        cli)
            shift
            is_alive redis || fail "no private Redis runs here"
            redis_cli "$@"
            ;;
        start | stop | restart)
            state_lock
            ! fleet_is_up || redis_is_private || fail "the fleet's Redis is not a private one"
            "redis_$verb"
            ;;
        *) usage_error "redis takes start, stop, restart or cli, not \"$verb\"" ;;
    esac
}

# ---- help ----

help_help() {
    help_all
}

cmd_help() {
    (($# > 0)) || set -- all
    [[ $1 == all ]] || require_command "$1"
    "help_$1"
}

require_command() {
    if [[ ! $1 =~ ^[a-z]+$ ]] || ! declare -F "cmd_$1" >/dev/null; then
        usage_error "there is no command \"$1\"; ./fleet help lists them"
    fi
}

# ---- the way in ----

on_exit() {
    local status=$?
    trap '' INT TERM
    step_break
    policy_restore
    "${AT_EXIT[@]}"
    exit "$status"
}

on_signal() {
    step_break
    warn "interrupted; ./fleet up goes on from here, ./fleet down stops what runs"
    exit "$1"
}

main() {
    local command=${1:-}
    AT_EXIT=(true)
    if [[ -z $command ]]; then
        help_all >&2
        exit "$EXIT_USAGE"
    fi
    shift
    [[ $command != --help && $command != -h ]] || command=help
    require_command "$command"
    if [[ ${1:-} == --help || ${1:-} == -h ]]; then
        "help_$command"
        exit 0
    fi
    state_forget_env
    state_load_env
    BIN_DIR=$(realpath --no-symlinks --canonicalize-missing -- "${CHATFLEET_BIN:-$ROOT/build/release}")
    trap on_exit EXIT
    trap 'on_signal 130' INT
    trap 'on_signal 143' TERM
    "cmd_$command" "$@"
}
