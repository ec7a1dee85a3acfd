/* SPDX-License-Identifier: MIT */
/* Both TAR definitions against brute force that shares no code with them. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "roc.h"

enum { MOST = 3000, FARS = 9 };
static const double far_list[FARS] = {1e-6, 1e-3, 0.01, 0.05, 0.1, 0.25, 0.5, 0.9, 1};

struct sample {
    int count;
    float score[MOST];
    uint8_t genuine[MOST];
};

static struct sample s;

/* Normal scores, genuine ones higher; rounded to `step` (0 = not) to make ties. */
static void draw(int count, double genuine_share, double step, uint64_t seed)
{
    s.count = count;
    for (int i = 0; i < count; i++) {
        s.genuine[i] = ff_rng_uniform(seed, 1, (uint64_t)i) < genuine_share;
        double v = ff_rng_normal(seed, 2, (uint64_t)i) + (s.genuine[i] ? 1.5 : 0);
        s.score[i] = (float)(step > 0 ? step * floor(v / step) : v);
    }
    s.genuine[0] = 1;
    s.genuine[1] = 0;
}

static struct ff_roc *make(void)
{
    struct ff_roc *roc;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_roc_create(&roc, s.score, s.genuine, s.count, 3, &err), 0),
              "%s", err.text);
    return roc;
}

TestSuite(roc);

static int falling(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

/* Scores of one label, largest first. */
static int of_label(float *out, int label)
{
    int n = 0;
    for (int i = 0; i < s.count; i++)
        if (s.genuine[i] == label)
            out[n++] = s.score[i];
    qsort(out, (size_t)n, sizeof *out, falling);
    return n;
}

/* The words of the definition: k, the (k+1)-th largest impostor score, accept above it.
 */
static void check_tar(void)
{
    static float impostor[MOST], genuine[MOST];
    struct ff_roc_point point[FARS];
    struct ff_roc *roc = make();
    ff_roc_tar(point, roc, far_list, FARS);
    int impostors = of_label(impostor, 0), genuines = of_label(genuine, 1);
    for (int f = 0; f < FARS; f++) {
        int k = (int)floor(far_list[f] * impostors * (1 + 1e-12));
        int accepted = 0, wrong = 0;
        float threshold = k >= impostors ? -FLT_MAX : impostor[k];
        for (int i = 0; i < genuines; i++)
            accepted += genuine[i] > threshold;
        for (int i = 0; i < impostors; i++)
            wrong += impostor[i] > threshold;
        cr_assert(epsilon_eq(dbl, point[f].tar, (double)accepted / genuines, 1e-15));
        cr_assert(eq(i64, point[f].false_accepts, wrong));
        cr_assert(le(dbl, point[f].actual_far, far_list[f] * (1 + 1e-12)));
        cr_assert(
            epsilon_eq(dbl, point[f].actual_far, (double)wrong / impostors, 1e-15));
        /* The threshold printed does what the counts say. */
        int above = 0;
        for (int i = 0; i < impostors; i++)
            above += (double)impostor[i] > point[f].threshold;
        cr_assert(eq(int, above, wrong));
        if (k < impostors)
            cr_assert(epsilon_eq(dbl, point[f].threshold, (double)impostor[k], 0));
        else
            cr_assert(lt(dbl, point[f].threshold, (double)impostor[impostors - 1]));
    }
    ff_roc_destroy(roc);
}

/* roc_curve(drop_intermediate=True) with whole arrays, then the nearest FPR of the
 * reversed curve. */
static void check_compat(void)
{
    static float sorted[MOST];
    static double fps[MOST + 1], tps[MOST + 1], kept_fps[MOST + 2], kept_tps[MOST + 2];
    static double kept_at[MOST + 2], at[MOST + 1];
    struct ff_roc_point point[FARS];
    struct ff_roc *roc = make();
    ff_roc_compat(point, roc, far_list, FARS);
    memcpy(sorted, s.score, sizeof(float) * (size_t)s.count);
    qsort(sorted, (size_t)s.count, sizeof *sorted, falling);
    int n = 0;
    for (int i = 0; i < s.count; i++)
        if (i == s.count - 1 || sorted[i] != sorted[i + 1])
            at[n++] = (double)sorted[i];
    for (int j = 0; j < n; j++) {
        fps[j] = tps[j] = 0;
        for (int i = 0; i < s.count; i++)
            if ((double)s.score[i] >= at[j]) {
                tps[j] += s.genuine[i];
                fps[j] += !s.genuine[i];
            }
    }
    int kept = 1;
    kept_fps[0] = kept_tps[0] = 0;
    kept_at[0] = at[0] + 1;
    for (int j = 0; j < n; j++) {
        bool inner = j > 0 && j < n - 1;
        if (inner && fps[j + 1] - 2 * fps[j] + fps[j - 1] == 0 &&
            tps[j + 1] - 2 * tps[j] + tps[j - 1] == 0)
            continue;
        kept_fps[kept] = fps[j];
        kept_tps[kept] = tps[j];
        kept_at[kept++] = at[j];
    }
    for (int f = 0; f < FARS; f++) {
        int best = kept - 1;
        for (int j = kept - 1; j >= 0; j--)
            if (fabs(kept_fps[j] / fps[n - 1] - far_list[f]) <
                fabs(kept_fps[best] / fps[n - 1] - far_list[f]))
                best = j;
        cr_assert(epsilon_eq(dbl, point[f].tar, kept_tps[best] / tps[n - 1], 1e-15));
        cr_assert(eq(i64, point[f].false_accepts, (int64_t)kept_fps[best]));
        cr_assert(epsilon_eq(dbl, point[f].threshold, kept_at[best], 0));
    }
    ff_roc_destroy(roc);
}

Test(roc, tar_matches_its_definition)
{
    for (uint64_t seed = 0; seed < 12; seed++) {
        draw(50 + 200 * (int)seed, 0.3, 0, seed);
        check_tar();
        draw(50 + 200 * (int)seed, 0.05, seed % 2 ? 0.5 : 0.01, seed);
        check_tar();
    }
}

Test(roc, compat_matches_roc_curve_and_the_nearest_point)
{
    for (uint64_t seed = 0; seed < 10; seed++) {
        draw(2 + 60 * (int)seed, 0.3, 0, seed);
        check_compat();
        draw(3 + 60 * (int)seed, 0.1, seed % 2 ? 0.5 : 0.03, seed);
        check_compat();
    }
}

Test(roc, all_scores_equal)
{
    draw(100, 0.5, 0, 1);
    for (int i = 0; i < s.count; i++)
        s.score[i] = i % 3 ? 0.0f : -0.0f;
    check_tar();
    check_compat();
}

Test(roc, extreme_scores_keep_their_order)
{
    static const float value[8] = {-1e38f, FLT_MAX, -1e-45f, 1e-45f, 0, -0.0f, -1, 1};
    s.count = 8;
    for (int i = 0; i < 8; i++) {
        s.score[i] = value[i];
        s.genuine[i] = i % 2;
    }
    struct ff_roc *roc = make();
    static const uint32_t order[8] = {1, 7, 3, 4,
                                      5, 2, 6, 0}; /* 0 and -0 tie: file order */
    for (int i = 0; i < 8; i++) {
        cr_assert(eq(u32, ff_roc_pair(roc->sorted[i]), order[i]));
        cr_assert(eq(int, ff_roc_score(roc->sorted[i]) == value[order[i]], 1));
        cr_assert(eq(int, ff_roc_genuine(roc->sorted[i]), (int)(order[i] % 2)));
    }
    ff_roc_destroy(roc);
    check_tar();
}

Test(roc, ties_at_the_threshold_are_rejected)
{
    /* 10 impostors, FAR 0.25 allows 2, but three share the second place. */
    static const float impostor[10] = {9, 7, 7, 7, 1, 1, 1, 1, 1, 1};
    static const float genuine[4] = {10, 8, 7, 0};
    s.count = 14;
    for (int i = 0; i < 14; i++) {
        s.score[i] = i < 10 ? impostor[i] : genuine[i - 10];
        s.genuine[i] = i >= 10;
    }
    struct ff_roc *roc = make();
    struct ff_roc_point point;
    double quarter = 0.25;
    ff_roc_tar(&point, roc, &quarter, 1);
    cr_assert(eq(i64, point.false_accepts, 1));
    cr_assert(epsilon_eq(dbl, point.tar, 0.5, 0));
    cr_assert(epsilon_eq(dbl, point.threshold, 7, 0));
    ff_roc_destroy(roc);
}

Test(roc, allowed_count_survives_rounding)
{
    /* 0.29 * 100 is 28.999999999999996 in double. */
    cr_assert(eq(i64, ff_roc_allowed(0.29, 100), 29));
    cr_assert(eq(i64, ff_roc_allowed(1e-4, 200000), 20));
    cr_assert(eq(i64, ff_roc_allowed(1e-6, 999999), 0));
    cr_assert(eq(i64, ff_roc_allowed(1, 7), 7));
}

Test(roc, refuses_one_sided_sets_and_bad_scores)
{
    static const float bad[3] = {NAN, INFINITY, -INFINITY};
    struct ff_roc *roc;
    struct ff_err err = FF_ERR_INIT;
    draw(20, 0.5, 0, 4);
    memset(s.genuine, 1, 20);
    cr_assert(eq(int, ff_roc_create(&roc, s.score, s.genuine, 20, 2, &err), FF_EDATA));
    cr_assert(eq(str, err.text, "no impostor pair among 20"));
    memset(s.genuine, 0, 20);
    cr_assert(eq(int, ff_roc_create(&roc, s.score, s.genuine, 20, 2, &err), FF_EDATA));
    cr_assert(eq(str, err.text, "no genuine pair among 20"));
    s.genuine[3] = 1;
    for (int k = 0; k < 3; k++) {
        s.score[11] = bad[k];
        cr_assert(
            eq(int, ff_roc_create(&roc, s.score, s.genuine, 20, 2, &err), FF_EDATA));
        cr_assert(eq(int, strncmp(err.text, "pair 12: score is ", 18), 0), "%s",
                  err.text);
    }
}
