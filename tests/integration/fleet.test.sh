#!/usr/bin/env bash
# ./fleet from outside: in a copy of the checkout, with homes and ports of its own, beside whatever
# else runs on the machine. Needs root or sudo, since broker and database run as their own users.
set -euo pipefail

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)
WORK=$(mktemp -d /tmp/chatfleet-copy.XXXXXX) # 0700: the servers' users do not get in
COPY=$WORK/checkout
OTHER=$(mktemp -d /tmp/chatfleet-other.XXXXXX)
OUT=$WORK/out
unset FLEET_HOME CHATFLEET_BIN RABBITMQ_URL RABBITMQ_MANAGEMENT_URL DATABASE_URL DATABASE_ADMIN_URL \
    REDIS_URL REDIS_HOST REDIS_PORT AUTH_AUTO_PROVISION PORT BIND_ADDRESS JWT_SECRET INTERNAL_SERVICE_KEY LOG_LEVEL

# ---- helpers ----

fleet() {
    "$COPY/fleet" "$@"
}

other() {
    FLEET_HOME=$OTHER "$COPY/fleet" "$@"
}

cleanup() {
    local status=$?
    trap - EXIT
    ((status == 0)) || cat "$OUT"* 2>/dev/null || true
    [[ -z ${BYSTANDER:-} ]] || kill "$BYSTANDER" 2>/dev/null || true
    other down --purge || true
    fleet down --purge || true
    rm -rf -- "$WORK" "$OTHER"
    exit "$status"
}
trap cleanup EXIT

not_ok() {
    echo "not ok - $*"
    exit 1
}

ok() {
    echo "ok - $* (${SECONDS} s)"
}

# expect CODE COMMAND…: it ends with that code; its output goes to $OUT.
expect() {
    local want=$1 got=0
    shift
    "$@" >"$OUT" 2>&1 || got=$?
    ((got == want)) || not_ok "$* ended with $got instead of $want"
}

contains() { # the last output has a line that matches $1
    grep -Eq -- "$1" "$OUT" || not_ok "no line matches: $1"
}

until_true() { # COMMAND…, within 20 s
    local end=$((SECONDS + 20))
    until "$@"; do
        ((SECONDS < end)) || not_ok "still not true after 20 s: $*"
        read -rt 0.05 <> <(:) || true
    done
}

pid() { # of process $1
    fleet status --json | jq -r --arg name "$1" '.processes[] | select(.name == $name).pid'
}

names() { # of all shims and context builders that live
    fleet status --json | jq -r '[.processes[] | select(.alive and (.kind | IN("gateway", "context-builder"))).name]
        | join(" ")'
}

gone() {
    [[ ! -e /proc/$1 || $(sed 's/.*) //' "/proc/$1/stat" 2>/dev/null) == Z* ]]
}

url() {
    fleet status --json | jq -r .url
}

echo_call() { # at URL $1 with token $2
    curl -sS --fail --max-time 20 "$1/api/chat/echo" -H "Authorization: Bearer $2" \
        -H 'Content-Type: application/json' -d '{"message":"one"}'
}

programs_left() { # processes that run a binary of the copy
    readlink /proc/[0-9]*/exe | grep -F "$COPY/" || true
}

# ---- the tests, in the order of one life of a fleet ----

make_copy() {
    mkdir "$COPY"
    if git -C "$ROOT" rev-parse --git-dir >/dev/null 2>&1; then
        (cd "$ROOT" && git ls-files -z --cached --others --exclude-standard |
            tar -c --null --files-from=- --ignore-failed-read) | tar -x -C "$COPY"
    else
        tar -c -C "$ROOT" --exclude=./build --exclude=./.fleet --exclude=node_modules . | tar -x -C "$COPY"
    fi
}

test_wrong_usage() {
    expect 64 fleet nonsense
    (($(wc -l <"$OUT") == 1)) || not_ok "more than one line on an unknown command"
    contains 'no command "nonsense"'
    expect 64 fleet
    expect 64 fleet up now
    expect 64 fleet scale nobody=1
    contains 'kinds are: gateway .*context-builder'
    expect 64 fleet scale gateway=65
    expect 64 fleet scale gateway=-1
    expect 64 fleet scale gateway
    expect 64 fleet logs --bogus
    expect 64 fleet chat
    expect 64 fleet chat -5
    expect 64 fleet chat Hello --conversation ../echo
    contains 'a UUID, not "../echo"'
    expect 1 fleet chat --conversation "$WITNESS" -- -5
    contains 'not up'
    expect 0 fleet help
    for command in up down status scale restart logs env token chat test bench servers chaos fuzz broker database redis help; do
        expect 0 fleet "$command" --help
        contains "^Usage: "
    done
    ok "wrong usage is told in one line, every command has --help"
}

test_not_up() {
    expect 1 fleet status
    expect 1 fleet scale gateway=1
    contains 'not up'
    expect 1 fleet env
    expect 0 fleet down
    ok "commands say that the fleet is not up"
}

test_up() {
    expect 0 fleet up
    contains '^\[10/10\]'
    contains '^answered: .'
    # The line to paste works as it is printed.
    expect 0 bash -c "cd '$COPY' && $(grep '^  curl ' "$OUT")"
    contains '"A first conversation"'
    expect 0 fleet status
    expect 0 fleet status --json
    [[ $(jq -c '[.up, (.broker, .database, .redis | .private, .alive)]' "$OUT") == \
        '[true,true,true,true,true,true,true]' ]] || not_ok "status --json"
    ok "up ends with a real chat turn and a line to paste"
}

test_up_again() {
    local before started=$SECONDS
    before=$(pid gateway.1)
    expect 0 fleet up
    ((SECONDS - started <= 15)) || not_ok "up again took $((SECONDS - started)) s"
    [[ $(pid gateway.1) == "$before" ]] || not_ok "up again replaced a living process"
    fleet up >"$OUT" 2>&1 &
    fleet up >"$OUT.2" 2>&1
    wait $!
    [[ $(names) == 'gateway.1 context-builder.1' ]] || not_ok "after two at once there run: $(names)"
    ok "up again does no harm, two at once neither"
}

open_to_others() { # listeners on port $1 that are neither on 127.0.0.1 nor on ::1
    local hex
    printf -v hex '%04X' "$1"
    awk -v port=":$hex" '$4 == "0A" && $2 ~ port "$" && $2 != "0100007F" port &&
        $2 != "00000000000000000000000001000000" port { print $2 }' /proc/net/tcp /proc/net/tcp6
}

test_broker_is_private() {
    local port
    eval "$(fleet env)"
    expect 0 curl -sS --fail "$RABBITMQ_MANAGEMENT_URL/api/whoami"
    expect 22 curl -sS --fail -u guest:guest "${RABBITMQ_MANAGEMENT_URL%%//*}//${RABBITMQ_MANAGEMENT_URL##*@}/api/whoami"
    while read -r port; do
        [[ -z $(open_to_others "$port") ]] || not_ok "port $port is open: $(open_to_others "$port")"
    done < <(sed -n 's/^\(AMQP\|MANAGEMENT\|DISTRIBUTION\|EPMD\)_PORT=//p' "$COPY/.fleet/settings")
    expect 0 fleet broker ctl list_users
    ! grep -q guest "$OUT" || not_ok "there is a user guest"
    [[ $(stat -c %a "$COPY/.fleet/settings") == 600 ]] || not_ok "the secrets are not private"
    forget_env
    ok "the broker is on loopback, without a guest"
}

forget_env() {
    unset CHATFLEET_HOME CHATFLEET_URL RABBITMQ_URL RABBITMQ_MANAGEMENT_URL DATABASE_URL \
        DATABASE_ADMIN_URL REDIS_URL AUTH_AUTO_PROVISION JWT_SECRET INTERNAL_SERVICE_KEY
}

WITNESS=00000000-0000-4000-8000-000000000001 # a user whom nobody else makes

witness_lives() {
    [[ $(fleet database psql -qAtc "SELECT count(*) FROM auth.users WHERE id = '$WITNESS'") == 1 ]]
}

test_database_is_private() {
    local port
    eval "$(fleet env)"
    port=$(sed -n 's/^DATABASE_PORT=//p' "$COPY/.fleet/settings")
    [[ -z $(open_to_others "$port") ]] || not_ok "port $port is open: $(open_to_others "$port")"
    expect 0 psql "$DATABASE_URL" -Atc 'SELECT current_user, chat.worker_role_fault() IS NULL'
    contains '^chatfleet[|]t$'
    expect 2 psql "${DATABASE_URL/:*@/:wrong@}" -c 'SELECT 1'
    expect 2 psql "${DATABASE_ADMIN_URL/:*@/@}" --no-password -c 'SELECT 1'
    expect 0 "$COPY/build/release/chatfleet" schema status
    expect 0 fleet database psql -c 'SHOW fsync' -c 'SHOW synchronous_commit' -At
    [[ $(<"$OUT") == $'on\non' ]] || not_ok "commits are not safe: $(<"$OUT")"
    tr '\0' '\n' <"/proc/$(pid persistence.1)/environ" >"$OUT"
    contains "^DATABASE_URL=$DATABASE_URL$"
    ! grep -q DATABASE_ADMIN_URL "$OUT" || not_ok "a process has the administrator's URL"
    forget_env
    ok "the database is on loopback, behind passwords, and processes are no administrators"
}

is_up() {
    fleet status >"$OUT" 2>&1
}

test_database_restart() {
    local before
    expect 0 fleet database psql -c "INSERT INTO auth.users VALUES ('$WITNESS')"
    expect 0 fleet database restart
    witness_lives || not_ok "a restart lost what was written"
    until_true is_up # persistence has its connections again
    before=$(fleet status --json | jq .database.pid)
    kill -9 "$before"
    until_true gone "$before"
    expect 1 fleet status
    contains '^PostgreSQL +down'
    expect 0 fleet up
    expect 0 fleet status
    witness_lives || not_ok "a crash lost what was written"
    expect 64 fleet database
    expect 64 fleet database vacuum
    ok "the database keeps what was written over a restart and a crash"
}

test_dead_worker() {
    local before
    before=$(pid context-builder.1)
    kill -9 "$before"
    until_true gone "$before"
    expect 1 fleet status
    contains '^context-builder.1 .* dead '
    expect 0 fleet up
    [[ $(pid context-builder.1) != "$before" ]] || not_ok "nothing new was started"
    expect 0 fleet status
    ok "up starts again what died"
}

work_queues() { # those of which status knows how many dead letters they have
    fleet status --json | jq -r '[.queues[] | select(.dead == 0).queue] | join(" ")'
}

shows_queues() {
    [[ $(work_queues) == "$1" ]]
}

test_scale() {
    local before='context-builder inference persistence persistence.commit persistence.read'
    expect 0 fleet scale gateway=2 context-builder=3
    [[ $(names) == 'gateway.1 gateway.2 context-builder.1 context-builder.2 context-builder.3' ]] ||
        not_ok "after scaling up there run: $(names)"
    kill -9 "$(pid context-builder.2)"
    expect 0 fleet scale context-builder=3
    expect 0 fleet status
    expect 0 fleet scale context-builder=1
    [[ $(names) == 'gateway.1 gateway.2 context-builder.1' ]] ||
        not_ok "after scaling down there run: $(names)"
    expect 0 fleet scale gateway=0 inference=0
    until_true shows_queues "$before" # the broker counts new queues after some seconds
    expect 7 curl -sS "$(url)" # refused: nobody listens
    expect 0 fleet scale gateway=2 inference=1
    ok "scale starts, drains from the highest number, starts again what died"
}

dead_letters() { # of inference: how many, and how many of them a tool holds
    [[ $(fleet status --json | jq -r '.queues[] | select(.queue == "inference") | "\(.dead) \(.dead_held)"') == "$1" ]]
}

test_held_dead_letters() {
    local tool=$COPY/build/release/chatfleet id=7003de2a-7567-52d8-8709-bd77359c0acd answers
    eval "$(fleet env)"
    printf '{"id":"%s","queue":"inference","properties":{},"headers":[["x-dead-letter-id","S","%s"]],"body":""}' \
        "$id" "$id" >"$WORK/letter"
    expect 0 "$tool" dlq import "$WORK/letter"
    mkfifo "$WORK/answers"
    exec {answers}<>"$WORK/answers"
    script -qec "'$tool' dlq drop --id $id" /dev/null <&"$answers" >"$WORK/question" 2>&1 & # holds it while it asks
    BYSTANDER=$!
    forget_env # else status takes these servers for ones of somebody's own
    until_true grep -q 'Drop this letter for good' "$WORK/question"
    until_true dead_letters '1 1' # the broker counts every five seconds
    expect 0 fleet status
    contains '^inference .* 1, 1 of them held by a tool'
    echo yes >&"$answers"
    wait "$BYSTANDER" || not_ok "drop: $(<"$WORK/question")"
    BYSTANDER=''
    exec {answers}>&-
    until_true dead_letters '0 0'
    ok "status counts dead letters that a tool holds"
}

# A pid that the kernel has given to somebody else is not ours.
test_recycled_pid() {
    tail -f /dev/null &
    BYSTANDER=$!
    echo "$BYSTANDER 1 $(</proc/sys/kernel/random/boot_id)" >"$COPY/.fleet/run/context-builder.2.pid"
    expect 0 fleet scale context-builder=1
    ! gone "$BYSTANDER" || not_ok "a process of somebody else was ended"
    kill "$BYSTANDER"
    BYSTANDER=''
    ok "a recycled pid is left alone"
}

traffic() { # one connection a call until $WORK/stop exists; failures go to $WORK/failures
    while [[ ! -e $WORK/stop ]]; do
        echo_call "$1" "$2" >/dev/null 2>>"$WORK/failures" || echo failed >>"$WORK/failures"
        echo >>"$WORK/calls"
    done
}

enough_calls() {
    (($(wc -l <"$WORK/calls") >= $1))
}

test_rolling_restart() {
    local before after client clients=()
    : >"$WORK/failures"
    : >"$WORK/calls"
    before=$(fleet status --json | jq -c '[.processes[].pid]')
    for client in 1 2 3 4; do
        traffic "$(url)" "$(fleet token --user "$client")" &
        clients+=($!)
    done
    until_true enough_calls 10
    expect 0 fleet restart
    until_true enough_calls $(($(wc -l <"$WORK/calls") + 10))
    touch "$WORK/stop"
    wait "${clients[@]}"
    [[ ! -s $WORK/failures ]] || not_ok "clients saw: $(sort "$WORK/failures" | uniq -c)"
    after=$(fleet status --json | jq -c '[.processes[].pid]')
    [[ $(jq -nc "$before - $after") == "$before" ]] || not_ok "not all were replaced: $before, $after"
    expect 0 fleet status
    ok "a rolling restart of all is not seen by $(wc -l <"$WORK/calls") calls"
}

queued_at() { # is there a client whose connection waits in the queue of port $1?
    local hex
    printf -v hex '%04X' "$1"
    awk -v port=":$hex" '$4 == "01" && $2 ~ port "$" { found = 1 } END { exit !found }' /proc/net/tcp
}

test_socket_outlives_shims() {
    local client where token
    where=$(url) token=$(fleet token)
    expect 0 fleet scale gateway=1
    kill -9 "$(pid gateway.1)"
    echo_call "$where" "$token" >"$OUT.client" 2>&1 &
    client=$!
    until_true queued_at "${where##*:}"
    expect 0 fleet up
    wait "$client" || not_ok "the connection was lost: $(cat "$OUT.client")"
    ok "a connection made while no shim lived is answered by the next one"
}

listens_on() {
    (: <>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

said_to_wait() {
    grep -q "port $1 is taken" "$OUT.wait"
}

# While the fleet is up, its servers do not move from a port that somebody takes in the gap.
test_broker_restart() {
    local before port starting
    before=$(pid gateway.1)
    port=$(sed -n 's/^AMQP_PORT=//p' "$COPY/.fleet/settings")
    expect 0 fleet broker stop
    node -e 'require("net").createServer().listen(+process.argv[1], "127.0.0.1")' "$port" &
    BYSTANDER=$!
    until_true listens_on "$port"
    fleet broker start >"$OUT.wait" 2>&1 &
    starting=$!
    until_true said_to_wait "$port"
    kill "$BYSTANDER"
    BYSTANDER=''
    wait "$starting" || not_ok "the broker did not start when its port was free again"
    [[ $(sed -n 's/^AMQP_PORT=//p' "$COPY/.fleet/settings") == "$port" ]] || not_ok "the broker has moved"
    expect 0 fleet up
    [[ $(pid gateway.1) == "$before" ]] || not_ok "the shim did not survive"
    ok "the broker can be stopped and started under the fleet, and waits for its port"
}

test_own_settings() {
    printf '# mine\nLOG_LEVEL="debug"\n' >"$COPY/.fleet/env"
    expect 0 fleet restart context-builder
    tr '\0' '\n' <"/proc/$(pid context-builder.1)/environ" | grep -qx 'LOG_LEVEL=debug' ||
        not_ok "the settings of the env file do not arrive"
    expect 0 fleet logs context-builder -n 1
    echo 'not a setting' >"$COPY/.fleet/env"
    expect 1 fleet up
    contains 'line 1'
    rm "$COPY/.fleet/env"
    ok "settings come from the env file"
}

shared() { # as the inference worker says
    [[ $(curl -sS "http://$(fleet status --json | jq -r '.processes[] | select(.name == "inference.1").admin')/health" |
        jq .dependencies.redis.shared) == "$1" ]]
}

test_redis() {
    local port before
    port=$(sed -n 's/^REDIS_PRIVATE_PORT=//p' "$COPY/.fleet/settings")
    [[ -z $(open_to_others "$port") ]] || not_ok "port $port is open: $(open_to_others "$port")"
    expect 0 redis-cli -p "$port" KEYS '*'
    contains NOAUTH
    until_true shared true
    before=$(fleet status --json | jq .redis.pid)
    kill -9 "$before"
    until_true gone "$before"
    until_true shared false
    expect 1 fleet status
    contains '^Redis +down'
    expect 0 fleet chat 'still there?'
    expect 0 fleet up
    expect 0 fleet status
    until_true shared true
    expect 0 fleet redis restart
    expect 0 fleet redis cli PING
    contains '^PONG$'
    expect 64 fleet redis
    expect 64 fleet redis flush
    ok "Redis is on loopback, behind a password, and not needed for answers"
}

steps_seen() {
    grep -Fq "$1" "$OUT.other"
}

# Another database of the same server, named to the other fleet: first without its administrator.
named_database() {
    expect 0 fleet database psql -c 'CREATE DATABASE second'
    eval "$(fleet env | grep DATABASE)"
    export DATABASE_URL=${DATABASE_URL%/*}/second
    local admin=${DATABASE_ADMIN_URL%/*}/second
    unset DATABASE_ADMIN_URL
    expect 1 other up
    contains 'DATABASE_ADMIN_URL is not set'
    ! grep -qF "${DATABASE_URL#*chatfleet:}" "$OUT" || not_ok "a password is told"
    eval "$(fleet env | grep REDIS_URL)"
    export REDIS_URL=$REDIS_URL/1 # another database of the same server, too
    export DATABASE_ADMIN_URL=$admin AUTH_AUTO_PROVISION=true # nobody else fills its auth.users
}

test_beside_another() {
    local running
    FLEET_HOME=$OTHER "$COPY/fleet" up >"$OUT.other" 2>&1 & # not other(): the signal is for ./fleet
    running=$!
    until_true steps_seen '[3/10]'
    kill -TERM "$running"
    ! wait "$running" || not_ok "an interrupted up claims success"
    named_database
    expect 0 other up
    forget_env
    [[ $(FLEET_HOME=$OTHER "$COPY/fleet" status --json | jq -r .url) != "$(url)" ]] || not_ok "one port for two"
    expect 0 fleet up
    [[ $(FLEET_HOME=$OTHER "$COPY/fleet" status --json |
        jq -c '[.database, .redis | .private, .alive]') == '[false,true,false,true]' ]] ||
        not_ok "the database and the Redis that were named are not those in use"
    expect 64 other database
    expect 1 other database stop
    expect 0 other down --purge
    contains 'database .*/second is left as it is'
    [[ ! -e $OTHER ]] || not_ok "purge left something"
    expect 0 fleet status
    ok "another fleet comes, is interrupted, goes on and goes beside this one"
}

test_down() {
    local where broker database redis data
    where=$(url)
    broker=$(fleet status --json | jq .broker.pid)
    database=$(fleet status --json | jq .database.pid)
    redis=$(fleet status --json | jq .redis.pid)
    expect 0 fleet down
    [[ -z $(programs_left) ]] || not_ok "still running: $(programs_left)"
    gone "$broker" || not_ok "the broker still runs"
    gone "$database" || not_ok "the database still runs"
    gone "$redis" || not_ok "Redis still runs"
    expect 7 curl -sS "$where"
    expect 1 fleet status
    expect 0 fleet up
    [[ $(url) == "$where" ]] || not_ok "another port after down and up: $(url) for $where"
    witness_lives || not_ok "down lost what was written"
    data=$(sed -n 's/^DATABASE_DATA=//p' "$COPY/.fleet/settings")
    eval "$(fleet env)"
    expect 0 fleet down --purge
    [[ ! -e $COPY/.fleet && ! -e $data ]] || not_ok "purge left something"
    ok "down stops all, up comes back on the same port, purge removes all"
}

# The shell still has what ./fleet env said before the purge.
test_up_after_purge() {
    expect 0 fleet up
    [[ $(fleet status --json | jq -c '[.broker, .database, .redis | .private]') == '[true,true,true]' ]] ||
        not_ok "the purged servers were taken for others"
    forget_env
    ok "up does not look for private servers that were purged"
}

make_copy
test_wrong_usage
test_not_up
test_up
test_up_again
test_broker_is_private
test_database_is_private
test_dead_worker
test_scale
test_held_dead_letters
test_recycled_pid
test_rolling_restart
test_socket_outlives_shims
test_broker_restart
test_database_restart
test_redis
test_own_settings
test_beside_another
test_down
test_up_after_purge
