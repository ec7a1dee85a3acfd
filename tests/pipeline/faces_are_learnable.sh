# SPDX-License-Identifier: MIT
# The synthetic faces carry identity that a network must learn: on 1000 people that it never
# saw (so that the spread over people is about a point) an untrained network scores low, a few
# hundred steps score clearly higher, and harder nuisance scores lower again.
set -euo pipefail

ff-data synth --no-check --out faces --identities 80 --images 40 --image-size 32 \
    --eval-identities 1000 --eval-images 4 -q >synth.log
ff-data synth --no-check --out hard --identities 1 --images 1 --image-size 32 \
    --eval-identities 400 --eval-images 4 --hardness 1.8 -q >synth.log
cat >p.yaml <<'YAML'
data: faces/train
backbone: r18
width: 0.25
image_size: 32
embedding: 64
head: cosface
margin: 0.2
scale: 24.0
batch: 32
epochs: 3
gamma0: 0.1
schedule: cosine
threads: 1
YAML
tar() { # model, root
    ff-eval ijb --root "$2" --model "$1" --threads 1 --far 1e-2 --out eval.yaml >table 2>log
    sed -n '/^tar:/,/^compat:/s/.*tar: \([0-9.]*\),.*/\1/p' eval.yaml
}
ff-train p.yaml --out start --stop-after 1 --set gamma0=1e-9 >log 2>&1 || [ $? = 4 ]
ff-train p.yaml --out run >log 2>&1
untrained=$(tar start/checkpoint.h5 faces/ijb)
trained=$(tar run/model.h5 faces/ijb)
hard=$(tar run/model.h5 hard/ijb)
echo "TAR@FAR=1e-2: untrained $untrained, trained $trained, trained on hard faces $hard"
awk -v u="$untrained" -v t="$trained" -v h="$hard" \
    'BEGIN { exit !(u < 12 && t > 3 * u && t > 25 && h < 0.8 * t) }'
echo "learnable"
