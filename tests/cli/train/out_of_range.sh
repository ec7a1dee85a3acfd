# SPDX-License-Identifier: MIT
printf "data: x\ntau: 1.5\n" > p.yaml; ff-train p.yaml --out run
