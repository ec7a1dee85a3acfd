# SPDX-License-Identifier: MIT
# Galleries and probes out of a small set: every second template of a person is a probe.
set -e
ff-data synth --no-check --out f --identities 2 --images 4 --image-size 32 --eval-identities 8 --eval-images 6 -q
printf "data: f/train\nbackbone: r18\nwidth: 0.1\nimage_size: 32\nembedding: 16\nbatch: 4\nepochs: 1\n" > p.yaml
ff-train p.yaml --out run > log
m=f/ijb/meta
awk '$3 { if (!($1 in s) && !($2 in s)) { s[$1] = s[$2] = ++n }
          else if ($1 in s) s[$2] = s[$1]; else s[$1] = s[$2] }
     END { for (t in s) print t "," s[t] }' $m/ijbc_template_pair_label.txt | sort -t, -n > all
echo t,s | tee $m/ijbc_1N_gallery_G1.csv $m/ijbc_1N_gallery_G2.csv > $m/ijbc_1N_probe_mixed.csv
awk -F, -v m=$m '{ k = seen[$2]++ % 2
    print > (m "/ijbc_1N_" (k ? "probe_mixed" : $2 % 2 ? "gallery_G1" : "gallery_G2") ".csv.part") }' all
for l in gallery_G1 gallery_G2 probe_mixed; do cat $m/ijbc_1N_$l.csv.part >> $m/ijbc_1N_$l.csv; done
ff-eval identify --root f/ijb --model run/model.h5 --save-features f.h5 --out a.yaml
ff-eval identify --root f/ijb --features f.h5 --out b.yaml --threads 3 > table
for y in a b; do grep -vE "^(seconds|backend)" $y.yaml > $y; done
cmp a b && echo same
echo 999999,1 >> $m/ijbc_1N_gallery_G2.csv
ff-eval identify --root f/ijb --features f.h5 || echo "exit $?"
sed -i '$d; 1d' $m/ijbc_1N_gallery_G2.csv
ff-eval identify --root f/ijb --features f.h5 || echo "exit $?"
