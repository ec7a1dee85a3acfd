/* SPDX-License-Identifier: MIT */
/* Pair accuracy; see pair_accuracy.h. Right answers are counted as integers for every
 * fold and threshold once; the nine other folds are the total less the own. */
#include "pair_accuracy.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

double ff_pair_distance(const float *a, const float *a_flip, const float *b,
                        const float *b_flip, int dim)
{
    double aa = 0, bb = 0, sum = 0;
    for (int d = 0; d < dim; d++) {
        double x = (double)a[d] + a_flip[d], y = (double)b[d] + b_flip[d];
        aa += x * x;
        bb += y * y;
    }
    double a_length = aa == 0 ? 1 : sqrt(aa), b_length = bb == 0 ? 1 : sqrt(bb);
    for (int d = 0; d < dim; d++) {
        double x = (double)a[d] + a_flip[d], y = (double)b[d] + b_flip[d];
        double difference = x / a_length - y / b_length;
        sum += difference * difference;
    }
    return sum;
}

static double threshold_of(int k)
{
    return k * 0.01;
}

int ff_pair_accuracy(struct ff_pair_accuracy *out, const double *distance,
                     const uint8_t *same, int64_t n, struct ff_err *err)
{
    int64_t right[FF_PAIR_FOLDS][FF_PAIR_THRESHOLDS] = {{0}};
    int64_t total[FF_PAIR_THRESHOLDS] = {0}, size[FF_PAIR_FOLDS], at = 0;
    if (n < FF_PAIR_FOLDS)
        return ff_err_set(err, FF_EDATA, "%lld pairs are too few for %d folds",
                          (long long)n, FF_PAIR_FOLDS);
    for (int f = 0; f < FF_PAIR_FOLDS; f++) {
        size[f] = n / FF_PAIR_FOLDS + (f < n % FF_PAIR_FOLDS);
        for (int64_t end = at + size[f]; at < end; at++) {
            if (!isfinite(distance[at]))
                return ff_err_set(err, FF_EDATA, "the distance of pair %lld is %g",
                                  (long long)at, distance[at]);
            for (int k = 0; k < FF_PAIR_THRESHOLDS; k++)
                right[f][k] += (distance[at] < threshold_of(k)) == (same[at] != 0);
        }
        for (int k = 0; k < FF_PAIR_THRESHOLDS; k++)
            total[k] += right[f][k];
    }
    double sum = 0, squares = 0;
    for (int f = 0; f < FF_PAIR_FOLDS; f++) {
        int best = 0;
        for (int k = 1; k < FF_PAIR_THRESHOLDS; k++)
            if (total[k] - right[f][k] > total[best] - right[f][best])
                best = k;
        out->threshold[f] = threshold_of(best);
        out->fold[f] = 100.0 * (double)right[f][best] / (double)size[f];
        sum += out->fold[f];
    }
    out->mean = sum / FF_PAIR_FOLDS;
    for (int f = 0; f < FF_PAIR_FOLDS; f++)
        squares += (out->fold[f] - out->mean) * (out->fold[f] - out->mean);
    out->std = sqrt(squares / FF_PAIR_FOLDS);
    return 0;
}

bool ff_pair_name(char out[FF_PAIR_NAME], const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t length = strlen(name);
    if (length > 4 && !strcmp(name + length - 4, ".bin"))
        length -= 4;
    snprintf(out, FF_PAIR_NAME, "%.*s", (int)(length < FF_PAIR_NAME ? length : 63),
             name);
    bool good = length > 0 && length < FF_PAIR_NAME && name[0] != '-';
    for (size_t i = 0; good && i < length; i++) {
        char c = name[i];
        good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
               (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
    }
    return good;
}
