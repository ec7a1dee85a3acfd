# SPDX-License-Identifier: MIT
ff-train --help
