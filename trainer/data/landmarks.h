/* SPDX-License-Identifier: MIT */
/* Five facial points for each image of a set, from a text file. */
#ifndef FF_LANDMARKS_H
#define FF_LANDMARKS_H

#include "dataset.h"

struct ff_landmarks {
    float point[5][2]; /* px of the image as stored: x, y of eyes, nose, mouth */
};

/* Reads "path x1 y1 .. x5 y5" lines (spaces or tabs between; the path is as
 * ff_dataset_describe names the image and may hold spaces; empty lines are passed over)
 * into *out (N), malloc'd, in the order of the set. FF_EDATA: a line of another form,
 * an image named twice, a line whose image is not in the set, an image without a line.
 */
int ff_landmarks_load(struct ff_landmarks **out, const char *path,
                      const struct ff_dataset *dataset, struct ff_err *err);

#endif
