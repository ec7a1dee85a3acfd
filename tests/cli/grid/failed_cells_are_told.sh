# SPDX-License-Identifier: MIT
# A sweep whose cells all failed says why and how to go on; --only says what it passed over.
set -e
export CUDA_VISIBLE_DEVICES=
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 2 -q
printf 'name: a\ntrain: {data: f/train, batch: 4, epochs: 2, backbone: r18, width: 0.1, embedding: 16, image_size: 16}\nsweep: {tau: [0.1, 0.2]}\n' > g.yaml
grid() {
    rc=0
    ff-grid g.yaml "$@" > log || rc=$?
    echo "exit $rc"
}
grid --set precision=fp16
echo again >&2
grid --set precision=fp16
echo only >&2
grid --set precision=fp16 --only tau=0.2
echo others >&2
grid --only tau=0.1
