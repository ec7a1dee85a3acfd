/* SPDX-License-Identifier: MIT */
/* The op table: the only thing that model code sees of a device.
 *
 * Dimension letters, project-wide: N batch, C input channels, H W height and width of
 * the input, K output channels, R S kernel height and width, P Q height and width of
 * the output; D embedding, CLS classes; M = N*H*W rows of a channel-last activation.
 *
 * Activations are channel-last, (N, H, W, C), with C rounded up to `channel_align` by
 * the model. Padded channels hold zeros and stay zero: every op maps zero parameters
 * and zero inputs to zero outputs and gradients, so no op knows of padding.
 *
 * The ops are the fused stages of the network. They are queued in order and return
 * nothing; the first failure is kept by the context and reported by `sync`. Tensors
 * named
 * (..) f32 are device memory: host code moves data by upload and download only. */
#ifndef FF_OPS_H
#define FF_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "params.h"

/* Device memory of `count` f32 (or f64 where a comment says so). */
struct ff_tensor {
    void *data; /* the backend's; not for host code */
    int64_t count;
};

/* A part of a tensor of f32, starting at element `offset`. */
struct ff_tensor ff_tensor_view(const struct ff_tensor *t, int64_t offset,
                                int64_t count);

struct ff_conv_shape {
    int N, C, H, W, K, R, S, stride, pad;
    int groups; /* 1, or with C = K: outputs of a group see its inputs alone */
};
static inline int ff_conv_out(int side, int kernel, int stride, int pad)
{
    return (side + 2 * pad - kernel) / stride + 1;
}

/* A BN layer: parameters and what finalize leaves for the passes. All (C) f32. */
struct ff_bn {
    int C;
    struct ff_tensor weight, bias, running_mean, running_var;
    struct ff_tensor mean, invstd; /* of the batch, kept for the backward pass */
    struct ff_tensor scale, shift; /* y = scale x + shift */
};
#define FF_BN_EPS 1e-5f     /* insightface IResNet */
#define FF_BN_MOMENTUM 0.1f /* torch default */

struct ff_head_shape {
    int N, D;
    int64_t CLS;
    int kind;        /* enum ff_head */
    int margin_grad; /* enum ff_margin_grad */
    float scale, margin;
};

struct ff_sgd {
    double lr, momentum, weight_decay;
    double clip_norm;  /* 0 = none */
    double loss_scale; /* gradients are divided by it */
};

/* What one training step leaves for the host. */
struct ff_step_result {
    double grad_norm; /* L2 norm of the unscaled backbone gradient, before clipping */
    bool finite;      /* every gradient of backbone and head was finite */
};

struct ff_conv; /* plan of one convolution shape with its packed weights */
struct ff_head_plan;
struct ff_ops_ctx;

struct ff_ops {
    const char *name;
    int channel_align;  /* of every activation but the network's input */
    int input_channels; /* of the network's input: 3, or more with zeros */

    void (*destroy)(struct ff_ops_ctx *ctx);
    /* One line on device, library version and instruction set, for the record.
     * Borrowed. */
    const char *(*describe)(struct ff_ops_ctx *ctx);

    /* -- memory -- */
    /* `count` elements of 4 (f32) or 8 (f64) bytes, zero-filled. FF_ENOMEM with bytes.
     */
    int (*alloc)(struct ff_ops_ctx *ctx, struct ff_tensor *t, int64_t count,
                 int element_bytes, struct ff_err *err);
    void (*free)(struct ff_ops_ctx *ctx, struct ff_tensor *t);
    void (*upload)(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const float *src);
    void (*download)(struct ff_ops_ctx *ctx, float *dst, const struct ff_tensor *src);
    /* Waits for all queued work; first failure since the last sync. */
    int (*sync)(struct ff_ops_ctx *ctx, struct ff_err *err);

    /* -- input: dst (N,H,W,input_channels) = (x/255 - 0.5)/0.5 of pixels (N,H,W,3) u8
     * in host memory, mirrored in W where flip[n] != 0 (NULL = never), extra channels 0
     * -- */
    void (*input)(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const uint8_t *pixels,
                  const uint8_t *flip, int N, int H, int W);

    /* -- convolution, no bias; weight and dweight (K, R, S, C / groups) f32 -- */
    int (*conv_create)(struct ff_ops_ctx *ctx, struct ff_conv **conv,
                       const struct ff_conv_shape *shape, bool training,
                       struct ff_err *err);
    void (*conv_destroy)(struct ff_ops_ctx *ctx, struct ff_conv *conv);
    /* Takes the weights over into the plan's own layouts; after every change of weight.
     */
    void (*conv_pack)(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                      const struct ff_tensor *weight);
    /* stats: see bn_stats, of dst; NULL = not wanted. */
    void (*conv_fwd)(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                     struct ff_tensor *dst, const struct ff_tensor *src,
                     struct ff_tensor *stats);
    /* dsrc = gradient by src + add; add (N, H, W, C) may be NULL and is not dsrc. */
    void (*conv_bwd_data)(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                          struct ff_tensor *dsrc, const struct ff_tensor *ddst,
                          const struct ff_tensor *add);
    void (*conv_bwd_weights)(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                             struct ff_tensor *dweight, const struct ff_tensor *src,
                             const struct ff_tensor *ddst);

    /* -- batch normalisation over M rows of C channels -- */
    /* stats (2, C) f64 = sum of x, sum of x^2 over the rows of src (M, C). */
    void (*bn_stats)(struct ff_ops_ctx *ctx, struct ff_tensor *stats,
                     const struct ff_tensor *src, int64_t M, int C);
    /* stats -> mean, invstd, scale, shift; running statistics move by FF_BN_MOMENTUM,
     * the variance there unbiased, M/(M-1), as torch.nn.BatchNorm2d. */
    void (*bn_finalize)(struct ff_ops_ctx *ctx, struct ff_bn *bn,
                        const struct ff_tensor *stats, int64_t M);
    /* scale, shift from the running statistics (eval mode). */
    void (*bn_finalize_running)(struct ff_ops_ctx *ctx, struct ff_bn *bn);
    /* dst (M, C) = act(scale src + shift) + residual; act = PReLU with slope (C), or
     * none if slope is NULL. residual (M, C) may be NULL; residual_bn, if not NULL,
     * applies its scale and shift to it. stats of dst, NULL = not wanted. */
    void (*bn_apply)(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                     const struct ff_tensor *src, const struct ff_bn *bn,
                     const struct ff_tensor *slope, const struct ff_tensor *residual,
                     const struct ff_bn *residual_bn, struct ff_tensor *stats,
                     int64_t M);
    /* Backward of act(BN(src)): with dy = ddst * act'(scale src + shift) and
     * xhat = (src - mean) invstd: dbias = sum dy, dweight = sum dy xhat, and with slope
     * dslope = sum over pre-activations <= 0 of ddst * pre. All (C) f32. */
    void (*bn_bwd_reduce)(struct ff_ops_ctx *ctx, struct ff_tensor *dweight,
                          struct ff_tensor *dbias, struct ff_tensor *dslope,
                          const struct ff_tensor *ddst, const struct ff_tensor *src,
                          const struct ff_bn *bn, const struct ff_tensor *slope,
                          int64_t M);
    /* dsrc (M, C) = scale (dy - dbias/M - xhat dweight/M) + add; add (M, C) may be NULL
     * or dsrc itself; dsrc may be ddst. */
    void (*bn_bwd_apply)(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                         const struct ff_tensor *ddst, const struct ff_tensor *src,
                         const struct ff_bn *bn, const struct ff_tensor *slope,
                         const struct ff_tensor *dweight, const struct ff_tensor *dbias,
                         const struct ff_tensor *add, int64_t M);

    /* -- linear: dst (N, D) = src (N, F) weight (D, F)^T + bias (D); bias and dbias
     * are NULL where there is none -- */
    void (*linear_fwd)(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                       const struct ff_tensor *src, const struct ff_tensor *weight,
                       const struct ff_tensor *bias, int N, int F, int D);
    void (*linear_bwd)(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                       struct ff_tensor *dweight, struct ff_tensor *dbias,
                       const struct ff_tensor *ddst, const struct ff_tensor *src,
                       const struct ff_tensor *weight, int N, int F, int D);

    /* -- margin head: cosines of L2-normalised embeddings and class centres, clamped to
     * [-1, 1], margin at the label, scale, cross-entropy averaged over the batch -- */
    int (*head_create)(struct ff_ops_ctx *ctx, struct ff_head_plan **head,
                       const struct ff_head_shape *shape, struct ff_err *err);
    void (*head_destroy)(struct ff_ops_ctx *ctx, struct ff_head_plan *head);
    /* Mean loss to *loss as soon as it is known; label (N) i64 in host memory. */
    void (*head_fwd)(struct ff_ops_ctx *ctx, struct ff_head_plan *head, float *loss,
                     const struct ff_tensor *embedding, const struct ff_tensor *weight,
                     const int64_t *label);
    /* After head_fwd, same tensors: dembedding (N, D), dweight (CLS, D). */
    void (*head_bwd)(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     struct ff_tensor *dembedding, struct ff_tensor *dweight,
                     const struct ff_tensor *embedding, const struct ff_tensor *weight);

    /* -- optimizer -- */
    /* Norm of dbackbone / loss_scale and finiteness of both blocks, kept for sgd. */
    void (*grad_check)(struct ff_ops_ctx *ctx, const struct ff_tensor *dbackbone,
                       const struct ff_tensor *dhead, const struct ff_sgd *sgd);
    /* g = dweight / loss_scale * c; v = momentum v + g + weight_decay w; w -= lr v,
     * with c = min(1, clip_norm / (norm + 1e-6)) if `clipped` and clip_norm > 0, else
     * 1, as torch.nn.utils.clip_grad_norm_ and torch.optim.SGD. Nothing where the last
     * grad_check was not finite. */
    void (*sgd)(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                struct ff_tensor *velocity, const struct ff_tensor *dweight,
                const struct ff_sgd *sgd, bool clipped);
    void (*step_result)(struct ff_ops_ctx *ctx, struct ff_step_result *result);
};

/* Opens a backend: enum ff_backend; auto picks the first that works and says which and
 * why in *reason (static or context storage; may be NULL). threads >= 1 for CPU
 * backends. FF_EUSAGE where the named backend is not in this build or finds no device.
 */
int ff_ops_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, const char **reason,
                int backend, int threads, struct ff_err *err);

/* -- for the backends -- */
int ff_ref_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, int threads,
                struct ff_err *err);
int ff_onednn_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, int threads,
                   struct ff_err *err);

#endif
