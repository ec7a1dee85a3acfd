/* SPDX-License-Identifier: MIT */
/* Philox4x32-10; see rng.h. Checked against the known-answer vectors of Random123. */
#include "rng.h"

#include <math.h>

void ff_philox(uint32_t out[4], const uint32_t ctr[4], const uint32_t key[2])
{
    uint32_t c0 = ctr[0], c1 = ctr[1], c2 = ctr[2], c3 = ctr[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint64_t ff_stream(const char *name)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 0x100000001b3u;
    return hash;
}

/* One block per index: counter = (index, stream), key = seed. */
static void block(uint32_t out[4], uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t ctr[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)stream,
                       (uint32_t)(stream >> 32)};
    uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    ff_philox(out, ctr, key);
}

uint64_t ff_rng_u64(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t r[4];
    block(r, seed, stream, index);
    return (uint64_t)r[1] << 32 | r[0];
}

static double unit(uint32_t hi, uint32_t lo)
{
    return (double)(((uint64_t)hi << 32 | lo) >> 11) * 0x1p-53;
}

double ff_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t r[4];
    block(r, seed, stream, index);
    return unit(r[1], r[0]);
}

double ff_rng_normal(uint64_t seed, uint64_t stream, uint64_t index)
{
    uint32_t r[4];
    block(r, seed, stream, index);
    double u = 1.0 - unit(r[1], r[0]), v = unit(r[3], r[2]);
    return sqrt(-2.0 * log(u)) * cos(2.0 * 3.14159265358979323846 * v);
}

uint64_t ff_rng_next_u64(struct ff_rng *rng)
{
    return ff_rng_u64(rng->seed, rng->stream, rng->index++);
}

double ff_rng_next(struct ff_rng *rng)
{
    return ff_rng_uniform(rng->seed, rng->stream, rng->index++);
}

double ff_rng_next_normal(struct ff_rng *rng)
{
    return ff_rng_normal(rng->seed, rng->stream, rng->index++);
}

void ff_rng_permutation(int64_t *perm, int64_t n, uint64_t seed, uint64_t stream)
{
    for (int64_t i = 0; i < n; i++)
        perm[i] = i;
    for (int64_t i = n - 1; i > 0; i--) {
        /* 64 random bits times (i + 1), high half: bias below 2^-40 for any real n. */
        uint64_t r = ff_rng_u64(seed, stream, (uint64_t)i);
        int64_t j = (int64_t)(((unsigned __int128)r * (uint64_t)(i + 1)) >> 64);
        int64_t t = perm[i];
        perm[i] = perm[j];
        perm[j] = t;
    }
}
