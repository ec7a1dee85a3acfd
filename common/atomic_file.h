/* SPDX-License-Identifier: MIT */
/* Files of record: written to a temporary name beside the target, fsynced, renamed,
 * directory fsynced. A reader sees the old file or the new one, whole. */
#ifndef FF_ATOMIC_FILE_H
#define FF_ATOMIC_FILE_H

#include <stddef.h>
#include <stdio.h>

#include "err.h"

#define FF_PATH_MAX 4096

/* printf into a path buffer; FF_EUSAGE if it does not fit. */
int ff_path(char out[FF_PATH_MAX], struct ff_err *err, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* mkdir -p. */
int ff_mkdirs(const char *path, struct ff_err *err);
/* rm -rf; a path that is not there is no error. */
int ff_remove_tree(const char *path, struct ff_err *err);

/* Where a file of record for `path` stands: there, or where a symbolic link leads; and
 * "<target>.tmp.<pid>", where it is written. FF_EUSAGE for a device, a pipe or a
 * socket, which the rename would replace by a file. */
int ff_atomic_names(char target[FF_PATH_MAX], char temporary[FF_PATH_MAX],
                    const char *path, struct ff_err *err);

/* Begin: opens the temporary for writing; commit: flush, fsync, close, rename to the
 * target, fsync of the directory. abort removes the temporary and is safe after commit.
 */
struct ff_atomic_file {
    FILE *stream;
    char path[FF_PATH_MAX], temporary[FF_PATH_MAX];
};
int ff_atomic_begin(struct ff_atomic_file *file, const char *path, struct ff_err *err);
int ff_atomic_commit(struct ff_atomic_file *file, struct ff_err *err);
void ff_atomic_abort(struct ff_atomic_file *file);

/* For files written by a library (HDF5, cairo): the caller has written and closed
 * `temporary`; this fsyncs it, renames it to `target` and fsyncs the directory. Both
 * are of ff_atomic_names. */
int ff_atomic_rename(const char *temporary, const char *target, struct ff_err *err);

/* Whole file into a malloc'd buffer with a zero byte behind it; caller frees *data. */
int ff_read_file(char **data, size_t *bytes, const char *path, struct ff_err *err);

#endif
