/* SPDX-License-Identifier: MIT */
/* Speed of a whole training step: input, forward, head, backward, gradient check,
 * update of backbone and head, packing, as trainer/train.c does it.
 *
 * Pixels and labels are random and stay in memory, so that neither disk nor decoder
 * counts; with --set data=DIR (and workers=N) they come from a training set through the
 * loader, as in ff-train, and the head has at least that set's classes. After a
 * warm-up, `repeats` groups of `steps` steps are timed; the median group gives the
 * samples/s. With --profile the op table is a copy whose entries time the op and call
 * through (the statistics that a convolution hands over are taken by a call of their
 * own, to be seen apart); the timers cost well under 1 %. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "loader.h"
#include "log.h"
#include "model.h"
#include "rng.h"

#define EMBEDDING 512

/* -- the timing op table -- */

#define OP_KINDS(X)                                                                    \
    X(INPUT, "input")                                                                  \
    X(CONV_FWD, "conv forward")                                                        \
    X(CONV_BWD_DATA, "conv backward data")                                             \
    X(CONV_BWD_WEIGHTS, "conv backward weights")                                       \
    X(BN_STATS, "bn statistics")                                                       \
    X(BN_FINALIZE, "bn finalize")                                                      \
    X(BN_APPLY, "bn apply (PReLU, residual)")                                          \
    X(BN_BWD_REDUCE, "bn backward reduce")                                             \
    X(BN_BWD_APPLY, "bn backward apply")                                               \
    X(LINEAR_FWD, "linear forward")                                                    \
    X(LINEAR_BWD, "linear backward")                                                   \
    X(HEAD, "head forward and backward")                                               \
    X(GRAD_CHECK, "gradient norm")                                                     \
    X(SGD, "sgd")                                                                      \
    X(PACK, "pack")

enum op_kind {
#define X(name, text) OP_##name,
    OP_KINDS(X)
#undef X
        OP_COUNT
};
static const char *const op_names[OP_COUNT] = {
#define X(name, text) text,
    OP_KINDS(X)
#undef X
};

#define MAX_CONVS 256
static struct {
    const struct ff_ops *inner;
    double seconds[OP_COUNT], bytes[OP_COUNT];
    int64_t calls[OP_COUNT];
    int conv_count;
    struct {
        struct ff_conv *plan;
        int K;
    } convs[MAX_CONVS];
} profile;

#define TIMED(kind, call)                                                              \
    do {                                                                               \
        double start_ = ff_now();                                                      \
        profile.inner->call;                                                           \
        if (profile.inner->overlaps)                                                   \
            profile.inner->sync(ctx, NULL);                                            \
        profile.seconds[kind] += ff_now() - start_;                                    \
        profile.calls[kind]++;                                                         \
    } while (0)

/* Memory that an op has to read and write at least, for GB/s beside the time. */
static void moves(enum op_kind kind, int64_t elements)
{
    profile.bytes[kind] += 4.0 * (double)elements;
}

static void timed_input(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                        const uint8_t *pixels, const uint8_t *flip, int N, int H, int W)
{
    TIMED(OP_INPUT, input(ctx, dst, pixels, flip, N, H, W));
}

static int noting_conv_create(struct ff_ops_ctx *ctx, struct ff_conv **conv,
                              const struct ff_conv_shape *shape, bool training,
                              struct ff_err *err)
{
    int rc = profile.inner->conv_create(ctx, conv, shape, training, err);
    if (!rc && profile.conv_count == MAX_CONVS)
        return ff_err_set(err, FF_EFAIL, "more than %d convolutions", MAX_CONVS);
    if (!rc) {
        profile.convs[profile.conv_count].plan = *conv;
        profile.convs[profile.conv_count++].K = shape->K;
    }
    return rc;
}

static void timed_conv_pack(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                            const struct ff_tensor *weight)
{
    TIMED(OP_PACK, conv_pack(ctx, conv, weight));
}

static void timed_bn_stats(struct ff_ops_ctx *ctx, struct ff_tensor *stats,
                           const struct ff_tensor *src, int64_t M, int C)
{
    TIMED(OP_BN_STATS, bn_stats(ctx, stats, src, M, C));
    moves(OP_BN_STATS, M * C);
}

static void timed_conv_fwd(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                           struct ff_tensor *dst, const struct ff_tensor *src,
                           struct ff_tensor *stats)
{
    TIMED(OP_CONV_FWD, conv_fwd(ctx, conv, dst, src, NULL));
    for (int i = 0; stats && i < profile.conv_count; i++)
        if (profile.convs[i].plan == conv)
            timed_bn_stats(ctx, stats, dst, dst->count / profile.convs[i].K,
                           profile.convs[i].K);
}

static void timed_conv_bwd_data(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                                struct ff_tensor *dsrc, const struct ff_tensor *ddst,
                                const struct ff_tensor *add)
{
    TIMED(OP_CONV_BWD_DATA, conv_bwd_data(ctx, conv, dsrc, ddst, add));
}

static void timed_conv_bwd_weights(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                                   struct ff_tensor *dweight,
                                   const struct ff_tensor *src,
                                   const struct ff_tensor *ddst)
{
    TIMED(OP_CONV_BWD_WEIGHTS, conv_bwd_weights(ctx, conv, dweight, src, ddst));
}

static void timed_bn_finalize(struct ff_ops_ctx *ctx, struct ff_bn *bn,
                              const struct ff_tensor *stats, int64_t M)
{
    /* Not waited for: a GPU leaves it to the apply that follows. */
    double start = ff_now();
    profile.inner->bn_finalize(ctx, bn, stats, M);
    profile.seconds[OP_BN_FINALIZE] += ff_now() - start;
    profile.calls[OP_BN_FINALIZE]++;
}

static void timed_bn_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                           const struct ff_tensor *src, const struct ff_bn *bn,
                           const struct ff_tensor *slope,
                           const struct ff_tensor *residual,
                           const struct ff_bn *residual_bn, struct ff_tensor *stats,
                           int64_t M)
{
    TIMED(OP_BN_APPLY,
          bn_apply(ctx, dst, src, bn, slope, residual, residual_bn, stats, M));
    moves(OP_BN_APPLY, M * bn->C * (residual ? 3 : 2));
}

static void timed_bn_bwd_reduce(struct ff_ops_ctx *ctx, struct ff_tensor *dweight,
                                struct ff_tensor *dbias, struct ff_tensor *dslope,
                                const struct ff_tensor *ddst,
                                const struct ff_tensor *src, const struct ff_bn *bn,
                                const struct ff_tensor *slope, int64_t M)
{
    TIMED(OP_BN_BWD_REDUCE,
          bn_bwd_reduce(ctx, dweight, dbias, dslope, ddst, src, bn, slope, M));
    moves(OP_BN_BWD_REDUCE, M * bn->C * 2);
}

static void timed_bn_bwd_apply(
    struct ff_ops_ctx *ctx, struct ff_tensor *dsrc, const struct ff_tensor *ddst,
    const struct ff_tensor *src, const struct ff_bn *bn, const struct ff_tensor *slope,
    const struct ff_tensor *dweight, const struct ff_tensor *dbias,
    const struct ff_tensor *add, const struct ff_bn_next *next, int64_t M)
{
    TIMED(OP_BN_BWD_APPLY,
          bn_bwd_apply(ctx, dsrc, ddst, src, bn, slope, dweight, dbias, add, next, M));
    moves(OP_BN_BWD_APPLY, M * bn->C * ((add ? 4 : 3) + (next ? 1 : 0)));
}

static void timed_linear_fwd(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                             const struct ff_tensor *src,
                             const struct ff_tensor *weight,
                             const struct ff_tensor *bias, int N, int F, int D)
{
    TIMED(OP_LINEAR_FWD, linear_fwd(ctx, dst, src, weight, bias, N, F, D));
}

static void timed_linear_bwd(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                             struct ff_tensor *dweight, struct ff_tensor *dbias,
                             const struct ff_tensor *ddst, const struct ff_tensor *src,
                             const struct ff_tensor *weight, int N, int F, int D)
{
    TIMED(OP_LINEAR_BWD,
          linear_bwd(ctx, dsrc, dweight, dbias, ddst, src, weight, N, F, D));
}

static void timed_head_fwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                           const struct ff_tensor *embedding,
                           const struct ff_tensor *weight, const int64_t *label)
{
    TIMED(OP_HEAD, head_fwd(ctx, head, embedding, weight, label));
}

static void timed_head_bwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                           struct ff_tensor *dembedding,
                           const struct ff_tensor *embedding,
                           const struct ff_tensor *weight)
{
    TIMED(OP_HEAD, head_bwd(ctx, head, dembedding, embedding, weight));
}

static void timed_grad_check(struct ff_ops_ctx *ctx, const struct ff_tensor *dbackbone,
                             const struct ff_head_plan *head)
{
    TIMED(OP_GRAD_CHECK, grad_check(ctx, dbackbone, head));
    moves(OP_GRAD_CHECK, dbackbone->count);
}

static void timed_sgd(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                      struct ff_tensor *velocity, const struct ff_tensor *dweight,
                      const struct ff_sgd *sgd)
{
    TIMED(OP_SGD, sgd(ctx, weight, velocity, dweight, sgd));
    moves(OP_SGD, 5 * weight->count);
}

static void timed_head_update(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                              struct ff_tensor *weight, struct ff_tensor *velocity,
                              const struct ff_sgd *sgd)
{
    TIMED(OP_HEAD, head_update(ctx, head, weight, velocity, sgd));
}

/* Op by op, so that each can be timed, also where a step is replayed whole. */
static void timed_step(struct ff_ops_ctx *ctx, const struct ff_step *step,
                       void (*queue)(void *arg), void *arg)
{
    profile.inner->step(ctx, step, NULL, NULL);
    queue(arg);
}

static struct ff_ops timed_ops(const struct ff_ops *inner)
{
    struct ff_ops ops = *inner;
    profile.inner = inner;
    ops.input = timed_input;
    ops.conv_create = noting_conv_create;
    ops.conv_pack = timed_conv_pack;
    ops.conv_fwd = timed_conv_fwd;
    ops.conv_bwd_data = timed_conv_bwd_data;
    ops.conv_bwd_weights = timed_conv_bwd_weights;
    ops.bn_stats = timed_bn_stats;
    ops.bn_finalize = timed_bn_finalize;
    ops.bn_apply = timed_bn_apply;
    ops.bn_bwd_reduce = timed_bn_bwd_reduce;
    ops.bn_bwd_apply = timed_bn_bwd_apply;
    ops.linear_fwd = timed_linear_fwd;
    ops.linear_bwd = timed_linear_bwd;
    ops.head_fwd = timed_head_fwd;
    ops.head_bwd = timed_head_bwd;
    ops.grad_check = timed_grad_check;
    ops.sgd = timed_sgd;
    ops.head_update = timed_head_update;
    ops.step = timed_step;
    return ops;
}

static void print_profile(double seconds, int64_t steps)
{
    double per_step = 1e3 / (double)steps, seen = 0;
    printf("%-28s %9s %7s %7s %6s\n", "op", "ms a step", "share", "calls", "GB/s");
    for (int k = 0; k < OP_COUNT; k++) {
        double s = profile.seconds[k];
        seen += s;
        printf("%-28s %9.3f %6.1f%% %7.0f", op_names[k], s * per_step,
               100 * s / seconds, (double)profile.calls[k] / (double)steps);
        if (profile.bytes[k] > 0 && s > 0)
            printf(" %6.1f", 1e-9 * profile.bytes[k] / s);
        printf("\n");
    }
    printf("%-28s %9.3f %6.1f%%\n", "everything else", (seconds - seen) * per_step,
           100 * (1 - seen / seconds));
}

/* -- the step -- */

struct bench {
    struct ff_params params;
    int64_t classes, threads, steps, repeats, warmup;
    bool profile;
    struct ff_ops table;
    const struct ff_ops *ops;
    struct ff_ops_ctx *ctx;
    struct ff_model *model;
    struct ff_head_plan *head;
    struct ff_tensor weight, velocity, dembedding;
    uint8_t *pixels, *flip;
    int64_t *label;
    struct ff_dataset *dataset; /* NULL: random pixels */
    struct ff_loader *loader;
    int64_t memory_before, memory_bytes; /* free on the device; taken; 0 unknown */
    float loss;
};

static int alloc_head(struct bench *b, struct ff_err *err)
{
    int64_t count = b->classes * EMBEDDING, N = b->params.batch;
    struct ff_head_shape shape = {.N = (int)N,
                                  .D = EMBEDDING,
                                  .CLS = b->classes,
                                  .kind = b->params.head,
                                  .margin_grad = b->params.margin_grad,
                                  .scale = (float)b->params.scale,
                                  .margin = (float)b->params.margin};
    int rc = b->ops->alloc(b->ctx, &b->weight, count, 4, err);
    if (!rc)
        rc = b->ops->alloc(b->ctx, &b->velocity, count, 4, err);
    if (!rc)
        rc = b->ops->alloc(b->ctx, &b->dembedding, N * EMBEDDING, 4, err);
    if (!rc)
        rc = b->ops->head_create(b->ctx, &b->head, &shape, err);
    float *values = malloc((size_t)count * sizeof *values);
    if (!rc && !values)
        rc = ff_err_set(err, FF_ENOMEM, "out of memory");
    if (!rc) {
        for (int64_t i = 0; i < count; i++)
            values[i] =
                (float)(0.01 * ff_rng_normal(1, ff_stream("head"), (uint64_t)i));
        b->ops->upload(b->ctx, &b->weight, values);
        b->ops->head_pack(b->ctx, b->head, &b->weight);
    }
    free(values);
    return rc;
}

static int make_batch(struct bench *b, struct ff_err *err)
{
    int64_t N = b->params.batch, side = b->params.image_size,
            bytes = N * side * side * 3;
    b->pixels = malloc((size_t)bytes);
    b->flip = malloc((size_t)N);
    b->label = malloc((size_t)N * sizeof *b->label);
    if (!b->pixels || !b->flip || !b->label)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    for (int64_t i = 0; i < bytes; i++)
        b->pixels[i] = (uint8_t)ff_rng_u64(2, ff_stream("pixels"), (uint64_t)i);
    for (int64_t n = 0; n < N; n++) {
        uint64_t draw = ff_rng_u64(3, ff_stream("label"), (uint64_t)n);
        b->flip[n] = draw & 1;
        b->label[n] = (int64_t)((draw >> 1) % (uint64_t)b->classes);
    }
    return 0;
}

static int open_data(struct bench *b, struct ff_err *err)
{
    const struct ff_params *p = &b->params;
    int rc = ff_dataset_open(&b->dataset, p->data, err);
    if (rc)
        return rc;
    if (b->classes < ff_dataset_classes(b->dataset))
        b->classes = ff_dataset_classes(b->dataset);
    struct ff_loader_options options = {.batch = p->batch,
                                        .image_size_px = (int)p->image_size,
                                        .seed = (uint64_t)p->seed,
                                        .shuffle_block = p->shuffle_block,
                                        .flip_probability = p->flip,
                                        .workers = p->workers ? (int)p->workers : 1,
                                        .iterations = INT64_MAX / 2};
    return ff_loader_create(&b->loader, b->dataset, &options, err);
}

static int64_t memory_free(const struct bench *b)
{
    return b->ops->memory_free ? b->ops->memory_free(b->ctx) : 0;
}

static int set_up(struct bench *b, struct ff_err *err)
{
    const char *reason;
    const struct ff_ops_options options = {.backend = b->params.backend,
                                           .threads = (int)b->threads,
                                           .precision = b->params.precision,
                                           .head_precision = b->params.head_precision,
                                           .device = b->params.device,
                                           .nondeterministic = !b->params.deterministic,
                                           .tf32 = b->params.tf32,
                                           .engine_search = b->params.engine_search};
    int rc = ff_ops_open(&b->ops, &b->ctx, &reason, &options, err);
    if (rc)
        return rc;
    if (b->profile) {
        b->table = timed_ops(b->ops);
        b->ops = &b->table;
    }
    b->memory_before = memory_free(b);
    if (*b->params.data)
        rc = open_data(b, err);
    if (rc)
        return rc;
    struct ff_model_config config = ff_model_config_from(&b->params);
    rc = ff_model_create(&b->model, b->ops, b->ctx, &config, (int)b->params.batch, true,
                         err);
    if (!rc)
        rc = ff_model_init(b->model, 1, err);
    if (!rc)
        rc = alloc_head(b, err);
    return rc ? rc : make_batch(b, err);
}

static void tear_down(struct bench *b)
{
    if (b->ctx) {
        b->ops->head_destroy(b->ctx, b->head);
        b->ops->free(b->ctx, &b->weight);
        b->ops->free(b->ctx, &b->velocity);
        b->ops->free(b->ctx, &b->dembedding);
        ff_model_destroy(b->model);
        b->ops->destroy(b->ctx);
    }
    ff_loader_destroy(b->loader);
    ff_dataset_close(b->dataset);
    free(b->pixels);
    free(b->flip);
    free(b->label);
}

static void queue_step(void *arg)
{
    struct bench *b = arg;
    const struct ff_ops *ops = b->ops;
    struct ff_model *m = b->model;
    const struct ff_sgd sgd = {.momentum = b->params.momentum,
                               .weight_decay = b->params.weight_decay,
                               .clip_norm = b->params.clip_norm};
    const struct ff_tensor *embedding = ff_model_forward(m, NULL, NULL);
    ops->head_fwd(b->ctx, b->head, embedding, &b->weight, NULL);
    ops->head_bwd(b->ctx, b->head, &b->dembedding, embedding, &b->weight);
    ff_model_backward(m, &b->dembedding);
    ops->grad_check(b->ctx, &m->dweight, b->head);
    ops->sgd(b->ctx, &m->weight, &m->velocity, &m->dweight, &sgd);
    ops->head_update(b->ctx, b->head, &b->weight, &b->velocity, &sgd);
    ff_model_pack(m);
}

/* As ff-train does: the loss is waited for at every step, the rest at the end. */
static int run_steps(struct bench *b, int64_t steps, struct ff_err *err)
{
    /* A small LR: one batch learnt by heart would leave gradients of denormal size. */
    const int64_t side = b->params.image_size;
    struct ff_step values = {.N = (int)b->params.batch,
                             .image_bytes = side * side * 3,
                             .pixels = b->pixels,
                             .flip = b->flip,
                             .label = b->label,
                             .lr = 1e-4};
    for (int64_t i = 0; i < steps; i++) {
        struct ff_step_result result = {.finite = true};
        struct ff_batch batch;
        if (b->loader) {
            int rc = ff_loader_next(&batch, b->loader, err);
            if (rc)
                return rc;
            values.pixels = batch.pixels;
            values.flip = batch.flip;
            values.label = batch.label;
        }
        b->ops->step(b->ctx, &values, queue_step, b);
        b->loss = b->ops->loss(b->ctx);
        if (i > 0 || !b->ops->overlaps)
            b->ops->step_result(b->ctx, &result);
        bool scaled = result.loss_scale > 1; /* may skip while the scale settles */
        if ((!result.finite && !scaled) || !isfinite(b->loss)) {
            int rc = b->ops->sync(b->ctx, err);
            return rc ? rc
                      : ff_err_set(err, FF_EDIVERGED, "step %lld: loss %g, not finite",
                                   (long long)i, (double)b->loss);
        }
    }
    if (b->ops->overlaps) {
        struct ff_step_result last;
        b->ops->step_result(b->ctx, &last);
    }
    return b->ops->sync(b->ctx, err);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int measure(struct bench *b, struct ff_err *err)
{
    double rate[64], total = 0;
    ff_model_pack(b->model);
    int rc = run_steps(b, b->warmup, err);
    b->memory_bytes = b->memory_before - memory_free(b);
    double waited = b->loader ? ff_loader_wait_seconds(b->loader) : 0;
    memset(profile.seconds, 0, sizeof profile.seconds);
    memset(profile.bytes, 0, sizeof profile.bytes);
    memset(profile.calls, 0, sizeof profile.calls);
    for (int64_t r = 0; r < b->repeats && !rc; r++) {
        double start = ff_now();
        rc = run_steps(b, b->steps, err);
        double seconds = ff_now() - start;
        rate[r] = (double)(b->steps * b->params.batch) / seconds;
        total += seconds;
    }
    if (rc)
        return rc;
    qsort(rate, (size_t)b->repeats, sizeof *rate, by_value);
    printf("ours %.1f samples/s (%.1f to %.1f over %lld x %lld steps; %s; ",
           rate[b->repeats / 2], rate[0], rate[b->repeats - 1], (long long)b->repeats,
           (long long)b->steps, b->ops->describe(b->ctx));
    if (b->ops->memory_free)
        printf("%lld MiB; ", (long long)(b->memory_bytes >> 20));
    if (b->loader)
        printf("loader waited for %.1f %% of the time; ",
               100 * (ff_loader_wait_seconds(b->loader) - waited) / total);
    printf("loss %.4f)\n", (double)b->loss);
    if (b->profile)
        print_profile(total, b->repeats * b->steps);
    return 0;
}

int main(int argc, char **argv)
{
    struct bench b = {
        .classes = 200, .threads = 2, .steps = 10, .repeats = 5, .warmup = 5};
    struct ff_opt_list sets = {0};
    struct ff_err err = FF_ERR_INIT;
    int64_t batch = 32, image_size = 112;
    double width = 0.25;
    const char *backbone = "r18";
    const struct ff_opt options[] = {
        {"--backbone", "NAME", FF_OPT_TEXT, &backbone, "r18 r34 r50 r100 r200 mbf", 0,
         0},
        {"--width", "X", FF_OPT_F64, &width, "channel factor (0.25)", 0.01, 4},
        {"--image-size", "PX", FF_OPT_I64, &image_size, "side in pixels (112)", 16,
         448},
        {"--batch", "N", FF_OPT_I64, &batch, "samples a step (32)", 2, 4096},
        {"--classes", "N", FF_OPT_I64, &b.classes, "classes of the head (200)", 2, 1e7},
        {"--threads", "N", FF_OPT_I64, &b.threads, "threads (2)", 1, 1024},
        {"--steps", "N", FF_OPT_I64, &b.steps, "steps a repeat (10)", 1, 1e6},
        {"--repeats", "N", FF_OPT_I64, &b.repeats, "repeats; median counts (5)", 1, 64},
        {"--warmup", "N", FF_OPT_I64, &b.warmup, "untimed steps before (5)", 0, 1e6},
        {"--profile", NULL, FF_OPT_FLAG, &b.profile, "ms a step by kind of op", 0, 0},
        {"--set", "NAME=VALUE", FF_OPT_REPEAT, &sets,
         "any other parameter; data=DIR: real images", 0, 0},
    };
    const struct ff_cli cli = {.program = "bench_train",
                               .synopsis = "[options]",
                               .summary = "Times the training step on random pixels.",
                               .options = options,
                               .option_count = sizeof options / sizeof *options};
    int positional;
    int rc = ff_cli_parse(&positional, &cli, argc, argv, &err);
    if (rc == 1)
        return 0;
    ff_params_defaults(&b.params);
    if (!rc)
        rc = ff_params_set(&b.params, "backbone", backbone, "--backbone", &err);
    b.params.width = width;
    b.params.batch = batch;
    b.params.image_size = image_size;
    b.params.embedding = EMBEDDING;
    for (int i = 0; i < sets.count && !rc; i++)
        rc = ff_params_set_arg(&b.params, sets.items[i], &err);
    if (!rc)
        rc = ff_params_resolve(&b.params, &err);
    if (!rc)
        rc = set_up(&b, &err);
    if (!rc)
        rc = measure(&b, &err);
    tear_down(&b);
    if (rc)
        ff_error("%s", err.text);
    return rc ? 1 : 0;
}
