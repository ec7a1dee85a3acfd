# SPDX-License-Identifier: MIT
printf "data: x\nprecision: fp16\nbackend: onednn\n" > p.yaml; ff-train p.yaml --out run
