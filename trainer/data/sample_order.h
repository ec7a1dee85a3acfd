/* SPDX-License-Identifier: MIT */
/* The order in which an epoch visits the samples: a pure function of seed and epoch. */
#ifndef FF_SAMPLE_ORDER_H
#define FF_SAMPLE_ORDER_H

#include <stdint.h>

#include "err.h"

#define FF_ORDER_WINDOW_BLOCKS 16

/* perm (count) i64: a permutation of 0 .. count-1 for epoch 0, 1, ..
 * shuffle_block 1: ff_rng_permutation of stream "shuffle/<epoch>". n > 1: the blocks of
 * n consecutive samples are shuffled (stream "shuffle-blocks/<epoch>"), then the
 * samples inside each window of FF_ORDER_WINDOW_BLOCKS blocks (stream
 * "shuffle-window/<epoch>/<window>"): a disk sees long reads. FF_ENOMEM. */
int ff_sample_order(int64_t *perm, int64_t count, uint64_t seed, int64_t epoch,
                    int64_t shuffle_block, struct ff_err *err);

#endif
