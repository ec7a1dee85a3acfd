# SPDX-License-Identifier: MIT
printf "name: g\ntrain:\n  data: x\nsweep:\n  tao: [1.0]\n" > g.yaml; ff-grid check g.yaml
