# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nthreads: 1\n" > p.yaml
ff-train p.yaml --out whole --set epochs=40 > log 2>&1
for moment in 0.05 0.12 0.2 0.09 0.16; do
  setsid ff-train p.yaml --out parts --set epochs=40 --set checkpoint_every_iterations=5 > log 2>&1 &
  sleep $moment
  kill -9 $! || true
  wait $! || true
done 2> killed.log
ff-train p.yaml --out parts --set epochs=40 --set checkpoint_every_iterations=5 > log
cmp whole/model.h5 parts/model.h5
cmp whole/curve.csv parts/curve.csv
echo equal
