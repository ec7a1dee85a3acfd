/* SPDX-License-Identifier: MIT */
/* Order of an epoch; see sample_order.h. */
#include "sample_order.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "rng.h"

static uint64_t stream_of(const char *kind, int64_t epoch, int64_t window)
{
    char name[80];
    if (window < 0)
        snprintf(name, sizeof name, "%s/%" PRId64, kind, epoch);
    else
        snprintf(name, sizeof name, "%s/%" PRId64 "/%" PRId64, kind, epoch, window);
    return ff_stream(name);
}

int ff_sample_order(int64_t *perm, int64_t count, uint64_t seed, int64_t epoch,
                    int64_t shuffle_block, struct ff_err *err)
{
    if (shuffle_block <= 1) {
        ff_rng_permutation(perm, count, seed, stream_of("shuffle", epoch, -1));
        return 0;
    }
    int64_t n = shuffle_block < count ? shuffle_block : count;
    int64_t blocks = (count + n - 1) / n;
    int64_t window_blocks =
        blocks < FF_ORDER_WINDOW_BLOCKS ? blocks : FF_ORDER_WINDOW_BLOCKS;
    size_t window_bytes = (size_t)(window_blocks * n) * sizeof(int64_t);
    int64_t *order = malloc((size_t)blocks * sizeof *order);
    int64_t *samples = malloc(window_bytes), *turn = malloc(window_bytes);
    int rc = 0;
    if (!order || !samples || !turn) {
        rc = ff_err_set(err, FF_ENOMEM, "out of memory to shuffle %" PRId64 " samples",
                        count);
        goto done;
    }
    ff_rng_permutation(order, blocks, seed, stream_of("shuffle-blocks", epoch, -1));
    for (int64_t at = 0, done = 0; at < blocks; at += window_blocks) {
        int64_t held = 0;
        for (int64_t b = at; b < blocks && b < at + window_blocks; b++) {
            int64_t first = order[b] * n;
            for (int64_t i = first; i < first + n && i < count; i++)
                samples[held++] = i;
        }
        ff_rng_permutation(turn, held, seed,
                           stream_of("shuffle-window", epoch, at / window_blocks));
        for (int64_t i = 0; i < held; i++)
            perm[done++] = samples[turn[i]];
    }
done:
    free(turn);
    free(samples);
    free(order);
    return rc;
}
