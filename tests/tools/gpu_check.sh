#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Every test of the GPU, on a machine that has one; a skipped test fails too.
#   in the tree      gpu_check.sh BUILD_DIR     (make gpu-check)
#   in a bundle      ./gpu-check
# Ends after at most LIMIT seconds (480).
set -uo pipefail

here=$(cd "$(dirname "$(realpath "$0")")" && pwd)
limit=${LIMIT:-480}
if [ -d "$here/tests/cuda" ]; then
    build=$here tests=$here/tests
else
    build=${1:?usage: gpu_check.sh BUILD_DIR} tests=$here/..
fi
# cuDNN and cuBLASLt of Python packages, where the library does not find them by itself.
if [ -z "${FF_CUDA_LIBS:-}" ] && [[ $(ldd "$build/lib/libff_cuda.so") == *"not found"* ]]; then
    FF_CUDA_LIBS=$("${PYTHON:-python3}" -c 'import glob, site
print(":".join(f for p in site.getsitepackages() for f in sorted(glob.glob(p + "/nvidia/*/lib"))))' 2>/dev/null)
    export FF_CUDA_LIBS
fi
nvidia-smi --query-gpu=name,driver_version,memory.total,memory.used --format=csv,noheader 2>/dev/null ||
    echo "gpu-check: no nvidia-smi here"
FF_NO_SKIP=1 timeout --kill-after=5 "$limit" bash "$tests/run.sh" "$build" cuda
rc=$?
[ $rc -ne 124 ] || echo "gpu-check: ended after $limit s"
exit $rc
