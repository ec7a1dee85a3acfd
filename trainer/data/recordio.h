/* SPDX-License-Identifier: MIT */
/* MXNet RecordIO training sets: train.rec, train.idx, property.
 *
 * A record is u32 magic, u32 (cflag << 29 | length), payload, zero padding to 4 bytes;
 * cflag 1/2/3 are the first, middle and last part of a payload that held the magic at a
 * 4-byte boundary. A payload is u32 flag, f32 label, u64 id, u64 id2, then `flag`
 * further f32 labels (the first of them counts), then the encoded image. In the
 * insightface layout record 0 holds [key of the first identity record, one past the
 * last key] and no image, images have keys from 1, and one identity record [first key,
 * one past the last] a class follows them. In a plain im2rec pack all are images. */
#ifndef FF_RECORDIO_H
#define FF_RECORDIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataset.h"
#include "err.h"

#define FF_REC_MAGIC 0xced7230au
#define FF_REC_LENGTH_BITS 29 /* of u32 lrecord; cflag stands above them */
#define FF_REC_IMAGE_HEADER_BYTES 24
/* f32 labels are exact up to here; keys in identity records are only near above it. */
#define FF_REC_EXACT_KEYS ((int64_t)1 << 24)

/* ---- reading ---- */

struct ff_recordio;

/* Opens train.rec of folder `dir`, with train.idx and property where they are there;
 * without train.idx the records are numbered by a scan. Checks that the file holds
 * every record in full. FF_EDATA names record and offset. */
int ff_recordio_open(struct ff_recordio **out, const char *dir, struct ff_err *err);
void ff_recordio_close(struct ff_recordio *rec);

int64_t ff_recordio_count(const struct ff_recordio *rec);
/* From property; else the identity records; else the largest label + 1. */
int64_t ff_recordio_classes(const struct ff_recordio *rec);
uint64_t ff_recordio_bytes(const struct ff_recordio *rec); /* of train.rec */
/* px by property, 0 where that is absent. */
void ff_recordio_image_size(int *width, int *height, const struct ff_recordio *rec);
/* Record key of image `index`. */
int64_t ff_recordio_key(const struct ff_recordio *rec, int64_t index);

/* As ff_dataset_read, _will_read, _describe and _fingerprint. Several threads may read
 * at once. */
int ff_recordio_read(const uint8_t **bytes, size_t *size, int64_t *label,
                     const struct ff_recordio *rec, int64_t index,
                     struct ff_read_buffer *buffer, struct ff_err *err);
void ff_recordio_will_read(const struct ff_recordio *rec, int64_t first, int64_t count);
void ff_recordio_describe(char *out, size_t capacity, const struct ff_recordio *rec,
                          int64_t index);
int ff_recordio_fingerprint(char out[65], const struct ff_recordio *rec,
                            struct ff_err *err);

/* Identity records, 0 in a plain pack; [*first, *last) are the keys of identity i. */
int64_t ff_recordio_identities(const struct ff_recordio *rec);
int ff_recordio_identity(int64_t *first, int64_t *last, const struct ff_recordio *rec,
                         int64_t i, struct ff_err *err);

/* ---- writing, in the insightface layout ---- */

struct ff_rec_writer;

/* Starts a set in folder `dir` (made if need be) under temporary names; width and
 * height (px) go to `property`. FF_EUSAGE if dir holds a train.rec already. */
int ff_rec_writer_create(struct ff_rec_writer **out, const char *dir, int width,
                         int height, struct ff_err *err);
/* The same for a set that may be interrupted: the files grow as train.rec.part and
 * train.idx.part beside train.journal. Where dir holds those of an earlier process
 * that gave the same `key` (one line, under 200 characters: it names the images and
 * all that decides their bytes), the writer goes on behind the *images (N) that its
 * last checkpoint covers; else *images is 0 and they are begun anew. FF_EBUSY if
 * another process writes them. */
int ff_rec_writer_resume(struct ff_rec_writer **out, int64_t *images, const char *dir,
                         int width, int height, const char *key, struct ff_err *err);
/* Syncs what was added so far and notes it in the journal (resumable writers only). */
int ff_rec_writer_checkpoint(struct ff_rec_writer *writer, struct ff_err *err);
/* Destroy will remove the parts of a resumable writer instead of leaving them. */
void ff_rec_writer_discard(struct ff_rec_writer *writer);
/* Appends one encoded image. Labels come in non-decreasing order 0, 1, 2 .. without
 * holes (FF_EUSAGE). bytes > 0 and below 512 MiB. */
int ff_rec_writer_add(struct ff_rec_writer *writer, int64_t label, const void *image,
                      size_t bytes, struct ff_err *err);
/* Writes the identity records, record 0, train.idx and property, and gives the files
 * their final names. FF_EUSAGE without an image. The writer is then only good for
 * destroy. */
int ff_rec_writer_finish(struct ff_rec_writer *writer, struct ff_err *err);
/* Frees; before a successful finish the temporary files are removed, those of a
 * resumable writer only after ff_rec_writer_discard. NULL is fine. */
void ff_rec_writer_destroy(struct ff_rec_writer *writer);

#endif
