# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: mbf\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 1\nthreads: 1\n" > p.yaml
ff-train p.yaml --out a > log
ff-train export a/model.h5 --onnx a.onnx
[ "$(head -c 2 a.onnx | od -An -tx1)" = " 08 07" ] # ir_version 7
grep -aq "conv_sep.layers.0.weight" a.onnx
ff-train export a/model.h5 > log 2> err && exit 9
grep "onnx" err
ff-train export a/model.h5 --onnx a/model.h5 2> err && exit 9
cat err
