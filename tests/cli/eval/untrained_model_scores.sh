# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 4 --images 4 --image-size 32 --eval-identities 8 --eval-images 6 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 32\nembedding: 16\nbatch: 4\nepochs: 1\n" > p.yaml
ff-train p.yaml --out run > log
ff-eval ijb --root f/ijb --model run/model.h5 --save-features f.h5 --out a.yaml > table
ff-eval ijb --root f/ijb --features f.h5 --out b.yaml > table
grep -E "^ *- *\{far" a.yaml > a; grep -E "^ *- *\{far" b.yaml > b; cmp a b && wc -l < a
