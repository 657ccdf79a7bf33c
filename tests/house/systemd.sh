#!/usr/bin/env bash
# Checks the units of systemd/: systemd-analyze verify has nothing to say about them (their programs
# taken from CHATFLEET_BIN, or build/asan), and what they may do stays within narrow bounds.
set -euo pipefail
cd "$(dirname "$0")/../.."
exposure=15 # tenths, of systemd-analyze security
programs=$(realpath "${CHATFLEET_BIN:-build/asan}")
units=$(mktemp -d)
trap 'rm -rf "$units"' EXIT
failed=0

complain() {
    printf '%s\n' "$@"
    failed=1
}

verify() { # UNIT: prints what systemd finds wrong
    systemd-analyze verify --man=no --recursive-errors=yes "$units/$1" 2>&1
}

for file in systemd/*.*; do
    [[ $file == *.md ]] || sed "s|/usr/local/bin/|$programs/|" "$file" >"$units/${file##*/}"
done
export SYSTEMD_UNIT_PATH=$units: SYSTEMD_LOG_LEVEL=warning

# What cannot fail proves nothing.
printf '[Service]\nExecStart=/bin/true\nProtectSytem=strict\n' >"$units/wrong.service"
[[ $(verify wrong.service) == *ProtectSytem* ]] || complain "systemd-analyze verify overlooks a wrong key"
rm "$units/wrong.service"

for file in "$units"/*; do
    unit=${file##*/}
    said=$(verify "${unit/@./@1.}") || complain "$unit: systemd-analyze verify fails"
    [[ -z $said ]] || complain "$unit: $said"
    [[ $unit != *.service ]] ||
        systemd-analyze security --no-pager --offline=true --threshold=$exposure "$file" >"$units/.report" 2>&1 ||
        complain "$unit: $(tail -n 1 "$units/.report")"
done

# Each kind of process has its unit, and the target starts one of each.
for kind in $(sed -n 's/^KINDS=(\(.*\))$/\1/p' tools/fleet.d/processes.sh); do
    [[ -f systemd/chatfleet-$kind@.service ]] || complain "there is no unit for $kind"
    grep -q "chatfleet-$kind@1\.service" systemd/chatfleet.target || complain "chatfleet.target leaves $kind out"
done

((failed == 0)) || exit 1
echo "the units are sound"
