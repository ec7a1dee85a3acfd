/* SPDX-License-Identifier: MIT */
/* How far TAR@FAR would move with other people: a bootstrap over identities.
 *
 * Identity = connected component of templates over genuine pairs. A replicate draws as
 * many identities as there are, with replacement; identity i drawn w_i times weighs its
 * genuine pairs w_i and an impostor pair of i and j w_i * w_j. The TAR of a replicate
 * is roc.h's `tar` over weighted pairs. Scores are sorted once. */
#ifndef FF_BOOTSTRAP_H
#define FF_BOOTSTRAP_H

#include <stdint.h>

#include "err.h"
#include "ijb_meta.h"
#include "roc.h"

struct ff_bootstrap_interval {
    double far;
    double low, high; /* 2.5 % and 97.5 % quantiles of TAR, 0 .. 1, numpy's "linear" */
    double std;       /* standard deviation over replicates (n - 1) */
};

/* identity (T) i32 of each template, numbered 0 .. *count - 1 by first template. */
int ff_bootstrap_identities(int32_t *identity, int32_t *count,
                            const struct ff_ijb_meta *meta, struct ff_err *err);

/* tar (replicates, n): a row a replicate at far (n), increasing; *identities = people
 * drawn from. A pure function of the
 * arguments but for threads; replicate r draws from Philox stream "bootstrap". A draw
 * that leaves no genuine or no impostor weight gives a row of NaN. */
int ff_bootstrap_run(double *tar, int32_t *identities, int replicates,
                     const struct ff_roc *roc, const struct ff_ijb_meta *meta,
                     const double *far, int n, int threads, struct ff_err *err);

/* interval (n) over the rows of tar (replicates, n). Rows of NaN are left out; FF_EDATA
 * with fewer than 2 others. */
int ff_bootstrap_intervals(struct ff_bootstrap_interval *interval, const double *tar,
                           int replicates, const double *far, int n,
                           struct ff_err *err);

#endif
