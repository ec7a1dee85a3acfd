/* SPDX-License-Identifier: MIT */
/* Gradient norm and SGD over whole parameter blocks, split evenly over the threads. */
#include <math.h>
#include <omp.h>

#include "onednn_priv.h"

/* Element range of a thread, cut at multiples of 16. */
static void my_elements(int64_t *first, int64_t *count, int64_t n)
{
    int64_t vectors = (n + 15) / 16, t = omp_get_num_threads(),
            i = omp_get_thread_num();
    int64_t begin = vectors * i / t * 16, end = vectors * (i + 1) / t * 16;
    *first = begin < n ? begin : n;
    *count = (end < n ? end : n) - *first;
}

static double sum_squares(struct ff_ops_ctx *ctx, bool *finite,
                          const struct ff_tensor *t)
{
    const struct onednn_rows *k = onednn(ctx)->rows;
    double *partial = onednn_partial(ctx, 2);
    double sum = 0;
    *finite = partial != NULL;
    if (!partial)
        return sum;
#pragma omp parallel num_threads(ctx->threads)
    {
        int64_t first, count;
        bool ok;
        my_elements(&first, &count, t->count);
        double s = k->sum_squares(&ok, ff_f32(t) + first, count);
        partial[2 * omp_get_thread_num()] = s;
        partial[2 * omp_get_thread_num() + 1] = ok;
    }
    for (int i = 0; i < ctx->threads; i++) {
        sum += partial[2 * i];
        *finite = *finite && partial[2 * i + 1] != 0;
    }
    return sum;
}

void onednn_grad_check(struct ff_ops_ctx *ctx, const struct ff_tensor *dbackbone,
                       const struct ff_head_plan *head)
{
    bool finite, head_finite = true;
    ctx->result.grad_norm =
        sqrt(sum_squares(ctx, &finite, dbackbone)) / ctx->loss_scale.value;
    ctx->result.loss_scale = ctx->loss_scale.value;
    if (head)
        sum_squares(ctx, &head_finite, onednn_head_dweight(head));
    ctx->result.finite = finite && head_finite;
}

/* Gradients count `factor` times. */
static void update(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                   struct ff_tensor *velocity, const struct ff_tensor *dweight,
                   const struct ff_sgd *sgd, double factor)
{
    const struct onednn_rows *k = onednn(ctx)->rows;
    if (!ctx->result.finite)
        return;
#pragma omp parallel num_threads(ctx->threads)
    {
        int64_t i, n;
        my_elements(&i, &n, weight->count);
        k->sgd(ff_f32(weight) + i, ff_f32(velocity) + i, ff_f32(dweight) + i,
               (float)factor, (float)sgd->momentum, (float)sgd->weight_decay,
               (float)ctx->step.lr, n);
    }
}

void onednn_sgd(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                struct ff_tensor *velocity, const struct ff_tensor *dweight,
                const struct ff_sgd *sgd)
{
    double clip = 1.0;
    if (sgd->clip_norm > 0)
        clip = fmin(1.0, sgd->clip_norm / (ctx->result.grad_norm + 1e-6));
    update(ctx, weight, velocity, dweight, sgd, clip / ctx->result.loss_scale);
}

void onednn_head_update(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                        struct ff_tensor *weight, struct ff_tensor *velocity,
                        const struct ff_sgd *sgd)
{
    update(ctx, weight, velocity, onednn_head_dweight(head), sgd,
           1.0 / ctx->result.loss_scale);
}
