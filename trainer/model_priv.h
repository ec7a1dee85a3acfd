/* SPDX-License-Identifier: MIT */
/* What model.c (memory, parameters, values) shares with the networks' own files, which
 * hold their plan and passes: iresnet.c and mbf.c. */
#ifndef FF_MODEL_PRIV_H
#define FF_MODEL_PRIV_H

#include "model.h"

/* A convolution with its weight views. */
struct conv_layer {
    const struct ff_named *named; /* of the weight */
    struct ff_conv *plan;
    int stride, pad, groups;          /* groups without padding */
    struct ff_tensor weight, dweight; /* (K, R, S, C / groups) */
};

/* A BN with gradients; the fixed-weight BN1d has its dweight in scratch. */
struct bn_layer {
    const struct ff_named *named; /* of the weight */
    struct ff_bn bn;
    struct ff_tensor dweight, dbias; /* (C) */
    int64_t M;
};

struct prelu_layer {
    const struct ff_named *named;
    struct ff_tensor slope, dslope; /* (C) */
};

struct builder;
struct iresnet; /* iresnet.c */
struct mbf;     /* mbf.c */

/* What a network's file gives to model.c. */
struct ff_network {
    /* Names, plans and activations, in the order of the pass; called twice. */
    void (*walk)(struct builder *b);
    /* net->input -> net->features (N, F), and back from net->dfeatures. */
    void (*forward)(struct ff_model *m);
    void (*backward)(struct ff_model *m);
    /* Tells the layers up to the features; x, result: value numbers. */
    int (*trace)(const struct ff_model *m, const struct ff_trace *t, int x);
    void (*destroy)(struct ff_net *net); /* host memory of its own */
};
extern const struct ff_network ff_iresnet, ff_mbf;

enum { POOL_SLOTS = 5 };     /* what a block needs at once */
enum { SLOT_FEATURES = -1 }; /* f32 memory of its own in both modes */

struct ff_net {
    const struct ff_network *network;
    struct iresnet *iresnet; /* the one in use */
    struct mbf *mbf;
    struct conv_layer **convs; /* all of them, for pack and destroy */
    int conv_count, conv_capacity;
    struct ff_tensor input;             /* (N, H, W, input_channels) */
    struct ff_tensor features;          /* (N, F) f32: the last activation */
    int F;                              /* inputs of the linear layer, padded */
    struct ff_tensor linear, embedding; /* (N, D) */
    const struct ff_named *fc_named;
    struct ff_tensor fc_weight, fc_bias, dfc_weight, dfc_bias; /* bias: may be empty */
    struct bn_layer embedding_bn;
    struct ff_tensor dfeatures, dlinear; /* (N, F), (N, D) f32 */
    struct ff_tensor dout, da, dz;       /* gradients in flight, as activations */
    struct ff_tensor stats, stats2;      /* (2, C) f64: of convolutions */
    struct ff_tensor out_stats;          /* (2, C) f64: of applied BNs */
    struct ff_tensor fixed_dweight;      /* (D): gradient that nobody uses */
    struct ff_tensor *owned;             /* what ff_model_destroy frees */
    int owned_count, owned_capacity;
    struct ff_tensor pool[POOL_SLOTS]; /* eval mode: activations shared by all blocks */
};

/* -- building (model.c) -- */

/* State of a walk. */
struct builder {
    struct ff_model *m;
    bool counting;
    int next_named;
    int64_t trained_count, buffer_count;
    int64_t largest_activation;
    int64_t bytes; /* of all but the blocks of parameters */
    int widest;    /* channels of the widest BN, padded */
    int rc;
    struct ff_err *err;
};

/* Channels rounded up to the backend's multiple. */
int ff_build_padded(const struct builder *b, int channels);
/* BN over M rows; parameters weight, bias, running_mean, running_var under prefix. */
void ff_build_bn(struct builder *b, struct bn_layer *layer, const char *prefix,
                 int channels, int64_t M);
void ff_build_prelu(struct builder *b, struct prelu_layer *layer, const char *prefix,
                    int channels);
/* Square convolution of an activation of side x side; init NORMAL with this std.
 * `pixels`: reads the network's input. */
struct ff_build_conv {
    int in, out, kernel, stride, pad, side;
    int share; /* 0 = dense; else channels of a group, in = out */
    double std;
    bool pixels;
};
void ff_build_conv(struct builder *b, struct conv_layer *layer, const char *prefix,
                   const struct ff_build_conv *shape);
/* An activation: its own memory in training; in eval mode a view of pool[slot]. */
void ff_build_activation(struct builder *b, struct ff_tensor *t, int slot,
                         int64_t count);
/* Linear layer from (N, side, side, channels) and the embedding's BN1d. */
struct ff_build_embedding {
    const char *linear, *bn; /* prefixes */
    int channels, side;
    bool has_bias, fixed_bn_weight;
    struct ff_init init; /* of linear weight and bias */
};
void ff_build_embedding(struct builder *b, const struct ff_build_embedding *e);

/* -- passes (model.c) -- */

/* Statistics of the batch in training, the running ones in eval mode. */
void ff_pass_bn_finalize(struct ff_model *m, struct bn_layer *layer,
                         const struct ff_tensor *stats);
/* dsrc = gradient of act(BN(src)) by src, given ddst, plus add; with the sums of the BN
 * that dsrc goes to next, or NULL. */
void ff_pass_bn_backward(struct ff_model *m, struct ff_tensor *dsrc,
                         const struct ff_tensor *ddst, const struct ff_tensor *src,
                         struct bn_layer *layer, struct prelu_layer *prelu,
                         const struct ff_tensor *add, const struct ff_bn_next *next);
/* The same of a BN that was the next of what wrote ddst: its own sums are there. */
void ff_pass_bn_backward_next(struct ff_model *m, struct ff_tensor *dsrc,
                              const struct ff_tensor *ddst, const struct ff_tensor *src,
                              struct bn_layer *layer, struct prelu_layer *prelu,
                              const struct ff_tensor *add,
                              const struct ff_bn_next *next);
/* Gradient of the weights, and where dsrc is not NULL of src, plus add. */
void ff_pass_conv_backward(struct ff_model *m, struct conv_layer *conv,
                           struct ff_tensor *dsrc, const struct ff_tensor *src,
                           const struct ff_tensor *ddst, const struct ff_tensor *add);

/* -- traces (model.c): the layer told to t, its value -- */

int ff_trace_conv(const struct ff_trace *t, int x, const struct conv_layer *layer);
int ff_trace_bn(const struct ff_trace *t, int x, const struct bn_layer *layer);
int ff_trace_prelu(const struct ff_trace *t, int x, const struct prelu_layer *layer);

#endif
