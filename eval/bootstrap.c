/* SPDX-License-Identifier: MIT */
/* Identity bootstrap; see bootstrap.h.
 *
 * The identities of every pair are gathered once in the order of falling score. A
 * replicate is then two walks: one sums the impostor weight, one goes down from the top
 * and stops when the last target is resolved. Replicates run in parallel; each is a
 * pure function of its number. Weights are integers, so sums are exact. */
#include "bootstrap.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"

#define SEED 1

static int32_t find_root(int32_t *parent, int32_t i)
{
    while (parent[i] != i) {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    return i;
}

int ff_bootstrap_identities(int32_t *identity, int32_t *count,
                            const struct ff_ijb_meta *meta, struct ff_err *err)
{
    int32_t templates = meta->template_count;
    int32_t *parent = malloc((size_t)templates * sizeof *parent);
    if (!parent)
        return ff_err_set(err, FF_ENOMEM, "no memory for %d templates", templates);
    for (int32_t t = 0; t < templates; t++)
        parent[t] = t;
    for (int64_t i = 0; i < meta->pair_count; i++) {
        if (!meta->genuine[i])
            continue;
        int32_t a = find_root(parent, meta->pair_a[i]);
        int32_t b = find_root(parent, meta->pair_b[i]);
        parent[a > b ? a : b] = a > b ? b : a; /* a root is its component's lowest */
    }
    *count = 0;
    for (int32_t t = 0; t < templates; t++) {
        int32_t root = find_root(parent, t);
        identity[t] = root == t ? (*count)++ : identity[root];
    }
    free(parent);
    return 0;
}

struct sorted_pairs {
    const struct ff_roc *roc;
    const int32_t *a, *b; /* (count) identities, in the order of roc->sorted */
};

static int64_t weight_of(const struct sorted_pairs *pairs, const int32_t *drawn,
                         int64_t i)
{
    int64_t a = drawn[pairs->a[i]];
    return ff_roc_genuine(pairs->roc->sorted[i]) ? a : a * drawn[pairs->b[i]];
}

/* tar (n) of the set weighted by drawn (identities). */
static void replicate(double *tar, const struct sorted_pairs *pairs,
                      const int32_t *drawn, const double *far, int n)
{
    const struct ff_roc *roc = pairs->roc;
    int64_t genuine_sum = 0, impostor_sum = 0;
    for (int64_t i = 0; i < roc->count; i++) {
        int64_t weight = weight_of(pairs, drawn, i);
        if (ff_roc_genuine(roc->sorted[i]))
            genuine_sum += weight;
        else
            impostor_sum += weight;
    }
    for (int k = 0; k < n; k++)
        tar[k] = genuine_sum && impostor_sum ? 1.0 : (double)NAN;
    if (!genuine_sum || !impostor_sum)
        return;
    int64_t genuine = 0, impostors = 0; /* weight so far */
    int64_t genuine_above = 0;          /* weight above the present score */
    uint64_t score = roc->sorted[0] >> 32;
    int next = 0;
    for (int64_t i = 0; i < roc->count && next < n; i++) {
        if (roc->sorted[i] >> 32 != score) {
            score = roc->sorted[i] >> 32;
            genuine_above = genuine;
        }
        int64_t weight = weight_of(pairs, drawn, i);
        if (ff_roc_genuine(roc->sorted[i])) {
            genuine += weight;
            continue;
        }
        impostors += weight;
        while (next < n && impostors > ff_roc_allowed(far[next], impostor_sum))
            tar[next++] = (double)genuine_above / (double)genuine_sum;
    }
}

int ff_bootstrap_run(double *tar, int32_t *identities, int replicates,
                     const struct ff_roc *roc, const struct ff_ijb_meta *meta,
                     const double *far, int n, int threads, struct ff_err *err)
{
    size_t pairs = (size_t)roc->count;
    int32_t people = 0;
    int32_t *identity = malloc((size_t)meta->template_count * sizeof *identity);
    int32_t *a = malloc(pairs * sizeof *a), *b = malloc(pairs * sizeof *b);
    int rc = 0;
    bool no_memory = !identity || !a || !b;
    if (!no_memory)
        rc = ff_bootstrap_identities(identity, &people, meta, err);
    if (no_memory || rc)
        goto done;
    *identities = people;
    for (size_t i = 0; i < pairs; i++) {
        uint32_t pair = ff_roc_pair(roc->sorted[i]);
        a[i] = identity[meta->pair_a[pair]];
        b[i] = identity[meta->pair_b[pair]];
    }
    struct sorted_pairs sorted = {roc, a, b};
    uint64_t stream = ff_stream("bootstrap");
#pragma omp parallel num_threads(threads) reduction(|| : no_memory)
    {
        int32_t *drawn = malloc((size_t)people * sizeof *drawn);
        no_memory = !drawn;
#pragma omp for schedule(dynamic, 1)
        for (int r = 0; r < replicates; r++) {
            if (!drawn)
                continue;
            memset(drawn, 0, (size_t)people * sizeof *drawn);
            for (int32_t i = 0; i < people; i++) {
                uint64_t index = (uint64_t)r * (uint64_t)people + (uint64_t)i;
                drawn[(int32_t)(ff_rng_uniform(SEED, stream, index) * people)]++;
            }
            replicate(tar + (size_t)r * (size_t)n, &sorted, drawn, far, n);
        }
        free(drawn);
    }
done:
    free(b);
    free(a);
    free(identity);
    if (no_memory)
        return ff_err_set(err, FF_ENOMEM, "no memory for the bootstrap of %zu pairs",
                          pairs);
    return rc;
}

static int compare_f64(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Linear interpolation between order statistics. */
static double quantile(const double *sorted, int count, double share)
{
    double at = share * (count - 1);
    int below = (int)at;
    int above = below + 1 < count ? below + 1 : below;
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
}

int ff_bootstrap_intervals(struct ff_bootstrap_interval *interval, const double *tar,
                           int replicates, const double *far, int n, struct ff_err *err)
{
    double *column = malloc((size_t)replicates * sizeof *column);
    if (!column)
        return ff_err_set(err, FF_ENOMEM, "no memory for %d replicates", replicates);
    int rc = 0;
    for (int k = 0; k < n; k++) {
        int count = 0;
        double mean = 0, square = 0;
        for (int r = 0; r < replicates; r++) {
            double value = tar[(size_t)r * (size_t)n + (size_t)k];
            if (!isnan(value))
                column[count++] = value;
        }
        if (count < 2) {
            rc = ff_err_set(err, FF_EDATA,
                            "bootstrap: %d of %d replicates hold genuine and impostor "
                            "pairs, at least 2 needed",
                            count, replicates);
            break;
        }
        for (int r = 0; r < count; r++)
            mean += column[r] / count;
        for (int r = 0; r < count; r++)
            square += (column[r] - mean) * (column[r] - mean);
        qsort(column, (size_t)count, sizeof *column, compare_f64);
        interval[k] = (struct ff_bootstrap_interval){
            .far = far[k],
            .low = quantile(column, count, 0.025),
            .high = quantile(column, count, 0.975),
            .std = sqrt(square / (count - 1)),
        };
    }
    free(column);
    return rc;
}
