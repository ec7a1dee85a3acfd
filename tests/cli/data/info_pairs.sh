# SPDX-License-Identifier: MIT
ff-data info "$FF_TESTS/fixtures/pairs/numpy_p5.bin"
ff-data info "$FF_TESTS/fixtures/pairs/odd.bin"
