/* SPDX-License-Identifier: MIT */
/* Object headers of an HDF5 file, read before the library reads them: it takes lengths,
 * types and shapes in them on trust (see h5_raw.h). */
#ifndef FF_H5_HEADER_H
#define FF_H5_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Addresses and lengths in the file are of 8 bytes, little-endian, as all numbers. */
#define FF_H5_ADDRESS 8
/* `count` <= 8 bytes as an unsigned number. */
uint64_t ff_h5_number(const uint8_t *bytes, int count);

/* NULL if the library may have the object whose header stands at `address` of the file
 * mapped at `file`, `size` bytes, else what is wrong with it (a literal).
 * Of a group its attributes and names must lie within their bounds; of a dataset also
 * type, shape and storage, which must be what we read: IEEE floats of 2, 4 or 8 bytes,
 * integers of 1 to 8, texts, whole in this file, neither in chunks nor compressed. */
const char *ff_h5_header_fault(const uint8_t *file, uint64_t size, uint64_t address,
                               bool is_group);

#endif
