/* SPDX-License-Identifier: MIT */
/* Convolutions by cuDNN: problems, candidates, plans; tuning in cuda_dnn_tune.c.
 *
 * A problem is one pass of one convolution. cuDNN offers several engines for it, each
 * with knobs. One engine with its knobs is a *choice*, written "eng12 k2=3 k13=64":
 * the engine's global index, then knob type = value with the types in rising order. A
 * plan can be made again from problem and choice, with the same cuDNN version alone:
 * both numbers are cuDNN's own. cuda_choices.h keeps choices in files.
 *
 * Everything but executing and tuning works without a GPU, for devices described by
 * cuDNN's JSON of device properties.
 *
 * Errors: FF_EUSAGE = cuDNN has no engine for this problem on this device (with
 * DNN_FWD_STATS: take DNN_FWD and a pass of one's own), FF_EDATA = the choice is not
 * one for this problem, FF_ENOMEM, FF_EFAIL. Texts begin with dnn_problem_text. */
#ifndef FF_CUDA_DNN_H
#define FF_CUDA_DNN_H

#include <cudnn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda_type.h"
#include "err.h"
#include "ops.h"

enum dnn_kind {
    DNN_FWD,        /* x, w -> y */
    DNN_FWD_STATS,  /* x, w -> y, sum, sum_sq */
    DNN_BWD_DATA,   /* y, w -> x */
    DNN_BWD_WEIGHTS /* x, y -> w */
};

/* Tensors are x (N, H, W, C), w (K, R, S, C / groups) and y (N, P, Q, K), all of `type`
 * and on 16 bytes, forward and backward: a gradient stands where its value stood.
 * sum, sum_sq (K) f32: over the rows of y. Sums run in f32. */
struct dnn_problem {
    struct ff_conv_shape shape;
    enum cuda_type type;
    enum dnn_kind kind;
    bool deterministic; /* the same bits every time */
    bool tf32;          /* CUDA_F32 may be multiplied as TF32; else without effect */
};

/* "conv 256->256 3x3 s1 14x14 N128 fp16 backward weights": everything but
 * `deterministic`, so equal texts are equal problems. Padding shows where it is not
 * R / 2 ("p0"), groups where they are not 1 ("g256"). Returns out. */
#define DNN_PROBLEM_TEXT 128
char *dnn_problem_text(char out[DNN_PROBLEM_TEXT], const struct dnn_problem *problem);

/* Bytes of x, w and y. */
static inline void dnn_tensor_bytes(size_t bytes[3], const struct dnn_problem *problem)
{
    const struct ff_conv_shape *s = &problem->shape;
    size_t element = (size_t)cuda_type_bytes(problem->type);
    size_t P = (size_t)ff_conv_out(s->H, s->R, s->stride, s->pad);
    size_t Q = (size_t)ff_conv_out(s->W, s->S, s->stride, s->pad);
    size_t inside = (size_t)(s->C / s->groups);
    bytes[0] = element * (size_t)s->N * (size_t)s->H * (size_t)s->W * (size_t)s->C;
    bytes[1] = element * (size_t)s->K * (size_t)s->R * (size_t)s->S * inside;
    bytes[2] = element * (size_t)s->N * P * Q * (size_t)s->K;
}

/* The device that plans are for: one that is here, or one that is described. */
struct dnn_target {
    cudnnHandle_t handle; /* lives as long as the plans; or NULL */
    cudnnBackendDescriptor_t properties;
    int64_t workspace_limit_bytes; /* of plans made without a choice; 0 = none */
};
/* The device of a handle. Both leave the limit at 0. */
void dnn_target_open(struct dnn_target *target, cudnnHandle_t handle);
/* A device as cuDNN describes it in JSON, for plans that are not executed; see
 * tests/fixtures/deviceprop. */
int dnn_target_open_json(struct dnn_target *target, const char *json,
                         struct ff_err *err);
void dnn_target_close(struct dnn_target *target);

/* -- candidates -- */

#define DNN_CHOICE_TEXT 256
struct dnn_candidate {
    char choice[DNN_CHOICE_TEXT];
    bool runtime_compiled; /* making its plan runs a compiler: seconds, not ms */
};
struct dnn_candidates {
    struct dnn_candidate *items; /* dnn_candidates_free */
    int count;
    int refused; /* left out for `deterministic`, `tf32` or sums in a lower precision */
};
/* What cuDNN's heuristics offer, best guess first (mode A, then the fallbacks), each
 * once; with every_engine then each engine with its default knobs. Not each of them
 * makes a plan. None at all is no error. */
int dnn_list(struct dnn_candidates *candidates, const struct dnn_target *target,
             const struct dnn_problem *problem, bool every_engine, struct ff_err *err);
/* Adds, each once, the choices that differ from `choice` in the value of one knob: all
 * values, of a knob with more than 32 (slices of a split) the powers of two. None for
 * an engine that is compiled at run time: seconds each. FF_EDATA: no choice of the
 * problem.
 */
int dnn_neighbours(struct dnn_candidates *candidates, const struct dnn_target *target,
                   const struct dnn_problem *problem, const char *choice,
                   struct ff_err *err);
void dnn_candidates_free(struct dnn_candidates *candidates);

/* -- plans -- */

struct dnn_plan;
/* choice NULL = the first candidate that makes a plan within the target's limit; those
 * that need no compiler first. A choice that the problem's `deterministic` or `tf32`
 * forbids is FF_EDATA. */
int dnn_plan_create(struct dnn_plan **plan, const struct dnn_target *target,
                    const struct dnn_problem *problem, const char *choice,
                    struct ff_err *err);
void dnn_plan_destroy(struct dnn_plan *plan);
/* Borrowed from the plan. */
const char *dnn_plan_choice(const struct dnn_plan *plan);
int64_t dnn_plan_workspace_bytes(const struct dnn_plan *plan);
bool dnn_plan_is_runtime_compiled(const struct dnn_plan *plan);
/* Queues the pass on the handle's stream; x, w, y, sum, sum_sq as in dnn_problem, the
 * last two used with DNN_FWD_STATS alone; workspace on 16 bytes, may be NULL where none
 * is needed. No device memory is allocated and nothing waits, so it may be captured in
 * a CUDA graph, after one call outside (which loads the kernels). One thread at a time
 * a plan; two calls in flight need two workspaces. */
int dnn_plan_execute(struct dnn_plan *plan, cudnnHandle_t handle, void *workspace,
                     void *x, void *w, void *y, void *sum, void *sum_sq,
                     struct ff_err *err);

/* -- tuning -- */

struct dnn_tuned {
    char choice[DNN_CHOICE_TEXT];
    double ms;   /* of one call, with what follows it */
    int timed;   /* candidates that ran */
    int skipped; /* that made no plan, need more workspace, or failed to run */
    int64_t workspace_bytes;
    /* There was no memory for one that was skipped: elsewhere it may be the best. */
    bool short_of_memory;
};
struct dnn_other {
    const char *name; /* its choice */
    int64_t workspace_bytes;
    /* As dnn_plan_execute. */
    int (*run)(void *arg, cudaStream_t stream, void *workspace, void *x, void *w,
               void *y, struct ff_err *err);
    void *arg;
};
struct dnn_tuning {
    /* Beyond the heuristics' offer: each engine with its default knobs, then the
     * neighbours of the fastest, and of what was faster among them, until nothing is.
     */
    bool search;
    bool runtime_compiled;
    int64_t workspace_limit_bytes; /* 0 = none */
    /* Queues what is to be timed with every call, on y as the call leaves it; or NULL.
     */
    void (*follow)(void *arg, cudaStream_t stream, void *y);
    void *arg; /* of it */
    /* Passes that are not cuDNN's, of halves. Each must first give what the fastest
     * engine gives, to a rounding; one that does not is skipped with a warning. */
    const struct dnn_other *others;
    int other_count;
};
/* Times the candidates of a problem on the handle's device, which must be the current
 * one, on a stream of its own and as a CUDA graph, and gives the fastest. Those that
 * are compiled at run time take part if asked for, or if there are no others, and then
 * the first three that make a plan. Allocates the tensors and the workspace (within the
 * limit) and frees them. A candidate that fails to run or to be captured is skipped;
 * FF_EUSAGE if none is left, FF_ENOMEM, FF_EFAIL if the device is lost. */
int dnn_tune(struct dnn_tuned *tuned, const struct dnn_target *target,
             cudnnHandle_t handle, const struct dnn_problem *problem,
             const struct dnn_tuning *tuning, struct ff_err *err);

#endif
