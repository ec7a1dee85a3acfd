# SPDX-License-Identifier: MIT
# Before any work: no curve is begun.
ff-data synth --no-check --out f --identities 4 --images 4 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 1\nthreads: 1\n" > p.yaml
ff-train p.yaml --out run --set "validate=$FF_TESTS/fixtures/pairs/none.bin" > log
[ $? = 2 ] || exit 1
[ -e run/curve.csv ] && exit 1
ff-train p.yaml --out run --set "validate=[$FF_TESTS/fixtures/pairs/damaged.bin]" > log
rc=$?
[ -e run/curve.csv ] && exit 1
exit $rc
