#!/usr/bin/env bash
# Checks that a release has no fault point, and that the build which the tests use has them all.
set -euo pipefail
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
use='FAULT(_BODY|_CLOCK_MS)?\('

# The files that use them are compiled as the preset says; prints the texts within the objects.
strings_of() { # PRESET
    cmake --preset "$1" -B "$work/$1" >"$work/log" 2>&1 || { cat "$work/log" >&2 && exit 1; }
    local file command
    { git grep -lE "$use" -- '*.c' && echo common/base/fault.c; } | sort -u | while read -r file; do
        command=$(jq -r --arg file "$PWD/$file" 'first(.[] | select(.file == $file)) | .command' \
            "$work/$1/compile_commands.json")
        [ -n "$command" ] || continue # not a part of this build
        eval "${command%% -o *} -o $work/object.o -c $PWD/$file"
        strings "$work/object.o"
    done
}

strings_of asan >"$work/asan.txt"
git grep -hoE 'FAULT\("[a-z.]+"\)' -- '*.c' | cut -d'"' -f2 | sort -u >"$work/points.txt"
printf 'CHATFLEET_FAULT\nCHATFLEET_FAULT_CLOCK\n' >>"$work/points.txt"
[ "$(wc -l <"$work/points.txt")" -gt 3 ]
while read -r point; do
    grep -qxF "$point" "$work/asan.txt" || { echo "the tests' build has no $point" && exit 1; }
done <"$work/points.txt"

strings_of release >"$work/release.txt"
[ -s "$work/release.txt" ]
if grep -xF -f "$work/points.txt" "$work/release.txt"; then
    echo "a release has these fault points"
    exit 1
fi
echo "fault points are in the tests' build only"
