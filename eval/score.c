/* SPDX-License-Identifier: MIT */
/* Pair scores; see score.h.
 *
 * A set of templates is larger than the caches, and pairs jump about in it. So pairs
 * are scored bucket by bucket: one block of templates against another, both small
 * enough to stay in the cache. The scores stand in file order all the same. */
#include "score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "h5io.h"

#define BLOCK_BYTES (512 << 10) /* of templates: two fit a second-level cache */
#define MAX_BLOCKS 1024
#define LANES 16   /* partial sums in f32: four vectors of four */
#define STRIDE 128 /* elements after which they are added up in double */

typedef float f32x4 __attribute__((vector_size(16)));

/* Sum of the products of `count` elements, a multiple of LANES. A lane adds at most
 * STRIDE / LANES products, so its rounding stays near 1e-7 of the partial sum. */
static double dot_stride(const float *a, const float *b, int count)
{
    f32x4 sum[LANES / 4] = {{0}};
    for (int d = 0; d < count; d += LANES) {
        f32x4 x[LANES / 4], y[LANES / 4];
        memcpy(x, a + d, sizeof x);
        memcpy(y, b + d, sizeof y);
        sum[0] += x[0] * y[0];
        sum[1] += x[1] * y[1];
        sum[2] += x[2] * y[2];
        sum[3] += x[3] * y[3];
    }
    f32x4 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    return ((double)all[0] + (double)all[1]) + ((double)all[2] + (double)all[3]);
}

static float dot(const float *a, const float *b, int dim)
{
    double sum = 0;
    int d = 0;
    for (; d + STRIDE <= dim; d += STRIDE)
        sum += dot_stride(a + d, b + d, STRIDE);
    int whole = (dim - d) / LANES * LANES;
    sum += dot_stride(a + d, b + d, whole);
    for (d += whole; d < dim; d++)
        sum += (double)a[d] * (double)b[d];
    return (float)sum;
}

/* Pairs in the order in which they are scored: file order inside a bucket, buckets by
 * block of a, then block of b. */
struct plan {
    int buckets;
    int64_t *start;  /* (buckets + 1) */
    uint32_t *order; /* (count) pair indices */
};

static int plan_make(struct plan *plan, const int32_t *a, const int32_t *b,
                     int64_t count, int dim, struct ff_err *err)
{
    int32_t last = 0;
    for (int64_t i = 0; i < count; i++) {
        last = a[i] > last ? a[i] : last;
        last = b[i] > last ? b[i] : last;
    }
    int32_t per_block = (int32_t)(BLOCK_BYTES / (sizeof(float) * (size_t)dim)) + 1;
    while (last / per_block >= MAX_BLOCKS)
        per_block *= 2;
    int blocks = last / per_block + 1;
    plan->buckets = blocks * blocks;
    plan->start = calloc((size_t)plan->buckets + 2, sizeof *plan->start);
    plan->order = malloc(((size_t)count + 1) * sizeof *plan->order);
    if (!plan->start || !plan->order)
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld pairs", (long long)count);
    /* Counting sort: start[k + 2] counts, start[k + 1] walks, start[k] stays. */
    for (int64_t i = 0; i < count; i++)
        plan->start[a[i] / per_block * blocks + b[i] / per_block + 2]++;
    for (int k = 0; k < plan->buckets; k++)
        plan->start[k + 2] += plan->start[k + 1];
    for (int64_t i = 0; i < count; i++) {
        int bucket = a[i] / per_block * blocks + b[i] / per_block;
        plan->order[plan->start[bucket + 1]++] = (uint32_t)i;
    }
    return 0;
}

int ff_score_pairs(float *score, const float *templates, int dim, const int32_t *a,
                   const int32_t *b, int64_t count, int threads, struct ff_err *err)
{
    struct plan plan = {0};
    int64_t bad = INT64_MAX;
    int rc = plan_make(&plan, a, b, count, dim, err);
    if (rc)
        goto done;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4) reduction(min : bad)
    for (int bucket = 0; bucket < plan.buckets; bucket++) {
        for (int64_t k = plan.start[bucket]; k < plan.start[bucket + 1]; k++) {
            int64_t i = plan.order[k];
            score[i] = dot(templates + (size_t)a[i] * (size_t)dim,
                           templates + (size_t)b[i] * (size_t)dim, dim);
            if (!isfinite(score[i]) && i < bad)
                bad = i;
        }
    }
    if (bad != INT64_MAX)
        rc = ff_err_set(err, FF_EDATA, "pair %lld: score is %g", (long long)bad + 1,
                        (double)score[bad]);
done:
    free(plan.order);
    free(plan.start);
    return rc;
}

int ff_score_save(const char *path, const float *score, int64_t count,
                  struct ff_err *err)
{
    struct ff_h5_atomic out;
    int rc = ff_h5_begin(&out, path, err);
    if (rc)
        return rc;
    hsize_t dims[1] = {(hsize_t)count};
    rc = ff_h5_write(out.file, "score", H5T_NATIVE_FLOAT, 1, dims, score, err);
    return ff_h5_end(&out, rc, err);
}
