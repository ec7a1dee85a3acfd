/* SPDX-License-Identifier: MIT */
/* A backbone over the op table, with its parameters: insightface's IResNet (iresnet.c)
 * or MobileFaceNet (mbf.c).
 *
 * Trained parameters, gradients and momentum are one block of f32 each, with named
 * views; BN running statistics are a block of their own. On the outside a tensor has
 * insightface's state_dict name and shape; padding and channel-last order stay inside.
 */
#ifndef FF_MODEL_H
#define FF_MODEL_H

#include "ops.h"

/* The shape of a network; ff_model_config_from takes it from parameters. */
struct ff_model_config {
    int backbone; /* enum ff_backbone */
    double width;
    int image_size_px;
    int embedding; /* D */
};
struct ff_model_config ff_model_config_from(const struct ff_params *params);

/* How a named tensor lies in its block. */
enum ff_layout {
    FF_LAYOUT_VECTOR, /* (C): padded channels */
    FF_LAYOUT_CONV,   /* (K, C / groups, R, S) outside; (K, R, S, C / groups) inside */
    FF_LAYOUT_FC,     /* (D, C*H*W) outside; (D, H, W, C) padded inside */
};

/* How values start: all `scale`, N(0, scale), or uniform in +-scale. */
struct ff_init {
    enum { FF_INIT_CONSTANT, FF_INIT_NORMAL, FF_INIT_UNIFORM } kind;
    double scale;
};

struct ff_named {
    char name[64]; /* "layer1.0.conv1.weight" */
    struct ff_init init;
    enum ff_layout layout;
    int ndim, dims[4];     /* outside, as in the state_dict */
    bool trained;          /* in the parameter block, else in the buffer block */
    int64_t offset, count; /* inside the block, padded */
    int padded_c, padded_k, spatial; /* inside shape: channels, outputs, side (FC) */
};

struct ff_model {
    const struct ff_ops *ops;
    struct ff_ops_ctx *ctx;
    struct ff_model_config config;
    int N; /* batch of every pass */
    bool training;
    struct ff_tensor weight, dweight, velocity; /* trained parameters, one block each */
    struct ff_tensor buffer; /* running_mean, running_var, fixed weight */
    struct ff_named *named;
    int named_count;
    int64_t batches_tracked; /* num_batches_tracked of every BN; counted by the caller,
                                since a replayed step runs no code of the model */
    int64_t bytes;           /* of device memory: parameters, activations, gradients */
    struct ff_net *net;      /* layers and activations (model_priv.h) */
};

/* Device memory that ff_model_create will take, without the backend's own plans. */
int ff_model_bytes(int64_t *bytes, const struct ff_ops *ops,
                   const struct ff_model_config *config, int N, bool training,
                   struct ff_err *err);
/* Plans a network for batches of N. Weights are zero until init or load. FF_ENOMEM. */
int ff_model_create(struct ff_model **out, const struct ff_ops *ops,
                    struct ff_ops_ctx *ctx, const struct ff_model_config *config, int N,
                    bool training, struct ff_err *err);
void ff_model_destroy(struct ff_model *model);

/* insightface's initialisation. IResNet: conv N(0, 0.1), linear uniform in
 * +-1/sqrt(fan_in); mbf: conv and linear Kaiming normal over fan_out. BN weight 1 bias
 * 0, PReLU 0.25, running_mean 0, running_var 1. A pure function of (seed, name,
 * element).
 */
int ff_model_init(struct ff_model *model, uint64_t seed, struct ff_err *err);

/* Values of one named tensor of `block` (weight, velocity or buffer) in outside shape
 * and order; count = product of dims. The caller frees *values of get. */
int ff_model_get(float **values, const struct ff_model *model,
                 const struct ff_named *named, const struct ff_tensor *block,
                 struct ff_err *err);
int ff_model_set(struct ff_model *model, const struct ff_named *named,
                 struct ff_tensor *block, const float *values, struct ff_err *err);
int64_t ff_named_size(const struct ff_named *named); /* product of dims */

/* To be called after the weights changed and before the next forward. */
void ff_model_pack(struct ff_model *model);

/* pixels (N, H, W, 3) u8, flip (N) or NULL -> embedding (N, D) f32 on the device,
 * borrowed; pixels NULL: those of the step. A training model uses batch statistics and
 * moves the running ones. */
const struct ff_tensor *ff_model_forward(struct ff_model *model, const uint8_t *pixels,
                                         const uint8_t *flip);
/* After a training forward: dembedding (N, D) -> dweight, whole. */
void ff_model_backward(struct ff_model *model, const struct ff_tensor *dembedding);

/* The network as a graph, for export: ff_model_trace calls these in the order of the
 * pass. Values are numbers that the receiver gives out; a layer's tensors are named
 * prefix + ".weight" and so on, and `linear` flattens in C, H, W order. */
struct ff_trace {
    void *context;
    int (*conv)(void *context, int x, const char *prefix, int stride, int pad,
                int groups);
    int (*bn)(void *context, int x, const char *prefix);
    int (*prelu)(void *context, int x, const char *prefix);
    int (*add)(void *context, int a, int b);
    int (*linear)(void *context, int x, const char *prefix, bool has_bias);
};
/* The embedding's value for the input's. */
int ff_model_trace(const struct ff_model *model, const struct ff_trace *t, int input);

/* The backbone (enum ff_backbone) whose stages have these numbers of blocks; -1 = none.
 */
int ff_iresnet_of_blocks(const int blocks[4]);

/* Trained parameters without padding. */
int64_t ff_model_parameter_count(const struct ff_model *model);

#endif
