# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nalpha: 0.1\nbeta: 0.1\nlambda: 0.5\ntau: 0.2\n" > p.yaml
ff-train p.yaml --out whole > whole.log
ff-train p.yaml --out parts --stop-after 5 > parts.log && exit 9 || [ $? = 4 ]
ff-train p.yaml --out parts > parts.log
cmp whole/model.h5 parts/model.h5
cmp whole/curve.csv parts/curve.csv
echo equal
