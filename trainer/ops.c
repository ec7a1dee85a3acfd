/* SPDX-License-Identifier: MIT */
/* The registry of backends; see ops.h. */
#include "ops.h"

#include <assert.h>
#include <stdio.h>

#include "cuda_load.h"

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

/* Why auto took what it took; kept for the caller. */
static char auto_reason[600];

int ff_ops_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, const char **reason,
                const struct ff_ops_options *options, struct ff_err *err)
{
    struct ff_err inner = FF_ERR_INIT;
    int rc = 0;
    if (reason)
        *reason = "as asked";
    if (options->backend == FF_BACKEND_CUDA) {
        rc = ff_cuda_load(ops, ctx, options, &inner);
        return rc ? ff_err_set(err, rc, "backend: cuda: %s", inner.text) : 0;
    }
    if (options->backend == FF_BACKEND_AUTO) {
        rc = ff_cuda_load(ops, ctx, options, &inner);
        if (reason)
            *reason = rc ? auto_reason : "auto: a GPU is there";
        /* A GPU that is there but full, held or broken is no reason to go on slowly. */
        if (rc != FF_ENODEV)
            return rc ? ff_err_set(err, rc, "%s%s", inner.text,
                                   rc == FF_EFAIL ? " (hint: backend: onednn)" : "")
                      : 0;
        snprintf(auto_reason, sizeof auto_reason, "auto: %.500s", inner.text);
    }
    rc = halves_refused(options, err);
    if (rc)
        return rc;
    return options->backend == FF_BACKEND_REF
               ? ff_ref_open(ops, ctx, options->threads, err)
               : ff_onednn_open(ops, ctx, options->threads, err);
}
