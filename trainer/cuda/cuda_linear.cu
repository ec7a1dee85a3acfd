/* SPDX-License-Identifier: MIT */
/* Linear layer in f32: three products by cuBLASLt, the bias by kernels. The products of
 * a shape are planned at its first use. */
#include <stdlib.h>

#include "cuda_launch.h"

enum { THREADS = 128 };

struct cuda_linear {
    int N, F, D;
    struct cuda_gemm *forward, *by_src, *by_weight;
    struct cuda_linear *next;
};

static __global__ void bias_kernel(float *dst, const float *bias, int64_t count, int D)
{
    int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count)
        dst[i] += bias[i % D];
}

static __global__ void dbias_kernel(float *dbias, const float *ddst, int N, int D)
{
    int d = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    double sum = 0;
    if (d >= D)
        return;
    for (int n = 0; n < N; n++)
        sum += (double)ddst[(int64_t)n * D + d];
    dbias[d] = (float)sum;
}

static void destroy(struct cuda_linear *l)
{
    if (!l)
        return;
    cuda_gemm_destroy(l->forward);
    cuda_gemm_destroy(l->by_src);
    cuda_gemm_destroy(l->by_weight);
    free(l);
}

void cuda_linear_close(struct cuda_ctx *cu)
{
    while (cu->linear) {
        struct cuda_linear *l = cu->linear;
        cu->linear = l->next;
        destroy(l);
    }
}

static const struct cuda_linear *plan(struct cuda_ctx *cu, int N, int F, int D)
{
    struct ff_err err = FF_ERR_INIT;
    for (struct cuda_linear *l = cu->linear; l; l = l->next)
        if (l->N == N && l->F == F && l->D == D)
            return l;
    struct cuda_linear *l = static_cast<cuda_linear *>(calloc(1, sizeof *l));
    int rc = l ? 0 : ff_err_set(&err, FF_ENOMEM, "out of memory");
    if (!rc) {
        l->N = N;
        l->F = F;
        l->D = D;
        const struct cuda_gemm_shape forward = {N, D, F, false,    true,
                                                F, F, D, CUDA_F32, CUDA_F32};
        const struct cuda_gemm_shape by_src = {N, F, D, false,    false,
                                               D, F, F, CUDA_F32, CUDA_F32};
        const struct cuda_gemm_shape by_weight = {D, F, N, true,     false,
                                                  D, F, F, CUDA_F32, CUDA_F32};
        rc = cuda_gemm_create(&l->forward, cu, &forward, &err);
        if (!rc)
            rc = cuda_gemm_create(&l->by_src, cu, &by_src, &err);
        if (!rc)
            rc = cuda_gemm_create(&l->by_weight, cu, &by_weight, &err);
    }
    if (rc) {
        cuda_fail(cu, rc, &err);
        destroy(l);
        return NULL;
    }
    l->next = cu->linear;
    cu->linear = l;
    return l;
}

void cuda_linear_fwd(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                     const struct ff_tensor *src, const struct ff_tensor *weight,
                     const struct ff_tensor *bias, int N, int F, int D)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    const struct cuda_linear *l = plan(cu, N, F, D);
    int64_t count = (int64_t)N * D;
    if (!l)
        return;
    cuda_side_spare(cu, dst);
    cuda_gemm_run(cu, l->forward, 1, dst->data, src->data, weight->data);
    if (bias)
        launch(cu, "bias", bias_kernel, dim3(blocks_for(count, THREADS, 1 << 30)),
               dim3(THREADS), as<float>(dst), as<const float>(bias), count, D);
}

void cuda_linear_bwd(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                     struct ff_tensor *dweight, struct ff_tensor *dbias,
                     const struct ff_tensor *ddst, const struct ff_tensor *src,
                     const struct ff_tensor *weight, int N, int F, int D)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    const struct cuda_linear *l = plan(cu, N, F, D);
    if (!l)
        return;
    cuda_side_spare(cu, dsrc);
    cuda_gemm_run(cu, l->by_src, 1, dsrc->data, ddst->data, weight->data);
    cuda_gemm_run(cu, l->by_weight, 1, dweight->data, ddst->data, src->data);
    if (dbias)
        launch(cu, "dbias", dbias_kernel, dim3(blocks_for(D, THREADS, 1 << 30)),
               dim3(THREADS), as<float>(dbias), as<const float>(ddst), N, D);
}
