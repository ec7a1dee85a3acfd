/* SPDX-License-Identifier: MIT */
/* A text file mapped for reading and cut at line ends, for parsing by many threads. */
#ifndef FF_LINE_FILE_H
#define FF_LINE_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "atomic_file.h"
#include "err.h"

/* Whole lines, each of which ends in '\n': a scan needs no other bound. */
struct ff_line_chunk {
    const char *begin, *end;
    int64_t first; /* line number of the first, from 0 */
    int64_t lines;
};

struct ff_line_file {
    char path[FF_PATH_MAX];
    int64_t lines;
    int chunk_count;
    struct ff_line_chunk *chunk; /* (chunk_count) in the order of the file */
    void *map;                   /* the file, read only */
    size_t map_bytes;
    char *tail; /* a last line without its newline, with one */
};

/* Maps the file at a path that the caller has put into file->path. FF_EDATA for a file
 * that cannot be opened, is empty or holds a zero byte; FF_ENOMEM. Closed by
 * ff_line_file_close, also after an error. */
int ff_line_file_open(struct ff_line_file *file, int threads, struct ff_err *err);
void ff_line_file_close(struct ff_line_file *file);

#endif
