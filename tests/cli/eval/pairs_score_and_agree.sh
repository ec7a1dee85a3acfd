# SPDX-License-Identifier: MIT
# Two spellings of the same pairs score alike, by name, in whichever way the files are given;
# the score of the finished model is the last one that training saw.
set -e
P="$FF_TESTS/fixtures/pairs"
ff-data synth --no-check --out f --identities 4 --images 4 --image-size 16 --eval-identities 2 --eval-images 4 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 2\nthreads: 1\nvalidate: [$P/bytes_p4.bin]\n" > p.yaml
ff-train p.yaml --out run > log
ff-eval pairs --bin "$P/bytes_p4.bin" "$P/numpy_p2.bin" --model run/model.h5 --threads 1 --batch 4 --name mine --key k1 --out a.yaml
ff-eval pairs --bin="$P/bytes_p4.bin" --model run/model.h5 --threads 1 --batch 4 --bin "$P/numpy_p2.bin" --out b.yaml > table
grep '^- {name' a.yaml > a; grep '^- {name' b.yaml | cmp - a
sed 's/bytes_p4/numpy_p2/' a | uniq | wc -l
grep -c "^model_sha256: $(sed -n 's/^sha256: //p' run/DONE)$" a.yaml
grep -E '^(name|eval_key|protocol)' a.yaml
last=$(tail -n 1 run/validation.csv | cut -d, -f3)
grep -c "bytes_p4\", accuracy: $last," a
