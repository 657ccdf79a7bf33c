# shellcheck shell=bash
# ./fleet fuzz: inputs that nobody thought of, against what reads texts of strangers.

help_fuzz() {
    cat <<'TEXT'
Usage: ./fleet fuzz [NAME] [--seconds N]

Builds the fuzz target NAME of tests/fuzz, or each in turn, by clang with sanitizers, and lets libFuzzer look
for N seconds (60) for an input that breaks it. What it learns stays in build/fuzz/corpus, so that the next
run goes on from there. Exit code 1 when one was found; it is kept as build/fuzz/crash-NAME-….
TEXT
}

cmd_fuzz() {
    local seconds=60 names=()
    while (($# > 0)); do
        case $1 in
        --seconds)
            [[ ${2:-} =~ ^[1-9][0-9]{0,6}$ ]] || usage_error "--seconds takes a number from 1 to 9999999"
            seconds=$2
            shift
            ;;
        -*) usage_error "fuzz knows no $1" ;;
        *)
            ((${#names[@]} == 0)) || usage_error "fuzz takes one name or none"
            [[ $1 =~ ^[a-z]+$ && -e $ROOT/tests/fuzz/fuzz_$1.c ]] ||
                usage_error "there is no fuzz target $1; there are: $(fuzz_targets)"
            names=("$1")
            ;;
        esac
        shift
    done
    STEPS=1
    state_open
    step "packages" packages_ensure test
    ((${#names[@]} > 0)) || read -ra names <<<"$(fuzz_targets)"
    for name in "${names[@]}"; do
        "$ROOT/tests/fuzz/run" "$name" "$seconds" || fail "$name is broken by an input"
    done
}

fuzz_targets() {
    basename -as .c "$ROOT"/tests/fuzz/fuzz_*.c | sed 's/^fuzz_//' | xargs
}
