# SPDX-License-Identifier: MIT
# Each bad file ends with its own line and code, and leaves no result behind.
set -e
P="$FF_TESTS/fixtures/pairs"
ff-data synth --no-check --out f --identities 4 --images 4 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 1\nthreads: 1\n" > p.yaml
ff-train p.yaml --out run > log 2>&1
head -c 2000 "$P/bytes_p3.bin" > cut.bin
for file in "$P"/{damaged,few,odd,refused,side20,none}.bin cut.bin run/model.h5; do
    rc=0
    ff-eval pairs --bin "$P/bytes_p4.bin" "$file" --model run/model.h5 --threads 1 --out e.yaml || rc=$?
    echo "${file##*/} $rc"
done
ff-eval pairs --bin "$P/bytes_p4.bin" "$P/../pairs/bytes_p4.bin" --model run/model.h5 || echo "twice $?"
ff-eval pairs --model run/model.h5 || echo "no file $?"
ff-eval pairs --bin "$P/bytes_p4.bin" || echo "no model $?"
ls e.yaml 2>/dev/null || echo "nothing left behind"
