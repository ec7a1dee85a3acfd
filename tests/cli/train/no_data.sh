# SPDX-License-Identifier: MIT
printf "backbone: r18\n" > p.yaml; ff-train p.yaml --out run
