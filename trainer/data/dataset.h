/* SPDX-License-Identifier: MIT */
/* A training set: RecordIO (train.rec) or an image folder, behind one view. */
#ifndef FF_DATASET_H
#define FF_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct ff_dataset;

/* Opens a folder that holds train.rec (+ train.idx, property), or a folder of
 * identities. Reads no image. FF_EDATA, FF_EUSAGE (nothing of the kind there). */
int ff_dataset_open(struct ff_dataset **out, const char *path, struct ff_err *err);
void ff_dataset_close(struct ff_dataset *dataset);

int64_t ff_dataset_count(const struct ff_dataset *dataset);   /* N images */
int64_t ff_dataset_classes(const struct ff_dataset *dataset); /* P identities */
/* Whether EXIF orientation counts (RecordIO yes, folder no). */
bool ff_dataset_applies_exif(const struct ff_dataset *dataset);

/* Encoded image `index` (0 .. N-1) and its class (0 .. P-1). *bytes is borrowed: from
 * the mapping (RecordIO) until close, or from *buffer (folder; malloc'd and regrown,
 * pass the same zero-initialised one again, free at the end). FF_EDATA names record and
 * offset. */
struct ff_read_buffer {
    uint8_t *data;
    size_t capacity;
};
int ff_dataset_read(const uint8_t **bytes, size_t *size, int64_t *label,
                    struct ff_dataset *dataset, int64_t index,
                    struct ff_read_buffer *buffer, struct ff_err *err);

/* A hint that samples first .. first + count - 1 are wanted soon; returns at once. */
void ff_dataset_will_read(const struct ff_dataset *dataset, int64_t first,
                          int64_t count);

/* "where" of a sample for messages: "train.rec: record 17 (offset 1234)". */
void ff_dataset_describe(char *out, size_t capacity, const struct ff_dataset *dataset,
                         int64_t index);

/* Fingerprint of the content: SHA-256 hex over sizes, property, idx (or the folder's
 * manifest of names and sizes) and 64 evenly spaced 4 KiB blocks; under a second. */
int ff_dataset_fingerprint(char out[65], struct ff_dataset *dataset,
                           struct ff_err *err);

#endif
