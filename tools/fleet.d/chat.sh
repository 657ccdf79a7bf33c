# shellcheck shell=bash
# Chat turns from the command line: ./fleet chat, and the one that ends ./fleet up.

CHAT_USER=fleet # whose conversations these are
CHAT_QUESTION='Which careers suit somebody who likes to build things?'

help_chat() {
    cat <<'TEXT'
Usage: ./fleet chat [--conversation ID] [--] TEXT

Sends TEXT as a message and prints the answer while it comes. Without --conversation a new one is
made. The last line, on standard error, is the command that goes on in the same conversation.
A TEXT that begins with "-" stands after "--".
TEXT
}

cmd_chat() {
    local texts=() text id=''
    while (($# > 0)); do
        case $1 in
            --conversation)
                is_uuid "${2:-}" || usage_error "--conversation takes the ID of one, a UUID, not \"${2:-}\""
                id=$2
                shift
                ;;
            --)
                texts+=("${@:2}")
                break
                ;;
            -*) usage_error "chat does not know $1; a TEXT that begins with \"-\" stands after --" ;;
            *) texts+=("$1") ;;
        esac
        shift
    done
    ((${#texts[@]} <= 1)) || usage_error "chat takes one TEXT: put quotes around it"
    text=${texts[0]:-}
    [[ -n $text ]] || usage_error "chat takes a TEXT"
    require_up
    if [[ -z $id ]]; then
        chat_begin "${text:0:80}" || fail "no conversation could be made: $CHAT_PROBLEM"
        id=$CHAT_ID
    fi
    chat_stream "$id" "$text"
    printf '(./fleet chat TEXT --conversation %s goes on)\n' "$id" >&2
}

# curl the path $1 below /api/chat with the options "$2…". The token is not seen among processes.
chat_api() {
    local path=$1 token
    shift
    token=$(issue_token --user "$CHAT_USER")
    curl --silent --show-error --max-time 90 \
        --config <(printf 'header = "Authorization: Bearer %s"\n' "$token") \
        --header 'Content-Type: application/json' "$@" "$(gateway_url)/api/chat$path" 2>&1
}

# Make a conversation with the title $1: its id into CHAT_ID, or why not into CHAT_PROBLEM.
chat_begin() {
    local answer
    answer=$(chat_api /conversations --data "$(jq -cn --arg title "$1" '{$title}')") || true
    CHAT_ID=$(jq -r '.id // empty' 2>/dev/null <<<"$answer") || true
    CHAT_PROBLEM=$(jq -r '.detail // empty' 2>/dev/null <<<"$answer") || true
    CHAT_PROBLEM=${CHAT_PROBLEM:-$answer}
    [[ -n $CHAT_ID ]]
}

chat_body() {
    jq -cn --arg content "$1" '{$content}'
}

# Send $2 to the conversation $1 and print what comes, as it comes. An error that comes before the
# stream is a JSON object alone.
chat_stream() {
    chat_api "/conversations/$1/messages" --no-buffer --header 'Accept: text/event-stream' \
        --data "$(chat_body "$2")" |
        jq --raw-input --raw-output --join-output --unbuffered '
            if startswith("data: ") then .[6:] elif startswith("{") or startswith("curl: ") then .
            else empty end
            | (fromjson? // {detail: .})
            | if .text and .offset == null then "(\(.text))\n"
              elif .text then .text
              elif .epoch then "\n(begun anew)\n"
              elif .detail then "\nfleet: \(.detail)\n" | halt_error(1)
              elif .usage then "\n"
              else empty end' || exit 1
}

# One whole turn in a conversation of its own: its answer into TURN_ANSWER and TURN_MODEL, or why not
# into TURN_PROBLEM.
chat_turn() {
    local answer
    chat_begin 'A first conversation' || {
        TURN_PROBLEM=$CHAT_PROBLEM
        return 1
    }
    answer=$(chat_api "/conversations/$CHAT_ID/messages" --data "$(chat_body "$CHAT_QUESTION")") || true
    TURN_ANSWER=$(jq -r '.assistant_message.content // empty' 2>/dev/null <<<"$answer") || true
    TURN_MODEL=$(jq -r '.usage.model // empty' 2>/dev/null <<<"$answer") || true
    TURN_PROBLEM=$(jq -r '.detail // empty' 2>/dev/null <<<"$answer") || true
    TURN_PROBLEM=${TURN_PROBLEM:-$answer}
    [[ -n $TURN_ANSWER ]]
}
