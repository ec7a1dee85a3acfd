/* SPDX-License-Identifier: MIT */
/* Convolutions, linear layers and the input on the cuda backend against ref, from the
 * same rounded inputs, in each precision. */
#include "cuda_bn_fixture.h"

static const struct precision *now; /* under test */

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
