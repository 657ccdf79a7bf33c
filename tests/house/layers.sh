#!/usr/bin/env bash
# Checks the rules of docs/ARCHITECTURE.md (Layers): what may know what. Prints each breach.
set -euo pipefail
cd "$(dirname "$0")/../.."
breaches=$(mktemp)
trap 'rm -f "$breaches"' EXIT

breach() { # RULE, and the places on standard input
    local places
    places=$(cat)
    [ -z "$places" ] || printf 'not allowed: %s\n%s\n' "$1" "$places" >>"$breaches"
}

code() { git ls-files --cached --others --exclude-standard -- "$@" | grep -E '\.[ch]$' || true; }
everything() { code common gateway-shim workers ctl tools; }

# Where a layer's files may include from; all else that is ours is a breach.
may_include() { # FOLDER, the allowed prefixes as a regular expression
    code "$1" | xargs -r grep -nE '#include "' | grep -vE "#include \"($2)" |
        breach "$1 includes from outside of its layer" || true
}

# A library's calls belong into one file (or the files of one prefix).
only_in() { # WHAT, the regular expression of the call, that of the files where it may stand
    everything | grep -vE "$3" | xargs -r grep -nE "$2" | breach "$1" || true
}

may_include common/base 'common/base/'
may_include common/io 'common/(base|io)/'
may_include common/chat 'common/(base|io|chat)/'
may_include common/worker 'common/'
may_include gateway-shim '(common|gateway-shim)/'
may_include ctl '(common|ctl)/'
for worker in workers/*/; do
    may_include "${worker%/}" "(common/|$worker)"
done

only_in 'rabbitmq-c outside common/io/amqp.c' '\bamqp_[a-z0-9_]+ *\(|<amqp' '^common/io/amqp\.c$'
only_in 'libpq outside common/io/pg*.c' '\bPQ[a-zA-Z]+ *\(|libpq-fe' '^common/io/pg[a-z_]*\.c$'
only_in 'libcurl outside common/io/http.c' '\bcurl_[a-z_]+ *\(|<curl/' '^common/io/http\.c$'
only_in 'hiredis outside common/io/redis.c' '\b(redis(Reader|Format|Free|Async|Command|Connect)[A-Za-z]*|freeReplyObject) *\(|hiredis/' \
    '^common/io/redis\.c$'
only_in 'libjwt outside common/io/token.c' '\bjwt_[a-z_]+ *\(|<jwt\.h' '^common/io/token\.c$'
only_in 'libevent outside common/io' '<event2?[/.]|\b(event_base|evhttp|bufferevent|evbuffer)_[a-z_]+ *\(' '^common/io/'
only_in 'the environment read outside configuration' '\bgetenv *\(' \
    '^common/base/(config|fault)\.c$|^common/io/notify\.c$'
only_in 'SQL outside persistence' '"(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE TABLE) ' \
    '^workers/persistence/|^ctl/(schema|dlq)'

code common/base common/io common/chat |
    xargs -r grep -nE 'worker_main|context-builder/' |
    grep -vE 'common/chat/(operations|topology)\.c' | breach 'common knows a worker' || true
code workers | xargs -r grep -nE '\b(mq_ack|mq_nack|sleep|usleep|nanosleep|exit|_exit|abort) *\(' |
    breach 'a handler that acks, sleeps or ends the process' || true
for main in workers/*/main.c gateway-shim/main.c; do
    lines=$(wc -l <"$main")
    [ "$lines" -lt 60 ] || echo "$main has $lines lines" | breach 'a main.c of 60 lines or more'
done
for folder in common/* gateway-shim workers/* ctl tests tests/* docs tools; do
    { [ -d "$folder" ] && [ ! -f "$folder/README.md" ] && [ -n "$(code "$folder")" ] &&
        echo "$folder"; } || true
done | breach 'a folder of code without a README.md'

cat "$breaches"
[ ! -s "$breaches" ] || exit 1
echo "the layers are kept"
