/* SPDX-License-Identifier: MIT */
/* The registry of backends; see ops.h. */
#include "ops.h"

#include <assert.h>

struct ff_tensor ff_tensor_view(const struct ff_tensor *t, int64_t offset,
                                int64_t count)
{
    assert(offset >= 0 && offset + count <= t->count);
    return (struct ff_tensor){(float *)t->data + offset, count};
}

int ff_ops_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx, const char **reason,
                int backend, int threads, struct ff_err *err)
{
    const char *why = "as asked";
    int rc;
    switch ((enum ff_backend)backend) {
    case FF_BACKEND_REF: rc = ff_ref_open(ops, ctx, threads, err); break;
    case FF_BACKEND_CUDA:
        return ff_err_set(err, FF_EUSAGE,
                          "backend: cuda is not in this build (use backend: onednn)");
    case FF_BACKEND_AUTO:
        why = "this build has no CUDA backend";
        /* fall through */
    case FF_BACKEND_ONEDNN:
    default: rc = ff_onednn_open(ops, ctx, threads, err); break;
    }
    if (reason)
        *reason = why;
    return rc;
}
