# SPDX-License-Identifier: MIT
# The demo pipeline at a tiny size through the real programs: run, run again (nothing to do),
# one more axis value (only the new cells train), another switch (scores again, trains
# nothing), a changed meaning (refused, exit 2), a second ff-grid (refused by the lock, exit 7),
# status and export, and the pictures.
set -euo pipefail

ff-data synth --no-check --out faces --identities 6 --images 12 --image-size 32 \
    --eval-identities 12 --eval-images 6 -q >synth.log
grid() { # lambda list, epochs, switches
    cat <<YAML
name: tiny
train:
  data: faces/train
  backbone: r18
  width: 0.1
  image_size: 32
  embedding: 16
  head: cosface
  batch: 8
  epochs: $2
  alpha: 0.2
  beta: 0.2
  threads: 1
sweep:
  lambda: $1
  tau: [0.1, 0.3]
eval:
  - {protocol: ijbc, root: faces/ijb$3}
metric: tar@1e-1
YAML
}
expect() { # exit code, command...
    local want=$1 rc=0
    shift
    "$@" >>log 2>&1 || rc=$?
    [ "$rc" -eq "$want" ] || {
        echo "exit $rc, expected $want: $*"
        tail -n 5 log
        exit 1
    }
}

grid "[0.01, 0.1]" 2 "" >g.yaml
expect 0 ff-grid check g.yaml
expect 0 ff-grid g.yaml
[ "$(ls results/tiny/cells | wc -l)" -eq 4 ]
[ -s results/tiny/heatmap.png ] && [ -s results/tiny/heatmap.svg ] && [ -s results/tiny/heatmap.h5 ]
stat -c '%n %Y %s' results/tiny/cells/*/model.h5 >before

expect 0 ff-grid g.yaml
stat -c '%n %Y %s' results/tiny/cells/*/model.h5 | cmp - before
echo "nothing to do"

grid "[0.01, 0.03, 0.1]" 2 "" >g.yaml
expect 0 ff-grid g.yaml
[ "$(ls results/tiny/cells | wc -l)" -eq 6 ]
grep -F -x -f before <(stat -c '%n %Y %s' results/tiny/cells/*/model.h5) | cmp - before
echo "grown to 6 cells, 4 kept"

grid "[0.01, 0.03, 0.1]" 2 ", flip: false" >g.yaml
stat -c '%n %Y %s' results/tiny/cells/*/model.h5 >before
expect 0 ff-grid g.yaml
stat -c '%n %Y %s' results/tiny/cells/*/model.h5 | cmp - before
[ "$(grep -l "^flip: false" results/tiny/cells/*/eval-ijbc.yaml | wc -l)" -eq 6 ]
echo "scored again without training"

cp results/tiny/heatmap.h5 heatmap.before
grid "[0.01, 0.03, 0.1]" 3 ", flip: false" >changed.yaml
expect 2 ff-grid changed.yaml
grep -q 'epochs' log
cmp results/tiny/heatmap.h5 heatmap.before
echo "changed meaning refused"

exec 9>>results/tiny/lock
flock 9
expect 7 ff-grid g.yaml 9>&-
exec 9>&-
echo "second one refused"

expect 0 ff-grid status results/tiny
expect 0 ff-grid export results/tiny
ff-grid status results/tiny | grep -q 0.03
echo "status shown"
