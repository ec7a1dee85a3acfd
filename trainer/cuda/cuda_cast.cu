/* SPDX-License-Identifier: MIT */
/* Casts between f32 and halves, many tensors in one kernel: the weights of all
 * convolutions after an update, their gradients before one. A convolution only notes
 * what it wants; the list travels in the kernel's arguments, so that a captured step
 * needs no table in memory. */
#include <stdlib.h>

#include "cuda_launch.h"

/* r200 has 201 convolutions. */
enum { MOST = 256, THREADS = 256, BLOCKS = 32 };

struct cast_list {
    void *dst[MOST];
    const void *src[MOST];
    int64_t count[MOST];
    int length;
};
static_assert(sizeof(cast_list) <= 32764, "kernel arguments, CUDA 12.1 and later");

struct cuda_casts {
    cast_list weights, gradients;
};

template <class To, class From> static __global__ void cast_kernel(cast_list list)
{
    To *dst = static_cast<To *>(list.dst[blockIdx.y]);
    const From *src = static_cast<const From *>(list.src[blockIdx.y]);
    int64_t count = list.count[blockIdx.y], body = count / LANES * LANES;
    int64_t step = (int64_t)gridDim.x * blockDim.x * LANES;
    int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
    for (int64_t i = first; i < body; i += step) {
        float x[LANES];
        get8(x, src + i);
        put8(dst + i, x);
    }
    if (first == 0)
        for (int64_t i = body; i < count; i++)
            dst[i] = narrow<To>(widen(src[i]));
}

static void flush(struct cuda_ctx *cu, cast_list *list, bool weights)
{
    if (list->length == 0)
        return;
    with_type(cu->type, [&](auto t) {
        using T = decltype(t);
        launch(cu, "cast", weights ? cast_kernel<T, float> : cast_kernel<float, T>,
               dim3(BLOCKS, (unsigned int)list->length), dim3(THREADS), *list);
    });
    list->length = 0;
}

void cuda_cast_later(struct cuda_ctx *cu, void *dst, enum cuda_type to, const void *src,
                     int64_t count)
{
    bool weights = to != CUDA_F32;
    if (!cu->casts)
        cu->casts = static_cast<cuda_casts *>(calloc(1, sizeof *cu->casts));
    if (!cu->casts) {
        struct ff_err err = FF_ERR_INIT;
        cuda_fail(cu, ff_err_set(&err, FF_ENOMEM, "out of memory"), &err);
        return;
    }
    cast_list *list = weights ? &cu->casts->weights : &cu->casts->gradients;
    if (list->length == MOST)
        cuda_cast_flush(cu, weights);
    list->dst[list->length] = dst;
    list->src[list->length] = src;
    list->count[list->length++] = count;
}

void cuda_cast_flush(struct cuda_ctx *cu, bool weights)
{
    if (!weights) /* in f32 they are written where they are read */
        cuda_side_join(cu);
    if (cu->casts)
        flush(cu, weights ? &cu->casts->weights : &cu->casts->gradients, weights);
}

template <class T>
static __global__ void add_kernel(T *dst, const T *add, int64_t count)
{
    int64_t body = count / LANES * LANES;
    int64_t step = (int64_t)gridDim.x * blockDim.x * LANES;
    int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
    for (int64_t i = first; i < body; i += step) {
        float x[LANES], y[LANES];
        get8(x, dst + i);
        get8(y, add + i);
        FF_UNROLL
        for (int k = 0; k < LANES; k++)
            x[k] += y[k];
        put8(dst + i, x);
    }
    if (first == 0)
        for (int64_t i = body; i < count; i++)
            dst[i] = narrow<T>(widen(dst[i]) + widen(add[i]));
}

void cuda_add(struct cuda_ctx *cu, void *dst, const void *add, enum cuda_type type,
              int64_t count)
{
    with_type(type, [&](auto t) {
        using T = decltype(t);
        launch(cu, "add", add_kernel<T>,
               dim3(blocks_for(count, THREADS * LANES, 8 * cu->multiprocessors)),
               dim3(THREADS), static_cast<T *>(dst), static_cast<const T *>(add),
               count);
    });
}
