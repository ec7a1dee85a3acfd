/* SPDX-License-Identifier: MIT */
/* The three lists of an IJB-B / IJB-C 1:1 evaluation set, joined.
 *
 *   meta/<protocol>_name_5pts_score.txt       name x1 y1 .. x5 y5 score   (68 points
 * too) meta/<protocol>_face_tid_mid.txt          name template media
 *   meta/<protocol>_template_pair_label.txt   template template 0|1
 *
 * Fields are parted by single spaces, a line each (CR LF too), no empty lines. Image
 * rows keep the order of the points file; the other list is joined by name. Template
 * ids are sparse numbers; here they become indices 0 .. T-1 in increasing order of id.
 * A media id groups images only inside one template. */
#ifndef FF_IJB_META_H
#define FF_IJB_META_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

struct ff_ijb_image {
    const char *name;  /* relative to loose_crop/ */
    float point[5][2]; /* eyes, nose, mouth corners: x, y in px of the loose crop */
    float det_score;   /* detector score, finite */
    int32_t template_index;
    int64_t media_id;
};

struct ff_ijb_meta {
    int64_t image_count;
    struct ff_ijb_image *image; /* (N) */
    bool reordered;             /* the template list has its rows in another order */

    int32_t template_count;
    int64_t *template_id; /* (T) increasing */
    int64_t
        *member_start; /* (T + 1) template t owns members start[t] .. start[t+1]-1 */
    int32_t *member;   /* (N) image rows by (template, media id, row) */

    int64_t pair_count, genuine_count;
    int32_t *pair_a, *pair_b; /* (P) template indices, in the order of the pair file */
    uint8_t *genuine;         /* (P) 1 = same person */

    char *names;       /* memory behind the names */
    char *points_path; /* of the list whose line i + 1 is image i, for messages */
};

/* Reads root/meta/<protocol>_*.txt with `threads` threads; protocol is "ijbc" or
 * "ijbb". Without `with_pairs` the pair list is not asked for and there are no pairs.
 * FF_EDATA names file, line and the value found, of the first bad line of a list: a
 * malformed line, a name given twice or in one list only, a pair of an unknown
 * template, a set without genuine or without impostor pairs. The caller frees *meta
 * with ff_ijb_meta_destroy. */
int ff_ijb_meta_load(struct ff_ijb_meta **meta, const char *root, const char *protocol,
                     bool with_pairs, int threads, struct ff_err *err);
void ff_ijb_meta_destroy(struct ff_ijb_meta *meta);

#endif
