/* SPDX-License-Identifier: MIT */
/* CUDA C++ kernels on a CPU, for tests: the .cu files of trainer/cuda/ compiled as
 * plain C++ against this, with the runtime calls of emulator.cpp behind them. Device
 * memory is host memory, so AddressSanitizer sees every access of a kernel.
 *
 * Each thread of a block is a fibre that runs until it meets a barrier or a shuffle; in
 * between, threads and blocks run in an order that changes from time to time, so that a
 * missing barrier shows. A barrier that not all threads reach stops the program. Work
 * on streams is deferred until something waits for it. What another stream may do
 * beside that, and the branches of a graph that captured several streams, then run as
 * late as the events allow, as early, or mixed, which changes from time to time: so a
 * missing wait shows, and host memory that is reused too early. */
#ifndef FF_EMULATOR_H
#define FF_EMULATOR_H

#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <functional>

#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __shared__
#define __shared__ static

extern uint3 emulator_thread, emulator_block;
extern dim3 emulator_block_dim, emulator_grid_dim;
#define threadIdx emulator_thread
#define blockIdx emulator_block
#define blockDim emulator_block_dim
#define gridDim emulator_grid_dim

/* Queues the kernel; it runs when the stream is waited for. */
void emulator_launch(cudaStream_t stream, dim3 grid, dim3 block,
                     std::function<void()> thread);
/* The same for pairs of blocks (clusters of two), which run at once. */
void emulator_launch_pairs(cudaStream_t stream, dim3 grid, dim3 block,
                           std::function<void()> thread);
/* Queues work of another kind: what a library would do. */
void emulator_queue(cudaStream_t stream, std::function<void()> work);
/* Both together, with copies, queued or captured so far. */
extern int64_t emulator_queued;

void emulator_barrier();
void emulator_warp_barrier();
void emulator_yield();        /* lets the other threads run: in a loop that waits */
unsigned int emulator_lane(); /* thread number in the block, or in the pair */
unsigned int emulator_rank(); /* number of the block in its pair */

#define __syncthreads() emulator_barrier()
#define __threadfence() ((void)0)
#define __threadfence_system() ((void)0)

template <class T>
static inline T __shfl_xor_sync(unsigned int mask, T value, int lanes)
{
    static T values[1024];
    unsigned int t = emulator_lane();
    (void)mask;
    values[t] = value;
    emulator_warp_barrier();
    T other = values[t ^ (unsigned int)lanes];
    emulator_warp_barrier();
    return other;
}

static inline unsigned int atomicAdd(unsigned int *at, unsigned int add)
{
    unsigned int old = *at;
    *at += add;
    return old;
}

template <class T> static inline T __ldcg(const T *at)
{
    return *at;
}

/* A replayed event counts for the host from the time it is reached, not from the
 * launch: who waits for it before sees the last replay's. */
extern bool emulator_events_lag;

/* Nodes of the last graph that stood on streams other than the captured one; and those
 * that run with a lower priority than its own do. */
extern int emulator_forked_nodes, emulator_low_nodes;

using std::isfinite;

#endif
