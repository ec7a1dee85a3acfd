# SPDX-License-Identifier: MIT
# A sweep that is scored on files of pairs through the real programs: the metric in the
# heatmap is the accuracy that ff-eval finds; a file of other content scores again without
# training; validation while training leaves every model as it is without.
set -euo pipefail

ff-data synth --no-check --out faces --identities 6 --images 12 --image-size 16 \
    --eval-identities 2 --eval-images 4 -q >synth.log
cp "$FF_TESTS"/fixtures/pairs/{bytes_p4,numpy_p2}.bin .
grid() { # more parameters
    cat <<YAML
name: pairs
train:
  data: faces/train
  backbone: r18
  width: 0.1
  image_size: 16
  embedding: 16
  head: cosface
  batch: 8
  epochs: 2
  alpha: 0.2
  beta: 0.2
  threads: 1
$1
sweep:
  gamma0: [0.01, 0.1]
  tau: [0.1, 0.3]
eval:
  - {protocol: pairs, bin: [bytes_p4.bin, numpy_p2.bin]}
metric: accuracy@numpy_p2
YAML
}
grid "" >g.yaml
ff-grid g.yaml >log 2>&1
for run in results/pairs/cells/*/; do
    ff-eval pairs --bin bytes_p4.bin numpy_p2.bin --model "$run/model.h5" --threads 1 \
        --out e.yaml >table 2>>log
    grep '^- {name' e.yaml | cmp - <(grep '^- {name' "$run/eval-pairs.yaml")
done
[ "$(ls results/pairs/cells | wc -l)" -eq 4 ]
values() { # dataset
    h5dump -y -w 1 -d "$1" results/pairs/heatmap.h5 | sed -n '/DATA {/,/}/p' | grep -oE '^ +[0-9.]+' | tr -d ' ' | tr '\n' ' '
}
values heatmap >a
values accuracy_numpy_p2 | cmp - a
[ "$(wc -w <a)" -eq 4 ]
ff-grid export results/pairs | head -1 | grep -o 'accuracy_bytes_p4,accuracy_numpy_p2'
ff-grid status results/pairs | grep -o 'accuracy on numpy_p2 (%)'
grep -o '<th>bytes_p4</th>' results/pairs/report.html

sha256sum results/pairs/cells/*/model.h5 >before
grep -h '^eval_key' results/pairs/cells/*/eval-pairs.yaml >keys
[ "$(wc -l <keys)" -eq 4 ]
ff-grid plan g.yaml --measure | grep -o 'measured: .* for an evaluation on pairs' | cut -c1-9
cp "$FF_TESTS/fixtures/pairs/shared_p4.bin" bytes_p4.bin
ff-grid g.yaml >log 2>&1
sha256sum -c --quiet before
echo "scored again: $(cat results/pairs/cells/*/eval-pairs.yaml | grep '^eval_key' | grep -cvFf keys)"
starts=$(grep -c ' start ' results/pairs/events.log)
[ "$starts" -eq 12 ] # four trainings, twice four scores
ff-grid g.yaml >log 2>&1
[ "$(grep -c ' start ' results/pairs/events.log)" -eq "$starts" ]

grid "  validate: [bytes_p4.bin]" >g.yaml
ff-grid g.yaml --out validated >log 2>&1
for run in validated/cells/*/; do
    cmp "$run/model.h5" "results/pairs/cells/$(basename "$run")/model.h5"
    [ "$(wc -l <"$run/validation.csv")" -eq 3 ]
done
echo "validated alike"
