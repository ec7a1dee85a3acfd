/* SPDX-License-Identifier: MIT */
/* The instructions of trainer/cuda/cuda_sm90.h on a CPU, from the PTX ISA's
 * description: shared memory, barriers, tensor copies and products, each as late as the
 * order allows. Included by that header. */
#ifndef FF_EMULATOR_SM90_H
#define FF_EMULATOR_SM90_H

#include "emulator.h"

#define SM90_PAIR
#undef __grid_constant__
#define __grid_constant__

/* Queues a kernel of pairs with so many bytes of shared memory a block. */
void emulator_launch_sm90(cudaStream_t stream, dim3 grid, dim3 block, int shared_bytes,
                          std::function<void()> thread);

char *sm90_shared();
uint32_t sm90_at(const void *shared);
static inline uint32_t sm90_rank()
{
    return emulator_rank();
}
void sm90_pair_sync();
template <int COUNT> static inline void sm90_fewer_registers()
{
}
template <int COUNT> static inline void sm90_more_registers()
{
}

static inline int sm90_uniform(int x)
{
    return x;
}

void sm90_barrier_init(uint64_t *barrier, int count);
static inline void sm90_barriers_made()
{
}
void sm90_barrier_expect(uint64_t *barrier, int bytes);
void sm90_barrier_arrive(uint64_t *barrier, uint32_t rank);
void sm90_barrier_wait(uint64_t *barrier, uint32_t parity);

void emulator_copy_pixels(bool to_pair, void *shared, const CUtensorMap *map,
                          uint64_t *barrier, int c, int w, int h, int n, int s, int r);
template <bool TO_PAIR>
static inline void sm90_copy_pixels(void *shared, const CUtensorMap *map,
                                    uint64_t *barrier, int c, int w, int h, int n,
                                    int s, int r)
{
    emulator_copy_pixels(TO_PAIR, shared, map, barrier, c, w, h, n, s, r);
}
void sm90_copy_to_pair(void *shared, const CUtensorMap *map, uint64_t *barrier, int x,
                       int y, int z);

static inline void sm90_products_begin()
{
}
void sm90_products_commit();
void emulator_products_wait(int left);
template <int LEFT> static inline void sm90_products_wait()
{
    emulator_products_wait(LEFT);
}
static inline void sm90_products_done(float (&sum)[SM90_COLUMNS / 2])
{
    (void)sum;
}
void emulator_product(float *sum, uint64_t a, uint64_t b, bool bf16, bool down_a,
                      bool down_b);
template <class T, bool DOWN_A, bool DOWN_B>
static inline void sm90_product(float (&sum)[SM90_COLUMNS / 2], uint64_t a, uint64_t b)
{
    emulator_product(sum, a, b, !std::is_same<T, __half>::value, DOWN_A, DOWN_B);
}

#endif
