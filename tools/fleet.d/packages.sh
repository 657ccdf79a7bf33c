# shellcheck shell=bash
# Debian packages: installs what is missing, and nothing else.

PACKAGES_RUN=(gcc libc6-dev cmake ninja-build pkg-config libevent-dev librabbitmq-dev libjansson-dev
    libjwt-dev libssl-dev libpq-dev libcurl4-openssl-dev libhiredis-dev rabbitmq-server postgresql
    redis-server curl jq)
PACKAGES_TEST=(clang clang-format libclang-rt-dev libcunit1-dev openssl git procps systemd docker-compose)
PACKAGES_BENCH=(wrk)
PACKAGES_NODE=(nodejs npm ca-certificates) # unless the user has a node of his own
POLICY=/usr/sbin/policy-rc.d
CLUSTER_RULE=/etc/postgresql-common/createcluster.d/chatfleet.conf

packages_missing() { # those of "$@" that are not installed
    comm -13 \
        <(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' 2>/dev/null |
            sed -n 's/^[ih]i *//p' | sort -u) \
        <(printf '%s\n' "$@" | sort -u)
}

# Install what is missing for $1: run, test or bench.
packages_ensure() {
    local wanted=("${PACKAGES_RUN[@]}") missing
    [[ $1 != test ]] || wanted+=("${PACKAGES_TEST[@]}")
    [[ $1 != bench ]] || wanted+=("${PACKAGES_BENCH[@]}")
    if [[ $1 != run ]] && ! { command -v node && command -v npm; } >/dev/null; then
        wanted+=("${PACKAGES_NODE[@]}")
    fi
    command -v dpkg-query >/dev/null || fail "this is neither Debian nor Ubuntu: install by hand: ${wanted[*]}"
    mapfile -t missing < <(packages_missing "${wanted[@]}")
    ((${#missing[@]} == 0)) || packages_install "${missing[@]}"
}

packages_install() {
    local log=$LOG_DIR/packages.log
    printf 'installing %s … ' "$*"
    POLICY_MADE=false CLUSTER_RULE_MADE=false
    policy_refuse_starts
    [[ " $* " != *' postgresql '* ]] || policy_refuse_clusters
    if ! { apt_get update && apt_get install --yes --no-install-recommends "$@"; } >"$log" 2>&1 </dev/null; then
        policy_restore
        step_break
        tail -n 15 -- "$log" >&2
        fail "the packages could not be installed; all of it: $log"
    fi
    policy_restore
    [[ " $* " != *' rabbitmq-server '* ]] ||
        packages_disable rabbitmq-server.service epmd.socket epmd.service >>"$log" 2>&1
    [[ " $* " != *' redis-server '* ]] || packages_disable redis-server.service >>"$log" 2>&1
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
        apt-get --quiet --option DPkg::Lock::Timeout=600 "$@"
}

# While they are installed, the packages of servers may not start any for the whole system, …
policy_refuse_starts() {
    [[ ! -e $POLICY ]] || return 0
    POLICY_MADE=true
    printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$POLICY"
}

# … and that of PostgreSQL may not make a database cluster for it.
policy_refuse_clusters() {
    [[ ! -e $CLUSTER_RULE ]] || return 0
    CLUSTER_RULE_MADE=true
    echo 'create_main_cluster = false' | as_root install -D -m 644 /dev/stdin "$CLUSTER_RULE"
}

policy_restore() {
    if ${CLUSTER_RULE_MADE:-false}; then
        as_root rm -f -- "$CLUSTER_RULE"
        CLUSTER_RULE_MADE=false
    fi
    if ${POLICY_MADE:-false}; then
        as_root rm -f -- "$POLICY"
        POLICY_MADE=false
    fi
}

packages_disable() { # what would start for the whole system with the next boot
    [[ -d /run/systemd/system ]] || return 0
    as_root systemctl disable --now "$@" || true
}
