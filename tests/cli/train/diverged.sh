# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nthreads: 1\n" > p.yaml
ff-train p.yaml --out run --set gamma0=50 --set clip_norm=0 --set weight_decay=10 --set epochs=100 > log || rc=$?
[ ! -e run/DONE ]
cat run/DIVERGED
exit $rc
