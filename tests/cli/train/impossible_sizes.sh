# SPDX-License-Identifier: MIT
# What cannot be is told before memory is taken: pictures of another size, and a head
# larger than the machine. The limit is for the day when the check is gone.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q > synth
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nembedding: 4096\nimage_size: 16\nbatch: 32\nepochs: 1\nthreads: 1\n" > p.yaml
[[ $FF_BUILD == *asan* ]] || ulimit -v 8000000
try() {
    rc=0
    ff-train p.yaml --out run "$@" > log || rc=$?
    echo "exit $rc"
}
try --set image_size=448 --set backbone=r200 --set width=4
try --set image_size=32
echo 100000000,16,16 > f/train/property
try
