/* SPDX-License-Identifier: MIT */
/* Linear layer by dnnl_sgemm (row-major), the weight in its own plain layout: no
 * reorder. */
#include "onednn_priv.h"

void onednn_linear_fwd(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                       const struct ff_tensor *src, const struct ff_tensor *weight,
                       const struct ff_tensor *bias, int N, int F, int D)
{
    float *y = ff_f32(dst);
    FF_TRY_DNNL(ctx, dnnl_sgemm('N', 'T', N, D, F, 1.0f, ff_f32(src), F, ff_f32(weight),
                                F, 0.0f, y, D));
    for (int64_t n = 0; bias && n < N; n++)
        for (int d = 0; d < D; d++)
            y[n * D + d] += ff_f32(bias)[d];
}

void onednn_linear_bwd(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                       struct ff_tensor *dweight, struct ff_tensor *dbias,
                       const struct ff_tensor *ddst, const struct ff_tensor *src,
                       const struct ff_tensor *weight, int N, int F, int D)
{
    const float *dy = ff_f32(ddst);
    for (int d = 0; dbias && d < D; d++) {
        double sum = 0;
        for (int64_t n = 0; n < N; n++)
            sum += dy[n * D + d];
        ff_f32(dbias)[d] = (float)sum;
    }
    FF_TRY_DNNL(ctx, dnnl_sgemm('N', 'N', N, F, D, 1.0f, dy, D, ff_f32(weight), F, 0.0f,
                                ff_f32(dsrc), F));
    FF_TRY_DNNL(ctx, dnnl_sgemm('T', 'N', D, F, N, 1.0f, dy, D, ff_f32(src), F, 0.0f,
                                ff_f32(dweight), F));
}
