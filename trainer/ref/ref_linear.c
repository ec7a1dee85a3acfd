/* SPDX-License-Identifier: MIT */
/* Linear layer, in double; matches torch.nn.Linear. */
#include "ref_priv.h"

void ff_ref_linear_fwd(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                       const struct ff_tensor *src, const struct ff_tensor *weight,
                       const struct ff_tensor *bias, int N, int F, int D)
{
    (void)ctx;
    const float *x = ff_f32(src), *w = ff_f32(weight), *b = ff_f32(bias);
    for (int n = 0; n < N; n++)
        for (int d = 0; d < D; d++) {
            double sum = b ? b[d] : 0;
            for (int f = 0; f < F; f++)
                sum += (double)x[(int64_t)n * F + f] * w[(int64_t)d * F + f];
            ff_f32(dst)[(int64_t)n * D + d] = (float)sum;
        }
}

void ff_ref_linear_bwd(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                       struct ff_tensor *dweight, struct ff_tensor *dbias,
                       const struct ff_tensor *ddst, const struct ff_tensor *src,
                       const struct ff_tensor *weight, int N, int F, int D)
{
    (void)ctx;
    const float *x = ff_f32(src), *w = ff_f32(weight), *dy = ff_f32(ddst);
    for (int d = 0; dbias && d < D; d++) {
        double sum = 0;
        for (int n = 0; n < N; n++)
            sum += dy[(int64_t)n * D + d];
        ff_f32(dbias)[d] = (float)sum;
    }
    for (int n = 0; n < N; n++)
        for (int f = 0; f < F; f++) {
            double sum = 0;
            for (int d = 0; d < D; d++)
                sum += (double)dy[(int64_t)n * D + d] * w[(int64_t)d * F + f];
            ff_f32(dsrc)[(int64_t)n * F + f] = (float)sum;
        }
    for (int d = 0; d < D; d++)
        for (int f = 0; f < F; f++) {
            double sum = 0;
            for (int n = 0; n < N; n++)
                sum += (double)dy[(int64_t)n * D + d] * x[(int64_t)n * F + f];
            ff_f32(dweight)[(int64_t)d * F + f] = (float)sum;
        }
}
