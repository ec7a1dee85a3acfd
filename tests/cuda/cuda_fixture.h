/* SPDX-License-Identifier: MIT */
/* For the tests of the cuda backend. Each program is built twice: on the emulator,
 * where it always runs, and for a GPU, where it is skipped if there is none. */
#ifndef FF_CUDA_FIXTURE_H
#define FF_CUDA_FIXTURE_H

#include "cuda_load.h"
#include "ops_fixture.h"

/* How far a result may be from ref, by relative norm, for each precision. */
struct precision {
    const char *name;
    int precision, head;
    double limit; /* of one rounding and its sums */
};
static const struct precision precisions[] = {
    {"fp32", FF_PRECISION_FP32, FF_HEAD_PRECISION_FP32, 5e-6},
    {"fp16", FF_PRECISION_FP16, FF_HEAD_PRECISION_FP32, 1e-3},
    {"bf16", FF_PRECISION_BF16, FF_HEAD_PRECISION_FP32, 8e-3},
};
enum { PRECISIONS = sizeof precisions / sizeof *precisions };

static inline struct side cuda_open_with(const struct ff_ops_options *options)
{
    struct side s = {0};
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_cuda_load(&s.ops, &s.ctx, options, &err);
    if (rc == FF_ENODEV)
        cr_skip_test("%s", err.text);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return s;
}

static inline struct side cuda_open_side(int precision, int head_precision)
{
    const struct ff_ops_options options = {.backend = FF_BACKEND_CUDA,
                                           .threads = 1,
                                           .precision = precision,
                                           .head_precision = head_precision};
    return cuda_open_with(&options);
}

/* An activation on `s` and the same, rounded values on ref: what both compute from. */
static inline struct ff_tensor put_activation(struct side *s, const float *values,
                                              int64_t count)
{
    struct ff_tensor t;
    struct ff_err err = FF_ERR_INIT;
    int rc = s->ops->alloc(s->ctx, &t, count, s->ops->activation_bytes, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    s->ops->upload(s->ctx, &t, values);
    return t;
}

static inline void put_both(struct ff_tensor *on_s, struct ff_tensor *on_ref,
                            struct side *s, struct side *ref, const char *stream,
                            int64_t count, double mean, double std)
{
    float *values = random_values(stream, count, mean, std);
    *on_s = put_activation(s, values, count);
    s->ops->download(s->ctx, values, on_s);
    *on_ref = put(ref, values, count);
    free(values);
}

static inline struct ff_tensor poisoned_activation(struct side *s, int64_t count)
{
    float *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = NAN;
    struct ff_tensor t = put_activation(s, values, count);
    free(values);
    return t;
}

static inline void free_all(struct side *s, struct ff_tensor **all, size_t count)
{
    for (size_t i = 0; i < count; i++)
        s->ops->free(s->ctx, all[i]);
}
#define FREE_ALL(s, ...)                                                               \
    free_all(s, (struct ff_tensor *[]){__VA_ARGS__},                                   \
             sizeof((struct ff_tensor *[]){__VA_ARGS__}) / sizeof(struct ff_tensor *))

#endif
