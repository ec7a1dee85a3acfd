# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 2 --images 4 --image-size 32 --eval-identities 4 --eval-images 6 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 32\nembedding: 16\nbatch: 4\nepochs: 1\n" > p.yaml
ff-train p.yaml --out run > log
echo "1 999999 0" >> f/ijb/meta/ijbc_template_pair_label.txt
ff-eval ijb --root f/ijb --model run/model.h5
