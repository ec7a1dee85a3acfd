/* SPDX-License-Identifier: MIT */
/* What libff_cuda.so exports: found by name, so it names no symbol of the programs. */
#ifndef FF_CUDA_ENTRY_H
#define FF_CUDA_ENTRY_H

#include "ops.h"

#define FF_CUDA_LIBRARY "libff_cuda.so"
#define FF_CUDA_ENTRY "ff_cuda_open"

/* FF_ENODEV where there is no GPU that it could use, FF_EUSAGE where that one is not
 * there, FF_EBUSY, FF_ENOMEM, FF_EFAIL; threads and backend of the options do not
 * count. */
typedef int ff_cuda_open_fn(const struct ff_ops **ops, struct ff_ops_ctx **ctx,
                            const struct ff_ops_options *options, struct ff_err *err);
__attribute__((visibility("default"))) ff_cuda_open_fn ff_cuda_open;

#endif
