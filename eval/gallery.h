/* SPDX-License-Identifier: MIT */
/* The lists of an IJB-B / IJB-C 1:N test: galleries and probes with their subjects.
 *
 *   meta/<protocol>_1N_gallery_G1.csv, _G2.csv     (IJB-B: _S1, _S2)
 *   meta/<protocol>_1N_probe_mixed.csv
 *
 * One header line, then "template,subject", both numbers; further columns are not read.
 * A template may stand in a list several times (published lists have a line an image)
 * and in several lists, always with the same subject; in each it counts once. */
#ifndef FF_GALLERY_H
#define FF_GALLERY_H

#include <stdint.h>

#include "err.h"
#include "ijb_meta.h"

struct ff_gallery_list {
    int32_t count;
    int32_t *template_index; /* (count) in the set, each once, by rising template id */
    int64_t *subject;        /* (count) */
};

#define FF_GALLERIES 2

struct ff_gallery_lists {
    struct ff_gallery_list gallery[FF_GALLERIES], probe;
};

/* FF_EDATA names file, line and the value found: no header, a malformed line, a
 * template that has no image in the set, or one with two subjects. Ended by
 * ff_gallery_fini, also after an error. */
int ff_gallery_load(struct ff_gallery_lists *lists, const char *root,
                    const char *protocol, const struct ff_ijb_meta *meta,
                    struct ff_err *err);
void ff_gallery_fini(struct ff_gallery_lists *lists);

#endif
