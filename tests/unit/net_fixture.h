/* SPDX-License-Identifier: MIT */
/* Small networks filled from a formula, on any backend.
 *
 * Element i of stream `name` is u = mix32(fnv1a32(name) + i * 0x9E3779B1) / 2^32,
 * mapped by net_value in double and rounded once to float: the same on every backend,
 * and no two tensors alike. */
#ifndef FF_NET_FIXTURE_H
#define FF_NET_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

static inline double net_unit(const char *name, int64_t i)
{
    uint32_t x = 0x811C9DC5u;
    for (const char *p = name; *p; p++)
        x = (x ^ (uint8_t)*p) * 0x01000193u;
    x += (uint32_t)i * 0x9E3779B1u;
    x ^= x >> 16;
    x *= 0x85EBCA6Bu;
    x ^= x >> 13;
    x *= 0xC2B2AE35u;
    x ^= x >> 16;
    return x / 4294967296.0;
}

static inline bool net_ends(const char *name, const char *end)
{
    size_t n = strlen(name), k = strlen(end);
    return n >= k && strcmp(name + n - k, end) == 0;
}

static inline float net_value(const char *name, int ndim, int64_t i)
{
    double centre = 0, spread = 0.2;
    if (strcmp(name, "features.weight") == 0)
        return 1;
    if (ndim == 4)
        spread = 0.17;
    else if (strncmp(name, "fc.", 3) == 0)
        spread = 0.05;
    else if (strstr(name, "prelu"))
        centre = 0.25, spread = 0.1;
    else if (strcmp(name, "head.weight") == 0)
        spread = 0.02;
    else if (net_ends(name, ".weight"))
        centre = 1;
    else if (net_ends(name, ".running_var"))
        centre = 1, spread = 0.5;
    return (float)(centre + spread * (2 * net_unit(name, i) - 1));
}

/* A backend, a network on it and, in training, a head. */
struct net {
    const struct ff_ops *ops;
    struct ff_ops_ctx *ctx;
    struct ff_model *model;
    struct ff_head_plan *head;
    struct ff_head_shape shape;
    struct ff_tensor weight, velocity, dembedding; /* of the head */
    struct ff_step_result result;
};

static inline void net_fill(struct net *net)
{
    struct ff_model *m = net->model;
    for (int i = 0; i < m->named_count; i++) {
        const struct ff_named *n = &m->named[i];
        int64_t size = ff_named_size(n);
        float *values = malloc((size_t)size * sizeof *values);
        for (int64_t k = 0; k < size; k++)
            values[k] = net_value(n->name, n->ndim, k);
        cr_assert(eq(
            int, ff_model_set(m, n, n->trained ? &m->weight : &m->buffer, values, NULL),
            0));
        free(values);
    }
    ff_model_pack(m);
}

static inline void net_open_with(struct net *net, const struct ff_ops_options *options,
                                 const struct ff_model_config *config, int N,
                                 bool training)
{
    struct ff_err err = FF_ERR_INIT;
    memset(net, 0, sizeof *net);
    int rc = ff_ops_open(&net->ops, &net->ctx, NULL, options, &err);
    if (!rc)
        rc =
            ff_model_create(&net->model, net->ops, net->ctx, config, N, training, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
}

static inline void net_open(struct net *net, int backend, int threads,
                            const struct ff_model_config *config, int N, bool training)
{
    const struct ff_ops_options options = {.backend = backend, .threads = threads};
    net_open_with(net, &options, config, N, training);
}

static inline void net_open_head(struct net *net, const struct ff_head_shape *shape)
{
    int64_t count = shape->CLS * shape->D;
    float *values = malloc((size_t)count * sizeof *values);
    net->shape = *shape;
    int rc = net->ops->head_create(net->ctx, &net->head, shape, NULL);
    rc |= net->ops->alloc(net->ctx, &net->weight, count, 4, NULL);
    rc |= net->ops->alloc(net->ctx, &net->velocity, count, 4, NULL);
    rc |= net->ops->alloc(net->ctx, &net->dembedding, (int64_t)shape->N * shape->D, 4,
                          NULL);
    cr_assert(eq(int, rc, 0));
    for (int64_t i = 0; i < count; i++)
        values[i] = net_value("head.weight", 2, i);
    net->ops->upload(net->ctx, &net->weight, values);
    net->ops->head_pack(net->ctx, net->head, &net->weight);
    free(values);
}

static inline void net_close(struct net *net)
{
    net->ops->head_destroy(net->ctx, net->head);
    if (net->head) {
        net->ops->free(net->ctx, &net->weight);
        net->ops->free(net->ctx, &net->velocity);
        net->ops->free(net->ctx, &net->dembedding);
    }
    ff_model_destroy(net->model);
    net->ops->destroy(net->ctx);
}

/* Batch `step` of the formula; pixels (N, side, side, 3), flip (N), label (N). */
static inline void net_batch(uint8_t *pixels, uint8_t *flip, int64_t *label, int step,
                             int N, int side, int64_t classes)
{
    int64_t n = (int64_t)N * side * side * 3;
    for (int64_t i = 0; i < n; i++)
        pixels[i] = (uint8_t)(256 * net_unit("pixels", step * n + i));
    for (int i = 0; i < N; i++) {
        flip[i] = net_unit("flip", (int64_t)step * N + i) < 0.5;
        label[i] =
            (int64_t)((double)classes * net_unit("label", (int64_t)step * N + i));
    }
}

/* Forward and backward; returns the loss. */
static inline float net_gradients(struct net *net, const uint8_t *pixels,
                                  const uint8_t *flip, const int64_t *label)
{
    const struct ff_tensor *e = ff_model_forward(net->model, pixels, flip);
    net->ops->head_fwd(net->ctx, net->head, e, &net->weight, label);
    net->ops->head_bwd(net->ctx, net->head, &net->dembedding, e, &net->weight);
    ff_model_backward(net->model, &net->dembedding);
    net->model->batches_tracked++;
    return net->ops->loss(net->ctx);
}

static inline void net_update(struct net *net, double lr)
{
    struct ff_sgd sgd = {.momentum = 0.9, .weight_decay = 5e-4, .clip_norm = 5};
    struct ff_model *m = net->model;
    net->ops->step(net->ctx, &(struct ff_step){.lr = lr}, NULL, NULL);
    net->ops->grad_check(net->ctx, &m->dweight, net->head);
    net->ops->sgd(net->ctx, &m->weight, &m->velocity, &m->dweight, &sgd);
    net->ops->head_update(net->ctx, net->head, &net->weight, &net->velocity, &sgd);
    ff_model_pack(m);
    net->ops->step_result(net->ctx, &net->result);
    cr_assert(eq(int, net->ops->sync(net->ctx, NULL), 0));
}

static inline const struct ff_named *net_named(const struct net *net, const char *name)
{
    for (int i = 0; i < net->model->named_count; i++)
        if (strcmp(net->model->named[i].name, name) == 0)
            return &net->model->named[i];
    return NULL;
}

#endif
