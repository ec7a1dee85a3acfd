/* SPDX-License-Identifier: MIT */
/* Convolution: onednn against ref over shapes/conv.txt, ref against central
 * differences. */
#include "ops_fixture.h"

#define LIMIT 2e-6 /* f32 sums of at most 1152 products against double */

static int threads_under_test;

static struct ff_conv_shape parse(const char *line)
{
    struct ff_conv_shape s = {0};
    char name[64];
    int n = sscanf(line, "%63s %d %d %d %d %d %d %d %d %d", name, &s.N, &s.C, &s.H,
                   &s.W, &s.K, &s.R, &s.stride, &s.pad, &s.groups);
    cr_assert(n == 8 || n == 10, "%s", line);
    s.S = s.R;
    s.pixels = s.C == 3;
    if (n == 8) {
        s.pad = s.R / 2;
        s.groups = 1;
    }
    return s;
}

/* All three passes of one backend on the same values. */
struct passes {
    struct ff_tensor src, weight, ddst, dst, dsrc, dsrc_added, dweight, stats;
};

static struct passes run_passes(struct side *s, const struct ff_conv_shape *c)
{
    int P = ff_conv_out(c->H, c->R, c->stride, c->pad);
    int Q = ff_conv_out(c->W, c->S, c->stride, c->pad);
    int64_t n_src = (int64_t)c->N * c->H * c->W * c->C,
            n_dst = (int64_t)c->N * P * Q * c->K;
    int64_t n_weight = (int64_t)c->K * c->R * c->S * (c->C / c->groups);
    struct passes p = {.src = put_random(s, "src", n_src, 0.3, 1),
                       .weight = put_random(s, "weight", n_weight, 0, 0.1),
                       .ddst = put_random(s, "ddst", n_dst, 0, 1),
                       .dst = poisoned(s, n_dst),
                       .dsrc = poisoned(s, n_src),
                       .dsrc_added = poisoned(s, n_src),
                       .dweight = poisoned(s, n_weight),
                       .stats = doubles(s, 2 * c->K)};
    struct ff_conv *conv;
    struct ff_err err = FF_ERR_INIT;
    int rc = s->ops->conv_create(s->ctx, &conv, c, true, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    s->ops->conv_pack(s->ctx, conv, &p.weight);
    s->ops->conv_fwd(s->ctx, conv, &p.dst, &p.src, &p.stats);
    if (!c->pixels)
        s->ops->conv_bwd_data(s->ctx, conv, &p.dsrc, &p.ddst, NULL);
    if (!c->pixels)
        s->ops->conv_bwd_data(s->ctx, conv, &p.dsrc_added, &p.ddst, &p.src);
    s->ops->conv_bwd_weights(s->ctx, conv, &p.dweight, &p.src, &p.ddst);
    s->ops->conv_destroy(s->ctx, conv);
    return p;
}

static void free_passes(struct side *s, struct passes *p)
{
    struct ff_tensor *all[] = {&p->src,  &p->weight,     &p->ddst,    &p->dst,
                               &p->dsrc, &p->dsrc_added, &p->dweight, &p->stats};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        s->ops->free(s->ctx, all[i]);
}

static void compare(const char *line)
{
    struct ff_conv_shape c = parse(line);
    struct side ref = side_open(FF_BACKEND_REF, 1);
    struct side fast = side_open(FF_BACKEND_ONEDNN, threads_under_test);
    struct passes want = run_passes(&ref, &c), got = run_passes(&fast, &c);
    CLOSE(&fast, &got.dst, &ref, &want.dst, LIMIT, "forward", line);
    if (!c.pixels)
        CLOSE(&fast, &got.dsrc, &ref, &want.dsrc, LIMIT, "backward data", line);
    if (!c.pixels)
        CLOSE(&fast, &got.dsrc_added, &ref, &want.dsrc_added, LIMIT, "and more", line);
    CLOSE(&fast, &got.dweight, &ref, &want.dweight, LIMIT, "backward weights", line);
    const double *a = got.stats.data, *b = want.stats.data;
    for (int i = 0; i < 2 * c.K; i++)
        cr_assert(fabs(a[i] - b[i]) <= 1e-4 * (1 + fabs(b[i])), "stats of %s", line);
    free_passes(&fast, &got);
    free_passes(&ref, &want);
    side_close(&fast);
    side_close(&ref);
}

Test(conv, onednn_matches_ref_with_one_thread)
{
    threads_under_test = 1;
    for_each_shape("conv.txt", compare);
}

Test(conv, onednn_matches_ref_with_two_threads)
{
    threads_under_test = 2;
    for_each_shape("conv.txt", compare);
}

/* loss = sum dst * ddst; each of a few elements is moved by +-h. */
static double loss(struct side *s, struct ff_conv *conv, struct passes *p)
{
    s->ops->conv_pack(s->ctx, conv, &p->weight);
    s->ops->conv_fwd(s->ctx, conv, &p->dst, &p->src, NULL);
    float *y = take(s, &p->dst), *g = take(s, &p->ddst);
    double sum = 0;
    for (int64_t i = 0; i < p->dst.count; i++)
        sum += (double)y[i] * g[i];
    free(y);
    free(g);
    return sum;
}

static void check_gradient(struct side *s, struct ff_conv *conv, struct passes *p,
                           struct ff_tensor *x, struct ff_tensor *dx)
{
    float *value = x->data;
    const float *gradient = dx->data;
    for (int64_t i = 0; i < x->count; i += 1 + x->count / 23) {
        float h = 0.125f, old = value[i];
        value[i] = old + h;
        double up = loss(s, conv, p);
        value[i] = old - h;
        double down = loss(s, conv, p);
        value[i] = old;
        double want = (up - down) / (2 * h); /* linear in x: exact but for rounding */
        cr_assert(epsilon_eq(dbl, (double)gradient[i], want, 1e-3 * (1 + fabs(want))));
    }
}

Test(conv, ref_gradients_match_central_differences)
{
    fixed_seed = 3407;
    struct side ref = side_open(FF_BACKEND_REF, 1);
    for (int i = 0; i < 4; i++) {
        int stride = 1 + i % 2;
        bool grouped = i >= 2;
        struct ff_conv_shape c = {.N = 2,
                                  .C = grouped ? 4 : 3,
                                  .H = 5,
                                  .W = 5,
                                  .K = 4,
                                  .R = 3,
                                  .S = 3,
                                  .stride = stride,
                                  .pad = 1,
                                  .groups = grouped ? 2 : 1};
        struct passes p = run_passes(&ref, &c);
        struct ff_conv *conv;
        struct ff_err err = FF_ERR_INIT;
        cr_assert(eq(int, ref.ops->conv_create(ref.ctx, &conv, &c, true, &err), 0));
        ref.ops->conv_pack(ref.ctx, conv, &p.weight);
        ref.ops->conv_bwd_data(ref.ctx, conv, &p.dsrc, &p.ddst, NULL);
        check_gradient(&ref, conv, &p, &p.src, &p.dsrc);
        check_gradient(&ref, conv, &p, &p.weight, &p.dweight);
        ref.ops->conv_destroy(ref.ctx, conv);
        free_passes(&ref, &p);
    }
    side_close(&ref);
}
