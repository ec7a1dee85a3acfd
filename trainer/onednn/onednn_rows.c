/* SPDX-License-Identifier: MIT */
/* Element-wise and reducing kernels over rows of channel-last data.
 *
 * The Makefile compiles this file once for each instruction set with
 * -DFF_ROWS=onednn_rows_<set>. A vector value is one register of the set: compilers keep
 * wider ones in memory. Each channel's arithmetic is the same on every set; what is
 * summed across channels keeps sixteen partial sums. Reductions sum chunks of 64 rows in float around the chunk's first row
 * (so that a large mean costs no digits) and chunks in double. */
#include <math.h>
#include <string.h>

#include "onednn_priv.h"

#ifndef FF_ROWS
#define FF_ROWS onednn_rows_base
#endif
#define FF_ISA_NAME FF_STRINGIFY(FF_ROWS)

#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define WIDE 16 /* partial sums of a flat array */
#define CHUNK_ROWS 64

/* Clang's vector_size types must not be passed by value across differing targets; all
 * uses below stay inside static inline functions of this file. */
typedef float vec __attribute__((vector_size(LANES * 4)));
typedef int32_t veci __attribute__((vector_size(LANES * 4)));

static inline __attribute__((always_inline)) void load(vec *out, const float *p)
{
    memcpy(out, p, sizeof *out);
}
static inline __attribute__((always_inline)) void store(float *p, const vec *v)
{
    memcpy(p, v, sizeof *v);
}
/* out = pre > 0 ? yes : no, lane by lane. */
static inline __attribute__((always_inline)) void
select_positive(vec *out, const vec *pre, const vec *yes, const vec *no)
{
    veci mask = *pre > (vec){0};
    *out = (vec)((mask & (veci)*yes) | (~mask & (veci)*no));
}

static void stats(double *sum, double *sum_sq, const float *x, int64_t rows, int C)
{
    for (int64_t r0 = 0; r0 < rows; r0 += CHUNK_ROWS) {
        int64_t n = rows - r0 < CHUNK_ROWS ? rows - r0 : CHUNK_ROWS;
        for (int c = 0; c < C; c += LANES) {
            vec origin, s = {0}, q = {0};
            load(&origin, x + r0 * C + c);
            for (int64_t r = r0; r < r0 + n; r++) {
                vec v;
                load(&v, x + r * C + c);
                v -= origin;
                s += v;
                q += v * v;
            }
            for (int i = 0; i < LANES; i++) {
                double o = origin[i], si = s[i];
                sum[c + i] += si + (double)n * o;
                sum_sq[c + i] += (double)q[i] + 2 * o * si + (double)n * o * o;
            }
        }
    }
}

static inline __attribute__((always_inline)) void
apply_kind(bool prelu, bool add, bool add_bn, float *y, const float *x,
           const float *scale, const float *shift, const float *slope,
           const float *residual, const float *residual_scale,
           const float *residual_shift, int64_t rows, int C)
{
    for (int64_t r = 0; r < rows; r++)
        for (int c = 0; c < C; c += LANES) {
            vec v, a, b;
            load(&v, x + r * C + c);
            load(&a, scale + c);
            load(&b, shift + c);
            v = v * a + b;
            if (prelu) {
                vec s;
                load(&s, slope + c);
                s *= v;
                select_positive(&v, &v, &v, &s);
            }
            if (add) {
                vec w;
                load(&w, residual + r * C + c);
                if (add_bn) {
                    load(&a, residual_scale + c);
                    load(&b, residual_shift + c);
                    w = w * a + b;
                }
                v += w;
            }
            store(y + r * C + c, &v);
        }
}

static void apply(float *y, const float *x, const float *scale, const float *shift,
                  const float *slope, const float *residual,
                  const float *residual_scale, const float *residual_shift,
                  int64_t rows, int C)
{
#define KIND(prelu, add, add_bn)                                                       \
    apply_kind(prelu, add, add_bn, y, x, scale, shift, slope, residual,                \
               residual_scale, residual_shift, rows, C)
    if (slope && !residual)
        KIND(true, false, false);
    else if (slope)
        KIND(true, true, residual_scale != NULL);
    else if (!residual)
        KIND(false, false, false);
    else if (residual_scale)
        KIND(false, true, true);
    else
        KIND(false, true, false);
#undef KIND
}

static inline __attribute__((always_inline)) void
bwd_reduce_kind(bool prelu, double *sums, const float *dout, const float *x,
                const float *scale, const float *shift, const float *mean,
                const float *invstd, const float *slope, int64_t rows, int C)
{
    for (int64_t r0 = 0; r0 < rows; r0 += CHUNK_ROWS) {
        int64_t n = rows - r0 < CHUNK_ROWS ? rows - r0 : CHUNK_ROWS;
        for (int c = 0; c < C; c += LANES) {
            vec a = {0}, b = {0}, w = {0}, m, k, s0 = {0}, s1 = {0}, s2 = {0};
            load(&m, mean + c);
            load(&k, invstd + c);
            if (prelu) {
                load(&a, scale + c);
                load(&b, shift + c);
                load(&w, slope + c);
            }
            for (int64_t r = r0; r < r0 + n; r++) {
                vec v, d;
                load(&v, x + r * C + c);
                load(&d, dout + r * C + c);
                if (prelu) {
                    vec zero = {0}, pre = a * v + b, scaled = d * w, dpre = d * pre;
                    select_positive(&dpre, &pre, &zero, &dpre);
                    s2 += dpre;
                    select_positive(&d, &pre, &d, &scaled);
                }
                s0 += d;
                s1 += d * ((v - m) * k);
            }
            for (int i = 0; i < LANES; i++) {
                sums[c + i] += (double)s0[i];
                sums[C + c + i] += (double)s1[i];
                if (prelu)
                    sums[2 * C + c + i] += (double)s2[i];
            }
        }
    }
}

static void bwd_reduce(double *sums, const float *dout, const float *x,
                       const float *scale, const float *shift, const float *mean,
                       const float *invstd, const float *slope, int64_t rows, int C)
{
    if (slope)
        bwd_reduce_kind(true, sums, dout, x, scale, shift, mean, invstd, slope, rows,
                        C);
    else
        bwd_reduce_kind(false, sums, dout, x, scale, shift, mean, invstd, slope, rows,
                        C);
}

static inline __attribute__((always_inline)) void
bwd_apply_kind(bool prelu, bool more, float *dx, const float *dout, const float *x,
               const float *scale, const float *shift, const float *slope,
               const float *pa, const float *pb, const float *pc, const float *add,
               int64_t rows, int C)
{
    for (int64_t r = 0; r < rows; r++)
        for (int c = 0; c < C; c += LANES) {
            vec v, d, a, b, e;
            load(&v, x + r * C + c);
            load(&d, dout + r * C + c);
            if (prelu) {
                vec w, pre;
                load(&a, scale + c);
                load(&b, shift + c);
                load(&w, slope + c);
                pre = a * v + b;
                w *= d;
                select_positive(&d, &pre, &d, &w);
            }
            load(&a, pa + c);
            load(&b, pb + c);
            load(&e, pc + c);
            d = a * d + b * v + e;
            if (more) {
                load(&e, add + r * C + c);
                d += e;
            }
            store(dx + r * C + c, &d);
        }
}

static void bwd_apply(float *dx, const float *dout, const float *x, const float *scale,
                      const float *shift, const float *slope, const float *a,
                      const float *b, const float *c, const float *add, int64_t rows,
                      int C)
{
#define KIND(prelu, more)                                                              \
    bwd_apply_kind(prelu, more, dx, dout, x, scale, shift, slope, a, b, c, add, rows, C)
    if (slope && add)
        KIND(true, true);
    else if (slope)
        KIND(true, false);
    else if (add)
        KIND(false, true);
    else
        KIND(false, false);
#undef KIND
}

/* Out of x[c - c % 2], x[c - c % 2 + 1]: the even ones doubled, the odd ones doubled.
 */
#if LANES == 16
#define DOUBLE_EVEN(v)                                                                 \
    __builtin_shufflevector(v, v, 0, 0, 2, 2, 4, 4, 6, 6, 8, 8, 10, 10, 12, 12, 14, 14)
#define DOUBLE_ODD(v)                                                                  \
    __builtin_shufflevector(v, v, 1, 1, 3, 3, 5, 5, 7, 7, 9, 9, 11, 11, 13, 13, 15, 15)
#elif LANES == 8
#define DOUBLE_EVEN(v) __builtin_shufflevector(v, v, 0, 0, 2, 2, 4, 4, 6, 6)
#define DOUBLE_ODD(v) __builtin_shufflevector(v, v, 1, 1, 3, 3, 5, 5, 7, 7)
#else
#define DOUBLE_EVEN(v) __builtin_shufflevector(v, v, 0, 0, 2, 2)
#define DOUBLE_ODD(v) __builtin_shufflevector(v, v, 1, 1, 3, 3)
#endif

static void group_sum(float *y, const float *const *x, const float *const *w, int taps,
                      int share, int C)
{
    for (int c = 0; c < C; c += LANES) {
        vec sum = {0};
        for (int t = 0; t < taps; t++) {
            vec v, a, b;
            load(&v, x[t] + c);
            load(&a, w[t] + c);
            if (share == 1) {
                sum += a * v;
                continue;
            }
            load(&b, w[t] + C + c);
            sum += a * DOUBLE_EVEN(v);
            sum += b * DOUBLE_ODD(v);
        }
        store(y + c, &sum);
    }
}

static void group_products(double *sums, const float *x, int64_t x_step,
                           const float *dy, int64_t count, int share, int C)
{
    for (int c = 0; c < C; c += LANES) {
        vec even = {0}, odd = {0};
        for (int64_t i = 0; i < count; i++) {
            vec v, d;
            load(&v, x + i * x_step + c);
            load(&d, dy + i * C + c);
            if (share == 1) {
                even += d * v;
                continue;
            }
            even += d * DOUBLE_EVEN(v);
            odd += d * DOUBLE_ODD(v);
        }
        for (int i = 0; i < LANES; i++) {
            sums[c + i] += (double)even[i];
            if (share == 2)
                sums[C + c + i] += (double)odd[i];
        }
    }
}

static void sgd(float *w, float *v, const float *g, float factor, float momentum,
                float decay, float lr, int64_t n)
{
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec wi, vi, gi;
        load(&wi, w + i);
        load(&vi, v + i);
        load(&gi, g + i);
        vi = momentum * vi + (factor * gi + decay * wi);
        wi -= lr * vi;
        store(v + i, &vi);
        store(w + i, &wi);
    }
    for (; i < n; i++) {
        v[i] = momentum * v[i] + (factor * g[i] + decay * w[i]);
        w[i] -= lr * v[i];
    }
}

static double sum_squares(bool *finite, const float *x, int64_t n)
{
    double total = 0;
    int64_t i = 0;
    while (i + WIDE <= n) {
        int64_t end = i + WIDE * CHUNK_ROWS < n ? i + WIDE * CHUNK_ROWS : n;
        vec s[WIDE / LANES] = {{0}};
        for (; i + WIDE <= end; i += WIDE)
            for (int j = 0; j < WIDE / LANES; j++) {
                vec v;
                load(&v, x + i + j * LANES);
                s[j] += v * v;
            }
        for (int k = 0; k < WIDE; k++)
            total += (double)s[k / LANES][k % LANES];
    }
    for (; i < n; i++)
        total += (double)x[i] * x[i];
    /* A sum of squares of finite floats can overflow only past 1e38: look again. */
    *finite = true;
    if (!isfinite(total)) {
        total = 0;
        for (i = 0; i < n; i++) {
            *finite = *finite && isfinite(x[i]);
            total += (double)x[i] * x[i];
        }
    }
    return total;
}

/* exp(x) for x <= 0, relative error below 2e-7: 2^k times a degree-6 polynomial on
 * [-ln2/2, ln2/2], ln 2 taken off in two parts (Cody and Waite). Below -87: 0. */
static inline __attribute__((always_inline)) void exp_nonpositive(vec *out,
                                                                  const vec *x)
{
    const float round_bias =
        12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    vec lowest = (vec){0} - 87.0f, clamped;
    vec above = *x - lowest;
    select_positive(&clamped, &above, x, &lowest);
    vec k = clamped * 1.44269504f + round_bias;
    veci exponent = (veci)k << 23;
    k -= round_bias;
    vec r = clamped - k * 0.693359375f;
    r -= k * -2.12194440e-4f;
    vec p = r * 1.3981999507e-3f + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    vec result = (vec)((veci)p + exponent), zero = {0};
    select_positive(out, &above, &result, &zero);
    veci nan = *x != *x;
    *out = (vec)((nan & (veci)*x) | (~nan & (veci)*out));
}

static double exp_sum(float *x, float max, int64_t n)
{
    double total = 0;
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        vec v;
        load(&v, x + i);
        v -= max;
        exp_nonpositive(&v, &v);
        store(x + i, &v);
        for (int k = 0; k < LANES; k++)
            total += (double)v[k];
    }
    if (i < n) {
        float tail[LANES];
        vec v;
        for (int k = 0; k < LANES; k++)
            tail[k] = i + k < n ? x[i + k] - max : -INFINITY;
        load(&v, tail);
        exp_nonpositive(&v, &v);
        for (int k = 0; i + k < n; k++) {
            x[i + k] = v[k];
            total += (double)v[k];
        }
    }
    return total;
}

const struct onednn_rows FF_ROWS = {
    .isa = FF_ISA_NAME,
    .stats = stats,
    .apply = apply,
    .bwd_reduce = bwd_reduce,
    .bwd_apply = bwd_apply,
    .group_sum = group_sum,
    .group_products = group_products,
    .sgd = sgd,
    .sum_squares = sum_squares,
    .exp_sum = exp_sum,
};
