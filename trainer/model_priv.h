/* SPDX-License-Identifier: MIT */
/* Layers and activations of a network: shared by model.c (plan, parameters) and
 * model_pass.c (forward, backward). */
#ifndef FF_MODEL_PRIV_H
#define FF_MODEL_PRIV_H

#include "model.h"

/* A convolution with its weight views. */
struct conv_layer {
    struct ff_conv *plan;
    struct ff_tensor weight, dweight; /* (K, R, S, C) */
};

/* A BN with gradients; the fixed-weight BN1d has its dweight in scratch. */
struct bn_layer {
    struct ff_bn bn;
    struct ff_tensor dweight, dbias; /* (C) */
    int64_t M;
};

struct prelu_layer {
    struct ff_tensor slope, dslope; /* (C) */
};

/* One residual block: out = BN3(conv2(PReLU(BN2(conv1(BN1(x)))))) + shortcut. */
struct block {
    struct bn_layer bn1, bn2, bn3, bn_shortcut;
    struct conv_layer conv1, conv2, conv_shortcut;
    struct prelu_layer prelu;
    bool has_shortcut;
    struct ff_tensor x;              /* (N, H, W, C) input: the previous output */
    struct ff_tensor a1, z1, a2;     /* BN1(x), conv1, PReLU(BN2): (N, H, W, K) */
    struct ff_tensor z2, z_shortcut; /* conv2, shortcut conv: (N, P, Q, K) */
    struct ff_tensor out;            /* (N, P, Q, K) */
};

struct ff_net {
    struct conv_layer stem;
    struct bn_layer stem_bn, last_bn, embedding_bn;
    struct prelu_layer stem_prelu;
    struct block *blocks;
    int block_count;
    int F; /* inputs of the linear layer, padded */
    struct ff_tensor fc_weight, fc_bias, dfc_weight, dfc_bias;
    struct ff_tensor input, stem_z, stem_out; /* pixels, conv, PReLU(BN) */
    struct ff_tensor flat, linear, embedding; /* (N, F), (N, D), (N, D) */
    struct ff_tensor dout, da, dz, dlinear;   /* gradients in flight */
    struct ff_tensor stats, stats2;           /* (2, C) f64 */
    struct ff_tensor fixed_dweight;           /* (D): gradient that nobody uses */
    struct ff_tensor *owned;                  /* what ff_model_destroy frees */
    int owned_count, owned_capacity;
    struct ff_tensor pool[8]; /* eval mode: activations shared by all blocks */
};

#endif
