/* SPDX-License-Identifier: MIT */
/* Headers of JPEG and PNG; see image_header.h.
 *
 * In a JPEG's entropy-coded data 0xff is always followed by 0x00 or a restart marker,
 * so the first 0xff 0xd9 behind the first scan's header that no later segment holds in
 * its body is the end marker. Most files end with it: the last two bytes are looked at
 * first. */
#include "image_header.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
    MARKER_SOF0 = 0xc0,
    MARKER_DHT = 0xc4, /* DHT, JPG and DAC stand among the frame headers */
    MARKER_JPG = 0xc8,
    MARKER_DAC = 0xcc,
    MARKER_SOF15 = 0xcf,
    MARKER_RST0 = 0xd0,
    MARKER_RST7 = 0xd7,
    MARKER_SOI = 0xd8,
    MARKER_EOI = 0xd9,
    MARKER_SOS = 0xda,
    MARKER_TEM = 0x01,
    FRAME_BYTES = 8 /* length, precision, height, width, components */
};

enum { PNG_SIGNATURE_BYTES = 8, PNG_IHDR_BYTES = 13, PNG_CHUNK_EXTRA_BYTES = 12 };

static uint32_t get16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
    return get16(p) << 16 | get16(p + 2);
}

static bool is_frame(unsigned marker)
{
    return marker >= MARKER_SOF0 && marker <= MARKER_SOF15 && marker != MARKER_DHT &&
           marker != MARKER_JPG && marker != MARKER_DAC;
}

/* The end marker in bytes[at ..], at being inside or behind the first scan. Later
 * scans and the tables between them are passed over by their lengths. */
static bool has_end(const uint8_t *bytes, size_t size, size_t at)
{
    if (size - at >= 2 && bytes[size - 2] == 0xff && bytes[size - 1] == MARKER_EOI)
        return true;
    while (at + 1 < size) {
        const uint8_t *found = memchr(bytes + at, 0xff, size - 1 - at);
        if (!found)
            return false;
        at = (size_t)(found - bytes) + 1;
        unsigned marker = bytes[at];
        if (marker == 0xff) /* fill byte */
            continue;
        at++;
        if (marker == MARKER_EOI)
            return true;
        if (marker == 0 || marker == MARKER_TEM || marker == MARKER_SOI ||
            (marker >= MARKER_RST0 && marker <= MARKER_RST7))
            continue;
        if (size - at < 2)
            return false;
        size_t length = get16(bytes + at);
        if (length > size - at)
            return false;
        at += length;
    }
    return false;
}

static int jpeg_header(struct ff_image_header *header, const uint8_t *bytes,
                       size_t size, bool to_end, struct ff_err *err)
{
    size_t at = 2;
    for (;;) {
        if (at + 4 > size)
            return ff_err_set(err, FF_EDATA,
                              "JPEG: cut short: %zu bytes end before the pixels", size);
        if (bytes[at] != 0xff)
            return ff_err_set(err, FF_EDATA, "JPEG: byte %zu is 0x%02x, no marker", at,
                              bytes[at]);
        unsigned marker = bytes[at + 1];
        if (marker == 0xff) { /* fill byte */
            at++;
            continue;
        }
        if (marker == MARKER_TEM || (marker >= MARKER_RST0 && marker <= MARKER_RST7)) {
            at += 2;
            continue;
        }
        if (marker == MARKER_EOI || marker == MARKER_SOI || marker == 0)
            return ff_err_set(err, FF_EDATA, "JPEG: holds no picture");
        size_t length = get16(bytes + at + 2);
        if (length < 2 || length > size - at - 2)
            return ff_err_set(err, FF_EDATA,
                              "JPEG: cut short: a segment of %zu bytes at byte %zu of "
                              "%zu",
                              length, at, size);
        if (is_frame(marker) && length >= FRAME_BYTES) {
            header->height_px = (int)get16(bytes + at + 5);
            header->width_px = (int)get16(bytes + at + 7);
            header->components = bytes[at + 9];
        }
        at += 2 + length;
        if (marker == MARKER_SOS)
            break;
    }
    if (header->width_px < 1 || header->height_px < 1)
        return ff_err_set(err, FF_EDATA, "JPEG: image of %d x %d px", header->width_px,
                          header->height_px);
    if (to_end && !has_end(bytes, size, at))
        return ff_err_set(err, FF_EDATA,
                          "JPEG: cut short: %zu bytes hold no end marker", size);
    return 0;
}

static int png_header(struct ff_image_header *header, const uint8_t *bytes, size_t size,
                      bool to_end, struct ff_err *err)
{
    size_t at = PNG_SIGNATURE_BYTES;
    for (bool first = true;; first = false) {
        if (size - at < PNG_CHUNK_EXTRA_BYTES)
            return ff_err_set(err, FF_EDATA,
                              "PNG: cut short: %zu bytes hold no IEND chunk", size);
        size_t length = get32(bytes + at);
        const uint8_t *type = bytes + at + 4;
        if (length > size - at - PNG_CHUNK_EXTRA_BYTES)
            return ff_err_set(err, FF_EDATA,
                              "PNG: cut short: a chunk of %zu bytes at byte %zu of %zu",
                              length, at, size);
        if (first) {
            if (memcmp(type, "IHDR", 4) != 0 || length != PNG_IHDR_BYTES)
                return ff_err_set(err, FF_EDATA, "PNG: does not begin with IHDR");
            uint32_t width = get32(type + 4), height = get32(type + 8);
            if (width < 1 || height < 1 || width > INT32_MAX || height > INT32_MAX)
                return ff_err_set(err, FF_EDATA, "PNG: image of %u x %u px", width,
                                  height);
            header->width_px = (int)width;
            header->height_px = (int)height;
            if (!to_end)
                return 0;
        }
        if (memcmp(type, "IEND", 4) == 0)
            return 0;
        at += PNG_CHUNK_EXTRA_BYTES + length;
    }
}

static int read_header(struct ff_image_header *header, const uint8_t *bytes,
                       size_t size, bool to_end, struct ff_err *err)
{
    *header = (struct ff_image_header){0};
    if (size >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        return jpeg_header(header, bytes, size, to_end, err);
    if (size >= PNG_SIGNATURE_BYTES && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        return png_header(header, bytes, size, to_end, err);
    return ff_err_set(err, FF_EDATA, "neither JPEG nor PNG: %zu bytes", size);
}

int ff_image_header(struct ff_image_header *header, const void *bytes, size_t size,
                    struct ff_err *err)
{
    return read_header(header, bytes, size, true, err);
}

int ff_image_size(struct ff_image_header *header, const void *bytes, size_t size,
                  struct ff_err *err)
{
    return read_header(header, bytes, size, false, err);
}
