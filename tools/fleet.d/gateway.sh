# shellcheck shell=bash
# The listening socket that the shims share, and calls to them.

GATEWAY_SOCKET=gateway.sock # in RUN_DIR
KEEPER=gateway.keeper

keeper_start() {
    local port=${PORT:-$(setting PORT)} address=${BIND_ADDRESS:-127.0.0.1} asked log left
    is_dead "$KEEPER" || return 0
    # Shims of a keeper that was killed still hold its socket, and with it the port.
    mapfile -t left < <(names_of gateway)
    stop_processes "${left[@]}"
    if [[ ! $port =~ ^[0-9]{0,5}$ ]] || ((10#${port:-0} > 65535)); then
        fail "PORT is a number from 0 to 65535, not \"$port\""
    fi
    ((port)) || port=3006
    asked=$port
    free_port port "$asked"
    ((port == asked)) || warn "port $asked is taken by somebody else; the fleet listens on $port"
    log=$(log_of "$KEEPER")
    (
        cd -- "$RUN_DIR"
        launch env "$KEEPER" "$log" "$BIN_DIR/chatfleet-socket" hold "$GATEWAY_SOCKET" "$address" "$port"
    ) || exit 1
    wait_until 5 keeper_answers_or_dead || true
    if is_dead "$KEEPER"; then
        step_break
        tail -n 2 -- "$log" >&2
        fail "the listening socket could not be made"
    fi
    set_setting PORT "$port"
    set_setting BIND_ADDRESS "$address"
}

keeper_answers_or_dead() {
    (cd -- "$RUN_DIR" && "$BIN_DIR/chatfleet-socket" exec "$GATEWAY_SOCKET" true) 2>/dev/null ||
        is_dead "$KEEPER"
}

keeper_stop() {
    signal_to "$KEEPER" TERM
    await_end 5 env "$KEEPER"
}

gateway_url() {
    local host
    host=$(setting BIND_ADDRESS)
    case ${host:-127.0.0.1} in
        0.0.0.0) host=127.0.0.1 ;;
        ::) host='[::1]' ;;
        *:*) host="[$host]" ;;
    esac
    printf 'http://%s:%d' "${host:-127.0.0.1}" "$(setting PORT)"
}

issue_token() {
    [[ -n $(setting JWT_SECRET) ]] || fail "there is no secret to sign with yet: ./fleet up makes it"
    JWT_SECRET=$(setting JWT_SECRET) "$BIN_DIR/chatfleet" token "$@"
}
