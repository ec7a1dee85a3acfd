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
 * nothing; the first failure is kept by the context and reported by `sync`. Tensors are
 * device memory: host code moves data by upload and download only. Activations and
 * their gradients, from the network's input to the input of the last BN before the
 * linear layer, have `activation_bytes` an element; everything else is f32.
 *
 * A training step is given to `step` as a function that queues its ops. What changes
 * from one step to the next (pixels, labels, LR) travels in struct ff_step; all other
 * arguments stay, so that a backend can record a step once and replay it. */
#ifndef FF_OPS_H
#define FF_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"
#include "params.h"

/* Device memory of `count` elements: f32, f64 where a comment says so, or activations.
 */
struct ff_tensor {
    void *data; /* the backend's; not for host code */
    int64_t count;
    int element_bytes;
};

/* A part of a tensor, starting at element `offset`. */
struct ff_tensor ff_tensor_view(const struct ff_tensor *t, int64_t offset,
                                int64_t count);

struct ff_conv_shape {
    int N, C, H, W, K, R, S, stride, pad;
    int groups; /* 1, or with C = K: outputs of a group see its inputs alone */
    int pixels; /* 1: src is the network's input; conv_bwd_data is not called */
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

/* The BN whose backward pass comes next, of as many channels: its ddst is the result of
 * the bn_bwd_apply that is given this, which then also leaves its sums, as
 * bn_bwd_reduce would. slope and dslope may be NULL. */
struct ff_bn_next {
    struct ff_tensor *dweight, *dbias, *dslope;
    const struct ff_tensor *src;
    const struct ff_bn *bn;
    const struct ff_tensor *slope;
};

struct ff_head_shape {
    int N, D;
    int64_t CLS;
    int kind;        /* enum ff_head */
    int margin_grad; /* enum ff_margin_grad */
    float scale, margin;
};

struct ff_sgd {
    double momentum, weight_decay;
    double clip_norm; /* of the backbone's gradient; 0 = none */
};

/* What changes from one training step to the next. Host memory, borrowed by the call.
 */
struct ff_step {
    int N;
    int64_t image_bytes;   /* H * W * 3 */
    const uint8_t *pixels; /* (N, H, W, 3), for `input` without pixels of its own */
    const uint8_t *flip;   /* (N) or NULL */
    const int64_t *label;  /* (N), for `head_fwd` without labels of its own */
    double lr;
};

/* Dynamic loss scale (paper.md): doubled after FF_SCALE_GROWTH_STEPS finite steps in a
 * row, halved after one that was not. 1 and never changed where no half is in use. */
struct ff_loss_scale {
    double value;
    int64_t good_steps; /* finite steps since the last change */
};
#define FF_SCALE_START 65536.0
#define FF_SCALE_GROWTH_STEPS 100

/* What one training step leaves for the host. */
struct ff_step_result {
    double grad_norm;  /* L2 norm of the unscaled backbone gradient, before clipping */
    double loss_scale; /* that the step used */
    bool finite;       /* every gradient of backbone and head was finite */
};

struct ff_conv; /* plan of one convolution shape with its packed weights */
struct ff_head_plan;
struct ff_ops_ctx;

struct ff_ops {
    const char *name;
    int channel_align;    /* of every activation but the network's input */
    int input_channels;   /* of the network's input: 3, or more with zeros */
    int activation_bytes; /* 4 (f32) or 2 (fp16, bf16); with 2, convolutions have a copy
                           * of their weights and gradients in halves too */
    bool overlaps; /* a step's result comes late: ask for it once the next is queued */
    /* conv_bwd_weights runs beside the ops that follow; one that writes its ddst waits
     * for it. */
    bool weights_beside;

    void (*destroy)(struct ff_ops_ctx *ctx);
    /* One line on device, library version and instruction set, for the record.
     * Borrowed. */
    const char *(*describe)(struct ff_ops_ctx *ctx);
    /* Energy in J that the device, all its users together, took since some moment
     * before the open: differences count; and its power in W. NaN where not known.
     * They may be called while work is queued and wait for none. (both optional, NULL
     * if absent) */
    double (*energy_joules)(struct ff_ops_ctx *ctx);
    double (*power_watts)(struct ff_ops_ctx *ctx);

    /* -- memory -- */
    /* `count` elements of 2 (activations), 4 (f32) or 8 (f64) bytes, zero-filled.
     * FF_ENOMEM with bytes. */
    int (*alloc)(struct ff_ops_ctx *ctx, struct ff_tensor *t, int64_t count,
                 int element_bytes, struct ff_err *err);
    void (*free)(struct ff_ops_ctx *ctx, struct ff_tensor *t);
    /* f32 on the host's side, whatever the tensor holds. */
    void (*upload)(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const float *src);
    void (*download)(struct ff_ops_ctx *ctx, float *dst, const struct ff_tensor *src);
    /* Bytes that could still be allocated. (optional, NULL if absent) */
    int64_t (*memory_free)(struct ff_ops_ctx *ctx);
    /* Before anything is allocated: FF_ENOMEM with `what` if so many bytes are not
     * there. Where it is for other programs on the device, the message begins with
     * FF_SAYS_GPU_FULL and names them, here and in `alloc`. (present where memory_free
     * is) */
    int (*memory_check)(struct ff_ops_ctx *ctx, int64_t bytes, const char *what,
                        struct ff_err *err);
    /* Waits for all queued work; first failure since the last sync. */
    int (*sync)(struct ff_ops_ctx *ctx, struct ff_err *err);

    /* -- training steps -- */
    /* Takes the values of `step` over, then queues the ops that `queue` calls: the same
     * ops with the same arguments at every step of a run. queue NULL: the values alone,
     * for ops that are called one by one. */
    void (*step)(struct ff_ops_ctx *ctx, const struct ff_step *step,
                 void (*queue)(void *arg), void *arg);
    /* Mean loss of the last head_fwd; waits for it, and for no more. NaN after a
     * failure. */
    float (*loss)(struct ff_ops_ctx *ctx);
    /* Losses since the open that were known only once all queued work was done: nothing
     * ran beside the host. (optional, NULL if absent) */
    int64_t (*late_losses)(struct ff_ops_ctx *ctx);
    /* Of the oldest step not asked for yet; waits for its end. */
    void (*step_result)(struct ff_ops_ctx *ctx, struct ff_step_result *result);
    /* The loss scale after all queued steps, and its restoring from a checkpoint. */
    struct ff_loss_scale (*loss_scale)(struct ff_ops_ctx *ctx);
    void (*set_loss_scale)(struct ff_ops_ctx *ctx, const struct ff_loss_scale *scale);
    /* What was chosen while running and fixes the bits: lines of text, for a
     * checkpoint; and its restoring before plans are made. (optional, NULL if absent)
     * The caller frees *text. */
    int (*choices)(struct ff_ops_ctx *ctx, char **text, struct ff_err *err);
    int (*set_choices)(struct ff_ops_ctx *ctx, const char *text, struct ff_err *err);

    /* -- input: dst (N,H,W,input_channels) = (x/255 - 0.5)/0.5 of pixels (N,H,W,3) u8
     * in host memory, mirrored in W where flip[n] != 0 (NULL = never), extra channels
     * 0; pixels NULL: those of the step -- */
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
     * the variance there unbiased, M/(M-1), as torch.nn.BatchNorm2d. A backend may
     * leave it to the bn_apply that follows, or do it before any other op that could
     * tell. */
    void (*bn_finalize)(struct ff_ops_ctx *ctx, struct ff_bn *bn,
                        const struct ff_tensor *stats, int64_t M);
    /* scale, shift from the running statistics (eval mode). */
    void (*bn_finalize_running)(struct ff_ops_ctx *ctx, struct ff_bn *bn);
    /* dst (M, C), none of the others, = act(scale src + shift) + residual; act = PReLU
     * with slope (C), or none if slope is NULL. residual (M, C) may be NULL;
     * residual_bn, if not NULL, applies its scale and shift to it. stats of dst, NULL =
     * not wanted; best another tensor than the last finalize had. */
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
     * or dsrc itself; dsrc may be ddst. next, whose src is none of these: the sums that
     * bn_bwd_reduce would take of dsrc as it is stored; NULL = not wanted. */
    void (*bn_bwd_apply)(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                         const struct ff_tensor *ddst, const struct ff_tensor *src,
                         const struct ff_bn *bn, const struct ff_tensor *slope,
                         const struct ff_tensor *dweight, const struct ff_tensor *dbias,
                         const struct ff_tensor *add, const struct ff_bn_next *next,
                         int64_t M);

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
     * [-1, 1], margin at the label, scale, cross-entropy averaged over the batch. The
     * gradient by the centres (CLS, D) stays inside the plan -- */
    int (*head_create)(struct ff_ops_ctx *ctx, struct ff_head_plan **head,
                       const struct ff_head_shape *shape, struct ff_err *err);
    void (*head_destroy)(struct ff_ops_ctx *ctx, struct ff_head_plan *head);
    /* Device memory that head_create will take. (present where memory_free is) */
    int64_t (*head_bytes)(struct ff_ops_ctx *ctx, const struct ff_head_shape *shape);
    /* To be called after weight (CLS, D) was changed by anything but head_update. */
    void (*head_pack)(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                      const struct ff_tensor *weight);
    /* embedding (N, D); label (N) in host memory, NULL: those of the step. */
    void (*head_fwd)(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     const struct ff_tensor *embedding, const struct ff_tensor *weight,
                     const int64_t *label);
    /* After head_fwd, same tensors: dembedding (N, D) and the centres' gradient, both
     * times the loss scale. */
    void (*head_bwd)(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                     struct ff_tensor *dembedding, const struct ff_tensor *embedding,
                     const struct ff_tensor *weight);

    /* -- optimizer -- */
    /* Norm of dbackbone / loss scale, finiteness of it and of the head's gradient (head
     * NULL: none), kept for the updates; moves the loss scale for the next step. */
    void (*grad_check)(struct ff_ops_ctx *ctx, const struct ff_tensor *dbackbone,
                       const struct ff_head_plan *head);
    /* g = dweight / loss scale * c; v = momentum v + g + weight_decay w; w -= lr v,
     * with c = min(1, clip_norm / (norm + 1e-6)), or 1 if clip_norm is 0, as
     * torch.nn.utils.clip_grad_norm_ and torch.optim.SGD. Nothing where the last
     * grad_check was not finite. */
    void (*sgd)(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                struct ff_tensor *velocity, const struct ff_tensor *dweight,
                const struct ff_sgd *sgd);
    /* The same for the class centres, never clipped. */
    void (*head_update)(struct ff_ops_ctx *ctx, struct ff_head_plan *head,
                        struct ff_tensor *weight, struct ff_tensor *velocity,
                        const struct ff_sgd *sgd);
};

/* What a backend is opened for. */
struct ff_ops_options {
    int backend;        /* enum ff_backend */
    int threads;        /* >= 1, of a CPU backend */
    int precision;      /* enum ff_precision; auto = fp16 on cuda, fp32 elsewhere */
    int head_precision; /* enum ff_head_precision */
    const char *device; /* GPU number or UUID; NULL = the first */
    bool nondeterministic;
    bool tf32;           /* f32 products may be taken in TF32, on cuda */
    bool engine_search;  /* on cuda: as the parameter of that name */
    bool weights_beside; /* the same */
};

/* Opens a backend; auto picks the first that works and says which and why in *reason
 * (static or context storage; may be NULL). FF_ENODEV where the named backend is not in
 * this build or finds no device, FF_EUSAGE where it lacks the precision or that device.
 * FF_EBUSY, FF_ENOMEM, FF_EFAIL: also of auto, where there is a GPU. */
int ff_ops_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, const char **reason,
                const struct ff_ops_options *options, struct ff_err *err);

/* -- for the backends -- */
int ff_ref_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, int threads,
                struct ff_err *err);
int ff_onednn_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, int threads,
                   struct ff_err *err);

#endif
