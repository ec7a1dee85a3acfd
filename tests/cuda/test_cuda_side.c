/* SPDX-License-Identifier: MIT */
/* Weights' gradients on the side stream: what they read is not written over meanwhile,
 * and they are waited for; networks and whole runs come out as without it. */
#include "cuda_bn_fixture.h"
#include "cuda_train_fixture.h"
#include "embedder.h"
#include "net_fixture.h"

/* -- the order of ops -- */

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

#ifdef FF_CUDA_EMULATED
extern int emulator_forked_nodes, emulator_low_nodes; /* of the last graph */

static void queue_one_pass(void *arg)
{
    struct beside *b = arg;
    queue_pass(b, &b->dweight);
}

/* All of it, and nothing of the main stream's. */
Test(cuda_side, a_pass_has_the_lower_priority_in_the_graph)
{
    struct beside b;
    beside_open(&b, true);
    for (int i = 0; i < 2; i++) /* the second is captured */
        b.s.ops->step(b.s.ctx, &(struct ff_step){.lr = 0}, queue_one_pass, &b);
    cr_assert(eq(int, b.s.ops->sync(b.s.ctx, NULL), 0));
    cr_assert(lt(int, 0, emulator_forked_nodes));
    cr_assert(eq(int, emulator_low_nodes, emulator_forked_nodes));
    beside_close(&b);
}
#endif

/* -- weights_beside: nothing changes but the time -- */

TestSuite(cuda_side_train, .init = setup, .fini = teardown, .timeout = 250);

/* A run without and one with it. */
static void same_beside(const char *name)
{
    char plain[32], beside[32];
    snprintf(plain, sizeof plain, "%s_plain", name);
    snprintf(beside, sizeof beside, "%s_beside", name);
    set("weights_beside=false");
    train_ok(plain);
#ifdef FF_CUDA_EMULATED
    cr_assert(eq(int, emulator_forked_nodes, 0));
#endif
    set("weights_beside=true");
    train_ok(beside);
#ifdef FF_CUDA_EMULATED
    cr_assert(ge(int, emulator_forked_nodes, 20)); /* a convolution, two kernels each */
#endif
    same_file(plain, beside, "model.h5");
    same_file(plain, beside, "curve.csv");
}

/* In halves, with gradients that no step is skipped for. */
Test(cuda_side_train, weights_beside_change_no_bit_of_r18)
{
    set("precision=fp16");
    set("scale=0.1");
    same_beside("run");
    cr_assert(eq(int, read_curve("run_beside").skipped, 0));
}

#ifndef __SANITIZE_ADDRESS__ /* no other code than above, and minutes there */
Test(cuda_side_train, weights_beside_change_no_bit_of_r18_in_fp32)
{
    set("precision=fp32");
    same_beside("run");
}

static void set_mbf(void)
{
    set("backbone=mbf");
    set("width=0.1");
    set("gamma0=0.0005");
}

Test(cuda_side_train, weights_beside_change_no_bit_of_mbf)
{
    set_mbf();
    set("precision=fp16");
    set("scale=0.1");
    same_beside("run");
    cr_assert(lt(int, read_curve("run_beside").skipped, T));
}

Test(cuda_side_train, weights_beside_change_no_bit_of_mbf_in_fp32)
{
    set_mbf();
    set("precision=fp32");
    same_beside("run");
}

Test(cuda_side_train, weights_beside_skip_the_same_steps)
{
    set("scale=1000.0");
    same_beside("run");
    struct curve c = read_curve("run_beside");
    cr_assert(lt(int, 0, c.skipped));
}
#endif

Test(cuda_side_train, weights_beside_may_stop_and_be_resumed)
{
    struct ff_err err = FF_ERR_INIT;
    train_ok("plain");
    set("weights_beside=true"); /* from here on: it is not part of what the run is */
    cr_assert(eq(int, train("parts", STOP, &err), FF_ESTOPPED), "%s", err.text);
    train_ok("parts");
    same_file("plain", "parts", "model.h5");
    same_file("plain", "parts", "curve.csv");
}

static void same_values(struct net *a, struct ff_tensor *in_a, struct net *b,
                        struct ff_tensor *in_b, const char *what)
{
    float *x = malloc((size_t)in_a->count * sizeof *x);
    float *y = malloc((size_t)in_b->count * sizeof *y);
    a->ops->download(a->ctx, x, in_a);
    b->ops->download(b->ctx, y, in_b);
    cr_assert(eq(i64, in_a->count, in_b->count));
    cr_assert(memcmp(x, y, (size_t)in_a->count * sizeof *x) == 0, "%s", what);
    free(x);
    free(y);
}

/* Op by op, without a graph; gradients are looked at, or not; a borrowed network writes
 * on the activations as soon as they were read. */
static void same_eager(int precision, int backbone, double width)
{
    enum { N = 4, D = 16, STEPS = 4 };
    struct net net[2];
    const struct ff_model_config config = {backbone, width, SIDE, D};
    const struct ff_head_shape shape = {N, D, 5, FF_HEAD_COSFACE, 0, 16, 0.2f};
    static uint8_t pixels[N * SIDE * SIDE * 3], flip[N];
    int64_t label[N], bytes[2];
    float made[2][N * D];
    for (int k = 0; k < 2; k++) {
        const struct ff_ops_options options = {.backend = FF_BACKEND_CUDA,
                                               .threads = 1,
                                               .precision = precision,
                                               .weights_beside = k};
        net_open_with(&net[k], &options, &config, N, true);
        net_open_head(&net[k], &shape);
        net_fill(&net[k]);
        ff_model_bytes(&bytes[k], net[k].ops, &config, N, true, NULL);
        cr_assert(eq(i64, bytes[k], net[k].model->bytes));
    }
    cr_assert(lt(i64, bytes[0], bytes[1])); /* the second gradient */
    for (int step = 0; step < STEPS; step++) {
        net_batch(pixels, flip, label, step, N, SIDE, 5);
        for (int k = 0; k < 2; k++) {
            struct ff_embedder *e;
            net_gradients(&net[k], pixels, flip, label);
            if (step == 2) /* a second time, over the first */
                net_gradients(&net[k], pixels, flip, label);
            if (step % 2 == 0)
                continue;
            cr_assert(eq(int, ff_embedder_borrow(&e, net[k].model, NULL), 0));
            cr_assert(eq(int, ff_embedder_run(made[k], e, pixels, flip, N, NULL), 0));
            ff_embedder_destroy(e);
        }
        if (step % 2)
            cr_assert(memcmp(made[0], made[1], sizeof made[0]) == 0, "step %d", step);
        if (step < STEPS - 1)
            same_values(&net[0], &net[0].model->dweight, &net[1],
                        &net[1].model->dweight, "dweight");
        for (int k = 0; k < 2; k++)
            net_update(&net[k], 0.01);
        same_values(&net[0], &net[0].model->weight, &net[1], &net[1].model->weight,
                    "weight");
    }
    for (int k = 0; k < 2; k++)
        net_close(&net[k]);
}

Test(cuda_side_train, weights_beside_change_no_bit_of_r18_op_by_op)
{
    same_eager(FF_PRECISION_FP16, FF_BACKBONE_R18, 0.05);
    same_eager(FF_PRECISION_FP32, FF_BACKBONE_R18, 0.05);
}

Test(cuda_side_train, weights_beside_change_no_bit_of_mbf_op_by_op)
{
    same_eager(FF_PRECISION_FP16, FF_BACKBONE_MBF, 0.1);
    same_eager(FF_PRECISION_FP32, FF_BACKBONE_MBF, 0.1);
}

struct queued {
    struct net *net;
    bool updates;
    struct ff_sgd sgd;
};

static void queue_step(void *arg)
{
    const struct queued *q = arg;
    struct net *net = q->net;
    struct ff_model *m = net->model;
    const struct ff_tensor *e = ff_model_forward(m, NULL, NULL);
    net->ops->head_fwd(net->ctx, net->head, e, &net->weight, NULL);
    net->ops->head_bwd(net->ctx, net->head, &net->dembedding, e, &net->weight);
    ff_model_backward(m, &net->dembedding);
    if (!q->updates)
        return;
    net->ops->grad_check(net->ctx, &m->dweight, net->head);
    net->ops->sgd(net->ctx, &m->weight, &m->velocity, &m->dweight, &q->sgd);
    net->ops->head_update(net->ctx, net->head, &net->weight, &net->velocity, &q->sgd);
    ff_model_pack(m);
}

/* Steps with gradients under way before them, and, without an update, behind them. */
static void same_between_steps(bool updates)
{
    enum { N = 4, D = 16, STEPS = 4 };
    struct net net[2];
    const struct ff_model_config config = {FF_BACKBONE_R18, 0.05, SIDE, D};
    const struct ff_head_shape shape = {N, D, 5, FF_HEAD_COSFACE, 0, 16, 0.2f};
    static uint8_t pixels[N * SIDE * SIDE * 3], flip[N];
    struct ff_err err = FF_ERR_INIT;
    int64_t label[N];
    for (int k = 0; k < 2; k++) {
        const struct ff_ops_options options = {.backend = FF_BACKEND_CUDA,
                                               .threads = 1,
                                               .precision = FF_PRECISION_FP32,
                                               .weights_beside = k};
        struct queued q = {&net[k], updates, {.momentum = 0.9, .clip_norm = 5}};
        net_open_with(&net[k], &options, &config, N, true);
        net_open_head(&net[k], &shape);
        net_fill(&net[k]);
        for (int step = 0; step < STEPS; step++) {
            net_batch(pixels, flip, label, step, N, SIDE, 5);
            const struct ff_step values = {.N = N,
                                           .image_bytes = SIDE * SIDE * 3,
                                           .pixels = pixels,
                                           .flip = flip,
                                           .label = label,
                                           .lr = 0.01};
            if (updates)
                net_gradients(&net[k], pixels, flip, label);
            net[k].ops->step(net[k].ctx, &values, queue_step, &q);
            bool known = isfinite(net[k].ops->loss(net[k].ctx));
            int rc = known ? 0 : net[k].ops->sync(net[k].ctx, &err);
            cr_assert(known && rc == 0, "%s", err.text);
        }
        cr_assert(eq(int, net[k].ops->sync(net[k].ctx, NULL), 0));
    }
    same_values(&net[0], &net[0].model->dweight, &net[1], &net[1].model->dweight,
                "dweight");
    same_values(&net[0], &net[0].model->weight, &net[1], &net[1].model->weight,
                "weight");
    for (int k = 0; k < 2; k++)
        net_close(&net[k]);
}

Test(cuda_side_train, weights_beside_may_be_under_way_between_steps)
{
    same_between_steps(true);
    same_between_steps(false);
}
