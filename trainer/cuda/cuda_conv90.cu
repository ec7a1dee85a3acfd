/* SPDX-License-Identifier: MIT */
/* See cuda_conv90.h. A convolution as one product whose operands are never written out.
 *
 * Forward: rows are the pixels of the result, columns its channels, and the sum runs
 * over the nine taps and the channels of the source, 64 of them a step. The gradient of
 * the data is the same with the taps in reverse and the channels of the weights changed
 * about: their matrix is read down its rows. The gradient of the weights: rows are the
 * channels of the result, columns those of the source for each of the three taps of a
 * filter row, and the sum runs over the pixels, both matrices down their rows.
 *
 * A block has one warpgroup that copies and two or three that multiply. The copying
 * threads run some steps ahead through a ring of stages in shared memory: `full` of a
 * stage ends when its bytes have come, `empty` when all that read it are done. Two
 * blocks are a pair that shares one of its operands: each copies half of it to both.
 * Blocks of the first kernel stay and take tile after tile, so that the copies of the
 * next run while the sums of the last are stored. */
#include <cudaTypedefs.h>

#include "cuda_conv90.h"
#include "cuda_launch.h"
#include "cuda_sm90.h"

enum {
    BLOCK = 64, /* rows of a warpgroup's product; halves in SM90_ROW_BYTES */
    BLOCK_BYTES = BLOCK * SM90_ROW_BYTES,
    UNIT_BYTES = 8 * SM90_ROW_BYTES,
    TAPS = 9,
    WARPS = 4, /* of a warpgroup */
    THREADS = 32 * WARPS,
    PARTS = SM90_COLUMNS / BLOCK, /* blocks of 64 that a product's columns have */
    BARRIER_BYTES = 256,
};
static_assert(PARTS == 2, "one for each block of a pair");

/* How shared memory is laid out: stages of operands a and b, then the barriers. */
template <int A_BYTES, int B_BYTES> struct layout {
    static constexpr int a_bytes = A_BYTES, b_bytes = B_BYTES;
    static constexpr int stage_bytes = A_BYTES + B_BYTES;
    static constexpr int room = SM90_SHARED_BYTES - SM90_ALIGN - BARRIER_BYTES;
    static constexpr int stages = room / stage_bytes < 6 ? room / stage_bytes : 6;
    static constexpr int shared_bytes =
        SM90_ALIGN + stages * stage_bytes + BARRIER_BYTES;
};

/* A role's place in the ring. */
template <class L> struct ring {
    char *stages;
    uint64_t *full, *empty;
    int stage = 0;
    uint32_t parity = 0;

    __device__ __forceinline__ char *a() const
    {
        return stages + stage * L::stage_bytes;
    }
    __device__ __forceinline__ char *b() const
    {
        return a() + L::a_bytes;
    }
    __device__ __forceinline__ void next()
    {
        if (++stage == L::stages) {
            stage = 0;
            parity ^= 1;
        }
    }
};

/* Lays out the ring; `copying` threads of a block copy, `groups` warpgroups of each
 * block of the pair read. */
template <class L>
static __device__ __forceinline__ ring<L> open_ring(int copying, int groups)
{
    ring<L> r;
    uint32_t start = sm90_at(sm90_shared());
    r.stages = sm90_shared() + (SM90_ALIGN - start % SM90_ALIGN) % SM90_ALIGN;
    r.full = reinterpret_cast<uint64_t *>(r.stages + L::stages * L::stage_bytes);
    r.empty = r.full + L::stages;
    if (threadIdx.x == 0) {
        for (int i = 0; i < L::stages; i++) {
            sm90_barrier_init(&r.full[i], copying);
            sm90_barrier_init(&r.empty[i], 2 * groups * WARPS);
        }
        sm90_barriers_made();
    }
    sm90_pair_sync();
    return r;
}

/* The products of step `step` were queued: those of the step before are done then, and
 * its stage is given back to both blocks. */
template <class L>
static __device__ __forceinline__ void step_queued(const ring<L> &at, int step,
                                                   int *before)
{
    sm90_products_commit();
    sm90_products_wait<1>();
    if (step > 0 && threadIdx.x % 32 < 2)
        sm90_barrier_arrive(&at.empty[*before], threadIdx.x % 32);
    *before = at.stage;
}

template <class L>
static __device__ __forceinline__ void steps_end(const ring<L> &at, int before)
{
    sm90_products_wait<0>();
    if (threadIdx.x % 32 < 2)
        sm90_barrier_arrive(&at.empty[before], threadIdx.x % 32);
}

template <int N>
static __device__ __forceinline__ void clear(float (&sum)[N][SM90_COLUMNS / 2])
{
    FF_UNROLL
    for (int i = 0; i < N; i++)
        FF_UNROLL
    for (int k = 0; k < SM90_COLUMNS / 2; k++)
        sum[i][k] = 0;
}

/* -- forward pass and gradient of the data -- */

struct pixel_args {
    void *dst;   /* (M, out) */
    int M, H, W; /* pixels in all, of an image */
    int in, out; /* channels that are summed over, and of dst */
};

template <int GROUPS, int COLUMNS>
using pixel_layout = layout<GROUPS * BLOCK_BYTES, COLUMNS * SM90_ROW_BYTES>;

/* A pair's tiles, in turn: columns first, so that pairs at work share their pixels. */
struct turn {
    int end;         /* number of tiles of the pairs */
    int row, column; /* first of this block's tile */
};

template <int GROUPS, int COLUMNS>
static __device__ __forceinline__ turn turn_of(const pixel_args &a, int number,
                                               uint32_t rank)
{
    const int rows = GROUPS * BLOCK;
    int across = a.out / COLUMNS;
    turn t;
    t.end = (a.M + 2 * rows - 1) / (2 * rows) * across;
    t.column = number % across * COLUMNS;
    t.row = (number / across * 2 + (int)rank) * rows;
    return t;
}

/* By one warp a warpgroup of the others, which copies its pixels; the first copies
 * the weights too. A group whose rows all lie past the end gets none: its products are
 * of what is there, and are not stored. */
template <int GROUPS, int COLUMNS, bool BACKWARD, class L>
static __device__ __forceinline__ void
copy_pixels(const CUtensorMap *pixels, const CUtensorMap *weights, const pixel_args &a,
            ring<L> at, int group, uint32_t rank)
{
    const int share = COLUMNS / 2; /* of a block, of the weights */
    for (int number = (int)blockIdx.x / 2;; number += (int)gridDim.x / 2) {
        turn t = turn_of<GROUPS, COLUMNS>(a, number, rank);
        if (number >= t.end)
            return;
        int row = t.row + group * BLOCK;
        int n = row / (a.H * a.W), h = row / a.W % a.H, w = row % a.W;
        int bytes = (row < a.M ? BLOCK_BYTES : 0) + (group == 0 ? L::b_bytes : 0);
        for (int tap = 0; tap < TAPS; tap++)
            for (int c = 0; c < a.in; c += BLOCK, at.next()) {
                uint64_t *full = &at.full[at.stage];
                sm90_barrier_wait(&at.empty[at.stage], at.parity ^ 1);
                sm90_barrier_expect(full, bytes);
                if (row < a.M)
                    sm90_copy_pixels<false>(at.a() + group * BLOCK_BYTES, pixels, full,
                                            c, w - 1, h - 1, n, tap % 3, tap / 3);
                if (group > 0)
                    continue;
                int mine = (int)rank * share;
                if (!BACKWARD) /* (columns, 64 channels): half of the rows */
                    sm90_copy_to_pair(at.b() + mine * SM90_ROW_BYTES, weights, full, c,
                                      tap, t.column + mine);
                else /* blocks of (64 channels, 64 columns): half of the blocks */
                    for (int k = mine; k < mine + share; k += BLOCK)
                        sm90_copy_to_pair(at.b() + k * SM90_ROW_BYTES, weights, full,
                                          t.column + k, TAPS - 1 - tap, c);
            }
    }
}

/* Words of four lanes, changed about: lane q has word[j], and then lane j's word[q]. */
static __device__ __forceinline__ void transpose4(uint32_t (&word)[4], unsigned int q)
{
    FF_UNROLL
    for (unsigned int bit = 1; bit < 4; bit *= 2)
        FF_UNROLL
    for (unsigned int j = 0; j < 4; j++) {
        if (j & bit)
            continue;
        bool upper = q & bit;
        uint32_t other =
            __shfl_xor_sync(0xffffffffu, upper ? word[j] : word[j | bit], (int)bit);
        if (upper)
            word[j] = other;
        else
            word[j | bit] = other;
    }
}

/* The warpgroup's sums to dst: a lane stores eight neighbouring channels. */
template <class T>
static __device__ __forceinline__ void store(const float (&sum)[SM90_COLUMNS / 2],
                                             const pixel_args &a, int row, int column)
{
    unsigned int lane = threadIdx.x % 32, q = lane % 4;
    T *dst = static_cast<T *>(a.dst);
    row += (int)(threadIdx.x / 32 % WARPS * 16 + lane / 4);
    FF_UNROLL
    for (int i = 0; i < SM90_COLUMNS / 8; i += 4)
        FF_UNROLL
    for (int j = 0; j < 2; j++) {
        uint32_t word[4];
        FF_UNROLL
        for (int k = 0; k < 4; k++) {
            T two[2] = {narrow<T>(sum[4 * (i + k) + 2 * j]),
                        narrow<T>(sum[4 * (i + k) + 2 * j + 1])};
            memcpy(&word[k], two, sizeof word[k]);
        }
        transpose4(word, q);
        if (row + 8 * j < a.M) {
            uint4 channels = {word[0], word[1], word[2], word[3]};
            int64_t at = (int64_t)(row + 8 * j) * a.out + column + 8 * (i + (int)q);
            *reinterpret_cast<uint4 *>(dst + at) = channels;
        }
    }
}

template <class T, int GROUPS, int COLUMNS, bool BACKWARD, class L>
static __device__ __forceinline__ void multiply_pixels(const pixel_args &a, ring<L> at,
                                                       int group, uint32_t rank)
{
    const int steps = TAPS * (a.in / BLOCK);
    for (int number = (int)blockIdx.x / 2;; number += (int)gridDim.x / 2) {
        turn t = turn_of<GROUPS, COLUMNS>(a, number, rank);
        if (number >= t.end)
            return;
        float sum[COLUMNS / SM90_COLUMNS][SM90_COLUMNS / 2];
        clear(sum);
        int before = 0; /* stage of the step before */
        for (int step = 0; step < steps; step++, at.next()) {
            sm90_barrier_wait(&at.full[at.stage], at.parity);
            uint32_t x = sm90_at(at.a()) + (uint32_t)(group * BLOCK_BYTES);
            uint32_t w = sm90_at(at.b());
            sm90_products_begin();
            FF_UNROLL
            for (int k = 0; k < BLOCK; k += 16)
                FF_UNROLL
            for (int c = 0; c < COLUMNS / SM90_COLUMNS; c++) {
                uint32_t part = w + c * SM90_COLUMNS * SM90_ROW_BYTES;
                sm90_product<T, false, BACKWARD>(
                    sum[c], sm90_matrix(x + 2 * k, 0, UNIT_BYTES),
                    BACKWARD ? sm90_matrix(part + k * SM90_ROW_BYTES, BLOCK_BYTES,
                                           UNIT_BYTES)
                             : sm90_matrix(part + 2 * k, 0, UNIT_BYTES));
            }
            step_queued(at, step, &before);
        }
        steps_end(at, before);
        FF_UNROLL
        for (int c = 0; c < COLUMNS / SM90_COLUMNS; c++) {
            sm90_products_done(sum[c]);
            store<T>(sum[c], a, t.row + group * BLOCK, t.column + c * SM90_COLUMNS);
        }
    }
}

/* Of 65,536 registers 128 a thread of four warpgroups, 168 of three: the copying one
 * gives most of its own to the others. */
template <int GROUPS> struct registers {
    static constexpr int copying = GROUPS == 3 ? 32 : 56,
                         multiplying = GROUPS == 3 ? 160 : 224;
};

template <class T, int GROUPS, int COLUMNS, bool BACKWARD>
static __global__ void SM90_PAIR __launch_bounds__(THREADS *(GROUPS + 1), 1)
    pixel_kernel(const __grid_constant__ CUtensorMap pixels,
                 const __grid_constant__ CUtensorMap weights, pixel_args a)
{
    uint32_t rank = sm90_rank();
    auto at = open_ring<pixel_layout<GROUPS, COLUMNS>>(GROUPS, GROUPS);
    if (threadIdx.x < THREADS) {
        sm90_fewer_registers<registers<GROUPS>::copying>();
        if (threadIdx.x % 32 == 0 && threadIdx.x / 32 < GROUPS)
            copy_pixels<GROUPS, COLUMNS, BACKWARD>(&pixels, &weights, a, at,
                                                   (int)threadIdx.x / 32, rank);
    } else {
        sm90_more_registers<registers<GROUPS>::multiplying>();
        multiply_pixels<T, GROUPS, COLUMNS, BACKWARD>(
            a, at, sm90_uniform((int)threadIdx.x / THREADS) - 1, rank);
    }
    sm90_pair_sync(); /* the other block may still copy to this one */
}

/* -- gradient of the weights -- */

/* A block has 128 channels of the result and, for each of three taps, 128 of the
 * source: a warpgroup a tap. A pair has 256 of the result, and shares the source. The
 * pixels are split among `splits` pairs, whose sums a second kernel adds in order. */
enum {
    TAP_GROUPS = 3,
    RESULTS = 128, /* channels of the result a block */
    RESULT_PARTS = RESULTS / BLOCK,
};
using weight_layout =
    layout<RESULT_PARTS * BLOCK_BYTES, TAP_GROUPS * PARTS * BLOCK_BYTES>;

struct weight_args {
    float *part; /* (splits, K, TAPS, C) */
    int M, H, W, K, C, splits;
};

/* What a pair does in turn; of a block. */
struct share {
    int end;                        /* number of shares */
    int result, source, filter_row; /* first channels; tap / 3 */
    int split, first, steps;        /* of 64 pixels */
};

static __device__ __forceinline__ share share_of(const weight_args &a, int number,
                                                 uint32_t rank)
{
    int across = a.C / SM90_COLUMNS, down = a.K / (2 * RESULTS);
    int all = (a.M + BLOCK - 1) / BLOCK;
    share s;
    s.end = 3 * across * down * a.splits;
    s.filter_row = number % 3;
    s.source = number / 3 % across * SM90_COLUMNS;
    s.result = (number / 3 / across % down * 2 + (int)rank) * RESULTS;
    s.split = number / 3 / across / down;
    s.first = all * s.split / a.splits;
    s.steps = all * (s.split + 1) / a.splits - s.first;
    return s;
}

/* By one warp a tap; the first copies the gradient's pixels too. Pixels past the end
 * are zeros. */
static __device__ __forceinline__ void
copy_sums(const CUtensorMap *src, const CUtensorMap *ddst, const weight_args &a,
          ring<weight_layout> at, int tap, uint32_t rank)
{
    const int bytes = PARTS * BLOCK_BYTES + (tap == 0 ? weight_layout::a_bytes : 0);
    for (int number = (int)blockIdx.x / 2;; number += (int)gridDim.x / 2) {
        share s = share_of(a, number, rank);
        if (number >= s.end)
            return;
        int row = s.first * BLOCK;
        int n = row / (a.H * a.W), h = row / a.W % a.H, w = row % a.W;
        for (; s.steps > 0; s.steps--, at.next()) {
            uint64_t *full = &at.full[at.stage];
            sm90_barrier_wait(&at.empty[at.stage], at.parity ^ 1);
            sm90_barrier_expect(full, bytes);
            {
                int part = (int)rank; /* of two: each block copies one to both */
                sm90_copy_pixels<true>(at.b() + (tap * PARTS + part) * BLOCK_BYTES, src,
                                       full, s.source + part * BLOCK, w - 1, h - 1, n,
                                       tap, s.filter_row);
            }
            for (int part = 0; part < RESULT_PARTS && tap == 0; part++)
                sm90_copy_pixels<false>(at.a() + part * BLOCK_BYTES, ddst, full,
                                        s.result + part * BLOCK, w - 1, h - 1, n, 1, 1);
            for (w += BLOCK; w >= a.W; w -= a.W)
                if (++h == a.H) {
                    h = 0;
                    n++;
                }
        }
    }
}

/* The warpgroup's sums to rows of part. */
static __device__ __forceinline__ void store_part(const float (&sum)[SM90_COLUMNS / 2],
                                                  const weight_args &a, int split,
                                                  int result, int tap, int source)
{
    int lane = (int)threadIdx.x % 32, warp = (int)threadIdx.x / 32 % WARPS;
    FF_UNROLL
    for (int j = 0; j < 2; j++) {
        int64_t k = (int64_t)split * a.K + result + warp * 16 + lane / 4 + 8 * j;
        float *to = a.part + (k * TAPS + tap) * a.C + source + lane % 4 * 2;
        FF_UNROLL
        for (int i = 0; i < SM90_COLUMNS / 8; i++) {
            float2 two = {sum[4 * i + 2 * j], sum[4 * i + 2 * j + 1]};
            *reinterpret_cast<float2 *>(to + 8 * i) = two;
        }
    }
}

template <class T>
static __device__ __forceinline__ void
multiply_sums(const weight_args &a, ring<weight_layout> at, int tap, uint32_t rank)
{
    for (int number = (int)blockIdx.x / 2;; number += (int)gridDim.x / 2) {
        share s = share_of(a, number, rank);
        if (number >= s.end)
            return;
        float sum[RESULT_PARTS][SM90_COLUMNS / 2];
        clear(sum);
        int before = 0;
        for (int step = 0; step < s.steps; step++, at.next()) {
            sm90_barrier_wait(&at.full[at.stage], at.parity);
            uint32_t y = sm90_at(at.a());
            uint32_t x = sm90_at(at.b()) + (uint32_t)(tap * PARTS * BLOCK_BYTES);
            sm90_products_begin();
            FF_UNROLL
            for (int k = 0; k < BLOCK; k += 16)
                FF_UNROLL
            for (int part = 0; part < RESULT_PARTS; part++) {
                uint32_t of = y + part * BLOCK_BYTES;
                sm90_product<T, true, true>(
                    sum[part],
                    sm90_matrix(of + k * SM90_ROW_BYTES, BLOCK_BYTES, UNIT_BYTES),
                    sm90_matrix(x + k * SM90_ROW_BYTES, BLOCK_BYTES, UNIT_BYTES));
            }
            step_queued(at, step, &before);
        }
        steps_end(at, before);
        FF_UNROLL
        for (int part = 0; part < RESULT_PARTS; part++) {
            sm90_products_done(sum[part]);
            store_part(sum[part], a, s.split, s.result + part * BLOCK,
                       s.filter_row * 3 + tap, s.source);
        }
    }
}

template <class T>
static __global__ void SM90_PAIR __launch_bounds__(THREADS *(TAP_GROUPS + 1), 1)
    weight_kernel(const __grid_constant__ CUtensorMap src,
                  const __grid_constant__ CUtensorMap ddst, weight_args a)
{
    uint32_t rank = sm90_rank();
    auto at = open_ring<weight_layout>(TAP_GROUPS, TAP_GROUPS);
    if (threadIdx.x < THREADS) {
        sm90_fewer_registers<registers<TAP_GROUPS>::copying>();
        if (threadIdx.x % 32 == 0 && threadIdx.x / 32 < TAP_GROUPS)
            copy_sums(&src, &ddst, a, at, (int)threadIdx.x / 32, rank);
    } else {
        sm90_more_registers<registers<TAP_GROUPS>::multiplying>();
        multiply_sums<T>(a, at, sm90_uniform((int)threadIdx.x / THREADS) - 1, rank);
    }
    sm90_pair_sync();
}

/* dst (count) = the sum of `splits` parts, in order. */
template <class T>
static __global__ void add_parts_kernel(T *dst, const float *part, int64_t count,
                                        int splits)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x * LANES;
    int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
    for (int64_t i = first; i < count; i += step) {
        float total[LANES] = {0}, x[LANES];
        for (int s = 0; s < splits; s++) {
            get8(x, part + s * count + i);
            FF_UNROLL
            for (int k = 0; k < LANES; k++)
                total[k] += x[k];
        }
        put8(dst + i, total);
    }
}

/* -- host -- */

static const struct {
    const char *name;
    int groups, columns;
    bool weights;
} tiles[] = {
    {CONV90 "192x256", 3, 256, false},
    {CONV90 "128x256", 2, 256, false},
    {CONV90 "192x128", 3, 128, false},
    {CONV90 "128x128", 2, 128, false},
    {CONV90 "3x128x128", TAP_GROUPS, SM90_COLUMNS, true},
};
enum { TILES = sizeof tiles / sizeof *tiles };

const char *conv90_name(int index)
{
    return index >= 0 && index < TILES ? tiles[index].name : NULL;
}

int conv90_find(const char *name)
{
    for (int i = 0; i < TILES; i++)
        if (strcmp(tiles[i].name, name) == 0)
            return i;
    return -1;
}

bool conv90_fits(int index, const struct dnn_problem *p, int sm)
{
    const struct ff_conv_shape *s = &p->shape;
    if (sm != 90 || p->type == CUDA_F32 || s->R != 3 || s->S != 3 || s->stride != 1 ||
        s->pad != 1 || s->groups != 1 || s->H < 2 || s->W < 2 ||
        (int64_t)s->N * s->H * s->W > 1 << 30)
        return false;
    switch (p->kind) {
    case DNN_FWD:
        return !tiles[index].weights && s->C % BLOCK == 0 &&
               s->K % tiles[index].columns == 0;
    case DNN_BWD_DATA:
        return !tiles[index].weights && s->K % BLOCK == 0 &&
               s->C % tiles[index].columns == 0;
    case DNN_BWD_WEIGHTS:
        return tiles[index].weights && s->K % (2 * RESULTS) == 0 &&
               s->C % SM90_COLUMNS == 0;
    case DNN_FWD_STATS: break;
    }
    return false;
}

/* Pairs of blocks that run side by side. */
static int at_once(int multiprocessors)
{
    return multiprocessors > 1 ? multiprocessors / 2 : 1;
}

/* Shares of the weights' gradient, and in how many parts each takes the pixels: as many
 * as keep all multiprocessors at work. */
static int weight_shares(const struct dnn_problem *p)
{
    return 3 * (p->shape.C / SM90_COLUMNS) * (p->shape.K / (2 * RESULTS));
}

static int weight_splits(const struct dnn_problem *p, int multiprocessors)
{
    int splits = at_once(multiprocessors) / weight_shares(p);
    int steps = (p->shape.N * p->shape.H * p->shape.W + BLOCK - 1) / BLOCK;
    return splits < 1 ? 1 : splits > steps ? steps : splits;
}

int64_t conv90_workspace_bytes(const struct dnn_problem *p, int multiprocessors)
{
    if (p->kind != DNN_BWD_WEIGHTS)
        return 0;
    return (int64_t)weight_splits(p, multiprocessors) * p->shape.K * TAPS * p->shape.C *
           (int64_t)sizeof(float);
}

/* The driver's functions, by way of the runtime: nothing links the driver. */
template <class F> static bool driver_function(F *out, const char *name)
{
    cudaDriverEntryPointQueryResult result;
    void *found = NULL;
    cudaError_t status = cudaGetDriverEntryPointByVersion(name, &found, 12000,
                                                          cudaEnableDefault, &result);
    *out = reinterpret_cast<F>(found);
    return status == cudaSuccess && found;
}

struct maps {
    CUtensorMap a, b;
};

static CUtensorMapDataType map_type(const struct dnn_problem *p)
{
    return p->type == CUDA_F16 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT16
                               : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

/* Pixels (N, H, W, channels), 64 of 64 channels at a time. The box is of the places of
 * a filter's first tap: from one before the first pixel to one before the last. */
static CUresult map_pixels(CUtensorMap *map, const struct dnn_problem *p,
                           const void *data, int channels)
{
    PFN_cuTensorMapEncodeIm2col_v12000 encode;
    cuuint64_t C = (cuuint64_t)channels, W = (cuuint64_t)p->shape.W,
               H = (cuuint64_t)p->shape.H, N = (cuuint64_t)p->shape.N;
    const cuuint64_t dims[4] = {C, W, H, N},
                     strides[3] = {2 * C, 2 * C * W, 2 * C * W * H};
    const int corner[2] = {-1, -1};
    const cuuint32_t one[4] = {1, 1, 1, 1};
    if (!driver_function(&encode, "cuTensorMapEncodeIm2col"))
        return CUDA_ERROR_NOT_FOUND;
    return encode(map, map_type(p), 4, const_cast<void *>(data), dims, strides, corner,
                  corner, BLOCK, BLOCK, one, CU_TENSOR_MAP_INTERLEAVE_NONE,
                  CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

/* Weights (K, TAPS, C), `rows` of K and 64 of C at a time. */
static CUresult map_weights(CUtensorMap *map, const struct dnn_problem *p,
                            const void *data, int rows)
{
    PFN_cuTensorMapEncodeTiled_v12000 encode;
    cuuint64_t C = (cuuint64_t)p->shape.C, K = (cuuint64_t)p->shape.K;
    const cuuint64_t dims[3] = {C, TAPS, K}, strides[2] = {2 * C, 2 * C * TAPS};
    const cuuint32_t box[3] = {BLOCK, 1, (cuuint32_t)rows}, one[3] = {1, 1, 1};
    if (!driver_function(&encode, "cuTensorMapEncodeTiled"))
        return CUDA_ERROR_NOT_FOUND;
    return encode(map, map_type(p), 3, const_cast<void *>(data), dims, strides, box,
                  one, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                  CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

template <class A>
static cudaError_t launch_pairs(void (*kernel)(CUtensorMap, CUtensorMap, A), int pairs,
                                int groups, int shared_bytes, const struct maps *maps,
                                const A &args, cudaStream_t stream)
{
    dim3 grid((unsigned int)(2 * pairs)), block((unsigned int)(THREADS * (groups + 1)));
#ifdef FF_CUDA_EMULATED
    const struct maps m = *maps;
    emulator_launch_sm90(stream, grid, block, shared_bytes,
                         [=] { kernel(m.a, m.b, args); });
#else
    cudaError_t status = cudaFuncSetAttribute(
        kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
    if (status)
        return status;
    kernel<<<grid, block, shared_bytes, stream>>>(maps->a, maps->b, args);
#endif
    return cudaGetLastError();
}

template <class T, int GROUPS, int COLUMNS>
static cudaError_t run_pixels(bool backward, const struct maps *maps,
                              const pixel_args &a, int multiprocessors,
                              cudaStream_t stream)
{
    const int rows = 2 * GROUPS * BLOCK;
    int pairs = (a.M + rows - 1) / rows * (a.out / COLUMNS);
    int most = at_once(multiprocessors);
    return launch_pairs(backward ? pixel_kernel<T, GROUPS, COLUMNS, true>
                                 : pixel_kernel<T, GROUPS, COLUMNS, false>,
                        pairs < most ? pairs : most, GROUPS,
                        pixel_layout<GROUPS, COLUMNS>::shared_bytes, maps, a, stream);
}

template <class T>
static cudaError_t run_tile(int index, bool backward, const struct maps *maps,
                            const pixel_args &a, int multiprocessors,
                            cudaStream_t stream)
{
    switch (index) {
    case 0: return run_pixels<T, 3, 256>(backward, maps, a, multiprocessors, stream);
    case 1: return run_pixels<T, 2, 256>(backward, maps, a, multiprocessors, stream);
    case 2: return run_pixels<T, 3, 128>(backward, maps, a, multiprocessors, stream);
    default: return run_pixels<T, 2, 128>(backward, maps, a, multiprocessors, stream);
    }
}

template <class T>
static cudaError_t run_weights(const struct dnn_problem *p, const struct maps *maps,
                               const weight_args &a, void *w, int multiprocessors,
                               cudaStream_t stream)
{
    enum { ADDING = 256 };
    int pairs = weight_shares(p) * a.splits, most = at_once(multiprocessors);
    cudaError_t status =
        launch_pairs(weight_kernel<T>, pairs < most ? pairs : most, TAP_GROUPS,
                     weight_layout::shared_bytes, maps, a, stream);
    if (status)
        return status;
    int64_t count = (int64_t)a.K * TAPS * a.C;
    launch_on(stream, add_parts_kernel<T>,
              dim3(blocks_for(count, ADDING * LANES, 8 * multiprocessors)),
              dim3(ADDING), static_cast<T *>(w), static_cast<const float *>(a.part),
              count, a.splits);
    return cudaGetLastError();
}

int conv90_run(int index, const struct dnn_problem *p, int multiprocessors,
               cudaStream_t stream, void *workspace, void *x, void *w, void *y,
               struct ff_err *err)
{
    const struct ff_conv_shape *s = &p->shape;
    const bool forward = p->kind == DNN_FWD, weights = p->kind == DNN_BWD_WEIGHTS;
    const int M = s->N * s->H * s->W;
    struct maps maps;
    CUresult mapped = forward || weights ? map_pixels(&maps.a, p, x, s->C)
                                         : map_pixels(&maps.a, p, y, s->K);
    if (!mapped)
        mapped = weights ? map_pixels(&maps.b, p, y, s->K)
                         : map_weights(&maps.b, p, w,
                                       forward ? tiles[index].columns / 2 : BLOCK);
    if (mapped)
        return ff_err_set(err, FF_EFAIL, "%s: a tensor map: driver error %d",
                          tiles[index].name, (int)mapped);
    const pixel_args pixels = {
        forward ? y : x, M, s->H, s->W, forward ? s->C : s->K, forward ? s->K : s->C};
    const weight_args sums = {static_cast<float *>(workspace),
                              M,
                              s->H,
                              s->W,
                              s->K,
                              s->C,
                              weights ? weight_splits(p, multiprocessors) : 0};
    cudaError_t status = cudaSuccess;
    with_type(p->type, [&](auto t) {
        using T = decltype(t);
        if constexpr (!std::is_same<T, float>::value)
            status = weights
                         ? run_weights<T>(p, &maps, sums, w, multiprocessors, stream)
                         : run_tile<T>(index, !forward, &maps, pixels, multiprocessors,
                                       stream);
    });
    return status ? ff_err_set(err, FF_EFAIL, "%s: %s", tiles[index].name,
                               cudaGetErrorString(status))
                  : 0;
}
