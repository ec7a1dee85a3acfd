/* SPDX-License-Identifier: MIT */
/* BN stages on rows (M, C): statistics, apply with PReLU and residual, the two backward
 * passes. All are bound by memory: a thread keeps the constants of its eight channels
 * in registers, walks down the rows, and has the loads of two rows under way at once.
 *
 * Block: 8 x 32 threads on 64 channels; grid: x tiles of channels, y parts of the rows.
 * Sums are of x - pivot, the channel's value in row 0, so that no digits are lost where
 * the mean is large; threads add in f32, blocks and the last block in f64, always in
 * the same order.
 *
 * bn_finalize only notes what it has to do, at most two of them: of a block's last BN
 * and of its shortcut's. The bn_apply that reads such a BN does it at its start, which
 * saves a kernel. The rule: what is noted is done before anything reads what it makes
 * (mean to running_var) or writes what it reads (stats, weight, bias). So bn_stats,
 * conv_fwd and bn_apply first flush what reads the stats that they write; bn_bwd_*,
 * bn_finalize_running, sgd, upload, download, sync, free and a step's begin and end
 * flush all, and so does a bn_finalize that finds two noted, or its own BN. No other op
 * knows a BN's tensors. */
#include <assert.h>

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

/* Adds K sums a thread over the rows of the grid; the last block of a column of the
 * grid calls emit(channel, totals) once for each of its channels. */
template <int K, class E>
static __device__ void column_sums(const float (&sum)[K][LANES], double *partial,
                                   unsigned int *tickets, int C, E emit)
{
    __shared__ float part[ROWS][TILE + 1];
    __shared__ double quarter[K][4][TILE];
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
    /* One block, while all others are done: DEEP rows of sums are loaded at once. */
    enum { DEEP = 8 };
    double total[K] = {0};
    for (unsigned int b = q; b < gridDim.y && c < C; b += 4 * DEEP) {
        double part_sum[DEEP][K];
        FF_UNROLL
        for (unsigned int i = 0; i < DEEP; i++)
            FF_UNROLL
        for (unsigned int k = 0; k < K; k++)
            part_sum[i][k] =
                b + 4 * i < gridDim.y
                    ? __ldcg(&partial[((int64_t)(b + 4 * i) * K + k) * C + c])
                    : 0;
        FF_UNROLL
        for (int i = 0; i < DEEP; i++)
            FF_UNROLL
        for (int k = 0; k < K; k++)
            total[k] += part_sum[i][k];
    }
    FF_UNROLL
    for (int k = 0; k < K; k++)
        quarter[k][q][column] = total[k];
    __syncthreads();
    FF_UNROLL
    for (int k = 0; k < K; k++)
        total[k] = quarter[k][0][column] + quarter[k][1][column] +
                   quarter[k][2][column] + quarter[k][3][column];
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

/* -- finalize -- */

/* Of one channel. Many blocks may do it, of which one is the `writer`: the others read
 * nothing that it writes. */
static __device__ __forceinline__ cuda_bn_channel
finalize_channel(const cuda_finalize &f, int c, bool writer)
{
    const float *f32 = (const float *)f.stats;
    const double *f64 = (const double *)f.stats;
    double sum = f.stats_are_f32 ? (double)f32[c] : f64[c];
    double sum_sq = f.stats_are_f32 ? (double)f32[f.C + c] : f64[f.C + c];
    cuda_bn_channel r = cuda_bn_finalize(
        sum, sum_sq, f.M, f.weight[c], f.bias[c], writer ? f.running_mean[c] : 0.0f,
        writer ? f.running_var[c] : 0.0f, FF_BN_EPS, FF_BN_MOMENTUM);
    if (writer) {
        f.mean[c] = r.mean;
        f.invstd[c] = r.invstd;
        f.scale[c] = r.scale;
        f.shift[c] = r.shift;
        f.running_mean[c] = r.running_mean;
        f.running_var[c] = r.running_var;
    }
    return r;
}

static __global__ void finalize_kernel(cuda_finalize f)
{
    int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c < f.C)
        finalize_channel(f, c, true);
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
    const float *slope;
    const float *scale[2], *shift[2]; /* of src and residual; NULL: 1 and 0 */
    cuda_finalize finalize[2];        /* what makes them; stats NULL: they are there */
    double *stats, *partial;
    unsigned int *tickets;
    int64_t M;
    int C;
};

/* Scale and shift of a column of the grid: threads 0 to 63 see to src's, the next 64 to
 * the residual's. */
struct column_affine {
    float scale[2][TILE], shift[2][TILE];
};

template <class T, class U>
static __device__ __forceinline__ void make_affine(column_affine *made,
                                                   const apply_args<T, U> &a)
{
    unsigned int t = threadIdx.y * 8 + threadIdx.x, k = t / TILE, column = t % TILE;
    int c = (int)(blockIdx.x * TILE + column);
    if (k < 2 && c < a.C) {
        float scale = 1, shift = 0;
        if (a.finalize[k].stats) {
            cuda_bn_channel r = finalize_channel(a.finalize[k], c, blockIdx.y == 0);
            scale = r.scale;
            shift = r.shift;
        } else if (a.scale[k]) {
            scale = a.scale[k][c];
            shift = a.shift[k][c];
        }
        made->scale[k][column] = scale;
        made->shift[k][column] = shift;
    }
    __syncthreads();
}

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

/* Without sums few registers more than for three blocks; f32 would spill. */
static constexpr int apply_blocks(size_t element, bool stats)
{
    return element == 2 && !stats ? 3 : 2;
}

template <class T, class U, bool STATS>
static __global__ void __launch_bounds__(8 * ROWS, apply_blocks(sizeof(T), STATS))
    apply_kernel(apply_args<T, U> a)
{
    __shared__ column_affine made;
    place p = my_place();
    float sum[2][LANES] = {{0}}, pivot[LANES] = {0};
    make_affine(&made, a);
    if (p.c < a.C) {
        apply_channels k;
        FF_UNROLL
        for (int i = 0; i < LANES; i++) {
            unsigned int column = threadIdx.x * LANES + (unsigned int)i;
            k.scale[i] = made.scale[0][column];
            k.shift[i] = made.shift[0][column];
            k.residual_scale[i] = made.scale[1][column];
            k.residual_shift[i] = made.shift[1][column];
            k.slope[i] = a.slope ? a.slope[p.c + i] : 1;
        }
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

/* One BN of it. */
struct bwd_bn {
    const float *mean, *invstd, *scale, *shift, *slope;
    float *dweight, *dbias, *dslope;
};

template <class T, class U> struct bwd_args {
    T *dsrc;
    const U *ddst;
    const T *src, *add, *next_src;
    bwd_bn bn, next;
    double *partial;
    unsigned int *tickets;
    int64_t M;
    int C;
};

/* A thread's constants of one BN. */
struct bwd_channels {
    float mean[LANES], invstd[LANES], scale[LANES];
    float shift[LANES], slope[LANES]; /* of PReLU alone */
};

template <bool PRELU>
static __device__ __forceinline__ void get_channels(bwd_channels &k, const bwd_bn &bn,
                                                    int c)
{
    get8(k.mean, bn.mean + c);
    get8(k.invstd, bn.invstd + c);
    get8(k.scale, bn.scale + c);
    if (PRELU) {
        get8(k.shift, bn.shift + c);
        get8(k.slope, bn.slope + c);
    }
}

/* What bn_bwd_reduce sums: dbias, dweight, and of PReLU dslope. */
template <bool PRELU, int K>
static __device__ __forceinline__ void
add_sums(float (&sum)[K][LANES], const float (&dout)[LANES], const float (&x)[LANES],
         const bwd_channels &k)
{
    FF_UNROLL
    for (int i = 0; i < LANES; i++) {
        float dy = dout[i];
        if (PRELU) {
            float pre = cuda_affine(x[i], k.scale[i], k.shift[i]);
            sum[K - 1][i] += cuda_prelu_dslope(dy, pre);
            dy = cuda_prelu_bwd(dy, pre, k.slope[i]);
        }
        sum[0][i] += dy;
        sum[1][i] += dy * cuda_xhat(x[i], k.mean[i], k.invstd[i]);
    }
}

template <bool PRELU, class T, class U, int K>
static __device__ __forceinline__ void
put_sums(const bwd_bn &bn, const float (&sum)[K][LANES], const bwd_args<T, U> &a)
{
    column_sums<K>(sum, a.partial, a.tickets, a.C, [&](int c, const double(&total)[K]) {
        bn.dbias[c] = (float)total[0];
        bn.dweight[c] = (float)total[1];
        if (PRELU)
            bn.dslope[c] = (float)total[K - 1];
    });
}

template <class T, class U, bool PRELU>
static __global__ void FF_TWO_BLOCKS bwd_reduce_kernel(bwd_args<T, U> a)
{
    place p = my_place();
    float sum[PRELU ? 3 : 2][LANES] = {{0}};
    if (p.c < a.C) {
        bwd_channels k;
        get_channels<PRELU>(k, a.bn, p.c);
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
                    add_sums<PRELU>(sum, dy, v, k);
                }
        }
    }
    put_sums<PRELU>(a.bn, sum, a);
}

/* What an apply sums of the BN whose ddst it writes. */
enum next_sums { NO_NEXT, NEXT, NEXT_PRELU };

/* With sums there are four loads a row: one row at once is as many bytes under way, and
 * fits 128 registers. A PReLU's sums do not: one block a multiprocessor then, and two
 * rows. */
template <class T, class U, bool PRELU, next_sums SUMS>
static __global__ void __launch_bounds__(8 * ROWS, SUMS == NEXT_PRELU ? 1 : 2)
    bwd_apply_kernel(bwd_args<T, U> a)
{
    enum { NOW = SUMS == NEXT ? 1 : AT_ONCE };
    place p = my_place();
    float sum[SUMS == NEXT_PRELU ? 3 : 2][LANES] = {{0}};
    if (p.c < a.C) {
        bwd_channels k, next;
        float db[LANES], dw[LANES], per_row = 1.0f / (float)a.M;
        get_channels<PRELU>(k, a.bn, p.c);
        if (SUMS != NO_NEXT)
            get_channels<SUMS == NEXT_PRELU>(next, a.next, p.c);
        get8(db, a.bn.dbias + p.c);
        get8(dw, a.bn.dweight + p.c);
        FF_UNROLL
        for (int i = 0; i < LANES; i++) {
            db[i] *= per_row;
            dw[i] *= per_row;
        }
        for (int64_t row = p.first; row < a.M; row += NOW * p.step) {
            eight<T> x[NOW], more[NOW], next_x[NOW];
            eight<U> g[NOW];
            FF_UNROLL
            for (int u = 0; u < NOW; u++)
                if (row + u * p.step < a.M) {
                    int64_t at = (row + u * p.step) * a.C + p.c;
                    x[u] = load8(a.src + at);
                    g[u] = load8(a.ddst + at);
                    if (a.add)
                        more[u] = load8(a.add + at);
                    if (SUMS != NO_NEXT)
                        next_x[u] = load8(a.next_src + at);
                }
            FF_UNROLL
            for (int u = 0; u < NOW; u++)
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
                                dy[i], cuda_affine(v[i], k.scale[i], k.shift[i]),
                                k.slope[i]);
                        dx[i] =
                            add[i] +
                            cuda_bn_bwd(dy[i], cuda_xhat(v[i], k.mean[i], k.invstd[i]),
                                        k.scale[i], db[i], dw[i]);
                        dx[i] = widen(narrow<T>(dx[i])); /* what is written */
                    }
                    put8(a.dsrc + (row + u * p.step) * a.C + p.c, dx);
                    if (SUMS != NO_NEXT) {
                        widen8(v, next_x[u]);
                        add_sums<SUMS == NEXT_PRELU>(sum, dx, v, next);
                    }
                }
        }
    }
    if (SUMS != NO_NEXT)
        put_sums<SUMS == NEXT_PRELU>(a.next, sum, a);
}

/* -- entries -- */

static dim3 grid_for(const struct cuda_ctx *cu, int64_t M, int C, int a_processor)
{
    unsigned int x = (unsigned int)((C + TILE - 1) / TILE);
    int64_t most = (int64_t)cu->multiprocessors * a_processor / x;
    return dim3(x, blocks_for(M, ROWS * AT_ONCE, most < 1 ? 1 : most));
}

/* Blocks a multiprocessor: of kernels with sums as many as are resident by the
 * registers that ptxas gives them (statistics 50, most others 108 to 121), so that none
 * runs alone and the last block has little to add; a reduce has as many as an apply
 * with the same sums, and so the same bits. Of the others two rounds of those that are
 * resident: one would leave processors idle at the end where some are slower, and each
 * more repeats the start of a block, a load of the constants or a finalize. */
enum { SUMS_A_PROCESSOR = 2, STATS_A_PROCESSOR = 4, ROUNDS = 2 };
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
    cuda_bn_flush(cu, stats);
    cuda_bn_stats_are_f32(cu, stats, false);
    with_type(cuda_type_of(cu, src), [&](auto t) {
        using T = decltype(t);
        launch(cu, "bn_stats", stats_kernel<T>, grid_for(cu, M, C, STATS_A_PROCESSOR),
               block_of, as<double>(stats), as<const T>(src), M, C, cu->partial,
               cu->state->tickets);
    });
}

static cuda_finalize *noted(struct cuda_ctx *cu, const struct ff_bn *bn)
{
    for (int i = 0; i < cu->finalize_count; i++)
        if (cu->finalize[i].scale == bn->scale.data)
            return &cu->finalize[i];
    return NULL;
}

static cuda_finalize take(struct cuda_ctx *cu, cuda_finalize *f)
{
    cuda_finalize taken = *f;
    *f = cu->finalize[--cu->finalize_count];
    return taken;
}

void cuda_bn_flush(struct cuda_ctx *cu, const struct ff_tensor *stats)
{
    for (int i = cu->finalize_count - 1; i >= 0; i--) {
        if (stats && cu->finalize[i].stats != stats->data)
            continue;
        cuda_finalize f = take(cu, &cu->finalize[i]);
        launch(cu, "bn_finalize", finalize_kernel, dim3(blocks_for(f.C, 128, 1 << 20)),
               dim3(128), f);
    }
}

void cuda_bn_finalize_op(struct ff_ops_ctx *ctx, struct ff_bn *bn,
                         const struct ff_tensor *stats, int64_t M)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    cuda_finalize f = {as<float>(&bn->mean),
                       as<float>(&bn->invstd),
                       as<float>(&bn->scale),
                       as<float>(&bn->shift),
                       as<float>(&bn->running_mean),
                       as<float>(&bn->running_var),
                       as<const float>(&bn->weight),
                       as<const float>(&bn->bias),
                       stats->data,
                       false,
                       (double)M,
                       bn->C};
    f.stats_are_f32 =
        cu->f32_stats[0] == stats->data || cu->f32_stats[1] == stats->data;
    if (cu->finalize_count == 2 || noted(cu, bn))
        cuda_bn_flush(cu, NULL);
    cu->finalize[cu->finalize_count++] = f;
}

void cuda_bn_finalize_running(struct ff_ops_ctx *ctx, struct ff_bn *bn)
{
    cuda_bn_flush(cuda_of(ctx), NULL);
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
    if (stats) { /* a column's last block writes what others may still have to read */
        cuda_bn_flush(cu, stats);
        cuda_bn_stats_are_f32(cu, stats, false);
    }
    const struct ff_bn *bns[2] = {bn, residual ? residual_bn : NULL};
    if (bns[1] && bns[1]->scale.data == bn->scale.data)
        cuda_bn_flush(cu, NULL); /* else it would be done twice */
    cuda_finalize finalize[2] = {};
    for (int k = 0; k < 2; k++)
        if (bns[k] && noted(cu, bns[k]))
            finalize[k] = take(cu, noted(cu, bns[k]));
    with_types(cu, src, dst, [&](auto t, auto u) {
        using T = decltype(t);
        using U = decltype(u);
        apply_args<T, U> a = {};
        a.dst = as<U>(dst);
        a.src = as<const T>(src);
        a.residual = as<const T>(residual);
        a.slope = as<const float>(slope);
        for (int k = 0; k < 2; k++) {
            a.scale[k] = as<const float>(bns[k] ? &bns[k]->scale : NULL);
            a.shift[k] = as<const float>(bns[k] ? &bns[k]->shift : NULL);
            a.finalize[k] = finalize[k];
        }
        a.stats = as<double>(stats);
        a.partial = cu->partial;
        a.tickets = cu->state->tickets;
        a.M = M;
        a.C = C;
        if (stats)
            launch(cu, "bn_apply", apply_kernel<T, U, true>,
                   grid_for(cu, M, C, SUMS_A_PROCESSOR), block_of, a);
        else
            launch(cu, "bn_apply", apply_kernel<T, U, false>,
                   grid_for(cu, M, C, ROUNDS * apply_blocks(sizeof(T), false)),
                   block_of, a);
    });
}

static bwd_bn bwd_bn_of(const struct ff_bn *bn, const struct ff_tensor *slope,
                        const struct ff_tensor *dweight, const struct ff_tensor *dbias,
                        const struct ff_tensor *dslope)
{
    bwd_bn b;
    b.mean = as<const float>(&bn->mean);
    b.invstd = as<const float>(&bn->invstd);
    b.scale = as<const float>(&bn->scale);
    b.shift = as<const float>(&bn->shift);
    b.slope = as<const float>(slope);
    b.dweight = as<float>(dweight);
    b.dbias = as<float>(dbias);
    b.dslope = as<float>(dslope);
    return b;
}

template <class T, class U>
static bwd_args<T, U> bwd_arguments(struct cuda_ctx *cu, const bwd_bn &bn,
                                    const struct ff_tensor *ddst,
                                    const struct ff_tensor *src, int64_t M, int C)
{
    bwd_args<T, U> a = {};
    a.ddst = as<const U>(ddst);
    a.src = as<const T>(src);
    a.bn = bn;
    a.partial = cu->partial;
    a.tickets = cu->state->tickets;
    a.M = M;
    a.C = C;
    return a;
}

void cuda_bn_bwd_reduce(struct ff_ops_ctx *ctx, struct ff_tensor *dweight,
                        struct ff_tensor *dbias, struct ff_tensor *dslope,
                        const struct ff_tensor *ddst, const struct ff_tensor *src,
                        const struct ff_bn *bn, const struct ff_tensor *slope,
                        int64_t M)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    bwd_bn b = bwd_bn_of(bn, slope, dweight, dbias, dslope);
    cuda_bn_flush(cu, NULL);
    if (!checked(cu, M, bn->C, src->count))
        return;
    with_types(cu, src, ddst, [&](auto t, auto u) {
        using T = decltype(t);
        using U = decltype(u);
        launch(cu, "bn_bwd_reduce",
               slope ? bwd_reduce_kernel<T, U, true> : bwd_reduce_kernel<T, U, false>,
               grid_for(cu, M, bn->C, SUMS_A_PROCESSOR), block_of,
               bwd_arguments<T, U>(cu, b, ddst, src, M, bn->C));
    });
}

/* The kernels that there are: an apply with PReLU of its own takes no sums, and from
 * another type none of a PReLU. */
template <class T, class U>
static void (*bwd_apply_for(bool prelu, next_sums *sums))(bwd_args<T, U>)
{
    if (*sums == NEXT_PRELU && !prelu)
        if constexpr (sizeof(T) == sizeof(U))
            return bwd_apply_kernel<T, U, false, NEXT_PRELU>;
    if (*sums == NEXT && !prelu)
        return bwd_apply_kernel<T, U, false, NEXT>;
    *sums = NO_NEXT;
    return prelu ? bwd_apply_kernel<T, U, true, NO_NEXT>
                 : bwd_apply_kernel<T, U, false, NO_NEXT>;
}

void cuda_bn_bwd_apply(struct ff_ops_ctx *ctx, struct ff_tensor *dsrc,
                       const struct ff_tensor *ddst, const struct ff_tensor *src,
                       const struct ff_bn *bn, const struct ff_tensor *slope,
                       const struct ff_tensor *dweight, const struct ff_tensor *dbias,
                       const struct ff_tensor *add, const struct ff_bn_next *next,
                       int64_t M)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    bwd_bn b = bwd_bn_of(bn, slope, dweight, dbias, NULL);
    next_sums sums = !next ? NO_NEXT : next->slope ? NEXT_PRELU : NEXT;
    assert(!next || (next->bn->C == bn->C && next->src->count >= M * bn->C));
    cuda_bn_flush(cu, NULL);
    if (!checked(cu, M, bn->C, src->count))
        return;
    cuda_side_spare(cu, dsrc);
    with_types(cu, src, ddst, [&](auto t, auto u) {
        using T = decltype(t);
        using U = decltype(u);
        auto kernel = bwd_apply_for<T, U>(slope != NULL, &sums);
        bwd_args<T, U> a = bwd_arguments<T, U>(cu, b, ddst, src, M, bn->C);
        a.dsrc = as<T>(dsrc);
        a.add = as<const T>(add);
        if (sums != NO_NEXT) {
            a.next_src = as<const T>(next->src);
            a.next = bwd_bn_of(next->bn, next->slope, next->dweight, next->dbias,
                               next->dslope);
        }
        launch(cu, "bn_bwd_apply", kernel,
               grid_for(cu, M, bn->C, sums != NO_NEXT ? SUMS_A_PROCESSOR : ROUNDS * 2),
               block_of, a);
    });
    if (next && sums == NO_NEXT)
        cuda_bn_bwd_reduce(ctx, next->dweight, next->dbias, next->dslope, dsrc,
                           next->src, next->bn, next->slope, M);
}
