/* SPDX-License-Identifier: MIT */
/* Template pooling; see pool.h. One template is one piece of parallel work; its images
 * come sorted by (media, row). */
#include "pool.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct job {
    const float *features;
    int dim;
    const int64_t *row;
    const struct ff_ijb_meta *meta;
    struct ff_pool_switches switches;
};

enum image_state { IMAGE_USED, IMAGE_MISSING, IMAGE_BAD };

/* Vectors of two halves: each element goes its own way, so the bits are those of the
 * plain loop. */
typedef float f32x2 __attribute__((vector_size(8), aligned(4), may_alias));
typedef double f64x2 __attribute__((vector_size(16), aligned(8), may_alias));
typedef int32_t i32x4 __attribute__((vector_size(16), aligned(4), may_alias));

static bool all_zero(const float *src, int count)
{
    int d = 0;
    for (; d + 4 <= count; d += 4) { /* the first picture's value ends the walk */
        i32x4 bits = *(const i32x4 *)(const void *)(src + d) << 1;
        if (bits[0] | bits[1] | bits[2] | bits[3])
            return false;
    }
    for (; d < count; d++)
        if (src[d] != 0)
            return false;
    return true;
}

/* f (D) = the image's feature; its squared length where `length` is not NULL. False if
 * a value is not finite. */
static bool take_feature(double *f, double *length, const float *src, int dim,
                         bool flip)
{
    const float *mirrored = flip ? src + dim : NULL;
    f64x2 wrong = {0, 0};
    int d = 0;
    for (; d + 2 <= dim; d += 2) {
        f64x2 v =
            __builtin_convertvector(*(const f32x2 *)(const void *)(src + d), f64x2);
        if (mirrored)
            v += __builtin_convertvector(*(const f32x2 *)(const void *)(mirrored + d),
                                         f64x2);
        wrong += v - v; /* NaN where v is not finite */
        *(f64x2 *)(void *)(f + d) = v;
    }
    for (; d < dim; d++) {
        f[d] = mirrored ? (double)src[d] + (double)mirrored[d] : (double)src[d];
        wrong[0] += f[d] - f[d];
    }
    if (length) {
        double sum = 0;
        for (d = 0; d < dim; d++)
            sum += f[d] * f[d];
        *length = sum;
    }
    return !isnan(wrong[0]) && !isnan(wrong[1]);
}

/* sum (D) += the image's feature; f (D) is work space. */
static enum image_state add_image(double *sum, double *f, const struct job *job,
                                  int32_t image)
{
    int dim = job->dim;
    const float *src = job->features + (size_t)job->row[image] * 2 * (size_t)dim;
    double length, weight = 1;
    if (all_zero(src, 2 * dim))
        return IMAGE_MISSING;
    if (!take_feature(f, job->switches.norm ? NULL : &length, src, dim,
                      job->switches.flip))
        return IMAGE_BAD;
    if (!job->switches.norm)
        weight = length > 0 ? 1 / sqrt(length) : 0;
    if (job->switches.det)
        weight *= (double)job->meta->image[image].det_score;
    int d = 0;
    for (; d + 2 <= dim; d += 2)
        *(f64x2 *)(void *)(sum + d) += *(f64x2 *)(void *)(f + d) * weight;
    for (; d < dim; d++)
        sum[d] += f[d] * weight;
    return IMAGE_USED;
}

/* out (D) = the pooled template; work (3 * D). Returns the first bad image or -1. */
static int32_t pool_one(float *out, int64_t *missing, double *work,
                        const struct job *job, int32_t t)
{
    int dim = job->dim;
    const struct ff_ijb_meta *meta = job->meta;
    double *total = work, *media = work + dim, *f = work + 2 * dim;
    memset(total, 0, (size_t)dim * sizeof *total);
    int64_t i = meta->member_start[t], end = meta->member_start[t + 1];
    while (i < end) {
        int64_t media_id = meta->image[meta->member[i]].media_id;
        int used = 0;
        memset(media, 0, (size_t)dim * sizeof *media);
        for (; i < end && meta->image[meta->member[i]].media_id == media_id; i++) {
            enum image_state state = add_image(media, f, job, meta->member[i]);
            if (state == IMAGE_BAD)
                return meta->member[i];
            used += state == IMAGE_USED;
            *missing += state == IMAGE_MISSING;
        }
        for (int d = 0; used && d < dim; d++)
            total[d] += media[d] / used;
    }
    double length = 0;
    for (int d = 0; d < dim; d++)
        length += total[d] * total[d];
    double scale = length > 0 ? 1 / sqrt(length) : 0;
    for (int d = 0; d < dim; d++)
        out[d] = (float)(total[d] * scale);
    return -1;
}

int ff_pool_templates(float *templates, int64_t *missing, const float *features,
                      int dim, const int64_t *row, const struct ff_ijb_meta *meta,
                      struct ff_pool_switches switches, int threads, struct ff_err *err)
{
    struct job job = {features, dim, row, meta, switches};
    int32_t bad = INT32_MAX;
    int64_t missing_count = 0;
    bool no_memory = false;
#pragma omp parallel num_threads(threads) reduction(+ : missing_count)                     \
    reduction(min : bad) reduction(|| : no_memory)
    {
        double *work = malloc(3 * (size_t)dim * sizeof *work);
        no_memory = !work;
#pragma omp for schedule(dynamic, 16)
        for (int32_t t = 0; t < meta->template_count; t++) {
            if (!work)
                continue;
            float *out = templates + (size_t)t * (size_t)dim;
            int32_t found = pool_one(out, &missing_count, work, &job, t);
            if (found >= 0 && found < bad)
                bad = found;
        }
        free(work);
    }
    *missing = missing_count;
    if (no_memory)
        return ff_err_set(err, FF_ENOMEM, "no memory to pool templates of %d values",
                          dim);
    if (bad != INT32_MAX) {
        return ff_err_set(err, FF_EDATA,
                          "image '%.60s': feature is not finite (row %lld)",
                          meta->image[bad].name, (long long)row[bad]);
    }
    return 0;
}
