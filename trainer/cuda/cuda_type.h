/* SPDX-License-Identifier: MIT */
/* Element types of tensors on a CUDA device; for C and CUDA C++. */
#ifndef FF_CUDA_TYPE_H
#define FF_CUDA_TYPE_H

enum cuda_type { CUDA_F32, CUDA_F16, CUDA_BF16 };

static inline int cuda_type_bytes(enum cuda_type type)
{
    return type == CUDA_F32 ? 4 : 2;
}

static inline const char *cuda_type_name(enum cuda_type type)
{
    return type == CUDA_F32 ? "fp32" : type == CUDA_F16 ? "fp16" : "bf16";
}

#endif
