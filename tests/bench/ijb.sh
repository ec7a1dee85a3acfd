#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ff-eval on a problem of IJB-C's size against Python. Usage: ijb.sh DIR BUILD_FOLDER
# DIR (2.2 GB) is filled where it holds no problem yet, and kept.
set -euo pipefail
dir=${1:-} build=${2:?usage: ijb.sh DIR BUILD_FOLDER}
if [ -z "$dir" ]; then
    echo "bench-ijb: DIR=folder is needed; the problem takes 2.2 GB there" >&2
    exit 2
fi
if [ ! -e "$dir/complete" ]; then
    "$build/tests/bench/make_ijb_problem" "$dir"
    touch "$dir/complete"
fi
exec "${PYTHON:-/usr/bin/python3}" "$(dirname "$0")/ijb_baseline.py" table "$dir" "$build"
