/* SPDX-License-Identifier: MIT */
/* See emulator_sm90.h. Copies run when somebody waits for their barrier, products when
 * their group is waited for: who overwrites shared memory too early, or reads it before
 * it was waited for, computes from the wrong bytes. */
#include "cuda_sm90.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <deque>
#include <vector>

enum { THREADS = 1024, PAIR = 2, ATOM = 128 };

[[noreturn]] static void stop(const char *what)
{
    fprintf(stderr, "emulator: %s\n", what);
    abort();
}

/* -- shared memory: addresses count from a unit that the kernel's part does not start
 * on -- */

enum { OFF_UNIT = 16 };
static char *shared[PAIR]; /* address 0 of each block */

static char *place(uint32_t at, unsigned int rank)
{
    return shared[rank] + at;
}

char *sm90_shared()
{
    return place(OFF_UNIT, emulator_rank());
}

uint32_t sm90_at(const void *p)
{
    return (uint32_t)((const char *)p - shared[emulator_rank()]);
}

/* Where a byte of a matrix with swizzled rows lies. */
static uint32_t swizzled(uint32_t at)
{
    return at ^ (at / ATOM % 8 * 16);
}

/* -- barriers -- */

struct barrier {
    uint64_t *key; /* its place in shared memory */
    int count, missing;
    int64_t bytes;   /* announced and not come */
    uint32_t parity; /* of the present phase */
};
struct copy {
    uint64_t *barrier;
    std::function<void()> work;
    int64_t bytes;
};
static std::vector<barrier> barriers;
static std::deque<copy> copies;

static const uint64_t ours = 0xeeeeeeeeeeeeeeee; /* what a barrier's bytes hold */

static barrier &barrier_at(uint64_t *key)
{
    for (barrier &b : barriers)
        if (b.key == key && *key == ours)
            return b;
    stop("a barrier that was not made, or was overwritten");
}

static void check_phase(barrier &b)
{
    if (b.missing == 0 && b.bytes == 0) {
        b.missing = b.count;
        b.parity ^= 1;
    }
}

void sm90_barrier_init(uint64_t *key, int count)
{
    auto old = std::remove_if(barriers.begin(), barriers.end(),
                              [=](const barrier &b) { return b.key == key; });
    barriers.erase(old, barriers.end()); /* of the pair before */
    barriers.push_back({key, count, count, 0, 0});
    *key = ours;
}

static void arrive(uint64_t *key, int64_t bytes)
{
    barrier &b = barrier_at(key);
    if (b.missing == 0)
        stop("more arrivals at a barrier than it counts");
    b.missing--;
    b.bytes += bytes;
    check_phase(b);
}

void sm90_barrier_expect(uint64_t *key, int bytes)
{
    arrive(key, bytes);
}

void sm90_barrier_arrive(uint64_t *key, uint32_t rank)
{
    arrive((uint64_t *)(void *)place(sm90_at(key), rank), 0);
}

/* One of the copies that are under way, mostly not the oldest. */
static void run_a_copy()
{
    static unsigned int turn;
    if (copies.empty())
        return;
    size_t i = turn++ * 7 % copies.size();
    copy c = copies[i];
    copies.erase(copies.begin() + (std::ptrdiff_t)i);
    c.work();
    barrier &b = barrier_at(c.barrier);
    b.bytes -= c.bytes;
    check_phase(b);
}

void sm90_barrier_wait(uint64_t *key, uint32_t parity)
{
    for (int tries = 0; barrier_at(key).parity == parity; tries++) {
        if (tries > 1000000)
            stop("a phase of a barrier that does not end");
        run_a_copy();
        emulator_yield();
    }
}

static int pair_arrived, pair_turn;

void sm90_pair_sync()
{
    int turn = pair_turn;
    if (++pair_arrived == PAIR * (int)(blockDim.x * blockDim.y)) {
        pair_arrived = 0;
        pair_turn++;
    }
    while (turn == pair_turn)
        emulator_yield();
}

/* -- tensor maps -- */

struct map {
    const char *data;
    uint64_t dims[4], strides[4]; /* bytes; strides[0] of an element */
    uint32_t box[3];
    int low[2], high[2]; /* corners, w and h */
    uint32_t channels, pixels;
};
static_assert(sizeof(map) <= sizeof(CUtensorMap), "a map keeps to its bytes");

static const map &map_of(const CUtensorMap *m)
{
    return *reinterpret_cast<const map *>(m);
}

static CUresult put_map(CUtensorMap *out, map &m, cuuint32_t rank, void *data,
                        const cuuint64_t *dims, const cuuint64_t *strides,
                        CUtensorMapSwizzle swizzle)
{
    if ((uintptr_t)data % 16 || (uintptr_t)out % 64 ||
        swizzle != CU_TENSOR_MAP_SWIZZLE_128B)
        return CUDA_ERROR_INVALID_VALUE;
    m.data = (const char *)data;
    m.strides[0] = 2;
    for (cuuint32_t i = 0; i < rank; i++) {
        m.dims[i] = dims[i];
        if (i > 0)
            m.strides[i] = strides[i - 1];
        if (!dims[i] || (i > 0 && m.strides[i] % 16))
            return CUDA_ERROR_INVALID_VALUE;
    }
    memcpy((void *)out, &m, sizeof m);
    return CUDA_SUCCESS;
}

static CUresult encode_im2col(CUtensorMap *out, CUtensorMapDataType, cuuint32_t rank,
                              void *data, const cuuint64_t *dims,
                              const cuuint64_t *strides, const int *low,
                              const int *high, cuuint32_t channels, cuuint32_t pixels,
                              const cuuint32_t *, CUtensorMapInterleave,
                              CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                              CUtensorMapFloatOOBfill)
{
    map m = {};
    if (rank != 4 || channels > 256 || 2 * channels > ATOM || pixels > 1024)
        return CUDA_ERROR_INVALID_VALUE;
    for (int i = 0; i < 2; i++) {
        m.low[i] = low[i];
        m.high[i] = high[i];
    }
    m.channels = channels;
    m.pixels = pixels;
    return put_map(out, m, rank, data, dims, strides, swizzle);
}

static CUresult encode_tiled(CUtensorMap *out, CUtensorMapDataType, cuuint32_t rank,
                             void *data, const cuuint64_t *dims,
                             const cuuint64_t *strides, const cuuint32_t *box,
                             const cuuint32_t *, CUtensorMapInterleave,
                             CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                             CUtensorMapFloatOOBfill)
{
    map m = {};
    if (rank != 3 || 2 * box[0] > ATOM || box[1] > 256 || box[2] > 256)
        return CUDA_ERROR_INVALID_VALUE;
    std::copy(box, box + 3, m.box);
    return put_map(out, m, rank, data, dims, strides, swizzle);
}

extern "C" cudaError_t
cudaGetDriverEntryPointByVersion(const char *symbol, void **out, unsigned int,
                                 unsigned long long, cudaDriverEntryPointQueryResult *)
{
    *out = strcmp(symbol, "cuTensorMapEncodeIm2col") == 0  ? (void *)encode_im2col
           : strcmp(symbol, "cuTensorMapEncodeTiled") == 0 ? (void *)encode_tiled
                                                           : nullptr;
    return cudaSuccess;
}

/* -- copies -- */

/* `count` elements of the map at these coordinates, zeros outside of it, to one row. */
static void copy_row(const map &m, char *block, uint32_t at, uint32_t count,
                     const int64_t *where, int rank)
{
    for (uint32_t i = 0; i < count; i++) {
        const char *from = m.data;
        bool inside = true;
        for (int d = 0; d < rank; d++) {
            int64_t x = where[d] + (d == 0 ? (int64_t)i : 0);
            inside = inside && x >= 0 && x < (int64_t)m.dims[d];
            from += x * (int64_t)m.strides[d];
        }
        char *to = block + swizzled(at + 2 * i);
        if (inside)
            memcpy(to, from, 2);
        else
            memset(to, 0, 2);
    }
}

void emulator_copy_pixels(bool to_pair, void *to, const CUtensorMap *map_at,
                          uint64_t *key, int c, int w0, int h0, int n0, int s, int r)
{
    const map m = map_of(map_at);
    uint32_t at = sm90_at(to), key_at = sm90_at(key);
    int last_w = (int)m.dims[1] - 1 + m.high[0],
        last_h = (int)m.dims[2] - 1 + m.high[1];
    if (at % ATOM || w0 < m.low[0] || w0 > last_w || h0 < m.low[1] || h0 > last_h)
        stop("a copy of pixels from outside the box, or to an odd place");
    for (unsigned int rank = 0; rank < PAIR; rank++) {
        if (!to_pair && rank != emulator_rank())
            continue;
        char *block = shared[rank];
        auto work = [=] {
            int w = w0, h = h0, n = n0;
            for (uint32_t p = 0; p < m.pixels; p++) {
                const int64_t where[4] = {c, w + s, h + r, n};
                copy_row(m, block, at + p * ATOM, m.channels, where, 4);
                if (++w > last_w) {
                    w = m.low[0];
                    if (++h > last_h) {
                        h = m.low[1];
                        n++;
                    }
                }
            }
        };
        copies.push_back({(uint64_t *)(void *)place(key_at, rank), work,
                          (int64_t)m.pixels * m.channels * 2});
    }
}

void sm90_copy_to_pair(void *to, const CUtensorMap *map_at, uint64_t *key, int x, int y,
                       int z)
{
    const map m = map_of(map_at);
    uint32_t at = sm90_at(to), key_at = sm90_at(key);
    if (at % ATOM)
        stop("a copy to an odd place");
    for (unsigned int rank = 0; rank < PAIR; rank++) {
        char *block = shared[rank];
        auto work = [=] {
            for (uint32_t k = 0; k < m.box[2]; k++)
                for (uint32_t j = 0; j < m.box[1]; j++) {
                    const int64_t where[3] = {x, y + (int64_t)j, z + (int64_t)k};
                    copy_row(m, block, at + (k * m.box[1] + j) * ATOM, m.box[0], where,
                             3);
                }
        };
        copies.push_back({(uint64_t *)(void *)place(key_at, rank), work,
                          (int64_t)m.box[0] * m.box[1] * m.box[2] * 2});
    }
}

/* -- products -- */

struct product {
    float *sum;
    uint64_t a, b;
    bool bf16, down_a, down_b;
    bool commit; /* the end of a group, no product */
};
static std::deque<product> products[THREADS];

void emulator_product(float *sum, uint64_t a, uint64_t b, bool bf16, bool down_a,
                      bool down_b)
{
    products[emulator_lane()].push_back({sum, a, b, bf16, down_a, down_b, false});
}

void sm90_products_commit()
{
    products[emulator_lane()].push_back({nullptr, 0, 0, false, false, false, true});
}

static float element(const char *block, uint32_t at, bool bf16)
{
    if (bf16) {
        __nv_bfloat16 x;
        memcpy(&x, block + swizzled(at), sizeof x);
        return __bfloat162float(x);
    }
    __half x;
    memcpy(&x, block + swizzled(at), sizeof x);
    return __half2float(x);
}

/* Address of element (outer, inner) of a matrix whose rows run along the sum, or not.
 */
static uint32_t address(uint64_t m, uint32_t outer, uint32_t inner, bool down)
{
    uint32_t start = (uint32_t)(m & 0x3fff) * 16;
    uint32_t leading = (uint32_t)(m >> 16 & 0x3fff) * 16;
    uint32_t stride = (uint32_t)(m >> 32 & 0x3fff) * 16;
    if (m >> 62 != 1)
        stop("a matrix that is not swizzled by 128 bytes");
    if (down)
        return start + outer % 64 * 2 + outer / 64 * leading + inner % 8 * ATOM +
               inner / 8 * stride;
    return start + outer % 8 * ATOM + outer / 8 * stride + inner * 2;
}

/* This thread's part of the product. */
static void multiply(const product &p)
{
    const char *block = shared[emulator_rank()];
    unsigned int t = emulator_thread.x % 128, lane = t % 32;
    float a[2][16];
    for (uint32_t j = 0; j < 2; j++)
        for (uint32_t k = 0; k < 16; k++)
            a[j][k] = element(block,
                              address(p.a, t / 32 * 16 + lane / 4 + 8 * j, k, p.down_a),
                              p.bf16);
    for (uint32_t column = 0; column < 128; column++) {
        if (column % 8 / 2 != lane % 4)
            continue;
        for (uint32_t k = 0; k < 16; k++) {
            float b = element(block, address(p.b, column, k, p.down_b), p.bf16);
            for (uint32_t j = 0; j < 2; j++)
                p.sum[column / 8 * 4 + 2 * j + column % 2] += a[j][k] * b;
        }
    }
}

void emulator_products_wait(int left)
{
    std::deque<product> &mine = products[emulator_lane()];
    int groups = 0;
    for (const product &p : mine)
        groups += p.commit;
    for (; groups > left; groups--) {
        for (; !mine.front().commit; mine.pop_front())
            multiply(mine.front());
        mine.pop_front();
    }
    emulator_warp_barrier(); /* the warp goes on as one */
}

/* -- launch -- */

void emulator_launch_sm90(cudaStream_t stream, dim3 grid, dim3 block, int shared_bytes,
                          std::function<void()> thread)
{
    if (shared_bytes > SM90_SHARED_BYTES)
        stop("more shared memory than there is");
    emulator_queue(stream, [=] {
        barriers.clear();
        for (char *&s : shared) {
            s = (char *)malloc((size_t)shared_bytes + OFF_UNIT);
            memset(s, 0xff, (size_t)shared_bytes + OFF_UNIT);
        }
    });
    emulator_launch_pairs(stream, grid, block, thread);
    emulator_queue(stream, [=] {
        for (char *&s : shared) {
            free(s);
            s = nullptr;
        }
        if (!copies.empty())
            stop("a copy that nobody waited for");
    });
}
