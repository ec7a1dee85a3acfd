#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Unpacks the bundle in a bare Debian (debootstrap minbase, none of our packages) and makes
# faces, trains, scores and sweeps there: bundle_check.sh BUILD_DIR
# Needs root, and the network for the first time; the bare system is kept in the build folder.
set -euo pipefail

build=$(realpath "${1:?usage: bundle_check.sh BUILD_DIR}")
repo=$(cd "$(dirname "$0")/../.." && pwd)
archive=$(ls -t "$build"/bundle/fastface-*.tar.xz | head -n 1)
name=$(basename "$archive" .tar.xz)
bare=$build/bundle/bare-bookworm
if [ "$(id -u)" != 0 ]; then
    echo "bundle-check: needs root, for debootstrap and chroot" >&2
    exit 1
fi
if [ ! -e "$bare/.complete" ]; then
    bash "$repo/tests/tools/install_packages.sh" debootstrap
    rm -rf "$bare"
    debootstrap --variant=minbase bookworm "$bare" "${MIRROR:-http://deb.debian.org/debian}" \
        >"$build/bundle/debootstrap.log" || {
        tail -n 5 "$build/bundle/debootstrap.log" >&2
        exit 1
    }
    touch "$bare/.complete"
fi
rm -rf "$bare/root/run"
mkdir -p "$bare/root/run"
tar -C "$bare/root/run" -xf "$archive"
cat >"$bare/root/run/check.sh" <<SH
set -eu
mount -t proc proc /proc
cd /root/run
for package in libhdf5-103-1 libdnnl2 libcairo2 libgomp1 fonts-dejavu-core; do
    if dpkg-query -W "\$package" 2>/dev/null; then exit 1; fi
done
if [ -e /usr/share/fonts ]; then exit 1; fi
export PATH="/root/run/$name/bin:\$PATH" OMP_NUM_THREADS=1
for program in ff-grid ff-train ff-eval ff-data; do \$program --version; done
ff-data synth --no-check --out faces --identities 12 --images 16 --image-size 32 \
    --eval-identities 8 --eval-images 4 -q >synth.log
cat >g.yaml <<YAML
name: g
train: {data: faces/train, backbone: r18, width: 0.125, image_size: 32, batch: 16, epochs: 1, embedding: 32, threads: 1, backend: onednn}
sweep: {tau: [0.05, 0.1]}
eval: [{protocol: ijbc, root: faces/ijb}]
metric: tar@1e-1
YAML
ff-grid g.yaml --out s 2>log || { cat log; exit 1; }
if grep -i font log; then exit 1; fi
head -c 4 s/heatmap.png | tail -c 3
echo " \$(stat -c %s s/heatmap.png) bytes"
ff-train export "\$(ls s/cells/*/model.h5 | head -n 1)" --onnx m.onnx
for test in /root/run/$name/tests/cuda/test_*; do [ ! -x \$test ] || \$test --list >/dev/null; done
/root/run/$name/bench/bench_train --width 0.125 --image-size 32 --batch 4 --steps 2 --repeats 1 --warmup 1 --threads 1
SH
unshare --mount --pid --fork chroot "$bare" /bin/bash /root/run/check.sh
echo "bundle-check: $name works in a bare $(cat "$bare/etc/debian_version")"
