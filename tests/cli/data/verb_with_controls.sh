# SPDX-License-Identifier: MIT
ff-data "$(printf 'a\033[31mb')"
