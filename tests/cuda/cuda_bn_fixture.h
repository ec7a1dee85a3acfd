/* SPDX-License-Identifier: MIT */
/* BNs and all that they read and write, for the tests of the cuda backend. */
#ifndef FF_CUDA_BN_FIXTURE_H
#define FF_CUDA_BN_FIXTURE_H

#include "cuda_fixture.h"

static inline struct ff_bn make_bn(struct side *s, const char *name, int C)
{
    char stream[64];
    snprintf(stream, sizeof stream, "%s.bias", name);
    return (struct ff_bn){.C = C,
                          .weight = put_random(s, name, C, 1, 0.3),
                          .bias = put_random(s, stream, C, 0, 0.5),
                          .running_mean = put_random(s, "rm", C, 0, 1),
                          .running_var = put_random(s, "rv", C, 3, 0.1),
                          .mean = poisoned(s, C),
                          .invstd = poisoned(s, C),
                          .scale = poisoned(s, C),
                          .shift = poisoned(s, C)};
}

static inline void free_bn(struct side *s, struct ff_bn *bn)
{
    FREE_ALL(s, &bn->weight, &bn->bias, &bn->running_mean, &bn->running_var, &bn->mean,
             &bn->invstd, &bn->scale, &bn->shift);
}

struct bn_values {
    struct ff_bn bn, bn2;
    struct ff_tensor slope, src, residual, ddst, add;
    struct ff_tensor stats, stats2, stats_out, dst, dsrc, dweight, dbias, dslope;
    struct ff_tensor next[3], alone[3]; /* dweight, dbias, dslope of bn2, as next */
};

/* All but src, residual, ddst and add, which the caller puts; wide: dst in f32. */
static inline void make_bn_values(struct bn_values *v, struct side *s, int64_t M, int C,
                                  bool wide)
{
    v->bn = make_bn(s, "bn", C);
    v->bn2 = make_bn(s, "bn2", C);
    v->slope = put_random(s, "slope", C, 0.25, 0.1);
    v->stats = doubles(s, 2 * C);
    v->stats2 = doubles(s, 2 * C);
    v->stats_out = doubles(s, 2 * C);
    v->dst = wide ? poisoned(s, M * C) : poisoned_activation(s, M * C);
    v->dsrc = poisoned_activation(s, M * C);
    v->dweight = poisoned(s, C);
    v->dbias = poisoned(s, C);
    v->dslope = poisoned(s, C);
    for (int i = 0; i < 3; i++) {
        v->next[i] = poisoned(s, C);
        v->alone[i] = poisoned(s, C);
    }
}

static inline void free_bn_values(struct side *s, struct bn_values *v)
{
    free_bn(s, &v->bn);
    free_bn(s, &v->bn2);
    FREE_ALL(s, &v->slope, &v->src, &v->residual, &v->ddst, &v->add, &v->stats,
             &v->stats2, &v->stats_out, &v->dst, &v->dsrc, &v->dweight, &v->dbias,
             &v->dslope);
    for (int i = 0; i < 3; i++)
        FREE_ALL(s, &v->next[i], &v->alone[i]);
}

/* kind bits: 1 PReLU, 2 residual, 4 residual with its own BN, 8 add in backward, 32 the
 * sums of bn2 as the next BN, 64 PReLU there. */
static inline void run_bn(struct side *s, struct bn_values *v, int kind, int64_t M,
                          int C)
{
    const struct ff_tensor *slope = kind & 1 ? &v->slope : NULL;
    const struct ff_ops *ops = s->ops;
    ops->bn_stats(s->ctx, &v->stats, &v->src, M, C);
    ops->bn_finalize(s->ctx, &v->bn, &v->stats, M);
    ops->bn_stats(s->ctx, &v->stats2, &v->residual, M, C);
    ops->bn_finalize(s->ctx, &v->bn2, &v->stats2, M);
    ops->bn_apply(s->ctx, &v->dst, &v->src, &v->bn, slope,
                  kind & 6 ? &v->residual : NULL, kind & 4 ? &v->bn2 : NULL,
                  &v->stats_out, M);
    ops->bn_bwd_reduce(s->ctx, &v->dweight, &v->dbias, slope ? &v->dslope : NULL,
                       &v->ddst, &v->src, &v->bn, slope, M);
    const struct ff_bn_next next = {
        &v->next[0],  &v->next[1], kind & 64 ? &v->next[2] : NULL,
        &v->residual, &v->bn2,     kind & 64 ? &v->slope : NULL};
    ops->bn_bwd_apply(s->ctx, &v->dsrc, &v->ddst, &v->src, &v->bn, slope, &v->dweight,
                      &v->dbias, kind & 8 ? &v->add : NULL, kind & 32 ? &next : NULL,
                      M);
    if (kind & 32)
        ops->bn_bwd_reduce(s->ctx, &v->alone[0], &v->alone[1],
                           kind & 64 ? &v->alone[2] : NULL, &v->dsrc, next.src, next.bn,
                           next.slope, M);
}

#endif
