# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nthreads: 1\n" > p.yaml
mkdir run
exec 9> run/lock
flock 9
ff-train p.yaml --out run > log 9>&-
