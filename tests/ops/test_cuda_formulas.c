/* SPDX-License-Identifier: MIT */
/* The cuda kernels' arithmetic, element by element, against ref: no GPU, no CUDA. */
#include "cuda/cuda_formulas.h"
#include "ops_fixture.h"

enum { M = 60, C = 24 };

static void near(double got, double want, double scale, const char *what)
{
    cr_assert(fabs(got - want) <= 2e-6 * (fabs(want) + scale),
              "%s: %.9g, ref %.9g (seed %llu)", what, got, want,
              (unsigned long long)fresh_seed());
}

static struct ff_bn make_bn(struct side *s)
{
    return (struct ff_bn){.C = C,
                          .weight = put_random(s, "weight", C, 1, 0.3),
                          .bias = put_random(s, "bias", C, 0, 0.5),
                          .running_mean = put_random(s, "rm", C, 0, 1),
                          .running_var = put_random(s, "rv", C, 3, 0.1),
                          .mean = poisoned(s, C),
                          .invstd = poisoned(s, C),
                          .scale = poisoned(s, C),
                          .shift = poisoned(s, C)};
}

static void free_bn(struct side *s, struct ff_bn *bn)
{
    struct ff_tensor *all[] = {&bn->weight,      &bn->bias, &bn->running_mean,
                               &bn->running_var, &bn->mean, &bn->invstd,
                               &bn->scale,       &bn->shift};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        s->ops->free(s->ctx, all[i]);
}

Test(cuda_formulas, normalise_every_value)
{
    for (int x = 0; x < 256; x++)
        near((double)cuda_normalise((uint8_t)x), (x / 255.0 - 0.5) / 0.5, 0.1,
             "normalise");
}

Test(cuda_formulas, bn_and_prelu)
{
    struct side s = side_open(FF_BACKEND_REF, 1);
    struct ff_bn bn = make_bn(&s);
    struct ff_tensor slope = put_random(&s, "slope", C, 0.25, 0.1);
    struct ff_tensor src = put_random(&s, "src", M * C, 2, 1.5);
    struct ff_tensor ddst = put_random(&s, "ddst", M * C, 0.1, 1);
    struct ff_tensor stats = doubles(&s, 2 * C), dst = poisoned(&s, M * C);
    struct ff_tensor dsrc = poisoned(&s, M * C), dweight = poisoned(&s, C);
    struct ff_tensor dbias = poisoned(&s, C), dslope = poisoned(&s, C);
    float *rm = take(&s, &bn.running_mean), *rv = take(&s, &bn.running_var);
    s.ops->bn_stats(s.ctx, &stats, &src, M, C);
    s.ops->bn_finalize(s.ctx, &bn, &stats, M);
    s.ops->bn_apply(s.ctx, &dst, &src, &bn, &slope, NULL, NULL, NULL, M);
    s.ops->bn_bwd_reduce(s.ctx, &dweight, &dbias, &dslope, &ddst, &src, &bn, &slope, M);
    s.ops->bn_bwd_apply(s.ctx, &dsrc, &ddst, &src, &bn, &slope, &dweight, &dbias, NULL,
                        NULL, M);
    const double *sums = stats.data;
    const float *x = src.data, *g = ddst.data, *a = slope.data;
    const float *mean = bn.mean.data, *invstd = bn.invstd.data;
    const float *scale = bn.scale.data, *shift = bn.shift.data;
    double dslope_sum[C] = {0};
    for (int c = 0; c < C; c++) {
        struct cuda_bn_channel k = cuda_bn_finalize(
            sums[c], sums[C + c], M, ((float *)bn.weight.data)[c],
            ((float *)bn.bias.data)[c], rm[c], rv[c], FF_BN_EPS, FF_BN_MOMENTUM);
        near((double)k.mean, (double)mean[c], 0, "mean");
        near((double)k.invstd, (double)invstd[c], 0, "invstd");
        near((double)k.scale, (double)scale[c], 0, "scale");
        near((double)k.shift, (double)shift[c], 0, "shift");
        near((double)k.running_mean, (double)((float *)bn.running_mean.data)[c], 0,
             "running_mean");
        near((double)k.running_var, (double)((float *)bn.running_var.data)[c], 0,
             "running_var");
    }
    for (int i = 0; i < M * C; i++) {
        int c = i % C;
        float pre = cuda_affine(x[i], scale[c], shift[c]);
        near((double)cuda_prelu(pre, a[c]), (double)((float *)dst.data)[i], 0.1,
             "apply");
        if (fabsf(pre) < 1e-3f) /* the kink: either side is right */
            continue;
        float dy = cuda_prelu_bwd(g[i], pre, a[c]);
        float dx =
            cuda_bn_bwd(dy, cuda_xhat(x[i], mean[c], invstd[c]), scale[c],
                        ((float *)dbias.data)[c] / M, ((float *)dweight.data)[c] / M);
        near((double)dx, (double)((float *)dsrc.data)[i], 1, "bwd_apply");
        dslope_sum[c] += (double)cuda_prelu_dslope(g[i], pre);
    }
    for (int c = 0; c < C; c++)
        cr_assert(
            epsilon_eq(dbl, dslope_sum[c], (double)((float *)dslope.data)[c], 0.01));
    struct ff_tensor *all[] = {&slope, &src,     &ddst,  &stats, &dst,
                               &dsrc,  &dweight, &dbias, &dslope};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        s.ops->free(s.ctx, all[i]);
    free(rm);
    free(rv);
    free_bn(&s, &bn);
    side_close(&s);
}

/* Loss and gradients of the whole head, put together from the formulas in f32. */
static void head(int kind, int exact)
{
    enum { N = 5, D = 16, CLS = 11 };
    const struct ff_head_shape shape = {N, D, CLS, kind, exact, 32, 0.3f};
    const struct cuda_margin margin = {kind == FF_HEAD_ARCFACE   ? CUDA_ARCFACE
                                       : kind == FF_HEAD_COSFACE ? CUDA_COSFACE
                                                                 : CUDA_SOFTMAX,
                                       exact == FF_MARGIN_GRAD_EXACT, 32, 0.3f};
    struct side s = side_open(FF_BACKEND_REF, 1);
    struct ff_tensor e = put_random(&s, "e", N * D, 0, 2);
    struct ff_tensor w = put_random(&s, "w", CLS * D, 0, 0.01);
    struct ff_tensor de = poisoned(&s, N * D), v = put_random(&s, "v", CLS * D, 0, 1);
    struct ff_tensor none = doubles(&s, 0);
    float *w0 = take(&s, &w), *v0 = take(&s, &v);
    const float *x = e.data;
    const struct ff_sgd sgd = {.momentum = 0.9, .weight_decay = 5e-4};
    struct ff_head_plan *plan;
    int64_t label[N];
    for (int n = 0; n < N; n++)
        label[n] = (int64_t)(ff_rng_u64(fresh_seed(), 1, (uint64_t)n) % CLS);
    cr_assert(eq(int, s.ops->head_create(s.ctx, &plan, &shape, NULL), 0));
    s.ops->head_fwd(s.ctx, plan, &e, &w, label);
    s.ops->head_bwd(s.ctx, plan, &de, &e, &w);
    set_lr(&s, 0.1);
    s.ops->grad_check(s.ctx, &none, plan);
    s.ops->head_update(s.ctx, plan, &w, &v, &sgd);

    float inv_e[N], inv_w[CLS], g[N][CLS], loss = 0;
    for (int r = 0; r < N + CLS; r++) {
        const float *row = r < N ? x + r * D : w0 + (r - N) * D;
        float sum = 0;
        for (int d = 0; d < D; d++)
            sum += row[d] * row[d];
        *(r < N ? &inv_e[r] : &inv_w[r - N]) = 1.0f / sqrtf(sum);
    }
    for (int n = 0; n < N; n++) {
        float cosine[CLS], logit[CLS], max = -INFINITY, sum = 0;
        for (int c = 0; c < CLS; c++) {
            cosine[c] = 0;
            for (int d = 0; d < D; d++)
                cosine[c] += x[n * D + d] * inv_e[n] * w0[c * D + d] * inv_w[c];
            float clamped = cuda_clamp_cosine(cosine[c]);
            logit[c] = 32 * (c == label[n] ? cuda_target(clamped, &margin) : clamped);
            max = fmaxf(max, logit[c]);
        }
        for (int c = 0; c < CLS; c++)
            sum += expf(logit[c] - max);
        float log_sum = max + logf(sum);
        loss += (log_sum - logit[label[n]]) / N;
        for (int c = 0; c < CLS; c++)
            g[n][c] = c == label[n]
                          ? cuda_dtarget(cosine[c], logit[c], log_sum, 32.0f / N,
                                         cuda_target_derivative(cosine[c], &margin))
                          : cuda_dcosine(cosine[c], logit[c], log_sum, 32.0f / N);
    }
    cr_assert(epsilon_eq(dbl, (double)loss, (double)s.ops->loss(s.ctx), 2e-5));
    for (int n = 0; n < N; n++) {
        float unit[D], dunit[D] = {0}, dot = 0;
        for (int d = 0; d < D; d++) {
            for (int c = 0; c < CLS; c++)
                dunit[d] += g[n][c] * w0[c * D + d] * inv_w[c];
            unit[d] = x[n * D + d] * inv_e[n];
            dot += dunit[d] * unit[d];
        }
        for (int d = 0; d < D; d++)
            cr_assert(epsilon_eq(
                dbl, (double)cuda_through_norm(dunit[d], unit[d], dot, inv_e[n]),
                (double)((float *)de.data)[n * D + d], 1e-4));
    }
    for (int c = 0; c < CLS; c++) { /* the row update */
        float unit[D], dunit[D] = {0}, dot = 0;
        for (int d = 0; d < D; d++) {
            for (int n = 0; n < N; n++)
                dunit[d] += g[n][c] * x[n * D + d] * inv_e[n];
            unit[d] = w0[c * D + d] * inv_w[c];
            dot += dunit[d] * unit[d];
        }
        for (int d = 0; d < D; d++) {
            float *at = &w0[c * D + d], *moment = &v0[c * D + d];
            float gradient = cuda_through_norm(dunit[d], unit[d], dot, inv_w[c]);
            cuda_sgd(at, moment, gradient, 0.9f, 5e-4f, 0.1f);
            double want = (double)((float *)v.data)[c * D + d];
            cr_assert(epsilon_eq(dbl, (double)*moment, want, 2e-5 * (fabs(want) + 50)));
        }
    }
    struct ff_tensor *all[] = {&e, &w, &de, &v, &none};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        s.ops->free(s.ctx, all[i]);
    s.ops->head_destroy(s.ctx, plan);
    free(w0);
    free(v0);
    side_close(&s);
}

Test(cuda_formulas, margin_heads)
{
    head(FF_HEAD_ARCFACE, FF_MARGIN_GRAD_STRAIGHT_THROUGH);
    head(FF_HEAD_ARCFACE, FF_MARGIN_GRAD_EXACT);
    head(FF_HEAD_COSFACE, FF_MARGIN_GRAD_STRAIGHT_THROUGH);
}

Test(cuda_formulas, a_cosine_that_the_clamp_cut_has_no_gradient)
{
    cr_assert(eq(flt, cuda_dcosine(1.0001f, 60, 64, 1), 0));
    cr_assert(eq(flt, cuda_dtarget(-1.0001f, -60, 64, 1, 1), 0));
    cr_assert(isnan(cuda_dcosine(NAN, NAN, 64, 1)));
}

/* Of a cosine's gradient, s / N within 2^11, and of a centre's, s within the halves. */
Test(cuda_formulas, a_head_scale_is_the_largest_within_its_limit)
{
    static const double known[][3] = {{0.5, 2048, 4096}, {1, 65440, 32768},
                                      {64, 65440, 512},  {128, 65440, 256},
                                      {4096, 65440, 8},  {64, 64, 1}};
    static const double scales[] = {1e-3, 0.1, 1,   1.99, 2,  30,
                                    63.9, 64,  128, 4096, 1e4};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        cr_assert(eq(dbl, cuda_head_scale(known[i][0], known[i][1]), known[i][2]));
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        int exponent;
        double S = cuda_head_scale(scales[i], 65440), most = scales[i] * S;
        cr_assert(eq(dbl, frexp(S, &exponent), 0.5));
        cr_assert(le(dbl, most * (1 + 1.0 / 1024), 65504));
        cr_assert(lt(dbl, 65440, 2 * most));
    }
}

Test(cuda_formulas, clip_and_loss_scale)
{
    double scale = 65536;
    int64_t good = 98;
    cr_assert(eq(dbl, cuda_clip(10, 0), 1));
    cr_assert(eq(dbl, cuda_clip(4, 5), 1));
    cr_assert(epsilon_eq(dbl, cuda_clip(10, 5), 5 / (10 + 1e-6), 1e-12));
    cuda_move_scale(&scale, &good, 1, 100);
    cr_assert(eq(dbl, scale, 65536));
    cuda_move_scale(&scale, &good, 1, 100);
    cr_assert(eq(dbl, scale, 131072));
    cr_assert(eq(i64, good, 0));
    good = 50;
    cuda_move_scale(&scale, &good, 0, 100);
    cr_assert(eq(dbl, scale, 65536));
    cr_assert(eq(i64, good, 0));
}
