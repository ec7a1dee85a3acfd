/* SPDX-License-Identifier: MIT */
/* In the place of trainer/cuda_load.c: the emulated backend is linked, not loaded. */
#include "cuda/cuda_entry.h"
#include "cuda_load.h"

int ff_cuda_load(const struct ff_ops **ops, struct ff_ops_ctx **ctx,
                 const struct ff_ops_options *options, struct ff_err *err)
{
    return ff_cuda_open(ops, ctx, options, err);
}
