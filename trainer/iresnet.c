/* SPDX-License-Identifier: MIT */
/* IResNet, insightface's: plan and passes.
 *
 * stem conv3x3-BN-PReLU; four stages of blocks BN-conv3x3-BN-PReLU-conv3x3(stride)-BN
 * plus shortcut; BN.
 *
 * Forward, per block: the statistics that BN1 needs come with the pass that wrote x, in
 * a tensor of their own: that pass may still have to read those of the convolutions;
 * each convolution hands its own to the next BN. Backward, per block, with dout in
 * net->dout: BN3 applies (and the shortcut's BN reduces and applies), conv2, BN2 +
 * PReLU, conv1, BN1, whose apply adds the shortcut's gradient; the sum is the next
 * block's dout, in the same buffer, and the same pass reduces it for that block's BN3.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_priv.h"

#define CONV_STD 0.1 /* of the initial weights, insightface */

static const int blocks_per_stage[][4] = {
    [FF_BACKBONE_R18] = {2, 2, 2, 2},    [FF_BACKBONE_R34] = {3, 4, 6, 3},
    [FF_BACKBONE_R50] = {3, 4, 14, 3},   [FF_BACKBONE_R100] = {3, 13, 30, 3},
    [FF_BACKBONE_R200] = {6, 26, 60, 6},
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

struct iresnet {
    struct conv_layer stem;
    struct bn_layer stem_bn, last_bn;
    struct prelu_layer stem_prelu;
    struct ff_tensor stem_z, stem_out; /* conv, PReLU(BN) */
    int block_count;
    struct block blocks[];
};

static void conv(struct builder *b, struct conv_layer *layer, const char *prefix,
                 int in, int out, int kernel, int stride, int side)
{
    const struct ff_build_conv shape = {.in = in,
                                        .out = out,
                                        .kernel = kernel,
                                        .stride = stride,
                                        .pad = kernel / 2,
                                        .side = side,
                                        .std = CONV_STD,
                                        .pixels = layer == &b->m->net->iresnet->stem};
    ff_build_conv(b, layer, prefix, &shape);
}

/* A block's activations in eval mode: x and out alternate between slots 0 and 1. */
enum { SLOT_A = 2, SLOT_Z = 3, SLOT_SHORTCUT = 4 };

static void block(struct builder *b, struct block *k, int index, const char *prefix,
                  int in, int out, int stride, int side)
{
    int N = b->m->N, out_side = side / stride;
    int64_t rows = (int64_t)N * side * side,
            out_rows = (int64_t)N * out_side * out_side;
    int c_in = ff_build_padded(b, in), c_out = ff_build_padded(b, out);
    char name[48];
#define NAME(suffix) (snprintf(name, sizeof name, "%s.%s", prefix, suffix), name)
    k->has_shortcut = stride != 1;
    ff_build_bn(b, &k->bn1, NAME("bn1"), in, rows);
    conv(b, &k->conv1, NAME("conv1"), in, out, 3, 1, side);
    ff_build_bn(b, &k->bn2, NAME("bn2"), out, rows);
    ff_build_prelu(b, &k->prelu, NAME("prelu"), out);
    conv(b, &k->conv2, NAME("conv2"), out, out, 3, stride, side);
    ff_build_bn(b, &k->bn3, NAME("bn3"), out, out_rows);
    ff_build_activation(b, &k->a1, SLOT_A, rows * c_in);
    ff_build_activation(b, &k->z1, SLOT_Z, rows * c_out);
    ff_build_activation(b, &k->a2, SLOT_A, rows * c_out);
    ff_build_activation(b, &k->z2, SLOT_Z, out_rows * c_out);
    if (k->has_shortcut) {
        conv(b, &k->conv_shortcut, NAME("downsample.0"), in, out, 1, stride, side);
        ff_build_bn(b, &k->bn_shortcut, NAME("downsample.1"), out, out_rows);
        ff_build_activation(b, &k->z_shortcut, SLOT_SHORTCUT, out_rows * c_out);
    }
    ff_build_activation(b, &k->out, (index + 1) % 2, out_rows * c_out);
#undef NAME
}

static bool alloc(struct builder *b, int backbone)
{
    int count = 0;
    for (int s = 0; s < 4; s++)
        count += blocks_per_stage[backbone][s];
    struct iresnet *net =
        calloc(1, sizeof *net + (size_t)count * sizeof net->blocks[0]);
    if (!net) {
        b->rc = ff_err_set(b->err, FF_ENOMEM, "out of memory");
        return false;
    }
    net->block_count = count;
    b->m->net->iresnet = net;
    return true;
}

static void walk(struct builder *b)
{
    struct ff_model *m = b->m;
    const struct ff_model_config *cfg = &m->config;
    int side = cfg->image_size_px, N = m->N, channels[4];
    if (!m->net->iresnet && !alloc(b, cfg->backbone))
        return;
    struct iresnet *net = m->net->iresnet;
    for (int s = 0; s < 4; s++) {
        channels[s] = (int)lround((64 << s) * cfg->width);
        channels[s] = channels[s] < 1 ? 1 : channels[s];
    }
    int64_t rows = (int64_t)N * side * side;
    conv(b, &net->stem, "conv1", 3, channels[0], 3, 1, side);
    ff_build_bn(b, &net->stem_bn, "bn1", channels[0], rows);
    ff_build_prelu(b, &net->stem_prelu, "prelu", channels[0]);
    ff_build_activation(b, &net->stem_z, SLOT_Z,
                        rows * ff_build_padded(b, channels[0]));
    ff_build_activation(b, &net->stem_out, 0, rows * ff_build_padded(b, channels[0]));
    int index = 0, in = channels[0];
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < blocks_per_stage[cfg->backbone][s]; i++, index++) {
            int stride = i == 0 ? 2 : 1;
            char prefix[32];
            snprintf(prefix, sizeof prefix, "layer%d.%d", s + 1, i);
            block(b, &net->blocks[index], index, prefix, in, channels[s], stride, side);
            net->blocks[index].x = index ? net->blocks[index - 1].out : net->stem_out;
            in = channels[s];
            side /= stride;
        }
    rows = (int64_t)N * side * side;
    ff_build_bn(b, &net->last_bn, "bn2", in, rows);
    ff_build_activation(b, &m->net->features, SLOT_FEATURES,
                        rows * ff_build_padded(b, in));
    /* torch.nn.Linear's own start: uniform in +-1/sqrt(fan_in); insightface fixes the
     * weight of the last BN at 1. */
    const struct ff_build_embedding e = {
        .linear = "fc",
        .bn = "features",
        .channels = in,
        .side = side,
        .has_bias = true,
        .fixed_bn_weight = true,
        .init = {FF_INIT_UNIFORM, 1.0 / sqrt((double)in * side * side)}};
    ff_build_embedding(b, &e);
}

static void block_forward(struct ff_model *m, struct block *b)
{
    const struct ff_ops *ops = m->ops;
    struct ff_tensor *stats = m->training ? &m->net->stats : NULL;
    struct ff_tensor *stats2 = m->training ? &m->net->stats2 : NULL;
    struct ff_tensor *out_stats = m->training ? &m->net->out_stats : NULL;
    ff_pass_bn_finalize(m, &b->bn1, out_stats);
    ops->bn_apply(m->ctx, &b->a1, &b->x, &b->bn1.bn, NULL, NULL, NULL, NULL, b->bn1.M);
    ops->conv_fwd(m->ctx, b->conv1.plan, &b->z1, &b->a1, stats);
    ff_pass_bn_finalize(m, &b->bn2, stats);
    ops->bn_apply(m->ctx, &b->a2, &b->z1, &b->bn2.bn, &b->prelu.slope, NULL, NULL, NULL,
                  b->bn2.M);
    ops->conv_fwd(m->ctx, b->conv2.plan, &b->z2, &b->a2, stats);
    ff_pass_bn_finalize(m, &b->bn3, stats);
    if (b->has_shortcut) {
        ops->conv_fwd(m->ctx, b->conv_shortcut.plan, &b->z_shortcut, &b->x, stats2);
        ff_pass_bn_finalize(m, &b->bn_shortcut, stats2);
    }
    ops->bn_apply(m->ctx, &b->out, &b->z2, &b->bn3.bn, NULL,
                  b->has_shortcut ? &b->z_shortcut : &b->x,
                  b->has_shortcut ? &b->bn_shortcut.bn : NULL, out_stats, b->bn3.M);
}

static void forward(struct ff_model *m)
{
    const struct ff_ops *ops = m->ops;
    struct iresnet *net = m->net->iresnet;
    struct ff_tensor *stats = m->training ? &m->net->stats : NULL;
    struct ff_tensor *out_stats = m->training ? &m->net->out_stats : NULL;
    ops->conv_fwd(m->ctx, net->stem.plan, &net->stem_z, &m->net->input, stats);
    ff_pass_bn_finalize(m, &net->stem_bn, stats);
    ops->bn_apply(m->ctx, &net->stem_out, &net->stem_z, &net->stem_bn.bn,
                  &net->stem_prelu.slope, NULL, NULL, out_stats, net->stem_bn.M);
    for (int i = 0; i < net->block_count; i++)
        block_forward(m, &net->blocks[i]);
    const struct ff_tensor *last = &net->blocks[net->block_count - 1].out;
    ff_pass_bn_finalize(m, &net->last_bn, out_stats);
    ops->bn_apply(m->ctx, &m->net->features, last, &net->last_bn.bn, NULL, NULL, NULL,
                  NULL, net->last_bn.M);
}

/* The sums that block i's BN3 wants, or before block 0 the stem's BN: who writes dout
 * takes them. */
static struct ff_bn_next sums_of(struct iresnet *net, int i)
{
    struct block *b = i >= 0 ? &net->blocks[i] : NULL;
    struct bn_layer *layer = b ? &b->bn3 : &net->stem_bn;
    return (struct ff_bn_next){.dweight = &layer->dweight,
                               .dbias = &layer->dbias,
                               .dslope = b ? NULL : &net->stem_prelu.dslope,
                               .src = b ? &b->z2 : &net->stem_z,
                               .bn = &layer->bn,
                               .slope = b ? NULL : &net->stem_prelu.slope};
}

static void block_backward(struct ff_model *m, int i)
{
    struct ff_net *net = m->net;
    struct block *b = &net->iresnet->blocks[i];
    struct ff_tensor *dout = &net->dout, *da = &net->da, *dz = &net->dz;
    const struct ff_bn_next next = sums_of(net->iresnet, i - 1);
    ff_pass_bn_backward_next(m, dz, dout, &b->z2, &b->bn3, NULL, NULL, NULL);
    ff_pass_conv_backward(m, &b->conv2, da, &b->a2, dz, NULL);
    ff_pass_bn_backward(m, dz, da, &b->z1, &b->bn2, &b->prelu, NULL, NULL);
    ff_pass_conv_backward(m, &b->conv1, da, &b->a1, dz, NULL);
    if (b->has_shortcut) {
        ff_pass_bn_backward(m, dz, dout, &b->z_shortcut, &b->bn_shortcut, NULL, NULL,
                            NULL);
        ff_pass_conv_backward(m, &b->conv_shortcut, dout, &b->x, dz, NULL);
    }
    ff_pass_bn_backward(m, dout, da, &b->x, &b->bn1, NULL, dout, &next);
}

static void backward(struct ff_model *m)
{
    struct iresnet *net = m->net->iresnet;
    struct ff_tensor *dout = &m->net->dout;
    const struct ff_tensor *last = &net->blocks[net->block_count - 1].out;
    const struct ff_bn_next next = sums_of(net, net->block_count - 1);
    ff_pass_bn_backward(m, dout, &m->net->dfeatures, last, &net->last_bn, NULL, NULL,
                        &next);
    for (int i = net->block_count - 1; i >= 0; i--)
        block_backward(m, i);
    ff_pass_bn_backward_next(m, &m->net->dz, dout, &net->stem_z, &net->stem_bn,
                             &net->stem_prelu, NULL, NULL);
    ff_pass_conv_backward(m, &net->stem, NULL, &m->net->input, &m->net->dz, NULL);
}

static int trace(const struct ff_model *m, const struct ff_trace *t, int x)
{
    const struct iresnet *net = m->net->iresnet;
    x = ff_trace_conv(t, x, &net->stem);
    x = ff_trace_bn(t, x, &net->stem_bn);
    x = ff_trace_prelu(t, x, &net->stem_prelu);
    for (int i = 0; i < net->block_count; i++) {
        const struct block *b = &net->blocks[i];
        int y = ff_trace_conv(t, ff_trace_bn(t, x, &b->bn1), &b->conv1);
        y = ff_trace_prelu(t, ff_trace_bn(t, y, &b->bn2), &b->prelu);
        y = ff_trace_bn(t, ff_trace_conv(t, y, &b->conv2), &b->bn3);
        if (b->has_shortcut)
            x = ff_trace_bn(t, ff_trace_conv(t, x, &b->conv_shortcut), &b->bn_shortcut);
        x = t->add(t->context, y, x);
    }
    return ff_trace_bn(t, x, &net->last_bn);
}

int ff_iresnet_of_blocks(const int blocks[4])
{
    for (int i = 0; i < (int)(sizeof blocks_per_stage / sizeof *blocks_per_stage); i++)
        if (!memcmp(blocks_per_stage[i], blocks, sizeof blocks_per_stage[i]))
            return i;
    return -1;
}

static void destroy(struct ff_net *net)
{
    free(net->iresnet);
}

const struct ff_network ff_iresnet = {walk, forward, backward, trace, destroy};
