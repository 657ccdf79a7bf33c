#!/usr/bin/env bash
# Makes what is missing of compose/secrets: random passwords, and the URLs that contain them. What is
# there stays. Keys to models are taken from OPENROUTER_API_KEY and OPENAI_API_KEY, else left empty.
set -euo pipefail
cd "$(dirname "$0")"
umask 022 # the containers' user reads the files; the folder keeps everybody else of this machine out
mkdir -p secrets
chmod 700 secrets

random() {
    od -An -N24 -tx1 /dev/urandom | tr -d ' \n'
}

keep() { # FILE VALUE
    [[ -e secrets/$1 ]] || printf '%s\n' "$2" >"secrets/$1"
}

keep RABBITMQ_PASSWORD "$(random)"
keep POSTGRES_PASSWORD "$(random)"
keep WORKER_PASSWORD "$(random)"
keep REDIS_PASSWORD "$(random)"
keep JWT_SECRET "$(random)"
keep INTERNAL_SERVICE_KEY "$(random)"
keep OPENROUTER_API_KEY "${OPENROUTER_API_KEY:-}"
keep OPENAI_API_KEY "${OPENAI_API_KEY:-}"
keep RABBITMQ_URL "amqp://chatfleet:$(<secrets/RABBITMQ_PASSWORD)@rabbitmq:5672/"
keep DATABASE_URL "postgresql://chatfleet:$(<secrets/WORKER_PASSWORD)@postgres:5432/chatfleet"
keep DATABASE_ADMIN_URL "postgresql://postgres:$(<secrets/POSTGRES_PASSWORD)@postgres:5432/chatfleet"
keep REDIS_URL "redis://:$(<secrets/REDIS_PASSWORD)@redis:6379"
keep redis.conf "requirepass $(<secrets/REDIS_PASSWORD)
dir /data
appendonly yes
save \"\"
maxmemory 64mb
maxmemory-policy noeviction"
keep rabbitmq.conf "default_user = chatfleet
default_pass = $(<secrets/RABBITMQ_PASSWORD)"
