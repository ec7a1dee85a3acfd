# SPDX-License-Identifier: MIT
# Any number of threads gives the same bytes; a killed pack goes on; other content does not.
set -e
ff-data synth --no-check --out f --identities 1 --images 1 --image-size 16 --eval-identities 2 --eval-images 4 -q
size=$(($(awk '$1 == 2 {print $2}' f/train/train.idx) - $(awk '$1 == 1 {print $2}' f/train/train.idx)))
start=$(($(awk '$1 == 1 {print $2}' f/train/train.idx) + 8 + 24))
tail -c +$((start + 1)) f/train/train.rec | head -c $((size - 32)) > one.jpg
for i in 1 2 3 4 5 6 7 8 9 10 11; do cat one.jpg one.jpg > two; mv two one.jpg; done # 2048 of them
for id in ann bob cem; do
    mkdir -p set/$id
    split -b $((size - 32)) -a 4 -d --additional-suffix=.jpg one.jpg set/$id/
done
ff-data pack set --out a --threads 1 -q
ff-data pack set --out b --threads 3 -q
ff-data pack set --out v --threads 2 --verify -q
for dir in b v; do
    for file in train.rec train.idx property; do cmp a/$file $dir/$file; done
done
echo same
# The limit on file sizes kills it behind the first checkpoint.
bytes=$(stat -c %s a/train.rec)
(ulimit -c 0; ulimit -f $((bytes * 9 / 10 / 1024)); ff-data pack set --out c --threads 2 -q) || echo "killed"
[ ! -e c/train.rec ]
ff-data pack set --out c --threads 1
for file in train.rec train.idx property; do cmp a/$file c/$file; done
[ "$(ls c | wc -l)" = 3 ]
echo "went on"
(ulimit -c 0; ulimit -f $((bytes * 9 / 10 / 1024)); ff-data pack set --out d -q) || echo "killed"
cp set/ann/0000.jpg set/bob/new.jpg
ff-data pack set --out d -q
ff-data pack set --out e -q
for file in train.rec train.idx property; do cmp d/$file e/$file; done
echo "anew"
