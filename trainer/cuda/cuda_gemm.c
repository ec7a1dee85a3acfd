/* SPDX-License-Identifier: MIT */
/* Matrix products by cuBLASLt; see cuda_gemm.h.
 *
 * cuBLASLt counts by columns: a row-major (M, N) matrix is its column-major (N, M), so
 * dst' = op(b)' op(a)' with the operands swapped. The algorithm is the first one that
 * the library's heuristics name for the shape; it is a function of shape and device. */
#include "cuda_gemm.h"

#include <cublasLt.h>
#include <stdio.h>
#include <stdlib.h>

#include "cuda_priv.h"

#define WORKSPACE_BYTES (32u << 20) /* what NVIDIA advises on sm_90 */

struct cuda_lt {
    cublasLtHandle_t handle;
};

struct cuda_gemm {
    struct cuda_gemm_shape shape;
    cublasLtMatmulDesc_t op;
    cublasLtMatrixLayout_t a, b, dst; /* row-major names */
    cublasLtMatmulAlgo_t algorithm;
};

static int failed(struct ff_err *err, cublasStatus_t status, const char *call)
{
    int rc = status == CUBLAS_STATUS_ALLOC_FAILED    ? FF_ENOMEM
             : status == CUBLAS_STATUS_NOT_SUPPORTED ? FF_EUSAGE
                                                     : FF_EFAIL;
    return ff_err_set(err, rc, "cuBLASLt: %s (%.120s)", cublasLtGetStatusString(status),
                      call);
}
#define TRY(call)                                                                      \
    do {                                                                               \
        cublasStatus_t status_ = call;                                                 \
        if (status_ != CUBLAS_STATUS_SUCCESS) {                                        \
            rc = failed(err, status_, #call);                                          \
            goto fail;                                                                 \
        }                                                                              \
    } while (0)

int cuda_gemm_open(struct cuda_ctx *cu, struct ff_err *err)
{
    int rc = cuda_workspace_grow(cu, &cu->workspace, WORKSPACE_BYTES, err);
    if (rc)
        return rc;
    cu->lt = calloc(1, sizeof *cu->lt);
    if (!cu->lt)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    TRY(cublasLtCreate(&cu->lt->handle));
    return 0;
fail:
    free(cu->lt);
    cu->lt = NULL;
    return rc;
}

void cuda_gemm_close(struct cuda_ctx *cu)
{
    if (!cu->lt)
        return;
    cublasLtDestroy(cu->lt->handle);
    free(cu->lt);
    cu->lt = NULL;
}

void cuda_gemm_destroy(struct cuda_gemm *g)
{
    if (!g)
        return;
    if (g->a)
        cublasLtMatrixLayoutDestroy(g->a);
    if (g->b)
        cublasLtMatrixLayoutDestroy(g->b);
    if (g->dst)
        cublasLtMatrixLayoutDestroy(g->dst);
    if (g->op)
        cublasLtMatmulDescDestroy(g->op);
    free(g);
}

static cudaDataType_t data_type(enum cuda_type type)
{
    return type == CUDA_F32 ? CUDA_R_32F : type == CUDA_F16 ? CUDA_R_16F : CUDA_R_16BF;
}

/* Layout of a row-major matrix with `columns` of a row, `ld` apart. */
static cublasStatus_t layout(cublasLtMatrixLayout_t *out, enum cuda_type type,
                             int64_t rows, int64_t columns, int64_t ld)
{
    return cublasLtMatrixLayoutCreate(out, data_type(type), (uint64_t)columns,
                                      (uint64_t)rows, ld);
}

static int pick(struct cuda_gemm *g, struct cuda_ctx *cu, struct ff_err *err)
{
    cublasLtMatmulPreference_t preference = NULL;
    cublasLtMatmulHeuristicResult_t found;
    /* Parts kept in f32 and out of place are added in a fixed order; the in-place
     * scheme need not, and the output's type may be halves. */
    uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
    static const cublasLtMatmulPreferenceAttributes_t alignments[] = {
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES};
    uint64_t workspace = WORKSPACE_BYTES;
    uint32_t alignment = 64; /* of a tensor inside a block of parameters */
    int count = 0, rc = 0;
    TRY(cublasLtMatmulPreferenceCreate(&preference));
    TRY(cublasLtMatmulPreferenceSetAttribute(preference,
                                             CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                             &workspace, sizeof workspace));
    TRY(cublasLtMatmulPreferenceSetAttribute(preference,
                                             CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
                                             &schemes, sizeof schemes));
    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++)
        TRY(cublasLtMatmulPreferenceSetAttribute(preference, alignments[i], &alignment,
                                                 sizeof alignment));
    TRY(cublasLtMatmulAlgoGetHeuristic(cu->lt->handle, g->op, g->b, g->a, g->dst,
                                       g->dst, preference, 1, &found, &count));
    if (count < 1 || found.state != CUBLAS_STATUS_SUCCESS)
        rc = ff_err_set(err, FF_EUSAGE, "cuBLASLt has no algorithm for this product");
    else
        g->algorithm = found.algo;
fail:
    if (preference)
        cublasLtMatmulPreferenceDestroy(preference);
    return rc;
}

int cuda_gemm_create(struct cuda_gemm **out, struct cuda_ctx *cu,
                     const struct cuda_gemm_shape *s, struct ff_err *err)
{
    struct cuda_gemm *g = calloc(1, sizeof *g);
    cublasOperation_t b_op = s->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    cublasOperation_t a_op = s->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    int rc = 0;
    *out = NULL;
    if (!g)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    g->shape = *s;
    TRY(cublasLtMatmulDescCreate(&g->op,
                                 cu->tf32 && s->in == CUDA_F32
                                     ? CUBLAS_COMPUTE_32F_FAST_TF32
                                     : CUBLAS_COMPUTE_32F,
                                 CUDA_R_32F));
    TRY(cublasLtMatmulDescSetAttribute(g->op, CUBLASLT_MATMUL_DESC_TRANSA, &b_op,
                                       sizeof b_op));
    TRY(cublasLtMatmulDescSetAttribute(g->op, CUBLASLT_MATMUL_DESC_TRANSB, &a_op,
                                       sizeof a_op));
    TRY(layout(&g->a, s->in, s->transpose_a ? s->K : s->M, s->transpose_a ? s->M : s->K,
               s->ld_a));
    TRY(layout(&g->b, s->in, s->transpose_b ? s->N : s->K, s->transpose_b ? s->K : s->N,
               s->ld_b));
    TRY(layout(&g->dst, s->out, s->M, s->N, s->ld_dst));
    rc = pick(g, cu, err);
    if (rc)
        goto fail;
    *out = g;
    return 0;
fail:
    cuda_gemm_destroy(g);
    return rc;
}

void cuda_gemm_run(struct cuda_ctx *cu, const struct cuda_gemm *g, float alpha,
                   void *dst, const void *a, const void *b)
{
    const float zero = 0;
    cublasStatus_t status = cublasLtMatmul(
        cu->lt->handle, g->op, &alpha, b, g->b, a, g->a, &zero, dst, g->dst, dst,
        g->dst, &g->algorithm, cu->workspace.data, WORKSPACE_BYTES, cu->stream);
    if (status != CUBLAS_STATUS_SUCCESS) {
        struct ff_err err = FF_ERR_INIT;
        char call[96];
        snprintf(call, sizeof call, "product (%lld, %lld) of %lld",
                 (long long)g->shape.M, (long long)g->shape.N, (long long)g->shape.K);
        cuda_fail(cu, failed(&err, status, call), &err);
    }
}

void cuda_gemm_version(char *out, size_t capacity)
{
    size_t v = cublasLtGetVersion();
    snprintf(out, capacity, "%zu.%zu.%zu", v / 10000, v / 100 % 100, v % 100);
}
