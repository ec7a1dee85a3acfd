/* SPDX-License-Identifier: MIT */
/* The parts of an HDF5 file that we read ourselves, because the library takes them on
 * trust: libhdf5 1.10.8 clears gigabytes for a wrong end of file in the superblock,
 * copies past the end of a damaged attribute, and runs past its buffers, or for ever,
 * in a damaged heap, where texts and the names of a group are, or on a type or shape
 * that is not what the values were stored as (h5_header.h). */
#ifndef FF_H5_RAW_H
#define FF_H5_RAW_H

#include <hdf5.h>
#include <stddef.h>

#include "err.h"

/* 0 if H5Fopen may have the file: a signature at its start, addresses of 8 bytes, no
 * second file, not cut off, attributes and names of the root group within their bounds.
 * FF_EDATA names file and value. */
int ff_h5_check_start(const char *path, struct ff_err *err);

/* NULL if the library may look for a name in the group `name` below loc, or open the
 * dataset of that name, else what is wrong with it (a literal): see h5_header.h. The
 * object exists. */
const char *ff_h5_object_fault(hid_t loc, const char *name);

/* Memory type of a text of variable length as it stands in the file, FF_H5_TEXT_REF
 * bytes each, for H5Dread and H5Aread; closed by the caller with H5Tclose. Negative on
 * failure. */
#define FF_H5_TEXT_REF 16
hid_t ff_h5_text_ref_type(void);
/* texts[i], i < count: malloc'd copy of the text that ref[i] names in the file of
 * `loc`. After an error texts holds what was made, the rest NULL. *what says what is
 * wrong. Returns 0, FF_EDATA, FF_ENOMEM. */
int ff_h5_resolve_texts(char **texts, const char **what, hid_t loc, const void *ref,
                        size_t count);

#endif
