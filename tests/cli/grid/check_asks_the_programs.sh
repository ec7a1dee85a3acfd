# SPDX-License-Identifier: MIT
# check finds what would make every cell fail: the backend, the lists of the evaluation
# set, its pictures.
set -e
ff-data synth --no-check --out f --identities 4 --images 8 --image-size 16 --eval-identities 4 --eval-images 4 -q
meta=f/ijb/meta
cp -r $meta lists
printf 'name: a\ntrain: {data: f/train, batch: 4, backbone: r18, width: 0.1, embedding: 32, image_size: 16, backend: onednn}\neval: [{protocol: ijbc, root: f/ijb}]\n' > g.yaml
check() {
    rc=0
    ff-grid check g.yaml "$@" || rc=$?
    echo "exit $rc"
    cp lists/* $meta
}
check
sed 's/backend: onednn/precision: fp16/' g.yaml > h.yaml
CUDA_VISIBLE_DEVICES= ff-grid check h.yaml || echo "exit $?"
sed -i '2s/^[0-9]*/99999/' $meta/ijbc_template_pair_label.txt
check
sed -i '3s/ [^ ]*$/ x/' $meta/ijbc_name_5pts_score.txt
check
set -- f/ijb/loose_crop/*
rm "$2" "$3"
check
[ ! -e results ]
