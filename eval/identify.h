/* SPDX-License-Identifier: MIT */
/* 1:N identification: every probe is searched in each of two galleries.
 *
 * A search is mated if the probe's subject is in that gallery; its mate's score is the
 * best of the subject's templates there. Its top score is that of the best template of
 * another subject.
 *
 *   FPIR at a threshold = share of the non-mated searches with top score > threshold
 *   TPIR at a threshold = share of the mated searches with mate's score > threshold
 *
 * At a target FPIR: k = floor(fpir * non-mated * (1 + 1e-12)), threshold = the
 * (k + 1)-th largest top score, as with TAR in roc.h: the actual FPIR is never above
 * the target. Rank of a mate = 1 + templates of others that score at least as much.
 *
 * `compat`, what the usual script prints: both galleries joined to one, probes with a
 * mate there alone count; the threshold is the ceil(fpir * such probes)-th largest of
 * ALL scores between a probe and another subject, not of top scores, so fewer searches
 * than the target are accepted; a tie of ranks goes to the earlier template. Probes
 * without any mate add scores of others (the script knows none). */
#ifndef FF_IDENTIFY_H
#define FF_IDENTIFY_H

#include <stdint.h>

#include "err.h"
#include "gallery.h"

#define FF_IDENTIFY_MAX_FPIR 64
#define FF_IDENTIFY_RANKS 3
extern const int ff_identify_rank[FF_IDENTIFY_RANKS]; /* 1, 5, 10 */

struct ff_identify_point {
    double fpir;      /* target */
    double tpir;      /* share of mated searches accepted, 0 .. 1 */
    double threshold; /* accepted if score > threshold */
    double actual_fpir;
    int64_t false_accepts; /* non-mated searches with a top score above threshold */
};

struct ff_identify_result {
    int32_t probes, gallery[FF_GALLERIES];
    int64_t mated, nonmated; /* searches */
    int32_t mated_probes;    /* with a mate in the joined gallery */
    int fpir_count;
    struct ff_identify_point tpir[FF_IDENTIFY_MAX_FPIR], compat[FF_IDENTIFY_MAX_FPIR];
    double rank[FF_IDENTIFY_RANKS], compat_rank[FF_IDENTIFY_RANKS]; /* 0 .. 1 */
};

/* templates (T, D) f32 of unit or zero length; fpir (n) rising, each in (0, 1]. Scores
 * have the bits of ff_score_pairs and no result depends on threads. FF_EDATA: no mated
 * or no non-mated search, or a score that is not finite. */
int ff_identify(struct ff_identify_result *result, const float *templates, int dim,
                const struct ff_gallery_lists *lists, const double *fpir, int n,
                int threads, struct ff_err *err);

#endif
