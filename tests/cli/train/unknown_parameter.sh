# SPDX-License-Identifier: MIT
printf "data: x\nlamda: 1.0e-4\n" > p.yaml; ff-train p.yaml --out run
