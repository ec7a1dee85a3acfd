#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# One case of the training step on a GPU, ours and PyTorch's in turns, into one table:
#   in the tree    gpu_bench.sh BUILD_DIR    (make gpu-bench NET=r50 CLASSES=93431 HEAD=fp16)
#   in a bundle    NET=r50 CLASSES=93431 HEAD=fp16 ./gpu-bench
#
#   NET=r50 CLASSES=93431 HEAD=fp16|fp32 BATCH=128   the case
#   DATA=DIR             one more row: ours with real images through the loader (WORKERS=8)
#   FORMS="..."          of PyTorch: eager channels_last compile graph; "" = ours alone
#   STEPS=200 REPEATS=3 WARMUP=50                    of every side
#   LIMIT=540            seconds for everything; COMPILE_LIMIT=240 for a compiled form,
#                        SIDE_LIMIT=120 for any other
#   TABLE=FILE.csv       rows are appended; $OUT/gpu_bench.csv, else in the build folder
#   SET="a=b c=d"        more of bench_train --set; TORCH_ARGS="..." of torch_gpu.py
#   TF32=1               for PyTorch's fp32 products; PYTHON=python3
#   DEVICE=cpu           tries the script where no GPU is (with SMALL="--width ...")
#
# Ours runs first, between and last, so that a change of the card's clocks shows. Each side is
# a process of its own; one that takes too long costs its row, not the others.
set -uo pipefail

here=$(cd "$(dirname "$(realpath "$0")")" && pwd)
if [ -d "$here/bench" ]; then
    build=$here bench=$here/bench torch=$here/bench/torch_gpu.py
else
    build=${1:?usage: gpu_bench.sh BUILD_DIR} bench=$build/tests/bench torch=$here/torch_gpu.py
fi
# cuDNN and cuBLASLt of Python packages, where the library does not find them by itself.
if [ -z "${FF_CUDA_LIBS:-}" ] && [[ $(ldd "$build/lib/libff_cuda.so") == *"not found"* ]]; then
    FF_CUDA_LIBS=$("${PYTHON:-python3}" -c 'import glob, site
print(":".join(f for p in site.getsitepackages() for f in sorted(glob.glob(p + "/nvidia/*/lib"))))' 2>/dev/null)
    export FF_CUDA_LIBS
fi
net=${NET:-r50} classes=${CLASSES:-93431} head=${HEAD:-fp16} batch=${BATCH:-128}
steps=${STEPS:-200} repeats=${REPEATS:-3} warmup=${WARMUP:-50} device=${DEVICE:-cuda}
forms=${FORMS-eager channels_last compile graph}
table=${TABLE:-${OUT:-$build}/gpu_bench.csv}
python=${PYTHON:-python3}
ends=$((SECONDS + ${LIMIT:-540}))
case $head in fp16 | fp32) ;; *)
    echo "gpu-bench: HEAD=$head: fp16 or fp32" >&2
    exit 2
    ;;
esac
precision=fp16
[ "$device" = cuda ] || precision=fp32 head=fp32
header=side,net,batch,classes,head,precision,status,samples_per_second,low,high,ms_a_step,memory_mib,reserved_mib,loss,device,versions,time
[ -s "$table" ] || echo $header >"$table"
first=$(($(wc -l <"$table") + 1))
read -ra small <<<"${SMALL:-}"
read -ra sets <<<"${SET:-}"
read -ra more <<<"${TORCH_ARGS:-}"
out=$(mktemp)
trap 'rm -f "$out"' EXIT

row() { # side status [samples/s low high ms MiB loss describe]
    local versions="\"${9:-}\""
    echo "$1,$net,$batch,$classes,$head,$precision,$2,${3:-},${4:-},${5:-},${6:-},${7:-},,${8:-},,$versions,$(date -u +%FT%TZ)" >>"$table"
}

# Runs a command for at most $2 seconds of what is left; its output is shown and kept. Where it
# was not let run to its end, its row is written and `noted` set.
limited() { # side seconds command...
    local side=$1 left=$((ends - SECONDS)) seconds=$2 rc
    shift 2
    noted=1
    [ "$left" -ge "$seconds" ] || seconds=$left
    if [ "$seconds" -lt 10 ]; then
        echo "$side: no time left"
        row "$side" "no time left"
        return 1
    fi
    timeout --kill-after=5 "$seconds" "$@" 2>&1 | tee "$out"
    rc=${PIPESTATUS[0]}
    if [ "$rc" = 124 ] || [ "$rc" = 137 ]; then
        echo "$side: ended after $seconds s"
        row "$side" "ended after $seconds s"
        return 1
    fi
    noted=
    return "$rc"
}

ours() { # side [--set ...]
    local side=$1 line
    shift
    local args=(--backbone "$net" --width 1 --batch "$batch" --classes "$classes" --steps "$steps"
        --repeats "$repeats" --warmup "$warmup")
    [ "$device" != cuda ] || args+=(--set backend=cuda --set precision=fp16 --set head_precision="$head")
    for pair in "${sets[@]}"; do args+=(--set "$pair"); done
    limited "$side" "${SIDE_LIMIT:-120}" "$bench/bench_train" "${args[@]}" "${small[@]}" "$@"
    local rc=$?
    line=$(grep -a '^ours [0-9]' "$out")
    if [ $rc -ne 0 ] || [ -z "$line" ]; then
        [ -n "$noted" ] || row "$side" failed
        return
    fi
    # ours R samples/s (LOW to HIGH over N x M steps; DESCRIBE; [X MiB; ] ... loss L)
    local describe=${line#* steps; } memory rate low high
    memory=$(sed -n 's/.*; \([0-9]*\) MiB; .*/\1/p' <<<"$line")
    read -r rate low high < <(sed -E 's/^ours ([0-9.]+) samples\/s \(([0-9.]+) to ([0-9.]+) .*/\1 \2 \3/' <<<"$line")
    row "$side" ok "$rate" "$low" "$high" "$(awk -v r="$rate" -v b="$batch" 'BEGIN { printf "%.3f", 1e3 * b / r }')" \
        "$memory" "$(sed 's/.*loss \([^)]*\)).*/\1/' <<<"$line")" "$(sed -E 's/(; [0-9]+ MiB)?; (loader waited.*; )?loss [^;]*$//; s/"/""/g' <<<"$describe")"
}

pytorch() { # form
    local seconds=${SIDE_LIMIT:-120} before
    case $1 in compile | graph) seconds=${COMPILE_LIMIT:-240} ;; esac
    before=$(wc -l <"$table")
    limited "torch-$1" "$seconds" env PYTHONUNBUFFERED=1 "$python" "$torch" --form "$1" --net "$net" \
        --classes "$classes" --head "$head" --precision "$precision" --batch "$batch" --steps "$steps" \
        --repeats "$repeats" --warmup "$warmup" --device "$device" ${TF32:+--tf32} --csv "$table" "${small[@]}" \
        "${more[@]}"
    [ "$(wc -l <"$table")" -gt "$before" ] || row "torch-$1" failed
}

echo "gpu-bench: $net, batch $batch, 112 x 112, $precision, head of $classes classes in $head," \
    "$repeats x $steps steps after $warmup; table $table"
[ "$device" != cuda ] ||
    nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw,memory.used --format=csv,noheader
: >"$out"
if [ -n "$forms" ] && ! "$python" -c 'import torch' 2>/dev/null; then
    echo "gpu-bench: no PyTorch for $python: ours alone"
    forms=
fi
ours ours
for form in $forms; do
    pytorch "$form"
    ours ours
done
[ -z "${DATA:-}" ] || ours ours-data --set data="$DATA" --set workers="${WORKERS:-8}"

printf '\n| %s, head %s, %s classes | samples/s | ms a step | MiB | |\n|---|---:|---:|---:|---|\n' "$net" "$head" "$classes"
tail -n +"$first" "$table" | awk -F, '
    { state = $7 == "ok" ? "" : $7; printf "| %s | %s | %s | %s | %s |\n", $1, $8, $11, $12, state }
    $7 == "ok" && $1 == "ours" { ours[++n] = $8 }
    $7 == "ok" && $1 ~ /^torch-/ && $8 > best { best = $8; name = $1 }
    END {
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++)
            if (ours[j] + 0 < ours[i] + 0) { t = ours[i]; ours[i] = ours[j]; ours[j] = t }
        if (n && best) printf "\nours (median of %d) / %s: %.2f\n", n, name, ours[int((n + 1) / 2)] / best
    }'
# Failed where our own side gave no figure at all.
tail -n +"$first" "$table" | grep -q '^ours,[^,]*,[^,]*,[^,]*,[^,]*,[^,]*,ok,'
