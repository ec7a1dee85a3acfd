/* SPDX-License-Identifier: MIT */
/* Identity bootstrap: components, replicates against pairs written out w times,
 * intervals. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bootstrap.h"
#include "rng.h"

enum { T = 12, P = T * (T - 1) / 2, FARS = 3, REPLICATES = 40, EXPANDED = P * 150 };
static const double far_list[FARS] = {0.01, 0.1, 1};
/* Identities {0,3,7} {1,4} {2} {5,6,8,9} {10} {11}: in order of first template. */
static const int32_t person[T] = {0, 1, 2, 0, 1, 3, 3, 0, 3, 3, 4, 5};

static int32_t pair_a[P], pair_b[P];
static uint8_t genuine[P];
static float score[P];
static struct ff_ijb_meta meta;

static void setup(void)
{
    int n = 0;
    for (int32_t a = 0; a < T; a++) {
        for (int32_t b = a + 1; b < T; b++, n++) {
            pair_a[n] = n % 2 ? a : b;
            pair_b[n] = n % 2 ? b : a;
            genuine[n] = person[a] == person[b];
            double v = ff_rng_normal(2, 8, (uint64_t)n) + 1.2 * genuine[n];
            score[n] = (float)(floor(v * 8) / 8);
        }
    }
    meta = (struct ff_ijb_meta){.template_count = T,
                                .pair_count = P,
                                .pair_a = pair_a,
                                .pair_b = pair_b,
                                .genuine = genuine};
}

TestSuite(bootstrap, .init = setup);

Test(bootstrap, identities_are_components_over_genuine_pairs)
{
    int32_t identity[T], count;
    /* Only a chain of genuine pairs stays: 0-7, 7-3, 4-1, 9-5, 8-9, 6-8. */
    for (int n = 0; n < P; n++) {
        int32_t low = pair_a[n] < pair_b[n] ? pair_a[n] : pair_b[n];
        int32_t high = pair_a[n] + pair_b[n] - low;
        int key = 100 * low + high;
        genuine[n] = key == 7 || key == 307 || key == 104 || key == 509 || key == 809 ||
                     key == 608;
    }
    cr_assert(eq(int, ff_bootstrap_identities(identity, &count, &meta, NULL), 0));
    cr_assert(eq(int, count, 6));
    cr_assert(eq(int, memcmp(identity, person, sizeof person), 0));
}

static int falling(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Every pair written out as often as it weighs, then the plain definition. */
static void written_out(double *tar, const int *drawn)
{
    static float impostor[EXPANDED], same[EXPANDED];
    int impostors = 0, sames = 0;
    for (int n = 0; n < P; n++) {
        int a = drawn[person[pair_a[n]]], b = drawn[person[pair_b[n]]];
        for (int w = 0; w < (genuine[n] ? a : a * b); w++) {
            if (genuine[n])
                same[sames++] = score[n];
            else
                impostor[impostors++] = score[n];
        }
    }
    qsort(impostor, (size_t)impostors, sizeof *impostor, falling);
    for (int f = 0; f < FARS; f++) {
        int k = (int)floor(far_list[f] * impostors * (1 + 1e-12)), accepted = 0;
        for (int i = 0; i < sames; i++)
            accepted += k >= impostors || same[i] > impostor[k];
        tar[f] = sames && impostors ? (double)accepted / sames : (double)NAN;
    }
}

static void run(double *tar, int threads)
{
    struct ff_roc *roc;
    int32_t people;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_roc_create(&roc, score, genuine, P, 1, &err), 0));
    int rc = ff_bootstrap_run(tar, &people, REPLICATES, roc, &meta, far_list, FARS,
                              threads, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(int, people, 6));
    ff_roc_destroy(roc);
}

Test(bootstrap, replicates_equal_pairs_written_out)
{
    double tar[REPLICATES][FARS];
    run(&tar[0][0], 1);
    for (int r = 0; r < REPLICATES; r++) {
        int drawn[6] = {0};
        double want[FARS];
        for (int i = 0; i < 6; i++)
            drawn[(int)(6 * ff_rng_uniform(1, ff_stream("bootstrap"),
                                           (uint64_t)(6 * r + i)))]++;
        written_out(want, drawn);
        for (int f = 0; f < FARS; f++) {
            if (isnan(want[f]))
                cr_assert(isnan(tar[r][f]));
            else
                cr_assert(epsilon_eq(dbl, tar[r][f], want[f], 1e-15), "%d %d", r, f);
        }
    }
}

Test(bootstrap, threads_do_not_change_a_bit)
{
    double one[REPLICATES][FARS], three[REPLICATES][FARS];
    run(&one[0][0], 1);
    run(&three[0][0], 3);
    cr_assert(eq(int, memcmp(one, three, sizeof one), 0));
}

Test(bootstrap, intervals_are_quantiles)
{
    enum { R = 41 };
    double tar[R + 2][2];
    struct ff_bootstrap_interval interval[2];
    for (int r = 0; r < R; r++) {
        tar[r][0] = (double)((r * 17) % R) / 40; /* 0, 1/40 .. 1 shuffled */
        tar[r][1] = 0.25;
    }
    for (int r = R; r < R + 2; r++)
        tar[r][0] = tar[r][1] = (double)NAN;
    cr_assert(eq(int,
                 ff_bootstrap_intervals(interval, &tar[0][0], R + 2, far_list, 2, NULL),
                 0));
    cr_assert(epsilon_eq(dbl, interval[0].low, 0.025, 1e-12));
    cr_assert(epsilon_eq(dbl, interval[0].high, 0.975, 1e-12));
    /* Variance of 0 .. n-1 with n - 1 below is n (n + 1) / 12. */
    cr_assert(epsilon_eq(dbl, interval[0].std, sqrt(R * (R + 1) / 12.0) / 40, 1e-12));
    cr_assert(epsilon_eq(dbl, interval[1].low, 0.25, 1e-12));
    cr_assert(epsilon_eq(dbl, interval[1].std, 0, 1e-12));
}

Test(bootstrap, too_few_usable_replicates_are_refused)
{
    double tar[3][1] = {{(double)NAN}, {0.5}, {(double)NAN}};
    struct ff_bootstrap_interval interval[1];
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int,
                 ff_bootstrap_intervals(interval, &tar[0][0], 3, far_list, 1, &err),
                 FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "1 of 3 replicates"), NULL), "%s", err.text);
}
