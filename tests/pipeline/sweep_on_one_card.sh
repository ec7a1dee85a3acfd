# SPDX-License-Identifier: MIT
# Whole sweeps on the CUDA backend, emulated: training and scoring take the card in turns, the
# second sweep on the same card is told who has it or waits, and a run whose program is killed
# goes on with the engines of its checkpoint to the same bytes.
set -euo pipefail

if [ ! -x "$FF_BUILD/emulated/ff-train" ]; then
    echo "built without CUDA"
    exit 0
fi
export PATH="$FF_BUILD/emulated:$PATH" FF_EMULATED_CARD=$$
export XDG_CACHE_HOME=$PWD/cache XDG_RUNTIME_DIR=$PWD
ff-data synth --no-check --out faces --identities 8 --images 8 --image-size 16 \
    --eval-identities 8 --eval-images 4 -q >synth.log
cat >grid.yaml <<'YAML'
name: one_card
train:
  data: faces/train
  backbone: r18
  width: 0.125
  image_size: 16
  embedding: 32
  head: cosface
  head_precision: fp16
  batch: 8
  epochs: 2
  lambda: 0.1
  alpha: 0.1
  beta: 0.1
  checkpoint_every_iterations: 5
  workers: 1
sweep:
  tau: [0.05, 0.2]
eval:
  - {protocol: ijbc, root: faces/ijb}
metric: tar@1e-1
YAML

ff-grid grid.yaml --out alone >alone.log 2>&1
grep '^device: .*emulated sm_90.*fp16, head fp16' alone/cells/*/summary.yaml

# Two at once: one is refused, one waits.
ff-grid grid.yaml --out first --wait-gpu >first.log 2>&1 &
first=$!
until ls first/cells/*/log.txt >ls.log 2>&1 && grep -q backend first/cells/*/log.txt; do sleep 0.1; done
rc=0
ff-grid grid.yaml --out refused >refused.log 2>&1 || rc=$?
[ $rc = 7 ]
grep 'GPU busy: GPU-[0-9a-f-]* is held by pid [0-9]* (ff-[te]' refused.log
[ "$(ff-grid export refused | grep -c planned)" = 2 ]
ff-grid grid.yaml --out second --wait-gpu >second.log 2>&1
wait $first
grep 'waiting for the GPU' second.log

# A run that is killed behind its first checkpoint.
ff-grid grid.yaml --out killed >killed.log 2>&1 &
grid=$!
until ls killed/cells/*/checkpoint.h5 >ls.log 2>&1; do sleep 0.05; done
kill -9 "$(pgrep -P $grid)" $grid || true
wait $grid || true
sleep 0.2
ff-grid grid.yaml --out killed --retry-failed >>killed.log 2>&1
grep -h 'goes on from .*checkpoint.h5 at iteration [0-9]' killed/cells/*/log.txt

for out in first second killed; do
    for run in alone/cells/*/; do
        for file in model.h5 curve.csv engines.txt; do
            cmp "$run/$file" "$out/cells/$(basename "$run")/$file"
        done
    done
done
echo "same bytes"
