/* SPDX-License-Identifier: MIT */
/* The features of all images of a set, from a network or a file, and its templates. */
#ifndef FF_FEATURE_SET_H
#define FF_FEATURE_SET_H

#include <stdint.h>

#include "err.h"
#include "eval_options.h"
#include "feature_file.h"
#include "hash.h"
#include "ijb_meta.h"

struct ff_feature_set {
    const float *data; /* (rows, 2 * D) f32, borrowed from file or scratch */
    int dim;           /* D */
    int64_t *row;      /* (N) row of image i */
    char model_sha256[FF_SHA256_HEX]; /* "" = unknown */
    char backend[256];                /* of the network; "none" from a file */
    struct ff_features *file;
    float *scratch; /* mapping of a file that has no name any more, or NULL */
    size_t scratch_bytes;
};

/* Opens o->features or runs o->model over the images; says on stderr where rows are
 * joined by name. Features that --save-features does not keep lie in a nameless file in
 * $TMPDIR, beside o->beside or in /var/tmp, so that memory does not grow with the set.
 * The caller ends *set with ff_feature_set_fini, also after an error. */
int ff_feature_set_get(struct ff_feature_set *set, const struct ff_source_options *o,
                       const struct ff_ijb_meta *meta, struct ff_err *err);
void ff_feature_set_fini(struct ff_feature_set *set);

/* Runs o->model over the first `images` images and prints the speed. */
int ff_feature_set_time(const struct ff_source_options *o, int64_t images,
                        struct ff_ijb_meta *meta, struct ff_err *err);

/* *templates (T, D) f32 by ff_pool_templates; the caller frees. FF_EDATA if pictures
 * are missing and o->allow_missing is off. */
int ff_feature_set_pool(float **templates, int64_t *missing,
                        const struct ff_feature_set *set,
                        const struct ff_source_options *o,
                        const struct ff_ijb_meta *meta, struct ff_err *err);

#endif
