# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 3 --images 5 --image-size 32 --eval-identities 2 --eval-images 4 -q
ff-data check f/train > clean.txt
offset=$(awk "\$1 == 7 {print \$2}" f/train/train.idx)
printf "XXXX" | dd of=f/train/train.rec bs=1 seek=$((offset + 32)) conv=notrunc status=none
ff-data check f/train
