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

# Does anything on this machine listen on TCP port $1, on whatever address?
port_is_taken() {
    local hex
    printf -v hex '%04X' "$1"
    cat /proc/net/tcp /proc/net/tcp6 2>/dev/null |
        awk -v hex="$hex" '$4 == "0A" && $2 ~ (":" hex "$") { found = 1 } END { exit !found }'
}

# Set the variable $1 to the first free port from $2 on. It stays reserved against other fleets
# that start at the same time until this script ends.
free_port() {
    local candidate reservation lock_fd
    for ((candidate = $2; candidate < $2 + 1000 && candidate < 65536; candidate++)); do
        port_is_taken "$candidate" && continue
        reservation=/tmp/chatfleet-port-$candidate.lock
        [[ -e $reservation ]] || (umask 022 && : >"$reservation") 2>/dev/null || continue
        { exec {lock_fd}<"$reservation"; } 2>/dev/null || continue
        if flock --nonblock "$lock_fd" && ! port_is_taken "$candidate"; then
            printf -v "$1" '%d' "$candidate"
            return
        fi
        exec {lock_fd}<&-
    done
    fail "no free port from $2 on"
}

# ---- text ----

random_hex() { # $1 random bytes as hexadecimal digits
    od -An -vtx1 -N"$1" /dev/urandom | tr -d ' \n'
}

# Replace the file $1 (mode 0600) by what comes in, all at once.
write_private() {
    (umask 077 && cat >"$1.new.$$")
    mv -f -- "$1.new.$$" "$1"
}
