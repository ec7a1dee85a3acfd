/* SPDX-License-Identifier: MIT */
/* The few oneDNN calls that we need, alike on 2.x and 3.x.
 *
 * In 2.x a memory descriptor is a struct passed by pointer and a primitive descriptor
 * is made from an operation descriptor; in 3.x both are opaque handles. Here a
 * descriptor is always a heap handle `struct ff_dnnl_md *`-like pointer, freed by
 * ff_md_destroy. This is the only file that looks at the version. */
#ifndef FF_DNNL_SHIM_H
#define FF_DNNL_SHIM_H

#include <oneapi/dnnl/dnnl.h>
#include <stdlib.h>

#if DNNL_VERSION_MAJOR >= 3
typedef dnnl_memory_desc_t ff_md;
#else
typedef dnnl_memory_desc_t *ff_md;
#endif

static inline dnnl_status_t ff_md_create(ff_md *md, int ndim, const dnnl_dims_t dims,
                                         dnnl_format_tag_t tag)
{
#if DNNL_VERSION_MAJOR >= 3
    return dnnl_memory_desc_create_with_tag(md, ndim, dims, dnnl_f32, tag);
#else
    *md = malloc(sizeof **md);
    return *md ? dnnl_memory_desc_init_by_tag(*md, ndim, dims, dnnl_f32, tag)
               : dnnl_out_of_memory;
#endif
}

static inline void ff_md_destroy(ff_md md)
{
    if (!md)
        return;
#if DNNL_VERSION_MAJOR >= 3
    dnnl_memory_desc_destroy(md);
#else
    free(md);
#endif
}

/* Borrowed descriptor that a primitive descriptor chose. */
static inline const_dnnl_primitive_desc_t ff_const_pd(dnnl_primitive_desc_t pd)
{
    return pd;
}
#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t ff_const_md;
#else
typedef const dnnl_memory_desc_t *ff_const_md;
#endif
static inline ff_const_md ff_pd_md(dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(ff_const_pd(pd), what, 0);
}

enum ff_conv_pass { FF_CONV_FWD, FF_CONV_BWD_DATA, FF_CONV_BWD_WEIGHTS };

/* Convolution without bias; `forward_hint` is the forward primitive descriptor for the
 * two backward passes, NULL for the forward one. */
static inline dnnl_status_t ff_pd_conv(dnnl_primitive_desc_t *pd, dnnl_engine_t engine,
                                       enum ff_conv_pass pass, bool training, ff_md src,
                                       ff_md weight, ff_md dst,
                                       const dnnl_dims_t stride, const dnnl_dims_t pad,
                                       dnnl_primitive_attr_t attr,
                                       dnnl_primitive_desc_t forward_hint)
{
    dnnl_prop_kind_t kind = training ? dnnl_forward_training : dnnl_forward_inference;
#if DNNL_VERSION_MAJOR >= 3
    dnnl_dims_t dilation = {0, 0};
    switch (pass) {
    case FF_CONV_FWD:
        return dnnl_convolution_forward_primitive_desc_create(
            pd, engine, kind, dnnl_convolution_direct, src, weight, NULL, dst, stride,
            dilation, pad, pad, attr);
    case FF_CONV_BWD_DATA:
        return dnnl_convolution_backward_data_primitive_desc_create(
            pd, engine, dnnl_convolution_direct, src, weight, dst, stride, dilation,
            pad, pad, forward_hint, attr);
    case FF_CONV_BWD_WEIGHTS: break;
    }
    return dnnl_convolution_backward_weights_primitive_desc_create(
        pd, engine, dnnl_convolution_direct, src, weight, NULL, dst, stride, dilation,
        pad, pad, forward_hint, attr);
#else
    dnnl_convolution_desc_t desc;
    dnnl_status_t status;
    switch (pass) {
    case FF_CONV_FWD:
        status = dnnl_convolution_forward_desc_init(
            &desc, kind, dnnl_convolution_direct, src, weight, NULL, dst, stride, pad,
            pad);
        break;
    case FF_CONV_BWD_DATA:
        status = dnnl_convolution_backward_data_desc_init(
            &desc, dnnl_convolution_direct, src, weight, dst, stride, pad, pad);
        break;
    default:
        status = dnnl_convolution_backward_weights_desc_init(
            &desc, dnnl_convolution_direct, src, weight, NULL, dst, stride, pad, pad);
    }
    if (status != dnnl_success)
        return status;
    return dnnl_primitive_desc_create(pd, &desc, attr, engine, forward_hint);
#endif
}

static inline dnnl_status_t ff_pd_reorder(dnnl_primitive_desc_t *pd, ff_const_md from,
                                          ff_const_md to, dnnl_engine_t engine,
                                          dnnl_primitive_attr_t attr)
{
    return dnnl_reorder_primitive_desc_create(pd, from, engine, to, engine, attr);
}

#endif
