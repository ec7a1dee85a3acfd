# SPDX-License-Identifier: MIT
# Killed as soon as curve.csv has so many lines: a moment that no machine's speed moves.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 40\nthreads: 1\n" > p.yaml
ff-train p.yaml --out whole > log 2>&1
for lines in 2 13 77 141 238; do
  setsid ff-train p.yaml --out parts --set checkpoint_every_iterations=5 >> parts.log 2>&1 &
  until [ "$(cat parts/curve.csv 2> /dev/null | wc -l)" -ge $lines ]; do
    kill -0 $! || break
    sleep 0.01
  done
  kill -9 $! || true
  wait $! || true
done 2> killed.log
ff-train p.yaml --out parts --set checkpoint_every_iterations=5 >> parts.log 2>&1
cmp whole/model.h5 parts/model.h5
cmp whole/curve.csv parts/curve.csv
grep -o "goes on from parts/checkpoint.h5" parts.log | uniq
