# SPDX-License-Identifier: MIT
printf "data: \${FF_NO_SUCH}/x\n" > p.yaml; ff-train p.yaml --out run
