/* SPDX-License-Identifier: MIT */
/* Convolution as seven loops; products and sums in double. Matches
 * torch.nn.functional.conv2d without bias. */
#include <stdlib.h>

#include "ref_priv.h"

struct ff_conv {
    struct ff_conv_shape shape;
    int P, Q;
    const float *weight; /* (K, R, S, C / groups), borrowed at pack */
};

int ff_ref_conv_create(struct ff_ops_ctx *ctx, struct ff_conv **conv,
                       const struct ff_conv_shape *shape, bool training,
                       struct ff_err *err)
{
    (void)ctx;
    (void)training;
    *conv = calloc(1, sizeof **conv);
    if (!*conv)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    (*conv)->shape = *shape;
    (*conv)->P = ff_conv_out(shape->H, shape->R, shape->stride, shape->pad);
    (*conv)->Q = ff_conv_out(shape->W, shape->S, shape->stride, shape->pad);
    return 0;
}

void ff_ref_conv_destroy(struct ff_ops_ctx *ctx, struct ff_conv *conv)
{
    (void)ctx;
    free(conv);
}

void ff_ref_conv_pack(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                      const struct ff_tensor *weight)
{
    (void)ctx;
    conv->weight = ff_f32(weight);
}

/* Calls BODY with the linear indices of src (x), weight (w) and dst (y) for every
 * triple of elements that meet in a product. */
#define FOR_EACH_PRODUCT(conv, BODY)                                                   \
    do {                                                                               \
        const struct ff_conv_shape s_ = (conv)->shape;                                 \
        for (int n = 0; n < s_.N; n++)                                                 \
            for (int p = 0; p < (conv)->P; p++)                                        \
                for (int q = 0; q < (conv)->Q; q++)                                    \
                    for (int k = 0; k < s_.K; k++)                                     \
                        for (int r = 0; r < s_.R; r++)                                 \
                            for (int t = 0; t < s_.S; t++) {                           \
                                int h = p * s_.stride + r - s_.pad;                    \
                                int u = q * s_.stride + t - s_.pad;                    \
                                if (h < 0 || h >= s_.H || u < 0 || u >= s_.W)          \
                                    continue;                                          \
                                int64_t y =                                            \
                                    (((int64_t)n * (conv)->P + p) * (conv)->Q + q) *   \
                                        s_.K +                                         \
                                    k;                                                 \
                                int share = s_.C / s_.groups;                          \
                                int group = k / (s_.K / s_.groups);                    \
                                int64_t x0 =                                           \
                                    (((int64_t)n * s_.H + h) * s_.W + u) * s_.C +      \
                                    group * share;                                     \
                                int64_t w0 =                                           \
                                    (((int64_t)k * s_.R + r) * s_.S + t) * share;      \
                                for (int c = 0; c < share; c++) {                      \
                                    int64_t x = x0 + c, w = w0 + c;                    \
                                    BODY;                                              \
                                }                                                      \
                            }                                                          \
    } while (0)

/* Runs the accumulation in a double array of n elements, then rounds it into out. */
static double *accumulator(struct ff_ops_ctx *ctx, int64_t n)
{
    double *sum = calloc((size_t)n, sizeof *sum);
    if (!sum && !ctx->error.code)
        ff_err_set(&ctx->error, FF_ENOMEM, "out of memory: %lld bytes wanted",
                   (long long)n * 8);
    return sum;
}

static void round_and_free(float *out, double *sum, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = (float)sum[i];
    free(sum);
}

void ff_ref_conv_fwd(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                     struct ff_tensor *dst, const struct ff_tensor *src,
                     struct ff_tensor *stats)
{
    const struct ff_conv_shape *s = &conv->shape;
    const float *in = ff_f32(src), *weight = conv->weight;
    int64_t M = (int64_t)s->N * conv->P * conv->Q;
    double *sum = accumulator(ctx, M * s->K);
    if (!sum)
        return;
    FOR_EACH_PRODUCT(conv, sum[y] += (double)in[x] * weight[w]);
    round_and_free(ff_f32(dst), sum, M * s->K);
    if (stats)
        ff_ref_bn_stats(ctx, stats, dst, M, s->K);
}

void ff_ref_conv_bwd_data(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                          struct ff_tensor *dsrc, const struct ff_tensor *ddst,
                          const struct ff_tensor *add)
{
    const struct ff_conv_shape *s = &conv->shape;
    const float *dout = ff_f32(ddst), *weight = conv->weight;
    int64_t n_in = (int64_t)s->N * s->H * s->W * s->C;
    double *sum = accumulator(ctx, n_in);
    if (!sum)
        return;
    for (int64_t i = 0; add && i < n_in; i++)
        sum[i] = ff_f32(add)[i];
    FOR_EACH_PRODUCT(conv, sum[x] += (double)dout[y] * weight[w]);
    round_and_free(ff_f32(dsrc), sum, n_in);
}

void ff_ref_conv_bwd_weights(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                             struct ff_tensor *dweight, const struct ff_tensor *src,
                             const struct ff_tensor *ddst)
{
    const struct ff_conv_shape *s = &conv->shape;
    const float *in = ff_f32(src), *dout = ff_f32(ddst);
    int64_t n_weight = (int64_t)s->K * s->R * s->S * (s->C / s->groups);
    double *sum = accumulator(ctx, n_weight);
    if (!sum)
        return;
    FOR_EACH_PRODUCT(conv, sum[w] += (double)dout[y] * in[x]);
    round_and_free(ff_f32(dweight), sum, n_weight);
}
