/* SPDX-License-Identifier: MIT */
/* Shared by the op tests: fresh random tensors on two backends, relative norms, shape
 * files. */
#ifndef FF_OPS_FIXTURE_H
#define FF_OPS_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "ops.h"
#include "rng.h"

/* One backend under test. */
struct side {
    const struct ff_ops *ops;
    struct ff_ops_ctx *ctx;
};

static inline struct side side_open(int backend, int threads)
{
    struct side s;
    struct ff_err err = FF_ERR_INIT;
    const struct ff_ops_options options = {.backend = backend, .threads = threads};
    int rc = ff_ops_open(&s.ops, &s.ctx, NULL, &options, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return s;
}

static inline void side_close(struct side *s)
{
    struct ff_err err = FF_ERR_INIT;
    int rc = s->ops->sync(s->ctx, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    s->ops->destroy(s->ctx);
}

/* Set by a test whose limits hold for chosen inputs only (finite differences). */
static uint64_t fixed_seed;

/* A seed that differs from run to run and is printed with a failure. */
static inline uint64_t fresh_seed(void)
{
    static uint64_t seed;
    if (fixed_seed)
        return fixed_seed;
    if (!seed) {
        struct timespec now;
        clock_gettime(CLOCK_REALTIME, &now);
        seed = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 20;
    }
    return seed;
}

/* mean + std * N(0,1), the same values for the same stream. */
static inline float *random_values(const char *stream, int64_t count, double mean,
                                   double std)
{
    float *values = malloc((size_t)(count + 1) * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(mean + std * ff_rng_normal(fresh_seed(), ff_stream(stream),
                                                       (uint64_t)i));
    return values;
}

static inline struct ff_tensor put(struct side *s, const float *values, int64_t count)
{
    struct ff_tensor t;
    struct ff_err err = FF_ERR_INIT;
    int rc = s->ops->alloc(s->ctx, &t, count, 4, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    s->ops->upload(s->ctx, &t, values);
    return t;
}

static inline struct ff_tensor put_random(struct side *s, const char *stream,
                                          int64_t count, double mean, double std)
{
    float *values = random_values(stream, count, mean, std);
    struct ff_tensor t = put(s, values, count);
    free(values);
    return t;
}

/* An output full of NaN, so that an element that nobody writes shows. */
static inline struct ff_tensor poisoned(struct side *s, int64_t count)
{
    float *values = malloc((size_t)count * sizeof *values);
    for (int64_t i = 0; i < count; i++)
        values[i] = NAN;
    struct ff_tensor t = put(s, values, count);
    free(values);
    return t;
}

static inline struct ff_tensor doubles(struct side *s, int64_t count)
{
    struct ff_tensor t;
    struct ff_err err = FF_ERR_INIT;
    int rc = s->ops->alloc(s->ctx, &t, count, 8, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return t;
}

/* The LR of the updates that follow. */
static inline void set_lr(struct side *s, double lr)
{
    s->ops->step(s->ctx, &(struct ff_step){.lr = lr}, NULL, NULL);
}

static inline float *take(struct side *s, const struct ff_tensor *t)
{
    float *values = malloc((size_t)t->count * sizeof *values);
    s->ops->download(s->ctx, values, t);
    return values;
}

/* |a - b| / |b| over two tensors; NaN where either holds one. */
static inline double relative_norm(struct side *sa, const struct ff_tensor *a,
                                   struct side *sb, const struct ff_tensor *b)
{
    float *x = take(sa, a), *y = take(sb, b);
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < a->count; i++) {
        diff += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        norm += (double)y[i] * y[i];
    }
    free(x);
    free(y);
    return sqrt(diff) / (sqrt(norm) + 1e-30);
}

#define CLOSE(sa, a, sb, b, limit, what, line)                                         \
    do {                                                                               \
        double r_ = relative_norm(sa, a, sb, b);                                       \
        cr_assert(r_ <= (limit),                                                       \
                  "%s: relative norm %.3g > %.3g at \"%s\" (seed %llu)", what, r_,     \
                  (double)(limit), line, (unsigned long long)fresh_seed());            \
    } while (0)

/* Calls fn for every problem line of tests/ops/shapes/<file>; fails on an empty file.
 */
static inline void for_each_shape(const char *file, void (*fn)(const char *line))
{
    char path[4096], line[256];
    const char *root = getenv("FF_TESTS");
    int n = 0;
    snprintf(path, sizeof path, "%s/ops/shapes/%s", root ? root : "tests", file);
    FILE *f = fopen(path, "re");
    cr_assert(ne(ptr, f, NULL), "%s", path);
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] == '#' || !line[0])
            continue;
        fn(line);
        n++;
    }
    fclose(f);
    cr_assert(lt(int, 0, n));
}

#endif
