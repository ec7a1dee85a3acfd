# SPDX-License-Identifier: MIT
# An output that cannot be written is told before the model or a set is opened: they are empty.
mkdir folder none
touch none.h5
try() {
    ff-eval "$@" 2>&1
    echo "exit $?"
}
i="ijb --root none --model none.h5"
try $i --roc a.csv --roc nodir/x.png
try $i --save-scores nodir/x.h5
try $i --save-features nodir/x.h5
try $i --out nodir/x.yaml
try $i --out folder
try identify --root none --model none.h5 --out nodir/x.yaml
try pairs --bin none.bin --model none.h5 --out nodir/x.yaml
# Nor is a file written that is also another one, or one that is no file.
ln none.h5 same.h5
mkfifo pipe
try $i --save-features same.h5
try $i --save-scores x.h5 --out x.h5
try ijb --root none --features none.h5 --save-scores none.h5
try $i --out pipe
try identify --root none --model none.h5 --out none.h5
try pairs --bin none.bin --bin x.bin --model none.h5 --out x.bin
[ -p pipe ] && echo "a pipe still"
