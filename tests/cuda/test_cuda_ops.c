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

static void compare_conv(const char *line)
{
    struct side ref = side_open(FF_BACKEND_REF, 1);
    struct side s = cuda_open_side(now->precision, now->head);
    struct ff_conv_shape shape = {.pixels = 0};
    char name[64];
    int fields = sscanf(line, "%63s %d %d %d %d %d %d %d %d %d %d", name, &shape.N,
                        &shape.C, &shape.H, &shape.W, &shape.K, &shape.R, &shape.S,
                        &shape.stride, &shape.pad, &shape.groups);
    cr_assert(eq(int, fields, 11), "%s", line);
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
        struct ff_conv *conv;
        struct ff_err err = FF_ERR_INIT;
        int rc = x->ops->conv_create(x->ctx, &conv, &shape, true, &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
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
        rc = x->ops->sync(x->ctx, &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        x->ops->conv_destroy(x->ctx, conv);
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

/* -- BN -- */

struct bn_values {
    struct ff_bn bn, bn2;
    struct ff_tensor slope, src, residual, ddst, add;
    struct ff_tensor stats, stats_out, dst, dsrc, dweight, dbias, dslope;
};

static void make_values(struct bn_values *v, struct side *s, int64_t M, int C,
                        bool wide)
{
    v->bn = make_bn(s, "bn", C);
    v->bn2 = make_bn(s, "bn2", C);
    v->slope = put_random(s, "slope", C, 0.25, 0.1);
    v->stats = doubles(s, 2 * C);
    v->stats_out = doubles(s, 2 * C);
    v->dst = wide ? poisoned(s, M * C) : poisoned_activation(s, M * C);
    v->dsrc = poisoned_activation(s, M * C);
    v->dweight = poisoned(s, C);
    v->dbias = poisoned(s, C);
    v->dslope = poisoned(s, C);
}

static void free_values(struct side *s, struct bn_values *v)
{
    free_bn(s, &v->bn);
    free_bn(s, &v->bn2);
    FREE_ALL(s, &v->slope, &v->src, &v->residual, &v->ddst, &v->add, &v->stats,
             &v->stats_out, &v->dst, &v->dsrc, &v->dweight, &v->dbias, &v->dslope);
}

/* kind bits: 1 PReLU, 2 residual, 4 residual with its own BN, 8 add in backward. */
static void run_bn(struct side *s, struct bn_values *v, int kind, int64_t M, int C)
{
    const struct ff_tensor *slope = kind & 1 ? &v->slope : NULL;
    const struct ff_ops *ops = s->ops;
    ops->bn_stats(s->ctx, &v->stats, &v->src, M, C);
    ops->bn_finalize(s->ctx, &v->bn, &v->stats, M);
    ops->bn_stats(s->ctx, &v->stats_out, &v->residual, M, C);
    ops->bn_finalize(s->ctx, &v->bn2, &v->stats_out, M);
    ops->bn_apply(s->ctx, &v->dst, &v->src, &v->bn, slope,
                  kind & 6 ? &v->residual : NULL, kind & 4 ? &v->bn2 : NULL,
                  &v->stats_out, M);
    ops->bn_bwd_reduce(s->ctx, &v->dweight, &v->dbias, slope ? &v->dslope : NULL,
                       &v->ddst, &v->src, &v->bn, slope, M);
    ops->bn_bwd_apply(s->ctx, &v->dsrc, &v->ddst, &v->src, &v->bn, slope, &v->dweight,
                      &v->dbias, kind & 8 ? &v->add : NULL, M);
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
    static const int kinds[] = {11, 12, 21, 24, 0, 1, 2, 4, 9, 13, 17, 27};
    int count = now->precision == FF_PRECISION_FP16 ? 12 : 4;
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
