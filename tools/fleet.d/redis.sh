# shellcheck shell=bash
# The private Redis of this fleet, on 127.0.0.1. REDIS_URL (or REDIS_HOST and REDIS_PORT) names a running
# one instead. The fleet works without, too: then each inference worker takes its part of the limits.

REDIS_START_SECONDS=20
REDIS_STOP_SECONDS=20

# ---- which one ----

redis_private_url() {
    printf 'redis://:%s@127.0.0.1:%d' "$(setting REDIS_PASSWORD)" "$(setting REDIS_PRIVATE_PORT)"
}

redis_looks_private() { # has the URL $1 the form of such a one, of whatever port and password?
    [[ $1 =~ ^redis://:[0-9a-f]{32}@127\.0\.0\.1:[0-9]+$ ]]
}

redis_url() {
    value_of "$RUN_DIR/redis" REDIS_URL
}

redis_is_private() {
    local url
    url=$(redis_url)
    [[ -z $url || $url == "$(redis_private_url)" ]]
}

redis_named() { # by the environment
    if [[ -n ${REDIS_URL:-} || -z ${REDIS_HOST:-} ]]; then
        printf '%s' "${REDIS_URL:-}"
    else
        printf 'redis://%s:%s' "$REDIS_HOST" "${REDIS_PORT:-6379}"
    fi
}

# Decide once per run of the fleet which one serves it, and remember that.
redis_choose() {
    local named known
    named=$(redis_named) known=$(redis_url)
    if fleet_is_up && [[ -n $known ]]; then
        [[ -z $named || $named == "$known" ]] ||
            fail "the fleet runs on another Redis than REDIS_URL names: ./fleet down first"
    elif [[ -n $named && $named != "$(redis_private_url 2>/dev/null)" ]]; then
        echo "REDIS_URL=$named" | write_private "$RUN_DIR/redis"
    else
        rm -f -- "$RUN_DIR/redis"
    fi
}

redis_ensure() {
    redis_choose
    ! redis_is_private || redis_start
}

# HOST:PORT[/DATABASE] of the one in use, or of the URL $1: without the login.
redis_address() {
    local url=${1:-$(redis_url)}
    url=${url#*://}
    printf '%s' "${url##*@}"
}

# ---- where it lives ----

redis_data() {
    setting REDIS_DATA
}

as_redis() {
    as_root setpriv --reuid redis --regid redis --init-groups "$@"
}

# Its data stand under FLEET_HOME if its user gets there, else under /var/lib/chatfleet.
redis_make_data() {
    local data shared=/var/lib/chatfleet
    data=$(redis_data)
    if [[ -z $data ]]; then
        data=$FLEET_HOME/redis
        if ! as_redis test -x "$FLEET_HOME"; then
            data=$shared/$(fleet_hash)-redis
            as_root install -d -m 711 "$shared"
        fi
        set_setting REDIS_DATA "$data"
    fi
    as_root install -d -m 700 -o redis -g redis "$data"
}

redis_purge() {
    local data
    data=$(redis_data)
    [[ -n $data ]] || return 0
    [[ $data == "$FLEET_HOME/redis" || $data == /var/lib/chatfleet/?*-redis ]] ||
        fail "$data does not look like the data of a Redis and is left alone"
    as_root rm -rf -- "$data"
    [[ $data != /var/lib/chatfleet/* ]] || as_root rmdir --ignore-fail-on-non-empty /var/lib/chatfleet
}

redis_configure() {
    server_port REDIS_PRIVATE_PORT 6380 dialled
    [[ -n $(setting REDIS_PASSWORD) ]] || set_setting REDIS_PASSWORD "$(random_hex 16)"
    redis_make_data
    redis_settings | as_root install -m 600 -o redis -g redis /dev/stdin "$(redis_data)/redis.conf"
}

# What counts in it survives a crash of the server; nothing is evicted to make room.
redis_settings() {
    cat <<CONF
bind 127.0.0.1
port $(setting REDIS_PRIVATE_PORT)
requirepass $(setting REDIS_PASSWORD)
dir $(redis_data)
appendonly yes
save ""
maxmemory 64mb
maxmemory-policy noeviction
CONF
}

# ---- start and stop ----

redis_cli() { # with the login in its environment, where others cannot see it
    REDISCLI_AUTH=$(setting REDIS_PASSWORD) redis-cli -h 127.0.0.1 \
        -p "$(setting REDIS_PRIVATE_PORT)" "$@"
}

redis_answers() {
    [[ $(redis_cli PING 2>/dev/null) == PONG ]]
}

redis_answers_or_dead() {
    redis_answers || is_dead redis
}

redis_start() {
    local log data
    log=$(log_of redis)
    if is_dead redis; then
        redis_configure
        data=$(redis_data)
        launch as_root redis "$log" setpriv --reuid redis --regid redis --init-groups \
            env --ignore-environment --chdir="$data" PATH=/usr/bin:/bin \
            /usr/bin/redis-server "$data/redis.conf"
    fi
    if ! wait_until "$REDIS_START_SECONDS" redis_answers_or_dead || is_dead redis; then
        step_break
        tail -n 15 -- "$log" >&2 || true
        fail "Redis did not start; its log: $log"
    fi
    echo "REDIS_URL=$(redis_private_url)" | write_private "$RUN_DIR/redis"
}

redis_stop() {
    signal_to redis TERM as_root
    await_end "$REDIS_STOP_SECONDS" as_root redis
}

redis_restart() {
    is_dead redis || server_port_hold REDIS_PRIVATE_PORT
    redis_stop
    redis_start
}

# ---- status ----

# Does one answer at the address in use, whoever may log in there?
redis_is_reachable() {
    local address
    address=$(redis_address)
    address=${address%%/*}
    [[ $address == *:* ]] || address+=:6379
    timeout 3 bash -c 'exec 3<>"/dev/tcp/${1%:*}/${1##*:}" && printf "PING\r\n" >&3 &&
        read -r -t 2 said <&3 && [[ $said == [+-]* ]]' - "$address" 2>/dev/null
}

status_redis() { # as JSON; alive is null before one is chosen
    local address pid alive=false
    address=$(redis_address)
    if [[ -z $address ]]; then
        alive=null
    elif redis_is_reachable; then
        alive=true
    fi
    pid=$(redis_is_private && pid_of redis) || true
    jq --null-input --compact-output --arg address "$address" --argjson alive "$alive" --arg pid "$pid" \
        --argjson private "$(redis_is_private && echo true || echo false)" \
        '{$private, $alive, pid: (if $pid == "" then null else $pid | tonumber end),
          address: (if $address == "" then null else $address end)}'
}
