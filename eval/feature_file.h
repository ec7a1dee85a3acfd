/* SPDX-License-Identifier: MIT */
/* features.h5: one row an image, the embedding of the picture and of its mirror image.
 *
 *   features (N, 2 * D) f32, contiguous, original | flipped; a zero row = no picture
 *   name     (N) string
 *   attributes of the root: rows_done i64 (rows that are valid; absent = all),
 *   model_sha256 (absent if unknown)
 *
 * The file is made at full size and rows_done is raised after each flush, so a reader
 * can map it while it grows, and a run that was cut off can go on. */
#ifndef FF_FEATURE_FILE_H
#define FF_FEATURE_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct ff_features {
    int64_t rows;
    int dim;            /* D; a row holds 2 * D values */
    const float *data;  /* (rows, 2 * D) f32 */
    char **name;        /* (rows) */
    char *model_sha256; /* "" if the file does not say */
    void *map;          /* mapping behind data, or NULL */
    size_t map_bytes;
    float *owned; /* memory behind data, or NULL */
};

/* Opens a finished file; data is mapped where the dataset is contiguous little-endian
 * f32, else read. FF_EDATA for a file that is not one of these or not finished. */
int ff_features_open(struct ff_features **out, const char *path, struct ff_err *err);
void ff_features_close(struct ff_features *features);

/* order[i] = row of the features that belongs to names[i], i < count; names are all
 * different. *reordered if that is not the identity. FF_EDATA for a name given twice or
 * on one side only; `path` stands in messages. */
int ff_features_join(int64_t *order, bool *reordered,
                     const struct ff_features *features, const char *path,
                     const char *const *names, int64_t count, struct ff_err *err);

/* Writing. */
struct ff_features_writer;
/* Creates path at full size, with rows_done 0; *rows_done = 0. If path is an unfinished
 * file for the same model (model_sha256), names and dim, it is continued instead and
 * *rows_done says where. FF_EBUSY if another program has path open. */
int ff_features_create(struct ff_features_writer **out, int64_t *rows_done,
                       const char *path, const char *const *names, int64_t rows,
                       int dim, const char *model_sha256, struct ff_err *err);
/* Writes `count` rows from `first` = rows written so far, flushes, raises rows_done. */
int ff_features_append(struct ff_features_writer *writer, const float *data,
                       int64_t first, int64_t count, struct ff_err *err);
/* Rows that a reader may rely on. */
int64_t ff_features_rows_done(const struct ff_features_writer *writer);
/* Closes; the file stays as it is. NULL allowed. */
void ff_features_writer_close(struct ff_features_writer *writer);

#endif
