#!/bin/bash
# SPDX-License-Identifier: MIT
# Checks ff-eval against reference scores of the usual Python script, on a folder in IJB-C
# format that also holds ref/: raw features, scores and TAR of all eight switch settings,
# aligned crops. Usage: lfw_reference.sh DATA [BUILD_FOLDER]
set -euo pipefail
data=${1:?usage: lfw_reference.sh DATA [BUILD_FOLDER]}
build=${2:-build}
cd "$(dirname "$0")/../.."
helper=$build/tests/bench/lfw_reference
make -s B="$build" "$build/bin/ff-eval" "$helper" >&2
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

raw=$(echo "$data"/ref/feat_*.f32)
set_name=$(basename "$raw" | sed -E 's/feat_([^_]*)_.*/\1/')
"$helper" convert "$data" "$raw" "$scratch/features.h5"
failed=0
printf '%-18s %-9s %s\n' 'flip norm det' 'compat' 'TAR % at 1e-4, 1e-3, 1e-2, 1e-1; scores'
for flip in 0 1; do for norm in 0 1; do for det in 0 1; do
    word() { [ "$1" = 1 ] && echo on || echo off; }
    "$build/bin/ff-eval" ijb --root "$data" --features "$scratch/features.h5" \
        --flip "$(word $flip)" --norm "$(word $norm)" --det "$(word $det)" \
        --far 1e-4,1e-3,1e-2,1e-1 --out "$scratch/eval.yaml" \
        --save-scores "$scratch/score.h5" > /dev/null
    found=$(sed -n '/^compat:/,/^[a-z]*:$/p' "$scratch/eval.yaml" |
        sed -nE 's/.*tar: ([0-9.]*),.*/\1/p' | xargs printf '%.4f ')
    expected=$(sed -nE "s/^$set_name flip=$flip keepnorm=$norm detscore=$det //p" \
        "$data/ref/expected.txt" | sed -E 's/TAR@[0-9.]*=//g' | xargs printf '%.4f ')
    verdict=equal
    [ "$found" = "$expected" ] || { verdict=DIFFERS; failed=1; }
    scores=$("$helper" scores "$scratch/score.h5" \
        "$data/ref/score_${set_name}_flip${flip}_keepnorm${norm}_det${det}.f64") || failed=1
    printf '%-18s %-9s %s; %s\n' "$(word $flip) $(word $norm) $(word $det)" "$verdict" \
        "$found" "$scores"
    [ "$verdict" = equal ] || echo "   expected: $expected"
done; done; done
"$helper" crops "$data" "$data"/ref/aligned_*.u8 || failed=1
exit $failed
