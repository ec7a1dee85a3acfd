# SPDX-License-Identifier: MIT
ff-eval ijb --root x
