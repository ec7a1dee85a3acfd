/* SPDX-License-Identifier: MIT */
/* What an image folder holds in memory: filled by folder_scan.c, read by folder.c. */
#ifndef FF_FOLDER_PRIV_H
#define FF_FOLDER_PRIV_H

#include "atomic_file.h"
#include "folder.h"

#define FF_FOLDER_MANIFEST ".ff-manifest" /* beside the identities */

struct ff_folder_file {
    const char *directory, *name; /* directory is a path below the root */
    uint64_t bytes;
    int64_t mtime_ns;
};

/* A folder at any depth below the root. */
struct ff_folder_directory {
    const char *path;          /* below the root */
    int64_t mtime_ns;          /* 0: may have changed while it was read */
    int64_t first_sub, subs;   /* its folders, in ff_folder_table.subs */
    int64_t first_file, files; /* its images; only of a table read from a manifest */
};

/* Folders and files; all text lies in `text` or in the list of blocks. */
struct ff_folder_table {
    struct ff_folder_directory *directories;
    int64_t directory_count, directory_capacity;
    struct ff_folder_file *files;
    int64_t file_count, file_capacity;
    const char **subs; /* names */
    int64_t sub_count, sub_capacity;
    char *text;                     /* of the manifest */
    struct ff_folder_block *blocks; /* of names read from folders */
};

struct ff_folder {
    char root[FF_PATH_MAX];
    struct ff_folder_table table; /* files in sample order */
    char *manifest_text;          /* of the manifest that names were taken from */
    int64_t *first;               /* (classes + 1) i64 */
    int64_t classes;
    uint64_t bytes;
    int64_t scanned; /* folders read; the others were taken from the manifest */
};

/* Fills the folder, whose root is set: from the manifest where that is still true, by
 * reading folders elsewhere, and writes a new manifest where one was read and root can
 * be written to. Codes as ff_folder_open. */
int ff_folder_scan(struct ff_folder *folder, struct ff_err *err);
void ff_folder_table_fini(struct ff_folder_table *table);

#endif
