/* SPDX-License-Identifier: MIT */
/* Accuracy of a network on a file of pairs: decode, embed as it is and mirrored, add,
 * compare. Used by ff-train between two steps and by `ff-eval pairs`. */
#ifndef FF_PAIR_SCORE_H
#define FF_PAIR_SCORE_H

#include "bin_pairs.h"
#include "embedder.h"
#include "pair_accuracy.h"

/* Decodes every image once: FF_EDATA names file and image if one is damaged or not
 * side_px square (nothing is resized), or if there are fewer pairs than folds. */
int ff_pair_check(const struct ff_bin_pairs *pairs, int side_px, int threads,
                  struct ff_err *err);

/* distance (pairs) f64, 0 .. 4, by ff_pair_distance of the embeddings of both images
 * and of their mirror images, in blocks of the embedder's batch (at least 2). `threads`
 * decode. With `progress` a progress line goes to stderr under that name. Only the
 * first `limit` pairs where that is above 0. FF_EDATA as above, FF_ESTOPPED where a
 * stop was asked for; distance is then incomplete. */
int ff_pair_distances(double *distance, struct ff_embedder *embedder,
                      const struct ff_bin_pairs *pairs, int64_t limit, int threads,
                      const char *progress, struct ff_err *err);

/* The same to the accuracy over the ten folds. A network that gives no finite numbers
 * is FF_EDATA. */
int ff_pair_score(struct ff_pair_accuracy *out, struct ff_embedder *embedder,
                  const struct ff_bin_pairs *pairs, int threads, const char *progress,
                  struct ff_err *err);

#endif
