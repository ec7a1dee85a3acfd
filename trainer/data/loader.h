/* SPDX-License-Identifier: MIT */
/* Batches in a fixed order, decoded by worker threads ahead of the network.
 *
 * Order, flips and the replacement of damaged samples are pure functions of (seed,
 * epoch, sample index): neither the number of workers nor an interruption shows. Epoch
 * e visits ff_sample_order(N, seed, e, shuffle_block); the last N mod batch are
 * dropped. A sample that cannot be decoded is replaced by the next good one in index
 * order after it (wrapping), counted and logged with its description. */
#ifndef FF_LOADER_H
#define FF_LOADER_H

#include "dataset.h"

struct ff_loader;

struct ff_loader_options {
    int64_t batch;     /* N of a batch */
    int image_size_px; /* every image must have this side */
    uint64_t seed;
    int64_t shuffle_block; /* as ff_sample_order; 0 counts as 1 */
    double flip_probability;
    int workers;             /* >= 1 */
    int64_t first_iteration; /* 0, or where a resumed run goes on */
    int64_t iterations;      /* T: total of the run */
    int64_t max_bad_samples; /* more: FF_EDATA */
    int64_t bad_samples;     /* already counted before first_iteration */
};

/* A batch, borrowed until the next ff_loader_next. */
struct ff_batch {
    const uint8_t *pixels; /* (N, H, W, 3) u8 RGB, not flipped */
    const uint8_t *flip;   /* (N) 1 = mirror horizontally */
    const int64_t *label;  /* (N) i64 */
};

/* Whether the first sample that can be decoded has this side: another one is FF_EUSAGE
 * naming both, more than max_bad damaged ones before it are FF_EDATA. */
int ff_loader_check_size(struct ff_dataset *dataset, int side_px, int64_t max_bad,
                         struct ff_err *err);

/* The dataset must outlive the loader. Checks the size as ff_loader_check_size. */
int ff_loader_create(struct ff_loader **out, struct ff_dataset *dataset,
                     const struct ff_loader_options *options, struct ff_err *err);
void ff_loader_destroy(struct ff_loader *loader);

/* The next iteration's batch; blocks until it is decoded. FF_EDATA when too many
 * samples are bad. */
int ff_loader_next(struct ff_batch *batch, struct ff_loader *loader,
                   struct ff_err *err);

/* Seconds ff_loader_next has waited so far, and damaged samples among those delivered
 * (plus options.bad_samples). */
double ff_loader_wait_seconds(const struct ff_loader *loader);
int64_t ff_loader_bad_samples(const struct ff_loader *loader);

#endif
