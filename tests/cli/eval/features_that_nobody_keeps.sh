# SPDX-License-Identifier: MIT
# The same table whether features are kept or not; those that are not leave no file.
ff-data synth --no-check --out f --identities 4 --images 4 --image-size 32 --eval-identities 8 --eval-images 6 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 32\nembedding: 16\nbatch: 4\nepochs: 1\n" > p.yaml
ff-train p.yaml --out run > log
ff-eval ijb --root f/ijb --model run/model.h5 --save-features f.h5 --out a.yaml > /dev/null
mkdir t out
TMPDIR=$PWD/t ff-eval ijb --root f/ijb --model run/model.h5 --out b.yaml > /dev/null
env -u TMPDIR ff-eval ijb --root f/ijb --model run/model.h5 --out out/c.yaml > /dev/null
for k in b.yaml out/c.yaml; do
    cmp <(grep -E "^ *- *\{far" a.yaml) <(grep -E "^ *- *\{far" $k) && echo same
done
ls t out
TMPDIR=/nowhere ff-eval ijb --root f/ijb --model run/model.h5 --out d.yaml > /dev/null
