# shellcheck shell=bash
# Words to the user, progress, privileges and waiting. Knows nothing of fleets.

EXIT_USAGE=64

say() {
    printf '%s\n' "$*"
}

warn() {
    step_break
    printf 'fleet: %s\n' "$*" >&2
}

fail() {
    warn "$*"
    exit 1
}

usage_error() {
    warn "$*"
    exit "$EXIT_USAGE"
}

# ---- progress: "[2/7] build … ok (1.4 s)" ----

STEP=0 STEPS=0 STEP_OPEN=false

now_ms() { # the clock in milliseconds, into the variable $1
    local us=${EPOCHREALTIME/[.,]/}
    printf -v "$1" '%d' $((us / 1000))
}

# Run the command "$2…" as the next step under the name $1. It fails by ending the script.
step() {
    local label=$1 started ended
    shift
    STEP=$((STEP + 1)) STEP_OPEN=true
    printf '[%d/%d] %s … ' "$STEP" "$STEPS" "$label"
    now_ms started
    "$@"
    now_ms ended
    $STEP_OPEN || printf '[%d/%d] %s … ' "$STEP" "$STEPS" "$label"
    STEP_OPEN=false
    printf 'ok (%d.%d s)\n' $(((ended - started) / 1000)) $(((ended - started) % 1000 / 100))
}

step_break() { # leave the line of an open step before something else is written
    if $STEP_OPEN; then
        STEP_OPEN=false
        echo
    fi
}

# ---- privileges ----

as_root() {
    if ((EUID == 0)); then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        fail "this needs root: run it as root, or install sudo"
    fi
}

# ---- waiting ----

# Try the command "$2…" every 50 ms until it succeeds: 0, or 1 after $1 seconds.
wait_until() {
    local end now
    now_ms end
    end=$((end + $1 * 1000))
    shift
    until "$@"; do
        now_ms now
        ((now < end)) || return 1
        sleep 0.05
    done
}

# ---- ports ----

PORT_SECONDS=10

# Does anything on this machine listen on TCP port $1, on whatever address?
port_is_taken() {
    local hex
    printf -v hex '%04X' "$1"
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v hex="$hex" '$4 == "0A" && $2 ~ (":" hex "$") { found = 1 } END { exit !found }'
}

# Reserve port $1 against other fleets that start at the same time until this script ends. It fails
# if one has it reserved, this one included.
port_reserve() {
    local reservation=/tmp/chatfleet-port-$1.lock lock_fd
    [[ -e $reservation ]] || (umask 022 && : >"$reservation") 2>/dev/null || return 1
    { exec {lock_fd}<"$reservation"; } 2>/dev/null || return 1
    if ! flock --nonblock "$lock_fd"; then
        exec {lock_fd}<&-
        return 1
    fi
    RESERVED[$1]=$lock_fd
}

declare -A RESERVED=() # by port: the file that holds it

port_release() {
    local lock_fd=${RESERVED[$1]}
    unset "RESERVED[$1]"
    exec {lock_fd}<&-
}

# Set the variable $1 to the first free port from $2 on, reserved.
free_port() {
    local candidate
    for ((candidate = $2; candidate < $2 + 1000 && candidate < 65536; candidate++)); do
        port_is_taken "$candidate" || ! port_reserve "$candidate" && continue
        if ! port_is_taken "$candidate"; then
            printf -v "$1" '%d' "$candidate"
            return
        fi
        port_release "$candidate"
    done
    fail "no free port from $2 on"
}

port_is_ours() { # reserved here, and nobody listens
    [[ -n ${RESERVED[$1]:-} ]] || port_reserve "$1" || return 1
    ! port_is_taken "$1"
}

# Reserve port $1, and no other; if somebody has it, wait a little for its release.
exact_port() {
    ! port_is_ours "$1" || return 0
    warn "port $1 is taken by somebody else; waiting for it"
    wait_until "$PORT_SECONDS" port_is_ours "$1"
}

# ---- text ----

random_hex() { # $1 random bytes as hexadecimal digits
    od -An -vtx1 -N"$1" /dev/urandom | tr -d ' \n'
}

is_uuid() {
    [[ $1 =~ ^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$ ]]
}

# Replace the file $1 (mode 0600) by what comes in, all at once.
write_private() {
    (umask 077 && cat >"$1.new.$$")
    mv -f -- "$1.new.$$" "$1"
}
