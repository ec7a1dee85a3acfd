/* SPDX-License-Identifier: MIT */
/* BN stages on rows (M, C): statistics, apply with PReLU and residual, the two backward
 * passes. All are bound by memory: a thread keeps the constants of its eight channels
 * in registers, walks down the rows, and has the loads of two rows under way at once.
 *
 * Block: 8 x 32 threads on 64 channels; grid: x tiles of channels, y parts of the rows.
 * Sums are of x - pivot, the channel's value in row 0, so that no digits are lost where
 * the mean is large; threads add in f32, blocks and the last block in f64, always in
 * the same order. */
#include "cuda_launch.h"

enum { TILE = 64, ROWS = 32, AT_ONCE = 2 };

/* Two blocks a multiprocessor, so that one computes while the other waits: at most 128
 * registers a thread. */
#define FF_TWO_BLOCKS __launch_bounds__(8 * ROWS, 2)

struct place {
    int c;               /* first of the thread's channels */
    int64_t first, step; /* rows */
};

static __device__ __forceinline__ place my_place()
{
    place p;
    p.c = (int)(blockIdx.x * TILE + threadIdx.x * LANES);
    p.first = (int64_t)blockIdx.y * ROWS + threadIdx.y;
    p.step = (int64_t)gridDim.y * ROWS;
    return p;
}

static __device__ __forceinline__ void get_or(float (&x)[LANES], const float *p, int c,
                                              float otherwise)
{
    if (p)
        get8(x, p + c);
    else
        FF_UNROLL
    for (int i = 0; i < LANES; i++)
        x[i] = otherwise;
}

/* Adds K sums a thread over the rows of the grid; the last block of a column of the
 * grid calls emit(channel, totals) once for each of its channels. */
template <int K, class E>
static __device__ void column_sums(const float (&sum)[K][LANES], double *partial,
                                   unsigned int *tickets, int C, E emit)
{
    __shared__ float part[ROWS][TILE + 1];
    __shared__ double quarter[4][TILE];
    unsigned int t = threadIdx.y * 8 + threadIdx.x, column = t % TILE, q = t / TILE;
    int c = (int)(blockIdx.x * TILE + column);
    FF_UNROLL
    for (int k = 0; k < K; k++) {
        __syncthreads();
        FF_UNROLL
        for (int i = 0; i < LANES; i++)
            part[threadIdx.y][threadIdx.x * LANES + i] = sum[k][i];
        __syncthreads();
        double s = 0;
        for (int r = 0; r < ROWS && q == 0; r++)
            s += (double)part[r][column];
        if (q == 0 && c < C)
            partial[((int64_t)blockIdx.y * K + k) * C + c] = s;
    }
    if (!last_block(&tickets[blockIdx.x], gridDim.y))
        return;
    double total[K];
    FF_UNROLL
    for (int k = 0; k < K; k++) {
        double s = 0;
        for (unsigned int b = q; b < gridDim.y && c < C; b += 4)
            s += __ldcg(&partial[((int64_t)b * K + k) * C + c]);
        __syncthreads();
        quarter[q][column] = s;
        __syncthreads();
        total[k] = quarter[0][column] + quarter[1][column] + quarter[2][column] +
                   quarter[3][column];
    }
    if (q == 0 && c < C)
        emit(c, total);
}

/* Sums of x - pivot and its square -> sums of x and its square, exactly enough. */
static __device__ __forceinline__ void put_stats(double *stats, int C, int c, double M,
                                                 double pivot, double sum,
                                                 double sum_sq)
{
    stats[c] = sum + M * pivot;
    stats[C + c] = sum_sq + 2 * pivot * sum + M * pivot * pivot;
}

/* -- statistics -- */

template <class T>
static __global__ void FF_TWO_BLOCKS stats_kernel(double *stats, const T *src,
                                                  int64_t M, int C, double *partial,
                                                  unsigned int *tickets)
{
    place p = my_place();
    float sum[2][LANES] = {{0}}, pivot[LANES];
    if (p.c < C) {
        get8(pivot, src + p.c);
        for (int64_t row = p.first; row < M; row += AT_ONCE * p.step) {
            eight<T> x[AT_ONCE];
            FF_UNROLL
            for (int u = 0; u < AT_ONCE; u++)
                if (row + u * p.step < M)
                    x[u] = load8(src + (row + u * p.step) * C + p.c);
            FF_UNROLL
            for (int u = 0; u < AT_ONCE; u++)
                if (row + u * p.step < M) {
                    float v[LANES];
                    widen8(v, x[u]);
                    FF_UNROLL
                    for (int i = 0; i < LANES; i++) {
                        float d = v[i] - pivot[i];
                        sum[0][i] += d;
                        sum[1][i] += d * d;
                    }
                }
        }
    }
    column_sums<2>(sum, partial, tickets, C, [&](int c, const double(&total)[2]) {
        put_stats(stats, C, c, (double)M, (double)widen(src[c]), total[0], total[1]);
    });
}

struct finalize_args {
    float *mean, *invstd, *scale, *shift, *running_mean, *running_var;
    const float *weight, *bias;
    const double *stats; /* (2, C), or f32 in the first half of its bytes */
    bool stats_are_f32;
    double M;
    int C;
};

static __global__ void finalize_kernel(finalize_args a)
{
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c >= a.C)
        return;
    const float *f32 = (const float *)a.stats;
    double sum = a.stats_are_f32 ? (double)f32[c] : a.stats[c];
    double sum_sq = a.stats_are_f32 ? (double)f32[a.C + c] : a.stats[a.C + c];
    struct cuda_bn_channel r =
        cuda_bn_finalize(sum, sum_sq, a.M, a.weight[c], a.bias[c], a.running_mean[c],
                         a.running_var[c], FF_BN_EPS, FF_BN_MOMENTUM);
    a.mean[c] = r.mean;
    a.invstd[c] = r.invstd;
    a.scale[c] = r.scale;
    a.shift[c] = r.shift;
    a.running_mean[c] = r.running_mean;
    a.running_var[c] = r.running_var;
}

static __global__ void running_kernel(float *scale, float *shift, const float *weight,
                                      const float *bias, const float *mean,
                                      const float *var, int C)
{
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c >= C)
        return;
    double s = (double)weight[c] / sqrt((double)var[c] + (double)FF_BN_EPS);
    scale[c] = (float)s;
    shift[c] = (float)((double)bias[c] - s * (double)mean[c]);
}

/* -- apply -- */

template <class T, class U> struct apply_args {
    U *dst;
    const T *src, *residual;
    const float *scale, *shift, *slope, *residual_scale, *residual_shift;
    double *stats, *partial;
    unsigned int *tickets;
    int64_t M;
    int C;
};

/* A thread's constants. */
struct apply_channels {
    float scale[LANES], shift[LANES], slope[LANES];
    float residual_scale[LANES], residual_shift[LANES];
};

template <class T, class U>
static __device__ __forceinline__ void
apply8(float (&y)[LANES], const eight<T> &x, const eight<T> &residual,
       const apply_channels &k, const apply_args<T, U> &a)
{
    float v[LANES];
    widen8(v, x);
    FF_UNROLL
    for (int i = 0; i < LANES; i++) {
        y[i] = cuda_affine(v[i], k.scale[i], k.shift[i]);
        if (a.slope)
            y[i] = cuda_prelu(y[i], k.slope[i]);
    }
    if (!a.residual)
        return;
    widen8(v, residual);
    FF_UNROLL
    for (int i = 0; i < LANES; i++)
        y[i] += cuda_affine(v[i], k.residual_scale[i], k.residual_shift[i]);
}

template <class T, class U, bool STATS>
static __global__ void FF_TWO_BLOCKS apply_kernel(apply_args<T, U> a)
{
    place p = my_place();
    float sum[2][LANES] = {{0}}, pivot[LANES] = {0};
    if (p.c < a.C) {
        apply_channels k;
        get8(k.scale, a.scale + p.c);
        get8(k.shift, a.shift + p.c);
        get_or(k.slope, a.slope, p.c, 1);
        get_or(k.residual_scale, a.residual_scale, p.c, 1);
        get_or(k.residual_shift, a.residual_shift, p.c, 0);
        eight<T> x[AT_ONCE], r[AT_ONCE];
        if (STATS) {
            x[0] = load8(a.src + p.c);
            if (a.residual)
                r[0] = load8(a.residual + p.c);
            apply8(pivot, x[0], r[0], k, a);
        }
        for (int64_t row = p.first; row < a.M; row += AT_ONCE * p.step) {
            FF_UNROLL
            for (int u = 0; u < AT_ONCE; u++)
                if (row + u * p.step < a.M) {
                    int64_t at = (row + u * p.step) * a.C + p.c;
                    x[u] = load8(a.src + at);
                    if (a.residual)
                        r[u] = load8(a.residual + at);
                }
            FF_UNROLL
            for (int u = 0; u < AT_ONCE; u++)
                if (row + u * p.step < a.M) {
                    float y[LANES];
                    apply8(y, x[u], r[u], k, a);
                    put8(a.dst + (row + u * p.step) * a.C + p.c, y);
                    FF_UNROLL
                    for (int i = 0; STATS && i < LANES; i++) {
                        float d = widen(narrow<U>(y[i])) - pivot[i];
                        sum[0][i] += d;
                        sum[1][i] += d * d;
                    }
                }
        }
    }
    if (STATS) {
        /* The pivot of a channel goes to the thread that emits it by shared memory. */
        __shared__ float pivots[TILE];
        if (threadIdx.y == 0)
            FF_UNROLL
        for (int i = 0; i < LANES; i++)
            pivots[threadIdx.x * LANES + i] = pivot[i];
        column_sums<2>(sum, a.partial, a.tickets, a.C,
                       [&](int c, const double(&total)[2]) {
                           put_stats(a.stats, a.C, c, (double)a.M,
                                     (double)pivots[c % TILE], total[0], total[1]);
                       });
    }
}

/* -- backward -- */

template <class T, class U> struct bwd_args {
    T *dsrc;
    const U *ddst;
    const T *src, *add;
    float *dweight, *dbias, *dslope;
    const float *mean, *invstd, *scale, *shift, *slope;
    double *partial;
    unsigned int *tickets;
    int64_t M;
    int C;
};

template <class T, class U, bool PRELU>
static __global__ void FF_TWO_BLOCKS bwd_reduce_kernel(bwd_args<T, U> a)
{
    enum { K = PRELU ? 3 : 2 };
    place p = my_place();
    float sum[K][LANES] = {{0}};
    if (p.c < a.C) {
        float mean[LANES], invstd[LANES], scale[LANES], shift[LANES], slope[LANES];
        get8(mean, a.mean + p.c);
        get8(invstd, a.invstd + p.c);
        if (PRELU) {
            get8(scale, a.scale + p.c);
            get8(shift, a.shift + p.c);
            get8(slope, a.slope + p.c);
        }
        for (int64_t row = p.first; row < a.M; row += AT_ONCE * p.step) {
            eight<T> x[AT_ONCE];
            eight<U> g[AT_ONCE];
            FF_UNROLL
            for (int u = 0; u < AT_ONCE; u++)
                if (row + u * p.step < a.M) {
                    int64_t at = (row + u * p.step) * a.C + p.c;
                    x[u] = load8(a.src + at);
                    g[u] = load8(a.ddst + at);
                }
            FF_UNROLL
            for (int u = 0; u < AT_ONCE; u++)
                if (row + u * p.step < a.M) {
                    float v[LANES], dy[LANES];
                    widen8(v, x[u]);
                    widen8(dy, g[u]);
                    FF_UNROLL
                    for (int i = 0; i < LANES; i++) {
                        if (PRELU) {
                            float pre = cuda_affine(v[i], scale[i], shift[i]);
                            sum[K - 1][i] += cuda_prelu_dslope(dy[i], pre);
                            dy[i] = cuda_prelu_bwd(dy[i], pre, slope[i]);
                        }
                        sum[0][i] += dy[i];
                        sum[1][i] += dy[i] * cuda_xhat(v[i], mean[i], invstd[i]);
                    }
                }
        }
    }
    column_sums<K>(sum, a.partial, a.tickets, a.C, [&](int c, const double(&total)[K]) {
        a.dbias[c] = (float)total[0];
        a.dweight[c] = (float)total[1];
        if (PRELU)
            a.dslope[c] = (float)total[K - 1];
    });
}

template <class T, class U, bool PRELU>
static __global__ void FF_TWO_BLOCKS bwd_apply_kernel(bwd_args<T, U> a)
{
    place p = my_place();
    if (p.c >= a.C)
        return;
    float mean[LANES], invstd[LANES], scale[LANES], shift[LANES], slope[LANES];
    float db[LANES], dw[LANES], per_row = 1.0f / (float)a.M;
    get8(mean, a.mean + p.c);
    get8(invstd, a.invstd + p.c);
    get8(scale, a.scale + p.c);
    if (PRELU) {
        get8(shift, a.shift + p.c);
        get8(slope, a.slope + p.c);
    }
    get8(db, a.dbias + p.c);
    get8(dw, a.dweight + p.c);
    FF_UNROLL
    for (int i = 0; i < LANES; i++) {
        db[i] *= per_row;
        dw[i] *= per_row;
    }
    for (int64_t row = p.first; row < a.M; row += AT_ONCE * p.step) {
        eight<T> x[AT_ONCE], more[AT_ONCE];
        eight<U> g[AT_ONCE];
        FF_UNROLL
        for (int u = 0; u < AT_ONCE; u++)
            if (row + u * p.step < a.M) {
                int64_t at = (row + u * p.step) * a.C + p.c;
                x[u] = load8(a.src + at);
                g[u] = load8(a.ddst + at);
                if (a.add)
                    more[u] = load8(a.add + at);
            }
        FF_UNROLL
        for (int u = 0; u < AT_ONCE; u++)
            if (row + u * p.step < a.M) {
                float v[LANES], dy[LANES], add[LANES] = {0}, dx[LANES];
                widen8(v, x[u]);
                widen8(dy, g[u]);
                if (a.add)
                    widen8(add, more[u]);
                FF_UNROLL
                for (int i = 0; i < LANES; i++) {
                    if (PRELU)
                        dy[i] = cuda_prelu_bwd(
                            dy[i], cuda_affine(v[i], scale[i], shift[i]), slope[i]);
                    dx[i] =
                        add[i] + cuda_bn_bwd(dy[i], cuda_xhat(v[i], mean[i], invstd[i]),
                                             scale[i], db[i], dw[i]);
                }
                put8(a.dsrc + (row + u * p.step) * a.C + p.c, dx);
            }
    }
}

/* -- entries -- */

static dim3 grid_for(const struct cuda_ctx *cu, int64_t M, int C, int a_processor)
{
    unsigned int x = (unsigned int)((C + TILE - 1) / TILE);
    int64_t most = (int64_t)cu->multiprocessors * a_processor / x;
    return dim3(x, blocks_for(M, ROWS * AT_ONCE, most < 1 ? 1 : most));
}

/* Blocks a multiprocessor: of sums three, so that the last block has little to add. */
enum { SUMS_A_PROCESSOR = 3, PLAIN_A_PROCESSOR = 8 };
static const dim3 block_of(8, ROWS);

static bool checked(struct cuda_ctx *cu, int64_t M, int C, int64_t count)
{
    struct ff_err err = FF_ERR_INIT;
    if (C % LANES == 0 && M * C <= count && (C + TILE - 1) / TILE <= CUDA_TICKETS)
        return true;
    cuda_fail(cu,
              ff_err_set(&err, FF_EFAIL, "BN of %lld rows of %d channels on %lld",
                         (long long)M, C, (long long)count),
              &err);
    return false;
}

/* fn(T(), U()): T of `src`, U of `other`, which is T's type or f32. */
template <class F>
static void with_types(const struct cuda_ctx *cu, const struct ff_tensor *src,
                       const struct ff_tensor *other, F fn)
{
    bool same = other->element_bytes == src->element_bytes;
    with_type(cuda_type_of(cu, src), [&](auto t) {
        if (same)
            fn(t, t);
        else
            fn(t, float());
    });
}

void cuda_bn_stats_are_f32(struct cuda_ctx *cu, const struct ff_tensor *stats, bool f32)
{
    const void **slot = cu->f32_stats; /* a network has two such tensors */
    bool there = slot[0] == stats->data || slot[1] == stats->data;
    if (f32 && !there)
        slot[slot[0] ? 1 : 0] = stats->data;
    for (int i = 0; i < 2 && !f32; i++)
        if (slot[i] == stats->data)
            slot[i] = NULL;
}

void cuda_bn_stats(struct ff_ops_ctx *ctx, struct ff_tensor *stats,
                   const struct ff_tensor *src, int64_t M, int C)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    if (!checked(cu, M, C, src->count))
        return;
    cuda_bn_stats_are_f32(cu, stats, false);
    with_type(cuda_type_of(cu, src), [&](auto t) {
        using T = decltype(t);
        launch(cu, "bn_stats", stats_kernel<T>, grid_for(cu, M, C, SUMS_A_PROCESSOR),
               block_of, as<double>(stats), as<const T>(src), M, C, cu->partial,
               cu->state->tickets);
    });
}

void cuda_bn_finalize_op(struct ff_ops_ctx *ctx, struct ff_bn *bn,
                         const struct ff_tensor *stats, int64_t M)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    finalize_args a = {as<float>(&bn->mean),
                       as<float>(&bn->invstd),
                       as<float>(&bn->scale),
                       as<float>(&bn->shift),
                       as<float>(&bn->running_mean),
                       as<float>(&bn->running_var),
                       as<const float>(&bn->weight),
                       as<const float>(&bn->bias),
                       as<const double>(stats),
                       false,
                       (double)M,
                       bn->C};
    a.stats_are_f32 =
        cu->f32_stats[0] == stats->data || cu->f32_stats[1] == stats->data;
    launch(cu, "bn_finalize", finalize_kernel, dim3(blocks_for(bn->C, 128, 1 << 20)),
           dim3(128), a);
}

void cuda_bn_finalize_running(struct ff_ops_ctx *ctx, struct ff_bn *bn)
{
    launch(cuda_of(ctx), "bn_finalize_running", running_kernel,
           dim3(blocks_for(bn->C, 128, 1 << 20)), dim3(128), as<float>(&bn->scale),
           as<float>(&bn->shift), as<const float>(&bn->weight),
           as<const float>(&bn->bias), as<const float>(&bn->running_mean),
           as<const float>(&bn->running_var), bn->C);
}

void cuda_bn_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dst,
                   const struct ff_tensor *src, const struct ff_bn *bn,
                   const struct ff_tensor *slope, const struct ff_tensor *residual,
                   const struct ff_bn *residual_bn, struct ff_tensor *stats, int64_t M)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    int C = bn->C;
    if (!checked(cu, M, C, src->count))
        return;
    cuda_side_spare(cu, dst);
    if (stats)
        cuda_bn_stats_are_f32(cu, stats, false);
    with_types(cu, src, dst, [&](auto t, auto u) {
        using T = decltype(t);
        using U = decltype(u);
        apply_args<T, U> a = {
            as<U>(dst),
            as<const T>(src),
            as<const T>(residual),
            as<const float>(&bn->scale),
            as<const float>(&bn->shift),
            as<const float>(slope),
            as<const float>(residual && residual_bn ? &residual_bn->scale : NULL),
            as<const float>(residual && residual_bn ? &residual_bn->shift : NULL),
            as<double>(stats),
            cu->partial,
            cu->state->tickets,
            M,
            C};
        if (stats)
            launch(cu, "bn_apply", apply_kernel<T, U, true>,
                   grid_for(cu, M, C, SUMS_A_PROCESSOR), block_of, a);
        else
            launch(cu, "bn_apply", apply_kernel<T, U, false>,
                   grid_for(cu, M, C, PLAIN_A_PROCESSOR), block_of, a);
    });
}

template <class T, class U>
static bwd_args<T, U> bwd_arguments(struct cuda_ctx *cu, const struct ff_tensor *ddst,
                                    const struct ff_tensor *src, const struct ff_bn *bn,
                                    const struct ff_tensor *slope, int64_t M)
{
    bwd_args<T, U> a = {};
    a.ddst = as<const U>(ddst);
    a.src = as<const T>(src);
    a.mean = as<const float>(&bn->mean);
    a.invstd = as<const float>(&bn->invstd);
    a.scale = as<const float>(&bn->scale);
    a.shift = as<const float>(&bn->shift);
    a.slope = as<const float>(slope);
    a.partial = cu->partial;
    a.tickets = cu->state->tickets;
    a.M = M;
    a.C = bn->C;
    return a;
}

void cuda_bn_bwd_reduce(struct ff_ops_ctx *ctx, struct ff_tensor *dweight,
                        struct ff_tensor *dbias, struct ff_tensor *dslope,
                        const struct ff_tensor *ddst, const struct ff_tensor *src,
                        const struct ff_bn *bn, const struct ff_tensor *slope,
                        int64_t M)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    if (!checked(cu, M, bn->C, src->count))
        return;
    with_types(cu, src, ddst, [&](auto t, auto u) {
        using T = decltype(t);
        using U = decltype(u);
        bwd_args<T, U> a = bwd_arguments<T, U>(cu, ddst, src, bn, slope, M);
        a.dweight = as<float>(dweight);
        a.dbias = as<float>(dbias);
        a.dslope = as<float>(dslope);
        launch(cu, "bn_bwd_reduce",
               slope ? bwd_reduce_kernel<T, U, true> : bwd_reduce_kernel<T, U, false>,
               grid_for(cu, M, bn->C, SUMS_A_PROCESSOR), block_of, a);
    });
}

void cuda_bn_bwd_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                       const struct ff_tensor *ddst, const struct ff_tensor *src,
                       const struct ff_bn *bn, const struct ff_tensor *slope,
                       const struct ff_tensor *dweight, const struct ff_tensor *dbias,
                       const struct ff_tensor *add, int64_t M)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    if (!checked(cu, M, bn->C, src->count))
        return;
    cuda_side_spare(cu, dsrc);
    with_types(cu, src, ddst, [&](auto t, auto u) {
        using T = decltype(t);
        using U = decltype(u);
        bwd_args<T, U> a = bwd_arguments<T, U>(cu, ddst, src, bn, slope, M);
        a.dsrc = as<T>(dsrc);
        a.add = as<const T>(add);
        a.dweight = as<float>(dweight);
        a.dbias = as<float>(dbias);
        launch(cu, "bn_bwd_apply",
               slope ? bwd_apply_kernel<T, U, true> : bwd_apply_kernel<T, U, false>,
               grid_for(cu, M, bn->C, PLAIN_A_PROCESSOR), block_of, a);
    });
}
