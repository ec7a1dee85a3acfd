# SPDX-License-Identifier: MIT
# Closed at the start, the standard descriptors are no file of the run: a sweep and a run write
# the same as with them open.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
ff-data synth --no-check --out f2 --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 <&- >&- 2>&-
diff -r f f2
cp "$FF_TESTS"/fixtures/pairs/bytes_p4.bin .
p="data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 1\nthreads: 1\n"
printf "$p" > p.yaml
ff-train p.yaml --out open > log 2>&1
ff-train p.yaml --out closed <&- >&- 2>&-
cmp open/curve.csv closed/curve.csv
cat closed/lock
printf "name: a\ntrain:\n$(printf "$p" | sed 's/^/  /')\neval: [{protocol: pairs, bin: [bytes_p4.bin]}]\nmetric: accuracy@bytes_p4\n" > g.yaml
ff-grid g.yaml --out s <&- >&- 2>&-
grep -vE '^[0-9T:.Z-]+ [a-z]+' s/events.log || echo "events alone"
