/* SPDX-License-Identifier: MIT */
/* What an encoded image says about itself, found without decoding it. */
#ifndef FF_IMAGE_HEADER_H
#define FF_IMAGE_HEADER_H

#include <stddef.h>

#include "err.h"

struct ff_image_header {
    int width_px, height_px; /* as stored, before any EXIF orientation; > 0 */
    int components;          /* of a JPEG: 1 grey, 3 colour, 4 CMYK; 0 of a PNG */
};

/* Size of a JPEG or PNG, told apart by content, and whether its end is there: a JPEG's
 * segments are followed to the first scan, behind which an end marker must stand; a
 * PNG's chunks are followed from IHDR to IEND. Bytes behind the end are no damage.
 * FF_EDATA on anything else; damage inside the pixels' code goes unseen. */
int ff_image_header(struct ff_image_header *header, const void *bytes, size_t size,
                    struct ff_err *err);
/* The same without looking for the end: all that is read lies before the pixels. */
int ff_image_size(struct ff_image_header *header, const void *bytes, size_t size,
                  struct ff_err *err);

#endif
