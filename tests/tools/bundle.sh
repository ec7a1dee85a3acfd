#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A folder that runs on a machine without any of the packages, and its .tar.xz:
# bundle.sh BUILD_DIR
#
#   bin/         the four programs          lib/    libff_cuda.so and the libraries they need
#   tests/cuda/  tests of the GPU, with fixtures; gpu-check in the root runs them
#   bench/       bench_train, torch_*.py; gpu-bench in the root runs a case
#   grids/ share/fonts/ share/licenses/ VERSION
#
# Left to the machine: the C library (what VERSION says of it is the oldest that will do), the
# driver and CUDA's own libraries, which are large and must fit the driver.
set -euo pipefail

build=$(realpath "${1:?usage: bundle.sh BUILD_DIR}")
repo=$(cd "$(dirname "$0")/../.." && pwd)
version=$(sed -n 's/^#define FF_VERSION "\(.*\)"/\1/p' "$repo/common/cli.h")
name=fastface-$version
top=$build/bundle/$name
max_bytes=40000000

bash "$repo/tests/tools/install_packages.sh" patchelf xz-utils
rm -rf "$top"
mkdir -p "$top"/{bin,lib,bench,grids,tests/{cuda,ops},share/{fonts,licenses}}

cp "$build"/bin/ff-{grid,train,eval,data} "$top/bin/"
cp "$build/tests/bench/bench_train" "$repo"/tests/bench/torch_{gpu,iresnet}.py "$top/bench/"
cp "$repo/tests/bench/gpu_bench.sh" "$top/gpu-bench"
cp "$repo/tests/tools/gpu_check.sh" "$top/gpu-check"
cp "$repo/tests/run.sh" "$repo/tests/lsan.supp" "$top/tests/"
cp -r "$repo/tests/fixtures" "$top/tests/"
cp -r "$repo/tests/ops/shapes" "$top/tests/ops/"
cp "$repo"/grids/*.yaml "$top/grids/"
cp "$repo/README.md" "$repo/LICENSE" "$top/"
cp /usr/share/fonts/truetype/dejavu/DejaVuSans{,-Bold}.ttf "$top/share/fonts/"
for test in "$build"/tests/cuda/test_*; do
    if [ -x "$test" ] && [ -f "$repo/tests/cuda/$(basename "$test").c" ]; then
        cp "$test" "$top/tests/cuda/"
    fi
done
[ ! -e "$build/lib/libff_cuda.so" ] || cp "$build/lib/libff_cuda.so" "$top/lib/"

left_out() { # file name of a library
    case $1 in
    # of the C library
    ld-linux* | libc.so.* | libm.so.* | libmvec.so.* | libdl.so.* | libpthread.so.* | \
        librt.so.* | libresolv.so.* | libutil.so.* | libnsl.so.* | libanl.so.* | linux-vdso*) ;;
    # of the driver and of CUDA
    libcuda.so.* | libcudart.so.* | libcublas*.so.* | libcudnn*.so.* | libnvrtc*.so.* | \
        libnvJitLink.so.* | libnvidia-*.so.*) ;;
    *) return 1 ;;
    esac
}

# ldd names the whole closure at once; a library of CUDA that is not found is no matter.
programs=("$top"/bin/* "$top/bench/bench_train")
for file in "$top"/tests/cuda/test_* "$top"/lib/libff_cuda.so; do
    [ ! -e "$file" ] || programs+=("$file")
done
copyright() { # package that a library is of -> its licence
    local package
    package=$(dpkg-query -S "$(realpath "$1")" 2>/dev/null | head -n 1 | cut -d: -f1) || true
    [ -z "$package" ] || [ ! -f "/usr/share/doc/$package/copyright" ] ||
        cp -L "/usr/share/doc/$package/copyright" "$top/share/licenses/$package"
}
while read -r library path; do
    if left_out "$library"; then continue; fi
    if [ "$path" = not ]; then
        echo "bundle: $library is not found" >&2
        exit 1
    fi
    [ -e "$top/lib/$library" ] || cp -L "$path" "$top/lib/$library"
    copyright "$path"
done < <(ldd "${programs[@]}" | awk '$2 == "=>" { print $1, $3 }' | sort -u)
copyright /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf

rpath() { # folders file...
    local folders=$1 file old
    shift
    for file in "$@"; do
        [ -e "$file" ] || continue
        chmod u+w "$file"
        strip --strip-debug "$file"
        old=$(patchelf --print-rpath "$file")
        case $file in
        */libff_cuda.so) patchelf --set-rpath "$folders${old:+:$old}" "$file" ;;
        *) patchelf --set-rpath "$folders" "$file" ;;
        esac
    done
}
rpath "\$ORIGIN/../lib" "$top"/bin/* "$top/bench/bench_train"
rpath "\$ORIGIN/../../lib" "$top"/tests/cuda/test_*
rpath "\$ORIGIN" "$top"/lib/*

glibc=$(for file in "$top"/bin/* "$top"/lib/* "$top"/tests/cuda/test_*; do
    [ ! -f "$file" ] || objdump -T "$file"
done 2>/dev/null | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -n 1)
{
    echo "fastface $version, commit $(git -C "$repo" describe --always --dirty --exclude '*' 2>/dev/null || echo unknown)"
    echo "needs the C library ${glibc/_/ } or newer, $(uname -m)"
    if [ -e "$top/lib/libff_cuda.so" ]; then
        echo "with the CUDA backend; needs an NVIDIA driver, and these:"
        ldd "$build/lib/libff_cuda.so" | awk '{ print $1 }' | grep -E '^lib(cu|nv)' | sort | sed 's/^/  /' || true
    else
        echo "without the CUDA backend"
    fi
} >"$top/VERSION"

tar -C "$build/bundle" --sort=name --owner=0 --group=0 -cf - "$name" | xz -T0 -6 >"$top.tar.xz.tmp"
mv "$top.tar.xz.tmp" "$top.tar.xz"
bytes=$(stat -c %s "$top.tar.xz")
cat "$top/VERSION"
echo "$top.tar.xz: $bytes bytes, $(find "$top/lib" -type f | wc -l) libraries, $(du -sm "$top" | cut -f1) MB unpacked"
if [ "$bytes" -gt $max_bytes ]; then
    echo "bundle: larger than $max_bytes bytes" >&2
    exit 1
fi
