# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nthreads: 1\n" > p.yaml
ff-train p.yaml --out a > log
ff-train p.yaml --out b --set init=a/model.h5 --set epochs=1 > log
ff-train p.yaml --out c --set init=a/checkpoint.h5 --set epochs=1 > log
cat a/curve.csv | tail -n 1 | cut -d, -f1
! cmp -s b/model.h5 c/model.h5 && echo 'head taken over' 
