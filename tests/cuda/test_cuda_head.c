/* SPDX-License-Identifier: MIT */
/* The cuda backend's margin head and optimizer against ref. */
#include "cuda_fixture.h"

struct head_case {
    struct ff_head_plan *plan;
    struct ff_tensor embedding, weight, dembedding, gradient;
    int64_t *label;
    float loss;
};

static void make_head(struct head_case *h, struct side *s,
                      const struct ff_head_shape *shape)
{
    int64_t count = shape->CLS * shape->D;
    struct ff_err err = FF_ERR_INIT;
    h->embedding = put_random(s, "embedding", (int64_t)shape->N * shape->D, 0, 2);
    h->weight = put_random(s, "weight", count, 0, 0.01);
    h->dembedding = poisoned(s, (int64_t)shape->N * shape->D);
    h->gradient = put_random(s, "zero", count, 0, 0);
    h->label = malloc((size_t)shape->N * sizeof(int64_t));
    for (int n = 0; n < shape->N; n++)
        h->label[n] =
            (int64_t)(ff_rng_u64(fresh_seed(), 1, (uint64_t)n) % (uint64_t)shape->CLS);
    h->label[0] = shape->CLS - 1;
    int rc = s->ops->head_create(s->ctx, &h->plan, shape, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
}

/* The momentum of an update without decay from no momentum is the gradient. */
static void run_head(struct side *s, struct head_case *h)
{
    const struct ff_sgd plain = {.momentum = 0};
    struct ff_tensor none = doubles(s, 0);
    s->ops->head_pack(s->ctx, h->plan, &h->weight);
    s->ops->head_fwd(s->ctx, h->plan, &h->embedding, &h->weight, h->label);
    h->loss = s->ops->loss(s->ctx);
    s->ops->head_bwd(s->ctx, h->plan, &h->dembedding, &h->embedding, &h->weight);
    set_lr(s, 0);
    s->ops->grad_check(s->ctx, &none, h->plan);
    s->ops->head_update(s->ctx, h->plan, &h->weight, &h->gradient, &plain);
    FREE_ALL(s, &none);
}

static void free_head(struct side *s, struct head_case *h)
{
    s->ops->head_destroy(s->ctx, h->plan);
    FREE_ALL(s, &h->embedding, &h->weight, &h->dembedding, &h->gradient);
    free(h->label);
}

static void compare(int head_precision, double limit)
{
    /* Chunks end at 8192 columns, warps at 256 lengths; 7, 33: rows that are padded. */
    static const int sizes[][3] = {{4, 16, 7},    {8, 40, 33},  {3, 512, 200},
                                   {2, 1024, 64}, {2, 8, 8200}, {17, 24, 50}};
    static const int kinds[] = {FF_HEAD_ARCFACE, FF_HEAD_COSFACE, FF_HEAD_SOFTMAX};
    for (int k = 0; k < 3; k++)
        for (int exact = 0; exact < (k == 0 ? 2 : 1); exact++)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                const struct ff_head_shape shape = {
                    .N = sizes[i][0],
                    .D = sizes[i][1],
                    .CLS = sizes[i][2],
                    .kind = kinds[k],
                    .scale = 64,
                    .margin = k == 2 ? 0 : 0.4f,
                    .margin_grad =
                        exact ? FF_MARGIN_GRAD_EXACT : FF_MARGIN_GRAD_STRAIGHT_THROUGH};
                const struct ff_loss_scale scale = {.value = 8};
                char line[64];
                snprintf(line, sizeof line, "kind %d exact %d N%d D%d CLS%d", k, exact,
                         sizes[i][0], sizes[i][1], sizes[i][2]);
                struct side ref = side_open(FF_BACKEND_REF, 1);
                struct side s = cuda_open_side(FF_PRECISION_FP32, head_precision);
                struct head_case want, got;
                ref.ops->set_loss_scale(ref.ctx, &scale);
                s.ops->set_loss_scale(s.ctx, &scale);
                make_head(&want, &ref, &shape);
                make_head(&got, &s, &shape);
                run_head(&ref, &want);
                run_head(&s, &got);
                cr_assert(fabs(got.loss - want.loss) <= limit * fabs(want.loss),
                          "loss %.8g, ref %.8g at %s", (double)got.loss,
                          (double)want.loss, line);
                CLOSE(&s, &got.dembedding, &ref, &want.dembedding, 10 * limit,
                      "dembedding", line);
                CLOSE(&s, &got.gradient, &ref, &want.gradient, 10 * limit, "gradient",
                      line);
                free_head(&s, &got);
                free_head(&ref, &want);
                side_close(&s);
                side_close(&ref);
            }
}

Test(cuda_head, f32_matches_ref)
{
    compare(FF_HEAD_PRECISION_FP32, 3e-6);
}

/* Cosines in halves: 64 times 2^-12 of one is a logit's error. */
Test(cuda_head, fp16_is_near_ref)
{
    compare(FF_HEAD_PRECISION_FP16, 3e-3);
}

/* Several updates with everything on, against ref's: the norms that the update keeps
 * must be those of the new centres. */
static void follow(int head_precision, double limit)
{
    const struct ff_head_shape shape = {.N = 6,
                                        .D = 32,
                                        .CLS = 21,
                                        .kind = FF_HEAD_COSFACE,
                                        .scale = 32,
                                        .margin = 0.3f};
    const struct ff_sgd sgd = {.momentum = 0.9, .weight_decay = 5e-4};
    struct side sides[2] = {cuda_open_side(FF_PRECISION_FP32, head_precision),
                            side_open(FF_BACKEND_REF, 1)};
    struct head_case h[2];
    for (int k = 0; k < 2; k++) {
        struct side *s = &sides[k];
        struct ff_tensor none = doubles(s, 0);
        make_head(&h[k], s, &shape);
        s->ops->head_pack(s->ctx, h[k].plan, &h[k].weight);
        for (int step = 0; step < 4; step++) {
            set_lr(s, 0.05);
            s->ops->head_fwd(s->ctx, h[k].plan, &h[k].embedding, &h[k].weight,
                             h[k].label);
            h[k].loss = s->ops->loss(s->ctx);
            s->ops->head_bwd(s->ctx, h[k].plan, &h[k].dembedding, &h[k].embedding,
                             &h[k].weight);
            s->ops->grad_check(s->ctx, &none, h[k].plan);
            s->ops->head_update(s->ctx, h[k].plan, &h[k].weight, &h[k].gradient, &sgd);
        }
        FREE_ALL(s, &none);
    }
    cr_assert(fabs(h[0].loss - h[1].loss) <= limit * fmax(1, fabs(h[1].loss)),
              "loss %.8g, ref %.8g", (double)h[0].loss, (double)h[1].loss);
    CLOSE(&sides[0], &h[0].weight, &sides[1], &h[1].weight, limit, "centres", "");
    CLOSE(&sides[0], &h[0].gradient, &sides[1], &h[1].gradient, 10 * limit, "momentum",
          "");
    for (int k = 0; k < 2; k++) {
        free_head(&sides[k], &h[k]);
        side_close(&sides[k]);
    }
}

Test(cuda_head, f32_follows_ref_over_updates)
{
    follow(FF_HEAD_PRECISION_FP32, 1e-5);
}
Test(cuda_head, fp16_stays_near_ref_over_updates)
{
    follow(FF_HEAD_PRECISION_FP16, 1e-2);
}

/* The worst for a centre's gradient in halves: a whole batch of one identity, all with
 * the same embedding, which is another's centre. */
Test(cuda_head, a_centre_that_a_whole_batch_pulls_at_does_not_overflow)
{
    enum { N = 128, D = 16, CLS = 5 };
    static const float scales[] = {1, 30, 64, 4096};
    for (size_t i = 0; i < sizeof scales / sizeof *scales; i++) {
        const struct ff_head_shape shape = {
            .N = N, .D = D, .CLS = CLS, .kind = FF_HEAD_SOFTMAX, .scale = scales[i]};
        struct side sides[2] = {
            cuda_open_side(FF_PRECISION_FP16, FF_HEAD_PRECISION_FP16),
            side_open(FF_BACKEND_REF, 1)};
        struct head_case h[2];
        struct ff_step_result result;
        float e[N * D] = {0}, w[CLS * D] = {0};
        for (int n = 0; n < N; n++)
            e[n * D + 1] = 3;
        for (int c = 0; c < CLS; c++)
            w[c * D + c] = 0.5f;
        for (int k = 0; k < 2; k++) {
            struct side *s = &sides[k];
            const struct ff_loss_scale one = {.value = 1};
            make_head(&h[k], s, &shape);
            s->ops->set_loss_scale(s->ctx, &one);
            s->ops->upload(s->ctx, &h[k].embedding, e);
            s->ops->upload(s->ctx, &h[k].weight, w);
            memset(h[k].label, 0, N * sizeof *h[k].label);
            run_head(s, &h[k]);
            s->ops->step_result(s->ctx, &result);
            cr_assert(result.finite, "scale %g", (double)scales[i]);
        }
        CLOSE(&sides[0], &h[0].gradient, &sides[1], &h[1].gradient, 1e-3, "gradient",
              "");
        CLOSE(&sides[0], &h[0].dembedding, &sides[1], &h[1].dembedding, 1e-3,
              "dembedding", "");
        for (int k = 0; k < 2; k++) {
            free_head(&sides[k], &h[k]);
            side_close(&sides[k]);
        }
    }
}

Test(cuda_head, a_nan_in_the_embedding_reaches_the_loss_and_stops_the_update)
{
    for (int head = FF_HEAD_PRECISION_FP32; head <= FF_HEAD_PRECISION_FP16; head++) {
        struct side s = cuda_open_side(FF_PRECISION_FP16, head);
        const struct ff_head_shape shape = {.N = 2,
                                            .D = 16,
                                            .CLS = 5,
                                            .kind = FF_HEAD_ARCFACE,
                                            .scale = 64,
                                            .margin = 0.5f};
        struct head_case h;
        struct ff_step_result result;
        make_head(&h, &s, &shape);
        float *e = take(&s, &h.embedding), *before = take(&s, &h.weight);
        e[3] = NAN;
        s.ops->upload(s.ctx, &h.embedding, e);
        run_head(&s, &h);
        cr_assert(isnan(h.loss));
        s.ops->step_result(s.ctx, &result);
        cr_assert(not(result.finite));
        float *after = take(&s, &h.weight);
        cr_assert(eq(int, memcmp(before, after, 5 * 16 * 4), 0));
        free(e);
        free(before);
        free(after);
        free_head(&s, &h);
        side_close(&s);
    }
}

#ifdef FF_CUDA_EMULATED
extern bool emulator_events_lag;
#endif

struct head_step {
    struct side *s;
    struct head_case *h;
};

static void queue_head(void *arg)
{
    const struct head_step *a = arg;
    struct head_case *h = a->h;
    a->s->ops->head_fwd(a->s->ctx, h->plan, &h->embedding, &h->weight, NULL);
    a->s->ops->head_bwd(a->s->ctx, h->plan, &h->dembedding, &h->embedding, &h->weight);
}

/* The host waits for the loss alone. Where it cannot, it still gets this step's, and
 * the wait is counted. */
Test(cuda_head, a_replayed_loss_is_not_late_and_counted_if_it_is)
{
    enum { N = 4, STEPS = 4 };
    struct side s = cuda_open_side(FF_PRECISION_FP16, FF_HEAD_PRECISION_FP32);
    const struct ff_head_shape shape = {
        .N = N, .D = 16, .CLS = 7, .kind = FF_HEAD_SOFTMAX, .scale = 16};
    static const uint8_t pixels[3 * N];
    struct head_case h;
    struct head_step queued = {&s, &h};
    float loss[2 * STEPS];
    make_head(&h, &s, &shape);
    s.ops->head_pack(s.ctx, h.plan, &h.weight);
    for (int step = 0; step < 2 * STEPS; step++) {
        for (int n = 0; n < N; n++)
            h.label[n] = (step % STEPS + n) % shape.CLS;
        const struct ff_step values = {
            .N = N, .image_bytes = 3, .pixels = pixels, .label = h.label};
#ifdef FF_CUDA_EMULATED
        emulator_events_lag = step >= STEPS;
#endif
        s.ops->step(s.ctx, &values, queue_head, &queued);
        loss[step] = s.ops->loss(s.ctx);
        int64_t late = s.ops->late_losses(s.ctx);
#ifdef FF_CUDA_EMULATED
        cr_assert(eq(i64, late, step < STEPS ? 0 : step - STEPS + 1));
#else
        cr_assert(eq(i64, late, 0));
#endif
        if (step >= STEPS)
            cr_assert(eq(flt, loss[step], loss[step - STEPS]));
    }
    cr_assert(ne(flt, loss[0], loss[1]));
    free_head(&s, &h);
    side_close(&s);
}

Test(cuda_head, an_embedding_that_is_too_long_is_refused)
{
    struct side s = cuda_open_side(FF_PRECISION_FP32, 0);
    const struct ff_head_shape shape = {.N = 2, .D = 2056, .CLS = 5, .scale = 64};
    struct ff_head_plan *plan;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, s.ops->head_create(s.ctx, &plan, &shape, &err), FF_EUSAGE));
    cr_assert(ne(ptr, strstr(err.text, "2056"), NULL), "%s", err.text);
    side_close(&s);
}

/* -- optimizer -- */

Test(cuda_sgd, follows_ref)
{
    static const double clips[] = {0, 0.5, 1e6};
    static const int counts[] = {1, 7, 100, 5000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        for (int k = 0; k < 3; k++) {
            const struct ff_sgd sgd = {
                .momentum = 0.9, .weight_decay = 5e-4, .clip_norm = clips[k]};
            const struct ff_loss_scale scale = {.value = 8};
            struct side sides[2] = {cuda_open_side(FF_PRECISION_FP32, 0),
                                    side_open(FF_BACKEND_REF, 1)};
            struct ff_tensor w[2], v[2], g[2];
            struct ff_step_result result[2];
            /* One element alone must not cancel: what is compared is relative. */
            const double mean = counts[i] == 1 ? 12 : 0;
            for (int b = 0; b < 2; b++) {
                struct side *s = &sides[b];
                w[b] = put_random(s, "w", counts[i], 4 * mean, 1);
                v[b] = put_random(s, "v", counts[i], mean, 1);
                g[b] = put_random(s, "g", counts[i], mean, 3);
                s->ops->set_loss_scale(s->ctx, &scale);
                for (int step = 0; step < 3; step++) {
                    set_lr(s, 0.1);
                    s->ops->grad_check(s->ctx, &g[b], NULL);
                    s->ops->sgd(s->ctx, &w[b], &v[b], &g[b], &sgd);
                }
                s->ops->step_result(s->ctx, &result[b]);
            }
            cr_assert(result[0].finite);
            cr_assert(epsilon_eq(dbl, result[0].grad_norm, result[1].grad_norm,
                                 1e-6 * result[1].grad_norm));
            cr_assert(eq(dbl, result[0].loss_scale, 8));
            CLOSE(&sides[0], &w[0], &sides[1], &w[1], 2e-6, "weight", "");
            CLOSE(&sides[0], &v[0], &sides[1], &v[1], 2e-6, "velocity", "");
            for (int b = 0; b < 2; b++) {
                FREE_ALL(&sides[b], &w[b], &v[b], &g[b]);
                side_close(&sides[b]);
            }
        }
}

/* torch.cuda.amp.GradScaler: half after an Inf, double after 100 finite steps. */
Test(cuda_sgd, the_loss_scale_moves_as_published)
{
    struct side s = cuda_open_side(FF_PRECISION_FP16, 0);
    const struct ff_sgd sgd = {.momentum = 0.9};
    struct ff_tensor w = put_random(&s, "w", 37, 0, 1),
                     v = put_random(&s, "v", 37, 0, 1);
    struct ff_tensor g = put_random(&s, "g", 37, 0, 1);
    float *fine = take(&s, &g), *broken = take(&s, &g), *before, *after;
    struct ff_step_result result;
    broken[36] = INFINITY;
    cr_assert(eq(dbl, s.ops->loss_scale(s.ctx).value, 65536));
    s.ops->upload(s.ctx, &g, broken);
    before = take(&s, &w);
    set_lr(&s, 0.1);
    s.ops->grad_check(s.ctx, &g, NULL);
    s.ops->sgd(s.ctx, &w, &v, &g, &sgd);
    after = take(&s, &w);
    s.ops->step_result(s.ctx, &result);
    cr_assert(not(result.finite));
    cr_assert(eq(dbl, result.loss_scale, 65536));
    cr_assert(eq(dbl, s.ops->loss_scale(s.ctx).value, 32768));
    cr_assert(eq(int, memcmp(before, after, 37 * 4), 0));
    s.ops->upload(s.ctx, &g, fine);
    for (int step = 0; step < 100; step++) {
        cr_assert(eq(dbl, s.ops->loss_scale(s.ctx).value, 32768));
        cr_assert(eq(i64, s.ops->loss_scale(s.ctx).good_steps, step));
        set_lr(&s, 0.1);
        s.ops->grad_check(s.ctx, &g, NULL);
    }
    cr_assert(eq(dbl, s.ops->loss_scale(s.ctx).value, 65536));
    cr_assert(eq(i64, s.ops->loss_scale(s.ctx).good_steps, 0));
    free(fine);
    free(broken);
    free(before);
    free(after);
    FREE_ALL(&s, &w, &v, &g);
    side_close(&s);
}

#ifndef __SANITIZE_ADDRESS__ /* minutes there */
/* Indices of elements need more than 32 bits. */
Test(cuda_sgd, a_gradient_of_more_than_2_to_the_32_elements, .timeout = 250)
{
    const int64_t count = ((int64_t)1 << 32) + 64;
    struct side s = cuda_open_side(FF_PRECISION_FP32, 0);
    struct ff_tensor g;
    struct ff_err err = FF_ERR_INIT;
    struct ff_step_result result;
    if (s.ops->alloc(s.ctx, &g, count, 4, &err)) { /* a smaller card says so */
        cr_assert(ne(ptr, strstr(err.text, "17179869440 bytes wanted"), NULL), "%s",
                  err.text);
        side_close(&s);
        return;
    }
    struct ff_tensor last = ff_tensor_view(&g, count - 40, 1);
    const float three = 3;
    s.ops->upload(s.ctx, &last, &three);
    set_lr(&s, 0.1);
    s.ops->grad_check(s.ctx, &g, NULL);
    s.ops->step_result(s.ctx, &result);
    cr_assert(result.finite);
    cr_assert(eq(dbl, result.grad_norm, 3));
    FREE_ALL(&s, &g);
    side_close(&s);
}
#endif

#ifndef FF_CUDA_EMULATED /* 50 GB, and a step over all of it */
/* 8.6 million centres, all zero but two at both ends: every other cosine is 0, so loss
 * and gradients can be written down. */
Test(cuda_head, more_than_2_to_the_32_elements, .timeout = 120)
{
    enum { N = 2, D = 512 };
    const int64_t CLS = 8600000, at[N] = {3, CLS - 2};
    const struct ff_head_shape shape = {
        .N = N, .D = D, .CLS = CLS, .kind = FF_HEAD_SOFTMAX, .scale = 16};
    const struct ff_sgd plain = {.momentum = 0};
    struct side s = cuda_open_side(FF_PRECISION_FP32, FF_HEAD_PRECISION_FP16);
    struct ff_tensor weight, velocity, de = poisoned(&s, N * D), none = doubles(&s, 0);
    struct ff_err err = FF_ERR_INIT;
    struct ff_head_plan *plan = NULL;
    float e[N * D] = {0}, w[D] = {0}, got[D];
    int rc = s.ops->alloc(s.ctx, &weight, CLS * D, 4, &err);
    if (!rc)
        rc = s.ops->alloc(s.ctx, &velocity, CLS * D, 4, &err);
    if (!rc)
        rc = s.ops->head_create(s.ctx, &plan, &shape, &err);
    if (rc) { /* a smaller card says so */
        cr_assert(eq(int, rc, FF_ENOMEM));
        cr_assert(ne(ptr, strstr(err.text, "bytes wanted"), NULL), "%s", err.text);
        return;
    }
    /* Sample n is 0.6 along its own centre (axis n) and 0.8 along axis 2. */
    for (int n = 0; n < N; n++) {
        struct ff_tensor row = ff_tensor_view(&weight, at[n] * D, D);
        memset(w, 0, sizeof w);
        w[n] = 1;
        s.ops->upload(s.ctx, &row, w);
        e[n * D + n] = 0.6f;
        e[n * D + 2] = 0.8f;
    }
    struct ff_tensor embedding = put(&s, e, N * D);
    s.ops->head_pack(s.ctx, plan, &weight);
    s.ops->head_fwd(s.ctx, plan, &embedding, &weight, at);
    double logit = 16 * 0.6, sum = exp(logit) + (double)(CLS - 1);
    double want = log(sum) - logit;
    cr_assert(epsilon_eq(dbl, (double)s.ops->loss(s.ctx), want, 2e-3 * want));
    s.ops->head_bwd(s.ctx, plan, &de, &embedding, &weight);
    set_lr(&s, 0);
    s.ops->grad_check(s.ctx, &none, plan);
    s.ops->head_update(s.ctx, plan, &weight, &velocity, &plain);
    /* d loss / d centre: s (p - 1) / N times the part of e at right angles to it, from
     * its own sample; the other's cosine is 0, and its part s p0 / N too small to see.
     */
    double g = 16 * (exp(logit) / sum - 1) / N * 0.8;
    for (int n = 0; n < N; n++) {
        struct ff_tensor row = ff_tensor_view(&velocity, at[n] * D, D);
        s.ops->download(s.ctx, got, &row);
        cr_assert(epsilon_eq(dbl, (double)got[2], g, 5e-3 * fabs(g)), "sample %d: %g",
                  n, (double)got[2]);
    }
    s.ops->head_destroy(s.ctx, plan);
    FREE_ALL(&s, &weight, &velocity, &embedding, &de, &none);
    side_close(&s);
}
#endif
