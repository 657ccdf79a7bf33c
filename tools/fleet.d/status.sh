# shellcheck shell=bash
# ./fleet status: what runs, from the records, the admin endpoints, the management API, pg_isready, a PING.

help_status() {
    cat <<'TEXT'
Usage: ./fleet status [--json]

Shows the broker, the database, Redis and each process that runs or should run: state (up; starting; unhealthy; dead),
pid, admin address, its first queue; then for each work queue of the broker, also of kinds of which
none runs, the messages that wait (ready), that workers hold (unacked), that wait for a retry, and the
dead letters (with those that a tool holds at the moment), as the management API counted them some seconds ago. Without that API these are the
queues of the processes, with "-" for the numbers. Exit code 0 when all that should run is up, else 1.
With --json:

  {"up": true, "url": "http://…" | null,
   "broker": {"private", "alive", "pid", "amqp", "management", "version"},
   "database": {"private", "alive", "pid", "address"}, "redis": {…the same…},
   "processes": [{"kind", "name", "pid", "state", "alive", "ready", "admin", "outdated",
                  "queue", "ready_messages", "unacked_messages"}],
   "queues": [{"queue", "ready", "unacked", "retrying", "dead", "dead_held"}]}

What is not known is null. "ready" says that the process's own /health is 200 at this moment.
TEXT
}

cmd_status() {
    local json
    [[ $# == 0 || $* == --json ]] || usage_error "status takes --json or nothing"
    [[ $(packages_missing curl jq) == '' ]] || fail "status needs curl and jq: ./fleet up installs them"
    json=$(status_json)
    if (($# == 1)); then
        printf '%s\n' "$json"
    else
        status_table "$json"
    fi
    jq --exit-status .up >/dev/null <<<"$json" || exit 1
}

broker_address() { # where AMQP is spoken, without the login
    local url
    url=$(broker_url)
    url=${url##*@}
    printf '%s' "${url#*://}"
}

# The answer to GET $1 of the management API, or null.
api_or_null() {
    broker_api "$1" || echo null
}

status_json() {
    local management vhost
    management=$(broker_management_url)
    vhost=$(broker_vhost)
    status_rows | jq --raw-input --slurp \
        --argjson wanted "$(fleet_is_up && echo true || echo false)" \
        --arg url "$(fleet_is_up && gateway_url)" \
        --argjson private "$(broker_is_private && echo true || echo false)" \
        --arg broker_pid "$(pid_of rabbitmq)" \
        --arg amqp "$(broker_address)" \
        --argjson database "$(status_database)" \
        --argjson redis "$(status_redis)" \
        --arg management "$(management_address "$management")" \
        --argjson overview "$(api_or_null 'overview?columns=rabbitmq_version')" \
        --argjson queues "$(api_or_null "queues/$vhost?columns=name,messages_ready,messages_unacknowledged")" \
        --arg prefix "${EXCHANGE_PREFIX:-chat}" \
        --arg health "$(status_health)" '
        def known: if . == "" then null else . end;
        def is_work: . as $name | any((".reply.", ".replay.", ".control.", ".dlq.tools"); . as $own | $name
            | startswith($prefix + $own)) or test("\\.retry\\.|\\.dlq$|^amq\\.") | not;
        ([$health | split("\n")[] | select(. != "") | split(" ") | {(.[0]): .[1]}] | add // {}) as $codes
        | (($queues // []) | map({(.name): .}) | add // {}) as $queues
        | [split("\n")[] | select(. != "") | split("\t")
            | {kind: .[0], name: .[1], pid: (.[2] | if . == "" then null else tonumber end),
               admin: (.[3] | known), outdated: (.[4] == "true"), queue: (.[5] | known)}
            | .alive = (.pid != null)
            | .ready = (.alive and .admin != null and $codes[.admin] == "200")
            | .state = (if .ready then "up" elif .alive | not then "dead"
                        elif .admin == null then "starting" else "unhealthy" end)
            | .ready_messages = $queues[.queue // ""].messages_ready
            | .unacked_messages = $queues[.queue // ""].messages_unacknowledged]
        | . as $processes
        | ([$processes[].queue // empty, ($queues | keys[] | select(is_work))] | unique | map({
            queue: .,
            ready: $queues[.].messages_ready,
            unacked: $queues[.].messages_unacknowledged,
            retrying: (. as $q | [$queues[] | select(.name | startswith($q + ".retry."))
                | .messages_ready] | if length == 0 then null else add end),
            dead: ($queues[. + ".dlq"]
                | if . == null then null else .messages_ready + .messages_unacknowledged end),
            dead_held: $queues[. + ".dlq"].messages_unacknowledged})) as $work
        | {private: $private,
           alive: (if $overview != null then true elif $private or $management != "" then false
                   else null end),
           pid: ($broker_pid | if $private and . != "" then tonumber else null end),
           amqp: ($amqp | known), management: ($management | known),
           version: $overview.rabbitmq_version} as $broker
        | {up: ($wanted and $broker.alive != false and $database.alive != false
                and ($redis.alive != false or ($redis.private | not))
                and ($processes | all(.ready))),
           url: ($url | known), broker: $broker, database: $database, redis: $redis, processes: $processes,
           queues: $work}'
}

status_database() { # whether it accepts connections, as JSON; null before one is chosen
    local address pid alive=false
    address=$(database_address)
    if [[ -z $address ]]; then
        alive=null
    elif pg_isready --quiet --timeout=3 --dbname="postgresql://$address"; then
        alive=true
    fi
    pid=$(database_is_private && pid_of postgresql) || true
    jq --null-input --compact-output --arg address "$address" --argjson alive "$alive" --arg pid "$pid" \
        --argjson private "$(database_is_private && echo true || echo false)" \
        '{$private, $alive, pid: (if $pid == "" then null else $pid | tonumber end),
          address: (if $address == "" then null else $address end)}'
}

management_address() { # the URL $1 without the login
    [[ $1 == *@* ]] && printf '%s://%s' "${1%%://*}" "${1##*@}" || printf '%s' "$1"
}

broker_vhost() { # as the path of a URL, percent-encoded
    local path
    path=$(broker_address)
    [[ $path == */?* ]] && path=${path#*/} && printf '%s' "${path%%\?*}" || printf '%%2F'
}

# A line for each process: kind, name, pid, admin address, whether outdated, queue, with tabs between.
status_rows() {
    local kind name
    for kind in "${KINDS[@]}"; do
        while read -r name; do
            printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$kind" "$name" "$(pid_of "$name")" \
                "$(admin_of "$name")" "$(is_outdated "$name" && echo true)" "$(kind_queue "$kind")"
        done < <(wanted_or_recorded "$kind")
    done
}

wanted_or_recorded() { # the names of kind $1
    {
        names_of "$1"
        seq --format="$1.%.0f" 1 "$(wanted "$1")"
    } | sort -t. -k2n -u
}

# Ask all admin endpoints at the same time: "HOST:PORT CODE" lines.
status_health() {
    local name address asked=()
    while read -r name; do
        address=$(admin_of "$name")
        [[ -z $address ]] || asked+=(--output /dev/null "http://$address/health")
    done < <(all_names)
    ((${#asked[@]} > 0)) || return 0
    curl --silent --parallel --parallel-immediate --max-time 3 \
        --write-out '%{url_effective} %{http_code}\n' "${asked[@]}" 2>/dev/null |
        sed 's|^http://||; s|/health||' || true
}

status_table() {
    local format='%-20s %8s  %-10s %-22s %s\n' queues='%-20s %8s  %-10s %-10s %s\n' row
    # shellcheck disable=SC2059
    {
        printf "$format" PROCESS PID STATE ADMIN QUEUE
        while IFS=$'\t' read -ra row; do
            printf "$format" "${row[@]}"
        done < <(jq --raw-output '.processes[] | [.name, .pid, .state, .admin, .queue]
            | map(. // "-") | @tsv' <<<"$1")
        echo
        printf "$queues" QUEUE READY UNACKED RETRYING "DEAD LETTERS"
        while IFS=$'\t' read -ra row; do
            printf "$queues" "${row[@]}"
        done < <(jq --raw-output '.queues[] | [.queue, .ready, .unacked, .retrying,
            if (.dead_held // 0) > 0 then "\(.dead), \(.dead_held) of them held by a tool" else .dead end]
            | map(. // "-") | @tsv' <<<"$1")
    }
    echo
    jq --raw-output '.url // "not up: ./fleet up starts it" | "HTTP interface  \(.)"' <<<"$1"
    jq --raw-output '.broker | "RabbitMQ        \(if .alive then "up" elif .alive == null then "unknown" else "down" end)"
        + "  \(.amqp // "")" + (if .management then "  management \(.management)" else "" end)
        + (if .version then "  version \(.version)" else "" end)' <<<"$1"
    jq --raw-output '.database | "PostgreSQL      \(if .alive then "up" elif .alive == null then "unknown" else "down" end)"
        + "  \(.address // "")"' <<<"$1"
    jq --raw-output '.redis | "Redis           \(if .alive then "up" elif .alive == null then "unknown" else "down" end)"
        + "  \(.address // "")"' <<<"$1"
    jq --raw-output 'select(any(.processes[]; .state == "dead"))
        | "Some should run and do not: ./fleet up starts them."' <<<"$1"
    jq --raw-output 'select(any(.processes[]; .outdated))
        | "Some run an older build than build/release: ./fleet restart takes the new one."' <<<"$1"
}
