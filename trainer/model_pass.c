/* SPDX-License-Identifier: MIT */
/* Forward and backward pass of IResNet over the op table.
 *
 * Forward, per block: the statistics that BN1 needs come with the pass that wrote x;
 * each convolution hands its own to the next BN. Backward, per block, with dout in
 * net->dout: BN3 (and the shortcut's BN) reduce and apply, conv2, BN2 + PReLU, conv1,
 * BN1, whose apply adds the shortcut's gradient; the sum is the next block's dout, in
 * the same buffer. */
#include "model_priv.h"

static void bn_finalize(struct ff_model *m, struct bn_layer *layer,
                        const struct ff_tensor *stats)
{
    if (m->training)
        m->ops->bn_finalize(m->ctx, &layer->bn, stats, layer->M);
    else
        m->ops->bn_finalize_running(m->ctx, &layer->bn);
}

static void block_forward(struct ff_model *m, struct block *b, struct ff_tensor *stats,
                          struct ff_tensor *stats2)
{
    const struct ff_ops *ops = m->ops;
    bn_finalize(m, &b->bn1, stats);
    ops->bn_apply(m->ctx, &b->a1, &b->x, &b->bn1.bn, NULL, NULL, NULL, NULL, b->bn1.M);
    ops->conv_fwd(m->ctx, b->conv1.plan, &b->z1, &b->a1, stats);
    bn_finalize(m, &b->bn2, stats);
    ops->bn_apply(m->ctx, &b->a2, &b->z1, &b->bn2.bn, &b->prelu.slope, NULL, NULL, NULL,
                  b->bn2.M);
    ops->conv_fwd(m->ctx, b->conv2.plan, &b->z2, &b->a2, stats);
    bn_finalize(m, &b->bn3, stats);
    if (b->has_shortcut) {
        ops->conv_fwd(m->ctx, b->conv_shortcut.plan, &b->z_shortcut, &b->x, stats2);
        bn_finalize(m, &b->bn_shortcut, stats2);
    }
    ops->bn_apply(m->ctx, &b->out, &b->z2, &b->bn3.bn, NULL,
                  b->has_shortcut ? &b->z_shortcut : &b->x,
                  b->has_shortcut ? &b->bn_shortcut.bn : NULL, stats, b->bn3.M);
}

const struct ff_tensor *ff_model_forward(struct ff_model *m, const uint8_t *pixels,
                                         const uint8_t *flip)
{
    const struct ff_ops *ops = m->ops;
    struct ff_net *net = m->net;
    int side = m->config.image_size_px, D = m->config.embedding;
    struct ff_tensor *stats = m->training ? &net->stats : NULL;
    struct ff_tensor *stats2 = m->training ? &net->stats2 : NULL;

    ops->input(m->ctx, &net->input, pixels, flip, m->N, side, side);
    ops->conv_fwd(m->ctx, net->stem.plan, &net->stem_z, &net->input, stats);
    bn_finalize(m, &net->stem_bn, stats);
    ops->bn_apply(m->ctx, &net->stem_out, &net->stem_z, &net->stem_bn.bn,
                  &net->stem_prelu.slope, NULL, NULL, stats, net->stem_bn.M);
    for (int i = 0; i < net->block_count; i++)
        block_forward(m, &net->blocks[i], stats, stats2);
    const struct ff_tensor *last = &net->blocks[net->block_count - 1].out;
    bn_finalize(m, &net->last_bn, stats);
    ops->bn_apply(m->ctx, &net->flat, last, &net->last_bn.bn, NULL, NULL, NULL, NULL,
                  net->last_bn.M);
    ops->linear_fwd(m->ctx, &net->linear, &net->flat, &net->fc_weight, &net->fc_bias,
                    m->N, net->F, D);
    if (m->training)
        ops->bn_stats(m->ctx, stats, &net->linear, m->N, D);
    bn_finalize(m, &net->embedding_bn, stats);
    ops->bn_apply(m->ctx, &net->embedding, &net->linear, &net->embedding_bn.bn, NULL,
                  NULL, NULL, NULL, m->N);
    if (m->training)
        m->batches_tracked++;
    return &net->embedding;
}

/* dsrc = gradient of act(BN(src)) by src, given ddst, plus add. */
static void bn_backward(struct ff_model *m, struct ff_tensor *dsrc,
                        const struct ff_tensor *ddst, const struct ff_tensor *src,
                        struct bn_layer *layer, struct prelu_layer *prelu,
                        const struct ff_tensor *add)
{
    const struct ff_tensor *slope = prelu ? &prelu->slope : NULL;
    m->ops->bn_bwd_reduce(m->ctx, &layer->dweight, &layer->dbias,
                          prelu ? &prelu->dslope : NULL, ddst, src, &layer->bn, slope,
                          layer->M);
    m->ops->bn_bwd_apply(m->ctx, dsrc, ddst, src, &layer->bn, slope, &layer->dweight,
                         &layer->dbias, add, layer->M);
}

static void conv_backward(struct ff_model *m, struct conv_layer *conv,
                          struct ff_tensor *dsrc, const struct ff_tensor *src,
                          const struct ff_tensor *ddst)
{
    m->ops->conv_bwd_weights(m->ctx, conv->plan, &conv->dweight, src, ddst);
    if (dsrc)
        m->ops->conv_bwd_data(m->ctx, conv->plan, dsrc, ddst);
}

static void block_backward(struct ff_model *m, struct block *b)
{
    struct ff_net *net = m->net;
    struct ff_tensor *dout = &net->dout, *da = &net->da, *dz = &net->dz;
    bn_backward(m, dz, dout, &b->z2, &b->bn3, NULL, NULL);
    conv_backward(m, &b->conv2, da, &b->a2, dz);
    bn_backward(m, dz, da, &b->z1, &b->bn2, &b->prelu, NULL);
    conv_backward(m, &b->conv1, da, &b->a1, dz);
    if (b->has_shortcut) {
        bn_backward(m, dz, dout, &b->z_shortcut, &b->bn_shortcut, NULL, NULL);
        conv_backward(m, &b->conv_shortcut, dout, &b->x, dz);
    }
    bn_backward(m, dout, da, &b->x, &b->bn1, NULL, dout);
}

void ff_model_backward(struct ff_model *m, const struct ff_tensor *dembedding)
{
    struct ff_net *net = m->net;
    int D = m->config.embedding;
    const struct ff_tensor *last = &net->blocks[net->block_count - 1].out;
    bn_backward(m, &net->dlinear, dembedding, &net->linear, &net->embedding_bn, NULL,
                NULL);
    m->ops->linear_bwd(m->ctx, &net->da, &net->dfc_weight, &net->dfc_bias,
                       &net->dlinear, &net->flat, &net->fc_weight, m->N, net->F, D);
    bn_backward(m, &net->dout, &net->da, last, &net->last_bn, NULL, NULL);
    for (int i = net->block_count - 1; i >= 0; i--)
        block_backward(m, &net->blocks[i]);
    bn_backward(m, &net->dz, &net->dout, &net->stem_z, &net->stem_bn, &net->stem_prelu,
                NULL);
    conv_backward(m, &net->stem, NULL, &net->input, &net->dz);
}
