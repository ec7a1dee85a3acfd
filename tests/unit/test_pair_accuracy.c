/* SPDX-License-Identifier: MIT */
/* Accuracy on pairs: folds and thresholds by hand, and against a slow, literal
 * implementation. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pair_accuracy.h"
#include "rng.h"

static struct ff_pair_accuracy must_score(const double *distance, const uint8_t *same,
                                          int64_t n)
{
    struct ff_pair_accuracy out;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_pair_accuracy(&out, distance, same, n, &err), 0), "%s",
              err.text);
    return out;
}

Test(pair_accuracy, ten_pairs_by_hand)
{
    /* Same at 0.5, different at 1.5, but for pair 9: same at 2. Without pair 9, 0.51 is
     * the first threshold that is right everywhere. Pair 9 left in: 8 of the 9 others
     * are right from 0.51 on. So folds 0 to 8 are right and fold 9 is wrong. */
    const uint8_t same[10] = {1, 0, 1, 0, 1, 0, 1, 0, 1, 1};
    double distance[10];
    for (int i = 0; i < 10; i++)
        distance[i] = same[i] ? 0.5 : 1.5;
    distance[9] = 2;
    struct ff_pair_accuracy out = must_score(distance, same, 10);
    for (int f = 0; f < 10; f++) {
        cr_assert(eq(dbl, out.threshold[f], 51 * 0.01), "fold %d", f);
        cr_assert(eq(dbl, out.fold[f], f == 9 ? 0 : 100), "fold %d", f);
    }
    cr_assert(eq(dbl, out.mean, 90));
    cr_assert(epsilon_eq(dbl, out.std, 30, 1e-12)); /* population: sqrt(900) */
}

Test(pair_accuracy, the_threshold_itself_is_not_below)
{
    /* All same at exactly 0.25 = 25 * 0.01: the first threshold that accepts is 0.26.
     */
    double distance[10];
    uint8_t same[10];
    for (int i = 0; i < 10; i++) {
        distance[i] = 25 * 0.01;
        same[i] = 1;
    }
    struct ff_pair_accuracy out = must_score(distance, same, 10);
    cr_assert(eq(dbl, out.threshold[0], 26 * 0.01));
    cr_assert(eq(dbl, out.mean, 100));
    cr_assert(eq(dbl, out.std, 0));
}

Test(pair_accuracy, of_equal_thresholds_the_first)
{
    double distance[10] = {0};
    uint8_t same[10] = {0};
    struct ff_pair_accuracy out = must_score(distance, same, 10);
    cr_assert(eq(dbl, out.threshold[3], 0)); /* only 0 calls them different */
    cr_assert(eq(dbl, out.mean, 100));
    for (int i = 0; i < 10; i++)
        distance[i] = 4; /* beyond every threshold: all are equally good */
    out = must_score(distance, same, 10);
    cr_assert(eq(dbl, out.threshold[3], 0));
}

Test(pair_accuracy, the_first_folds_take_the_rest)
{
    /* 13 pairs: folds of 2, 2, 2, 1 ...; pair 5 is the second of fold 2. */
    double distance[13];
    uint8_t same[13];
    for (int i = 0; i < 13; i++) {
        same[i] = 1;
        distance[i] = i == 5 ? 3.995 : 0.1;
    }
    struct ff_pair_accuracy out = must_score(distance, same, 13);
    for (int f = 0; f < 10; f++)
        cr_assert(eq(dbl, out.fold[f], f == 2 ? 50 : 100), "fold %d", f);
}

/* As insightface's verification.py reads, with counts as doubles and no sharing. */
static void slow(double *mean, double *std, const double *distance, const uint8_t *same,
                 int n)
{
    double accuracy[10], m = 0, v = 0;
    int begin = 0;
    for (int f = 0; f < 10; f++) {
        int end = begin + n / 10 + (f < n % 10 ? 1 : 0);
        double best = -1, chosen = 0;
        for (int t = 0; t < 400; t++) {
            double right = 0, all = 0;
            for (int i = 0; i < n; i++) {
                if (i >= begin && i < end)
                    continue;
                bool said = distance[i] < t * 0.01;
                right += said == (bool)same[i] ? 1 : 0;
                all += 1;
            }
            if (right / all > best) {
                best = right / all;
                chosen = t * 0.01;
            }
        }
        double right = 0;
        for (int i = begin; i < end; i++)
            right += (distance[i] < chosen) == (bool)same[i];
        accuracy[f] = right / (end - begin);
        begin = end;
    }
    for (int f = 0; f < 10; f++)
        m += accuracy[f] / 10;
    for (int f = 0; f < 10; f++)
        v += (accuracy[f] - m) * (accuracy[f] - m) / 10;
    *mean = 100 * m;
    *std = 100 * sqrt(v);
}

Test(pair_accuracy, equals_a_slow_implementation)
{
    const int sizes[] = {10, 11, 19, 57, 240};
    for (int round = 0; round < 15; round++) {
        int n = sizes[round % 5];
        double distance[240], mean, std;
        uint8_t same[240];
        for (int i = 0; i < n; i++) {
            uint64_t index = (uint64_t)(1000 * round + i);
            same[i] = ff_rng_normal(7, 1, index) > 0.2;
            double value = (same[i] ? 1.2 : 1.8) + 0.5 * ff_rng_normal(7, 2, index);
            distance[i] = fmin(fmax(value, 0), 4);
            if (round % 3 == 1) /* on the thresholds: ties and strictness */
                distance[i] = (int)(distance[i] * 10) * 10 * 0.01;
        }
        slow(&mean, &std, distance, same, n);
        struct ff_pair_accuracy out = must_score(distance, same, n);
        cr_assert(epsilon_eq(dbl, out.mean, mean, 1e-9), "round %d", round);
        cr_assert(epsilon_eq(dbl, out.std, std, 1e-9), "round %d", round);
        cr_assert(lt(dbl, 30, out.mean));
    }
}

Test(pair_accuracy, distance_is_of_normalised_sums)
{
    const float a[2] = {1, 0}, a_flip[2] = {2, 0}, b[2] = {0, 1}, b_flip[2] = {0, 5};
    const float minus[2] = {-1, 0}, zero[2] = {0, 0}, half[2] = {3, 4};
    cr_assert(eq(dbl, ff_pair_distance(a, a_flip, a, zero, 2), 0)); /* length is gone */
    cr_assert(eq(dbl, ff_pair_distance(a, a_flip, b, b_flip, 2), 2));
    cr_assert(eq(dbl, ff_pair_distance(a, zero, minus, minus, 2), 4));
    cr_assert(eq(dbl, ff_pair_distance(zero, zero, a, zero, 2), 1));
    cr_assert(epsilon_eq(dbl, ff_pair_distance(a, zero, half, zero, 2),
                         0.4 * 0.4 + 0.8 * 0.8, 1e-15));
    const float broken[2] = {NAN, 0};
    cr_assert(isnan(ff_pair_distance(broken, zero, a, zero, 2)));
}

Test(pair_accuracy, refuses_what_has_no_accuracy)
{
    double distance[12] = {0};
    uint8_t same[12] = {0};
    struct ff_pair_accuracy out;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_pair_accuracy(&out, distance, same, 9, &err), FF_EDATA));
    cr_assert(eq(str, err.text, "9 pairs are too few for 10 folds"));
    distance[11] = NAN;
    cr_assert(eq(int, ff_pair_accuracy(&out, distance, same, 12, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "pair 11 is"), NULL), "%s", err.text);
}

Test(pair_accuracy, names_of_files)
{
    static const struct {
        const char *path, *name;
        bool good;
    } cases[] = {{"/data/lfw.bin", "lfw", true}, {"agedb_30.bin", "agedb_30", true},
                 {"a.b/cfp-fp", "cfp-fp", true}, {"x/v1.2.bin", "v1.2", true},
                 {"/data/", "", false},          {"my faces.bin", "my faces", false},
                 {"/data/-x.bin", "-x", false}};
    char name[FF_PAIR_NAME], path[128] = "/d/";
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_assert(eq(int, ff_pair_name(name, cases[i].path), cases[i].good), "%s",
                  cases[i].path);
        cr_assert(eq(str, name, (char *)cases[i].name));
    }
    memset(path + 3, 'a', 64);
    cr_assert(not(ff_pair_name(name, path)));
    path[3 + 63] = 0;
    cr_assert(ff_pair_name(name, path));
}
