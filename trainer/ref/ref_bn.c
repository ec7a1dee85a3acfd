/* SPDX-License-Identifier: MIT */
/* Batch normalisation with PReLU and residual, forward and backward, in double. Matches
 * torch.nn.BatchNorm2d (eps 1e-5, momentum 0.1, biased normalisation, unbiased running
 * variance) and torch.nn.PReLU (slope taken where the input is <= 0). */
#include <math.h>

#include "ref_priv.h"

void ff_ref_bn_stats(struct ff_ops_ctx *ctx, struct ff_tensor *stats,
                     const struct ff_tensor *src, int64_t M, int C)
{
    (void)ctx;
    const float *x = ff_f32(src);
    double *sum = ff_f64(stats), *sum_sq = sum + C;
    for (int c = 0; c < C; c++)
        sum[c] = sum_sq[c] = 0;
    for (int64_t m = 0; m < M; m++)
        for (int c = 0; c < C; c++) {
            double v = x[m * C + c];
            sum[c] += v;
            sum_sq[c] += v * v;
        }
}

void ff_ref_bn_finalize(struct ff_ops_ctx *ctx, struct ff_bn *bn,
                        const struct ff_tensor *stats, int64_t M)
{
    (void)ctx;
    const double *sum = ff_f64(stats), *sum_sq = sum + bn->C;
    for (int c = 0; c < bn->C; c++) {
        double mean = sum[c] / (double)M;
        double var = fmax(0.0, sum_sq[c] / (double)M - mean * mean);
        double unbiased = M > 1 ? var * (double)M / (double)(M - 1) : var;
        double invstd = 1.0 / sqrt(var + (double)FF_BN_EPS);
        double scale = ff_f32(&bn->weight)[c] * invstd;
        float *running_mean = ff_f32(&bn->running_mean) + c;
        float *running_var = ff_f32(&bn->running_var) + c;
        ff_f32(&bn->mean)[c] = (float)mean;
        ff_f32(&bn->invstd)[c] = (float)invstd;
        ff_f32(&bn->scale)[c] = (float)scale;
        ff_f32(&bn->shift)[c] = (float)(ff_f32(&bn->bias)[c] - scale * mean);
        *running_mean = (float)((1 - (double)FF_BN_MOMENTUM) * *running_mean +
                                (double)FF_BN_MOMENTUM * mean);
        *running_var = (float)((1 - (double)FF_BN_MOMENTUM) * *running_var +
                               (double)FF_BN_MOMENTUM * unbiased);
    }
}

void ff_ref_bn_finalize_running(struct ff_ops_ctx *ctx, struct ff_bn *bn)
{
    (void)ctx;
    for (int c = 0; c < bn->C; c++) {
        double invstd =
            1.0 / sqrt((double)ff_f32(&bn->running_var)[c] + (double)FF_BN_EPS);
        double scale = ff_f32(&bn->weight)[c] * invstd;
        ff_f32(&bn->scale)[c] = (float)scale;
        ff_f32(&bn->shift)[c] =
            (float)(ff_f32(&bn->bias)[c] - scale * ff_f32(&bn->running_mean)[c]);
    }
}

void ff_ref_bn_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                     const struct ff_tensor *src, const struct ff_bn *bn,
                     const struct ff_tensor *slope, const struct ff_tensor *residual,
                     const struct ff_bn *residual_bn, struct ff_tensor *stats,
                     int64_t M)
{
    int C = bn->C;
    const float *x = ff_f32(src), *add = ff_f32(residual), *a = ff_f32(slope);
    float *y = ff_f32(dst);
    for (int64_t m = 0; m < M; m++)
        for (int c = 0; c < C; c++) {
            int64_t i = m * C + c;
            double v = (double)ff_f32(&bn->scale)[c] * x[i] + ff_f32(&bn->shift)[c];
            if (a && !(v > 0))
                v *= a[c];
            if (add && residual_bn)
                v += (double)ff_f32(&residual_bn->scale)[c] * add[i] +
                     ff_f32(&residual_bn->shift)[c];
            else if (add)
                v += add[i];
            y[i] = (float)v;
        }
    if (stats)
        ff_ref_bn_stats(ctx, stats, dst, M, C);
}

/* Gradient behind the activation: ddst * act'(pre); *pre is set. */
static double behind_activation(double *pre, const struct ff_bn *bn, const float *slope,
                                double x, double dout, int c)
{
    *pre = (double)ff_f32(&bn->scale)[c] * x + ff_f32(&bn->shift)[c];
    return slope && !(*pre > 0) ? dout * slope[c] : dout;
}

void ff_ref_bn_bwd_reduce(struct ff_ops_ctx *ctx, struct ff_tensor *dweight,
                          struct ff_tensor *dbias, struct ff_tensor *dslope,
                          const struct ff_tensor *ddst, const struct ff_tensor *src,
                          const struct ff_bn *bn, const struct ff_tensor *slope,
                          int64_t M)
{
    (void)ctx;
    int C = bn->C;
    const float *x = ff_f32(src), *dout = ff_f32(ddst), *a = ff_f32(slope);
    for (int c = 0; c < C; c++) {
        double sum_dy = 0, sum_dy_xhat = 0, sum_slope = 0;
        double mean = ff_f32(&bn->mean)[c], invstd = ff_f32(&bn->invstd)[c];
        for (int64_t m = 0; m < M; m++) {
            int64_t i = m * C + c;
            double pre, dy = behind_activation(&pre, bn, a, x[i], dout[i], c);
            sum_dy += dy;
            sum_dy_xhat += dy * (x[i] - mean) * invstd;
            if (a && !(pre > 0))
                sum_slope += dout[i] * pre;
        }
        ff_f32(dbias)[c] = (float)sum_dy;
        ff_f32(dweight)[c] = (float)sum_dy_xhat;
        if (a)
            ff_f32(dslope)[c] = (float)sum_slope;
    }
}

void ff_ref_bn_bwd_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                         const struct ff_tensor *ddst, const struct ff_tensor *src,
                         const struct ff_bn *bn, const struct ff_tensor *slope,
                         const struct ff_tensor *dweight, const struct ff_tensor *dbias,
                         const struct ff_tensor *add, const struct ff_bn_next *next,
                         int64_t M)
{
    int C = bn->C;
    const float *x = ff_f32(src), *dout = ff_f32(ddst), *a = ff_f32(slope);
    const float *more = ff_f32(add);
    float *dx = ff_f32(dsrc);
    for (int64_t m = 0; m < M; m++)
        for (int c = 0; c < C; c++) {
            int64_t i = m * C + c;
            double mean = ff_f32(&bn->mean)[c], invstd = ff_f32(&bn->invstd)[c];
            double pre, dy = behind_activation(&pre, bn, a, x[i], dout[i], c);
            double xhat = (x[i] - mean) * invstd;
            double v = ff_f32(&bn->scale)[c] * (dy - ff_f32(dbias)[c] / (double)M -
                                                xhat * ff_f32(dweight)[c] / (double)M);
            dx[i] = (float)(v + (more ? more[i] : 0.0));
        }
    if (next)
        ff_ref_bn_bwd_reduce(ctx, next->dweight, next->dbias, next->dslope, dsrc,
                             next->src, next->bn, next->slope, M);
}
