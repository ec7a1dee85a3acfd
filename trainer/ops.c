/* SPDX-License-Identifier: MIT */
/* The registry of backends; see ops.h. */
#include "ops.h"

#include <assert.h>

struct ff_tensor ff_tensor_view(const struct ff_tensor *t, int64_t offset,
                                int64_t count)
{
    assert(offset >= 0 && offset + count <= t->count);
    return (struct ff_tensor){(char *)t->data + offset * t->element_bytes, count,
                              t->element_bytes};
}

static int halves_refused(const struct ff_ops_options *o, struct ff_err *err)
{
    const char *name = NULL;
    if (o->precision == FF_PRECISION_FP16 || o->precision == FF_PRECISION_BF16)
        name = "precision";
    else if (o->head_precision == FF_HEAD_PRECISION_FP16)
        name = "head_precision";
    if (!name)
        return 0;
    return ff_err_set(err, FF_EUSAGE,
                      "%s: a CPU backend computes in fp32 alone (hint: %s: fp32)", name,
                      name);
}

int ff_ops_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, const char **reason,
                const struct ff_ops_options *options, struct ff_err *err)
{
    const char *why = "as asked";
    int rc = 0;
    if (options->backend == FF_BACKEND_CUDA)
        return ff_err_set(err, FF_EUSAGE,
                          "backend: cuda is not in this build (use backend: onednn)");
    if (options->backend == FF_BACKEND_AUTO)
        why = "this build has no CUDA backend";
    rc = halves_refused(options, err);
    if (!rc && options->backend == FF_BACKEND_REF)
        rc = ff_ref_open(ops, ctx, options->threads, err);
    else if (!rc)
        rc = ff_onednn_open(ops, ctx, options->threads, err);
    if (reason)
        *reason = why;
    return rc;
}
