# SPDX-License-Identifier: MIT
ff-grid --help
