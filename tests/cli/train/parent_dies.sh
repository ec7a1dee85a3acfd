# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nthreads: 1\n" > p.yaml
bash -c 'ff-train p.yaml --out run --set epochs=3000 > log 2>&1 & echo $! > pid; until [ -s run/curve.csv ]; do sleep 0.02; done; kill -9 $$' || true
for i in $(seq 600); do kill -0 $(cat pid) 2>/dev/null || break; sleep 0.1; done
! kill -0 $(cat pid) 2>/dev/null
ls run/checkpoint.h5
