#!/bin/bash
# SPDX-License-Identifier: MIT
# Training step against PyTorch, and the scheduler's cost.
#
#   run.sh BUILD_DIR        environment: THREADS (2), ROUNDS (3), STEPS (10)
#
# The three sides take turns, ROUNDS times, so that a change in the machine's load meets
# all of them; each prints its median of 5 repeats, the table holds the medians of the
# rounds. Two-threaded runs collapse where another process wants a core: a load average
# above 0.5 at the start is named.
set -euo pipefail

build=${1:?usage: run.sh BUILD_DIR}
here=$(dirname "$0")
threads=${THREADS:-2} rounds=${ROUNDS:-3} steps=${STEPS:-10}
python=${PYTHON:-/usr/bin/python3}
lines=$(mktemp)
trap 'rm -f "$lines"' EXIT

export OMP_NUM_THREADS=$threads
args=(--threads "$threads" --steps "$steps")
sides=(ours)
if "$python" -c 'import torch' 2>/dev/null; then
    sides+=(torch-nchw torch-channels_last)
else
    echo "bench: no PyTorch for $python (apt-get install python3-torch): ours alone"
fi

run_side() {
    case $1 in
    ours) "$build/tests/bench/bench_train" "${args[@]}" ;;
    torch-*) "$python" "$here/torch_train.py" "${args[@]}" --format "${1#torch-}" ;;
    esac
}

# Median of the second column of the lines that start with the word $1.
median_of() {
    awk -v side="$1" '$1 == side { print $2 }' "$lines" | sort -g |
        awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

read -r load _ </proc/loadavg
echo "training step: r18, width 0.25, 112 x 112, batch 32, fp32, head 200 x 512," \
    "$threads threads, load average $load"
if awk -v l="$load" 'BEGIN { exit !(l > 0.5) }'; then
    echo "bench: other work is running; the figures below may be too low"
fi
for ((round = 1; round <= rounds; round++)); do
    for side in "${sides[@]}"; do
        run_side "$side" | tee -a "$lines" | sed "s/^/  round $round  /"
    done
done

printf '\n%-22s %10s\n' "training step" "samples/s"
best=0
for side in "${sides[@]}"; do
    value=$(median_of "$side")
    printf '%-22s %10s\n' "$side" "$value"
    case $side in
    torch-*) best=$(awk -v a="$best" -v b="$value" 'BEGIN { print (a > b ? a : b) }') ;;
    esac
done
if [ "$best" != 0 ]; then
    awk -v a="$(median_of ours)" -v b="$best" \
        'BEGIN { printf "%-22s %9.2fx\n", "ours / best torch", a / b }'
fi
echo
"$build/tests/bench/bench_schedule"
