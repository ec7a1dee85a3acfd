# SPDX-License-Identifier: MIT
# check tells the files of pairs; a missing, a bad and a wrongly sized one end it.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
cp "$FF_TESTS"/fixtures/pairs/{bytes_p4,odd,numpy_p2}.bin .
grid() { # file, image_size, metric
    printf "name: a\ntrain: {data: f/train, batch: 4, backbone: r18, image_size: $2}\neval: [{protocol: pairs, bin: [bytes_p4.bin, $1]}]\nmetric: $3\n" > g.yaml
    rc=0
    ff-grid check g.yaml || rc=$?
    echo "exit $rc"
}
grid numpy_p2.bin 16 accuracy@numpy_p2
grid none.bin 16 accuracy@none
grid odd.bin 16 accuracy@odd
grid numpy_p2.bin 32 accuracy@numpy_p2
grid numpy_p2.bin 16 accuracy@lfw
