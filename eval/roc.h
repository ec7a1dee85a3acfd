/* SPDX-License-Identifier: MIT */
/* TAR at a false accept rate, by two definitions, over all pairs sorted once.
 *
 * `tar`: k = floor(far * impostors * (1 + 1e-12)), threshold = the (k + 1)-th largest
 * impostor score, accepted if score > threshold: ties are rejected and the actual FAR
 * is never above the target. k >= impostors accepts every pair.
 *
 * `compat`: what the usual Python script prints: scikit-learn's roc_curve in double
 * (ties merged; inner points dropped where the second differences of both counts are 0;
 * (0, 0) put in front), then the kept point whose FPR is nearest to the target, ties to
 * the larger FPR, then the larger TPR. Accepted if score >= threshold; its actual FAR
 * may lie above the target. */
#ifndef FF_ROC_H
#define FF_ROC_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct ff_roc_point {
    double far;        /* target, in (0, 1] */
    double tar;        /* share of genuine pairs accepted, 0 .. 1 */
    double threshold;  /* finite for scores within +-1e38 */
    double actual_far; /* false_accepts / impostors */
    int64_t false_accepts;
};

/* Pairs by falling score; ties in the order of the pair file. */
struct ff_roc {
    int64_t count, genuine, impostors;
    uint64_t *sorted; /* (count): see ff_roc_score, ff_roc_genuine, ff_roc_pair */
};

static inline bool ff_roc_genuine(uint64_t entry)
{
    return entry & 1;
}
/* Index in the pair file. */
static inline uint32_t ff_roc_pair(uint64_t entry)
{
    return (uint32_t)entry >> 1;
}
float ff_roc_score(uint64_t entry);

/* score (count) f32 and genuine (count) u8 are not kept. At most 2^31 - 1 pairs.
 * FF_EDATA: no genuine pair, no impostor pair, or a score that is NaN or infinite. */
int ff_roc_create(struct ff_roc **out, const float *score, const uint8_t *genuine,
                  int64_t count, int threads, struct ff_err *err);
void ff_roc_destroy(struct ff_roc *roc);

/* k of the definition above for `impostors` pairs (or their weight). */
int64_t ff_roc_allowed(double far, int64_t impostors);

/* point (n) at the targets far (n), each in (0, 1], increasing. */
void ff_roc_tar(struct ff_roc_point *point, const struct ff_roc *roc, const double *far,
                int n);
void ff_roc_compat(struct ff_roc_point *point, const struct ff_roc *roc,
                   const double *far, int n);

#endif
