/* SPDX-License-Identifier: MIT */
/* The ref backend: plain loops in double accumulation, one thread, no dependency. It
 * decides who is right; speed is no reason to touch it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref_priv.h"

static void destroy(struct ff_ops_ctx *ctx)
{
    free(ctx);
}

int ff_ref_alloc(struct ff_ops_ctx *ctx, struct ff_tensor *t, int64_t count,
                 int element_bytes, struct ff_err *err)
{
    (void)ctx;
    size_t bytes = (size_t)count * (size_t)element_bytes;
    /* 64 bytes: a cache line and the widest vector; aligned_alloc wants a multiple. */
    size_t rounded = (bytes + 63) / 64 * 64;
    t->data = aligned_alloc(64, rounded ? rounded : 64);
    t->count = count;
    t->element_bytes = element_bytes;
    if (!t->data)
        return ff_err_set(err, FF_ENOMEM, "out of memory: %zu bytes wanted", bytes);
    memset(t->data, 0, rounded);
    return 0;
}

void ff_ref_free(struct ff_ops_ctx *ctx, struct ff_tensor *t)
{
    (void)ctx;
    free(t->data);
    *t = (struct ff_tensor){0};
}

void ff_ref_upload(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const float *src)
{
    (void)ctx;
    memcpy(dst->data, src, (size_t)dst->count * sizeof(float));
}

void ff_ref_download(struct ff_ops_ctx *ctx, float *dst, const struct ff_tensor *src)
{
    (void)ctx;
    memcpy(dst, src->data, (size_t)src->count * sizeof(float));
}

int ff_ref_sync(struct ff_ops_ctx *ctx, struct ff_err *err)
{
    int code = ctx->error.code;
    if (code && err)
        *err = ctx->error;
    ctx->error.code = 0;
    return code;
}

const char *ff_ref_describe(struct ff_ops_ctx *ctx)
{
    return ctx->description;
}

/* Ops run as they are called, so a step's values are those of the last call. */
void ff_ref_step(struct ff_ops_ctx *ctx, const struct ff_step *step,
                 void (*queue)(void *arg), void *arg)
{
    ctx->step = *step;
    if (queue)
        queue(arg);
}

float ff_ref_loss(struct ff_ops_ctx *ctx)
{
    return ctx->error.code ? NAN : ctx->loss;
}

void ff_ref_step_result(struct ff_ops_ctx *ctx, struct ff_step_result *result)
{
    *result = ctx->result;
}

struct ff_loss_scale ff_ref_loss_scale(struct ff_ops_ctx *ctx)
{
    return ctx->loss_scale;
}

void ff_ref_set_loss_scale(struct ff_ops_ctx *ctx, const struct ff_loss_scale *scale)
{
    ctx->loss_scale = *scale;
}

static const struct ff_ops ref_ops = {
    .name = "ref",
    .channel_align = 1,
    .input_channels = 3,
    .activation_bytes = 4,
    .destroy = destroy,
    .describe = ff_ref_describe,
    .alloc = ff_ref_alloc,
    .free = ff_ref_free,
    .upload = ff_ref_upload,
    .download = ff_ref_download,
    .sync = ff_ref_sync,
    .step = ff_ref_step,
    .loss = ff_ref_loss,
    .step_result = ff_ref_step_result,
    .loss_scale = ff_ref_loss_scale,
    .set_loss_scale = ff_ref_set_loss_scale,
    .input = ff_ref_input,
    .conv_create = ff_ref_conv_create,
    .conv_destroy = ff_ref_conv_destroy,
    .conv_pack = ff_ref_conv_pack,
    .conv_fwd = ff_ref_conv_fwd,
    .conv_bwd_data = ff_ref_conv_bwd_data,
    .conv_bwd_weights = ff_ref_conv_bwd_weights,
    .bn_stats = ff_ref_bn_stats,
    .bn_finalize = ff_ref_bn_finalize,
    .bn_finalize_running = ff_ref_bn_finalize_running,
    .bn_apply = ff_ref_bn_apply,
    .bn_bwd_reduce = ff_ref_bn_bwd_reduce,
    .bn_bwd_apply = ff_ref_bn_bwd_apply,
    .linear_fwd = ff_ref_linear_fwd,
    .linear_bwd = ff_ref_linear_bwd,
    .head_create = ff_ref_head_create,
    .head_destroy = ff_ref_head_destroy,
    .head_pack = ff_ref_head_pack,
    .head_fwd = ff_ref_head_fwd,
    .head_bwd = ff_ref_head_bwd,
    .grad_check = ff_ref_grad_check,
    .sgd = ff_ref_sgd,
    .head_update = ff_ref_head_update,
};

int ff_ref_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, int threads,
                struct ff_err *err)
{
    *ctx = calloc(1, sizeof **ctx);
    if (!*ctx)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    (*ctx)->threads = threads;
    (*ctx)->loss_scale.value = 1;
    snprintf((*ctx)->description, sizeof(*ctx)->description,
             "ref: plain loops, one thread");
    *ops = &ref_ops;
    return 0;
}
