/* SPDX-License-Identifier: MIT */
/* Finds and loads the CUDA backend at run time. */
#ifndef FF_CUDA_LOAD_H
#define FF_CUDA_LOAD_H

#include "ops.h"

/* Opens the backend of libff_cuda.so, sought beside the program and in ../lib of its
 * folder, then where the system looks. cuDNN and cuBLASLt are sought
 * by the library's own path, LD_LIBRARY_PATH, and in the folders that the environment
 * variable FF_CUDA_LIBS names, divided by ':'. FF_ENODEV, with the reason, where there
 * is no library, no driver, or no GPU that it could use; FF_EFAIL where there is a GPU
 * and something is wrong with it, or with what it needs. The library stays loaded. */
int ff_cuda_load(const struct ff_ops **ops, struct ff_ops_ctx **ctx,
                 const struct ff_ops_options *options, struct ff_err *err);

#endif
