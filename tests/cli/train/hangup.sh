# SPDX-License-Identifier: MIT
# A closed terminal is a stop with a checkpoint; under nohup it is nothing.
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q > synth
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 16\nembedding: 16\nbatch: 4\nepochs: 3000\nthreads: 1\n" > p.yaml
hang_up() { # directory, command
    "${@:2}" --out $1 > log 2> $1.err &
    until [ -s $1/curve.csv ]; do sleep 0.02; done
    kill -HUP $!
}
hang_up a env --default-signal=HUP ff-train p.yaml
wait $!
echo "exit $?"
ls a/checkpoint.h5
tail -n 1 a.err
hang_up b nohup ff-train p.yaml
n=$(wc -l < b/curve.csv)
until [ $(wc -l < b/curve.csv) -gt $((n + 20)) ]; do sleep 0.02; done
kill -TERM $!
wait $!
echo "exit $?"
