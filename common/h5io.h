/* SPDX-License-Identifier: MIT */
/* Thin helpers over HDF5: one call a dataset or attribute, errors as ff_err.
 *
 * Files are created with the default library format and without object times, so that
 * equal content gives equal bytes. Library error stacks are silenced; messages name
 * file and dataset. */
#ifndef FF_H5IO_H
#define FF_H5IO_H

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

#include "atomic_file.h"
#include "err.h"

#define FF_H5_MAX_DIMS 8

/* Returns 0 and *file (truncated if there), closed by the caller with H5Fclose. */
int ff_h5_create(hid_t *file, const char *path, struct ff_err *err);
/* Read-only / read-write open of an existing file; FF_EDATA if it is not HDF5, or its
 * attributes are not those that ff_h5_seal saw. */
int ff_h5_open(hid_t *file, const char *path, bool writable, struct ff_err *err);

/* A whole HDF5 file as a file of record (atomic_file.h): begin makes "<path>.tmp.<pid>"
 * and opens it as `file`; end closes it and, if rc is 0, gives it its name, else
 * removes it. end returns rc, or the failure of closing or renaming (FF_EFAIL). */
struct ff_h5_atomic {
    hid_t file;
    char path[FF_PATH_MAX], temporary[FF_PATH_MAX];
};
int ff_h5_begin(struct ff_h5_atomic *out, const char *path, struct ff_err *err);
int ff_h5_end(struct ff_h5_atomic *out, int rc, struct ff_err *err);

/* Writes a whole contiguous dataset. `mem_type` H5T_NATIVE_FLOAT, _DOUBLE, _INT64,
 * _UINT8
 * ...: stored as its little-endian standard type. ndim 0 = scalar. Intermediate groups
 * of a name with '/' are made. */
int ff_h5_write(hid_t loc, const char *name, hid_t mem_type, int ndim,
                const hsize_t *dims, const void *data, struct ff_err *err);
/* The same for what is to be trusted years later: the attribute "crc32" of the dataset
 * holds the CRC-32 (zlib's) of its bytes, and ff_h5_read compares it. */
int ff_h5_write_sealed(hid_t loc, const char *name, hid_t mem_type, int ndim,
                       const hsize_t *dims, const void *data, struct ff_err *err);
/* (n...) variable-length UTF-8 strings. */
int ff_h5_write_strings(hid_t loc, const char *name, int ndim, const hsize_t *dims,
                        const char *const *data, struct ff_err *err);

/* Reads a whole dataset as mem_type. `ndim` must match, each dims[i] > 0 on entry must
 * match, 0 is filled in. *data is malloc'd, the caller frees. FF_EDATA, also where a
 * seal is broken; a dataset in chunks, compressed or not, is refused with the command
 * that makes it plain. */
int ff_h5_read(void **data, hid_t loc, const char *name, hid_t mem_type, int ndim,
               hsize_t *dims, struct ff_err *err);
/* As ff_h5_read for strings; ff_h5_free_strings frees *data and its *count texts. */
int ff_h5_read_strings(char ***data, hid_t loc, const char *name, size_t *count,
                       struct ff_err *err);
void ff_h5_free_strings(char **data, size_t count);
bool ff_h5_exists(hid_t loc, const char *name);
/* A dataset to read piece by piece; the caller ends it with H5Dclose. FF_EDATA. */
int ff_h5_open_dataset(hid_t *dataset, hid_t loc, const char *name, struct ff_err *err);

/* "(64, 3, 3, 3)" into out, cut to capacity >= 1; a dim of 0 as "*" where it means any.
 */
void ff_h5_shape_text(char *out, size_t capacity, int ndim, const hsize_t *dims,
                      bool zero_is_any);

/* Attributes of loc (a file, group or dataset id); set replaces. */
int ff_h5_set_f64(hid_t loc, const char *name, double value, struct ff_err *err);
int ff_h5_set_i64(hid_t loc, const char *name, int64_t value, struct ff_err *err);
int ff_h5_set_text(hid_t loc, const char *name, const char *text, struct ff_err *err);
int ff_h5_get_f64(double *value, hid_t loc, const char *name, struct ff_err *err);
int ff_h5_get_i64(int64_t *value, hid_t loc, const char *name, struct ff_err *err);
/* *text malloc'd. */
int ff_h5_get_text(char **text, hid_t loc, const char *name, struct ff_err *err);
bool ff_h5_has_attribute(hid_t loc, const char *name);
/* Once all numbers and texts of the file itself are set: the attribute "crc32" holds
 * the CRC-32 of their names and values, and ff_h5_open compares it. */
int ff_h5_seal(hid_t file, struct ff_err *err);

#endif
