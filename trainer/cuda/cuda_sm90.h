/* SPDX-License-Identifier: MIT */
/* What sm_90 alone has, one function an instruction (PTX ISA 8.0 and later): barriers
 * in shared memory that count bytes, tensor copies into it, products of a warpgroup,
 * pairs of blocks. Played by tests/emulated/emulator_sm90.cpp on a CPU.
 *
 * Matrices in shared memory have rows of 128 bytes, whose eight 16-byte parts change
 * places by the row's number modulo eight (128B swizzle): copies write them so, and
 * products read them so. Eight rows, 1024 bytes, are the unit; every matrix starts on
 * one. */
#ifndef FF_CUDA_SM90_H
#define FF_CUDA_SM90_H

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdint.h>

#include <type_traits>

enum {
    SM90_SHARED_BYTES = 227 * 1024, /* of a block, at most */
    SM90_ALIGN = 1024,
    SM90_ROW_BYTES = 128,
    SM90_COLUMNS = 128, /* of a product: ptxas takes wider ones in a block of three
                           warpgroups at most */
};

/* A matrix in shared memory for a product. With the inner index along the rows' bytes
 * (the sum runs along a row) `stride` is the distance of two units; with the outer
 * index there (the sum runs down the rows) it is too, and `leading` that of two blocks
 * of 64 columns. In bytes. */
static __device__ __forceinline__ uint64_t sm90_matrix(uint32_t at, uint32_t leading,
                                                       uint32_t stride)
{
    return (uint64_t)((at & 0x3ffff) >> 4) | (uint64_t)(leading >> 4) << 16 |
           (uint64_t)(stride >> 4) << 32 | (uint64_t)1 << 62;
}

#ifdef FF_CUDA_EMULATED
#include "emulator_sm90.h"
#else

#define SM90_PAIR __cluster_dims__(2, 1, 1)

static __device__ __forceinline__ char *sm90_shared()
{
    extern __shared__ char shared[];
    return shared;
}

static __device__ __forceinline__ uint32_t sm90_at(const void *shared)
{
    return (uint32_t)__cvta_generic_to_shared(shared);
}

/* Number of this block in its pair. */
static __device__ __forceinline__ uint32_t sm90_rank()
{
    uint32_t rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/* All threads of both blocks. */
static __device__ __forceinline__ void sm90_pair_sync()
{
    asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::
                     : "memory");
}

/* Registers of each thread of a warpgroup, all of which must call it. */
template <int COUNT> static __device__ __forceinline__ void sm90_fewer_registers()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT> static __device__ __forceinline__ void sm90_more_registers()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

/* -- barriers: a phase ends with `count` arrivals and all bytes announced -- */

static __device__ __forceinline__ void sm90_barrier_init(uint64_t *barrier, int count)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(sm90_at(barrier)),
                 "r"(count)
                 : "memory");
}

/* After the inits, before sm90_pair_sync. */
static __device__ __forceinline__ void sm90_barriers_made()
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/* Arrives, and announces bytes of copies. */
static __device__ __forceinline__ void sm90_barrier_expect(uint64_t *barrier, int bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                     sm90_at(barrier)),
                 "r"(bytes)
                 : "memory");
}

/* Arrives at that barrier of block `rank` of the pair. */
static __device__ __forceinline__ void sm90_barrier_arrive(uint64_t *barrier,
                                                           uint32_t rank)
{
    asm volatile("{\n\t"
                 ".reg .b32 there;\n\t"
                 "mapa.shared::cluster.u32 there, %0, %1;\n\t"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n\t"
                 "}" ::"r"(sm90_at(barrier)),
                 "r"(rank)
                 : "memory");
}

static __device__ __forceinline__ bool sm90_barrier_try(uint64_t *barrier,
                                                        uint32_t parity)
{
    uint32_t done;
    asm volatile("{\n\t"
                 ".reg .pred p;\n\t"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n\t"
                 "selp.u32 %0, 1, 0, p;\n\t"
                 "}"
                 : "=r"(done)
                 : "r"(sm90_at(barrier)), "r"(parity)
                 : "memory");
    return done != 0;
}

static __device__ __forceinline__ uint64_t sm90_now_ns()
{
    uint64_t now;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
    return now;
}

/* Waits for the end of the phase of this parity; the phase before the first is odd. One
 * that never ends would hang the device: the kernel is ended. What copies and products
 * read and write is ordered by it, ordinary stores are not (no scope: that would be a
 * fence of the whole device a step). */
static __device__ __forceinline__ void sm90_barrier_wait(uint64_t *barrier,
                                                         uint32_t parity)
{
    const uint64_t patience_ns = 4000000000;
    if (sm90_barrier_try(barrier, parity))
        return;
    uint64_t start = sm90_now_ns();
    while (!sm90_barrier_try(barrier, parity))
        if (sm90_now_ns() - start > patience_ns)
            __trap();
}

/* -- copies by tensor maps: announced at the barrier that they end at -- */

/* Channels from c on of the map's pixels from (n, h, w) on, seen from filter tap (r,
 * s); h and w are those of tap (0, 0). Outside of the images there are zeros. To this
 * block, or to the same place of both blocks of the pair; there the bytes count at each
 * block's own barrier. */
#define SM90_COPY_PIXELS                                                               \
    "cp.async.bulk.tensor.4d.shared::cluster.global.im2col.mbarrier::complete_tx::"    \
    "bytes"
template <bool TO_PAIR>
static __device__ __forceinline__ void
sm90_copy_pixels(void *shared, const CUtensorMap *map, uint64_t *barrier, int c, int w,
                 int h, int n, int s, int r)
{
    if (TO_PAIR)
        asm volatile(
            SM90_COPY_PIXELS
            ".multicast::cluster [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8}, "
            "%9;" ::"r"(sm90_at(shared)),
            "l"(map), "r"(sm90_at(barrier)), "r"(c), "r"(w), "r"(h), "r"(n),
            "h"((uint16_t)s), "h"((uint16_t)r), "h"((uint16_t)3)
            : "memory");
    else
        asm volatile(
            SM90_COPY_PIXELS
            " [%0], [%1, {%3, %4, %5, %6}], [%2], {%7, %8};" ::"r"(sm90_at(shared)),
            "l"(map), "r"(sm90_at(barrier)), "r"(c), "r"(w), "r"(h), "r"(n),
            "h"((uint16_t)s), "h"((uint16_t)r)
            : "memory");
}

/* The map's box from (z, y, x) on, to both blocks of the pair. */
static __device__ __forceinline__ void sm90_copy_to_pair(void *shared,
                                                         const CUtensorMap *map,
                                                         uint64_t *barrier, int x,
                                                         int y, int z)
{
    asm volatile(
        "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;" ::"r"(
            sm90_at(shared)),
        "l"(map), "r"(sm90_at(barrier)), "r"(x), "r"(y), "r"(z), "h"((uint16_t)3)
        : "memory");
}

/* -- products: sum (64, 128) += a (64, 16) b (16, 128) by a warpgroup -- */

/* Before the first product, and where the sums were written since. */
static __device__ __forceinline__ void sm90_products_begin()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ __forceinline__ void sm90_products_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/* Waits until at most LEFT groups of products are not done. */
template <int LEFT> static __device__ __forceinline__ void sm90_products_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}

/* The sums are read after this, not before: the compiler sees no dependence otherwise.
 */
static __device__ __forceinline__ void
sm90_products_done(float (&sum)[SM90_COLUMNS / 2])
{
    FF_UNROLL
    for (int i = 0; i < SM90_COLUMNS / 2; i++)
        asm volatile("" : "+f"(sum[i])::"memory");
}

/* A value that is the same in all threads of a warp, told so to the compiler. */
static __device__ __forceinline__ int sm90_uniform(int x)
{
    return __shfl_sync(0xffffffffu, x, 0);
}

/* Lists of operands: eight at a time. */
#define SM90_8(b)                                                                      \
    "+f"(sum[b]), "+f"(sum[b + 1]), "+f"(sum[b + 2]), "+f"(sum[b + 3]),                \
        "+f"(sum[b + 4]), "+f"(sum[b + 5]), "+f"(sum[b + 6]), "+f"(sum[b + 7])
#define SM90_64(b)                                                                     \
    SM90_8(b), SM90_8(b + 8), SM90_8(b + 16), SM90_8(b + 24), SM90_8(b + 32),          \
        SM90_8(b + 40), SM90_8(b + 48), SM90_8(b + 56)
#define SM90_NAMES_64                                                                  \
    "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, " \
    "%18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, " \
    "%34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, " \
    "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define SM90_PRODUCT(TYPE)                                                             \
    asm volatile("{\n\t"                                                               \
                 ".reg .pred add;\n\t"                                                 \
                 "setp.ne.b32 add, 1, 0;\n\t"                                          \
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32." TYPE "." TYPE          \
                 " {" SM90_NAMES_64 "}, %64, %65, add, 1, 1, %66, %67;\n\t"            \
                 "}"                                                                   \
                 : SM90_64(0)                                                          \
                 : "l"(a), "l"(b), "n"(DOWN_A ? 1 : 0), "n"(DOWN_B ? 1 : 0))

/* T __half or __nv_bfloat16; DOWN: the sum runs down that one's rows. A thread holds of
 * row 16 (warp % 4) + lane / 4 + 8 j the columns 8 i + 2 (lane % 4) + 0 and 1, in sum[4
 * i + 2 j] and the next. */
template <class T, bool DOWN_A, bool DOWN_B>
static __device__ __forceinline__ void sm90_product(float (&sum)[SM90_COLUMNS / 2],
                                                    uint64_t a, uint64_t b)
{
    if constexpr (std::is_same<T, __half>::value)
        SM90_PRODUCT("f16");
    else
        SM90_PRODUCT("bf16");
}

#endif
#endif
