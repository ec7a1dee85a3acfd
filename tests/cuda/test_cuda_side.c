/* SPDX-License-Identifier: MIT */
/* Weights' gradients on the side stream: what they read is not written over meanwhile,
 * and they are waited for. */
#include "cuda_bn_fixture.h"

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
    make_bn_values(&b->bn, s, SIDE_ROWS, SIDE_C, false);
    b->bn.src = random_activation(s, "src");
    b->bn.residual = random_activation(s, "residual");
    b->bn.ddst = random_activation(s, "ddst");
    b->bn.add = random_activation(s, "add");
}

static void beside_close(struct beside *b)
{
    struct side *s = &b->s;
    s->ops->conv_destroy(s->ctx, b->conv);
    free_bn_values(s, &b->bn);
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
