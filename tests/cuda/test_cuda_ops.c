/* SPDX-License-Identifier: MIT */
/* Every op of the cuda backend against ref, from the same rounded inputs, in each
 * precision. */
#include "cuda_fixture.h"

static const struct precision *now; /* under test */

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

static void free_bn(struct side *s, struct ff_bn *bn)
{
    FREE_ALL(s, &bn->weight, &bn->bias, &bn->running_mean, &bn->running_var, &bn->mean,
             &bn->invstd, &bn->scale, &bn->shift);
}

/* -- convolution -- */

/* Our own kernels for forward pass, gradients of data and weights; or cuDNN's. */
static const char *const *own;

static struct ff_conv *create_conv(struct side *s, const struct ff_conv_shape *shape)
{
    struct ff_conv *conv;
    struct ff_err err = FF_ERR_INIT;
    int rc = s->ops->conv_create(s->ctx, &conv, shape, true, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return conv;
}

/* The choices that a convolution of this shape makes, with `own` in their place. */
static char *own_choices(const struct ff_conv_shape *shape)
{
    struct side s = cuda_open_side(now->precision, now->head);
    struct ff_conv *conv = create_conv(&s, shape);
    char *made, *text = NULL, *rest;
    size_t length;
    cr_assert(eq(int, s.ops->sync(s.ctx, NULL), 0));
    cr_assert(eq(int, s.ops->choices(s.ctx, &made, NULL), 0));
    FILE *out = open_memstream(&text, &length);
    for (char *line = strtok_r(made, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        char *forward = strstr(line, " forward"), *end = strstr(line, ": ");
        if (line[0] == '#')
            fprintf(out, "%s\n", line);
        else if (!forward)
            fprintf(out, "%.*s: %s\n", (int)(end - line), line,
                    own[strstr(line, " backward data") ? 1 : 2]);
        else if (forward + strlen(" forward") != end) /* with statistics */
            fprintf(out, "%.*s: own\n%.*s forward: %s\n", (int)(end - line), line,
                    (int)(forward - line), line, own[0]);
    }
    fclose(out);
    free(made);
    s.ops->conv_destroy(s.ctx, conv);
    side_close(&s);
    return text;
}

static void compare_conv(const char *line)
{
    struct side ref = side_open(FF_BACKEND_REF, 1);
    struct ff_conv_shape shape = {.pixels = 0};
    char name[64];
    int fields = sscanf(line, "%63s %d %d %d %d %d %d %d %d %d %d", name, &shape.N,
                        &shape.C, &shape.H, &shape.W, &shape.K, &shape.R, &shape.S,
                        &shape.stride, &shape.pad, &shape.groups);
    cr_assert(eq(int, fields, 11), "%s", line);
    char *choices = own ? own_choices(&shape) : NULL;
    struct side s = cuda_open_side(now->precision, now->head);
    if (choices)
        cr_assert(eq(int, s.ops->set_choices(s.ctx, choices, NULL), 0));
    free(choices);
    int P = ff_conv_out(shape.H, shape.R, shape.stride, shape.pad);
    int Q = ff_conv_out(shape.W, shape.S, shape.stride, shape.pad);
    int64_t in = (int64_t)shape.N * shape.H * shape.W * shape.C;
    int64_t out = (int64_t)shape.N * P * Q * shape.K;
    int64_t weights = (int64_t)shape.K * shape.R * shape.S * (shape.C / shape.groups);
    struct ff_tensor src[2], weight[2], ddst[2], add[2], dst[2], dsrc[2], dweight[2],
        stats[2], half;
    put_both(&src[0], &src[1], &s, &ref, "src", in, 0.2, 1);
    put_both(&ddst[0], &ddst[1], &s, &ref, "ddst", out, 0, 1);
    put_both(&add[0], &add[1], &s, &ref, "add", in, 0, 1);
    /* f32 weights that halves hold exactly, so that packing loses nothing. */
    put_both(&half, &weight[1], &s, &ref, "weight", weights, 0, 0.1);
    float *values = take(&ref, &weight[1]);
    weight[0] = put(&s, values, weights);
    free(values);
    struct side *sides[2] = {&s, &ref};
    for (int k = 0; k < 2; k++) {
        struct side *x = sides[k];
        struct ff_err err = FF_ERR_INIT;
        struct ff_conv *conv = create_conv(x, &shape);
        dst[k] = k ? poisoned(x, out) : poisoned_activation(x, out);
        dsrc[k] = k ? poisoned(x, in) : poisoned_activation(x, in);
        dweight[k] = poisoned(x, weights);
        stats[k] = doubles(x, 2 * shape.K);
        x->ops->conv_pack(x->ctx, conv, &weight[k]);
        /* Twice: sums must be written, not added to. */
        x->ops->conv_fwd(x->ctx, conv, &dst[k], &src[k], &stats[k]);
        x->ops->conv_fwd(x->ctx, conv, &dst[k], &src[k], &stats[k]);
        x->ops->conv_bwd_data(x->ctx, conv, &dsrc[k], &ddst[k], &add[k]);
        x->ops->conv_bwd_weights(x->ctx, conv, &dweight[k], &src[k], &ddst[k]);
        int rc = x->ops->sync(x->ctx, &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        x->ops->conv_destroy(x->ctx, conv);
    }
    for (int k = 0; own && k < 3; k++) {
        char *made;
        cr_assert(eq(int, s.ops->choices(s.ctx, &made, NULL), 0));
        cr_assert(strstr(made, own[k]) != NULL, "%s", made);
        free(made);
    }
    CLOSE(&s, &dst[0], &ref, &dst[1], now->limit, "conv_fwd", line);
    struct ff_bn bn[2] = {make_bn(&s, "bn", shape.K), make_bn(&ref, "bn", shape.K)};
    for (int k = 0; k < 2; k++)
        sides[k]->ops->bn_finalize(sides[k]->ctx, &bn[k], &stats[k],
                                   (int64_t)shape.N * P * Q);
    CLOSE(&s, &bn[0].mean, &ref, &bn[1].mean, now->limit, "mean of conv_fwd", line);
    CLOSE(&s, &bn[0].invstd, &ref, &bn[1].invstd, now->limit, "invstd of conv_fwd",
          line);
    for (int k = 0; k < 2; k++)
        free_bn(sides[k], &bn[k]);
    CLOSE(&s, &dsrc[0], &ref, &dsrc[1], now->limit, "conv_bwd_data", line);
    CLOSE(&s, &dweight[0], &ref, &dweight[1], now->limit, "conv_bwd_weights", line);
    for (int k = 0; k < 2; k++)
        FREE_ALL(sides[k], &src[k], &weight[k], &ddst[k], &add[k], &dst[k], &dsrc[k],
                 &dweight[k], &stats[k]);
    FREE_ALL(&s, &half);
    side_close(&s);
    side_close(&ref);
}

Test(cuda_conv, matches_ref)
{
    for (int p = 0; p < PRECISIONS; p++) {
        now = &precisions[p];
        for_each_shape("cuda_conv.txt", compare_conv);
    }
}

#ifdef FF_CUDA_EMULATED
extern int emulated_multiprocessors;
#endif

/* Every tile of cuda_conv90.h. On another card than an H100 or H200 they are refused.
 */
Test(cuda_conv, our_own_kernels_match_ref)
{
    static const struct {
        const char *line, *own[3];
        int multiprocessors; /* to emulate: few for many turns, many for splits */
    } cases[] = {
        {"edges 2 128 7 9 256 3 3 1 1 1",
         {"conv90 192x256", "conv90 192x128", "conv90 3x128x128"},
         30},
        {"turns 3 128 9 10 256 3 3 1 1 1",
         {"conv90 128x256", "conv90 128x128", "conv90 3x128x128"},
         2},
        {"wide 1 256 5 5 512 3 3 1 1 1",
         {"conv90 128x128", "conv90 128x256", "conv90 3x128x128"},
         4},
#ifndef FF_CUDA_EMULATED /* more tiles than a card has multiprocessors */
        {"many 45 128 10 10 512 3 3 1 1 1",
         {"conv90 128x128", "conv90 128x128", "conv90 3x128x128"},
         0},
#endif
        {"small 1 256 4 5 256 3 3 1 1 1",
         {"conv90 192x128", "conv90 192x256", "conv90 3x128x128"},
         4},
    };
    for (int p = 1; p < PRECISIONS; p++) {
        now = &precisions[p];
        struct side s = cuda_open_side(now->precision, now->head);
        bool is_hopper = strstr(s.ops->describe(s.ctx), " sm_90,") != NULL;
        side_close(&s);
#ifdef FF_CUDA_EMULATED
        cr_assert(is_hopper);
#endif
        for (size_t i = 0; i < sizeof cases / sizeof *cases && is_hopper; i++) {
            if (p > 1 && i % 2) /* the types share all but one instruction */
                continue;
#ifdef FF_CUDA_EMULATED
            emulated_multiprocessors = cases[i].multiprocessors;
#endif
            own = cases[i].own;
            compare_conv(cases[i].line);
        }
    }
}

/* -- BN -- */

struct bn_values {
    struct ff_bn bn, bn2;
    struct ff_tensor slope, src, residual, ddst, add;
    struct ff_tensor stats, stats2, stats_out, dst, dsrc, dweight, dbias, dslope;
    struct ff_tensor next[3], alone[3]; /* dweight, dbias, dslope of bn2, as next */
};

static void make_values(struct bn_values *v, struct side *s, int64_t M, int C,
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

static void free_values(struct side *s, struct bn_values *v)
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
static void run_bn(struct side *s, struct bn_values *v, int kind, int64_t M, int C)
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
        make_values(&got, &s, M, C, wide);
        make_values(&want, &ref, M, C, wide);
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
        free_values(&s, &got);
        free_values(&ref, &want);
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
        make_values(&v[k], &s[k], WAIT_M, WAIT_C, false);
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
        free_values(&s[k], &v[k]);
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

/* -- weights' gradients on the side stream -- */

/* Small enough for one of the tensors to be another's: src and ddst (N, H, W, C) are
 * also rows of a BN, the network's input, and one side of a linear layer. */
enum { SIDE_N = 2, SIDE_H = 4, SIDE_C = 8, SIDE_ROWS = SIDE_N * SIDE_H * SIDE_H };
enum { SIDE_COUNT = SIDE_ROWS * SIDE_C, SIDE_WEIGHTS = 9 * SIDE_C * SIDE_C };

struct beside {
    struct side s;
    struct ff_conv *conv;
    struct ff_tensor read[2], other[2], dweight, weight, wide, narrow;
    struct bn_values bn;
};

static struct ff_tensor random_activation(struct side *s, const char *stream)
{
    float *values = random_values(stream, SIDE_COUNT, 0, 1);
    struct ff_tensor t = put_activation(s, values, SIDE_COUNT);
    free(values);
    return t;
}

static void beside_open(struct beside *b, bool beside)
{
    const struct ff_ops_options options = {.backend = FF_BACKEND_CUDA,
                                           .threads = 1,
                                           .precision = FF_PRECISION_FP32,
                                           .weights_beside = beside};
    const struct ff_conv_shape shape = {SIDE_N, SIDE_C, SIDE_H, SIDE_H, SIDE_C, 3,
                                        3,      1,      1,      1,      0};
    struct side *s = &b->s;
    *s = cuda_open_with(&options);
    cr_assert(eq(int, s->ops->weights_beside, beside));
    cr_assert(eq(int, s->ops->conv_create(s->ctx, &b->conv, &shape, true, NULL), 0));
    for (int i = 0; i < 2; i++) {
        b->read[i] = random_activation(s, "read");
        b->other[i] = random_activation(s, i ? "other" : "another");
    }
    b->weight = put_random(s, "weight", SIDE_COUNT * 4, 0, 0.1);
    b->dweight = poisoned(s, SIDE_WEIGHTS);
    b->wide = put_random(s, "wide", SIDE_COUNT * 4, 0, 1);
    b->narrow = put_random(s, "narrow", 16, 0, 1);
    s->ops->conv_pack(s->ctx, b->conv, &b->weight);
    make_values(&b->bn, s, SIDE_ROWS, SIDE_C, false);
    b->bn.src = random_activation(s, "src");
    b->bn.residual = random_activation(s, "residual");
    b->bn.ddst = random_activation(s, "ddst");
    b->bn.add = random_activation(s, "add");
}

static void beside_close(struct beside *b)
{
    struct side *s = &b->s;
    s->ops->conv_destroy(s->ctx, b->conv);
    free_values(s, &b->bn);
    FREE_ALL(s, &b->read[0], &b->read[1], &b->other[0], &b->other[1], &b->weight,
             &b->dweight, &b->wide, &b->narrow);
    side_close(s);
}

enum write {
    CONV_FWD,
    CONV_BWD_DATA,
    BN,
    BN_BWD,
    LINEAR,
    LINEAR_BWD,
    INPUT,
    UPLOAD,
    FREE,
    WRITES
};

/* An op of each kind that writes an activation or its gradient, on *t; or other memory
 * in its place. */
static void write_over(struct beside *b, enum write write, struct ff_tensor *t)
{
    static const uint8_t pixels[SIDE_ROWS * 3];
    static const float zeros[SIDE_COUNT];
    const struct ff_ops *ops = b->s.ops;
    struct ff_ops_ctx *ctx = b->s.ctx;
    struct bn_values bn = b->bn;
    struct ff_tensor small = ff_tensor_view(&b->other[1], 0, SIDE_N * SIDE_C);
    int columns = SIDE_COUNT / SIDE_N; /* (N, columns) = (N, 8) (columns, 8)' */
    switch (write) {
    case CONV_FWD: ops->conv_fwd(ctx, b->conv, t, &b->bn.src, NULL); break;
    case CONV_BWD_DATA: ops->conv_bwd_data(ctx, b->conv, t, &b->other[0], NULL); break;
    case BN:
        bn.dst = *t;
        run_bn(&b->s, &bn, 0, SIDE_ROWS, SIDE_C);
        break;
    case BN_BWD:
        bn.dsrc = *t;
        run_bn(&b->s, &bn, 0, SIDE_ROWS, SIDE_C);
        break;
    case LINEAR:
        ops->linear_fwd(ctx, t, &small, &b->wide, NULL, SIDE_N, SIDE_C, columns);
        break;
    case LINEAR_BWD:
        ops->linear_bwd(ctx, t, &b->wide, &b->narrow, &small, &b->other[0], &b->weight,
                        SIDE_N, columns, SIDE_C);
        break;
    case INPUT: ops->input(ctx, t, pixels, NULL, SIDE_N, SIDE_H, SIDE_H); break;
    case UPLOAD: ops->upload(ctx, t, zeros); break;
    case FREE:
        ops->free(ctx, t);
        cr_assert(eq(int, ops->alloc(ctx, t, SIDE_COUNT, 4, NULL), 0));
        break;
    case WRITES: break;
    }
}

/* A weights' gradient of what ops have queued for it, not yet there at the call. */
static void queue_pass(struct beside *b, struct ff_tensor *dweight)
{
    for (int i = 0; i < 2; i++)
        b->s.ops->conv_fwd(b->s.ctx, b->conv, &b->read[i], &b->other[i], NULL);
    b->s.ops->conv_bwd_weights(b->s.ctx, b->conv, dweight, &b->read[0], &b->read[1]);
}

/* Whatever is written next on what it reads. */
Test(cuda_side, what_a_pass_reads_is_spared)
{
    enum { TIMES = 12 }; /* the emulator's order of streams changes */
    struct beside b;
    beside_open(&b, false);
    queue_pass(&b, &b.dweight);
    float *want = take(&b.s, &b.dweight);
    beside_close(&b);
    beside_open(&b, true);
    for (int write = 0; write < WRITES; write++)
        for (int i = 0; i < 2 * TIMES; i++) {
            queue_pass(&b, &b.dweight);
            write_over(&b, (enum write)write, &b.read[i % 2]);
            float *got = take(&b.s, &b.dweight);
            cr_assert(memcmp(got, want, SIDE_WEIGHTS * sizeof *got) == 0, "op %d on %s",
                      write, i % 2 ? "ddst" : "src");
            free(got);
        }
    free(want);
    beside_close(&b);
}

/* More passes under way than are kept account of: the first is not forgotten. */
Test(cuda_side, many_passes_are_waited_for)
{
    enum { MANY = 100, TIMES = 12 };
    struct beside b;
    float *want[2] = {NULL, NULL};
    for (int beside = 0; beside < 2; beside++) {
        struct ff_tensor more;
        beside_open(&b, beside);
        more = poisoned(&b.s, SIDE_WEIGHTS);
        for (int i = 0; i < (beside ? TIMES : 1); i++) {
            queue_pass(&b, &b.dweight);
            for (int k = 1; k < MANY; k++)
                b.s.ops->conv_bwd_weights(b.s.ctx, b.conv, &more, &b.other[0],
                                          &b.other[1]);
            write_over(&b, CONV_FWD, &b.read[0]);
            float *got[2] = {take(&b.s, &b.dweight), take(&b.s, &more)};
            for (int k = 0; k < 2; k++) {
                if (!want[k])
                    want[k] = got[k];
                cr_assert(memcmp(got[k], want[k], SIDE_WEIGHTS * sizeof *got[k]) == 0);
                if (got[k] != want[k])
                    free(got[k]);
            }
        }
        FREE_ALL(&b.s, &more);
        beside_close(&b);
    }
    free(want[0]);
    free(want[1]);
}

/* -- linear, input -- */

Test(cuda_linear, matches_ref)
{
    static const int sizes[][3] = {{1, 16, 8}, {3, 56, 40}, {8, 784, 128}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int N = sizes[i][0], F = sizes[i][1], D = sizes[i][2];
        struct side s[2] = {cuda_open_side(FF_PRECISION_FP16, 0),
                            side_open(FF_BACKEND_REF, 1)};
        struct ff_tensor out[2][4], in[2][4];
        for (int k = 0; k < 2; k++) {
            in[k][0] = put_random(&s[k], "src", (int64_t)N * F, 0.2, 1);
            in[k][1] = put_random(&s[k], "weight", (int64_t)D * F, 0, 0.1);
            in[k][2] = put_random(&s[k], "bias", D, 0, 1);
            in[k][3] = put_random(&s[k], "ddst", (int64_t)N * D, 0, 1);
            out[k][0] = poisoned(&s[k], (int64_t)N * D);
            out[k][1] = poisoned(&s[k], (int64_t)N * F);
            out[k][2] = poisoned(&s[k], (int64_t)D * F);
            out[k][3] = poisoned(&s[k], D);
            s[k].ops->linear_fwd(s[k].ctx, &out[k][0], &in[k][0], &in[k][1], &in[k][2],
                                 N, F, D);
            s[k].ops->linear_bwd(s[k].ctx, &out[k][1], &out[k][2], &out[k][3],
                                 &in[k][3], &in[k][0], &in[k][1], N, F, D);
        }
        for (int t = 0; t < 4; t++)
            CLOSE(&s[0], &out[0][t], &s[1], &out[1][t], 5e-6, "linear", "");
        for (int k = 0; k < 2; k++) {
            for (int t = 0; t < 4; t++)
                FREE_ALL(&s[k], &in[k][t], &out[k][t]);
            side_close(&s[k]);
        }
    }
}

Test(cuda_input, normalises_mirrors_and_pads)
{
    enum { N = 3, H = 4, W = 5 };
    uint8_t pixels[N * H * W * 3], flip[N] = {0, 1, 0};
    for (int i = 0; i < N * H * W * 3; i++)
        pixels[i] = (uint8_t)(i * 37);
    for (int p = 0; p < PRECISIONS; p++) {
        struct side s = cuda_open_side(precisions[p].precision, 0);
        int C = s.ops->input_channels;
        for (int mirrored = 0; mirrored < 2; mirrored++) {
            struct ff_tensor dst = poisoned_activation(&s, (int64_t)N * H * W * C);
            s.ops->input(s.ctx, &dst, pixels, mirrored ? flip : NULL, N, H, W);
            float *got = take(&s, &dst);
            for (int i = 0; i < N * H * W * C; i++) {
                int c = i % C, at = i / C, w = at % W, n = at / W / H;
                int from = mirrored && flip[n] ? at - w + W - 1 - w : at;
                double want =
                    c < 3 ? ((double)pixels[3 * from + c] / 255 - 0.5) / 0.5 : 0;
                cr_assert(epsilon_eq(dbl, (double)got[i], want, precisions[p].limit));
            }
            free(got);
            FREE_ALL(&s, &dst);
        }
        side_close(&s);
    }
}
