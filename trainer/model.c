/* SPDX-License-Identifier: MIT */
/* Memory, parameters and values of a network; its plan and passes are in its own file,
 * iresnet.c or mbf.c.
 *
 * Building runs twice over the same code: the first walk only counts (names, offsets,
 * sizes of the two blocks), then the blocks are allocated and the second walk makes
 * views, plans and activations. */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_priv.h"
#include "rng.h"

#define PRELU_START 0.25 /* torch.nn.PReLU */

struct ff_model_config ff_model_config_from(const struct ff_params *params)
{
    return (struct ff_model_config){
        .backbone = params->backbone,
        .width = params->width,
        .image_size_px = (int)params->image_size,
        .embedding = (int)params->embedding,
    };
}

int ff_build_padded(const struct builder *b, int channels)
{
    int align = b->m->ops->channel_align;
    return (channels + align - 1) / align * align;
}

/* -- parameters -- */

static struct ff_named *named(struct builder *b, enum ff_layout layout, bool trained,
                              const char *prefix, const char *suffix, int64_t count)
{
    static struct ff_named counted;
    struct ff_named *n = b->counting ? &counted : &b->m->named[b->next_named];
    int64_t *total = trained ? &b->trained_count : &b->buffer_count;
    memset(n, 0, sizeof *n);
    snprintf(n->name, sizeof n->name, "%s.%s", prefix, suffix);
    n->layout = layout;
    n->trained = trained;
    n->offset = *total;
    n->count = count;
    /* Every tensor starts on a 64-byte line. */
    *total += (count + 15) / 16 * 16;
    b->next_named++;
    return n;
}

static void views(struct builder *b, const struct ff_named *n, struct ff_tensor *weight,
                  struct ff_tensor *dweight)
{
    if (b->counting)
        return;
    *weight =
        ff_tensor_view(n->trained ? &b->m->weight : &b->m->buffer, n->offset, n->count);
    if (dweight && b->m->training)
        *dweight = ff_tensor_view(&b->m->dweight, n->offset, n->count);
}

/* (channels), padded to c; starts at `start` everywhere. */
static const struct ff_named *
vector(struct builder *b, const char *prefix, const char *suffix, int channels, int c,
       bool trained, double start, struct ff_tensor *weight, struct ff_tensor *dweight)
{
    struct ff_named *n = named(b, FF_LAYOUT_VECTOR, trained, prefix, suffix, c);
    n->ndim = 1;
    n->dims[0] = channels;
    n->padded_c = c;
    n->init = (struct ff_init){FF_INIT_CONSTANT, start};
    views(b, n, weight, dweight);
    return n;
}

/* -- device memory -- */

static void own(struct builder *b, struct ff_tensor *t, int64_t count,
                int element_bytes)
{
    struct ff_net *net = b->m->net;
    b->bytes += b->counting ? count * element_bytes : 0;
    if (b->counting || b->rc)
        return;
    if (net->owned_count == net->owned_capacity) {
        int capacity = net->owned_capacity ? 2 * net->owned_capacity : 64;
        void *grown = realloc(net->owned, (size_t)capacity * sizeof *net->owned);
        if (!grown) {
            b->rc = ff_err_set(b->err, FF_ENOMEM, "out of memory");
            return;
        }
        net->owned = grown;
        net->owned_capacity = capacity;
    }
    b->rc = b->m->ops->alloc(b->m->ctx, t, count, element_bytes, b->err);
    if (!b->rc)
        net->owned[net->owned_count++] = *t;
}

void ff_build_activation(struct builder *b, struct ff_tensor *t, int slot,
                         int64_t count)
{
    int bytes = b->m->ops->activation_bytes;
    if (slot == SLOT_FEATURES) {
        own(b, t, count, 4);
        return;
    }
    if (count > b->largest_activation)
        b->largest_activation = count;
    if (b->m->training)
        own(b, t, count, bytes);
    else if (!b->counting)
        *t = ff_tensor_view(&b->m->net->pool[slot], 0, count);
}

/* -- layers -- */

static void bn_scratch(struct builder *b, struct bn_layer *layer, int64_t M)
{
    int c = layer->bn.C;
    layer->M = M;
    if (c > b->widest)
        b->widest = c;
    own(b, &layer->bn.mean, c, 4);
    own(b, &layer->bn.invstd, c, 4);
    own(b, &layer->bn.scale, c, 4);
    own(b, &layer->bn.shift, c, 4);
}

void ff_build_bn(struct builder *b, struct bn_layer *layer, const char *prefix,
                 int channels, int64_t M)
{
    int c = layer->bn.C = ff_build_padded(b, channels);
    struct ff_bn *bn = &layer->bn;
    layer->named =
        vector(b, prefix, "weight", channels, c, true, 1, &bn->weight, &layer->dweight);
    vector(b, prefix, "bias", channels, c, true, 0, &bn->bias, &layer->dbias);
    vector(b, prefix, "running_mean", channels, c, false, 0, &bn->running_mean, NULL);
    vector(b, prefix, "running_var", channels, c, false, 1, &bn->running_var, NULL);
    bn_scratch(b, layer, M);
}

void ff_build_prelu(struct builder *b, struct prelu_layer *layer, const char *prefix,
                    int channels)
{
    layer->named = vector(b, prefix, "weight", channels, ff_build_padded(b, channels),
                          true, PRELU_START, &layer->slope, &layer->dslope);
}

static bool note_conv(struct ff_net *net, struct conv_layer *layer)
{
    if (net->conv_count == net->conv_capacity) {
        int capacity = net->conv_capacity ? 2 * net->conv_capacity : 64;
        void *grown = realloc(net->convs, (size_t)capacity * sizeof(net->convs[0]));
        if (!grown)
            return false;
        net->convs = grown;
        net->conv_capacity = capacity;
    }
    net->convs[net->conv_count++] = layer;
    return true;
}

void ff_build_conv(struct builder *b, struct conv_layer *layer, const char *prefix,
                   const struct ff_build_conv *shape)
{
    struct ff_model *m = b->m;
    int k = ff_build_padded(b, shape->out), share = shape->share;
    int c = shape->pixels ? m->ops->input_channels : ff_build_padded(b, shape->in);
    int inside = share ? share : c;
    struct ff_named *n = named(b, FF_LAYOUT_CONV, true, prefix, "weight",
                               (int64_t)k * shape->kernel * shape->kernel * inside);
    n->ndim = 4;
    n->dims[0] = shape->out;
    n->dims[1] = share ? share : shape->in;
    n->dims[2] = n->dims[3] = shape->kernel;
    n->padded_c = inside;
    n->padded_k = k;
    n->init = (struct ff_init){FF_INIT_NORMAL, shape->std};
    layer->named = n;
    layer->stride = shape->stride;
    layer->pad = shape->pad;
    layer->groups = share ? shape->in / share : 1;
    views(b, n, &layer->weight, &layer->dweight);
    if (b->counting && m->ops->activation_bytes == 2)
        b->bytes += 2 * n->count * (m->training ? 2 : 1);
    if (b->counting || b->rc)
        return;
    if (!note_conv(m->net, layer)) {
        b->rc = ff_err_set(b->err, FF_ENOMEM, "out of memory");
        return;
    }
    struct ff_conv_shape plan = {.N = m->N,
                                 .C = c,
                                 .H = shape->side,
                                 .W = shape->side,
                                 .K = k,
                                 .R = shape->kernel,
                                 .S = shape->kernel,
                                 .stride = shape->stride,
                                 .pad = shape->pad,
                                 .groups = share ? c / share : 1,
                                 .pixels = shape->pixels};
    b->rc = m->ops->conv_create(m->ctx, &layer->plan, &plan, m->training, b->err);
}

void ff_build_embedding(struct builder *b, const struct ff_build_embedding *e)
{
    struct ff_model *m = b->m;
    struct ff_net *net = m->net;
    int D = m->config.embedding, N = m->N, c = ff_build_padded(b, e->channels);
    net->F = e->side * e->side * c;
    struct ff_named *fc =
        named(b, FF_LAYOUT_FC, true, e->linear, "weight", (int64_t)D * net->F);
    fc->ndim = 2;
    fc->dims[0] = D;
    fc->dims[1] = e->channels * e->side * e->side;
    fc->padded_c = c;
    fc->spatial = e->side;
    fc->init = e->init;
    net->fc_named = fc;
    views(b, fc, &net->fc_weight, &net->dfc_weight);
    /* The embedding is not padded: its vectors take the plain length. */
    if (e->has_bias) {
        struct ff_named *bias = named(b, FF_LAYOUT_VECTOR, true, e->linear, "bias", D);
        bias->ndim = 1;
        bias->dims[0] = bias->padded_c = D;
        bias->init = e->init;
        views(b, bias, &net->fc_bias, &net->dfc_bias);
    }
    struct bn_layer *layer = &net->embedding_bn;
    struct ff_bn *bn = &layer->bn;
    bool fixed = e->fixed_bn_weight;
    bn->C = D;
    if (fixed)
        layer->dweight = net->fixed_dweight;
    layer->named = vector(b, e->bn, "weight", D, D, !fixed, 1, &bn->weight,
                          fixed ? NULL : &layer->dweight);
    vector(b, e->bn, "bias", D, D, true, 0, &bn->bias, &layer->dbias);
    vector(b, e->bn, "running_mean", D, D, false, 0, &bn->running_mean, NULL);
    vector(b, e->bn, "running_var", D, D, false, 1, &bn->running_var, NULL);
    bn_scratch(b, layer, N);
    own(b, &net->linear, (int64_t)N * D, 4);
    own(b, &net->embedding, (int64_t)N * D, 4);
}

static void scratch(struct builder *b)
{
    struct ff_model *m = b->m;
    struct ff_net *net = m->net;
    int64_t D = m->config.embedding, N = m->N, bytes = m->ops->activation_bytes;
    if (m->training) {
        own(b, &net->dout, b->largest_activation, (int)bytes);
        own(b, &net->da, b->largest_activation, (int)bytes);
        own(b, &net->dz_memory[0], b->largest_activation, (int)bytes);
        net->dz_memory[1] = net->dz_memory[0];
        if (m->ops->weights_beside)
            own(b, &net->dz_memory[1], b->largest_activation, (int)bytes);
        own(b, &net->dfeatures, N * net->F, 4);
        own(b, &net->dlinear, N * D, 4);
        own(b, &net->stats, 2 * b->widest, 8);
        own(b, &net->stats2, 2 * b->widest, 8);
        own(b, &net->out_stats, 2 * b->widest, 8);
        own(b, &net->fixed_dweight, D, 4);
    } else {
        for (int i = 0; i < POOL_SLOTS; i++)
            own(b, &net->pool[i], b->largest_activation, (int)bytes);
    }
}

static void walk(struct builder *b)
{
    struct ff_model *m = b->m;
    int64_t side = m->config.image_size_px;
    b->next_named = 0;
    b->trained_count = b->buffer_count = 0;
    if (!b->counting)
        scratch(b);
    own(b, &m->net->input, m->N * side * side * m->ops->input_channels,
        m->ops->activation_bytes);
    m->net->network->walk(b);
    if (b->counting)
        scratch(b);
}

/* A model whose sizes are known, with nothing allocated yet; NULL with *rc set. */
static struct ff_model *counted(int *rc, struct builder *b, const struct ff_ops *ops,
                                struct ff_ops_ctx *ctx,
                                const struct ff_model_config *config, int N,
                                bool training, struct ff_err *err)
{
    struct ff_model *m = calloc(1, sizeof *m);
    if (!m || !(m->net = calloc(1, sizeof *m->net))) {
        free(m);
        *rc = ff_err_set(err, FF_ENOMEM, "out of memory");
        return NULL;
    }
    m->ops = ops;
    m->ctx = ctx;
    m->config = *config;
    m->N = N;
    m->training = training;
    m->net->network = config->backbone == FF_BACKBONE_MBF ? &ff_mbf : &ff_iresnet;
    *b = (struct builder){.m = m, .counting = true, .err = err};
    walk(b);
    m->bytes = b->bytes + 4 * (b->trained_count * (training ? 3 : 1) + b->buffer_count);
    *rc = b->rc;
    return m;
}

int ff_model_bytes(int64_t *bytes, const struct ff_ops *ops,
                   const struct ff_model_config *config, int N, bool training,
                   struct ff_err *err)
{
    struct builder b;
    int rc;
    struct ff_model *m = counted(&rc, &b, ops, NULL, config, N, training, err);
    *bytes = m ? m->bytes : 0;
    ff_model_destroy(m);
    return rc;
}

int ff_model_create(struct ff_model **out, const struct ff_ops *ops,
                    struct ff_ops_ctx *ctx, const struct ff_model_config *config, int N,
                    bool training, struct ff_err *err)
{
    struct builder b;
    int rc;
    struct ff_model *m = counted(&rc, &b, ops, ctx, config, N, training, err);
    *out = NULL;
    if (!m)
        return rc;
    m->named_count = b.next_named;
    m->named = calloc((size_t)m->named_count + 1, sizeof *m->named);
    if (!b.rc && !m->named)
        b.rc = ff_err_set(err, FF_ENOMEM, "out of memory");
    if (!b.rc)
        b.rc = ops->alloc(ctx, &m->weight, b.trained_count, 4, err);
    if (!b.rc)
        b.rc = ops->alloc(ctx, &m->buffer, b.buffer_count, 4, err);
    if (!b.rc && training)
        b.rc = ops->alloc(ctx, &m->dweight, b.trained_count, 4, err);
    if (!b.rc && training)
        b.rc = ops->alloc(ctx, &m->velocity, b.trained_count, 4, err);
    b.counting = false;
    if (!b.rc)
        walk(&b);
    if (b.rc) {
        ff_model_destroy(m);
        return b.rc;
    }
    *out = m;
    return 0;
}

void ff_model_destroy(struct ff_model *m)
{
    if (!m)
        return;
    struct ff_net *net = m->net;
    for (int i = 0; i < net->conv_count; i++)
        m->ops->conv_destroy(m->ctx, net->convs[i]->plan);
    net->network->destroy(net);
    for (int i = 0; i < net->owned_count; i++)
        m->ops->free(m->ctx, &net->owned[i]);
    struct ff_tensor *blocks[] = {&m->velocity, &m->dweight, &m->buffer, &m->weight};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        if (blocks[i]->data)
            m->ops->free(m->ctx, blocks[i]);
    free(net->owned);
    free(net->convs);
    free(net);
    free(m->named);
    free(m);
}

void ff_model_pack(struct ff_model *m)
{
    for (int i = 0; i < m->net->conv_count; i++) {
        struct conv_layer *conv = m->net->convs[i];
        m->ops->conv_pack(m->ctx, conv->plan, &conv->weight);
    }
}

/* -- passes -- */

void ff_pass_bn_finalize(struct ff_model *m, struct bn_layer *layer,
                         const struct ff_tensor *stats)
{
    if (m->training)
        m->ops->bn_finalize(m->ctx, &layer->bn, stats, layer->M);
    else
        m->ops->bn_finalize_running(m->ctx, &layer->bn);
}

void ff_pass_bn_backward(struct ff_model *m, struct ff_tensor *dsrc,
                         const struct ff_tensor *ddst, const struct ff_tensor *src,
                         struct bn_layer *layer, struct prelu_layer *prelu,
                         const struct ff_tensor *add, const struct ff_bn_next *next)
{
    m->ops->bn_bwd_reduce(m->ctx, &layer->dweight, &layer->dbias,
                          prelu ? &prelu->dslope : NULL, ddst, src, &layer->bn,
                          prelu ? &prelu->slope : NULL, layer->M);
    ff_pass_bn_backward_next(m, dsrc, ddst, src, layer, prelu, add, next);
}

void ff_pass_bn_backward_next(struct ff_model *m, struct ff_tensor *dsrc,
                              const struct ff_tensor *ddst, const struct ff_tensor *src,
                              struct bn_layer *layer, struct prelu_layer *prelu,
                              const struct ff_tensor *add,
                              const struct ff_bn_next *next)
{
    m->ops->bn_bwd_apply(m->ctx, dsrc, ddst, src, &layer->bn,
                         prelu ? &prelu->slope : NULL, &layer->dweight, &layer->dbias,
                         add, next, layer->M);
}

void ff_pass_conv_backward(struct ff_model *m, struct conv_layer *conv,
                           struct ff_tensor *dsrc, const struct ff_tensor *src,
                           const struct ff_tensor *ddst, const struct ff_tensor *add)
{
    m->ops->conv_bwd_weights(m->ctx, conv->plan, &conv->dweight, src, ddst);
    if (dsrc)
        m->ops->conv_bwd_data(m->ctx, conv->plan, dsrc, ddst, add);
    m->net->dz = m->net->dz_memory[m->net->dz_turn ^= 1];
}

/* The linear layer's bias, or NULL where the network has none. */
static struct ff_tensor *present(struct ff_tensor *t)
{
    return t->count ? t : NULL;
}

const struct ff_tensor *ff_model_forward(struct ff_model *m, const uint8_t *pixels,
                                         const uint8_t *flip)
{
    const struct ff_ops *ops = m->ops;
    struct ff_net *net = m->net;
    int side = m->config.image_size_px, D = m->config.embedding;
    struct ff_tensor *stats = m->training ? &net->stats : NULL;
    ops->input(m->ctx, &net->input, pixels, flip, m->N, side, side);
    net->network->forward(m);
    ops->linear_fwd(m->ctx, &net->linear, &net->features, &net->fc_weight,
                    present(&net->fc_bias), m->N, net->F, D);
    if (m->training)
        ops->bn_stats(m->ctx, stats, &net->linear, m->N, D);
    ff_pass_bn_finalize(m, &net->embedding_bn, stats);
    ops->bn_apply(m->ctx, &net->embedding, &net->linear, &net->embedding_bn.bn, NULL,
                  NULL, NULL, NULL, m->N);
    return &net->embedding;
}

void ff_model_backward(struct ff_model *m, const struct ff_tensor *dembedding)
{
    struct ff_net *net = m->net;
    net->dz = net->dz_memory[net->dz_turn = 0]; /* the same at every step */
    ff_pass_bn_backward(m, &net->dlinear, dembedding, &net->linear, &net->embedding_bn,
                        NULL, NULL, NULL);
    m->ops->linear_bwd(m->ctx, &net->dfeatures, &net->dfc_weight,
                       present(&net->dfc_bias), &net->dlinear, &net->features,
                       &net->fc_weight, m->N, net->F, m->config.embedding);
    net->network->backward(m);
}

/* -- the network as a graph -- */

/* "layer1.0.bn1" of "layer1.0.bn1.weight". */
static const char *prefix_of(char out[64], const struct ff_named *n)
{
    snprintf(out, 64, "%s", n->name);
    *strrchr(out, '.') = 0;
    return out;
}

int ff_trace_conv(const struct ff_trace *t, int x, const struct conv_layer *layer)
{
    char prefix[64];
    return t->conv(t->context, x, prefix_of(prefix, layer->named), layer->stride,
                   layer->pad, layer->groups);
}

int ff_trace_bn(const struct ff_trace *t, int x, const struct bn_layer *layer)
{
    char prefix[64];
    return t->bn(t->context, x, prefix_of(prefix, layer->named));
}

int ff_trace_prelu(const struct ff_trace *t, int x, const struct prelu_layer *layer)
{
    char prefix[64];
    return t->prelu(t->context, x, prefix_of(prefix, layer->named));
}

int ff_model_trace(const struct ff_model *m, const struct ff_trace *t, int input)
{
    char prefix[64];
    int x = m->net->network->trace(m, t, input);
    x = t->linear(t->context, x, prefix_of(prefix, m->net->fc_named),
                  m->net->fc_bias.count > 0);
    return ff_trace_bn(t, x, &m->net->embedding_bn);
}

/* -- values in outside order -- */

int64_t ff_named_size(const struct ff_named *n)
{
    int64_t size = 1;
    for (int i = 0; i < n->ndim; i++)
        size *= n->dims[i];
    return size;
}

int64_t ff_model_parameter_count(const struct ff_model *m)
{
    int64_t count = 0;
    for (int i = 0; i < m->named_count; i++)
        if (m->named[i].trained)
            count += ff_named_size(&m->named[i]);
    return count;
}

/* Inside index of the outside element i. */
static int64_t inside_index(const struct ff_named *n, int64_t i)
{
    switch (n->layout) {
    case FF_LAYOUT_CONV: {
        int rs = n->dims[2] * n->dims[3], in = n->dims[1];
        int64_t tap = i % rs, c = i / rs % in, k = i / rs / in;
        return (k * rs + tap) * n->padded_c + c;
    }
    case FF_LAYOUT_FC: {
        int64_t hw = (int64_t)n->spatial * n->spatial, columns = n->dims[1];
        int64_t row = i / columns, c = i % columns / hw, at = i % hw;
        return (row * hw + at) * n->padded_c + c;
    }
    case FF_LAYOUT_VECTOR: break;
    }
    return i;
}

int ff_model_get(float **values, const struct ff_model *m, const struct ff_named *n,
                 const struct ff_tensor *block, struct ff_err *err)
{
    int64_t size = ff_named_size(n);
    float *inside = malloc((size_t)n->count * sizeof *inside);
    *values = malloc((size_t)size * sizeof **values);
    if (!inside || !*values) {
        free(inside);
        free(*values);
        *values = NULL;
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    }
    struct ff_tensor view = ff_tensor_view(block, n->offset, n->count);
    m->ops->download(m->ctx, inside, &view);
    for (int64_t i = 0; i < size; i++)
        (*values)[i] = inside[inside_index(n, i)];
    free(inside);
    return 0;
}

int ff_model_set(struct ff_model *m, const struct ff_named *n, struct ff_tensor *block,
                 const float *values, struct ff_err *err)
{
    int64_t size = ff_named_size(n);
    float *inside = calloc((size_t)n->count, sizeof *inside);
    if (!inside)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    for (int64_t i = 0; i < size; i++)
        inside[inside_index(n, i)] = values[i];
    struct ff_tensor view = ff_tensor_view(block, n->offset, n->count);
    m->ops->upload(m->ctx, &view, inside);
    free(inside);
    return 0;
}

static double start_value(const struct ff_init *init, uint64_t seed, uint64_t stream,
                          uint64_t k)
{
    switch (init->kind) {
    case FF_INIT_NORMAL: return init->scale * ff_rng_normal(seed, stream, k);
    case FF_INIT_UNIFORM:
        return init->scale * (2 * ff_rng_uniform(seed, stream, k) - 1);
    default: return init->scale;
    }
}

int ff_model_init(struct ff_model *m, uint64_t seed, struct ff_err *err)
{
    for (int i = 0; i < m->named_count; i++) {
        const struct ff_named *n = &m->named[i];
        int64_t size = ff_named_size(n);
        uint64_t stream = ff_stream(n->name);
        float *values = malloc((size_t)size * sizeof *values);
        if (!values)
            return ff_err_set(err, FF_ENOMEM, "out of memory");
        for (int64_t k = 0; k < size; k++)
            values[k] = (float)start_value(&n->init, seed, stream, (uint64_t)k);
        int rc = ff_model_set(m, n, n->trained ? &m->weight : &m->buffer, values, err);
        free(values);
        if (rc)
            return rc;
    }
    m->batches_tracked = 0;
    ff_model_pack(m);
    return m->ops->sync(m->ctx, err);
}
