/* SPDX-License-Identifier: MIT */
/* Photographs of an evaluation set to features: decode, align, network. */
#ifndef FF_EMBED_H
#define FF_EMBED_H

#include <stdbool.h>
#include <stdint.h>

#include "embedder.h"
#include "err.h"
#include "feature_file.h"
#include "ijb_meta.h"

struct ff_embed_options {
    const char *root;   /* pictures are root/loose_crop/<name> */
    int batch, threads; /* batch at most the embedder's */
    bool flip;          /* also embed the mirror images; else their half stays zero */
    bool allow_missing; /* a missing or corrupt picture gives a zero row */
};

/* Embeds images first .. N-1 in order, in blocks of `batch`. Rows go to `features`
 * (N, 2 * D) f32 or, where that is NULL, to `writer`, block by block: a cut loses at
 * most one. `threads` threads decode and align ahead of the network, at most two
 * blocks; with one thread both take turns. Progress with the time left goes to stderr.
 * *missing counts pictures left zero. FF_EDATA names the first picture that is missing,
 * corrupt or cannot be aligned, with the line of the points list. */
int ff_embed_images(float *features, struct ff_features_writer *writer,
                    int64_t *missing, struct ff_embedder *embedder, int64_t first,
                    const struct ff_ijb_meta *meta,
                    const struct ff_embed_options *options, struct ff_err *err);

#endif
