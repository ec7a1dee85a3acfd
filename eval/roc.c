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
#define PARTS_MAX 64 /* of a parallel sort */

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

/* Where part `part` of `parts` begins among `count`. */
static int64_t part_begin(int64_t count, int part, int parts)
{
    return count / parts * part + count % parts * part / parts;
}

/* One pass of a stable sort from `from` to `to`. Each part counts its digits and then
 * has its own places for each digit, behind those of the parts before it: the result
 * does not depend on their number. place (parts, DIGITS) is work space. */
static void sort_digit(uint64_t *to, const uint64_t *from, int64_t count, int shift,
                       int64_t *place, int parts)
{
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        int64_t *mine = place + (size_t)part * DIGITS;
        memset(mine, 0, DIGITS * sizeof *mine);
        int64_t end = part_begin(count, part + 1, parts);
        for (int64_t i = part_begin(count, part, parts); i < end; i++)
            mine[from[i] >> shift & (DIGITS - 1)]++;
    }
    int64_t at = 0;
    for (size_t d = 0; d < DIGITS; d++) {
        for (size_t part = 0; part < (size_t)parts; part++) {
            int64_t here = place[part * DIGITS + d];
            place[part * DIGITS + d] = at;
            at += here;
        }
    }
#pragma omp parallel for num_threads(parts) schedule(static, 1)
    for (int part = 0; part < parts; part++) {
        int64_t *mine = place + (size_t)part * DIGITS;
        int64_t end = part_begin(count, part + 1, parts);
        for (int64_t i = part_begin(count, part, parts); i < end; i++)
            to[mine[from[i] >> shift & (DIGITS - 1)]++] = from[i];
    }
}

/* Sorts by the upper 32 bits; the result is in *keys. */
static int radix_sort(uint64_t **keys, uint64_t **spare, int64_t count, int parts)
{
    int64_t *place = malloc((size_t)parts * DIGITS * sizeof *place);
    if (!place)
        return -1;
    for (int shift = 32; shift < 64; shift += DIGIT_BITS) {
        sort_digit(*spare, *keys, count, shift, place, parts);
        uint64_t *other = *keys;
        *keys = *spare;
        *spare = other;
    }
    free(place);
    return 0;
}

/* keys (count) from scores; returns the first pair whose score is not finite, else
 * INT64_MAX. */
static int64_t make_keys(uint64_t *keys, int64_t *genuine_count, const float *score,
                         const uint8_t *genuine, int64_t count, int threads)
{
    int64_t bad = INT64_MAX, same = 0;
#pragma omp parallel for num_threads(threads) schedule(static)                         \
    reduction(min : bad) reduction(+ : same)
    for (int64_t i = 0; i < count; i++) {
        uint64_t label = genuine[i] != 0;
        if (!isfinite(score[i]) && i < bad)
            bad = i;
        keys[i] = (uint64_t)falling_bits(score[i]) << 32 | (uint64_t)i << 1 | label;
        same += (int64_t)label;
    }
    *genuine_count = same;
    return bad;
}

int ff_roc_create(struct ff_roc **out, const float *score, const uint8_t *genuine,
                  int64_t count, int threads, struct ff_err *err)
{
    *out = NULL;
    if (count > INT32_MAX)
        return ff_err_set(err, FF_EDATA, "%lld pairs, at most %d", (long long)count,
                          INT32_MAX);
    int parts = threads < PARTS_MAX ? threads : PARTS_MAX;
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
    int64_t bad = make_keys(roc->sorted, &roc->genuine, score, genuine, count, threads);
    if (bad != INT64_MAX) {
        rc = ff_err_set(err, FF_EDATA, "pair %lld: score is %g", (long long)bad + 1,
                        (double)score[bad]);
        goto done;
    }
    roc->impostors = count - roc->genuine;
    if (!roc->genuine || !roc->impostors) {
        rc = ff_err_set(err, FF_EDATA, "no %s pair among %lld",
                        roc->genuine ? "impostor" : "genuine", (long long)count);
        goto done;
    }
    if (radix_sort(&roc->sorted, &spare, count, parts))
        rc = ff_err_set(err, FF_ENOMEM, "no memory to sort %lld scores",
                        (long long)count);
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
 * larger FPR or, at the same FPR, the larger TPR. False once no later point can be as
 * near to any target: this one is above all of them and nearest to none. */
static bool offer(struct ff_roc_point *point, int n, const struct ff_roc *roc,
                  const struct curve_point *p)
{
    double fpr = (double)p->false_accepts / (double)roc->impostors;
    bool going_on = fpr <= point[n - 1].far;
    for (int k = 0; k < n; k++) {
        if (fabs(fpr - point[k].far) > fabs(point[k].actual_far - point[k].far))
            continue;
        point[k].tar = (double)p->true_accepts / (double)roc->genuine;
        point[k].threshold = p->threshold;
        point[k].actual_far = fpr;
        point[k].false_accepts = p->false_accepts;
        going_on = true;
    }
    return going_on;
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
        if ((points == 1 || (points > 1 && !on_line(&before, &last, &now))) &&
            !offer(point, n, roc, &last))
            return;
    }
    offer(point, n, roc, &now);
}
