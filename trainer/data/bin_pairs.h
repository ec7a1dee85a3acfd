/* SPDX-License-Identifier: MIT */
/* insightface's .bin files of pairs (lfw, cfp_fp, agedb_30): a Python pickle of (list
 * of 2n encoded images, list of n booleans).
 *
 * Protocols 2 to 5. An image is bytes, a bytearray, a Python 2 str, a latin-1 text that
 * is encoded back (what bytes become in protocol 2), or a one-dimensional numpy uint8
 * array; a label is a boolean, 0 or 1, or a numpy bool. Nothing is ever executed: a
 * name is looked up in a fixed list, and an opcode or name that such files do not hold
 * is refused with its offset. */
#ifndef FF_BIN_PAIRS_H
#define FF_BIN_PAIRS_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct ff_bin_image {
    const uint8_t *bytes; /* JPEG or PNG */
    size_t size;          /* above 0 */
};

struct ff_bin_pairs {
    char *name;                 /* the path, for messages */
    int64_t pairs, same_count;  /* n, above 0; how many are one person */
    struct ff_bin_image *image; /* (2n): pair i is images 2i and 2i + 1 */
    uint8_t *same;              /* (n) 1 = one person, 0 = two */
    struct ff_bin_text *texts;  /* decoded latin-1 texts */
    void *map;                  /* the file, NULL if parsed from memory */
    size_t map_bytes;
};

/* Maps and reads a file; images are views of it, but for decoded texts. FF_EUSAGE if it
 * is not there, FF_EDATA with file, opcode and offset if it is anything else than
 * described above, FF_ENOMEM. *out is freed by ff_bin_pairs_close. */
int ff_bin_pairs_open(struct ff_bin_pairs **out, const char *path, struct ff_err *err);
/* The same from memory, which must outlive *out; `name` stands in messages. */
int ff_bin_pairs_parse(struct ff_bin_pairs **out, const char *name,
                       const uint8_t *bytes, size_t size, struct ff_err *err);
void ff_bin_pairs_close(struct ff_bin_pairs *pairs);

#endif
