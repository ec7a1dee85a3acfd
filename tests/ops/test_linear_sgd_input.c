/* SPDX-License-Identifier: MIT */
/* Linear layer, optimizer and input: onednn against ref and both against their
 * formulas. */
#include "ops_fixture.h"

Test(linear, onednn_matches_ref)
{
    static const int sizes[][3] = {
        {1, 16, 8}, {3, 50, 40}, {8, 784, 128}, {5, 1568, 64}};
    for (int threads = 1; threads <= 2; threads++)
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            int N = sizes[i][0], F = sizes[i][1], D = sizes[i][2];
            struct side s[2] = {side_open(FF_BACKEND_REF, 1),
                                side_open(FF_BACKEND_ONEDNN, threads)};
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
                s[k].ops->linear_fwd(s[k].ctx, &out[k][0], &in[k][0], &in[k][1],
                                     &in[k][2], N, F, D);
                s[k].ops->linear_bwd(s[k].ctx, &out[k][1], &out[k][2], &out[k][3],
                                     &in[k][3], &in[k][0], &in[k][1], N, F, D);
            }
            char line[64];
            snprintf(line, sizeof line, "N%d F%d D%d", N, F, D);
            for (int t = 0; t < 4; t++)
                CLOSE(&s[1], &out[1][t], &s[0], &out[0][t], 2e-6, "linear", line);
            for (int k = 0; k < 2; k++) {
                for (int t = 0; t < 4; t++) {
                    s[k].ops->free(s[k].ctx, &in[k][t]);
                    s[k].ops->free(s[k].ctx, &out[k][t]);
                }
                side_close(&s[k]);
            }
        }
}

/* sum(dst * ddst) is linear in every operand: central differences are exact. */
Test(linear, ref_gradients_match_central_differences)
{
    fixed_seed = 3407;
    enum { N = 3, F = 5, D = 4 };
    struct side s = side_open(FF_BACKEND_REF, 1);
    struct ff_tensor src = put_random(&s, "src", N * F, 0, 1);
    struct ff_tensor weight = put_random(&s, "weight", D * F, 0, 1);
    struct ff_tensor bias = put_random(&s, "bias", D, 0, 1);
    struct ff_tensor ddst = put_random(&s, "ddst", N * D, 0, 1);
    struct ff_tensor dst = poisoned(&s, N * D), dsrc = poisoned(&s, N * F);
    struct ff_tensor dweight = poisoned(&s, D * F), dbias = poisoned(&s, D);
    s.ops->linear_bwd(s.ctx, &dsrc, &dweight, &dbias, &ddst, &src, &weight, N, F, D);
    struct ff_tensor *x[3] = {&src, &weight, &bias}, *dx[3] = {&dsrc, &dweight, &dbias};
    for (int t = 0; t < 3; t++)
        for (int64_t i = 0; i < x[t]->count; i++) {
            double sum[2] = {0, 0};
            float *value = (float *)x[t]->data + i, old = *value;
            for (int side = 0; side < 2; side++) {
                *value = side ? old - 0.5f : old + 0.5f;
                s.ops->linear_fwd(s.ctx, &dst, &src, &weight, &bias, N, F, D);
                for (int64_t k = 0; k < N * D; k++)
                    sum[side] +=
                        (double)((float *)dst.data)[k] * ((float *)ddst.data)[k];
            }
            *value = old;
            cr_assert(epsilon_eq(dbl, (double)((float *)dx[t]->data)[i],
                                 sum[0] - sum[1], 1e-4));
        }
    struct ff_tensor *all[] = {&src, &weight, &bias,    &ddst,
                               &dst, &dsrc,   &dweight, &dbias};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        s.ops->free(s.ctx, all[i]);
    side_close(&s);
}

/* Two steps of torch.optim.SGD and clip_grad_norm_ written out in double. */
Test(sgd, follows_the_formula_on_both_backends)
{
    enum { COUNT = 100 };
    static const double clips[] = {0, 0.5, 1e6};
    for (int backend = FF_BACKEND_ONEDNN; backend <= FF_BACKEND_REF; backend++)
        for (int k = 0; k < 3; k++) {
            struct side s = side_open(backend, 2);
            struct ff_sgd sgd = {
                .momentum = 0.9, .weight_decay = 5e-4, .clip_norm = clips[k]};
            const struct ff_loss_scale scale = {.value = 8};
            float *w0 = random_values("w", COUNT, 0, 1),
                  *g = random_values("g", COUNT, 0, 3);
            struct ff_tensor w = put(&s, w0, COUNT), dw = put(&s, g, COUNT);
            struct ff_tensor v = put_random(&s, "v", COUNT, 0, 0);
            double norm = 0, want_w[COUNT], want_v[COUNT] = {0};
            for (int i = 0; i < COUNT; i++) {
                norm += (double)g[i] / 8 * g[i] / 8;
                want_w[i] = w0[i];
            }
            norm = sqrt(norm);
            double c = clips[k] > 0 ? fmin(1, clips[k] / (norm + 1e-6)) : 1;
            struct ff_step_result result;
            s.ops->set_loss_scale(s.ctx, &scale);
            set_lr(&s, 0.1);
            for (int step = 0; step < 2; step++) {
                s.ops->grad_check(s.ctx, &dw, NULL);
                s.ops->sgd(s.ctx, &w, &v, &dw, &sgd);
                for (int i = 0; i < COUNT; i++) {
                    want_v[i] = 0.9 * want_v[i] + c * g[i] / 8 + 5e-4 * want_w[i];
                    want_w[i] -= 0.1 * want_v[i];
                }
            }
            s.ops->step_result(s.ctx, &result);
            cr_assert(result.finite);
            cr_assert(epsilon_eq(dbl, result.grad_norm, norm, 1e-5 * norm));
            for (int i = 0; i < COUNT; i++) {
                cr_assert(
                    epsilon_eq(dbl, (double)((float *)w.data)[i], want_w[i], 1e-5));
                cr_assert(
                    epsilon_eq(dbl, (double)((float *)v.data)[i], want_v[i], 1e-5));
            }
            s.ops->free(s.ctx, &w);
            s.ops->free(s.ctx, &dw);
            s.ops->free(s.ctx, &v);
            free(w0);
            free(g);
            side_close(&s);
        }
}

/* A head of one class and one sample, whose gradient is that of the embedding. */
static struct ff_head_plan *head_with_gradient(struct side *s, float embedding)
{
    struct ff_head_shape shape = {
        .N = 1, .D = 8, .CLS = 2, .kind = FF_HEAD_SOFTMAX, .scale = 4};
    struct ff_head_plan *head;
    struct ff_tensor e = put_random(s, "e", 8, 0, 1), de = poisoned(s, 8);
    struct ff_tensor weight = put_random(s, "centres", 16, 0, 1);
    const int64_t label[1] = {1};
    float *values = take(s, &e);
    values[3] = embedding;
    s->ops->upload(s->ctx, &e, values);
    cr_assert(eq(int, s->ops->head_create(s->ctx, &head, &shape, NULL), 0));
    s->ops->head_pack(s->ctx, head, &weight);
    s->ops->head_fwd(s->ctx, head, &e, &weight, label);
    s->ops->head_bwd(s->ctx, head, &de, &e, &weight);
    s->ops->free(s->ctx, &e);
    s->ops->free(s->ctx, &de);
    s->ops->free(s->ctx, &weight);
    free(values);
    return head;
}

Test(sgd, an_infinite_gradient_anywhere_changes_nothing)
{
    for (int backend = FF_BACKEND_ONEDNN; backend <= FF_BACKEND_REF; backend++)
        for (int in_head = 0; in_head < 2; in_head++)
            for (int at = 0; at < 37; at += 36) {
                struct side s = side_open(backend, 2);
                struct ff_sgd sgd = {.momentum = 0.9};
                struct ff_tensor w = put_random(&s, "w", 37, 0, 1);
                struct ff_tensor v = put_random(&s, "v", 37, 0, 1);
                struct ff_tensor dw = put_random(&s, "dw", 37, 0, 1);
                struct ff_head_plan *head = head_with_gradient(&s, in_head ? NAN : 1);
                float *before_w = take(&s, &w), *before_v = take(&s, &v);
                struct ff_step_result result;
                if (!in_head)
                    ((float *)dw.data)[at] = INFINITY;
                set_lr(&s, 0.1);
                s.ops->grad_check(s.ctx, &dw, head);
                s.ops->sgd(s.ctx, &w, &v, &dw, &sgd);
                s.ops->step_result(s.ctx, &result);
                cr_assert(not(result.finite));
                cr_assert(eq(int, memcmp(before_w, w.data, 37 * 4), 0));
                cr_assert(eq(int, memcmp(before_v, v.data, 37 * 4), 0));
                s.ops->free(s.ctx, &w);
                s.ops->free(s.ctx, &v);
                s.ops->free(s.ctx, &dw);
                s.ops->head_destroy(s.ctx, head);
                free(before_w);
                free(before_v);
                side_close(&s);
            }
}

Test(input, normalises_and_mirrors)
{
    enum { N = 3, H = 4, W = 5 };
    uint8_t pixels[N * H * W * 3], flip[N] = {0, 1, 0};
    for (int i = 0; i < N * H * W * 3; i++)
        pixels[i] = (uint8_t)(i * 37);
    for (int backend = FF_BACKEND_ONEDNN; backend <= FF_BACKEND_REF; backend++) {
        struct side s = side_open(backend, 2);
        struct ff_tensor dst = poisoned(&s, N * H * W * 3);
        s.ops->input(s.ctx, &dst, pixels, flip, N, H, W);
        for (int n = 0; n < N; n++)
            for (int h = 0; h < H; h++)
                for (int w = 0; w < W; w++)
                    for (int c = 0; c < 3; c++) {
                        int from = flip[n] ? W - 1 - w : w;
                        double x = pixels[((n * H + h) * W + from) * 3 + c];
                        double got = ((float *)dst.data)[((n * H + h) * W + w) * 3 + c];
                        cr_assert(epsilon_eq(dbl, got, (x / 255 - 0.5) / 0.5, 1e-7));
                    }
        s.ops->free(s.ctx, &dst);
        side_close(&s);
    }
}
