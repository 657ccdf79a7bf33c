# shellcheck shell=bash
# ./fleet chaos: faults at random against a fleet of its own, and an accounting.

help_chaos() {
    cat <<'TEXT'
Usage: ./fleet chaos [--minutes M] [--seed S] [--report FILE] [--settle SECONDS] [--keep]

Builds build/asan and attacks a fleet of its own, with a private RabbitMQ and PostgreSQL on free ports, for
M minutes (5): processes are killed, drained and frozen, the broker and the database restarted, stopped and
made to crash, connections and channels broken, memory and queues made short, the model made to misbehave;
while clients use it over HTTP and AMQP. Then all comes to rest and is counted: every accepted write is in
PostgreSQL once, every request had its answer, every message is acked or in a dead letter queue with its
cause. Exit code 1 and the logs' folder when something does not add up.

  --minutes M        how long faults come
  --seed S           the same seed gives the same faults at the same times; printed when it is made up
  --report FILE      the report as Markdown, too
  --settle SECONDS   how long coming to rest may take (180)
  --keep             keep the processes' logs

Ctrl-C ends the faults early; the accounting follows. A running fleet is not touched. CHATFLEET_BIN names
another build.
TEXT
}

cmd_chaos() {
    local run=$ROOT/tests/chaos/run.mjs
    STEPS=4
    [[ -z ${CHATFLEET_BIN:-} ]] || STEPS=3
    state_open
    step "packages" packages_ensure test
    "$run" --check "$@" || exit # wrong usage is told before anything is built
    [[ -n ${CHATFLEET_BIN:-} ]] || step "build with sanitizers" build asan
    step "node modules" node_modules "$ROOT/tests/integration"
    export CHATFLEET_BIN=${CHATFLEET_BIN:-$ROOT/build/asan}
    step "RabbitMQ and PostgreSQL" servers_start
    echo
    sanitizers_set
    chaos_run "$run" "$@"
}

# In a session of its own, so that Ctrl-C in the terminal ends the attack and not the processes under it.
chaos_run() {
    local pid status=0
    setsid -- "$@" &
    pid=$!
    trap 'kill -INT "$pid" 2>/dev/null || true' INT TERM
    wait "$pid" || status=$?
    while kill -0 "$pid" 2>/dev/null; do # a signal ended the wait, not the run
        status=0
        wait "$pid" || status=$?
    done
    return "$status"
}
