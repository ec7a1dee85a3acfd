/* SPDX-License-Identifier: MIT */
/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011).
 *
 * A value is a pure function of (seed, stream, index): nothing depends on how many
 * numbers were drawn before, by which thread, or on an interruption. A stream is named
 * by a string (parameter name, "shuffle", "flip", ...) hashed to 64 bits. */
#ifndef FF_RNG_H
#define FF_RNG_H

#include <stdint.h>

/* One Philox4x32-10 block: out[4] from counter ctr[4] and key[2]. */
void ff_philox(uint32_t out[4], const uint32_t ctr[4], const uint32_t key[2]);

/* 64-bit FNV-1a of a string, to name a stream or for a hash table. */
uint64_t ff_stream(const char *name);

/* 64 uniform random bits of (seed, stream, index). */
uint64_t ff_rng_u64(uint64_t seed, uint64_t stream, uint64_t index);
/* Uniform in [0, 1), 53 bits. */
double ff_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);
/* Standard normal by Box-Muller. */
double ff_rng_normal(uint64_t seed, uint64_t stream, uint64_t index);

/* A cursor over one stream, for code that draws many numbers in a row. */
struct ff_rng {
    uint64_t seed, stream, index;
};
double ff_rng_next(struct ff_rng *rng);        /* uniform [0, 1) */
double ff_rng_next_normal(struct ff_rng *rng); /* N(0, 1) */
uint64_t ff_rng_next_u64(struct ff_rng *rng);

/* Bijective pseudo-random permutation of 0 .. n-1 written to perm (n) i64:
 * Fisher-Yates over stream (seed, stream). */
void ff_rng_permutation(int64_t *perm, int64_t n, uint64_t seed, uint64_t stream);

#endif
