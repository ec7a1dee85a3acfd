# SPDX-License-Identifier: MIT
# A path that leads to nothing is exit code 2 in every program, whatever it was to be.
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q > synth
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 1\nthreads: 1\n" > p.yaml
mkdir empty
touch m.h5
try() {
    "$@" 2>&1 > log | grep ^ff-
    echo "exit ${PIPESTATUS[0]}"
}
try ff-eval ijb --root f/ijb --model none
try ff-eval ijb --root f/ijb --features none
try ff-eval ijb --root none --model m.h5
try ff-eval pairs --bin f/none --model none
try ff-train none --out a
try ff-train p.yaml --out a --from none
try ff-train p.yaml --out a --set init=none
try ff-train p.yaml --out a --set data=none
try ff-train p.yaml --out a --set validate=none
try ff-train export none --onnx x.onnx
try ff-data info none
try ff-data pack f --out q --landmarks none
try ff-grid none.yaml
try ff-grid status none
# what should be in a folder that is there
try ff-eval ijb --root empty --model m.h5
