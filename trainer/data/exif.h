/* SPDX-License-Identifier: MIT */
/* The EXIF orientation of a JPEG: tag 0x0112 of IFD 0 in the first Exif APP1 segment
 * (CIPA DC-008). Damaged or absent EXIF data counts as orientation 1. */
#ifndef FF_EXIF_H
#define FF_EXIF_H

#include <stddef.h>
#include <stdint.h>

/* 1 .. 8; 1 = upright, also where nothing is said. */
int ff_exif_orientation(const uint8_t *jpeg, size_t bytes);
/* Sets a stored orientation to 1 in place; the picture then shows as it is stored. */
void ff_exif_reset_orientation(uint8_t *jpeg, size_t bytes);

#endif
