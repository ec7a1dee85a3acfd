/* SPDX-License-Identifier: MIT */
/* A folder of identities: root/<identity>/.../<image>.jpg, as torchvision's
 * ImageFolder.
 *
 * Identities are the folders directly below the root in byte order; the images of one
 * are ordered by the path of their folder, then by name. Files with no picture's ending
 * are passed over. */
#ifndef FF_FOLDER_H
#define FF_FOLDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dataset.h"
#include "err.h"

struct ff_folder;

/* Whether `root` has a folder directly below it. */
bool ff_folder_is_one(const char *root);

/* Lists the images with their sizes; reads none. What was listed is kept in
 * root/.ff-manifest where root can be written to: a later open stats the folders alone
 * and reads only those whose mtime changed. FF_EDATA: an identity without images, an
 * image of a kind that is not decoded (anything but .jpg, .jpeg, .png), an unreadable
 * folder. */
int ff_folder_open(struct ff_folder **out, const char *root, struct ff_err *err);
void ff_folder_close(struct ff_folder *folder);

int64_t ff_folder_count(const struct ff_folder *folder);
int64_t ff_folder_classes(const struct ff_folder *folder);
uint64_t ff_folder_bytes(const struct ff_folder *folder); /* of all images */
/* Index of the first image of identity `label`; count for label == classes. */
int64_t ff_folder_first(const struct ff_folder *folder, int64_t label);

/* As ff_dataset_read, _describe ("<identity>/<image>") and _fingerprint. A file that is
 * gone, or of another size than when it was listed, is FF_EDATA. */
int ff_folder_read(const uint8_t **bytes, size_t *size, int64_t *label,
                   const struct ff_folder *folder, int64_t index,
                   struct ff_read_buffer *buffer, struct ff_err *err);
void ff_folder_describe(char *out, size_t capacity, const struct ff_folder *folder,
                        int64_t index);
int ff_folder_fingerprint(char out[65], const struct ff_folder *folder,
                          struct ff_err *err);
/* Stats every image and takes over sizes and mtimes that changed since they were noted,
 * into the manifest too: what a program does that reads every file anyway. FF_EDATA
 * names a file that is gone. */
int ff_folder_refresh(struct ff_folder *folder, struct ff_err *err);
/* SHA-256 hex over path, size and mtime of every image: after a refresh, equal while no
 * file was touched. */
int ff_folder_stamp(char out[65], const struct ff_folder *folder, struct ff_err *err);
/* Folders that opening had to read; 0 where the manifest told all. */
int64_t ff_folder_scanned(const struct ff_folder *folder);

#endif
