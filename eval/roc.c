/* SPDX-License-Identifier: MIT */
/* TAR@FAR; see roc.h.
 *
 * A pair becomes one 64-bit key: the score's bits made to fall as the score rises (32),
 * the index in the pair file (31), the label (1). A stable radix sort over the upper
 * half then gives scores falling, ties in file order; both definitions are one walk
 * over it. */
#include "roc.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define DIGIT_BITS 11
#define DIGITS (1 << DIGIT_BITS)

static uint32_t falling_bits(float score)
{
    uint32_t bits;
    score += 0.0f; /* -0 is a tie of 0 */
    memcpy(&bits, &score, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u; /* rising order */
    return ~bits;
}

float ff_roc_score(uint64_t entry)
{
    uint32_t bits = ~(uint32_t)(entry >> 32);
    bits = bits & 0x80000000u ? bits & 0x7fffffffu : ~bits;
    float score;
    memcpy(&score, &bits, sizeof score);
    return score;
}

/* Sorts by the upper 32 bits; the result is in *keys. */
static void radix_sort(uint64_t **keys, uint64_t **spare, int64_t count)
{
    for (int shift = 32; shift < 64; shift += DIGIT_BITS) {
        int64_t start[DIGITS + 1] = {0};
        for (int64_t i = 0; i < count; i++)
            start[((*keys)[i] >> shift & (DIGITS - 1)) + 1]++;
        for (int d = 0; d < DIGITS; d++)
            start[d + 1] += start[d];
        for (int64_t i = 0; i < count; i++)
            (*spare)[start[(*keys)[i] >> shift & (DIGITS - 1)]++] = (*keys)[i];
        uint64_t *other = *keys;
        *keys = *spare;
        *spare = other;
    }
}

int ff_roc_create(struct ff_roc **out, const float *score, const uint8_t *genuine,
                  int64_t count, struct ff_err *err)
{
    *out = NULL;
    if (count > INT32_MAX)
        return ff_err_set(err, FF_EDATA, "%lld pairs, at most %d", (long long)count,
                          INT32_MAX);
    struct ff_roc *roc = calloc(1, sizeof *roc);
    uint64_t *spare = malloc(((size_t)count + 1) * sizeof *spare);
    int rc = 0;
    if (roc)
        roc->sorted = malloc(((size_t)count + 1) * sizeof *roc->sorted);
    if (!roc || !spare || !roc->sorted) {
        rc = ff_err_set(err, FF_ENOMEM, "no memory to sort %lld scores",
                        (long long)count);
        goto done;
    }
    roc->count = count;
    for (int64_t i = 0; i < count; i++) {
        if (!isfinite(score[i])) {
            rc = ff_err_set(err, FF_EDATA, "pair %lld: score is %g", (long long)i + 1,
                            (double)score[i]);
            goto done;
        }
        bool same = genuine[i] != 0;
        roc->sorted[i] =
            (uint64_t)falling_bits(score[i]) << 32 | (uint64_t)i << 1 | same;
        roc->genuine += same;
    }
    roc->impostors = count - roc->genuine;
    if (!roc->genuine || !roc->impostors) {
        rc = ff_err_set(err, FF_EDATA, "no %s pair among %lld",
                        roc->genuine ? "impostor" : "genuine", (long long)count);
        goto done;
    }
    radix_sort(&roc->sorted, &spare, count);
done:
    free(spare);
    if (rc) {
        ff_roc_destroy(roc);
        return rc;
    }
    *out = roc;
    return 0;
}

void ff_roc_destroy(struct ff_roc *roc)
{
    if (!roc)
        return;
    free(roc->sorted);
    free(roc);
}

int64_t ff_roc_allowed(double far, int64_t impostors)
{
    return (int64_t)floor(far * (double)impostors * (1 + 1e-12));
}

/* Index of the next entry with another score; count at the end. */
static int64_t group_end(const struct ff_roc *roc, int64_t i)
{
    uint64_t key = roc->sorted[i] >> 32;
    while (i < roc->count && roc->sorted[i] >> 32 == key)
        i++;
    return i;
}

void ff_roc_tar(struct ff_roc_point *point, const struct ff_roc *roc, const double *far,
                int n)
{
    int64_t genuine = 0, impostors = 0; /* with a score above the group at i */
    int next = 0;
    for (int64_t i = 0; i < roc->count && next < n;) {
        int64_t end = group_end(roc, i), same = 0;
        for (int64_t j = i; j < end; j++)
            same += ff_roc_genuine(roc->sorted[j]);
        int64_t other = end - i - same;
        while (next < n &&
               impostors + other > ff_roc_allowed(far[next], roc->impostors)) {
            point[next] = (struct ff_roc_point){
                .far = far[next],
                .tar = (double)genuine / (double)roc->genuine,
                .threshold = (double)ff_roc_score(roc->sorted[i]),
                .actual_far = (double)impostors / (double)roc->impostors,
                .false_accepts = impostors,
            };
            next++;
        }
        genuine += same;
        impostors += other;
        i = end;
    }
    /* As many false accepts allowed as there are impostors: a threshold below all. */
    float lowest = ff_roc_score(roc->sorted[roc->count - 1]);
    for (; next < n; next++) {
        point[next] = (struct ff_roc_point){
            .far = far[next],
            .tar = 1,
            .threshold = (double)nextafterf(lowest, -INFINITY),
            .actual_far = 1,
            .false_accepts = roc->impostors,
        };
    }
}

/* A point of the curve: counts accepted at `threshold`. */
struct curve_point {
    int64_t false_accepts, true_accepts;
    double threshold;
};

/* Takes a kept point where it is as near as the best so far: later points have the
 * larger FPR or, at the same FPR, the larger TPR. */
static void offer(struct ff_roc_point *point, int n, const struct ff_roc *roc,
                  const struct curve_point *p)
{
    double fpr = (double)p->false_accepts / (double)roc->impostors;
    for (int k = 0; k < n; k++) {
        if (fabs(fpr - point[k].far) > fabs(point[k].actual_far - point[k].far))
            continue;
        point[k].tar = (double)p->true_accepts / (double)roc->genuine;
        point[k].threshold = p->threshold;
        point[k].actual_far = fpr;
        point[k].false_accepts = p->false_accepts;
    }
}

static bool on_line(const struct curve_point *a, const struct curve_point *b,
                    const struct curve_point *c)
{
    return c->false_accepts - b->false_accepts == b->false_accepts - a->false_accepts &&
           c->true_accepts - b->true_accepts == b->true_accepts - a->true_accepts;
}

void ff_roc_compat(struct ff_roc_point *point, const struct ff_roc *roc,
                   const double *far, int n)
{
    /* (0, 0) at the largest score + 1, as roc_curve has it. */
    double top = (double)ff_roc_score(roc->sorted[0]) + 1;
    for (int k = 0; k < n; k++)
        point[k] = (struct ff_roc_point){.far = far[k], .threshold = top};
    struct curve_point before = {0}, last = {0}, now = {0};
    int64_t points = 0;
    for (int64_t i = 0; i < roc->count; points++) {
        int64_t end = group_end(roc, i);
        before = last;
        last = now;
        now.threshold = (double)ff_roc_score(roc->sorted[i]);
        for (; i < end; i++) {
            now.true_accepts += ff_roc_genuine(roc->sorted[i]);
            now.false_accepts += !ff_roc_genuine(roc->sorted[i]);
        }
        /* `last` is the first point of the curve, or it has neighbours on both sides.
         */
        if (points == 1 || (points > 1 && !on_line(&before, &last, &now)))
            offer(point, n, roc, &last);
    }
    offer(point, n, roc, &now);
}
