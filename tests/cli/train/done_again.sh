# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nthreads: 1\n" > p.yaml
ff-train p.yaml --out run > log
cp run/model.h5 before.h5
ff-train p.yaml --out run > log
cmp before.h5 run/model.h5
rm run/checkpoint.h5
ff-train p.yaml --out run > log
cmp before.h5 run/model.h5
ff-train p.yaml --out run --set gamma0=0.3 > log 2> err && exit 9
grep -q "another run" err
cmp before.h5 run/model.h5
touch run/checkpoint.h5.tmp.1
ff-train p.yaml --out run > log
[ ! -e run/checkpoint.h5.tmp.1 ]
