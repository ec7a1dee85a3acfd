/* SPDX-License-Identifier: MIT */
/* Batch normalisation stages as OpenMP loops over row ranges.
 *
 * A thread takes one contiguous range of rows; partial sums are added in thread order,
 * so the result is fixed for a number of threads. A pass that also wants the statistics
 * of its result takes them block by block while the block is in cache. Channel counts
 * that are no multiple of 16 (only the embedding's BN1d can be such) go to ref/. */
#include <string.h>

#include "onednn_priv.h"

#define BLOCK_BYTES (128 * 1024) /* of one operand: two of them fit a core's L2 */

static void add_partials(double *out, const double *partial, int64_t count, int threads)
{
    memset(out, 0, (size_t)count * sizeof *out);
    for (int t = 0; t < threads; t++)
        for (int64_t i = 0; i < count; i++)
            out[i] += partial[t * count + i];
}

void onednn_bn_stats(struct ff_ops_ctx *ctx, struct ff_tensor *stats,
                     const struct ff_tensor *src, int64_t M, int C)
{
    if (C % 16) {
        ff_ref_bn_stats(ctx, stats, src, M, C);
        return;
    }
    const struct onednn_rows *k = onednn(ctx)->rows;
    double *partial = onednn_partial(ctx, 2 * C);
    if (!partial)
        return;
#pragma omp parallel num_threads(ctx->threads)
    {
        struct onednn_range r = onednn_my_part(M);
        double *mine = partial + (int64_t)omp_get_thread_num() * 2 * C;
        k->stats(mine, mine + C, ff_f32(src) + r.first * C, r.end - r.first, C);
    }
    add_partials(ff_f64(stats), partial, 2 * C, ctx->threads);
}

void onednn_bn_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                     const struct ff_tensor *src, const struct ff_bn *bn,
                     const struct ff_tensor *slope, const struct ff_tensor *residual,
                     const struct ff_bn *residual_bn, struct ff_tensor *stats,
                     int64_t M)
{
    int C = bn->C;
    if (C % 16) {
        ff_ref_bn_apply(ctx, dst, src, bn, slope, residual, residual_bn, stats, M);
        return;
    }
    const struct onednn_rows *k = onednn(ctx)->rows;
    const float *x = ff_f32(src), *add = ff_f32(residual);
    const float *add_scale = residual_bn ? ff_f32(&residual_bn->scale) : NULL;
    const float *add_shift = residual_bn ? ff_f32(&residual_bn->shift) : NULL;
    float *y = ff_f32(dst);
    double *partial = stats ? onednn_partial(ctx, 2 * C) : NULL;
    if (stats && !partial)
        return;
    int64_t block = BLOCK_BYTES / 4 / C;
#pragma omp parallel num_threads(ctx->threads)
    {
        struct onednn_range r = onednn_my_part(M);
        double *mine = partial ? partial + (int64_t)omp_get_thread_num() * 2 * C : NULL;
        for (int64_t i = r.first; i < r.end; i += block) {
            int64_t n = r.end - i < block ? r.end - i : block;
            k->apply(y + i * C, x + i * C, ff_f32(&bn->scale), ff_f32(&bn->shift),
                     ff_f32(slope), add ? add + i * C : NULL, add_scale, add_shift, n,
                     C);
            if (mine)
                k->stats(mine, mine + C, y + i * C, n, C);
        }
    }
    if (stats)
        add_partials(ff_f64(stats), partial, 2 * C, ctx->threads);
}

void onednn_bn_bwd_reduce(struct ff_ops_ctx *ctx, struct ff_tensor *dweight,
                          struct ff_tensor *dbias, struct ff_tensor *dslope,
                          const struct ff_tensor *ddst, const struct ff_tensor *src,
                          const struct ff_bn *bn, const struct ff_tensor *slope,
                          int64_t M)
{
    int C = bn->C, threads = ctx->threads;
    if (C % 16) {
        ff_ref_bn_bwd_reduce(ctx, dweight, dbias, dslope, ddst, src, bn, slope, M);
        return;
    }
    const struct onednn_rows *k = onednn(ctx)->rows;
    double *partial = onednn_partial(ctx, 3 * C);
    if (!partial)
        return;
#pragma omp parallel num_threads(threads)
    {
        struct onednn_range r = onednn_my_part(M);
        k->bwd_reduce(partial + (int64_t)omp_get_thread_num() * 3 * C,
                      ff_f32(ddst) + r.first * C, ff_f32(src) + r.first * C,
                      ff_f32(&bn->scale), ff_f32(&bn->shift), ff_f32(&bn->mean),
                      ff_f32(&bn->invstd), ff_f32(slope), r.end - r.first, C);
    }
    for (int c = 0; c < C; c++) {
        double sum[3] = {0};
        for (int t = 0; t < threads; t++)
            for (int i = 0; i < 3; i++)
                sum[i] += partial[(int64_t)t * 3 * C + i * C + c];
        ff_f32(dbias)[c] = (float)sum[0];
        ff_f32(dweight)[c] = (float)sum[1];
        if (slope)
            ff_f32(dslope)[c] = (float)sum[2];
    }
}

void onednn_bn_bwd_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                         const struct ff_tensor *ddst, const struct ff_tensor *src,
                         const struct ff_bn *bn, const struct ff_tensor *slope,
                         const struct ff_tensor *dweight, const struct ff_tensor *dbias,
                         const struct ff_tensor *add, const struct ff_bn_next *next,
                         int64_t M)
{
    int C = bn->C;
    if (C % 16) {
        ff_ref_bn_bwd_apply(ctx, dsrc, ddst, src, bn, slope, dweight, dbias, add, next,
                            M);
        return;
    }
    const struct onednn_rows *k = onednn(ctx)->rows;
    double *scratch = onednn_partial(ctx, 3 * C); /* holds 3 C floats */
    if (!scratch)
        return;
    /* scale (dy - dbias/M - (x - mean) invstd dweight/M) = a dy + b x + c. */
    float *a = (float *)scratch, *b = a + C, *c = b + C;
    for (int i = 0; i < C; i++) {
        double scale = ff_f32(&bn->scale)[i], invstd = ff_f32(&bn->invstd)[i];
        double slope_x = -scale * invstd * ff_f32(dweight)[i] / (double)M;
        a[i] = (float)scale;
        b[i] = (float)slope_x;
        c[i] = (float)(-scale * ff_f32(dbias)[i] / (double)M -
                       slope_x * ff_f32(&bn->mean)[i]);
    }
    const float *dout = ff_f32(ddst), *x = ff_f32(src), *more = ff_f32(add);
    float *dx = ff_f32(dsrc);
#pragma omp parallel num_threads(ctx->threads)
    {
        struct onednn_range r = onednn_my_part(M);
        int64_t o = r.first * C;
        k->bwd_apply(dx + o, dout + o, x + o, ff_f32(&bn->scale), ff_f32(&bn->shift),
                     ff_f32(slope), a, b, c, more ? more + o : NULL, r.end - r.first,
                     C);
    }
    if (next)
        onednn_bn_bwd_reduce(ctx, next->dweight, next->dbias, next->dslope, dsrc,
                             next->src, next->bn, next->slope, M);
}
