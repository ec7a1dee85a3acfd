# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nthreads: 1\n" > p.yaml
cp -r f g
size=$(stat -c %s g/train/train.rec)
for key in $(seq 32); do
  offset=$(awk -v k=$key '$1 == k {print $2}' g/train/train.idx)
  printf XXXX | dd of=g/train/train.rec bs=1 seek=$((offset + 32)) conv=notrunc status=none
done
ff-train p.yaml --out run --set data=g/train --set max_bad_samples=3 > log
