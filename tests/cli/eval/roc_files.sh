# SPDX-License-Identifier: MIT
# The curve in three forms; 68 landmarks give the same as the five taken out of them.
set -e
ff-data synth --no-check --out f --identities 2 --images 4 --image-size 32 --eval-identities 6 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 32\nembedding: 16\nbatch: 4\nepochs: 1\n" > p.yaml
ff-train p.yaml --out run > log
ff-eval ijb --root f/ijb --model run/model.h5 --save-features f.h5 --save-scores 5.h5 \
    --roc roc.csv --roc roc.png --roc roc.svg > table
head -1 roc.csv
head -c 4 roc.png | tail -c 3; echo
grep -c "</svg>" roc.svg
p=f/ijb/meta/ijbc_name_5pts_score.txt
awk '{ for (k = 0; k < 68; k++) { x[k] = y[k] = 1 }
    x[36] = x[39] = $2; y[36] = y[39] = $3; x[42] = x[45] = $4; y[42] = y[45] = $5
    x[30] = $6; y[30] = $7; x[48] = $8; y[48] = $9; x[54] = $10; y[54] = $11
    line = $1; for (k = 0; k < 68; k++) line = line " " x[k] " " y[k]; print line " " $12 }' $p > 68
mv 68 $p
ff-eval ijb --root f/ijb --model run/model.h5 --save-scores 68.h5 > table
cmp 5.h5 68.h5 && echo same
awk 'NR == 3 { for (k = 2; k < 138; k++) $k = 0 } { print }' $p > 0
mv 0 $p
ff-eval ijb --root f/ijb --model run/model.h5 --roc x.pdf || echo "exit $?"
ff-eval ijb --root f/ijb --model run/model.h5 --roc x.csv || echo "exit $?"
[ ! -e x.csv ] && echo none
