# SPDX-License-Identifier: MIT
printf "name: g\ntrain:\n  data: x\n  lamda: 1\n" > g.yaml; ff-grid check g.yaml
