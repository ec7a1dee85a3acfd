# SPDX-License-Identifier: MIT
# Stored features that another program has open are left alone; it is told, exit code 7.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 2 -q > log
printf 'data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 1\n' > p.yaml
ff-train p.yaml --out run > log
score() {
    ff-eval ijb --root f/ijb --model run/model.h5 --save-features f.h5 > log 2> err && rc=0 || rc=$?
    echo "exit $rc"
    grep "in use" err || true
}
score
cp f.h5 kept.h5
flock -x f.h5 -c 'touch held; until [ -e done ]; do sleep 0.05; done' &
until [ -e held ]; do sleep 0.05; done
score
cmp f.h5 kept.h5
touch done
wait
score
cmp f.h5 kept.h5
ls f.h5*
