#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs test suites: run.sh BUILD_DIR SUITE...
#   unit, ops   Criterion programs BUILD_DIR/tests/<suite>/*
#   dnn         the same, of cuDNN's plans, without a GPU
#   emulated    the same, of the CUDA backend on a CPU (sources in tests/cuda/)
#   cuda        the same on a GPU, one test at a time; see tools/gpu_check.sh
#   cli         tests/cli/<area>/<case>.sh, each in its own scratch folder with the programs
#               on PATH; siblings <case>.exit (default 0), .stdout.glob, .stderr.glob: every
#               line of a .glob file must match a line of the output, in that order
#   fuzz        BUILD_DIR/tests/fuzz/fuzz_<name> over tests/fuzz/corpus/<name>/
#   pipeline    tests/pipeline/*.sh, whole sweeps; exit code 0 = passed
# A leak that LeakSanitizer reports fails the program it stands in, which Criterion alone
# lets pass. FF_NO_SKIP=1: a skipped test fails. The last line is "N passed, N failed".
set -uo pipefail

build=$(realpath "$1")
shift
here=$(cd "$(dirname "$0")" && pwd)
export OMP_NUM_THREADS=1 # several programs at once on few cores: see the README
export PATH="$build/bin:$PATH" FF_TESTS="$here" FF_BUILD="$build" FF_REPO="${here%/*}"
export LSAN_OPTIONS="suppressions=$here/lsan.supp:print_suppressions=0"
export UBSAN_OPTIONS=print_stacktrace=1
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
passed=0 failed=0

run_criterion() { # program, tests at once, seconds
    local log="$scratch/log" rc
    timeout "${3:-300}" "$1" -j"$2" --verbose >"$log" 2>&1
    rc=$?
    local pass fail skipped
    pass=$(grep -a 'Synthesis' "$log" | sed 's/\x1b\[[0-9;]*m//g' | sed -n 's/.*Passing: \([0-9]*\).*/\1/p')
    fail=$(grep -a 'Synthesis' "$log" | sed 's/\x1b\[[0-9;]*m//g' |
        sed -n 's/.*Failing: \([0-9]*\) | Crashing: \([0-9]*\).*/\1 + \2/p')
    fail=$((${fail:-1}))
    if grep -qaE 'LeakSanitizer|runtime error:|AddressSanitizer' "$log"; then
        [ "$fail" -gt 0 ] || fail=1
    fi
    [ $rc -eq 0 ] || [ "$fail" -gt 0 ] || fail=1
    skipped=$(sed 's/\x1b\[[0-9;]*m//g' "$log" | grep -a '^\[SKIP\]')
    if [ -n "$skipped" ] && [ -n "${FF_NO_SKIP:-}" ]; then
        failed=$((failed + $(wc -l <<<"$skipped")))
        echo "FAIL  $(basename "$1"): tests were skipped"
    fi
    passed=$((passed + ${pass:-0}))
    failed=$((failed + fail))
    if [ "$fail" -gt 0 ]; then
        echo "FAIL  $(basename "$1") (exit $rc)"
        grep -aE 'FAIL|CRASH|[Aa]ssert|Sanitizer|runtime error|Synthesis|timed out|#[0-9]|actual|reference' "$log" | grep -avE '\[(RUN|PASS)' | head -60
    else
        echo "ok    $(basename "$1"): ${pass:-0}"
    fi
    [ -z "$skipped" ] || echo "$skipped"
}

# every line of the glob file $1 matches a line of $2, in order
match_globs() {
    local pattern line
    exec 3<"$2"
    while IFS= read -r pattern; do
        while :; do
            IFS= read -r line <&3 || {
                exec 3<&-
                echo "no line matches: $pattern"
                return 1
            }
            # shellcheck disable=SC2053
            [[ "$line" == $pattern ]] && break
        done
    done <"$1"
    exec 3<&-
}

run_case() { # script
    local base="${1%.sh}" dir rc want why=""
    dir=$(mktemp -d "$scratch/case.XXXX")
    (cd "$dir" && timeout 300 bash "$1" >"$dir.out" 2>"$dir.err" </dev/null)
    rc=$?
    want=$(cat "$base.exit" 2>/dev/null || echo 0)
    [ "$rc" -eq "$want" ] || why="exit $rc, expected $want"
    for stream in out err; do
        [ -n "$why" ] || [ ! -e "$base.std$stream.glob" ] ||
            why=$(match_globs "$base.std$stream.glob" "$dir.$stream")
    done
    [ -n "$why" ] || ! grep -qaE 'Sanitizer|runtime error:' "$dir.err" || why="sanitizer"
    if [ -n "$why" ]; then
        failed=$((failed + 1))
        echo "FAIL  ${1#"$here"/}: $why"
        tail -n 20 "$dir.out" "$dir.err"
    else
        passed=$((passed + 1))
        echo "ok    ${1#"$here"/}"
    fi
    rm -rf "$dir" "$dir.out" "$dir.err"
}

run_corpus() { # program
    local name
    name=$(basename "$1")
    if timeout 300 "$1" "$here/fuzz/corpus/${name#fuzz_}" >"$scratch/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name: $(tail -n 1 "$scratch/log")"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        tail -n 40 "$scratch/log"
    fi
}

for suite in "$@"; do
    case "$suite" in
    unit | ops | dnn | cuda | emulated) for program in "$build/tests/$suite"/test_*; do
        # A program whose source is gone is not run; a bundle has no sources.
        [ -x "$program" ] || continue
        source="$here/${suite/emulated/cuda}/$(basename "$program").c"
        [ -f "$source" ] || [ "$here" = "$build/tests" ] || continue
        if [ "$suite" = cuda ]; then # times a card's engines at its first run
            run_criterion "$program" 1 600
        else
            run_criterion "$program" 2
        fi
    done ;;
    fuzz) for program in "$build/tests/fuzz"/fuzz_*; do
        [ -x "$program" ] && [ -f "$here/fuzz/$(basename "$program").c" ] && run_corpus "$program"
    done ;;
    cli) for script in "$here"/cli/*/*.sh; do run_case "$script"; done ;;
    pipeline) for script in "$here"/pipeline/*.sh; do run_case "$script"; done ;;
    *)
        echo "run.sh: no suite \"$suite\"" >&2
        exit 2
        ;;
    esac
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
