# SPDX-License-Identifier: MIT
set -e
ff-data synth --no-check --out f --identities 3 --images 5 --image-size 32 --eval-identities 2 --eval-images 4 -q
ff-data info f/train
