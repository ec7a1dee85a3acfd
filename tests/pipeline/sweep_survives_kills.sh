# SPDX-License-Identifier: MIT
# A small sweep whose ff-grid or child is killed with SIGKILL at ten moments ends with the same
# heatmap, byte for byte but for cost and creation time, as a sweep left alone; no run folder
# ever has two writers. Prints the moments.
set -euo pipefail

ff-data synth --no-check --out faces --identities 8 --images 16 --image-size 32 \
    --eval-identities 12 --eval-images 6 -q >synth.log
cat >grid.yaml <<'YAML'
name: kills
train:
  data: faces/train
  backbone: r18
  width: 0.25
  image_size: 32
  embedding: 32
  head: cosface
  batch: 8
  epochs: 6
  alpha: 0.1
  beta: 0.1
  checkpoint_every_iterations: 7
  threads: 1
sweep:
  lambda: [0.01, 0.1]
  tau: [0.05, 0.2]
eval:
  - {protocol: ijbc, root: faces/ijb}
metric: tar@1e-1
YAML

ff-grid grid.yaml --out alone >alone.log 2>&1

started=$(date +%s%N)
rc=0
for moment in 150 420 260 700 330 900 510 180 640 380; do
    setsid ff-grid grid.yaml --out killed >>killed.log 2>&1 &
    grid=$!
    sleep "0.$(printf '%03d' "$moment")"
    child=$(pgrep -P "$grid" 2>/dev/null | head -1 || true)
    if [ $((moment % 20)) -eq 0 ] || [ -z "$child" ]; then
        kill -9 "$grid" 2>/dev/null || true
        echo "killed ff-grid after $moment ms"
    else
        kill -9 "$child" 2>/dev/null || true
        echo "killed its child after $moment ms"
        sleep 0.2
        kill -9 "$grid" 2>/dev/null || true
    fi
    wait "$grid" 2>/dev/null || true
done
ff-grid grid.yaml --out killed --retry-failed >>killed.log 2>&1 || rc=$?
echo "last exit code $rc"
[ "$rc" -eq 0 ]

for run in killed/cells/*/; do
    # curve.csv: one line an iteration, in order, none twice: there never was a second writer
    awk -F, 'NR > 1 && $1 != NR - 2 {exit 1} END {exit NR != 97}' "$run/curve.csv"
    cmp "$run/curve.csv" "alone/cells/$(basename "$run")/curve.csv"
    cmp "$run/model.h5" "alone/cells/$(basename "$run")/model.h5"
done

for dataset in $(h5dump -n alone/heatmap.h5 | awk '$1 == "dataset" {print $2}'); do
    case "$dataset" in
    /seconds | /samples_per_second) continue ;;
    esac
    cmp <(h5dump -d "$dataset" alone/heatmap.h5 | tail -n +2) \
        <(h5dump -d "$dataset" killed/heatmap.h5 | tail -n +2) || {
        echo "$dataset differs"
        exit 1
    }
done
echo "heatmaps equal"
