/* SPDX-License-Identifier: MIT */
/* BN stages with PReLU and residual: onednn against ref over shapes/bn.txt, ref against
 * central differences. */
#include "ops_fixture.h"

#define LIMIT 3e-6

static int threads_under_test;

struct bn_case {
    int64_t M;
    int C;
    struct ff_bn bn, bn2;
    struct ff_tensor slope, src, residual, ddst, add; /* inputs */
    struct ff_tensor stats, stats_out, dst, dsrc;     /* results */
    struct ff_tensor dweight, dbias, dslope;
    struct ff_tensor next[3], alone[3]; /* dweight, dbias, dslope of bn2, as next */
};

static struct ff_bn make_bn(struct side *s, const char *name, int C)
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

static struct bn_case make_case(struct side *s, int64_t M, int C, double mean)
{
    struct bn_case c = {.M = M,
                        .C = C,
                        .bn = make_bn(s, "bn", C),
                        .bn2 = make_bn(s, "bn2", C),
                        .slope = put_random(s, "slope", C, 0.25, 0.1),
                        .src = put_random(s, "src", M * C, mean, 1.5),
                        .residual = put_random(s, "residual", M * C, 0, 1),
                        .ddst = put_random(s, "ddst", M * C, 0.1, 1),
                        .add = put_random(s, "add", M * C, 0, 1),
                        .stats = doubles(s, 2 * C),
                        .stats_out = doubles(s, 2 * C),
                        .dst = poisoned(s, M * C),
                        .dsrc = poisoned(s, M * C),
                        .dweight = poisoned(s, C),
                        .dbias = poisoned(s, C),
                        .dslope = poisoned(s, C)};
    for (int i = 0; i < 3; i++) {
        c.next[i] = poisoned(s, C);
        c.alone[i] = poisoned(s, C);
    }
    return c;
}

static void free_bn(struct side *s, struct ff_bn *bn)
{
    struct ff_tensor *all[] = {&bn->weight,      &bn->bias, &bn->running_mean,
                               &bn->running_var, &bn->mean, &bn->invstd,
                               &bn->scale,       &bn->shift};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        s->ops->free(s->ctx, all[i]);
}

static void free_case(struct side *s, struct bn_case *c)
{
    struct ff_tensor *all[] = {&c->slope, &c->src,     &c->residual,  &c->ddst,
                               &c->add,   &c->stats,   &c->stats_out, &c->dst,
                               &c->dsrc,  &c->dweight, &c->dbias,     &c->dslope};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        s->ops->free(s->ctx, all[i]);
    for (int i = 0; i < 3; i++) {
        s->ops->free(s->ctx, &c->next[i]);
        s->ops->free(s->ctx, &c->alone[i]);
    }
    free_bn(s, &c->bn);
    free_bn(s, &c->bn2);
}

/* kind bits: 1 PReLU, here and in the next BN, 2 residual, 4 residual with its own BN,
 * 8 add in backward. */
static void run_case(struct side *s, struct bn_case *c, int kind)
{
    const struct ff_tensor *slope = kind & 1 ? &c->slope : NULL;
    s->ops->bn_stats(s->ctx, &c->stats, &c->src, c->M, c->C);
    s->ops->bn_finalize(s->ctx, &c->bn, &c->stats, c->M);
    s->ops->bn_stats(s->ctx, &c->stats_out, &c->residual, c->M, c->C);
    s->ops->bn_finalize(s->ctx, &c->bn2, &c->stats_out, c->M);
    s->ops->bn_apply(s->ctx, &c->dst, &c->src, &c->bn, slope,
                     kind & 6 ? &c->residual : NULL, kind & 4 ? &c->bn2 : NULL,
                     &c->stats_out, c->M);
    s->ops->bn_bwd_reduce(s->ctx, &c->dweight, &c->dbias, slope ? &c->dslope : NULL,
                          &c->ddst, &c->src, &c->bn, slope, c->M);
    const struct ff_bn_next next = {
        &c->next[0],  &c->next[1], slope ? &c->next[2] : NULL,
        &c->residual, &c->bn2,     slope};
    s->ops->bn_bwd_apply(s->ctx, &c->dsrc, &c->ddst, &c->src, &c->bn, slope,
                         &c->dweight, &c->dbias, kind & 8 ? &c->add : NULL, &next,
                         c->M);
    s->ops->bn_bwd_reduce(s->ctx, &c->alone[0], &c->alone[1],
                          slope ? &c->alone[2] : NULL, &c->dsrc, next.src, next.bn,
                          slope, c->M);
}

/* Moves inputs whose pre-activation lies within rounding of PReLU's kink, where two
 * right programs may take different sides. */
static void leave_kink(struct side *ref, struct bn_case *a, struct bn_case *b)
{
    struct ff_bn bn = a->bn;
    bn.running_mean = a->dst; /* spares the real ones: finalize moves them */
    bn.running_var = a->dsrc;
    ref->ops->bn_stats(ref->ctx, &a->stats, &a->src, a->M, a->C);
    ref->ops->bn_finalize(ref->ctx, &bn, &a->stats, a->M);
    const float *scale = a->bn.scale.data, *shift = a->bn.shift.data;
    float *x = a->src.data, *y = b->src.data;
    for (int64_t i = 0; i < a->M * a->C; i++)
        if (fabsf(scale[i % a->C] * x[i] + shift[i % a->C]) < 1e-3f)
            y[i] = x[i] += 0.1f;
}

static void compare(const char *line)
{
    char name[64];
    int M, C;
    cr_assert(eq(int, sscanf(line, "%63s %d %d", name, &M, &C), 3));
    for (int kind = 0; kind < 16; kind++) {
        struct side ref = side_open(FF_BACKEND_REF, 1);
        struct side fast = side_open(FF_BACKEND_ONEDNN, threads_under_test);
        struct bn_case want = make_case(&ref, M, C, 2), got = make_case(&fast, M, C, 2);
        leave_kink(&ref, &want, &got);
        run_case(&ref, &want, kind);
        run_case(&fast, &got, kind);
        CLOSE(&fast, &got.bn.mean, &ref, &want.bn.mean, LIMIT, "mean", line);
        CLOSE(&fast, &got.bn.invstd, &ref, &want.bn.invstd, LIMIT, "invstd", line);
        CLOSE(&fast, &got.bn.running_var, &ref, &want.bn.running_var, LIMIT,
              "running_var", line);
        CLOSE(&fast, &got.dst, &ref, &want.dst, LIMIT, "apply", line);
        CLOSE(&fast, &got.dbias, &ref, &want.dbias, 1e-5, "dbias", line);
        CLOSE(&fast, &got.dweight, &ref, &want.dweight, 1e-5, "dweight", line);
        if (kind & 1)
            CLOSE(&fast, &got.dslope, &ref, &want.dslope, 1e-5, "dslope", line);
        CLOSE(&fast, &got.dsrc, &ref, &want.dsrc, 1e-5, "bwd_apply", line);
        for (int i = 0; i < (kind & 1 ? 3 : 2); i++) {
            CLOSE(&fast, &got.next[i], &fast, &got.alone[i], 0, "next sums", line);
            CLOSE(&ref, &want.next[i], &ref, &want.alone[i], 0, "next sums", line);
        }
        free_case(&fast, &got);
        free_case(&ref, &want);
        side_close(&fast);
        side_close(&ref);
    }
}

Test(bn, onednn_matches_ref_with_one_thread)
{
    threads_under_test = 1;
    for_each_shape("bn.txt", compare);
}

Test(bn, onednn_matches_ref_with_two_threads)
{
    threads_under_test = 2;
    for_each_shape("bn.txt", compare);
}

/* The residual stream's mean is large against its spread: no digits may be lost. */
Test(bn, statistics_keep_their_digits_far_from_zero)
{
    struct side fast = side_open(FF_BACKEND_ONEDNN, 2);
    struct bn_case c = make_case(&fast, 5000, 16, 3000);
    fast.ops->bn_stats(fast.ctx, &c.stats, &c.src, c.M, c.C);
    fast.ops->bn_finalize(fast.ctx, &c.bn, &c.stats, c.M);
    const float *x = c.src.data, *invstd = c.bn.invstd.data;
    for (int k = 0; k < c.C; k++) {
        double mean = 0, var = 0;
        for (int64_t m = 0; m < c.M; m++)
            mean += x[m * c.C + k] / (double)c.M;
        for (int64_t m = 0; m < c.M; m++)
            var += (x[m * c.C + k] - mean) * (x[m * c.C + k] - mean) / (double)c.M;
        double want = 1 / sqrt(var + 1e-5);
        cr_assert(epsilon_eq(dbl, (double)invstd[k], want, 1e-5 * want));
    }
    free_case(&fast, &c);
    side_close(&fast);
}

static double loss(struct side *s, struct bn_case *c, int kind)
{
    const struct ff_tensor *slope = kind & 1 ? &c->slope : NULL;
    s->ops->bn_stats(s->ctx, &c->stats, &c->src, c->M, c->C);
    s->ops->bn_finalize(s->ctx, &c->bn, &c->stats, c->M);
    s->ops->bn_apply(s->ctx, &c->dst, &c->src, &c->bn, slope, NULL, NULL, NULL, c->M);
    const float *y = c->dst.data, *g = c->ddst.data;
    double sum = 0;
    for (int64_t i = 0; i < c->dst.count; i++)
        sum += (double)y[i] * g[i];
    return sum;
}

static void check_gradient(struct side *s, struct bn_case *c, int kind,
                           struct ff_tensor *x, const float *gradient)
{
    float *value = x->data;
    for (int64_t i = 0; i < x->count; i++) {
        float h = 1e-3f, old = value[i];
        value[i] = old + h;
        double up = loss(s, c, kind);
        value[i] = old - h;
        double down = loss(s, c, kind);
        value[i] = old;
        double here = loss(s, c, kind), want = (up - down) / (2.0 * h);
        /* A kink within the step shows as different one-sided slopes: skipped. */
        if (fabs((up - here) - (here - down)) > 0.02 * h * (1 + fabs(want)))
            continue;
        cr_assert(epsilon_eq(dbl, (double)gradient[i], want, 1e-2 * (1 + fabs(want))));
    }
}

Test(bn, ref_gradients_match_central_differences)
{
    fixed_seed = 3407;
    for (int kind = 0; kind < 2; kind++) {
        struct side ref = side_open(FF_BACKEND_REF, 1);
        struct bn_case c = make_case(&ref, 12, 3, 0.5);
        run_case(&ref, &c, kind);
        float *dsrc = take(&ref, &c.dsrc), *dweight = take(&ref, &c.dweight);
        float *dbias = take(&ref, &c.dbias), *dslope = take(&ref, &c.dslope);
        check_gradient(&ref, &c, kind, &c.src, dsrc);
        check_gradient(&ref, &c, kind, &c.bn.weight, dweight);
        check_gradient(&ref, &c, kind, &c.bn.bias, dbias);
        if (kind & 1)
            check_gradient(&ref, &c, kind, &c.slope, dslope);
        free(dsrc);
        free(dweight);
        free(dbias);
        free(dslope);
        free_case(&ref, &c);
        side_close(&ref);
    }
}

Test(bn, running_statistics_follow_torch)
{
    struct side ref = side_open(FF_BACKEND_REF, 1);
    struct ff_bn bn = make_bn(&ref, "bn", 1);
    const float x[4] = {1, 2, 3, 6};
    struct ff_tensor src = put(&ref, x, 4), stats = doubles(&ref, 2);
    *(float *)bn.running_mean.data = 0;
    *(float *)bn.running_var.data = 1;
    ref.ops->bn_stats(ref.ctx, &stats, &src, 4, 1);
    ref.ops->bn_finalize(ref.ctx, &bn, &stats, 4);
    /* mean 3, biased variance 3.5, unbiased 14/3 */
    cr_assert(epsilon_eq(dbl, (double)*(float *)bn.running_mean.data, 0.3, 1e-6));
    cr_assert(
        epsilon_eq(dbl, (double)*(float *)bn.running_var.data, 0.9 + 1.4 / 3, 1e-6));
    cr_assert(
        epsilon_eq(dbl, (double)*(float *)bn.invstd.data, 1 / sqrt(3.5 + 1e-5), 1e-6));
    ref.ops->free(ref.ctx, &src);
    ref.ops->free(ref.ctx, &stats);
    free_bn(&ref, &bn);
    side_close(&ref);
}
