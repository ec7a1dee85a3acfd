/* SPDX-License-Identifier: MIT */
/* Similarity scores of template pairs. */
#ifndef FF_SCORE_H
#define FF_SCORE_H

#include <stdint.h>

#include "err.h"

/* score (count) f32 = dot product of templates (T, D) f32 a[i] and b[i], which have
 * unit or zero length: right to 2e-7, with bits that no number of threads changes. At
 * most 2^31 - 1 pairs. FF_EDATA for a score that is not finite. */
int ff_score_pairs(float *score, const float *templates, int dim, const int32_t *a,
                   const int32_t *b, int64_t count, int threads, struct ff_err *err);

/* out (count) f32 = a (D) . row i of b (count, D), with the bits of ff_score_pairs. */
void ff_score_dots(float *out, const float *a, const float *b, int dim, int64_t count);

/* --save-scores: dataset `score` (count) f32, written beside and renamed. */
int ff_score_save(const char *path, const float *score, int64_t count,
                  struct ff_err *err);

#endif
