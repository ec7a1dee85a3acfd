/* SPDX-License-Identifier: MIT */
/* What the files of the ref backend share. Some entries do O(C) work and serve the
 * onednn backend too. */
#ifndef FF_REF_PRIV_H
#define FF_REF_PRIV_H

#include "ops.h"

/* Common start of every CPU context; the ops of ref/ need no more than this. */
struct ff_ops_ctx {
    int threads;
    struct ff_err error; /* first failure since the last sync */
    struct ff_step step; /* values of the present one */
    float loss;          /* of the last head_fwd */
    struct ff_loss_scale loss_scale;
    struct ff_step_result result;
    char description[256];
};

static inline float *ff_f32(const struct ff_tensor *t)
{
    return t ? (float *)t->data : (float *)0;
}
static inline double *ff_f64(const struct ff_tensor *t)
{
    return (double *)t->data;
}

/* Host memory, shared by both CPU backends (ref_memory.c). */
int ff_ref_alloc(struct ff_ops_ctx *ctx, struct ff_tensor *t, int64_t count,
                 int element_bytes, struct ff_err *err);
void ff_ref_free(struct ff_ops_ctx *ctx, struct ff_tensor *t);
void ff_ref_upload(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const float *src);
void ff_ref_download(struct ff_ops_ctx *ctx, float *dst, const struct ff_tensor *src);
int ff_ref_sync(struct ff_ops_ctx *ctx, struct ff_err *err);
const char *ff_ref_describe(struct ff_ops_ctx *ctx);
void ff_ref_step(struct ff_ops_ctx *ctx, const struct ff_step *step,
                 void (*queue)(void *arg), void *arg);
float ff_ref_loss(struct ff_ops_ctx *ctx);
void ff_ref_step_result(struct ff_ops_ctx *ctx, struct ff_step_result *result);
struct ff_loss_scale ff_ref_loss_scale(struct ff_ops_ctx *ctx);
void ff_ref_set_loss_scale(struct ff_ops_ctx *ctx, const struct ff_loss_scale *scale);

/* ref_conv.c */
int ff_ref_conv_create(struct ff_ops_ctx *ctx, struct ff_conv **conv,
                       const struct ff_conv_shape *shape, bool training,
                       struct ff_err *err);
void ff_ref_conv_destroy(struct ff_ops_ctx *ctx, struct ff_conv *conv);
void ff_ref_conv_pack(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                      const struct ff_tensor *weight);
void ff_ref_conv_fwd(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                     struct ff_tensor *dst, const struct ff_tensor *src,
                     struct ff_tensor *stats);
void ff_ref_conv_bwd_data(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                          struct ff_tensor *dsrc, const struct ff_tensor *ddst,
                          const struct ff_tensor *add);
void ff_ref_conv_bwd_weights(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                             struct ff_tensor *dweight, const struct ff_tensor *src,
                             const struct ff_tensor *ddst);

/* ref_bn.c */
void ff_ref_bn_stats(struct ff_ops_ctx *ctx, struct ff_tensor *stats,
                     const struct ff_tensor *src, int64_t M, int C);
void ff_ref_bn_finalize(struct ff_ops_ctx *ctx, struct ff_bn *bn,
                        const struct ff_tensor *stats, int64_t M);
void ff_ref_bn_finalize_running(struct ff_ops_ctx *ctx, struct ff_bn *bn);
void ff_ref_bn_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                     const struct ff_tensor *src, const struct ff_bn *bn,
                     const struct ff_tensor *slope, const struct ff_tensor *residual,
                     const struct ff_bn *residual_bn, struct ff_tensor *stats,
                     int64_t M);
void ff_ref_bn_bwd_reduce(struct ff_ops_ctx *ctx, struct ff_tensor *dweight,
                          struct ff_tensor *dbias, struct ff_tensor *dslope,
                          const struct ff_tensor *ddst, const struct ff_tensor *src,
                          const struct ff_bn *bn, const struct ff_tensor *slope,
                          int64_t M);
void ff_ref_bn_bwd_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                         const struct ff_tensor *ddst, const struct ff_tensor *src,
                         const struct ff_bn *bn, const struct ff_tensor *slope,
                         const struct ff_tensor *dweight, const struct ff_tensor *dbias,
                         const struct ff_tensor *add, const struct ff_bn_next *next,
                         int64_t M);

/* ref_linear.c, ref_input.c, ref_head.c, ref_sgd.c */
void ff_ref_linear_fwd(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                       const struct ff_tensor *src, const struct ff_tensor *weight,
                       const struct ff_tensor *bias, int N, int F, int D);
void ff_ref_linear_bwd(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                       struct ff_tensor *dweight, struct ff_tensor *dbias,
                       const struct ff_tensor *ddst, const struct ff_tensor *src,
                       const struct ff_tensor *weight, int N, int F, int D);
void ff_ref_input(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const uint8_t *pixels,
                  const uint8_t *flip, int N, int H, int W);
int ff_ref_head_create(struct ff_ops_ctx *ctx, struct ff_head_plan **head,
                       const struct ff_head_shape *shape, struct ff_err *err);
void ff_ref_head_destroy(struct ff_ops_ctx *ctx, struct ff_head_plan *head);
void ff_ref_head_pack(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                      const struct ff_tensor *weight);
void ff_ref_head_fwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     const struct ff_tensor *embedding, const struct ff_tensor *weight,
                     const int64_t *label);
void ff_ref_head_bwd(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     struct ff_tensor *dembedding, const struct ff_tensor *embedding,
                     const struct ff_tensor *weight);
void ff_ref_head_update(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                        struct ff_tensor *weight, struct ff_tensor *velocity,
                        const struct ff_sgd *sgd);
void ff_ref_grad_check(struct ff_ops_ctx *ctx, const struct ff_tensor *dbackbone,
                       const struct ff_head_plan *head);
void ff_ref_sgd(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                struct ff_tensor *velocity, const struct ff_tensor *dweight,
                const struct ff_sgd *sgd);
/* The centres' gradient (CLS, D) that head_bwd left. */
const struct ff_tensor *ff_ref_head_dweight(const struct ff_head_plan *head);

#endif
