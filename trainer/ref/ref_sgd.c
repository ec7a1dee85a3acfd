/* SPDX-License-Identifier: MIT */
/* Gradient norm, clipping and SGD with momentum and weight decay; matches
 * torch.nn.utils.clip_grad_norm_ and torch.optim.SGD (no Nesterov, no dampening). */
#include <math.h>

#include "ref_priv.h"

void ff_ref_grad_check(struct ff_ops_ctx *ctx, const struct ff_tensor *dbackbone,
                       const struct ff_head_plan *head)
{
    const struct ff_tensor *dhead = head ? ff_ref_head_dweight(head) : NULL;
    double sum = 0;
    bool finite = true;
    for (int64_t i = 0; i < dbackbone->count; i++) {
        double g = ff_f32(dbackbone)[i] / ctx->loss_scale.value;
        sum += g * g;
        finite = finite && isfinite(g);
    }
    for (int64_t i = 0; dhead && i < dhead->count; i++)
        finite = finite && isfinite(ff_f32(dhead)[i]);
    ctx->result.grad_norm = sqrt(sum);
    ctx->result.loss_scale = ctx->loss_scale.value;
    ctx->result.finite = finite;
}

static void update(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                   struct ff_tensor *velocity, const struct ff_tensor *dweight,
                   const struct ff_sgd *sgd, double factor)
{
    float *w = ff_f32(weight), *v = ff_f32(velocity);
    for (int64_t i = 0; ctx->result.finite && i < weight->count; i++) {
        double step = sgd->momentum * v[i] + factor * ff_f32(dweight)[i] +
                      sgd->weight_decay * w[i];
        v[i] = (float)step;
        w[i] = (float)(w[i] - ctx->step.lr * step);
    }
}

void ff_ref_sgd(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                struct ff_tensor *velocity, const struct ff_tensor *dweight,
                const struct ff_sgd *sgd)
{
    double clip = 1.0;
    if (sgd->clip_norm > 0)
        clip = fmin(1.0, sgd->clip_norm / (ctx->result.grad_norm + 1e-6));
    update(ctx, weight, velocity, dweight, sgd, clip / ctx->result.loss_scale);
}

void ff_ref_head_update(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                        struct ff_tensor *weight, struct ff_tensor *velocity,
                        const struct ff_sgd *sgd)
{
    update(ctx, weight, velocity, ff_ref_head_dweight(head), sgd,
           1.0 / ctx->result.loss_scale);
}
