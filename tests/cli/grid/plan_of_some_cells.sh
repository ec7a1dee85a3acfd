# SPDX-License-Identifier: MIT
# -n with --only lists only those cells, and refuses what a run would; a folder is no grid.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 2 -q
printf 'name: a\ntrain: {data: f/train, batch: 4, epochs: 2, backbone: r18, width: 0.1, embedding: 16, image_size: 16}\nsweep: {tau: [0.1, 0.2], lambda: [0.01, 0.02]}\n' > g.yaml
grid() {
    rc=0
    ff-grid -n "$@" > log || rc=$?
    grep -c '^ .* tau=' log || true
    echo "exit $rc"
}
grid g.yaml --only tau=0.2
grid g.yaml --only tau=0.3
grid g.yaml --only margin=0.5
grid f
