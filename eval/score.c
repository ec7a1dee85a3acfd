/* SPDX-License-Identifier: MIT */
/* Pair scores; see score.h.
 *
 * A set of templates is larger than the caches, and pairs jump about in it. So pairs
 * are scored bucket by bucket: one block of templates against another, both small
 * enough to stay in the cache. The scores stand in file order all the same.
 *
 * A dot product is 16 partial sums in f32 over 128 elements, added up in double. Every
 * variant below does these same additions, so the bits depend on nothing else: neither
 * on the width of the machine's vectors nor on how many pairs are taken at once. */
#include "score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "h5io.h"

#define BLOCK_BYTES (512 << 10) /* of templates: two fit a second-level cache */
#define MAX_BLOCKS 1024
#define SHIFT_MAX 16      /* places in a block have 16 bits */
#define LANES 16          /* partial sums in f32: two vectors of eight */
#define STRIDE 128        /* elements after which they are added up in double */
#define AT_ONCE 4         /* pairs that share a row of `a` */
#define PLAN_PARTS_MAX 16 /* each has a count for every bucket */

typedef float f32x8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float f32x4 __attribute__((vector_size(16), aligned(4), may_alias));

/* Keeps the partial sums in registers: clang does so by itself. */
#ifdef __clang__
#define UNROLL_PAIRS
#else
#define UNROLL_PAIRS _Pragma("GCC unroll 4")
#endif

static inline __attribute__((always_inline)) double add_lanes(const f32x8 sum[2])
{
    f32x4 part[4];
    memcpy(part, sum, sizeof part);
    f32x4 all = (part[0] + part[1]) + (part[2] + part[3]);
    return ((double)all[0] + (double)all[1]) + ((double)all[2] + (double)all[3]);
}

/* sum[k] += the products of `count` elements of a and b[k], k < n; count is a multiple
 * of LANES. A lane adds at most STRIDE / LANES products, so its rounding stays near
 * 1e-7 of the partial sum. */
static inline __attribute__((always_inline)) void
add_stride(double *sum, const float *a, const float *const *b, int n, int count)
{
    f32x8 part[AT_ONCE][2] = {0};
    for (int d = 0; d < count; d += LANES) {
        f32x8 low = *(const f32x8 *)(const void *)(a + d);
        f32x8 high = *(const f32x8 *)(const void *)(a + d + LANES / 2);
        UNROLL_PAIRS
        for (int k = 0; k < n; k++) {
            part[k][0] += low * *(const f32x8 *)(const void *)(b[k] + d);
            part[k][1] += high * *(const f32x8 *)(const void *)(b[k] + d + LANES / 2);
        }
    }
    UNROLL_PAIRS
    for (int k = 0; k < n; k++)
        sum[k] += add_lanes(part[k]);
}

/* out[k] = a . b[k] for k < n, n a constant where this is expanded. */
static inline __attribute__((always_inline)) void
dots(float *out, const float *a, const float *const *b, int n, int dim)
{
    double sum[AT_ONCE] = {0};
    int d = 0;
    for (; d + STRIDE <= dim; d += STRIDE) {
        const float *at[AT_ONCE];
        UNROLL_PAIRS
        for (int k = 0; k < n; k++)
            at[k] = b[k] + d;
        add_stride(sum, a + d, at, n, STRIDE);
    }
    int whole = (dim - d) / LANES * LANES;
    UNROLL_PAIRS
    for (int k = 0; k < n; k++) {
        const float *at = b[k] + d;
        add_stride(&sum[k], a + d, &at, 1, whole);
        for (int e = d + whole; e < dim; e++)
            sum[k] += (double)a[e] * (double)b[k][e];
        out[k] = (float)sum[k];
    }
}

typedef void dots_function(float *out, const float *a, const float *const *b, int dim);

static void dots_1(float *out, const float *a, const float *const *b, int dim)
{
    dots(out, a, b, 1, dim);
}

static void dots_4(float *out, const float *a, const float *const *b, int dim)
{
    dots(out, a, b, AT_ONCE, dim);
}

struct kernels {
    dots_function *one, *four;
};

#ifdef __x86_64__
/* No FMA: it would round once where the others round twice. */
__attribute__((target("avx"))) static void dots_1_avx(float *out, const float *a,
                                                      const float *const *b, int dim)
{
    dots(out, a, b, 1, dim);
}

__attribute__((target("avx"))) static void dots_4_avx(float *out, const float *a,
                                                      const float *const *b, int dim)
{
    dots(out, a, b, AT_ONCE, dim);
}
#endif

static struct kernels choose_kernels(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx"))
        return (struct kernels){dots_1_avx, dots_4_avx};
#endif
    return (struct kernels){dots_1, dots_4};
}

void ff_score_dots(float *out, const float *a, const float *b, int dim, int64_t count)
{
    struct kernels kernels = choose_kernels();
    const float *row[AT_ONCE];
    int64_t i = 0;
    for (; i + AT_ONCE <= count; i += AT_ONCE) {
        for (int k = 0; k < AT_ONCE; k++)
            row[k] = b + (size_t)(i + k) * (size_t)dim;
        kernels.four(out + i, a, row, dim);
    }
    for (; i < count; i++) {
        row[0] = b + (size_t)i * (size_t)dim;
        kernels.one(out + i, a, row, dim);
    }
}

/* A pair in the order in which pairs are scored: file order inside a bucket, buckets
 * by block of a, then block of b. */
struct entry {
    uint32_t pair;
    uint16_t a, b; /* place in the block */
};

struct plan {
    int shift; /* a block is 1 << shift templates */
    int blocks, buckets;
    int64_t *start; /* (buckets + 1) */
    struct entry *entry;
};

/* Counting sort of part `part` of `parts`: count (buckets) of this part alone, or with
 * `entry` the places that `count` names. */
static void walk_part(struct plan *plan, int64_t *count, int part, int parts,
                      const int32_t *a, const int32_t *b, int64_t pairs, bool place)
{
    int64_t from = pairs / parts * part;
    int64_t to = part + 1 == parts ? pairs : from + pairs / parts;
    int32_t mask = (1 << plan->shift) - 1;
    for (int64_t i = from; i < to; i++) {
        int bucket = (a[i] >> plan->shift) * plan->blocks + (b[i] >> plan->shift);
        if (!place) {
            count[bucket]++;
            continue;
        }
        plan->entry[count[bucket]++] = (struct entry){
            (uint32_t)i, (uint16_t)(a[i] & mask), (uint16_t)(b[i] & mask)};
    }
}

static int32_t largest(const int32_t *a, const int32_t *b, int64_t count, int threads)
{
    int32_t last = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(max : last)
    for (int64_t i = 0; i < count; i++) {
        last = a[i] > last ? a[i] : last;
        last = b[i] > last ? b[i] : last;
    }
    return last;
}

static int plan_make(struct plan *plan, const int32_t *a, const int32_t *b,
                     int64_t pairs, int dim, int threads, struct ff_err *err)
{
    int32_t last = largest(a, b, pairs, threads);
    size_t row_bytes = sizeof(float) * (size_t)dim;
    while (plan->shift < SHIFT_MAX &&
           ((row_bytes << (plan->shift + 1)) <= BLOCK_BYTES ||
            last >> plan->shift >= MAX_BLOCKS))
        plan->shift++;
    plan->blocks = (last >> plan->shift) + 1;
    plan->buckets = plan->blocks * plan->blocks;
    int parts = threads < PLAN_PARTS_MAX ? threads : PLAN_PARTS_MAX;
    size_t buckets = (size_t)plan->buckets;
    int64_t *count = calloc(buckets * (size_t)parts, sizeof *count);
    plan->start = malloc((buckets + 1) * sizeof *plan->start);
    plan->entry = malloc(((size_t)pairs + 1) * sizeof *plan->entry);
    if (!count || !plan->start || !plan->entry) {
        free(count);
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld pairs", (long long)pairs);
    }
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++)
        walk_part(plan, count + buckets * (size_t)part, part, parts, a, b, pairs,
                  false);
    int64_t at = 0;
    for (size_t k = 0; k < buckets; k++) {
        plan->start[k] = at;
        for (size_t part = 0; part < (size_t)parts; part++) {
            int64_t here = count[buckets * part + k];
            count[buckets * part + k] = at;
            at += here;
        }
    }
    plan->start[buckets] = at;
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++)
        walk_part(plan, count + buckets * (size_t)part, part, parts, a, b, pairs, true);
    free(count);
    return 0;
}

/* Scores one bucket; returns the first pair whose score is not finite, or `bad`. */
static int64_t score_bucket(float *score, const struct plan *plan, int bucket,
                            const struct kernels *kernels, const float *templates,
                            int dim, int64_t bad)
{
    size_t d = (size_t)dim;
    const float *block_a =
        templates + ((size_t)(bucket / plan->blocks) << plan->shift) * d;
    const float *block_b =
        templates + ((size_t)(bucket % plan->blocks) << plan->shift) * d;
    int64_t end = plan->start[bucket + 1];
    for (int64_t k = plan->start[bucket]; k < end;) {
        const struct entry *e = &plan->entry[k];
        const float *b[AT_ONCE];
        float found[AT_ONCE];
        int n = 1;
        while (n < AT_ONCE && k + n < end && e[n].a == e[0].a)
            n++;
        n = n < AT_ONCE ? 1 : AT_ONCE;
        for (int m = 0; m < n; m++)
            b[m] = block_b + e[m].b * d;
        (n == 1 ? kernels->one : kernels->four)(found, block_a + e[0].a * d, b, dim);
        for (int m = 0; m < n; m++) {
            score[e[m].pair] = found[m];
            if (!isfinite(found[m]) && e[m].pair < bad)
                bad = e[m].pair;
        }
        k += n;
    }
    return bad;
}

int ff_score_pairs(float *score, const float *templates, int dim, const int32_t *a,
                   const int32_t *b, int64_t count, int threads, struct ff_err *err)
{
    struct plan plan = {0};
    struct kernels kernels = choose_kernels();
    int64_t bad = INT64_MAX;
    int rc = plan_make(&plan, a, b, count, dim, threads, err);
    if (rc)
        goto done;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4) reduction(min : bad)
    for (int bucket = 0; bucket < plan.buckets; bucket++)
        bad = score_bucket(score, &plan, bucket, &kernels, templates, dim, bad);
    if (bad != INT64_MAX)
        rc = ff_err_set(err, FF_EDATA, "pair %lld: score is %g", (long long)bad + 1,
                        (double)score[bad]);
done:
    free(plan.entry);
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
