/* SPDX-License-Identifier: MIT */
/* Grouped and depthwise convolutions as own loops on channel-last activations.
 *
 * With one or two channels a group there is no matrix to multiply: an output is a sum
 * over the taps of channel-wise products, bound by memory, and oneDNN has only its
 * reference kernel for two channels a group in this layout. The gradient by the input
 * is the same sum with the weights of a group transposed. Gradients of the weights are
 * summed along a row in float, over rows in double; threads take rows and are added in
 * their order. */
#include <stdlib.h>
#include <string.h>

#include "onednn_priv.h"

#define MAX_TAPS 784 /* 28 x 28: the last map of 448 x 448 pixels */

struct onednn_group {
    struct ff_conv_shape shape;
    int P, Q, taps, share; /* share: channels of a group */
    float *forward;        /* (taps, share, C): w(c, tap, j) */
    float *backward;       /* (taps, share, C): w(c - c % share + j, tap, c % share) */
};

int onednn_group_create(struct ff_ops_ctx *ctx, struct onednn_group **out,
                        const struct ff_conv_shape *shape, struct ff_err *err)
{
    (void)ctx;
    int share = shape->C / shape->groups;
    *out = NULL;
    if (shape->C != shape->K || shape->C % 16 || shape->C % shape->groups ||
        share > 2 || shape->R * shape->S > MAX_TAPS)
        return ff_err_set(err, FF_EUSAGE,
                          "no kernel for a convolution C%d K%d R%d of %d groups",
                          shape->C, shape->K, shape->R, shape->groups);
    struct onednn_group *g = calloc(1, sizeof *g);
    if (!g)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    g->shape = *shape;
    g->P = ff_conv_out(shape->H, shape->R, shape->stride, shape->pad);
    g->Q = ff_conv_out(shape->W, shape->S, shape->stride, shape->pad);
    g->taps = shape->R * shape->S;
    g->share = share;
    size_t count = (size_t)g->taps * (size_t)share * (size_t)shape->C;
    g->forward = calloc(count, sizeof *g->forward);
    g->backward = calloc(count, sizeof *g->backward);
    if (!g->forward || !g->backward) {
        onednn_group_destroy(g);
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    }
    *out = g;
    return 0;
}

void onednn_group_destroy(struct onednn_group *group)
{
    if (!group)
        return;
    free(group->forward);
    free(group->backward);
    free(group);
}

void onednn_group_pack(struct onednn_group *g, const float *weight)
{
    int C = g->shape.C, share = g->share;
    for (int tap = 0; tap < g->taps; tap++)
        for (int j = 0; j < share; j++)
            for (int c = 0; c < C; c++) {
                int64_t to = (int64_t)(tap * share + j) * C + c;
                int other = c - c % share + j;
                g->forward[to] = weight[((int64_t)c * g->taps + tap) * share + j];
                g->backward[to] =
                    weight[((int64_t)other * g->taps + tap) * share + c % share];
            }
}

void onednn_group_fwd(struct ff_ops_ctx *ctx, struct onednn_group *g, float *dst,
                      const float *src)
{
    const struct ff_conv_shape *s = &g->shape;
    const struct onednn_rows *k = onednn(ctx)->rows;
    int64_t tap_size = (int64_t)g->share * s->C;
#pragma omp parallel num_threads(ctx->threads)
    {
        struct onednn_range part = onednn_my_part((int64_t)s->N * g->P);
        const float *x[MAX_TAPS], *w[MAX_TAPS];
        for (int64_t row = part.first; row < part.end; row++)
            for (int q = 0; q < g->Q; q++) {
                int64_t n = row / g->P;
                int p = (int)(row % g->P), taps = 0;
                for (int tap = 0; tap < g->taps; tap++) {
                    int h = p * s->stride + tap / s->S - s->pad;
                    int u = q * s->stride + tap % s->S - s->pad;
                    if (h < 0 || h >= s->H || u < 0 || u >= s->W)
                        continue;
                    x[taps] = src + ((n * s->H + h) * s->W + u) * s->C;
                    w[taps++] = g->forward + tap * tap_size;
                }
                k->group_sum(dst + (row * g->Q + q) * s->C, x, w, taps, g->share, s->C);
            }
    }
}

void onednn_group_bwd_data(struct ff_ops_ctx *ctx, struct onednn_group *g, float *dsrc,
                           const float *ddst)
{
    const struct ff_conv_shape *s = &g->shape;
    const struct onednn_rows *k = onednn(ctx)->rows;
    int64_t tap_size = (int64_t)g->share * s->C;
#pragma omp parallel num_threads(ctx->threads)
    {
        struct onednn_range part = onednn_my_part((int64_t)s->N * s->H);
        const float *dy[MAX_TAPS], *w[MAX_TAPS];
        for (int64_t row = part.first; row < part.end; row++)
            for (int u = 0; u < s->W; u++) {
                int64_t n = row / s->H;
                int h = (int)(row % s->H), taps = 0;
                for (int tap = 0; tap < g->taps; tap++) {
                    /* p stride = h + pad - r has an integer answer, or none */
                    int ps = h + s->pad - tap / s->S, qs = u + s->pad - tap % s->S;
                    if (ps < 0 || qs < 0 || ps % s->stride || qs % s->stride ||
                        ps / s->stride >= g->P || qs / s->stride >= g->Q)
                        continue;
                    dy[taps] =
                        ddst +
                        ((n * g->P + ps / s->stride) * g->Q + qs / s->stride) * s->C;
                    w[taps++] = g->backward + tap * tap_size;
                }
                k->group_sum(dsrc + (row * s->W + u) * s->C, dy, w, taps, g->share,
                             s->C);
            }
    }
}

/* Smallest and one past the largest q for which q stride + t - pad is inside [0, W). */
static struct onednn_range inside(const struct onednn_group *g, int t)
{
    const struct ff_conv_shape *s = &g->shape;
    struct onednn_range q = {0, g->Q};
    while (q.first < q.end && q.first * s->stride + t - s->pad < 0)
        q.first++;
    while (q.first < q.end && (q.end - 1) * s->stride + t - s->pad >= s->W)
        q.end--;
    return q;
}

void onednn_group_bwd_weights(struct ff_ops_ctx *ctx, struct onednn_group *g,
                              float *dweight, const float *src, const float *ddst)
{
    const struct ff_conv_shape *s = &g->shape;
    const struct onednn_rows *k = onednn(ctx)->rows;
    int64_t tap_size = (int64_t)g->share * s->C, count = g->taps * tap_size;
    double *partial = onednn_partial(ctx, count);
    if (!partial)
        return;
#pragma omp parallel num_threads(ctx->threads)
    {
        struct onednn_range part = onednn_my_part((int64_t)s->N * g->P);
        double *mine = partial + omp_get_thread_num() * count;
        for (int64_t row = part.first; row < part.end; row++)
            for (int tap = 0; tap < g->taps; tap++) {
                int64_t n = row / g->P;
                int t = tap % s->S;
                int h = (int)(row % g->P) * s->stride + tap / s->S - s->pad;
                struct onednn_range q = inside(g, t);
                if (h < 0 || h >= s->H || q.first == q.end)
                    continue;
                int64_t u = q.first * s->stride + t - s->pad;
                k->group_products(
                    mine + tap * tap_size, src + ((n * s->H + h) * s->W + u) * s->C,
                    (int64_t)s->stride * s->C, ddst + (row * g->Q + q.first) * s->C,
                    q.end - q.first, g->share, s->C);
            }
    }
    for (int tap = 0; tap < g->taps; tap++)
        for (int j = 0; j < g->share; j++)
            for (int c = 0; c < s->C; c++) {
                double sum = 0;
                for (int i = 0; i < ctx->threads; i++)
                    sum += partial[i * count + tap * tap_size + j * s->C + c];
                dweight[((int64_t)c * g->taps + tap) * g->share + j] = (float)sum;
            }
}
