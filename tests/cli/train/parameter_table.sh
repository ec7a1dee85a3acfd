# SPDX-License-Identifier: MIT
ff-train params
