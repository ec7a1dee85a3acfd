/* SPDX-License-Identifier: MIT */
/* Which way of computing each problem was found to be the fastest: a table of texts,
 * in memory, in a file, in one string.
 *
 * Tuning takes time and its result is not the same twice, so it is kept: in a cache
 * file for the next run on such a device, and in the checkpoint, so that a resumed run
 * computes what it computed before. Both hold the same text:
 *
 *     # fastface choices 1: NVIDIA H200, sm_90, driver 13000, cuDNN 91900
 *     conv 256->256 3x3 s1 14x14 N128 fp16 forward: eng62 k2=0 k13=1
 *
 * The first line says where the choices hold; then one line an entry, problem ": "
 * choice, sorted. This file knows nothing of CUDA. */
#ifndef FF_CUDA_CHOICES_H
#define FF_CUDA_CHOICES_H

#include <stdbool.h>
#include <stddef.h>

#include "atomic_file.h"
#include "err.h"

#define CUDA_CHOICES_TEXT 512 /* longest problem, and longest choice, with its zero */
#define CUDA_CHOICES_HEADER 256

struct cuda_choices {
    struct cuda_choice_entry {
        char *problem, *choice;
    } * items; /* sorted by problem */
    int count, capacity;
};
#define CUDA_CHOICES_INIT                                                              \
    {                                                                                  \
        NULL, 0, 0                                                                     \
    }
void cuda_choices_fini(struct cuda_choices *table);

/* Borrowed until the next change; NULL = not there. */
const char *cuda_choices_get(const struct cuda_choices *table, const char *problem);
/* Adds or replaces; the texts are copied. FF_EUSAGE: a text is empty, too long, holds
 * ':' or an unprintable character, or begins or ends with a space. FF_ENOMEM. */
int cuda_choices_set(struct cuda_choices *table, const char *problem,
                     const char *choice, struct ff_err *err);
/* Adds all of `from`; what the table has already stays, or goes with `replace`. */
int cuda_choices_merge(struct cuda_choices *table, const struct cuda_choices *from,
                       bool replace, struct ff_err *err);

/* Where choices hold. */
struct cuda_choices_device {
    const char *name;  /* "NVIDIA H200" */
    int sm;            /* 10 major + minor */
    int driver, cudnn; /* as cudaDriverGetVersion, cudnnGetVersion */
    bool deterministic;
};
/* The first line of a text, without its end. Returns out. */
char *cuda_choices_header(char out[CUDA_CHOICES_HEADER],
                          const struct cuda_choices_device *device);

/* malloc'd, the caller frees; NULL = out of memory. */
char *cuda_choices_text(const struct cuda_choices *table, const char *header);
/* Adds the entries of a text, replacing. Strict: FF_EDATA with "name:line: ..." for
 * anything that cuda_choices_text does not write, but for the order; the table is then
 * as it was. header NULL = any; else FF_EUSAGE if the text has another. */
int cuda_choices_parse(struct cuda_choices *table, const char *text, const char *name,
                       const char *header, struct ff_err *err);

/* The cache file: $XDG_CACHE_HOME/fastface/ or ~/.cache/fastface/, then a name made of
 * the header's parts. FF_EUSAGE if there is no home. */
int cuda_choices_path(char out[FF_PATH_MAX], const struct cuda_choices_device *device,
                      struct ff_err *err);
/* Adds the cache file's entries, replacing. No file, or one with another header, is no
 * error and adds nothing. Damaged lines are left out, with one warning. */
int cuda_choices_load(struct cuda_choices *table,
                      const struct cuda_choices_device *device, struct ff_err *err);
/* Writes the table to the cache file, over and among what stands there, and makes its
 * folder; the table is not changed. Several processes may do so at once: each takes a
 * lock beside the file; FF_EBUSY if it is not to be had within CUDA_CHOICES_WAIT_MS. */
#define CUDA_CHOICES_WAIT_MS 10000
int cuda_choices_save(const struct cuda_choices *table,
                      const struct cuda_choices_device *device, struct ff_err *err);

#endif
