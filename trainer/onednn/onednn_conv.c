/* SPDX-License-Identifier: MIT */
/* Convolutions by oneDNN on channel-last activations.
 *
 * Each pass picks its own weight layout (`any`); pack reorders the master weights
 * (K, R, S, C) into the layouts of the forward and backward-data passes once a step,
 * and backward-weights reorders its result back. Channels must be padded to 16 by the
 * caller (but for the network's input): below that oneDNN 2.x and 3.x write past the
 * end of a buffer in 1x1 stride-2 backward-weights, or fall back to a reference kernel
 * thousands of times slower without a word. The second is refused here by name. */
#include <string.h>

#include "onednn_priv.h"

/* A convolution pass or a reorder with its memory handles. */
struct step {
    dnnl_primitive_t primitive;
    dnnl_memory_t memory[3];
    int arg[3], count;
};

struct ff_conv {
    struct ff_conv_shape shape;
    int64_t M; /* rows of the output */
    bool training, same_layout[3];
    struct step pass[3];    /* by enum ff_conv_pass */
    struct step reorder[3]; /* plain -> pass layout; for weights pass layout -> plain */
    struct ff_tensor
        packed[3];       /* weights in the pass's layout; unused where it is plain */
    const float *weight; /* master weights, borrowed at pack */
    struct onednn_group *group; /* groups > 1: alone in use */
};

static void step_destroy(struct step *s)
{
    for (int i = 0; i < s->count; i++)
        dnnl_memory_destroy(s->memory[i]);
    if (s->primitive)
        dnnl_primitive_destroy(s->primitive);
    *s = (struct step){0};
}

static bool step_memory(struct ff_ops_ctx *ctx, struct step *s, int arg, ff_const_md md)
{
    if (!FF_TRY_DNNL(ctx, dnnl_memory_create(&s->memory[s->count], md,
                                             onednn(ctx)->engine, DNNL_MEMORY_NONE)))
        return false;
    s->arg[s->count++] = arg;
    return true;
}

static void step_run(struct ff_ops_ctx *ctx, struct step *s, void *const data[])
{
    dnnl_exec_arg_t args[3];
    for (int i = 0; i < s->count; i++) {
        if (!FF_TRY_DNNL(ctx, dnnl_memory_set_data_handle(s->memory[i], data[i])))
            return;
        args[i] = (dnnl_exec_arg_t){s->arg[i], s->memory[i]};
    }
    if (FF_TRY_DNNL(ctx, dnnl_primitive_execute(s->primitive, onednn(ctx)->stream,
                                                s->count, args)))
        FF_TRY_DNNL(ctx, dnnl_stream_wait(onednn(ctx)->stream));
}

/* Refuses the reference kernel. */
static bool fast_kernel(struct ff_ops_ctx *ctx, dnnl_primitive_desc_t pd,
                        const struct ff_conv_shape *s)
{
    const char *name = NULL;
    if (!FF_TRY_DNNL(ctx, dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0,
                                                    (void *)&name)))
        return false;
    if (strncmp(name, "ref", 3) != 0)
        return true;
    ff_err_set(&ctx->error, FF_EFAIL,
               "oneDNN has only its slow reference kernel (%s) for convolution N%d C%d "
               "H%d W%d K%d R%d stride %d",
               name, s->N, s->C, s->H, s->W, s->K, s->R, s->stride);
    return false;
}

static bool create_pass(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                        enum ff_conv_pass pass, dnnl_primitive_desc_t pd)
{
    static const int args[3][3] = {
        {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST},
        {DNNL_ARG_DIFF_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DIFF_DST},
        {DNNL_ARG_SRC, DNNL_ARG_DIFF_WEIGHTS, DNNL_ARG_DIFF_DST}};
    static const dnnl_query_t queries[3][3] = {
        {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md},
        {dnnl_query_diff_src_md, dnnl_query_weights_md, dnnl_query_diff_dst_md},
        {dnnl_query_src_md, dnnl_query_diff_weights_md, dnnl_query_diff_dst_md}};
    struct onednn_ctx *o = onednn(ctx);
    const struct ff_conv_shape *s = &conv->shape;
    dnnl_dims_t dims = {s->K, s->C, s->R, s->S};
    ff_md plain = NULL;
    dnnl_primitive_desc_t reorder = NULL;
    bool ok = FF_TRY_DNNL(ctx, dnnl_primitive_create(&conv->pass[pass].primitive, pd));
    for (int i = 0; ok && i < 3; i++)
        ok = step_memory(ctx, &conv->pass[pass], args[pass][i],
                         ff_pd_md(pd, queries[pass][i]));
    /* (K, R, S, C) in memory is oneDNN's ohwi; dims are always given as K, C, R, S. */
    ok = ok && FF_TRY_DNNL(ctx, ff_md_create(&plain, 4, dims, dnnl_ohwi));
    if (!ok)
        goto done;
    ff_const_md chosen = ff_pd_md(pd, queries[pass][1]);
    conv->same_layout[pass] = dnnl_memory_desc_equal(chosen, plain);
    if (conv->same_layout[pass])
        goto done;
    bool back = pass == FF_CONV_BWD_WEIGHTS;
    struct step *r = &conv->reorder[pass];
    size_t bytes = dnnl_memory_desc_get_size(chosen);
    ok = !ff_ref_alloc(ctx, &conv->packed[pass], (int64_t)(bytes + 3) / 4, 4,
                       &ctx->error) &&
         FF_TRY_DNNL(ctx, ff_pd_reorder(&reorder, back ? chosen : plain,
                                        back ? plain : chosen, o->engine, o->attr)) &&
         FF_TRY_DNNL(ctx, dnnl_primitive_create(&r->primitive, reorder)) &&
         step_memory(ctx, r, DNNL_ARG_FROM, back ? chosen : plain) &&
         step_memory(ctx, r, DNNL_ARG_TO, back ? plain : chosen);
done:
    if (reorder)
        dnnl_primitive_desc_destroy(reorder);
    ff_md_destroy(plain);
    return ok;
}

static bool create_passes(struct ff_ops_ctx *ctx, struct ff_conv *conv)
{
    const struct ff_conv_shape *s = &conv->shape;
    int P = ff_conv_out(s->H, s->R, s->stride, s->pad);
    int Q = ff_conv_out(s->W, s->S, s->stride, s->pad);
    dnnl_dims_t src_dims = {s->N, s->C, s->H, s->W}, dst_dims = {s->N, s->K, P, Q};
    dnnl_dims_t weight_dims = {s->K, s->C, s->R, s->S};
    dnnl_dims_t stride = {s->stride, s->stride}, pad = {s->pad, s->pad};
    ff_md src = NULL, weight = NULL, dst = NULL;
    dnnl_primitive_desc_t pd[3] = {NULL, NULL, NULL};
    bool ok =
        FF_TRY_DNNL(ctx, ff_md_create(&src, 4, src_dims, dnnl_nhwc)) &&
        FF_TRY_DNNL(ctx, ff_md_create(&weight, 4, weight_dims, dnnl_format_tag_any)) &&
        FF_TRY_DNNL(ctx, ff_md_create(&dst, 4, dst_dims, dnnl_nhwc));
    int passes = conv->training ? 3 : 1;
    for (int pass = 0; ok && pass < passes; pass++) {
        if (pass == FF_CONV_BWD_DATA && s->pixels)
            continue;
        ok = FF_TRY_DNNL(ctx, ff_pd_conv(&pd[pass], onednn(ctx)->engine,
                                         (enum ff_conv_pass)pass, conv->training, src,
                                         weight, dst, stride, pad, onednn(ctx)->attr,
                                         pd[0])) &&
             fast_kernel(ctx, pd[pass], s) &&
             create_pass(ctx, conv, (enum ff_conv_pass)pass, pd[pass]);
    }
    for (int pass = 0; pass < 3; pass++)
        if (pd[pass])
            dnnl_primitive_desc_destroy(pd[pass]);
    ff_md_destroy(dst);
    ff_md_destroy(weight);
    ff_md_destroy(src);
    return ok;
}

int onednn_conv_create(struct ff_ops_ctx *ctx, struct ff_conv **out,
                       const struct ff_conv_shape *shape, bool training,
                       struct ff_err *err)
{
    struct ff_conv *conv = calloc(1, sizeof *conv);
    *out = NULL;
    if (!conv)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    conv->shape = *shape;
    conv->training = training;
    conv->M = (int64_t)shape->N *
              ff_conv_out(shape->H, shape->R, shape->stride, shape->pad) *
              ff_conv_out(shape->W, shape->S, shape->stride, shape->pad);
    int rc = 0;
    if (shape->groups > 1)
        rc = onednn_group_create(ctx, &conv->group, shape, err);
    else if (!create_passes(ctx, conv))
        rc = ff_ref_sync(ctx, err);
    if (rc) {
        onednn_conv_destroy(ctx, conv);
        return rc;
    }
    *out = conv;
    return 0;
}

void onednn_conv_destroy(struct ff_ops_ctx *ctx, struct ff_conv *conv)
{
    if (!conv)
        return;
    onednn_group_destroy(conv->group);
    for (int pass = 0; pass < 3; pass++) {
        step_destroy(&conv->pass[pass]);
        step_destroy(&conv->reorder[pass]);
        ff_ref_free(ctx, &conv->packed[pass]);
    }
    free(conv);
}

void onednn_conv_pack(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                      const struct ff_tensor *weight)
{
    if (conv->group) {
        onednn_group_pack(conv->group, ff_f32(weight));
        return;
    }
    conv->weight = ff_f32(weight);
    for (int pass = FF_CONV_FWD; pass <= FF_CONV_BWD_DATA; pass++)
        if (conv->reorder[pass].primitive)
            step_run(ctx, &conv->reorder[pass],
                     (void *[]){weight->data, conv->packed[pass].data});
}

static void *pass_weights(struct ff_conv *conv, enum ff_conv_pass pass)
{
    return conv->same_layout[pass] ? (void *)conv->weight : conv->packed[pass].data;
}

void onednn_conv_fwd(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                     struct ff_tensor *dst, const struct ff_tensor *src,
                     struct ff_tensor *stats)
{
    if (conv->group)
        onednn_group_fwd(ctx, conv->group, ff_f32(dst), ff_f32(src));
    else
        step_run(ctx, &conv->pass[FF_CONV_FWD],
                 (void *[]){src->data, pass_weights(conv, FF_CONV_FWD), dst->data});
    if (stats)
        onednn_bn_stats(ctx, stats, dst, conv->M, conv->shape.K);
}

void onednn_conv_bwd_data(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                          struct ff_tensor *dsrc, const struct ff_tensor *ddst,
                          const struct ff_tensor *add)
{
    const struct ff_conv_shape *s = &conv->shape;
    if (conv->group)
        onednn_group_bwd_data(ctx, conv->group, ff_f32(dsrc), ff_f32(ddst));
    else
        step_run(
            ctx, &conv->pass[FF_CONV_BWD_DATA],
            (void *[]){dsrc->data, pass_weights(conv, FF_CONV_BWD_DATA), ddst->data});
    float *dx = ff_f32(dsrc);
    const float *more = ff_f32(add);
    int64_t count = add ? (int64_t)s->N * s->H * s->W * s->C : 0;
#pragma omp parallel for num_threads(ctx->threads)
    for (int64_t i = 0; i < count; i++)
        dx[i] += more[i];
}

void onednn_conv_bwd_weights(struct ff_ops_ctx *ctx, struct ff_conv *conv,
                             struct ff_tensor *dweight, const struct ff_tensor *src,
                             const struct ff_tensor *ddst)
{
    if (conv->group) {
        onednn_group_bwd_weights(ctx, conv->group, ff_f32(dweight), ff_f32(src),
                                 ff_f32(ddst));
        return;
    }
    bool plain = conv->same_layout[FF_CONV_BWD_WEIGHTS];
    void *own = plain ? dweight->data : conv->packed[FF_CONV_BWD_WEIGHTS].data;
    step_run(ctx, &conv->pass[FF_CONV_BWD_WEIGHTS],
             (void *[]){src->data, own, ddst->data});
    if (!plain)
        step_run(ctx, &conv->reorder[FF_CONV_BWD_WEIGHTS],
                 (void *[]){own, dweight->data});
}
