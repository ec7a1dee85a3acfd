/* SPDX-License-Identifier: MIT */
/* Matrix products by cuBLASLt, row-major, sums in f32; f32 operands are multiplied as
 * f32 unless the context admits TF32. Algorithms that add in an order that is not fixed
 * are never taken. */
#ifndef FF_CUDA_GEMM_H
#define FF_CUDA_GEMM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda_type.h"
#ifdef __cplusplus
extern "C" {
#endif
#include "err.h"

struct cuda_ctx;
struct cuda_gemm;

/* dst (M, N) of `out` = op(a) op(b), with op(a) (M, K) and op(b) (K, N) of `in`.
 * transpose_a: a is stored (K, M); transpose_b: b is stored (N, K). ld_*: elements from
 * one stored row to the next. */
struct cuda_gemm_shape {
    int64_t M, N, K;
    bool transpose_a, transpose_b;
    int64_t ld_a, ld_b, ld_dst;
    enum cuda_type in, out;
};

int cuda_gemm_open(struct cuda_ctx *cu, struct ff_err *err);
void cuda_gemm_close(struct cuda_ctx *cu);
/* FF_EUSAGE where cuBLASLt has no algorithm for the shape. */
int cuda_gemm_create(struct cuda_gemm **out, struct cuda_ctx *cu,
                     const struct cuda_gemm_shape *shape, struct ff_err *err);
void cuda_gemm_destroy(struct cuda_gemm *gemm);
/* Queues dst = alpha op(a) op(b), multiplied in f32; a failure goes into the context.
 * Device pointers. */
void cuda_gemm_run(struct cuda_ctx *cu, const struct cuda_gemm *gemm, float alpha,
                   void *dst, const void *a, const void *b);
/* Version of the library, as it prints. */
void cuda_gemm_version(char *out, size_t capacity);

#ifdef __cplusplus
}
#endif
#endif
