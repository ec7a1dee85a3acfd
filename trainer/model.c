/* SPDX-License-Identifier: MIT */
/* Plan and parameters of an IResNet; the passes are in model_pass.c.
 *
 * Building runs twice over the same code: the first walk only counts (names, offsets,
 * sizes of the two blocks), then the blocks are allocated and the second walk makes
 * views, plans and activations. */
#include "model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_priv.h"
#include "rng.h"

static const int blocks_per_stage[][4] = {
    [FF_BACKBONE_R18] = {2, 2, 2, 2},    [FF_BACKBONE_R34] = {3, 4, 6, 3},
    [FF_BACKBONE_R50] = {3, 4, 14, 3},   [FF_BACKBONE_R100] = {3, 13, 30, 3},
    [FF_BACKBONE_R200] = {6, 26, 60, 6},
};

struct ff_model_config ff_model_config_from(const struct ff_params *params)
{
    return (struct ff_model_config){
        .backbone = params->backbone,
        .width = params->width,
        .image_size_px = (int)params->image_size,
        .embedding = (int)params->embedding,
    };
}

/* State of a walk. */
struct builder {
    struct ff_model *m;
    bool counting;
    int next_named;
    int64_t trained_count, buffer_count;
    int64_t largest_activation;
    int rc;
    struct ff_err *err;
};

static int padded(const struct builder *b, int channels)
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

static void vector(struct builder *b, const char *prefix, const char *suffix,
                   int channels, bool trained, struct ff_tensor *weight,
                   struct ff_tensor *dweight)
{
    int c = padded(b, channels);
    struct ff_named *n = named(b, FF_LAYOUT_VECTOR, trained, prefix, suffix, c);
    n->ndim = 1;
    n->dims[0] = channels;
    n->padded_c = c;
    views(b, n, weight, dweight);
}

/* -- device memory -- */

static void own(struct builder *b, struct ff_tensor *t, int64_t count,
                int element_bytes)
{
    struct ff_net *net = b->m->net;
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
    if (!b->rc) {
        net->owned[net->owned_count++] = *t;
        b->m->activation_bytes += count * element_bytes;
    }
}

/* An activation: its own memory in training; in eval mode a view of pool[slot]. */
static void activation(struct builder *b, struct ff_tensor *t, int slot, int64_t count)
{
    if (count > b->largest_activation)
        b->largest_activation = count;
    if (b->m->training)
        own(b, t, count, 4);
    else if (!b->counting)
        *t = ff_tensor_view(&b->m->net->pool[slot], 0, count);
}

/* -- layers -- */

static void bn(struct builder *b, struct bn_layer *layer, const char *prefix,
               int channels, int64_t M, bool fixed_weight)
{
    int c = padded(b, channels);
    layer->M = M;
    layer->bn.C = c;
    vector(b, prefix, "weight", channels, !fixed_weight, &layer->bn.weight,
           fixed_weight ? NULL : &layer->dweight);
    vector(b, prefix, "bias", channels, true, &layer->bn.bias, &layer->dbias);
    vector(b, prefix, "running_mean", channels, false, &layer->bn.running_mean, NULL);
    vector(b, prefix, "running_var", channels, false, &layer->bn.running_var, NULL);
    own(b, &layer->bn.mean, c, 4);
    own(b, &layer->bn.invstd, c, 4);
    own(b, &layer->bn.scale, c, 4);
    own(b, &layer->bn.shift, c, 4);
}

static void prelu(struct builder *b, struct prelu_layer *layer, const char *prefix,
                  int channels)
{
    vector(b, prefix, "weight", channels, true, &layer->slope, &layer->dslope);
}

static void conv(struct builder *b, struct conv_layer *layer, const char *prefix,
                 int in, int out, int kernel, int stride, int side)
{
    struct ff_model *m = b->m;
    bool stem = layer == &m->net->stem; /* alone reads pixels */
    int c = stem ? m->ops->input_channels : padded(b, in), k = padded(b, out);
    struct ff_named *n = named(b, FF_LAYOUT_CONV, true, prefix, "weight",
                               (int64_t)k * kernel * kernel * c);
    n->ndim = 4;
    n->dims[0] = out;
    n->dims[1] = in;
    n->dims[2] = n->dims[3] = kernel;
    n->padded_c = c;
    n->padded_k = k;
    views(b, n, &layer->weight, &layer->dweight);
    if (b->counting || b->rc)
        return;
    struct ff_conv_shape shape = {.N = m->N,
                                  .C = c,
                                  .H = side,
                                  .W = side,
                                  .K = k,
                                  .R = kernel,
                                  .S = kernel,
                                  .stride = stride,
                                  .pad = kernel / 2};
    b->rc = m->ops->conv_create(m->ctx, &layer->plan, &shape, m->training, b->err);
}

/* A block's activations in eval mode: x and out alternate between slots 0 and 1. */
enum { SLOT_A = 2, SLOT_Z = 3, SLOT_SHORTCUT = 4 };

static void block(struct builder *b, struct block *k, int index, const char *prefix,
                  int in, int out, int stride, int side)
{
    int N = b->m->N, out_side = side / stride;
    int64_t rows = (int64_t)N * side * side,
            out_rows = (int64_t)N * out_side * out_side;
    int c_in = padded(b, in), c_out = padded(b, out);
    char name[48];
#define NAME(suffix) (snprintf(name, sizeof name, "%s.%s", prefix, suffix), name)
    k->has_shortcut = stride != 1;
    bn(b, &k->bn1, NAME("bn1"), in, rows, false);
    conv(b, &k->conv1, NAME("conv1"), in, out, 3, 1, side);
    bn(b, &k->bn2, NAME("bn2"), out, rows, false);
    prelu(b, &k->prelu, NAME("prelu"), out);
    conv(b, &k->conv2, NAME("conv2"), out, out, 3, stride, side);
    bn(b, &k->bn3, NAME("bn3"), out, out_rows, false);
    activation(b, &k->a1, SLOT_A, rows * c_in);
    activation(b, &k->z1, SLOT_Z, rows * c_out);
    activation(b, &k->a2, SLOT_A, rows * c_out);
    activation(b, &k->z2, SLOT_Z, out_rows * c_out);
    if (k->has_shortcut) {
        conv(b, &k->conv_shortcut, NAME("downsample.0"), in, out, 1, stride, side);
        bn(b, &k->bn_shortcut, NAME("downsample.1"), out, out_rows, false);
        activation(b, &k->z_shortcut, SLOT_SHORTCUT, out_rows * c_out);
    }
    activation(b, &k->out, (index + 1) % 2, out_rows * c_out);
#undef NAME
}

static void scratch(struct builder *b)
{
    struct ff_net *net = b->m->net;
    int widest = padded(b, (int)lround(512 * b->m->config.width));
    if (widest < b->m->config.embedding)
        widest = b->m->config.embedding;
    if (b->m->training) {
        own(b, &net->dout, b->largest_activation, 4);
        own(b, &net->da, b->largest_activation, 4);
        own(b, &net->dz, b->largest_activation, 4);
        own(b, &net->dlinear, (int64_t)b->m->N * b->m->config.embedding, 4);
        own(b, &net->stats, 2 * widest, 8);
        own(b, &net->stats2, 2 * widest, 8);
        own(b, &net->fixed_dweight, b->m->config.embedding, 4);
    } else {
        for (int i = 0; i < 5; i++)
            own(b, &net->pool[i], b->largest_activation, 4);
    }
}

/* One walk over the network. */
static void walk(struct builder *b)
{
    struct ff_model *m = b->m;
    struct ff_net *net = m->net;
    const struct ff_model_config *cfg = &m->config;
    int side = cfg->image_size_px, N = m->N, D = cfg->embedding, channels[4];
    for (int s = 0; s < 4; s++) {
        channels[s] = (int)lround((64 << s) * cfg->width);
        channels[s] = channels[s] < 1 ? 1 : channels[s];
    }
    int64_t rows = (int64_t)N * side * side;
    b->next_named = 0;
    b->trained_count = b->buffer_count = 0;
    if (!b->counting)
        scratch(b);
    own(b, &net->input, rows * m->ops->input_channels, 4);
    conv(b, &net->stem, "conv1", 3, channels[0], 3, 1, side);
    bn(b, &net->stem_bn, "bn1", channels[0], rows, false);
    prelu(b, &net->stem_prelu, "prelu", channels[0]);
    activation(b, &net->stem_z, SLOT_Z, rows * padded(b, channels[0]));
    activation(b, &net->stem_out, 0, rows * padded(b, channels[0]));
    int index = 0, in = channels[0];
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < blocks_per_stage[cfg->backbone][s]; i++, index++) {
            int stride = i == 0 ? 2 : 1;
            struct block none = {0}, *k = b->counting ? &none : &net->blocks[index];
            char prefix[32];
            snprintf(prefix, sizeof prefix, "layer%d.%d", s + 1, i);
            block(b, k, index, prefix, in, channels[s], stride, side);
            if (!b->counting)
                k->x = index ? net->blocks[index - 1].out : net->stem_out;
            in = channels[s];
            side /= stride;
        }
    net->block_count = index;
    int c = padded(b, in);
    net->F = side * side * c;
    bn(b, &net->last_bn, "bn2", in, (int64_t)N * side * side, false);
    activation(b, &net->flat, SLOT_A, (int64_t)N * net->F);
    struct ff_named *fc =
        named(b, FF_LAYOUT_FC, true, "fc", "weight", (int64_t)D * net->F);
    fc->ndim = 2;
    fc->dims[0] = D;
    fc->dims[1] = in * side * side;
    fc->padded_c = c;
    fc->spatial = side;
    views(b, fc, &net->fc_weight, &net->dfc_weight);
    /* The embedding is not padded: its vectors take the plain length. */
    struct ff_named *bias = named(b, FF_LAYOUT_VECTOR, true, "fc", "bias", D);
    bias->ndim = 1;
    bias->dims[0] = bias->padded_c = D;
    views(b, bias, &net->fc_bias, &net->dfc_bias);
    struct bn_layer *e = &net->embedding_bn;
    static const char *const suffix[] = {"weight", "bias", "running_mean",
                                         "running_var"};
    struct ff_tensor *const view[] = {&e->bn.weight, &e->bn.bias, &e->bn.running_mean,
                                      &e->bn.running_var};
    for (int i = 0; i < 4; i++) {
        bool trained = i == 1; /* insightface fixes the weight of this BN at 1 */
        struct ff_named *n =
            named(b, FF_LAYOUT_VECTOR, trained, "features", suffix[i], D);
        n->ndim = 1;
        n->dims[0] = n->padded_c = D;
        views(b, n, view[i], trained ? &e->dbias : NULL);
    }
    e->M = N;
    e->bn.C = D;
    e->dweight = net->fixed_dweight;
    own(b, &e->bn.mean, D, 4);
    own(b, &e->bn.invstd, D, 4);
    own(b, &e->bn.scale, D, 4);
    own(b, &e->bn.shift, D, 4);
    own(b, &net->linear, (int64_t)N * D, 4);
    own(b, &net->embedding, (int64_t)N * D, 4);
}

int ff_model_create(struct ff_model **out, const struct ff_ops *ops,
                    struct ff_ops_ctx *ctx, const struct ff_model_config *config, int N,
                    bool training, struct ff_err *err)
{
    struct ff_model *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m || !(m->net = calloc(1, sizeof *m->net))) {
        free(m);
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    }
    m->ops = ops;
    m->ctx = ctx;
    m->config = *config;
    m->N = N;
    m->training = training;
    struct builder b = {.m = m, .counting = true, .err = err};
    walk(&b);
    m->named_count = b.next_named;
    m->named = calloc((size_t)m->named_count, sizeof *m->named);
    m->net->blocks = calloc((size_t)m->net->block_count, sizeof *m->net->blocks);
    if (!m->named || !m->net->blocks)
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
    m->ops->conv_destroy(m->ctx, net->stem.plan);
    for (int i = 0; net->blocks && i < net->block_count; i++) {
        m->ops->conv_destroy(m->ctx, net->blocks[i].conv1.plan);
        m->ops->conv_destroy(m->ctx, net->blocks[i].conv2.plan);
        m->ops->conv_destroy(m->ctx, net->blocks[i].conv_shortcut.plan);
    }
    for (int i = 0; i < net->owned_count; i++)
        m->ops->free(m->ctx, &net->owned[i]);
    m->ops->free(m->ctx, &m->velocity);
    m->ops->free(m->ctx, &m->dweight);
    m->ops->free(m->ctx, &m->buffer);
    m->ops->free(m->ctx, &m->weight);
    free(net->owned);
    free(net->blocks);
    free(net);
    free(m->named);
    free(m);
}

void ff_model_pack(struct ff_model *m)
{
    struct ff_net *net = m->net;
    m->ops->conv_pack(m->ctx, net->stem.plan, &net->stem.weight);
    for (int i = 0; i < net->block_count; i++) {
        struct block *b = &net->blocks[i];
        m->ops->conv_pack(m->ctx, b->conv1.plan, &b->conv1.weight);
        m->ops->conv_pack(m->ctx, b->conv2.plan, &b->conv2.weight);
        if (b->has_shortcut)
            m->ops->conv_pack(m->ctx, b->conv_shortcut.plan, &b->conv_shortcut.weight);
    }
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

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

int ff_model_init(struct ff_model *m, uint64_t seed, struct ff_err *err)
{
    double bound = 0; /* torch.nn.Linear's default: +-1/sqrt(fan_in) */
    for (int i = 0; i < m->named_count; i++)
        if (m->named[i].layout == FF_LAYOUT_FC)
            bound = 1.0 / sqrt(m->named[i].dims[1]);
    for (int i = 0; i < m->named_count; i++) {
        const struct ff_named *n = &m->named[i];
        int64_t size = ff_named_size(n);
        uint64_t stream = ff_stream(n->name);
        float *values = malloc((size_t)size * sizeof *values);
        if (!values)
            return ff_err_set(err, FF_ENOMEM, "out of memory");
        for (int64_t k = 0; k < size; k++) {
            if (n->layout == FF_LAYOUT_CONV)
                values[k] = (float)(0.1 * ff_rng_normal(seed, stream, (uint64_t)k));
            else if (strncmp(n->name, "fc.", 3) == 0)
                values[k] =
                    (float)(bound *
                            (2 * ff_rng_uniform(seed, stream, (uint64_t)k) - 1));
            else if (strstr(n->name, "prelu"))
                values[k] = 0.25f;
            else
                values[k] =
                    ends_with(n->name, "weight") || ends_with(n->name, "running_var");
        }
        int rc = ff_model_set(m, n, n->trained ? &m->weight : &m->buffer, values, err);
        free(values);
        if (rc)
            return rc;
    }
    m->batches_tracked = 0;
    ff_model_pack(m);
    return m->ops->sync(m->ctx, err);
}
