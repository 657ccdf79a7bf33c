# shellcheck shell=bash
# Processes: starting, finding, draining. A process is known by its record, $RUN_DIR/NAME.pid, with
# its pid, start time and boot, so that a pid which the kernel gave to somebody else is never taken
# for ours. Our own also write NAME.json once they are ready (STATE_FILE).

# The kinds of processes, along the way of a request; this is the only list of them. They stop in
# this order, and start in the other one, so that no shim takes a request that nobody serves.
KINDS=(gateway persistence context-builder inference)
MAX_PROCESSES=64
READY_SECONDS=30

kind_exists() {
    [[ " ${KINDS[*]} " == *" $1 "* ]]
}

require_kind() {
    kind_exists "$1" || usage_error "there is no kind \"$1\"; the kinds are: ${KINDS[*]}"
}

kind_binary() {
    printf '%s/chatfleet-%s' "$BIN_DIR" "$1"
}

kind_queue() { # where its work waits; nothing for those that take none
    [[ $1 == gateway ]] || printf '%s' "$1"
}

# ---- records ----

# Print the pid of the process NAME ($1) if it lives.
pid_of() {
    local pid start boot stat fields
    read -r pid start boot 2>/dev/null <"$RUN_DIR/$1.pid" || return 1
    [[ $boot == "$(</proc/sys/kernel/random/boot_id)" ]] || return 1
    { read -r stat </proc/"$pid"/stat; } 2>/dev/null || return 1
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} != [ZX] && ${fields[19]:-} == "$start" ]] || return 1
    printf '%d' "$pid"
}

is_alive() {
    pid_of "$1" >/dev/null
}

is_dead() {
    ! is_alive "$1"
}

# Start "$4…" as NAME ($2), logging to the file $3; $1 is a prefix such as as_root, or env.
launch() {
    local prefix=$1 name=$2 log=$3
    shift 3
    (umask 077 && : >"$RUN_DIR/$name.pid" && : >>"$log")
    "$prefix" bash "$ROOT/tools/fleet.d/launch" "$RUN_DIR/$name.pid" "$log" "$@"
    wait_until 5 test -s "$RUN_DIR/$name.pid" || fail "$name could not be started: see $log"
}

# Send signal $2 to NAME ($1) if it lives; through $3 (as_root), or directly.
signal_to() {
    local pid
    pid=$(pid_of "$1") || return 0
    "${3:-env}" kill "-$2" "$pid" 2>/dev/null || true
}

# Wait up to $1 seconds for the end of the processes "$3…", then kill what is left, through $2.
await_end() {
    local seconds=$1 prefix=$2 name
    shift 2
    for name in "$@"; do
        if ! wait_until "$seconds" is_dead "$name"; then
            warn "$name did not end within $seconds s and is killed"
            signal_to "$name" KILL "$prefix"
            wait_until 5 is_dead "$name" || fail "$name cannot be killed"
            seconds=1
        fi
        rm -f -- "$RUN_DIR/$name.pid"
    done
}

# ---- our own processes ----

# The names of the recorded processes of kind $1, in the order of their numbers.
names_of() {
    local file
    for file in "$RUN_DIR/$1".*.pid; do
        file=${file##*/} file=${file%.pid}
        if [[ ${file#"$1".} =~ ^[0-9]+$ ]]; then
            echo "$file"
        fi
    done | sort -t. -k2n
}

all_names() {
    local kind
    for kind in "${KINDS[@]}"; do
        names_of "$kind"
    done
}

names_alive() {
    local name
    while read -r name; do
        is_dead "$name" || echo "$name"
    done < <(all_names)
}

# Each process and the one that is to take its place write a state file of their own, so that the
# end of the one does not remove the other's. Print the file that the process with pid $2 wrote.
state_file_of() {
    local file text
    for file in "$RUN_DIR/$1.json" "$RUN_DIR/$1.alt.json"; do
        { read -r text <"$file"; } 2>/dev/null || continue
        [[ $text == *"\"pid\":$2,"* ]] && echo "$file" && return
    done
    return 1
}

is_ready() {
    local pid
    pid=$(pid_of "$1") && state_file_of "${1%.next}" "$pid" >/dev/null
}

is_ready_or_dead() {
    is_ready "$1" || is_dead "$1"
}

admin_of() { # the admin address of NAME ($1), HOST:PORT; nothing before it is ready
    local pid file
    pid=$(pid_of "$1") && file=$(state_file_of "$1" "$pid") || return 0
    jq -r '.admin // empty' "$file" 2>/dev/null || true
}

log_of() {
    printf '%s/%s.log' "$LOG_DIR" "${1%.next}"
}

# Start NAME ($1), or NAME.next, which is to take its place. Returns before it is ready.
start_process() {
    local record=$1 name=${1%.next} kind pid state other=()
    kind=${name%.*} state=$RUN_DIR/$name.json
    pid=$(pid_of "$name") && [[ $(state_file_of "$name" "$pid") == "$state" ]] &&
        state=$RUN_DIR/$name.alt.json
    rm -f -- "$state"
    [[ $kind != gateway ]] || other=("$BIN_DIR/chatfleet-socket" exec "$GATEWAY_SOCKET")
    (
        process_environment "$state"
        cd -- "$RUN_DIR" # a path to the socket from here is short enough for a unix socket
        launch env "$record" "$(log_of "$name")" \
            "${other[@]}" env --chdir="$ROOT" "$(kind_binary "$kind")"
    ) || exit 1
}

# What each process finds in its environment, beside the user's own settings.
process_environment() {
    unset NOTIFY_SOCKET WATCHDOG_PID WATCHDOG_USEC LISTEN_PID LISTEN_FDS LISTEN_FDNAMES
    unset DATABASE_ADMIN_URL DATABASE_ADMIN_URL_FILE # the ctl's alone
    RABBITMQ_URL=$(broker_url) DATABASE_URL=$(database_url) JWT_SECRET=$(setting JWT_SECRET)
    INTERNAL_SERVICE_KEY=$(setting INTERNAL_SERVICE_KEY)
    PORT=$(setting PORT) BIND_ADDRESS=$(setting BIND_ADDRESS)
    LOG_FILE='' ADMIN_ADDRESS=127.0.0.1 ADMIN_PORT=0 STATE_FILE=$1
    REDIS_URL=$(redis_url) REDIS_HOST='' REDIS_PORT=''
    export RABBITMQ_URL DATABASE_URL REDIS_URL REDIS_HOST REDIS_PORT JWT_SECRET INTERNAL_SERVICE_KEY PORT BIND_ADDRESS LOG_FILE
    export ADMIN_ADDRESS ADMIN_PORT STATE_FILE
    # No auth service fills auth.users of a private database.
    ! database_is_private || export AUTH_AUTO_PROVISION="${AUTH_AUTO_PROVISION:-true}"
    ulimit -Sn "$(open_files_limit)"
}

open_files_limit() { # the hard limit, since a shim holds many clients
    local hard
    hard=$(ulimit -Hn)
    [[ $hard != unlimited ]] && ((hard < 65536)) || hard=65536
    printf '%d' "$hard"
}

# Wait until NAME ($1) is ready; else end with the last lines of its log.
await_ready() {
    if ! wait_until "$READY_SECONDS" is_ready_or_dead "$1" || is_dead "$1"; then
        step_break
        tail -n 8 -- "$(log_of "$1")" >&2 || true
        is_dead "$1" && fail "$1 ended at its start; its log: $(log_of "$1")"
        fail "$1 is not ready after $READY_SECONDS s; its log: $(log_of "$1")"
    fi
}

drain_seconds() { # how long a process may take to end after SIGTERM
    local seconds=${DRAIN_TIMEOUT_SECONDS:-30}
    [[ $seconds =~ ^[0-9]+$ ]] || seconds=30
    printf '%d' $((seconds + 5))
}

# Drain the processes "$@" side by side.
stop_processes() {
    local name
    for name in "$@"; do
        signal_to "$name" TERM
    done
    await_end "$(drain_seconds)" env "$@"
    for name in "$@"; do
        [[ $name == *.next || $name == *.old ]] || rm -f -- "$RUN_DIR/$name".{,alt.}json
    done
}

# Stop what an interrupted restart left: the not yet needed, and the already replaced.
stop_leftovers() {
    local file names=()
    for file in "$RUN_DIR"/*.{next,old}.pid; do
        [[ -e $file ]] || continue
        file=${file##*/}
        names+=("${file%.pid}")
    done
    stop_processes "${names[@]}"
}

reconcile_all() {
    local i
    (($(wanted gateway) == 0)) || keeper_start
    for ((i = ${#KINDS[@]} - 1; i >= 0; i--)); do
        reconcile "${KINDS[i]}"
    done
    (($(wanted gateway) > 0)) || keeper_stop # nobody is there to answer: refuse
}

# Start or drain processes of kind $1 until as many run as are wanted.
reconcile() {
    local kind=$1 n i name surplus=() started=()
    n=$(wanted "$kind")
    for ((i = 1; i <= n; i++)); do
        is_alive "$kind.$i" || start_process "$kind.$i"
        started+=("$kind.$i")
    done
    while read -r name; do
        ((${name##*.} <= n)) || surplus=("$name" "${surplus[@]}")
    done < <(names_of "$kind")
    for name in "${started[@]}"; do
        await_ready "$name"
    done
    stop_processes "${surplus[@]}"
}

# Put a new process in the place of NAME ($1): it serves before the old one stops.
replace_process() {
    local name=$1
    if ! is_ready "$name"; then
        stop_processes "$name"
        start_process "$name"
        await_ready "$name"
        return
    fi
    start_process "$name.next"
    await_ready "$name.next"
    mv -f -- "$RUN_DIR/$name.pid" "$RUN_DIR/$name.old.pid"
    mv -f -- "$RUN_DIR/$name.next.pid" "$RUN_DIR/$name.pid"
    stop_processes "$name.old"
}

# Does NAME ($1) run a file that a later build has replaced?
is_outdated() {
    local pid
    pid=$(pid_of "$1") && [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == *' (deleted)' ]]
}
