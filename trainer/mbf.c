/* SPDX-License-Identifier: MIT */
/* MobileFaceNet as insightface's `mbf` (scale 2, blocks 1, 4, 6, 2): plan and passes.
 *
 * The network is a list of units convolution - BN - (PReLU) - (+ an earlier output):
 * stem 3x3 stride 2; a 3x3 convolution of two channels a group; three stages of
 * bottlenecks (1x1 up, depthwise 3x3, 1x1 down), the first of each with stride 2, the
 * others residual; 1x1 to 512; a depthwise convolution over the whole map; then linear
 * without bias and BN1d. Gradients: dout and da take turns, the one holds the gradient
 * that a residual adds three units further down. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "model_priv.h"

/* One unit; its input is the output of the unit before it. */
struct unit {
    struct conv_layer conv;
    struct bn_layer bn;
    struct prelu_layer prelu;
    bool has_prelu;
    int residual;            /* unit whose output is added, -1 = none */
    struct ff_tensor z, out; /* convolution; act(BN(z)) + residual: (N, P, Q, K) */
};

enum { STAGES = 3, MAX_UNITS = 49 };
static const int stage_blocks[STAGES] = {4, 6, 2}; /* residual ones */
/* Channels at width 1: of the stage, inside its first bottleneck, inside the others. */
static const int stage_channels[STAGES][3] = {
    {128, 128, 128}, {256, 256, 256}, {256, 512, 256}};
#define STEM_CHANNELS 128
#define LAST_CHANNELS 512

struct mbf {
    int unit_count;
    struct unit units[MAX_UNITS];
};

/* In eval mode outputs of whole blocks alternate between slots 0 and 1. */
enum { SLOT_INNER = 2, SLOT_Z = 3 };

struct walk {
    struct builder *b;
    struct mbf *net;
    int in, side; /* channels and side of the last output */
    int slot;     /* of the last block's output */
};

static int channels_of(const struct builder *b, int channels)
{
    /* Even, so that two channels a group always fit. */
    int c = 2 * (int)lround(channels * b->m->config.width / 2);
    return c < 2 ? 2 : c;
}

/* Kaiming normal over fan_out, as torch counts it: without regard to groups. */
static double kaiming_std(int out, int kernel)
{
    return sqrt(2.0 / ((double)out * kernel * kernel));
}

/* Appends a unit; `slot` is its output's in eval mode. */
static struct unit *unit(struct walk *w, const char *prefix, int out, int kernel,
                         int stride, int pad, int share, bool has_prelu, int slot)
{
    struct builder *b = w->b;
    bool first = w->net->unit_count == 0;
    struct unit *u = &w->net->units[w->net->unit_count++];
    char name[64];
    const struct ff_build_conv shape = {.in = w->in,
                                        .out = out,
                                        .kernel = kernel,
                                        .stride = stride,
                                        .pad = pad,
                                        .side = w->side,
                                        .share = share,
                                        .std = kaiming_std(out, kernel),
                                        .pixels = first};
    w->side = ff_conv_out(w->side, kernel, stride, pad);
    int64_t rows = (int64_t)b->m->N * w->side * w->side;
    int64_t count = rows * ff_build_padded(b, out);
    u->has_prelu = has_prelu;
    u->residual = -1;
    snprintf(name, sizeof name, "%s.layers.0", prefix);
    ff_build_conv(b, &u->conv, name, &shape);
    snprintf(name, sizeof name, "%s.layers.1", prefix);
    ff_build_bn(b, &u->bn, name, out, rows);
    if (has_prelu) {
        snprintf(name, sizeof name, "%s.layers.2", prefix);
        ff_build_prelu(b, &u->prelu, name, out);
    }
    ff_build_activation(b, &u->z, SLOT_Z, count);
    ff_build_activation(b, &u->out, slot, count);
    w->in = out;
    return u;
}

/* A unit whose output stands for itself, not inside a bottleneck. */
static void single(struct walk *w, const char *prefix, int out, int kernel, int stride,
                   int pad, int share, bool has_prelu)
{
    w->slot = 1 - w->slot;
    unit(w, prefix, out, kernel, stride, pad, share, has_prelu, w->slot);
}

/* 1x1 to `inner` channels, depthwise 3x3, 1x1 to `out`. */
static void bottleneck(struct walk *w, const char *prefix, int inner, int out,
                       int stride, bool residual)
{
    char name[48];
    int before = w->net->unit_count - 1;
#define NAME(i) (snprintf(name, sizeof name, "%s.layers.%d", prefix, i), name)
    unit(w, NAME(0), inner, 1, 1, 0, 0, true, SLOT_INNER);
    unit(w, NAME(1), inner, 3, stride, 1, 1, true, SLOT_INNER);
    w->slot = 1 - w->slot;
    struct unit *last = unit(w, NAME(2), out, 1, 1, 0, 0, false, w->slot);
    if (residual)
        last->residual = before;
#undef NAME
}

static void walk(struct builder *b)
{
    struct ff_net *net = b->m->net;
    if (!net->mbf && !(net->mbf = calloc(1, sizeof *net->mbf))) {
        b->rc = ff_err_set(b->err, FF_ENOMEM, "out of memory");
        return;
    }
    net->mbf->unit_count = 0;
    struct walk w = {b, net->mbf, 3, b->m->config.image_size_px, 1};
    char prefix[32];
    single(&w, "layers.0", channels_of(b, STEM_CHANNELS), 3, 2, 1, 0, true);
    single(&w, "layers.1", channels_of(b, STEM_CHANNELS), 3, 1, 1, 2, true);
    for (int s = 0; s < STAGES; s++) {
        const int *c = stage_channels[s];
        int out = channels_of(b, c[0]);
        snprintf(prefix, sizeof prefix, "layers.%d", 2 + 2 * s);
        bottleneck(&w, prefix, channels_of(b, c[1]), out, 2, false);
        for (int i = 0; i < stage_blocks[s]; i++) {
            snprintf(prefix, sizeof prefix, "layers.%d.layers.%d", 3 + 2 * s, i);
            bottleneck(&w, prefix, channels_of(b, c[2]), out, 1, true);
        }
    }
    single(&w, "conv_sep", channels_of(b, LAST_CHANNELS), 1, 1, 0, 0, true);
    unit(&w, "features.layers.0", w.in, w.side, 1, 0, 1, false, SLOT_FEATURES);
    net->features = net->mbf->units[net->mbf->unit_count - 1].out;
    const struct ff_build_embedding e = {
        .linear = "features.layers.2",
        .bn = "features.layers.3",
        .channels = w.in,
        .side = 1,
        .init = {FF_INIT_NORMAL, kaiming_std(b->m->config.embedding, 1)}};
    ff_build_embedding(b, &e);
}

static const struct ff_tensor *input_of(const struct ff_model *m, int i)
{
    return i ? &m->net->mbf->units[i - 1].out : &m->net->input;
}

static void forward(struct ff_model *m)
{
    struct mbf *net = m->net->mbf;
    struct ff_tensor *stats = m->training ? &m->net->stats : NULL;
    for (int i = 0; i < net->unit_count; i++) {
        struct unit *u = &net->units[i];
        m->ops->conv_fwd(m->ctx, u->conv.plan, &u->z, input_of(m, i), stats);
        ff_pass_bn_finalize(m, &u->bn, stats);
        m->ops->bn_apply(m->ctx, &u->out, &u->z, &u->bn.bn,
                         u->has_prelu ? &u->prelu.slope : NULL,
                         u->residual >= 0 ? &net->units[u->residual].out : NULL, NULL,
                         NULL, u->bn.M);
    }
}

static void backward(struct ff_model *m)
{
    struct mbf *net = m->net->mbf;
    struct ff_tensor *now = &m->net->dout, *other = &m->net->da, *dz = &m->net->dz;
    int residual = -1; /* unit whose gradient also gets what `other` holds */
    for (int last = net->unit_count - 1, i = last; i >= 0; i--) {
        struct unit *u = &net->units[i];
        ff_pass_bn_backward(m, dz, i == last ? &m->net->dfeatures : now, &u->z, &u->bn,
                            u->has_prelu ? &u->prelu : NULL, NULL, NULL);
        if (u->residual >= 0) {
            struct ff_tensor *kept = now;
            residual = u->residual;
            now = other;
            other = kept;
        }
        bool adds = i > 0 && residual == i - 1;
        ff_pass_conv_backward(m, &u->conv, i ? now : NULL, input_of(m, i), dz,
                              adds ? other : NULL);
        if (adds)
            residual = -1;
    }
}

static int trace(const struct ff_model *m, const struct ff_trace *t, int x)
{
    const struct mbf *net = m->net->mbf;
    int value[MAX_UNITS];
    for (int i = 0; i < net->unit_count; i++) {
        const struct unit *u = &net->units[i];
        x = ff_trace_bn(t, ff_trace_conv(t, x, &u->conv), &u->bn);
        if (u->has_prelu)
            x = ff_trace_prelu(t, x, &u->prelu);
        if (u->residual >= 0)
            x = t->add(t->context, x, value[u->residual]);
        value[i] = x;
    }
    return x;
}

static void destroy(struct ff_net *net)
{
    free(net->mbf);
}

const struct ff_network ff_mbf = {walk, forward, backward, trace, destroy};
