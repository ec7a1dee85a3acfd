# SPDX-License-Identifier: MIT
# Every kind of damage is named by its record, a wrong label by itself alone.
set -e
ff-data synth --no-check --out f --identities 4 --images 5 --image-size 32 --eval-identities 2 --eval-images 4 -q > /dev/null
poke() { # KEY BYTE: writes stdin at that byte of the record
    local offset
    offset=$(awk -v k="$1" '$1 == k {print $2}' f/train/train.idx)
    dd of=f/train/train.rec bs=1 seek=$((offset + $2)) conv=notrunc status=none
}
[ "$(ff-data check f/train --threads 2 -q | grep -c :)" = 6 ]
printf 'XXXX' | poke 2 0         # magic
printf '\0\0\300\77' | poke 5 12 # label 1.5
printf '\0\0\0\0' | poke 6 12    # first of identity 1: label 0
printf 'XXXX' | poke 12 32       # image
printf '\377\377\0\0' | poke 13 8 # labels
ff-data check f/train --threads 1 -q > one || echo "exit $?"
ff-data check f/train --threads 3 -q > three || echo "exit $?"
cmp one three
cat one
mkdir -p g/ann g/bob
start=$(awk '$1 == 1 {print $2}' f/train/train.idx) end=$(awk '$1 == 2 {print $2}' f/train/train.idx)
tail -c +$((start + 33)) f/train/train.rec | head -c $((end - start - 32)) > g/ann/1.jpg
cp g/ann/1.jpg g/bob/2.jpg
ff-data check g -q
