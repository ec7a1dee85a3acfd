/* SPDX-License-Identifier: MIT */
/* Encoded images to RGB samples and back: JPEG by TurboJPEG, PNG by libpng. */
#ifndef FF_IMAGE_H
#define FF_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct ff_image {
    int width_px, height_px;
    uint8_t *rgb; /* (height, width, 3) u8, malloc'd */
};

/* One decoder a thread; holds the TurboJPEG handle. */
struct ff_decoder;
int ff_decoder_create(struct ff_decoder **out, struct ff_err *err);
void ff_decoder_destroy(struct ff_decoder *decoder);

/* Decodes JPEG or PNG by content into *image (caller frees rgb with ff_image_fini; the
 * buffer of an image passed in again is reused). `apply_exif` turns the picture as its
 * EXIF orientation says (as OpenCV does). The accurate integer DCT and plain ("fancy")
 * upsampling, as OpenCV's and PIL's defaults. FF_EDATA on damage, with the library's
 * text; a JPEG that TurboJPEG decodes with a warning (cut short) is damage too. */
int ff_decode(struct ff_image *image, struct ff_decoder *decoder, const void *bytes,
              size_t size, bool apply_exif, struct ff_err *err);
/* As ff_decode, straight into rgb (side, side, 3); another size is FF_EDATA naming
 * both. */
int ff_decode_square(uint8_t *rgb, int side_px, struct ff_decoder *decoder,
                     const void *bytes, size_t size, bool apply_exif,
                     struct ff_err *err);
void ff_image_fini(struct ff_image *image);

/* JPEG of rgb (height, width, 3); *jpeg is malloc'd by the call and freed with free().
 * chroma_420: 4:2:0, else 4:4:4. */
int ff_encode_jpeg(uint8_t **jpeg, size_t *size, const struct ff_image *image,
                   int quality, bool chroma_420, struct ff_err *err);

#endif
