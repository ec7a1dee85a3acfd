# SPDX-License-Identifier: MIT
# A curve that is shorter than the checkpoint, or gone, is told; the run goes on to the same model.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q > synth
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nthreads: 1\n" > p.yaml
ff-train p.yaml --out whole > log 2>&1
ff-train p.yaml --out a --stop-after 5 > log 2>&1 || true
cp -r a b
ff-train p.yaml --out c --from a/checkpoint.h5 2>&1 > log | grep warning: && exit 1
head -n 4 a/curve.csv > short
mv short a/curve.csv
rm b/curve.csv
for k in a b; do
    ff-train p.yaml --out $k > log
    cmp whole/model.h5 $k/model.h5
    tail -n 1 $k/curve.csv | cmp - <(tail -n 1 whole/curve.csv)
done
