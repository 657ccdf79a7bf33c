# shellcheck shell=bash
# The private RabbitMQ of this fleet, with an epmd of its own; everything listens on 127.0.0.1.
# RABBITMQ_URL names a running broker instead; its management API, if it may be used, is then
# RABBITMQ_MANAGEMENT_URL (http://user:password@host:port).

BROKER_USER=chatfleet
BROKER_PROGRAMS=/usr/lib/rabbitmq/bin
BROKER_START_SECONDS=90
BROKER_STOP_SECONDS=60

# ---- which broker ----

broker_private_url() {
    printf 'amqp://%s:%s@127.0.0.1:%d' "$BROKER_USER" "$(setting BROKER_PASSWORD)" "$(setting AMQP_PORT)"
}

broker_looks_private() { # has the URL $1 the form of such a one, of whatever port and password?
    [[ $1 =~ ^amqp://"$BROKER_USER":[0-9a-f]{32}@127\.0\.0\.1:[0-9]+$ ]]
}

broker_url() {
    value_of "$RUN_DIR/broker" RABBITMQ_URL
}

broker_management_url() { # with login; nothing when it is not known
    value_of "$RUN_DIR/broker" RABBITMQ_MANAGEMENT_URL
}

broker_is_private() {
    local url
    url=$(broker_url)
    [[ -z $url || $url == "$(broker_private_url)" ]]
}

# Decide once per run of the fleet which broker serves it, and remember that.
broker_choose() {
    local named=${RABBITMQ_URL:-} known
    known=$(broker_url)
    if fleet_is_up && [[ -n $known ]]; then
        [[ -z $named || $named == "$known" ]] ||
            fail "the fleet runs on another broker than RABBITMQ_URL names: ./fleet down first"
    elif [[ -n $named && $named != "$(broker_private_url 2>/dev/null)" ]]; then
        {
            echo "RABBITMQ_URL=$named"
            echo "RABBITMQ_MANAGEMENT_URL=${RABBITMQ_MANAGEMENT_URL:-}"
        } | write_private "$RUN_DIR/broker"
    else
        rm -f -- "$RUN_DIR/broker"
    fi
}

broker_ensure() {
    broker_choose
    ! broker_is_private || broker_start
}

# ---- where it lives ----

# Run a command as the broker's user.
as_broker() {
    as_root setpriv --reuid rabbitmq --regid rabbitmq --init-groups "$@"
}

broker_data() {
    setting BROKER_DATA
}

# Its data stand under FLEET_HOME if its user gets there, else (a checkout in somebody's home)
# under /var/lib/chatfleet.
broker_make_data() {
    local data shared=/var/lib/chatfleet
    data=$(broker_data)
    if [[ -z $data ]]; then
        data=$FLEET_HOME/rabbitmq
        if ! as_broker test -x "$FLEET_HOME"; then
            data=$shared/$(fleet_hash)
            as_root install -d -m 711 "$shared"
        fi
        set_setting BROKER_DATA "$data"
    fi
    as_root install -d -m 700 -o rabbitmq -g rabbitmq "$data" "$data/conf.d"
}

broker_purge() {
    local data
    data=$(broker_data)
    [[ -n $data ]] || return 0
    [[ $data == "$FLEET_HOME/rabbitmq" || $data == /var/lib/chatfleet/?* ]] ||
        fail "$data does not look like a broker's data and is left alone"
    as_root rm -rf -- "$data"
    [[ $data != /var/lib/chatfleet/* ]] || as_root rmdir --ignore-fail-on-non-empty /var/lib/chatfleet
}

# ---- configuration ----

broker_configure() {
    server_port AMQP_PORT 5673 dialled
    server_port MANAGEMENT_PORT 15673 dialled
    server_port DISTRIBUTION_PORT 25673
    server_port EPMD_PORT 4370
    [[ -n $(setting BROKER_PASSWORD) ]] || set_setting BROKER_PASSWORD "$(random_hex 16)"
    [[ -n $(setting BROKER_COOKIE) ]] || set_setting BROKER_COOKIE "$(random_hex 16)"
    broker_make_data
    broker_file rabbitmq.conf <<CONF
listeners.tcp.1 = 127.0.0.1:$(setting AMQP_PORT)
management.tcp.ip = 127.0.0.1
management.tcp.port = $(setting MANAGEMENT_PORT)
cluster_name = chatfleet $FLEET_HOME
default_user = $BROKER_USER
default_pass = $(setting BROKER_PASSWORD)
default_user_tags.administrator = true
log.console = true
log.console.level = info
log.file = false
# A small write-ahead log keeps memory and the time of a restart small.
raft.wal_max_size_bytes = 67108864
CONF
    echo '[rabbitmq_management].' | broker_file enabled_plugins
    echo '[].' | broker_file advanced.config
    : | broker_file environment
    setting BROKER_COOKIE | broker_file .erlang.cookie
}

broker_file() { # $1 in its data, from what comes in
    as_root install -m 400 -o rabbitmq -g rabbitmq /dev/stdin "$(broker_data)/$1"
}

# The command "$@" as the broker's user, in its environment, and nothing of ours, into BROKER_COMMAND.
broker_command() {
    local data
    data=$(broker_data)
    BROKER_COMMAND=(setpriv --reuid rabbitmq --regid rabbitmq --init-groups
        env --ignore-environment --chdir="$data"
        PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8
        HOME="$data" ERL_EPMD_PORT="$(setting EPMD_PORT)" ERL_EPMD_ADDRESS=127.0.0.1
        RABBITMQ_NODENAME="chatfleet-$(fleet_hash)@localhost"
        RABBITMQ_DIST_PORT="$(setting DISTRIBUTION_PORT)"
        RABBITMQ_CONF_ENV_FILE="$data/environment" RABBITMQ_CONFIG_FILE="$data/rabbitmq.conf"
        RABBITMQ_CONFIG_FILES="$data/conf.d" RABBITMQ_ADVANCED_CONFIG_FILE="$data/advanced.config"
        RABBITMQ_ENABLED_PLUGINS_FILE="$data/enabled_plugins"
        RABBITMQ_MNESIA_BASE="$data/mnesia" RABBITMQ_LOG_BASE="$data/log" RABBITMQ_LOGS=-
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
        RABBITMQ_CTL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}"
        RUNNING_UNDER_SYSTEMD=true # no shell stays around the server
        "$@")
}

# ---- start and stop ----

broker_api() { # GET the path $1 of the management API
    local url
    url=$(broker_management_url)
    [[ -n $url ]] && curl --silent --fail --max-time 3 "${url%/}/api/$1"
}

broker_answers() {
    broker_api "health/checks/port-listener/$(setting AMQP_PORT)" >/dev/null
}

broker_answers_or_dead() {
    broker_answers || is_dead rabbitmq
}

broker_start() {
    local log
    log=$(log_of rabbitmq)
    if is_dead rabbitmq; then
        [[ -x $BROKER_PROGRAMS/rabbitmq-server ]] || fail "rabbitmq-server is not installed"
        broker_stop # an epmd of which the broker died
        broker_configure
        broker_command epmd -port "$(setting EPMD_PORT)" -address 127.0.0.1
        launch as_root epmd "$(log_of epmd)" "${BROKER_COMMAND[@]}"
        broker_command "$BROKER_PROGRAMS/rabbitmq-server"
        launch as_root rabbitmq "$log" "${BROKER_COMMAND[@]}"
    fi
    {
        echo "RABBITMQ_URL=$(broker_private_url)"
        echo "RABBITMQ_MANAGEMENT_URL=http://$BROKER_USER:$(setting BROKER_PASSWORD)@127.0.0.1:$(setting MANAGEMENT_PORT)"
    } | write_private "$RUN_DIR/broker"
    if ! wait_until "$BROKER_START_SECONDS" broker_answers_or_dead || is_dead rabbitmq; then
        step_break
        tail -n 15 -- "$log" >&2 || true
        fail "RabbitMQ did not start; its log: $log"
    fi
}

broker_stop() {
    signal_to rabbitmq TERM as_root
    await_end "$BROKER_STOP_SECONDS" as_root rabbitmq
    signal_to epmd TERM as_root
    await_end 5 as_root epmd
}

broker_restart() {
    if is_alive rabbitmq; then
        server_port_hold AMQP_PORT
        server_port_hold MANAGEMENT_PORT
    fi
    broker_stop
    broker_start
}

broker_ctl() {
    is_alive rabbitmq || fail "no private RabbitMQ runs here"
    broker_command "$BROKER_PROGRAMS/rabbitmqctl" "$@"
    as_root "${BROKER_COMMAND[@]}"
}
