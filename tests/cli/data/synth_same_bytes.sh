# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out a --identities 3 --images 4 --image-size 32 --eval-identities 3 --eval-images 4 --threads 1 -q
ff-data synth --no-check --out b --identities 3 --images 4 --image-size 32 --eval-identities 3 --eval-images 4 --threads 2 -q
diff -r a b && echo same
