# SPDX-License-Identifier: MIT
# Validated, stopped and resumed, or neither: the same model and curve to the last bit.
set -e
P="$FF_TESTS/fixtures/pairs"
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nthreads: 1\n" > p.yaml
ff-train p.yaml --out plain > log
printf "validate:\n  - $P/bytes_p4.bin\n  - $P/python2_str.bin\nvalidate_every_iterations: 3\n" >> p.yaml
ff-train p.yaml --out whole > log
for stop in 6 4; do
    ff-train p.yaml --out parts --stop-after $stop > log && exit 9 || [ $? = 4 ]
done
ff-train p.yaml --out parts > log
for run in whole parts; do
    cmp plain/model.h5 $run/model.h5
    cmp plain/curve.csv $run/curve.csv
done
cmp whole/validation.csv parts/validation.csv
cut -d, -f1,2 whole/validation.csv
grep -c accuracy whole/log.txt
