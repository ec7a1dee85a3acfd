/* SPDX-License-Identifier: MIT */
/* What the files of the onednn backend share. */
#ifndef FF_ONEDNN_PRIV_H
#define FF_ONEDNN_PRIV_H

#include <omp.h>
#include <stdbool.h>

#include "../ref/ref_priv.h"
#include "dnnl_shim.h"

struct onednn_rows;

struct onednn_ctx {
    struct ff_ops_ctx base; /* first: the ops of ref/ run on it too */
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    dnnl_primitive_attr_t attr;
    const struct onednn_rows *rows; /* kernels for this CPU */
    double *partial; /* per-thread channel sums, 3 * C doubles a thread */
    int64_t partial_count;
};

static inline struct onednn_ctx *onednn(struct ff_ops_ctx *ctx)
{
    return (struct onednn_ctx *)ctx;
}

/* Keeps the first failing oneDNN call in ctx->error; true on success. */
bool onednn_ok(struct ff_ops_ctx *ctx, dnnl_status_t status, const char *call,
               const char *where);
#define FF_STRINGIFY_(x) #x
#define FF_STRINGIFY(x) FF_STRINGIFY_(x)
#define FF_TRY_DNNL(ctx, call)                                                         \
    onednn_ok(ctx, call, #call, __FILE__ ":" FF_STRINGIFY(__LINE__))

/* The part of [0, count) that is this thread's, inside a parallel region. */
struct onednn_range {
    int64_t first, end;
};
static inline struct onednn_range onednn_my_part(int64_t count)
{
    int64_t n = omp_get_num_threads(), i = omp_get_thread_num();
    return (struct onednn_range){count * i / n, count * (i + 1) / n};
}

/* Per-thread scratch of `count` doubles each, zeroed; NULL with ctx->error set. */
double *onednn_partial(struct ff_ops_ctx *ctx, int64_t count);

/* Kernels over rows [0, rows) of channel-last data, C a multiple of 16 unless said. One
 * source, compiled for several instruction sets; same operations in the same order, so
 * the same bits on each (no contraction). */
struct onednn_rows {
    const char *isa;
    /* sum, sum_sq (C) f64 += over the rows of x. */
    void (*stats)(double *sum, double *sum_sq, const float *x, int64_t rows, int C);
    /* y = act(scale x + shift) + residual; see ff_ops.bn_apply. */
    void (*apply)(float *y, const float *x, const float *scale, const float *shift,
                  const float *slope, const float *residual,
                  const float *residual_scale, const float *residual_shift,
                  int64_t rows, int C);
    /* (3, C) f64 += sum dy, sum dy xhat, sum slope gradient; see ff_ops.bn_bwd_reduce.
     */
    void (*bwd_reduce)(double *sums, const float *dout, const float *x,
                       const float *scale, const float *shift, const float *mean,
                       const float *invstd, const float *slope, int64_t rows, int C);
    /* dx = a dy + b x + c + add with per-channel a, b, c; dy as in bwd_reduce. */
    void (*bwd_apply)(float *dx, const float *dout, const float *x, const float *scale,
                      const float *shift, const float *slope, const float *a,
                      const float *b, const float *c, const float *add, int64_t rows,
                      int C);
    /* y (C) = sum over taps t and j < share of w[t][j C + c] x[t][c - c % share + j];
     * share = channels of a group, 1 or 2. */
    void (*group_sum)(float *y, const float *const *x, const float *const *w, int taps,
                      int share, int C);
    /* sums (share, C) f64 += sum over i < count of dy[i C + c] x[i x_step + c - c %
     * share + j]. */
    void (*group_products)(double *sums, const float *x, int64_t x_step,
                           const float *dy, int64_t count, int share, int C);
    /* SGD over n elements, any n: v = momentum v + factor g + decay w; w -= lr v. */
    void (*sgd)(float *w, float *v, const float *g, float factor, float momentum,
                float decay, float lr, int64_t n);
    /* Sum of squares of n elements, any n, and whether all are finite. */
    double (*sum_squares)(bool *finite, const float *x, int64_t n);
    /* In place over n logits: x = exp(x - max); returns the sum. */
    double (*exp_sum)(float *x, float max, int64_t n);
};
extern const struct onednn_rows onednn_rows_base;
#ifdef __x86_64__
extern const struct onednn_rows onednn_rows_v3, onednn_rows_v4;
#endif

/* onednn_conv.c */
int onednn_conv_create(struct ff_ops_ctx *ctx, struct ff_conv **conv,
                       const struct ff_conv_shape *shape, bool training,
                       struct ff_err *err);
void onednn_conv_destroy(struct ff_ops_ctx *ctx, struct ff_conv *conv);
void onednn_conv_pack(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                      const struct ff_tensor *weight);
void onednn_conv_fwd(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                     struct ff_tensor *dst, const struct ff_tensor *src,
                     struct ff_tensor *stats);
void onednn_conv_bwd_data(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                          struct ff_tensor *dsrc, const struct ff_tensor *ddst,
                          const struct ff_tensor *add);
void onednn_conv_bwd_weights(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                             struct ff_tensor *dweight, const struct ff_tensor *src,
                             const struct ff_tensor *ddst);

/* onednn_group.c: the same for groups > 1; weights in two packed layouts. */
struct onednn_group;
int onednn_group_create(struct ff_ops_ctx *ctx, struct onednn_group **group,
                        const struct ff_conv_shape *shape, struct ff_err *err);
void onednn_group_destroy(struct onednn_group *group);
void onednn_group_pack(struct onednn_group *group, const float *weight);
void onednn_group_fwd(struct ff_ops_ctx *ctx, struct onednn_group *group, float *dst,
                      const float *src);
void onednn_group_bwd_data(struct ff_ops_ctx *ctx, struct onednn_group *group,
                           float *dsrc, const float *ddst);
void onednn_group_bwd_weights(struct ff_ops_ctx *ctx, struct onednn_group *group,
                              float *dweight, const float *src, const float *ddst);

/* onednn_bn.c */
void onednn_bn_stats(struct ff_ops_ctx *ctx, struct ff_tensor *stats,
                     const struct ff_tensor *src, int64_t M, int C);
void onednn_bn_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                     const struct ff_tensor *src, const struct ff_bn *bn,
                     const struct ff_tensor *slope, const struct ff_tensor *residual,
                     const struct ff_bn *residual_bn, struct ff_tensor *stats,
                     int64_t M);
void onednn_bn_bwd_reduce(struct ff_ops_ctx *ctx, struct ff_tensor *dweight,
                          struct ff_tensor *dbias, struct ff_tensor *dslope,
                          const struct ff_tensor *ddst, const struct ff_tensor *src,
                          const struct ff_bn *bn, const struct ff_tensor *slope,
                          int64_t M);
void onednn_bn_bwd_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                         const struct ff_tensor *ddst, const struct ff_tensor *src,
                         const struct ff_bn *bn, const struct ff_tensor *slope,
                         const struct ff_tensor *dweight, const struct ff_tensor *dbias,
                         const struct ff_tensor *add, const struct ff_bn_next *next,
                         int64_t M);

/* onednn_linear.c, onednn_input.c, onednn_head.c, onednn_sgd.c */
void onednn_linear_fwd(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                       const struct ff_tensor *src, const struct ff_tensor *weight,
                       const struct ff_tensor *bias, int N, int F, int D);
void onednn_linear_bwd(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                       struct ff_tensor *dweight, struct ff_tensor *dbias,
                       const struct ff_tensor *ddst, const struct ff_tensor *src,
                       const struct ff_tensor *weight, int N, int F, int D);
void onednn_input(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const uint8_t *pixels,
                  const uint8_t *flip, int N, int H, int W);
int onednn_head_create(struct ff_ops_ctx *ctx, struct ff_head_plan **head,
                       const struct ff_head_shape *shape, struct ff_err *err);
void onednn_head_destroy(struct ff_ops_ctx *ctx, struct ff_head_plan *head);
void onednn_head_fwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     const struct ff_tensor *embedding, const struct ff_tensor *weight,
                     const int64_t *label);
void onednn_head_bwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     struct ff_tensor *dembedding, const struct ff_tensor *embedding,
                     const struct ff_tensor *weight);
void onednn_head_update(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                        struct ff_tensor *weight, struct ff_tensor *velocity,
                        const struct ff_sgd *sgd);
void onednn_grad_check(struct ff_ops_ctx *ctx, const struct ff_tensor *dbackbone,
                       const struct ff_head_plan *head);
void onednn_sgd(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                struct ff_tensor *velocity, const struct ff_tensor *dweight,
                const struct ff_sgd *sgd);
/* The centres' gradient (CLS, D) that head_bwd left. */
const struct ff_tensor *onednn_head_dweight(const struct ff_head_plan *head);

#endif
