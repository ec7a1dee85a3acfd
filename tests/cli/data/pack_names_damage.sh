# SPDX-License-Identifier: MIT
# A cut file and one of another size end a pack with exit code 6 and leave nothing.
set -e
ff-data synth --no-check --out f --identities 1 --images 2 --image-size 32 --eval-identities 2 --eval-images 4 -q
ff-data synth --no-check --out g --identities 1 --images 2 --image-size 48 --eval-identities 2 --eval-images 4 -q
image() { # SET KEY: the bytes of a record's image, one part, padding left behind its end
    local from to
    from=$(awk -v k="$2" '$1 == k {print $2}' "$1/train/train.idx")
    to=$(awk -v k="$(($2 + 1))" '$1 == k {print $2}' "$1/train/train.idx")
    tail -c +$((from + 33)) "$1/train/train.rec" | head -c $((to - from - 32))
}
mkdir -p set/ann set/bob
image f 1 > set/ann/1.jpg
image f 2 > set/bob/1.jpg
image f 2 | head -c 500 > set/bob/2.jpg
ff-data pack set --out a || echo "exit $?"
image g 1 > set/bob/2.jpg
ff-data pack set --out a || echo "exit $?"
ff-data pack set --out a --size 48 || echo "exit $?"
[ -z "$(ls a)" ]
rm set/bob/2.jpg
ff-data pack set --out a
ff-data check a
ff-data pack set --out a || echo "exit $?"
[ "$(ls a | wc -l)" = 3 ]
