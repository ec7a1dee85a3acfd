# SPDX-License-Identifier: MIT
# backend: cuda says why it cannot, in one line with exit code 2, before any work; auto goes on
# with the CPU and says the same. With a GPU: trains on it.
library="$FF_BUILD/lib/libff_cuda.so"
ff-data synth --out set --identities 4 --images 6 --image-size 32 --eval-identities 2 \
    --eval-images 2 --impostor-pairs 10 --no-check -q >/dev/null || exit 1
printf 'data: set/train\nbackbone: r18\nwidth: 0.05\nimage_size: 32\nembedding: 16\nbatch: 4\nepochs: 1\nthreads: 1\n' >p.yaml
if [ -e "$library" ] && command -v cuobjdump >/dev/null; then
    for sm in 75 80 86 89 90; do
        cuobjdump --list-elf "$library" 2>/dev/null | grep -q "sm_$sm\." || { echo "no code for sm_$sm"; exit 1; }
    done
    cuobjdump --list-ptx "$library" 2>/dev/null | grep -q "sm_90\." || { echo "no PTX"; exit 1; }
fi
ff-train p.yaml --out cuda --set backend=cuda >out 2>err
rc=$?
if [ $rc -eq 0 ]; then
    grep -q 'backend cuda' err
    exit
fi
[ $rc -eq 2 ] || { echo "exit $rc"; cat err; exit 1; }
[ "$(grep -c . err)" -eq 1 ] || { echo "not one line:"; cat err; exit 1; }
if [ -e "$library" ]; then reason='no GPU: '; else reason='no CUDA backend'; fi
grep -q "backend: cuda: .*$reason" err || { cat err; exit 1; }
[ ! -e cuda/curve.csv ] || exit 1
ff-train p.yaml --out auto >out 2>err || { cat err; exit 1; }
grep -q "backend onednn.*auto: .*$reason" err || { cat err; exit 1; }
ff-train p.yaml --out half --set precision=fp16 >out 2>err
[ $? -eq 2 ] && grep -q 'hint: precision: fp32' err
