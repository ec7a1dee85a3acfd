/* SPDX-License-Identifier: MIT */
/* Reader of safetensors files: tensors by name, mapped into memory.
 *
 * Format: u64 length of the header (little endian); a JSON object, name -> {dtype,
 * shape, data_offsets [begin, end)}, offsets from the end of the header, "__metadata__"
 * aside; then the bytes. Everything is checked before it is used. */
#ifndef FF_SAFETENSORS_H
#define FF_SAFETENSORS_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct ff_safetensors;

#define FF_SAFETENSORS_MAX_DIMS 8

struct ff_safetensor {
    char dtype[8]; /* "F32" */
    int ndim;
    int64_t dims[FF_SAFETENSORS_MAX_DIMS], count; /* count = product of dims */
    const uint8_t *data;                          /* borrowed from the file */
    int64_t bytes;
};

/* Opens and checks the header. FF_EDATA with file and tensor, FF_EFAIL, FF_ENOMEM. */
int ff_safetensors_open(struct ff_safetensors **out, const char *path,
                        struct ff_err *err);
void ff_safetensors_close(struct ff_safetensors *file);

/* Whether the file holds a tensor of this name; fills it. */
bool ff_safetensors_find(struct ff_safetensor *tensor,
                         const struct ff_safetensors *file, const char *name);
/* Name of the i-th tensor, from 0; NULL behind the last. */
const char *ff_safetensors_name(const struct ff_safetensors *file, int i);
/* Values of an F32, F16, BF16 or F64 tensor as f32, count of them; the caller frees
 * *values. Another dtype: FF_EDATA. */
int ff_safetensors_f32(float **values, const struct ff_safetensors *file,
                       const struct ff_safetensor *tensor, struct ff_err *err);

#endif
