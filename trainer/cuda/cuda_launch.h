/* SPDX-License-Identifier: MIT */
/* For the .cu files: launching, vectors of eight elements, sums over a block.
 *
 * Threads work on eight neighbouring channels or elements at a time: 16 bytes of
 * halves, 32 of f32. Tensors start on 256 bytes and channels come in eights, so every
 * access is aligned. */
#ifndef FF_CUDA_LAUNCH_H
#define FF_CUDA_LAUNCH_H

#ifdef FF_CUDA_EMULATED
#include "emulator.h"
#endif
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <string.h>

#include "cuda_formulas.h"
#include "cuda_priv.h"

/* Before each loop over the registers of a thread: an array that is indexed at run time
 * would lie in local memory. */
#ifdef __CUDACC__
#define FF_UNROLL _Pragma("unroll")
#else
#define FF_UNROLL
#endif

/* Queues kernel(args...); a failure is the runtime's last error. */
template <class... P, class... A>
static void launch_on(cudaStream_t stream, void (*kernel)(P...), dim3 grid, dim3 block,
                      A... args)
{
#ifdef FF_CUDA_EMULATED
    emulator_launch(stream, grid, block, [=] { kernel(static_cast<P>(args)...); });
#else
    kernel<<<grid, block, 0, stream>>>(static_cast<P>(args)...);
#endif
}

/* The same on the context's stream, which keeps a failure. */
template <class... P, class... A>
static void launch(struct cuda_ctx *cu, const char *name, void (*kernel)(P...),
                   dim3 grid, dim3 block, A... args)
{
    launch_on(cu->stream, kernel, grid, block, args...);
    cuda_ok(cu, cudaGetLastError(), name, "kernel launch");
}

static inline unsigned int blocks_for(int64_t items, int64_t a_block, int64_t most)
{
    int64_t blocks = (items + a_block - 1) / a_block;
    return (unsigned int)(blocks < 1 ? 1 : blocks > most ? most : blocks);
}

/* -- elements -- */

static __device__ __forceinline__ float widen(float x)
{
    return x;
}
static __device__ __forceinline__ float widen(__half x)
{
    return __half2float(x);
}
static __device__ __forceinline__ float widen(__nv_bfloat16 x)
{
    return __bfloat162float(x);
}

template <class T> static __device__ __forceinline__ T narrow(float x);
template <> __device__ __forceinline__ float narrow<float>(float x)
{
    return x;
}
template <> __device__ __forceinline__ __half narrow<__half>(float x)
{
    return __float2half_rn(x);
}
template <> __device__ __forceinline__ __nv_bfloat16 narrow<__nv_bfloat16>(float x)
{
    return __float2bfloat16_rn(x);
}

/* -- eight elements -- */

enum { LANES = 8 };

/* As they lie in memory: cheap to hold until needed. */
template <class T> struct eight {
    uint4 raw[LANES * sizeof(T) / 16];
};

template <class T> static __device__ __forceinline__ eight<T> load8(const T *p)
{
    eight<T> e;
    const uint4 *from = reinterpret_cast<const uint4 *>(p);
    FF_UNROLL
    for (unsigned int i = 0; i < LANES * sizeof(T) / 16; i++)
        e.raw[i] = from[i];
    return e;
}

template <class T>
static __device__ __forceinline__ void widen8(float (&x)[LANES], const eight<T> &e)
{
    T v[LANES];
    memcpy(v, e.raw, sizeof v);
    FF_UNROLL
    for (int i = 0; i < LANES; i++)
        x[i] = widen(v[i]);
}

template <class T>
static __device__ __forceinline__ void get8(float (&x)[LANES], const T *p)
{
    widen8(x, load8(p));
}

template <class T>
static __device__ __forceinline__ void put8(T *p, const float (&x)[LANES])
{
    T v[LANES];
    uint4 raw[LANES * sizeof(T) / 16];
    FF_UNROLL
    for (int i = 0; i < LANES; i++)
        v[i] = narrow<T>(x[i]);
    memcpy(raw, v, sizeof v);
    uint4 *to = reinterpret_cast<uint4 *>(p);
    FF_UNROLL
    for (unsigned int i = 0; i < LANES * sizeof(T) / 16; i++)
        to[i] = raw[i];
}

/* -- sums in a fixed order -- */

static __device__ __forceinline__ float warp_sum(float x)
{
    for (int step = 16; step > 0; step /= 2)
        x += __shfl_xor_sync(0xffffffffu, x, step);
    return x;
}

/* Of a block of 256 threads; every thread gets it. */
static __device__ __forceinline__ double block_sum(double x)
{
    __shared__ double part[256];
    unsigned int t = threadIdx.x + threadIdx.y * blockDim.x;
    __syncthreads(); /* part may still be read by an earlier call */
    part[t] = x;
    __syncthreads();
    for (unsigned int n = 128; n > 0; n /= 2) {
        if (t < n)
            part[t] += part[t + n];
        __syncthreads();
    }
    return part[0];
}

static __device__ __forceinline__ float block_max(float x)
{
    __shared__ float part[256];
    unsigned int t = threadIdx.x;
    __syncthreads();
    part[t] = x;
    __syncthreads();
    for (unsigned int n = 128; n > 0; n /= 2) {
        if (t < n && part[t + n] > part[t])
            part[t] = part[t + n];
        __syncthreads();
    }
    return part[0];
}

/* True in every thread of the one block, of `blocks`, that ends last; what the others
 * wrote before is visible to it. The counter is 0 again after it. */
static __device__ __forceinline__ bool last_block(unsigned int *counter,
                                                  unsigned int blocks)
{
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && threadIdx.y == 0) {
        last = atomicAdd(counter, 1u) == blocks - 1;
        if (last)
            *counter = 0;
    }
    __syncthreads();
    if (last)
        __threadfence();
    return last;
}

/* -- one template for the types in use -- */

/* Calls fn(T()) with the element type of `type`. */
template <class F> static void with_type(enum cuda_type type, F fn)
{
    switch (type) {
    case CUDA_F32: fn(float()); break;
    case CUDA_F16: fn(__half()); break;
    case CUDA_BF16: fn(__nv_bfloat16()); break;
    }
}

template <class T> static T *as(const struct ff_tensor *t)
{
    return t ? static_cast<T *>(t->data) : nullptr;
}

#endif
