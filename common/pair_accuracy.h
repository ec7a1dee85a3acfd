/* SPDX-License-Identifier: MIT */
/* Verification accuracy on labelled pairs: ten folds, one threshold each.
 *
 * The pairs are cut into ten consecutive folds, the first n % 10 of them one pair
 * longer (scikit-learn's KFold without shuffle). For each fold the threshold that is
 * right most often on the other nine is taken, the first of several, and applied to
 * this one. Thresholds are 0, 0.01 .. 3.99; a pair is called the same person if its
 * distance is below the threshold, strictly. Matches insightface's verification.py. */
#ifndef FF_PAIR_ACCURACY_H
#define FF_PAIR_ACCURACY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

#define FF_PAIR_FOLDS 10
#define FF_PAIR_THRESHOLDS 400 /* 0 .. 3.99; the distance is at most 4 */
#define FF_PAIR_NAME 64

struct ff_pair_accuracy {
    double mean, std; /* percent over the folds; std of the population */
    double fold[FF_PAIR_FOLDS], threshold[FF_PAIR_FOLDS]; /* percent; distance */
};

/* Squared Euclidean distance, 0 .. 4, of the L2-normalised sums a + a_flip and
 * b + b_flip, each (dim) f32; computed in double. A sum of length zero stays zero.
 * NaN if an embedding is not finite. */
double ff_pair_distance(const float *a, const float *a_flip, const float *b,
                        const float *b_flip, int dim);

/* Accuracy of distance (n) f64 with same (n) 1 = one person, 0 = two. FF_EDATA for
 * fewer pairs than folds, or a distance that is not finite (naming the pair). */
int ff_pair_accuracy(struct ff_pair_accuracy *out, const double *distance,
                     const uint8_t *same, int64_t n, struct ff_err *err);

/* What a file of pairs is called: its last path part without ".bin". False if that is
 * empty, longer than FF_PAIR_NAME - 1 or has other characters than letters, digits, _,
 * - and points; `out` then holds a cut text. */
bool ff_pair_name(char out[FF_PAIR_NAME], const char *path);

#endif
