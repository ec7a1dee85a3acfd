/* SPDX-License-Identifier: MIT */
/* Margin heads: onednn against ref, ref against central differences or, where the
 * derivative is not that of the value, against its definition. */
#include "ops_fixture.h"

struct head_case {
    struct ff_head_shape shape;
    struct ff_head_plan *plan;
    struct ff_tensor embedding, weight, dembedding;
    struct ff_tensor dweight; /* (CLS, D), by way of the momentum */
    int64_t *label;
    float loss;
};

static struct head_case make_head(struct side *s, const struct ff_head_shape *shape)
{
    struct head_case h = {
        .shape = *shape,
        .embedding = put_random(s, "embedding", (int64_t)shape->N * shape->D, 0, 2),
        .weight = put_random(s, "weight", shape->CLS * shape->D, 0, 0.01),
        .dembedding = poisoned(s, (int64_t)shape->N * shape->D),
        .dweight = put_random(s, "zero", shape->CLS * shape->D, 0, 0),
        .label = malloc((size_t)shape->N * sizeof(int64_t)),
        .loss = NAN,
    };
    struct ff_err err = FF_ERR_INIT;
    for (int n = 0; n < shape->N; n++)
        h.label[n] =
            (int64_t)(ff_rng_u64(fresh_seed(), 1, (uint64_t)n) % (uint64_t)shape->CLS);
    int rc = s->ops->head_create(s->ctx, &h.plan, shape, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return h;
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
    s->ops->head_update(s->ctx, h->plan, &h->weight, &h->dweight, &plain);
    s->ops->free(s->ctx, &none);
}

static void free_head(struct side *s, struct head_case *h)
{
    s->ops->head_destroy(s->ctx, h->plan);
    s->ops->free(s->ctx, &h->embedding);
    s->ops->free(s->ctx, &h->weight);
    s->ops->free(s->ctx, &h->dembedding);
    s->ops->free(s->ctx, &h->dweight);
    free(h->label);
}

static const int kinds[] = {FF_HEAD_ARCFACE, FF_HEAD_COSFACE, FF_HEAD_SOFTMAX};

Test(head, onednn_matches_ref)
{
    static const int sizes[][3] = {
        {4, 16, 7}, {8, 40, 33}, {3, 512, 200}, {32, 64, 1000}};
    for (int threads = 1; threads <= 2; threads++)
        for (int k = 0; k < 3; k++)
            for (int exact = 0; exact < 2; exact++)
                for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
                    struct ff_head_shape shape = {
                        .N = sizes[i][0],
                        .D = sizes[i][1],
                        .CLS = sizes[i][2],
                        .kind = kinds[k],
                        .scale = 64,
                        .margin = k == 2 ? 0 : 0.4f,
                        .margin_grad = exact ? FF_MARGIN_GRAD_EXACT
                                             : FF_MARGIN_GRAD_STRAIGHT_THROUGH};
                    char line[64];
                    snprintf(line, sizeof line, "kind %d exact %d N%d D%d CLS%d", k,
                             exact, sizes[i][0], sizes[i][1], sizes[i][2]);
                    struct side ref = side_open(FF_BACKEND_REF, 1);
                    struct side fast = side_open(FF_BACKEND_ONEDNN, threads);
                    struct head_case want = make_head(&ref, &shape);
                    struct head_case got = make_head(&fast, &shape);
                    run_head(&ref, &want);
                    run_head(&fast, &got);
                    cr_assert(fabs(got.loss - want.loss) <= 2e-6 * fabs(want.loss),
                              "loss %.8g, ref %.8g at %s", (double)got.loss,
                              (double)want.loss, line);
                    CLOSE(&fast, &got.dembedding, &ref, &want.dembedding, 2e-5,
                          "dembedding", line);
                    CLOSE(&fast, &got.dweight, &ref, &want.dweight, 2e-5, "dweight",
                          line);
                    free_head(&fast, &got);
                    free_head(&ref, &want);
                    side_close(&fast);
                    side_close(&ref);
                }
}

static double loss_of(struct side *s, struct head_case *h)
{
    s->ops->head_fwd(s->ctx, h->plan, &h->embedding, &h->weight, h->label);
    return (double)s->ops->loss(s->ctx);
}

static void check_gradient(struct side *s, struct head_case *h, struct ff_tensor *x,
                           const float *gradient, float step)
{
    float *value = x->data;
    for (int64_t i = 0; i < x->count; i++) {
        float old = value[i];
        value[i] = old + step;
        double up = loss_of(s, h), at_up = value[i];
        value[i] = old - step;
        double down = loss_of(s, h), want = (up - down) / (at_up - value[i]);
        value[i] = old;
        cr_assert(epsilon_eq(dbl, (double)gradient[i], want, 0.01 * (1 + fabs(want))),
                  "kind %d: %.6g, differences say %.6g", h->shape.kind,
                  (double)gradient[i], want);
    }
}

Test(head, ref_gradients_match_central_differences)
{
    fixed_seed = 3407;
    for (int k = 0; k < 3; k++) {
        struct side ref = side_open(FF_BACKEND_REF, 1);
        struct ff_head_shape shape = {.N = 3,
                                      .D = 6,
                                      .CLS = 5,
                                      .kind = kinds[k],
                                      .margin_grad = FF_MARGIN_GRAD_EXACT,
                                      .scale = 8,
                                      .margin = k == 2 ? 0 : 0.3f};
        struct head_case h = make_head(&ref, &shape);
        run_head(&ref, &h);
        float *dembedding = take(&ref, &h.dembedding),
              *dweight = take(&ref, &h.dweight);
        check_gradient(&ref, &h, &h.embedding, dembedding, 0.01f);
        check_gradient(&ref, &h, &h.weight, dweight, 5e-5f);
        free(dembedding);
        free(dweight);
        free_head(&ref, &h);
        side_close(&ref);
    }
}

/* One sample, two classes in the plane: everything by hand. */
Test(head, straight_through_takes_the_margin_as_a_constant)
{
    struct side ref = side_open(FF_BACKEND_REF, 1);
    struct ff_head_shape shape = {.N = 1,
                                  .D = 2,
                                  .CLS = 2,
                                  .kind = FF_HEAD_ARCFACE,
                                  .margin_grad = FF_MARGIN_GRAD_STRAIGHT_THROUGH,
                                  .scale = 4,
                                  .margin = 0.5f};
    struct head_case h = make_head(&ref, &shape);
    const float e[2] = {2, 0}, w[4] = {0.6f, 0.8f, -1, 0};
    ref.ops->upload(ref.ctx, &h.embedding, e);
    ref.ops->upload(ref.ctx, &h.weight, w);
    h.label[0] = 0;
    run_head(&ref, &h);
    double theta = acos(0.6), target = 4 * cos(theta + 0.5), other = 4 * -1.0;
    double p = exp(target) / (exp(target) + exp(other));
    cr_assert(epsilon_eq(dbl, (double)h.loss, -log(p), 1e-5));
    /* d loss / d cos = s (p - 1) for the target and s (1 - p) for the other; by e only
     * the part at right angles to e counts: the y components 0.8 and 0, over |e| = 2.
     */
    float *de = take(&ref, &h.dembedding);
    cr_assert(epsilon_eq(dbl, (double)de[0], 0, 1e-6));
    cr_assert(epsilon_eq(dbl, (double)de[1], 4 * (p - 1) * 0.8 / 2, 1e-5));
    free(de);
    free_head(&ref, &h);
    side_close(&ref);
}

Test(head, a_nan_in_the_embedding_reaches_the_loss)
{
    for (int backend = FF_BACKEND_ONEDNN; backend <= FF_BACKEND_REF; backend++) {
        struct side s = side_open(backend, 1);
        struct ff_head_shape shape = {.N = 2,
                                      .D = 16,
                                      .CLS = 5,
                                      .kind = FF_HEAD_ARCFACE,
                                      .scale = 64,
                                      .margin = 0.5f};
        struct head_case h = make_head(&s, &shape);
        ((float *)h.embedding.data)[3] = NAN;
        run_head(&s, &h);
        cr_assert(isnan(h.loss));
        free_head(&s, &h);
        side_close(&s);
    }
}
