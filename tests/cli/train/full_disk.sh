# SPDX-License-Identifier: MIT
# A file that cannot grow stands for a full disk: one line, exit code 1, no temporary left.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
cp "$FF_TESTS"/fixtures/pairs/bytes_p4.bin .
p="data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 1\nthreads: 1\n"
printf "$p" > p.yaml
printf "name: a\ntrain:\n$(printf "$p" | sed 's/^/  /')\neval: [{protocol: pairs, bin: [bytes_p4.bin]}]\nmetric: accuracy@bytes_p4\n" > g.yaml
ff-train p.yaml --out run > log 2>&1
full() { # blocks of 1024 bytes, command
    rc=0
    (ulimit -f $1; shift; exec "$@") 2>&1 > /dev/null | grep ^ff- || true
    echo "exit ${PIPESTATUS[0]}"
}
full 200 ff-train p.yaml --out t
full 4 ff-grid g.yaml --out s
full 4 ff-eval ijb --root f/ijb --model run/model.h5 --save-features f.h5
full 0 ff-train export run/model.h5 --onnx m.onnx
find . -name '*.tmp.*'
