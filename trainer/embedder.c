/* SPDX-License-Identifier: MIT */
/* Embedding with a trained network; see embedder.h. */
#include "embedder.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "model_file.h"

struct ff_embedder {
    const struct ff_ops *ops;
    struct ff_ops_ctx *ctx;
    struct ff_model *model;
    bool borrowed; /* model and ctx belong to somebody else */
    int batch;
    uint8_t *pixels, *flip; /* a last, smaller batch is filled up here */
    float *embedding;
};

void ff_embedder_destroy(struct ff_embedder *e)
{
    if (!e)
        return;
    if (!e->borrowed)
        ff_model_destroy(e->model);
    if (e->ctx && !e->borrowed)
        e->ops->destroy(e->ctx);
    free(e->pixels);
    free(e->flip);
    free(e->embedding);
    free(e);
}

/* An embedder with its host buffers and nothing behind them. */
static int new_embedder(struct ff_embedder **out, const struct ff_model_config *config,
                        int batch, struct ff_err *err)
{
    struct ff_embedder *e = calloc(1, sizeof *e);
    *out = NULL;
    if (!e)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    e->batch = batch;
    size_t image_bytes =
        (size_t)config->image_size_px * (size_t)config->image_size_px * 3;
    e->pixels = calloc((size_t)batch, image_bytes);
    e->flip = calloc((size_t)batch, 1);
    e->embedding = calloc((size_t)batch * (size_t)config->embedding, sizeof(float));
    if (!e->pixels || !e->flip || !e->embedding) {
        ff_embedder_destroy(e);
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    }
    *out = e;
    return 0;
}

int ff_embedder_borrow(struct ff_embedder **out, struct ff_model *model,
                       struct ff_err *err)
{
    int rc = new_embedder(out, &model->config, model->N, err);
    if (rc)
        return rc;
    (*out)->borrowed = true;
    (*out)->model = model;
    (*out)->ops = model->ops;
    (*out)->ctx = model->ctx;
    return 0;
}

static int enough_memory(const struct ff_embedder *e,
                         const struct ff_model_config *config, struct ff_err *err)
{
    int64_t bytes = 0;
    int rc = ff_model_bytes(&bytes, e->ops, config, e->batch, false, err);
    return rc || !e->ops->memory_check
               ? rc
               : e->ops->memory_check(e->ctx, bytes, "network", err);
}

int ff_embedder_create(struct ff_embedder **out, const char *model_path, int batch,
                       const struct ff_ops_options *options, struct ff_err *err)
{
    /* fp32 everywhere: a score must not depend on the batch size or the device. */
    const struct ff_ops_options fp32 = {.backend = options->backend,
                                        .threads = options->threads,
                                        .device = options->device,
                                        .precision = FF_PRECISION_FP32};
    struct ff_model_config config;
    struct ff_embedder *e = NULL;
    *out = NULL;
    int rc = ff_model_read_config(&config, model_path, err);
    if (!rc)
        rc = new_embedder(&e, &config, batch, err);
    if (!rc)
        rc = ff_ops_open(&e->ops, &e->ctx, NULL, &fp32, err);
    if (!rc)
        rc = enough_memory(e, &config, err);
    if (!rc)
        rc = ff_model_create(&e->model, e->ops, e->ctx, &config, batch, false, err);
    if (!rc)
        rc = ff_model_load(e->model, model_path, err);
    if (rc) {
        ff_embedder_destroy(e);
        return rc;
    }
    *out = e;
    return 0;
}

int ff_embedder_image_size(const struct ff_embedder *e)
{
    return e->model->config.image_size_px;
}

int ff_embedder_batch(const struct ff_embedder *e)
{
    return e->batch;
}

int ff_embedder_dim(const struct ff_embedder *e)
{
    return e->model->config.embedding;
}

const char *ff_embedder_backend(const struct ff_embedder *e)
{
    return e->ops->describe(e->ctx);
}

int ff_embedder_run(float *embedding, struct ff_embedder *e, const uint8_t *pixels,
                    const uint8_t *flip, int count, struct ff_err *err)
{
    size_t side = (size_t)e->model->config.image_size_px,
           D = (size_t)ff_embedder_dim(e);
    assert(count >= 1 && count <= e->batch);
    if (count < e->batch) {
        memcpy(e->pixels, pixels, (size_t)count * side * side * 3);
        memset(e->flip, 0, (size_t)e->batch);
        if (flip)
            memcpy(e->flip, flip, (size_t)count);
        pixels = e->pixels;
        flip = e->flip;
    }
    bool training = e->model->training;
    e->model->training = false;
    const struct ff_tensor *made = ff_model_forward(e->model, pixels, flip);
    e->model->training = training;
    e->ops->download(e->ctx, e->embedding, made);
    memcpy(embedding, e->embedding, (size_t)count * D * sizeof(float));
    return e->ops->sync(e->ctx, err);
}
