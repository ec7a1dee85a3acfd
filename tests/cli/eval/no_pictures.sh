# SPDX-License-Identifier: MIT
# Without any picture there is no score, --allow-missing or not; a property of another set is told.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 2 -q > log
printf 'data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 1\n' > p.yaml
sed -i 's/^4/5/' f/train/property
ff-train p.yaml --out run > log
rm f/ijb/loose_crop/*
ff-eval ijb --root f/ijb --model run/model.h5 --allow-missing
