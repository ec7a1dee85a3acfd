/* SPDX-License-Identifier: MIT */
/* Mapped text files in chunks of lines; see line_file.h.
 *
 * Chunks are a few for each thread, so that one thread that is held up holds up little.
 * A last line that lacks its newline is copied, given one, and is a chunk of its own.
 */
#include "line_file.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNKS_PER_THREAD 8
#define CHUNK_BYTES_MIN 4096

typedef unsigned char u8x16 __attribute__((vector_size(16)));

/* Lines in begin .. end - 1; *zero if a byte is zero. Sixteen counters of 8 bits are
 * added up before they can overflow. */
static int64_t count_lines(bool *zero, const char *begin, const char *end)
{
    int64_t lines = 0;
    const char *p = begin;
    u8x16 zeros = {0};
    while (end - p >= 16) {
        u8x16 count = {0};
        for (int k = 0; k < 255 && end - p >= 16; k++, p += 16) {
            u8x16 bytes;
            memcpy(&bytes, p, sizeof bytes);
            count -= (u8x16)(bytes == '\n');
            zeros |= (u8x16)(bytes == 0);
        }
        for (int k = 0; k < 16; k++)
            lines += count[k];
    }
    for (int k = 0; k < 16; k++)
        *zero |= zeros[k] != 0;
    for (; p < end; p++) {
        lines += *p == '\n';
        *zero |= *p == 0;
    }
    return lines;
}

static int map_file(struct ff_line_file *file, struct ff_err *err)
{
    struct stat st; /* a pipe is refused, not waited for */
    int fd = open(file->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return ff_err_errno(err, FF_EDATA, "%s: cannot open", file->path);
    int rc = 0;
    if (fstat(fd, &st)) {
        rc = ff_err_errno(err, FF_EDATA, "%s: cannot read", file->path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = ff_err_set(err, FF_EDATA, "%s: not a regular file", file->path);
    } else if (!st.st_size) {
        rc = ff_err_set(err, FF_EDATA, "%s: empty", file->path);
    } else {
        file->map_bytes = (size_t)st.st_size;
        file->map = mmap(NULL, file->map_bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (file->map == MAP_FAILED) {
            file->map = NULL;
            rc = ff_err_errno(err, FF_EFAIL, "%s: cannot map", file->path);
        }
    }
    close(fd);
    return rc;
}

static int cut(struct ff_line_file *file, int threads, struct ff_err *err)
{
    const char *text = file->map, *end = text + file->map_bytes;
    const char *newline = memrchr(text, '\n', file->map_bytes);
    const char *whole = newline ? newline + 1 : text;
    size_t most = (size_t)threads * CHUNKS_PER_THREAD;
    size_t bytes = (size_t)(whole - text) / most + CHUNK_BYTES_MIN;
    file->chunk = calloc(most + 1, sizeof *file->chunk);
    if (!file->chunk)
        return ff_err_set(err, FF_ENOMEM, "no memory for %s", file->path);
    for (const char *p = text; p < whole;) {
        const char *stop = whole;
        if ((size_t)(whole - p) > bytes)
            stop = (const char *)memchr(p + bytes - 1, '\n',
                                        (size_t)(whole - p) - bytes + 1) +
                   1;
        file->chunk[file->chunk_count++] = (struct ff_line_chunk){p, stop, 0, 0};
        p = stop;
    }
    if (whole < end) {
        size_t length = (size_t)(end - whole);
        file->tail = malloc(length + 1);
        if (!file->tail)
            return ff_err_set(err, FF_ENOMEM, "no memory for %s", file->path);
        memcpy(file->tail, whole, length);
        file->tail[length] = '\n';
        file->chunk[file->chunk_count++] =
            (struct ff_line_chunk){file->tail, file->tail + length + 1, 0, 0};
    }
    return 0;
}

int ff_line_file_open(struct ff_line_file *file, int threads, struct ff_err *err)
{
    bool zero = false;
    file->map = NULL;
    file->tail = NULL;
    file->chunk = NULL;
    file->chunk_count = 0;
    file->lines = 0;
    int rc = map_file(file, err);
    if (!rc)
        rc = cut(file, threads, err);
    if (rc)
        return rc;
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1) reduction(|| : zero)
    for (int k = 0; k < file->chunk_count; k++) {
        struct ff_line_chunk *c = &file->chunk[k];
        bool found = false;
        c->lines = count_lines(&found, c->begin, c->end);
        zero = zero || found;
    }
    if (zero)
        return ff_err_set(err, FF_EDATA, "%s: holds a zero byte", file->path);
    for (int k = 0; k < file->chunk_count; k++) {
        file->chunk[k].first = file->lines;
        file->lines += file->chunk[k].lines;
    }
    return 0;
}

void ff_line_file_close(struct ff_line_file *file)
{
    if (file->map)
        munmap(file->map, file->map_bytes);
    free(file->tail);
    free(file->chunk);
    file->map = NULL;
    file->tail = NULL;
    file->chunk = NULL;
}
