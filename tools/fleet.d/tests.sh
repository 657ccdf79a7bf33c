# shellcheck shell=bash
# ./fleet test, ./fleet bench and ./fleet servers: each against a RabbitMQ and a PostgreSQL of its own in a
# temporary FLEET_HOME.

help_test() {
    cat <<'TEXT'
Usage: ./fleet test [PATTERN]

Installs what tests need, builds build/asan with sanitizers and runs the tests whose names match
the regular expression PATTERN, or all, against a private RabbitMQ and PostgreSQL (with the schema
applied) on free ports; a running fleet is not touched. Exit code and last lines are ctest's. Tests
find in their environment CHATFLEET_BIN, RABBITMQ_URL, RABBITMQ_MANAGEMENT_URL, DATABASE_URL,
DATABASE_ADMIN_URL, and FLEET_HOME for calls such as ./fleet broker restart.
TEXT
}

cmd_test() {
    local filter=()
    (($# <= 1)) || usage_error "test takes one pattern or none"
    (($# == 0)) || filter=(--tests-regex "$1")
    STEPS=4
    state_open
    step "packages" packages_ensure test
    step "build with sanitizers" build asan
    step "node modules" node_modules "$ROOT/tests/integration"
    export CHATFLEET_BIN=$ROOT/build/asan
    step "RabbitMQ and PostgreSQL" servers_start
    echo
    sanitizers_set
    export TESTS_HOME=$FLEET_HOME
    ctest --test-dir "$ROOT/build/asan" --output-on-failure --no-tests=error \
        --parallel "$(nproc)" "${filter[@]}"
}

help_servers() {
    cat <<'TEXT'
Usage: ./fleet servers COMMAND [ARGUMENTS…]

Starts a private RabbitMQ and PostgreSQL (with the schema applied) on free ports, runs the COMMAND with
their addresses in its environment, as ./fleet test has them, and removes them when it has ended. Its exit
code is the COMMAND's. Tests that stop the servers run in it, as in
./fleet servers node --test tests/integration/outages.test.mjs
The binaries are those of CHATFLEET_BIN (build/asan), which must be built.
TEXT
}

cmd_servers() {
    (($# > 0)) || usage_error "servers takes a command to run"
    export CHATFLEET_BIN=${CHATFLEET_BIN:-$ROOT/build/asan}
    [[ -x $CHATFLEET_BIN/chatfleet ]] || fail "nothing is built in $CHATFLEET_BIN"
    servers_start
    sanitizers_set
    "$@"
}

sanitizers_set() {
    export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:halt_on_error=1:abort_on_error=0}
    export UBSAN_OPTIONS=${UBSAN_OPTIONS:-halt_on_error=1:print_stacktrace=1}
}

help_bench() {
    cat <<'TEXT'
Usage: ./fleet bench [NAME] [ARGUMENTS…]

Builds build/release and runs tests/bench/run with the arguments, against a private RabbitMQ and
PostgreSQL (with the schema applied) on free ports; a running fleet is not touched, but shares the
machine. tests/bench/run finds in its environment CHATFLEET_BIN, RABBITMQ_URL,
RABBITMQ_MANAGEMENT_URL, DATABASE_URL, DATABASE_ADMIN_URL, JWT_SECRET, INTERNAL_SERVICE_KEY and a
FLEET_HOME in which ./fleet up, scale and status work.
TEXT
}

cmd_bench() {
    [[ -x $ROOT/tests/bench/run ]] || fail "there is no tests/bench/run"
    STEPS=4
    state_open
    { # standard output belongs to the figures
        step "packages" packages_ensure bench
        step "build" build release -DBENCH=ON
        step "node modules" node_modules "$ROOT/tests/bench/$(bench_needs "${1:-}")"
        export CHATFLEET_BIN=$ROOT/build/release
        step "RabbitMQ and PostgreSQL" servers_start
        echo
    } >&2
    (cd -- "$ROOT" && tests/bench/run "$@")
}

# The folder of what a bench is compared with.
bench_needs() {
    if [[ $1 == completions ]]; then echo portkey; else echo express; fi
}

# npm ci in the folder $1 if it has a package-lock.json that changed since.
node_modules() {
    local stamp=$1/node_modules/.installed log=$LOG_DIR/npm.log
    [[ -e $1/package-lock.json ]] || return 0
    ! cmp --silent -- "$1/package-lock.json" "$stamp" || return 0
    if ! (cd -- "$1" && npm ci --ignore-scripts --no-audit --no-fund) >"$log" 2>&1 </dev/null; then
        step_break
        tail -n 20 -- "$log" >&2
        fail "npm ci failed in $1; all of it: $log"
    fi
    cp -- "$1/package-lock.json" "$stamp"
}

# Start the private servers in a new FLEET_HOME, to be removed when this script ends, and export
# where they are. Those of a test stand within the home of ./fleet test, which removes them if the test
# could not (it took too long and was killed).
servers_start() {
    local said
    unset RABBITMQ_URL RABBITMQ_MANAGEMENT_URL DATABASE_URL DATABASE_ADMIN_URL REDIS_URL REDIS_HOST REDIS_PORT PORT BIND_ADDRESS
    unset JWT_SECRET INTERNAL_SERVICE_KEY
    FLEET_HOME=$(mktemp -d "${TESTS_HOME:-${TMPDIR:-/tmp}}/chatfleet-test.XXXXXX")
    chmod 711 -- "$FLEET_HOME"
    AT_EXIT=(servers_stop)
    test_ports
    "$ROOT/fleet" broker start
    "$ROOT/fleet" database start
    said=$("$ROOT/fleet" env)
    eval "$said"
    said=$("$CHATFLEET_BIN/chatfleet" schema apply 2>&1) || fail "the schema could not be applied: $said"
}

# Ports far from where fleets look for theirs: a test stops a server and starts it again, and nobody is to
# have taken its port meanwhile.
test_ports() {
    local name port=$((20000 + RANDOM % 2000))
    for name in AMQP_PORT MANAGEMENT_PORT DISTRIBUTION_PORT EPMD_PORT DATABASE_PORT REDIS_PRIVATE_PORT; do
        set_value "$FLEET_HOME/settings" "$name" "$port"
        port=$((port + 2000))
    done
}

servers_stop() {
    local home
    for home in "$FLEET_HOME"/chatfleet-test.*; do
        [[ ! -d $home ]] || FLEET_HOME=$home "$ROOT/fleet" down --purge
    done
    "$ROOT/fleet" down --purge
    rm -rf -- "$FLEET_HOME"
}
