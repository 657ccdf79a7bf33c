#!/usr/bin/env bash
# Checks compose/: the compose client understands the file, and it says what a fleet needs.
set -euo pipefail
cd "$(dirname "$0")/../.."
failed=0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

complain() {
    printf '%s\n' "$@"
    failed=1
}

# In a copy, since the secrets that the file names have to be there.
cp -r compose "$folder/"
rm -rf "$folder/compose/secrets"
"$folder/compose/secrets.sh"
before=$(cat "$folder"/compose/secrets/* | cksum)
"$folder/compose/secrets.sh"
[[ $(cat "$folder"/compose/secrets/* | cksum) == "$before" ]] || complain "secrets.sh changes what is there"
[[ $(stat -c %a "$folder/compose/secrets") == 700 ]] || complain "compose/secrets is open to others"

docker-compose --project-directory "$folder/compose" --file "$folder/compose/compose.yaml" config \
    >"$folder/config" 2>"$folder/said" || complain "docker-compose config fails:" "$(cat "$folder/said")"
[[ ! -s $folder/said ]] || complain "docker-compose config: $(cat "$folder/said")"

for kind in $(sed -n 's/^KINDS=(\(.*\))$/\1/p' tools/fleet.d/processes.sh); do
    grep -q "^ *- chatfleet-$kind$" "$folder/config" || complain "no service runs chatfleet-$kind"
done
# Every secret that is given to a container is one of the file's, and there is no other in it.
while read -r name; do
    [[ -s $folder/compose/secrets/$name || $name == OPEN*_API_KEY ]] || complain "secrets.sh makes no $name"
done < <(sed -n '/^secrets:/,/^[^ ]/s/^  \([A-Z_]*\):.*/\1/p' "$folder/config")
while read -r value; do
    ! grep -qF -- "$value" "$folder/config" || complain "a secret stands in the configuration itself"
done < <(cat "$folder"/compose/secrets/*_PASSWORD "$folder"/compose/secrets/JWT_SECRET)

# What the image is built of is what ./fleet installs.
for package in $(sed -n '/^PACKAGES_RUN=(/,/)/p' tools/fleet.d/packages.sh | tr -d '()' | sed 's/PACKAGES_RUN=//'); do
    case $package in
    rabbitmq-server | postgresql | redis-server | jq) ;; # not for building
    *) grep -qw -- "$package" compose/Dockerfile || complain "the Dockerfile does not install $package" ;;
    esac
done

((failed == 0)) || exit 1
echo "the compose file is understood"
