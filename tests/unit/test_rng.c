/* SPDX-License-Identifier: MIT */
/* Counter-based random numbers: known answers, moments, independence of order. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <string.h>

#include "rng.h"

Test(rng, philox_known_answers)
{
    /* Random123's kat_vectors for philox4x32 with 10 rounds: counter, key, output. */
    static const uint32_t kat[3][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
         0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0,
         0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t out[4];
        ff_philox(out, kat[i], kat[i] + 4);
        for (int j = 0; j < 4; j++)
            cr_assert(eq(u32, out[j], kat[i][6 + j]), "vector %d word %d", i, j);
    }
}

Test(rng, stream_is_fnv1a)
{
    cr_assert(eq(u64, ff_stream(""), 0xcbf29ce484222325u));
    cr_assert(eq(u64, ff_stream("a"), 0xaf63dc4c8601ec8cu));
    cr_assert(eq(u64, ff_stream("foobar"), 0x85944171f73967e8u));
}

Test(rng, value_depends_on_seed_stream_and_index_alone)
{
    uint64_t s = ff_stream("flip");
    uint64_t value = ff_rng_u64(3407, s, 12345);
    for (uint64_t i = 0; i < 100; i++)
        ff_rng_u64(1, s, i);
    cr_assert(eq(u64, ff_rng_u64(3407, s, 12345), value));
    cr_assert(ne(u64, ff_rng_u64(3408, s, 12345), value));
    cr_assert(ne(u64, ff_rng_u64(3407, s + 1, 12345), value));
    cr_assert(ne(u64, ff_rng_u64(3407, s, 12346), value));
    cr_assert(ne(u64, ff_rng_u64(3407, s, 12345 + (1ull << 32)), value));
}

Test(rng, cursor_walks_the_stream)
{
    struct ff_rng rng = {7, ff_stream("x"), 5};
    cr_assert(eq(dbl, ff_rng_next(&rng), ff_rng_uniform(7, ff_stream("x"), 5)));
    cr_assert(eq(dbl, ff_rng_next_normal(&rng), ff_rng_normal(7, ff_stream("x"), 6)));
    cr_assert(eq(u64, ff_rng_next_u64(&rng), ff_rng_u64(7, ff_stream("x"), 7)));
    cr_assert(eq(u64, rng.index, 8));
}

Test(rng, uniform_and_normal_moments)
{
    enum { N = 100000 };
    double sum = 0, square = 0, nsum = 0, nsquare = 0, fourth = 0;
    for (uint64_t i = 0; i < N; i++) {
        double u = ff_rng_uniform(1, 2, i), n = ff_rng_normal(1, 3, i);
        cr_assert(u >= 0 && u < 1);
        sum += u;
        square += u * u;
        nsum += n;
        nsquare += n * n;
        fourth += n * n * n * n;
    }
    cr_assert(epsilon_eq(dbl, sum / N, 0.5, 0.005));
    cr_assert(epsilon_eq(dbl, square / N, 1.0 / 3, 0.005));
    cr_assert(epsilon_eq(dbl, nsum / N, 0, 0.015));
    cr_assert(epsilon_eq(dbl, nsquare / N, 1, 0.02));
    cr_assert(epsilon_eq(dbl, fourth / N, 3, 0.15));
}

Test(rng, permutation_holds_every_index_once)
{
    enum { N = 1000 };
    int64_t perm[N], again[N], other[N];
    char seen[N] = {0};
    int fixed = 0;
    ff_rng_permutation(perm, N, 3407, 1);
    ff_rng_permutation(again, N, 3407, 1);
    ff_rng_permutation(other, N, 3407, 2);
    for (int i = 0; i < N; i++) {
        cr_assert(perm[i] >= 0 && perm[i] < N && !seen[perm[i]]);
        seen[perm[i]] = 1;
        fixed += perm[i] == i;
    }
    cr_assert(lt(int, fixed, 10));
    cr_assert(eq(int, memcmp(perm, again, sizeof perm), 0));
    cr_assert(ne(int, memcmp(perm, other, sizeof perm), 0));
}
