/* SPDX-License-Identifier: MIT */
/* Convolutions: passes by cuDNN (cuda_dnn.h) or, on an H100, our own (cuda_conv90.h),
 * weights and their gradients in the activations' type, cast to and from the f32 blocks
 * in one kernel for all.
 *
 * Which engine a pass takes is looked up: first among the choices of the run that is
 * being resumed, then in the cache file of this device, else it is timed here and
 * noted. Our own take part in the longer search alone. The channel sums come out of the
 * forward pass's own epilogue where cuDNN has an engine for that and it is faster than
 * the fastest plain one with a pass over the result behind it; that there is none, or
 * that it is not, is a choice too.
 *
 * With a side stream (cuda_side.c) the weights' gradients have a handle of their own:
 * nothing of cuDNN's is shared between two streams. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_choices.h"
#include "cuda_conv90.h"
#include "cuda_dnn.h"
#include "cuda_priv.h"
#include "log.h"

/* More workspace buys nothing that was seen; a plan that needs more is left out. */
#define WORKSPACE_LIMIT_BYTES ((int64_t)512 << 20)
/* Choices that are no engine, of a forward pass with channel sums. */
#define NO_STATS "none" /* no engine gives them */
#define OWN_STATS "own" /* a plain engine and a pass over its result are faster */

struct cuda_dnn {
    cudnnHandle_t handle, side_handle; /* the second one of the side stream, or NULL */
    struct dnn_target target, side_target;
    struct cuda_choices_device device;
    struct cuda_choices choices; /* of this run; what is asked for first */
    struct cuda_choices cache;
    bool search; /* takes from the cache what a longer search chose, alone */
    bool tuned;  /* the cache has entries that its file has not */
    bool said;   /* that engines are being timed */
};

/* By a plan of cuDNN's, or else by our own kernels' tile of that number. */
struct pass {
    struct dnn_problem problem;
    struct dnn_plan *plan;
    int tile;    /* of conv90; -1 = none */
    bool beside; /* on the side stream */
};
#define NO_PASS ((struct pass){.tile = -1})

struct ff_conv {
    struct ff_conv_shape shape;
    struct pass forward, by_data, by_weights;
    bool has_stats;         /* forward gives the channel sums */
    void *weight, *dweight; /* (K, R, S, C / groups) halves; NULL in f32 */
    void *packed;           /* what the plans read: weight, or the f32 block */
    int64_t weight_count;
};

static int open_handle(cudnnHandle_t *handle, struct dnn_target *target,
                       cudaStream_t stream, struct ff_err *err)
{
    cudnnStatus_t status = cudnnCreate(handle);
    if (status == CUDNN_STATUS_SUCCESS)
        status = cudnnSetStream(*handle, stream);
    if (status != CUDNN_STATUS_SUCCESS)
        return ff_err_set(err, FF_EFAIL, "cuDNN: %s", cudnnGetErrorString(status));
    dnn_target_open(target, *handle);
    target->workspace_limit_bytes = WORKSPACE_LIMIT_BYTES;
    return 0;
}

int cuda_conv_open(struct cuda_ctx *cu, struct ff_err *err)
{
    struct cuda_dnn *d = cu->dnn = calloc(1, sizeof *d);
    struct cudaDeviceProp properties;
    if (!d)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    int rc = open_handle(&d->handle, &d->target, cu->stream, err);
    if (!rc && cu->side.stream)
        rc = open_handle(&d->side_handle, &d->side_target, cu->side.stream, err);
    if (rc)
        return rc;
    d->search = cu->engine_search;
    if (!FF_TRY_CUDA(cu, cudaGetDeviceProperties(&properties, cu->device)) ||
        !FF_TRY_CUDA(cu, cudaDriverGetVersion(&d->device.driver))) {
        *err = cu->error;
        return err->code;
    }
    d->device.name = strdup(properties.name);
    d->device.sm = 10 * properties.major + properties.minor;
    d->device.cudnn = (int)cudnnGetVersion();
    d->device.deterministic = cu->deterministic;
    if (!d->device.name)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    struct ff_err ignored = FF_ERR_INIT; /* no cache is no reason to stop */
    if (cuda_choices_load(&d->cache, &d->device, &ignored))
        ff_warn("%s", ignored.text);
    return 0;
}

/* Keeps what was timed for the next run on such a device. */
static void save_cache(struct cuda_dnn *d)
{
    struct ff_err err = FF_ERR_INIT;
    if (d->tuned && cuda_choices_save(&d->cache, &d->device, &err))
        ff_warn("%s", err.text);
    d->tuned = false;
}

void cuda_conv_close(struct cuda_ctx *cu)
{
    struct cuda_dnn *d = cu->dnn;
    if (!d)
        return;
    save_cache(d);
    cuda_choices_fini(&d->choices);
    cuda_choices_fini(&d->cache);
    dnn_target_close(&d->target);
    dnn_target_close(&d->side_target);
    if (d->handle)
        cudnnDestroy(d->handle);
    if (d->side_handle)
        cudnnDestroy(d->side_handle);
    free((void *)d->device.name);
    free(d);
    cu->dnn = NULL;
}

int cuda_conv_choices(struct ff_ops_ctx *ctx, char **text, struct ff_err *err)
{
    struct cuda_dnn *d = cuda_of(ctx)->dnn;
    char header[CUDA_CHOICES_HEADER];
    *text = cuda_choices_text(&d->choices, cuda_choices_header(header, &d->device));
    return *text ? 0 : ff_err_set(err, FF_ENOMEM, "out of memory");
}

int cuda_conv_set_choices(struct ff_ops_ctx *ctx, const char *text, struct ff_err *err)
{
    struct cuda_dnn *d = cuda_of(ctx)->dnn;
    char header[CUDA_CHOICES_HEADER];
    struct ff_err inner = FF_ERR_INIT;
    cuda_choices_header(header, &d->device);
    int rc = cuda_choices_parse(&d->choices, text, "the checkpoint's choices", header,
                                &inner);
    if (rc == FF_EUSAGE) { /* of another device or version: this one makes its own */
        ff_warn("the checkpoint's choices of convolution engines are for another "
                "device: %s",
                inner.text);
        return 0;
    }
    if (rc)
        ff_err_set(err, rc, "%s", inner.text);
    return rc;
}

/* Our own kernels for a problem, as the tuner runs them. */
enum { TILES_MOST = 8 };
struct tile_pass {
    const struct cuda_ctx *cu;
    const struct dnn_problem *problem;
    int index;
};

static int run_tile(void *arg, cudaStream_t stream, void *workspace, void *x, void *w,
                    void *y, struct ff_err *err)
{
    const struct tile_pass *pass = arg;
    return conv90_run(pass->index, pass->problem, pass->cu->multiprocessors, stream,
                      workspace, x, w, y, err);
}

static int list_tiles(struct dnn_other others[TILES_MOST],
                      struct tile_pass tiles[TILES_MOST], const struct cuda_ctx *cu,
                      const struct dnn_problem *problem)
{
    int count = 0;
    for (int i = 0; conv90_name(i) && count < TILES_MOST; i++) {
        if (!conv90_fits(i, problem, cu->dnn->device.sm))
            continue;
        tiles[count] = (struct tile_pass){cu, problem, i};
        others[count] = (struct dnn_other){
            conv90_name(i), conv90_workspace_bytes(problem, cu->multiprocessors),
            run_tile, &tiles[count]};
        count++;
    }
    return count;
}

static int tune(struct dnn_tuned *tuned, struct cuda_ctx *cu,
                const struct dnn_problem *problem, struct dnn_tuning tuning,
                struct ff_err *err)
{
    struct cuda_dnn *d = cu->dnn;
    struct dnn_other others[TILES_MOST];
    struct tile_pass tiles[TILES_MOST];
    size_t bytes[3];
    tuning.workspace_limit_bytes = WORKSPACE_LIMIT_BYTES;
    tuning.search = d->search;
    tuning.others = others;
    tuning.other_count = d->search ? list_tiles(others, tiles, cu, problem) : 0;
    if (!d->said)
        ff_info("times the convolution engines of this GPU; the choices are kept for "
                "later runs");
    d->said = true;
    int rc = dnn_tune(tuned, &d->target, d->handle, problem, &tuning, err);
    if (rc != FF_ENOMEM)
        return rc;
    dnn_tensor_bytes(bytes, problem);
    return cuda_no_memory(cu, bytes[0] + bytes[1] + bytes[2], NULL, err);
}

#define SEARCHED " searched"

/* The cache's choice for a problem. A longer search keeps its choices twice: as such,
 * and as the problem's, so that every run has the best that is known. */
static const char *cached_choice(const struct cuda_dnn *d, const char *problem)
{
    char text[DNN_PROBLEM_TEXT + sizeof SEARCHED];
    snprintf(text, sizeof text, "%s%s", problem, d->search ? SEARCHED : "");
    return cuda_choices_get(&d->cache, text);
}

/* Keeps a choice at once: a run that is killed while it tunes has lost one problem. */
static int keep(struct cuda_dnn *d, const struct dnn_problem *problem,
                const char *choice, struct ff_err *err)
{
    char text[DNN_PROBLEM_TEXT + sizeof SEARCHED];
    int rc = cuda_choices_set(&d->cache, dnn_problem_text(text, problem), choice, err);
    if (!rc && d->search)
        rc = cuda_choices_set(&d->cache, strcat(text, SEARCHED), choice, err);
    d->tuned = true;
    if (!rc)
        save_cache(d);
    return rc;
}

/* The pass over the result, as the tuner runs it. */
struct own_stats {
    struct cuda_ctx *cu;
    struct ff_tensor stats; /* (2, K) f64 */
    int64_t M;
    int K;
};

static void queue_own_stats(void *arg, cudaStream_t stream, void *y)
{
    struct own_stats *own = arg;
    struct cuda_ctx *cu = own->cu;
    const struct ff_tensor src = {y, own->M * own->K, cuda_type_bytes(cu->type)};
    cudaStream_t before = cu->stream;
    cu->stream = stream;
    cuda_bn_stats((struct ff_ops_ctx *)cu, &own->stats, &src, own->M, own->K);
    cu->stream = before;
}

/* The fastest plain engine with a pass over its result, which is kept as the plain
 * problem's choice unless that has one. */
static int tune_own_stats(struct dnn_tuned *tuned, struct cuda_ctx *cu,
                          struct dnn_problem problem, struct ff_err *err)
{
    const struct ff_conv_shape *s = &problem.shape;
    struct own_stats own = {.cu = cu, .K = s->K};
    char text[DNN_PROBLEM_TEXT];
    own.M = (int64_t)s->N * ff_conv_out(s->H, s->R, s->stride, s->pad) *
            ff_conv_out(s->W, s->S, s->stride, s->pad);
    problem.kind = DNN_FWD;
    int rc =
        cuda_alloc_bytes(cu, &own.stats.data, 2 * (size_t)s->K * sizeof(double), err);
    if (rc)
        return rc;
    cudaStreamSynchronize(cu->stream); /* partial sums and tickets are free */
    const struct ff_err before = cu->error;
    rc = tune(tuned, cu, &problem,
              (struct dnn_tuning){.follow = queue_own_stats, .arg = &own}, err);
    cu->error = before; /* a pass behind an engine that is skipped may fail */
    if (!rc && !tuned->short_of_memory &&
        !cached_choice(cu->dnn, dnn_problem_text(text, &problem)))
        rc = keep(cu->dnn, &problem, tuned->choice, err);
    cudaFree(own.stats.data);
    return rc;
}

/* Times the problem's engines. That there is none, or no memory for some, may be of
 * today, and is not kept. */
static int tune_and_keep(struct cuda_ctx *cu, const struct dnn_problem *problem,
                         const char *text, struct ff_err *err)
{
    struct cuda_dnn *d = cu->dnn;
    struct dnn_tuned tuned, own = {.short_of_memory = false};
    bool stats = problem->kind == DNN_FWD_STATS;
    int rc = tune(&tuned, cu, problem, (struct dnn_tuning){.follow = NULL}, err);
    if (rc == FF_EUSAGE && stats)
        return cuda_choices_set(&d->choices, text, NO_STATS, err);
    if (!rc && stats) {
        rc = tune_own_stats(&own, cu, *problem, err);
        if (!rc && own.ms < tuned.ms)
            strcpy(tuned.choice, OWN_STATS);
        rc = rc == FF_EUSAGE ? 0 : rc; /* no plain engine */
    }
    if (!rc)
        rc = cuda_choices_set(&d->choices, text, tuned.choice, err);
    return rc || tuned.short_of_memory || own.short_of_memory
               ? rc
               : keep(d, problem, tuned.choice, err);
}

static bool is_engine(enum dnn_kind kind, const char *choice)
{
    return kind != DNN_FWD_STATS ||
           (strcmp(choice, NO_STATS) != 0 && strcmp(choice, OWN_STATS) != 0);
}

static bool is_there(const struct pass *pass)
{
    return pass->plan || pass->tile >= 0;
}

/* FF_EDATA: no choice for the problem. */
static int choose(struct pass *pass, const struct cuda_dnn *d, const char *choice,
                  struct ff_err *err)
{
    char text[DNN_PROBLEM_TEXT];
    if (!is_engine(pass->problem.kind, choice))
        return 0;
    pass->tile = conv90_find(choice);
    if (pass->tile < 0)
        return dnn_plan_create(&pass->plan, pass->beside ? &d->side_target : &d->target,
                               &pass->problem, choice, err);
    if (conv90_fits(pass->tile, &pass->problem, d->device.sm))
        return 0;
    pass->tile = -1;
    return ff_err_set(err, FF_EDATA, "%s: \"%s\" is not for it",
                      dnn_problem_text(text, &pass->problem), choice);
}

/* Not there where the channel sums are not to come out of it. */
static int make_pass(struct cuda_ctx *cu, struct pass *pass,
                     const struct ff_conv_shape *shape, enum dnn_kind kind,
                     struct ff_err *err)
{
    struct cuda_dnn *d = cu->dnn;
    char text[DNN_PROBLEM_TEXT];
    int rc = 0;
    *pass =
        (struct pass){.problem = {*shape, cu->type, kind, cu->deterministic, cu->tf32},
                      .tile = -1,
                      .beside = kind == DNN_BWD_WEIGHTS && d->side_handle};
    dnn_problem_text(text, &pass->problem);
    const char *cached = cached_choice(d, text);
    if (!cuda_choices_get(&d->choices, text)) {
        struct ff_err inner = FF_ERR_INIT;
        /* A cache that another version wrote, or a hand, is no reason to stop. */
        rc = cached ? choose(pass, d, cached, &inner) : FF_EDATA;
        if (!rc)
            rc = cuda_choices_set(&d->choices, text, cached, err);
        else if (rc == FF_EDATA)
            rc = tune_and_keep(cu, &pass->problem, text, err);
        else
            ff_err_set(err, rc, "%s", inner.text);
        if (rc)
            return rc;
    }
    if (!is_there(pass)) {
        const char *choice = cuda_choices_get(&d->choices, text);
        rc = choose(pass, d, choice, err);
        if (rc == FF_EDATA && strncmp(choice, CONV90, strlen(CONV90)) == 0) {
            ff_warn("%s: this build has no \"%s\", which the run had: another is "
                    "chosen, and bits may differ",
                    text, choice);
            rc = tune_and_keep(cu, &pass->problem, text, err);
            if (!rc)
                rc = choose(pass, d, cuda_choices_get(&d->choices, text), err);
        }
    }
    if (rc || !is_there(pass))
        return rc;
    int64_t bytes = pass->plan
                        ? dnn_plan_workspace_bytes(pass->plan)
                        : conv90_workspace_bytes(&pass->problem, cu->multiprocessors);
    return cuda_workspace_grow(cu, pass->beside ? &cu->side.workspace : &cu->workspace,
                               (size_t)bytes, err);
}

void cuda_conv_destroy(struct ff_ops_ctx *ctx, struct ff_conv *conv)
{
    if (!conv)
        return;
    cuda_cast_flush(cuda_of(ctx), true);
    cuda_cast_flush(cuda_of(ctx), false);
    cuda_side_join(cuda_of(ctx));
    cudaStreamSynchronize(cuda_of(ctx)->stream);
    cuda_step_forget(cuda_of(ctx));
    dnn_plan_destroy(conv->forward.plan);
    dnn_plan_destroy(conv->by_data.plan);
    dnn_plan_destroy(conv->by_weights.plan);
    cudaFree(conv->weight);
    cudaFree(conv->dweight);
    free(conv);
}

static int make_passes(struct cuda_ctx *cu, struct ff_conv *conv, bool training,
                       struct ff_err *err)
{
    const struct ff_conv_shape *s = &conv->shape;
    int rc = 0;
    if (training)
        rc = make_pass(cu, &conv->forward, s, DNN_FWD_STATS, err);
    conv->has_stats = training && is_there(&conv->forward);
    if (!rc && !conv->has_stats)
        rc = make_pass(cu, &conv->forward, s, DNN_FWD, err);
    if (!rc && training)
        rc = make_pass(cu, &conv->by_weights, s, DNN_BWD_WEIGHTS, err);
    if (!rc && training && !s->pixels)
        rc = make_pass(cu, &conv->by_data, s, DNN_BWD_DATA, err);
    return rc;
}

int cuda_conv_create(struct ff_ops_ctx *ctx, struct ff_conv **out,
                     const struct ff_conv_shape *shape, bool training,
                     struct ff_err *err)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    struct ff_conv *conv = calloc(1, sizeof *conv);
    *out = NULL;
    if (!conv)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    conv->shape = *shape;
    conv->forward = conv->by_data = conv->by_weights = NO_PASS;
    conv->weight_count =
        (int64_t)shape->K * shape->R * shape->S * (shape->C / shape->groups);
    size_t bytes = (size_t)conv->weight_count * (size_t)cuda_type_bytes(cu->type);
    int rc = make_passes(cu, conv, training, err);
    if (!rc && cu->type != CUDA_F32)
        rc = cuda_alloc_bytes(cu, &conv->weight, bytes, err);
    if (!rc && cu->type != CUDA_F32 && training)
        rc = cuda_alloc_bytes(cu, &conv->dweight, bytes, err);
    if (rc) {
        cuda_conv_destroy(ctx, conv);
        return rc;
    }
    *out = conv;
    return 0;
}

void cuda_conv_pack(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                    const struct ff_tensor *weight)
{
    conv->packed = conv->weight ? conv->weight : weight->data;
    if (conv->weight)
        cuda_cast_later(cuda_of(ctx), conv->weight, cuda_of(ctx)->type, weight->data,
                        conv->weight_count);
}

static void execute(struct cuda_ctx *cu, const struct pass *pass, void *x, void *w,
                    void *y, float *sum, float *sum_sq)
{
    struct ff_err err = FF_ERR_INIT;
    bool beside = pass->beside;
    void *workspace = beside ? cu->side.workspace.data : cu->workspace.data;
    int rc = pass->plan
                 ? dnn_plan_execute(pass->plan,
                                    beside ? cu->dnn->side_handle : cu->dnn->handle,
                                    workspace, x, w, y, sum, sum_sq, &err)
                 : conv90_run(pass->tile, &pass->problem, cu->multiprocessors,
                              beside ? cu->side.stream : cu->stream, workspace, x, w, y,
                              &err);
    if (rc)
        cuda_fail(cu, rc, &err);
}

void cuda_conv_fwd(struct ff_ops_ctx *ctx, struct ff_conv *conv, struct ff_tensor *dst,
                   const struct ff_tensor *src, struct ff_tensor *stats)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    /* An epilogue's sums are f32 and lie in the first half of the tensor's bytes. A
     * network in eval mode that borrowed a training plan wants none: they go where the
     * next statistics will be written. */
    float *sums = stats ? stats->data : (void *)cu->partial;
    cuda_cast_flush(cu, true);
    cuda_side_spare(cu, dst);
    if (stats)
        cuda_bn_flush(cu, stats);
    execute(cu, &conv->forward, src->data, conv->packed, dst->data, sums,
            sums + conv->shape.K);
    if (stats && conv->has_stats)
        cuda_bn_stats_are_f32(cu, stats, true);
    else if (stats)
        cuda_bn_stats(ctx, stats, dst, dst->count / conv->shape.K, conv->shape.K);
}

void cuda_conv_bwd_data(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                        struct ff_tensor *dsrc, const struct ff_tensor *ddst,
                        const struct ff_tensor *add)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    const struct ff_conv_shape *s = &conv->shape;
    assert(is_there(&conv->by_data)); /* not of the pixels */
    cuda_cast_flush(cu, true);
    cuda_side_spare(cu, dsrc);
    execute(cu, &conv->by_data, dsrc->data, conv->packed, ddst->data, NULL, NULL);
    if (add)
        cuda_add(cu, dsrc->data, add->data, cu->type,
                 (int64_t)s->N * s->H * s->W * s->C);
}

void cuda_conv_bwd_weights(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                           struct ff_tensor *dweight, const struct ff_tensor *src,
                           const struct ff_tensor *ddst)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    void *out = conv->dweight ? conv->dweight : dweight->data;
    cuda_side_begin(cu);
    execute(cu, &conv->by_weights, src->data, out, ddst->data, NULL, NULL);
    cuda_side_end(cu, src, ddst);
    if (conv->dweight)
        cuda_cast_later(cu, dweight->data, CUDA_F32, conv->dweight, conv->weight_count);
}
