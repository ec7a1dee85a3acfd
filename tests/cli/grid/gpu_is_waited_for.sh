# SPDX-License-Identifier: MIT
# Another program holds the GPU: the sweep stops with exit code 7 and names it; with --wait-gpu
# it waits, status says so, and Ctrl-C ends the wait. A script stands for an ff-train that is
# refused the GPU.
set -e
mkdir bin
cp "$FF_BUILD"/bin/{ff-grid,ff-data,ff-eval} bin
cat > bin/ff-train <<'SH'
#!/bin/sh
echo 'ff-train: GPU busy: GPU-1 is held by pid 9 (ff-train a.yaml), user anna' >&2
exit 7
SH
chmod +x bin/ff-train
PATH="$PWD/bin:$PATH"
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 2 --eval-images 4 -q
cp "$FF_TESTS"/fixtures/pairs/bytes_p4.bin .
cat > g.yaml <<'YAML'
name: a
train: {data: f/train, batch: 4, backbone: r18, image_size: 16}
eval: [{protocol: pairs, bin: [bytes_p4.bin]}]
metric: accuracy@bytes_p4
YAML
rc=0
ff-grid g.yaml --out s > out || rc=$?
echo "exit $rc"
ff-grid g.yaml --out s --wait-gpu > out 2> err &
for _ in $(seq 300); do
    grep -q ' wait ' s/events.log && break
    sleep 0.1
done
ff-grid status s | grep -E 'waiting|planned'
kill -INT $!
rc=0
wait $! || rc=$?
echo "exit $rc"
grep -o 'waiting for the GPU: .*' err
tail -n 1 s/events.log | cut -d' ' -f2-
