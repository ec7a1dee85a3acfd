# SPDX-License-Identifier: MIT
printf "tau: 0.1\n" > p.yaml; ff-train p.yaml -n --set tau=0.25 --set lambda=1e-4
