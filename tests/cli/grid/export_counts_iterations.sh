# SPDX-License-Identifier: MIT
# The column iteration counts iterations, in a cell that is done and in one that was cut;
# bit_equal is known of cells that are done alone.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 2 -q
printf 'name: a\ntrain: {data: f/train, batch: 4, epochs: 2, backbone: r18, width: 0.1, embedding: 16, image_size: 16, backend: onednn}\nsweep: {tau: [0.1, 0.2, 0.3]}\n' > g.yaml
ff-grid g.yaml --max-cells 1 -q || [ $? -eq 4 ]
column() { # name
    ff-grid export results/a | awk -F, -v name="$1" \
        'NR == 1 { for (i = 1; i <= NF; i++) if ($i == name) at = i } { printf "%s,", $at } END { print "" }'
}
key=$(column train_key | cut -d, -f3)
mkdir "results/a/cells/$key"
head -n 6 results/a/cells/*/curve.csv > curve.csv
mv curve.csv "results/a/cells/$key/"
column iteration
column bit_equal
