/* SPDX-License-Identifier: MIT */
/* BN of the cuda backend against ref: statistics, forward and backward pass in each
 * precision, the next BN's sums taken in the pass before, a finalize that waits for the
 * apply that follows. */
#include "cuda_bn_fixture.h"

static const struct precision *now; /* under test */

/* Inputs whose pre-activation lies within rounding of PReLU's kink are moved: two right
 * programs may take different sides there. */
static void leave_kink(struct side *s, struct side *ref, struct bn_values *got,
                       struct bn_values *want, int64_t M, int C)
{
    struct ff_tensor spare[2] = {poisoned(ref, C), poisoned(ref, C)};
    struct ff_bn bn = want->bn;
    bn.running_mean = spare[0]; /* finalize moves them */
    bn.running_var = spare[1];
    ref->ops->bn_stats(ref->ctx, &want->stats, &want->src, M, C);
    ref->ops->bn_finalize(ref->ctx, &bn, &want->stats, M);
    const float *scale = bn.scale.data, *shift = bn.shift.data;
    float *x = take(ref, &want->src);
    for (int64_t i = 0; i < M * C; i++)
        if (fabsf(scale[i % C] * x[i] + shift[i % C]) < 0.05f)
            x[i] += 0.25f / scale[i % C];
    s->ops->upload(s->ctx, &got->src, x);
    s->ops->download(s->ctx, x, &got->src);
    ref->ops->upload(ref->ctx, &want->src, x);
    free(x);
    FREE_ALL(ref, &spare[0], &spare[1]);
}

/* Variances from 1 / std: of a few rows one may be so small beside its mean that the
 * rounding of the values shows in its own digits, and in those of 1 / std alone. */
static void variances(struct side *s, float *out, const struct ff_bn *bn)
{
    s->ops->download(s->ctx, out, &bn->invstd);
    for (int c = 0; c < bn->C; c++)
        out[c] = 1 / (out[c] * out[c]);
}

static void compare_variances(struct side *s, const struct ff_bn *got, struct side *ref,
                              const struct ff_bn *want, const char *line)
{
    enum { MOST = 256 };
    float a[MOST], b[MOST];
    double apart = 0, size = 0;
    cr_assert(le(int, want->C, MOST));
    variances(s, a, got);
    variances(ref, b, want);
    for (int c = 0; c < want->C; c++) {
        apart += pow((double)a[c] - (double)b[c], 2);
        size += pow((double)b[c], 2);
    }
    cr_assert(sqrt(apart / size) <= 2 * now->limit,
              "variance of the result: relative norm %.3g > %.3g at \"%s\" (seed %llu)",
              sqrt(apart / size), 2 * now->limit, line,
              (unsigned long long)fresh_seed());
}

static void compare_bn(const char *line)
{
    char name[64];
    int M, C;
    cr_assert(eq(int, sscanf(line, "%63s %d %d", name, &M, &C), 3));
    /* Every bit alone and with the others; 16: f32 out, f32 gradient in, the last BN.
     */
    static const int kinds[] = {11, 12, 21, 24, 32, 104, 56, 0,   1, 2,
                                4,  9,  13, 17, 27, 33,  97, 112, 96};
    int count = now->precision == FF_PRECISION_FP16 ? 19 : 7;
    for (int k = 0; k < count; k++) {
        int kind = kinds[k];
        bool wide = kind & 16;
        struct side ref = side_open(FF_BACKEND_REF, 1);
        struct side s = cuda_open_side(now->precision, now->head);
        struct bn_values got, want;
        int64_t n = (int64_t)M * C;
        make_bn_values(&got, &s, M, C, wide);
        make_bn_values(&want, &ref, M, C, wide);
        put_both(&got.src, &want.src, &s, &ref, "src", n, 2, 1.5);
        put_both(&got.residual, &want.residual, &s, &ref, "residual", n, 0, 1);
        put_both(&got.add, &want.add, &s, &ref, "add", n, 0, 1);
        if (wide) {
            got.ddst = put_random(&s, "ddst", n, 0.1, 1);
            want.ddst = put_random(&ref, "ddst", n, 0.1, 1);
        } else {
            put_both(&got.ddst, &want.ddst, &s, &ref, "ddst", n, 0.1, 1);
        }
        leave_kink(&s, &ref, &got, &want, M, C);
        run_bn(&ref, &want, kind, M, C);
        run_bn(&s, &got, kind, M, C);
        CLOSE(&s, &got.bn.mean, &ref, &want.bn.mean, 5e-6, "mean", line);
        CLOSE(&s, &got.bn.invstd, &ref, &want.bn.invstd, 5e-6, "invstd", line);
        CLOSE(&s, &got.bn.scale, &ref, &want.bn.scale, 5e-6, "scale", line);
        CLOSE(&s, &got.bn.running_mean, &ref, &want.bn.running_mean, 5e-6,
              "running_mean", line);
        CLOSE(&s, &got.bn.running_var, &ref, &want.bn.running_var, 5e-6, "running_var",
              line);
        CLOSE(&s, &got.dst, &ref, &want.dst, wide ? 5e-6 : now->limit, "apply", line);
        CLOSE(&s, &got.dbias, &ref, &want.dbias, 2e-5, "dbias", line);
        CLOSE(&s, &got.dweight, &ref, &want.dweight, 2e-5, "dweight", line);
        if (kind & 1)
            CLOSE(&s, &got.dslope, &ref, &want.dslope, 2e-5, "dslope", line);
        CLOSE(&s, &got.dsrc, &ref, &want.dsrc, fmax(2e-5, now->limit), "bwd_apply",
              line);
        for (int i = 0; kind & 32 && i < (kind & 64 ? 3 : 2); i++) {
            CLOSE(&s, &got.next[i], &s, &got.alone[i], 2e-6, "next sums", line);
            CLOSE(&ref, &want.next[i], &ref, &want.alone[i], 0, "next of ref", line);
        }
        /* The sums of the result, by way of a second finalize. */
        s.ops->bn_finalize(s.ctx, &got.bn, &got.stats_out, M);
        ref.ops->bn_stats(ref.ctx, &want.stats_out, &want.dst, M, C);
        ref.ops->bn_finalize(ref.ctx, &want.bn, &want.stats_out, M);
        CLOSE(&s, &got.bn.mean, &ref, &want.bn.mean, now->limit, "mean of the result",
              line);
        compare_variances(&s, &got.bn, &ref, &want.bn, line);
        free_bn_values(&s, &got);
        free_bn_values(&ref, &want);
        side_close(&s);
        side_close(&ref);
    }
}

Test(cuda_bn, matches_ref)
{
    for (int p = 0; p < PRECISIONS; p++) {
        now = &precisions[p];
        for_each_shape("cuda_bn.txt", compare_bn);
    }
}

/* -- a finalize waits for the apply that follows: what may come in between -- */

enum {
    WAIT_N = 2,
    WAIT_SIDE = 6,
    WAIT_M = WAIT_N * WAIT_SIDE * WAIT_SIDE,
    WAIT_C = 72
};

static void apply(struct side *s, struct bn_values *v, const struct ff_bn *bn,
                  const struct ff_bn *residual_bn, struct ff_tensor *stats)
{
    s->ops->bn_apply(s->ctx, &v->dst, &v->src, bn, NULL,
                     residual_bn ? &v->residual : NULL, residual_bn, stats, WAIT_M);
}

static void finalize(struct side *s, struct ff_bn *bn, const struct ff_tensor *stats)
{
    s->ops->bn_finalize(s->ctx, bn, stats, WAIT_M);
}

static void nobody_applies(struct side *s, struct bn_values *v)
{
    finalize(s, &v->bn2, &v->stats2);
}

static void both_in_one_apply(struct side *s, struct bn_values *v)
{
    finalize(s, &v->bn2, &v->stats2);
    apply(s, v, &v->bn, &v->bn2, &v->stats_out);
    apply(s, v, &v->bn, &v->bn2, &v->stats_out); /* moves nothing again */
}

static void the_residual_alone(struct side *s, struct bn_values *v)
{
    apply(s, v, &v->bn, NULL, NULL);
    finalize(s, &v->bn2, &v->stats2);
    apply(s, v, &v->bn, &v->bn2, NULL);
}

static void one_bn_for_both(struct side *s, struct bn_values *v)
{
    apply(s, v, &v->bn, &v->bn, NULL);
    finalize(s, &v->bn, &v->stats2);
    apply(s, v, &v->bn, &v->bn, NULL); /* on the emulator in another order */
}

static void another_residual(struct side *s, struct bn_values *v)
{
    finalize(s, &v->bn2, &v->stats2);
    s->ops->bn_apply(s->ctx, &v->dst, &v->src, &v->bn, NULL, NULL, &v->bn2, NULL,
                     WAIT_M);
}

static void apply_writes_its_stats(struct side *s, struct bn_values *v)
{
    apply(s, v, &v->bn, NULL, &v->stats);
    finalize(s, &v->bn2, &v->stats);
}

static void apply_writes_the_residual_stats(struct side *s, struct bn_values *v)
{
    finalize(s, &v->bn2, &v->stats2);
    apply(s, v, &v->bn, &v->bn2, &v->stats2);
}

static void another_apply_writes_its_stats(struct side *s, struct bn_values *v)
{
    finalize(s, &v->bn2, &v->stats2);
    apply(s, v, &v->bn2, NULL, &v->stats);
    apply(s, v, &v->bn, NULL, NULL);
}

static void bn_stats_come_first(struct side *s, struct bn_values *v)
{
    s->ops->bn_stats(s->ctx, &v->stats, &v->residual, WAIT_M, WAIT_C);
    apply(s, v, &v->bn, NULL, NULL);
}

static void twice_the_same(struct side *s, struct bn_values *v)
{
    finalize(s, &v->bn, &v->stats2);
    apply(s, v, &v->bn, NULL, NULL);
}

static void three_at_once(struct side *s, struct bn_values *v)
{
    struct ff_bn bn3 = make_bn(s, "bn3", WAIT_C);
    finalize(s, &v->bn, &v->stats);
    finalize(s, &v->bn2, &v->stats2);
    finalize(s, &bn3, &v->stats2);
    apply(s, v, &bn3, &v->bn, NULL);
    free_bn(s, &bn3);
}

static void new_weights(struct side *s, struct bn_values *v)
{
    float *weight = random_values("new", WAIT_C, 2, 1);
    s->ops->upload(s->ctx, &v->bn.weight, weight);
    free(weight);
    apply(s, v, &v->bn, NULL, NULL);
}

static void an_update(struct side *s, struct bn_values *v)
{
    set_lr(s, 0.5);
    s->ops->set_loss_scale(s->ctx, &(struct ff_loss_scale){.value = 1});
    s->ops->grad_check(s->ctx, &v->slope, NULL);
    s->ops->sgd(s->ctx, &v->bn.bias, &v->bn2.bias, &v->slope, &(struct ff_sgd){0});
    apply(s, v, &v->bn, NULL, NULL);
}

static void running_ones(struct side *s, struct bn_values *v)
{
    s->ops->bn_finalize_running(s->ctx, &v->bn);
    apply(s, v, &v->bn, NULL, NULL);
}

static void backward_reduces(struct side *s, struct bn_values *v)
{
    s->ops->bn_bwd_reduce(s->ctx, &v->bn2.mean, &v->bn2.scale, NULL, &v->ddst, &v->src,
                          &v->bn, NULL, WAIT_M);
}

static void backward_applies(struct side *s, struct bn_values *v)
{
    s->ops->bn_bwd_apply(s->ctx, &v->dst, &v->ddst, &v->src, &v->bn, NULL, &v->slope,
                         &v->slope, NULL, NULL, WAIT_M);
}

static void its_memory_goes(struct side *s, struct bn_values *v)
{
    s->ops->free(s->ctx, &v->bn.mean);
    v->bn.mean = put_random(s, "mean", WAIT_C, 0, 1);
}

struct queued {
    struct side *s;
    struct bn_values *v;
};

static void queue_bn(void *arg)
{
    struct queued *q = arg;
    apply(q->s, q->v, &q->v->bn, NULL, &q->v->stats_out);
    finalize(q->s, &q->v->bn2, &q->v->stats_out);
    finalize(q->s, &q->v->bn, &q->v->stats2);
    apply(q->s, q->v, &q->v->bn, NULL, NULL);
}

/* The step's first run, its capture and a replay; what was left before is done once. */
static void steps_begin_and_end(struct side *s, struct bn_values *v)
{
    struct queued q = {s, v};
    for (int i = 0; i < 3; i++) {
        finalize(s, &v->bn, &v->stats);
        s->ops->step(s->ctx, &(struct ff_step){.lr = 0}, queue_bn, &q);
    }
}

struct conv_values {
    struct ff_conv *plan;
    struct ff_tensor weight;
};

static struct conv_values make_conv(struct side *s, const float *weight)
{
    const struct ff_conv_shape shape = {.N = WAIT_N,
                                        .C = WAIT_C,
                                        .H = WAIT_SIDE,
                                        .W = WAIT_SIDE,
                                        .K = WAIT_C,
                                        .R = 1,
                                        .S = 1,
                                        .stride = 1,
                                        .groups = 1};
    struct conv_values c = {.weight = put(s, weight, WAIT_C * WAIT_C)};
    struct ff_err err = FF_ERR_INIT;
    int rc = s->ops->conv_create(s->ctx, &c.plan, &shape, true, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    s->ops->conv_pack(s->ctx, c.plan, &c.weight);
    return c;
}

static float *few_bits(void) /* weights that halves hold */
{
    float *x = random_values("weight", WAIT_C * WAIT_C, 0, 0.1);
    for (int i = 0; i < WAIT_C * WAIT_C; i++)
        x[i] = roundf(64 * x[i]) / 64;
    return x;
}

/* Sums from a convolution may be f32 and lie otherwise: in the way of other channels'
 * f64 sums. */
static void with_conv(struct side *s, struct bn_values *v, bool another)
{
    float *weight = few_bits();
    struct conv_values c = make_conv(s, weight);
    s->ops->conv_fwd(s->ctx, c.plan, &v->dst, &v->residual, &v->stats2);
    finalize(s, &v->bn2, &v->stats2);
    if (another) {
        s->ops->conv_fwd(s->ctx, c.plan, &v->dst, &v->src, &v->stats2);
        s->ops->conv_fwd(s->ctx, c.plan, &v->dsrc, &v->src, &v->stats);
        finalize(s, &v->bn, &v->stats);
        apply(s, v, &v->bn, &v->bn2, NULL);
    } else {
        s->ops->bn_apply(s->ctx, &v->dsrc, &v->dst, &v->bn2, NULL, NULL, NULL,
                         &v->stats2, WAIT_M);
        finalize(s, &v->bn, &v->stats2);
    }
    free(weight);
    FREE_ALL(s, &c.weight); /* waits for what the plan is used in */
    s->ops->conv_destroy(s->ctx, c.plan);
}

static void apply_writes_its_conv_stats(struct side *s, struct bn_values *v)
{
    with_conv(s, v, false);
}

static void a_conv_writes_its_stats(struct side *s, struct bn_values *v)
{
    with_conv(s, v, true);
}

static void compare_waiting(const char *name,
                            void (*between)(struct side *s, struct bn_values *v))
{
    struct side s[2] = {cuda_open_side(FF_PRECISION_FP16, 0),
                        side_open(FF_BACKEND_REF, 1)};
    struct bn_values v[2];
    for (int k = 0; k < 2; k++)
        make_bn_values(&v[k], &s[k], WAIT_M, WAIT_C, false);
    int64_t n = WAIT_M * WAIT_C;
    put_both(&v[0].src, &v[1].src, &s[0], &s[1], "src", n, 2, 1.5);
    put_both(&v[0].residual, &v[1].residual, &s[0], &s[1], "residual", n, 0, 1);
    put_both(&v[0].ddst, &v[1].ddst, &s[0], &s[1], "ddst", n, 0.1, 1);
    put_both(&v[0].add, &v[1].add, &s[0], &s[1], "add", n, 0, 1);
    for (int k = 0; k < 2; k++) {
        const struct ff_ops *ops = s[k].ops;
        ops->bn_stats(s[k].ctx, &v[k].stats, &v[k].src, WAIT_M, WAIT_C);
        ops->bn_stats(s[k].ctx, &v[k].stats2, &v[k].residual, WAIT_M, WAIT_C);
        /* What a case leaves alone is the same, not NaN. */
        finalize(&s[k], &v[k].bn2, &v[k].stats2);
        ops->bn_apply(s[k].ctx, &v[k].dst, &v[k].add, &v[k].bn2, NULL, NULL, NULL, NULL,
                      WAIT_M);
        finalize(&s[k], &v[k].bn, &v[k].stats);
        between(&s[k], &v[k]);
    }
    for (int b = 0; b < 2; b++) {
        const struct ff_bn *x = b ? &v[0].bn2 : &v[0].bn;
        const struct ff_bn *y = b ? &v[1].bn2 : &v[1].bn;
        CLOSE(&s[0], &x->running_mean, &s[1], &y->running_mean, 1e-3, name, "running");
        CLOSE(&s[0], &x->running_var, &s[1], &y->running_var, 1e-3, name, "variance");
        CLOSE(&s[0], &x->mean, &s[1], &y->mean, 1e-3, name, "mean");
        CLOSE(&s[0], &x->invstd, &s[1], &y->invstd, 1e-3, name, "invstd");
        CLOSE(&s[0], &x->scale, &s[1], &y->scale, 1e-3, name, "scale");
        CLOSE(&s[0], &x->shift, &s[1], &y->shift, 1e-3, name, "shift");
    }
    CLOSE(&s[0], &v[0].dst, &s[1], &v[1].dst, 1e-3, name, "dst");
    for (int k = 0; k < 2; k++) {
        free_bn_values(&s[k], &v[k]);
        side_close(&s[k]);
    }
}

Test(cuda_bn, a_finalize_that_waits_is_done_once_and_in_time)
{
#define WAITING(between) compare_waiting(#between, between)
    WAITING(nobody_applies);
    WAITING(both_in_one_apply);
    WAITING(the_residual_alone);
    WAITING(one_bn_for_both);
    WAITING(another_residual);
    WAITING(apply_writes_its_stats);
    WAITING(apply_writes_the_residual_stats);
    WAITING(another_apply_writes_its_stats);
    WAITING(bn_stats_come_first);
    WAITING(twice_the_same);
    WAITING(three_at_once);
    WAITING(new_weights);
    WAITING(an_update);
    WAITING(running_ones);
    WAITING(backward_reduces);
    WAITING(backward_applies);
    WAITING(its_memory_goes);
    WAITING(steps_begin_and_end);
    WAITING(apply_writes_its_conv_stats);
    WAITING(a_conv_writes_its_stats);
#undef WAITING
}

#ifdef FF_CUDA_EMULATED
extern int64_t emulator_queued;

/* What is timed by a sync is done then. */
Test(cuda_bn, a_sync_leaves_no_finalize_waiting)
{
    struct side s = cuda_open_side(FF_PRECISION_FP16, 0);
    struct ff_bn bn = make_bn(&s, "bn", WAIT_C);
    struct ff_tensor stats = doubles(&s, 2 * WAIT_C);
    for (int i = 0; i < 2; i++) {
        int64_t before = emulator_queued;
        finalize(&s, &bn, &stats);
        cr_assert(eq(i64, emulator_queued, before));
        cr_assert(eq(int, s.ops->sync(s.ctx, NULL), 0));
        cr_assert(eq(i64, emulator_queued, before + 1));
    }
    free_bn(&s, &bn);
    FREE_ALL(&s, &stats);
    side_close(&s);
}
#endif

/* The residual stream's mean is large against its spread: no digits may be lost. */
Test(cuda_bn, statistics_keep_their_digits_far_from_zero)
{
    enum { M = 3000, C = 8 };
    struct side s = cuda_open_side(FF_PRECISION_FP32, 0);
    struct ff_bn bn = make_bn(&s, "bn", C);
    struct ff_tensor src = put_random(&s, "src", M * C, 3000, 1.5);
    struct ff_tensor stats = doubles(&s, 2 * C);
    s.ops->bn_stats(s.ctx, &stats, &src, M, C);
    s.ops->bn_finalize(s.ctx, &bn, &stats, M);
    float *x = take(&s, &src), *invstd = take(&s, &bn.invstd);
    for (int k = 0; k < C; k++) {
        double mean = 0, var = 0;
        for (int64_t m = 0; m < M; m++)
            mean += (double)x[m * C + k] / M;
        for (int64_t m = 0; m < M; m++)
            var += ((double)x[m * C + k] - mean) * ((double)x[m * C + k] - mean) / M;
        double want = 1 / sqrt(var + 1e-5);
        cr_assert(epsilon_eq(dbl, (double)invstd[k], want, 1e-5 * want));
    }
    free(x);
    free(invstd);
    free_bn(&s, &bn);
    FREE_ALL(&s, &src, &stats);
    side_close(&s);
}

Test(cuda_bn, running_statistics_give_scale_and_shift)
{
    enum { C = 24 };
    struct side ref = side_open(FF_BACKEND_REF, 1);
    struct side s = cuda_open_side(FF_PRECISION_FP32, 0);
    struct ff_bn got = make_bn(&s, "bn", C), want = make_bn(&ref, "bn", C);
    s.ops->bn_finalize_running(s.ctx, &got);
    ref.ops->bn_finalize_running(ref.ctx, &want);
    CLOSE(&s, &got.scale, &ref, &want.scale, 1e-6, "scale", "running");
    CLOSE(&s, &got.shift, &ref, &want.shift, 1e-6, "shift", "running");
    free_bn(&s, &got);
    free_bn(&ref, &want);
    side_close(&s);
    side_close(&ref);
}
