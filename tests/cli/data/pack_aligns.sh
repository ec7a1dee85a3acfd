# SPDX-License-Identifier: MIT
# Photographs with landmarks become aligned faces; a bad list and a stop are told apart.
set -e
ff-data synth --no-check --out f --identities 1 --images 1 --image-size 32 --eval-identities 3 --eval-images 4 -q
list=f/ijb/meta/ijbc_name_5pts_score.txt
mkdir -p set/ann set/bob
n=0
while read -r name points; do
    id=$([ $((n % 2)) = 0 ] && echo ann || echo bob)
    n=$((n + 1))
    cp "f/ijb/loose_crop/$name" "set/$id/"
    echo "$id/$name ${points% *}"
done < $list > points.txt
ff-data pack set --out a --landmarks points.txt --size 64 --threads 1
ff-data pack set --out b --landmarks points.txt --size 64 --threads 3 -q
for file in train.rec train.idx property; do cmp a/$file b/$file; done
ff-data pack set --out c --landmarks points.txt --size 64 --quality 30 -q
[ "$(stat -c %s c/train.rec)" -lt "$(stat -c %s a/train.rec)" ]
ff-data info a
ff-data check a
sed '2s/ [^ ]*$//' points.txt > bad.txt
ff-data pack set --out d --landmarks bad.txt || echo "exit $?"
sed 3d points.txt > short.txt
ff-data pack set --out d --landmarks short.txt || echo "exit $?"
ff-data pack set --out d --quality 90 || echo "exit $?"
# Stopped while it waits for the list: the pipe opens once the program reads it.
mkfifo pipe
ff-data pack set --out d --landmarks pipe --size 64 -q &
exec 9> pipe
kill -INT $!
cat points.txt >&9 || echo "it stopped without them"
exec 9>&-
wait $! || echo "exit $?"
[ ! -e d/train.rec ]
ff-data pack set --out d --landmarks points.txt --size 64 -q
cmp a/train.rec d/train.rec
