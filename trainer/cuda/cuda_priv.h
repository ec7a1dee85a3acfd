/* SPDX-License-Identifier: MIT */
/* What the files of the cuda backend share; for C and CUDA C++.
 *
 * One device, one stream for all ops, a second one for input; with weights_beside a
 * third one for the weights' gradients. A training step is captured as a CUDA graph at
 * its second run and replayed from then on, so nothing that an op launches may depend
 * on host values that change: those stand in device memory, in struct cuda_state and in
 * the step's input block. */
#ifndef FF_CUDA_PRIV_H
#define FF_CUDA_PRIV_H

#include <cuda_runtime.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda_gemm.h"
#include "cuda_type.h"
#ifdef __cplusplus
extern "C" {
#endif
#include "ops.h"

/* -- device memory that outlives a step -- */

enum { CUDA_TICKETS = 256 };

/* The optimizer's state and verdicts: written by kernels, read by kernels. */
struct cuda_state {
    double loss_scale;
    int64_t good_steps; /* finite ones since the scale last changed */
    int64_t step;       /* number of the present one, as in its input block */
    double norm;        /* of the unscaled backbone gradient */
    double used_scale;  /* loss scale of the gradients that it is of */
    int finite;         /* of the last grad_check */
    int head_bad;       /* head_bwd made elements that are not finite */
    /* Blocks of a reduction that are done, by column of the grid; 0 between kernels. */
    unsigned int tickets[CUDA_TICKETS];
};

/* Start of a step's input block; labels (N) i64, flip (N) u8, pixels follow. */
struct cuda_step_head {
    double lr;
    int64_t step;
};

/* What a step leaves for the host, in host memory that kernels write; two rings by
 * step number. `step` is written last. */
enum { CUDA_RING = 4 };
struct cuda_report {
    struct {
        volatile float loss;
        volatile int64_t step;
    } loss[CUDA_RING];
    struct {
        volatile double norm, loss_scale;
        volatile int finite;
        volatile int64_t step;
    } result[CUDA_RING];
};

/* -- the context -- */

/* What a bn_finalize has to do, of the BN's tensors, (C). */
struct cuda_finalize {
    float *mean, *invstd, *scale, *shift, *running_mean, *running_var;
    const float *weight, *bias;
    const void *stats;  /* (2, C) f64, or f32 in the first half of its bytes */
    bool stats_are_f32; /* when finalize was called */
    double M;
    int C;
};

/* Scratch memory of libraries, of one stream; grown by plans. */
struct cuda_workspace {
    void *data;
    size_t bytes;
};

/* A weights' gradient on the side stream, from its call until the main stream has
 * waited for it. */
struct cuda_side_pass {
    struct ff_tensor src, ddst; /* what it reads */
    cudaEvent_t done;
};
enum { CUDA_SIDE_PASSES = 64 };

/* See cuda_side.c. */
struct cuda_side {
    cudaStream_t stream; /* NULL: there is none, weights' gradients take their turn */
    cudaEvent_t forked;
    struct cuda_workspace workspace;
    struct cuda_side_pass passes[CUDA_SIDE_PASSES]; /* a ring */
    int64_t first, next; /* oldest pass under way, number of the next */
};

struct cuda_ctx {
    int device, multiprocessors;
    enum cuda_type type; /* of activations */
    enum cuda_type head_type;
    bool deterministic, tf32, engine_search, weights_beside;
    bool scales;         /* the loss scale moves */
    struct ff_err error; /* first failure since the last sync */
    char description[512];
    cudaStream_t stream, copy_stream;

    struct cuda_workspace workspace; /* of cuDNN and cuBLASLt on `stream` */
    struct cuda_side side;
    double *partial;            /* block sums of reductions */
    int64_t partial_count;      /* doubles */
    struct cuda_state *state;   /* device */
    struct cuda_report *report; /* host, mapped */
    struct cuda_report *device_report;

    /* -- step input: host staging, device staging, and what the ops read -- */
    struct {
        uint8_t *host[2], *device[2], *current;
        size_t bytes;
        int N;
        int64_t image_bytes;
        cudaEvent_t uploaded[2], taken[2];
        bool used[2];
        int turn; /* place of the last upload */
    } input;
    double lr;         /* of the step */
    int64_t step;      /* number of the last one queued */
    int64_t told;      /* number of the last whose result was asked for */
    int64_t loss_step; /* number of the last whose loss was seen */
    int64_t late_losses;
    cudaEvent_t loss_known;
    bool capturing;
    cudaGraphExec_t graph;
    int runs; /* of the step: first as it is, then captured, then replayed */

    /* Weight and gradient casts that wait to be done in one kernel; see cuda_cast.cu.
     */
    struct cuda_casts *casts;
    /* Noted, to be done by the bn_apply that follows; see cuda_bn.cu. */
    struct cuda_finalize finalize[2];
    int finalize_count;

    struct cuda_lease *lease; /* NULL where none could be had */
    struct cuda_nvml *nvml;   /* NULL where the driver has none */
    const void *f32_stats[2]; /* stats tensors that hold f32 sums from a convolution */
    struct cuda_dnn *dnn;     /* handle, device description and choices; cuda_conv.c */
    struct cuda_lt *lt;       /* cuda_gemm.c */
    struct cuda_linear *linear; /* plans; cuda_linear.cu */
};

static inline struct cuda_ctx *cuda_of(struct ff_ops_ctx *ctx)
{
    return (struct cuda_ctx *)ctx;
}

/* Keeps the first failing call in cu->error and clears the runtime's sticky error; true
 * on success. */
bool cuda_ok(struct cuda_ctx *cu, cudaError_t status, const char *call,
             const char *where);
#define FF_CUDA_STRING_(x) #x
#define FF_CUDA_STRING(x) FF_CUDA_STRING_(x)
#define FF_TRY_CUDA(cu, call)                                                          \
    cuda_ok(cu, call, #call, __FILE__ ":" FF_CUDA_STRING(__LINE__))
/* Keeps a failure of another library: rc as of an ff_ function. */
void cuda_fail(struct cuda_ctx *cu, int rc, const struct ff_err *err);

int cuda_alloc_bytes(struct cuda_ctx *cu, void **out, size_t bytes, struct ff_err *err);
/* The FF_ENOMEM for so many bytes; `what` they are for: nothing is allocated yet. NULL:
 * in the middle. */
int cuda_no_memory(struct cuda_ctx *cu, size_t bytes, const char *what,
                   struct ff_err *err);
/* The workspace has at least so many bytes from now on. Never while a step is being
 * captured: plans ask when they are made. */
int cuda_workspace_grow(struct cuda_ctx *cu, struct cuda_workspace *workspace,
                        size_t bytes, struct ff_err *err);

/* f32 where a tensor has 4 bytes an element, else the context's type. */
static inline enum cuda_type cuda_type_of(const struct cuda_ctx *cu,
                                          const struct ff_tensor *t)
{
    return t->element_bytes == 4 ? CUDA_F32 : cu->type;
}

/* -- step input on the device (cuda_step.c) -- */
static inline const struct cuda_step_head *cuda_step_values(const struct cuda_ctx *cu)
{
    return (const struct cuda_step_head *)cu->input.current;
}
/* Device pointers into the step's block. */
const int64_t *cuda_step_labels(const struct cuda_ctx *cu);
const uint8_t *cuda_step_flip(const struct cuda_ctx *cu);
const uint8_t *cuda_step_pixels(const struct cuda_ctx *cu);

int cuda_step_open(struct cuda_ctx *cu, struct ff_err *err);
void cuda_step_close(struct cuda_ctx *cu);
/* Forgets the captured step: its arguments are about to change. */
void cuda_step_forget(struct cuda_ctx *cu);
void cuda_step(struct ff_ops_ctx *ctx, const struct ff_step *step,
               void (*queue)(void *arg), void *arg);
/* Room for the input of N images (0: as there is), and what is to be read there from
 * now on; pixels may be NULL. */
bool cuda_step_reserve(struct cuda_ctx *cu, int N, int64_t image_bytes);
bool cuda_step_stage(struct cuda_ctx *cu, const struct ff_step *step);
/* After the kernel that writes a loss. */
void cuda_step_loss_queued(struct cuda_ctx *cu);
float cuda_step_loss(struct ff_ops_ctx *ctx);
int64_t cuda_step_late_losses(struct ff_ops_ctx *ctx);
void cuda_step_result(struct ff_ops_ctx *ctx, struct ff_step_result *result);

/* -- the side stream (cuda_side.c); where it was not opened the others do nothing -- */
int cuda_side_open(struct cuda_ctx *cu, struct ff_err *err);
void cuda_side_close(struct cuda_ctx *cu);
/* Around a pass that is queued on it. */
void cuda_side_begin(struct cuda_ctx *cu);
void cuda_side_end(struct cuda_ctx *cu, const struct ff_tensor *src,
                   const struct ff_tensor *ddst);
/* Before an op writes dst: the main stream waits for the pass that reads it, if any. */
void cuda_side_spare(struct cuda_ctx *cu, const struct ff_tensor *dst);
/* The main stream waits for all passes. */
void cuda_side_join(struct cuda_ctx *cu);

/* -- casts (cuda_cast.cu) -- */
/* Queues dst (of `to`) = src, count elements, for the next flush: from f32 to the
 * context's halves, or back. */
void cuda_cast_later(struct cuda_ctx *cu, void *dst, enum cuda_type to, const void *src,
                     int64_t count);
/* Weights: halves that convolutions are about to read. Else gradients, widened. */
void cuda_cast_flush(struct cuda_ctx *cu, bool weights);
/* dst += add, both of `type`. */
void cuda_add(struct cuda_ctx *cu, void *dst, const void *add, enum cuda_type type,
              int64_t count);

/* -- ops, as in the table -- */
void cuda_input(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const uint8_t *pixels,
                const uint8_t *flip, int N, int H, int W);

int cuda_conv_open(struct cuda_ctx *cu, struct ff_err *err);
void cuda_conv_close(struct cuda_ctx *cu);
int cuda_conv_choices(struct ff_ops_ctx *ctx, char **text, struct ff_err *err);
int cuda_conv_set_choices(struct ff_ops_ctx *ctx, const char *text, struct ff_err *err);
int cuda_conv_create(struct ff_ops_ctx *ctx, struct ff_conv **conv,
                     const struct ff_conv_shape *shape, bool training,
                     struct ff_err *err);
void cuda_conv_destroy(struct ff_ops_ctx *ctx, struct ff_conv *conv);
void cuda_conv_pack(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                    const struct ff_tensor *weight);
void cuda_conv_fwd(struct ff_ops_ctx *ctx, struct ff_conv *conv, struct ff_tensor *dst,
                   const struct ff_tensor *src, struct ff_tensor *stats);
void cuda_conv_bwd_data(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                        struct ff_tensor *dsrc, const struct ff_tensor *ddst,
                        const struct ff_tensor *add);
void cuda_conv_bwd_weights(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                           struct ff_tensor *dweight, const struct ff_tensor *src,
                           const struct ff_tensor *ddst);

/* Says of which kind the sums are that stats holds from now on. */
void cuda_bn_stats_are_f32(struct cuda_ctx *cu, const struct ff_tensor *stats,
                           bool f32);
void cuda_bn_stats(struct ff_ops_ctx *ctx, struct ff_tensor *stats,
                   const struct ff_tensor *src, int64_t M, int C);
/* Does the noted finalizes that read stats; NULL: all. The rule stands in cuda_bn.cu.
 */
void cuda_bn_flush(struct cuda_ctx *cu, const struct ff_tensor *stats);
void cuda_bn_finalize_op(struct ff_ops_ctx *ctx, struct ff_bn *bn,
                         const struct ff_tensor *stats, int64_t M);
void cuda_bn_finalize_running(struct ff_ops_ctx *ctx, struct ff_bn *bn);
void cuda_bn_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                   const struct ff_tensor *src, const struct ff_bn *bn,
                   const struct ff_tensor *slope, const struct ff_tensor *residual,
                   const struct ff_bn *residual_bn, struct ff_tensor *stats, int64_t M);
void cuda_bn_bwd_reduce(struct ff_ops_ctx *ctx, struct ff_tensor *dweight,
                        struct ff_tensor *dbias, struct ff_tensor *dslope,
                        const struct ff_tensor *ddst, const struct ff_tensor *src,
                        const struct ff_bn *bn, const struct ff_tensor *slope,
                        int64_t M);
void cuda_bn_bwd_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                       const struct ff_tensor *ddst, const struct ff_tensor *src,
                       const struct ff_bn *bn, const struct ff_tensor *slope,
                       const struct ff_tensor *dweight, const struct ff_tensor *dbias,
                       const struct ff_tensor *add, const struct ff_bn_next *next,
                       int64_t M);

void cuda_linear_close(struct cuda_ctx *cu);
void cuda_linear_fwd(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                     const struct ff_tensor *src, const struct ff_tensor *weight,
                     const struct ff_tensor *bias, int N, int F, int D);
void cuda_linear_bwd(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                     struct ff_tensor *dweight, struct ff_tensor *dbias,
                     const struct ff_tensor *ddst, const struct ff_tensor *src,
                     const struct ff_tensor *weight, int N, int F, int D);

int cuda_head_create(struct ff_ops_ctx *ctx, struct ff_head_plan **head,
                     const struct ff_head_shape *shape, struct ff_err *err);
void cuda_head_destroy(struct ff_ops_ctx *ctx, struct ff_head_plan *head);
int64_t cuda_head_bytes(struct ff_ops_ctx *ctx, const struct ff_head_shape *shape);
void cuda_head_pack(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                    const struct ff_tensor *weight);
void cuda_head_fwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                   const struct ff_tensor *embedding, const struct ff_tensor *weight,
                   const int64_t *label);
void cuda_head_bwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                   struct ff_tensor *dembedding, const struct ff_tensor *embedding,
                   const struct ff_tensor *weight);
void cuda_head_update(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                      struct ff_tensor *weight, struct ff_tensor *velocity,
                      const struct ff_sgd *sgd);

void cuda_grad_check(struct ff_ops_ctx *ctx, const struct ff_tensor *dbackbone,
                     const struct ff_head_plan *head);
void cuda_sgd_op(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                 struct ff_tensor *velocity, const struct ff_tensor *dweight,
                 const struct ff_sgd *sgd);

#ifdef __cplusplus
}
#endif
#endif
