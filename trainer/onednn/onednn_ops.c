/* SPDX-License-Identifier: MIT */
/* The CPU backend: oneDNN for convolutions and GEMMs, own loops for the rest.
 *
 * Results are fixed for a given number of threads, instruction set and library version,
 * which describe() names. */
#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "onednn_priv.h"

bool onednn_ok(struct ff_ops_ctx *ctx, dnnl_status_t status, const char *call,
               const char *where)
{
    static const char *const names[] = {
        "success",       "out of memory", "invalid arguments", "unimplemented",
        "iterator ends", "runtime error", "not required"};
    if (status == dnnl_success)
        return true;
    if (!ctx->error.code)
        ff_err_set(&ctx->error, status == dnnl_out_of_memory ? FF_ENOMEM : FF_EFAIL,
                   "oneDNN: %s (%s: %.120s)",
                   (unsigned)status < sizeof names / sizeof *names ? names[status]
                                                                   : "unknown status",
                   where, call);
    return false;
}

double *onednn_partial(struct ff_ops_ctx *ctx, int64_t count)
{
    struct onednn_ctx *o = onednn(ctx);
    int64_t need = count * ctx->threads;
    if (need > o->partial_count) {
        free(o->partial);
        o->partial = malloc((size_t)need * sizeof(double));
        o->partial_count = o->partial ? need : 0;
    }
    if (o->partial)
        memset(o->partial, 0, (size_t)need * sizeof(double));
    else if (!ctx->error.code)
        ff_err_set(&ctx->error, FF_ENOMEM, "out of memory: %lld bytes wanted",
                   (long long)need * 8);
    return o->partial;
}

static void destroy(struct ff_ops_ctx *ctx)
{
    struct onednn_ctx *o = onednn(ctx);
    if (!o)
        return;
    if (o->attr)
        dnnl_primitive_attr_destroy(o->attr);
    if (o->stream)
        dnnl_stream_destroy(o->stream);
    if (o->engine)
        dnnl_engine_destroy(o->engine);
    free(o->partial);
    free(o);
}

static const struct onednn_rows *pick_rows(void)
{
#ifdef __x86_64__
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &onednn_rows_v4;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &onednn_rows_v3;
#endif
    return &onednn_rows_base;
}

static const struct ff_ops onednn_ops = {
    .name = "onednn",
    .channel_align = 16,
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
    .input = onednn_input,
    .conv_create = onednn_conv_create,
    .conv_destroy = onednn_conv_destroy,
    .conv_pack = onednn_conv_pack,
    .conv_fwd = onednn_conv_fwd,
    .conv_bwd_data = onednn_conv_bwd_data,
    .conv_bwd_weights = onednn_conv_bwd_weights,
    .bn_stats = onednn_bn_stats,
    .bn_finalize = ff_ref_bn_finalize,
    .bn_finalize_running = ff_ref_bn_finalize_running,
    .bn_apply = onednn_bn_apply,
    .bn_bwd_reduce = onednn_bn_bwd_reduce,
    .bn_bwd_apply = onednn_bn_bwd_apply,
    .linear_fwd = onednn_linear_fwd,
    .linear_bwd = onednn_linear_bwd,
    .head_create = onednn_head_create,
    .head_destroy = onednn_head_destroy,
    .head_pack = ff_ref_head_pack,
    .head_fwd = onednn_head_fwd,
    .head_bwd = onednn_head_bwd,
    .grad_check = onednn_grad_check,
    .sgd = onednn_sgd,
    .head_update = onednn_head_update,
};

int ff_onednn_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, int threads,
                   struct ff_err *err)
{
    struct onednn_ctx *o = calloc(1, sizeof *o);
    if (!o)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    struct ff_ops_ctx *base = &o->base;
    base->threads = threads;
    base->loss_scale.value = 1;
    omp_set_num_threads(threads);
    o->rows = pick_rows();
    if (!FF_TRY_DNNL(base, dnnl_engine_create(&o->engine, dnnl_cpu, 0)) ||
        !FF_TRY_DNNL(base, dnnl_stream_create(&o->stream, o->engine,
                                              dnnl_stream_default_flags)) ||
        !FF_TRY_DNNL(base, dnnl_primitive_attr_create(&o->attr))) {
        int rc = ff_ref_sync(base, err);
        destroy(base);
        return rc;
    }
    const dnnl_version_t *v = dnnl_version();
    snprintf(base->description, sizeof base->description,
             "onednn %d.%d.%d, isa %d, rows %s, %d threads", v->major, v->minor,
             v->patch, (int)dnnl_get_effective_cpu_isa(),
             o->rows->isa + strlen("onednn_rows_"), threads);
    *ops = &onednn_ops;
    *ctx = base;
    return 0;
}
