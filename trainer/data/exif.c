/* SPDX-License-Identifier: MIT */
/* EXIF orientation, found by walking the JPEG's segments and the TIFF header inside.
 *
 * Every offset of the file is checked against the bytes at hand before it is followed;
 * a value that does not fit ends the search. The walk stops at the first scan (SOS):
 * the orientation stands before it. */
#include "exif.h"

#include <stdbool.h>
#include <string.h>

enum { MARKER_SOI = 0xd8, MARKER_EOI = 0xd9, MARKER_SOS = 0xda, MARKER_APP1 = 0xe1 };
enum { TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, IFD_ENTRY_BYTES = 12 };

static unsigned get16(const uint8_t *p, bool big)
{
    return big ? (unsigned)p[0] << 8 | p[1] : (unsigned)p[1] << 8 | p[0];
}

static uint32_t get32(const uint8_t *p, bool big)
{
    uint32_t high = get16(big ? p : p + 2, big), low = get16(big ? p + 2 : p, big);
    return high << 16 | low;
}

/* Position of the orientation's value in the TIFF block, 0 if there is none. */
static size_t find_in_tiff(bool *big, const uint8_t *tiff, size_t bytes)
{
    if (bytes < 8)
        return 0;
    if (memcmp(tiff, "II*\0", 4) == 0)
        *big = false;
    else if (memcmp(tiff, "MM\0*", 4) == 0)
        *big = true;
    else
        return 0;
    size_t at = get32(tiff + 4, *big);
    if (at < 8 || at + 2 > bytes)
        return 0;
    unsigned entries = get16(tiff + at, *big);
    at += 2;
    for (unsigned i = 0; i < entries && at + IFD_ENTRY_BYTES <= bytes; i++) {
        if (get16(tiff + at, *big) == TAG_ORIENTATION &&
            get16(tiff + at + 2, *big) == TYPE_SHORT)
            return at + 8;
        at += IFD_ENTRY_BYTES;
    }
    return 0;
}

/* Position of the orientation's value in the JPEG, 0 if there is none. */
static size_t find(bool *big, const uint8_t *jpeg, size_t bytes)
{
    if (bytes < 4 || jpeg[0] != 0xff || jpeg[1] != MARKER_SOI)
        return 0;
    size_t at = 2;
    while (at + 4 <= bytes && jpeg[at] == 0xff) {
        unsigned marker = jpeg[at + 1];
        if (marker == 0xff) { /* fill byte */
            at++;
            continue;
        }
        if (marker == MARKER_SOS || marker == MARKER_EOI)
            return 0;
        size_t length = get16(jpeg + at + 2, true);
        if (length < 2 || at + 2 + length > bytes)
            return 0;
        const uint8_t *body = jpeg + at + 4;
        if (marker == MARKER_APP1 && length >= 8 && memcmp(body, "Exif\0\0", 6) == 0) {
            size_t in_tiff = find_in_tiff(big, body + 6, length - 8);
            return in_tiff ? at + 10 + in_tiff : 0;
        }
        at += 2 + length;
    }
    return 0;
}

int ff_exif_orientation(const uint8_t *jpeg, size_t bytes)
{
    bool big = false;
    size_t at = find(&big, jpeg, bytes);
    unsigned value = at ? get16(jpeg + at, big) : 1;
    return value >= 1 && value <= 8 ? (int)value : 1;
}

void ff_exif_reset_orientation(uint8_t *jpeg, size_t bytes)
{
    bool big = false;
    size_t at = find(&big, jpeg, bytes);
    if (!at)
        return;
    jpeg[at] = big ? 0 : 1;
    jpeg[at + 1] = big ? 1 : 0;
}
