/* SPDX-License-Identifier: MIT */
/* JPEG and PNG decoding, EXIF orientation, damage. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <png.h>

#include "data_fixture.h"
#include "exif.h"

static struct ff_decoder *decoder;

static void setup(void)
{
    cr_assert(eq(int, ff_decoder_create(&decoder, NULL), 0));
}

static void teardown(void)
{
    ff_decoder_destroy(decoder);
}

TestSuite(image, .init = setup, .fini = teardown, .timeout = 20);

static int largest_difference(const struct ff_image *a, const struct ff_image *b)
{
    int largest = 0;
    for (int i = 0; i < a->width_px * a->height_px * 3; i++) {
        int difference = abs(a->rgb[i] - b->rgb[i]);
        largest = difference > largest ? difference : largest;
    }
    return largest;
}

/* A PNG of pixels in one of libpng's simple formats; malloc'd. */
static uint8_t *make_png(size_t *bytes, const void *pixels, int width, int height,
                         png_uint_32 format)
{
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)width,
                     .height = (png_uint_32)height,
                     .format = format};
    png_alloc_size_t size = 1 << 16;
    uint8_t *out = malloc(size);
    cr_assert(
        eq(int, png_image_write_to_memory(&png, out, &size, 0, pixels, 0, NULL), 1));
    *bytes = size;
    return out;
}

/* The JPEG with an Exif APP1 segment put behind SOI; malloc'd. */
static uint8_t *with_orientation(size_t *bytes, const uint8_t *jpeg, size_t size,
                                 int orientation, bool big)
{
    uint8_t little_segment[] = {
        0xff, 0xe1, 0,    34, 'E', 'x', 'i', 'f', 0, 0, 'I', 'I', '*', 0, 8, 0, 0, 0,
        1,    0,    0x12, 1,  3,   0,   1,   0,   0, 0, 0,   0,   0,   0, 0, 0, 0, 0};
    uint8_t big_segment[] = {0xff, 0xe1, 0, 34, 'E', 'x', 'i', 'f', 0, 0,    'M', 'M',
                             0,    '*',  0, 0,  0,   8,   0,   1,   1, 0x12, 0,   3,
                             0,    0,    0, 1,  0,   0,   0,   0,   0, 0,    0,   0};
    little_segment[28] = (uint8_t)orientation;
    big_segment[29] = (uint8_t)orientation;
    const size_t segment_bytes = sizeof little_segment;
    uint8_t *out = malloc(size + segment_bytes);
    memcpy(out, jpeg, 2);
    memcpy(out + 2, big ? big_segment : little_segment, segment_bytes);
    memcpy(out + 2 + segment_bytes, jpeg + 2, size - 2);
    *bytes = size + segment_bytes;
    return out;
}

Test(image, jpeg_round_trip_keeps_the_picture)
{
    struct ff_image original = picture(40, 24, 7), decoded = {0};
    for (int chroma_420 = 0; chroma_420 < 2; chroma_420++) {
        uint8_t *jpeg = NULL;
        size_t bytes;
        cr_assert(
            eq(int, ff_encode_jpeg(&jpeg, &bytes, &original, 95, chroma_420, NULL), 0));
        cr_assert(eq(int, ff_decode(&decoded, decoder, jpeg, bytes, true, NULL), 0));
        cr_assert(eq(int, decoded.width_px, 40));
        cr_assert(eq(int, decoded.height_px, 24));
        cr_assert(
            le(int, largest_difference(&original, &decoded), chroma_420 ? 12 : 6));
        free(jpeg);
    }
    ff_image_fini(&original);
    ff_image_fini(&decoded);
}

Test(image, png_is_exact)
{
    struct ff_image original = picture(17, 9, 3), decoded = {0};
    size_t bytes;
    uint8_t *png = make_png(&bytes, original.rgb, 17, 9, PNG_FORMAT_RGB);
    cr_assert(eq(int, ff_decode(&decoded, decoder, png, bytes, false, NULL), 0));
    cr_assert(eq(int, decoded.width_px, 17));
    cr_assert(eq(int, decoded.height_px, 9));
    cr_assert(eq(int, largest_difference(&original, &decoded), 0));
    free(png);
    ff_image_fini(&original);
    ff_image_fini(&decoded);
}

Test(image, png_alpha_is_dropped_and_grey_spread)
{
    const uint8_t rgba[8] = {10, 20, 30, 0, 40, 50, 60, 128}, grey[2] = {5, 250};
    struct ff_image decoded = {0};
    size_t bytes;
    uint8_t *png = make_png(&bytes, rgba, 2, 1, PNG_FORMAT_RGBA);
    cr_assert(eq(int, ff_decode(&decoded, decoder, png, bytes, false, NULL), 0));
    cr_assert(eq(int, memcmp(decoded.rgb, (uint8_t[]){10, 20, 30, 40, 50, 60}, 6), 0));
    free(png);
    png = make_png(&bytes, grey, 2, 1, PNG_FORMAT_GRAY);
    cr_assert(eq(int, ff_decode(&decoded, decoder, png, bytes, false, NULL), 0));
    cr_assert(eq(int, memcmp(decoded.rgb, (uint8_t[]){5, 5, 5, 250, 250, 250}, 6), 0));
    free(png);
    ff_image_fini(&decoded);
}

/* Where pixel (x, y) of the upright picture lies in the stored one, by the standard's
 * names of the row and column that come first. */
static void stored_place(int *sx, int *sy, int x, int y, int width, int height,
                         int orientation)
{
    switch (orientation) {
    case 2: *sx = width - 1 - x, *sy = y; break;              /* mirrored */
    case 3: *sx = width - 1 - x, *sy = height - 1 - y; break; /* upside down */
    case 4: *sx = x, *sy = height - 1 - y; break;             /* flipped */
    case 5: *sx = y, *sy = x; break;                          /* transposed */
    case 6: *sx = y, *sy = width - 1 - x; break; /* needs 90 degrees clockwise */
    case 7: *sx = height - 1 - y, *sy = width - 1 - x; break; /* transversed */
    case 8: *sx = height - 1 - y, *sy = x; break;             /* needs 270 */
    default: *sx = x, *sy = y; break;
    }
}

Test(image, exif_orientation_turns_the_picture)
{
    size_t plain_bytes;
    uint8_t *plain = picture_jpeg(&plain_bytes, 24, 16, 9);
    struct ff_image stored = {0}, upright = {0};
    cr_assert(eq(int, ff_decode(&stored, decoder, plain, plain_bytes, true, NULL), 0));
    for (int orientation = 1; orientation <= 8; orientation++) {
        size_t bytes;
        uint8_t *jpeg =
            with_orientation(&bytes, plain, plain_bytes, orientation, orientation % 2);
        cr_assert(eq(int, ff_exif_orientation(jpeg, bytes), orientation));
        cr_assert(eq(int, ff_decode(&upright, decoder, jpeg, bytes, true, NULL), 0));
        int width = orientation >= 5 ? 16 : 24, height = orientation >= 5 ? 24 : 16;
        cr_assert(eq(int, upright.width_px, width));
        cr_assert(eq(int, upright.height_px, height));
        for (int y = 0; y < height; y++) {
            for (int x = 0; x < width; x++) {
                int sx, sy;
                stored_place(&sx, &sy, x, y, width, height, orientation);
                cr_assert(eq(int,
                             memcmp(upright.rgb + (y * width + x) * 3,
                                    stored.rgb + (sy * 24 + sx) * 3, 3),
                             0),
                          "orientation %d at (%d, %d)", orientation, x, y);
            }
        }
        cr_assert(eq(int, ff_decode(&upright, decoder, jpeg, bytes, false, NULL), 0));
        cr_assert(eq(int, upright.width_px, 24));
        cr_assert(eq(int, largest_difference(&upright, &stored), 0));
        ff_exif_reset_orientation(jpeg, bytes);
        cr_assert(eq(int, ff_exif_orientation(jpeg, bytes), 1));
        free(jpeg);
    }
    free(plain);
    ff_image_fini(&stored);
    ff_image_fini(&upright);
}

Test(image, cut_exif_data_is_upright)
{
    size_t plain_bytes, bytes;
    uint8_t *plain = picture_jpeg(&plain_bytes, 16, 16, 1);
    uint8_t *jpeg = with_orientation(&bytes, plain, plain_bytes, 6, false);
    for (size_t size = 0; size < 2 + 36; size++) {
        uint8_t *cut =
            malloc(size ? size : 1); /* exact, so that a sanitizer sees overreads */
        memcpy(cut, jpeg, size);
        cr_assert(eq(int, ff_exif_orientation(cut, size), 1));
        free(cut);
    }
    free(plain);
    free(jpeg);
}

Test(image, damage_is_reported)
{
    struct ff_image decoded = {0}, original = picture(32, 32, 2);
    struct ff_err err = FF_ERR_INIT;
    size_t bytes;
    uint8_t *jpeg = picture_jpeg(&bytes, 32, 32, 2);
    cr_assert(eq(int, ff_decode(&decoded, decoder, jpeg, bytes * 2 / 3, false, &err),
                 FF_EDATA));
    cr_assert(eq(int, strncmp(err.text, "JPEG: ", 6), 0));
    free(jpeg);
    uint8_t *png = make_png(&bytes, original.rgb, 32, 32, PNG_FORMAT_RGB);
    cr_assert(
        eq(int, ff_decode(&decoded, decoder, png, bytes - 30, false, &err), FF_EDATA));
    cr_assert(eq(str, err.text, "PNG: cut short"));
    png[bytes / 2] ^= 0x55;
    cr_assert(eq(int, ff_decode(&decoded, decoder, png, bytes, false, &err), FF_EDATA));
    free(png);
    cr_assert(
        eq(int, ff_decode(&decoded, decoder, "GIF89a", 6, false, &err), FF_EDATA));
    cr_assert(eq(str, err.text,
                 "neither JPEG nor PNG: 6 bytes, beginning with 47 49 46 38 39 61"));
    cr_assert(eq(int, ff_decode(&decoded, decoder, "", 0, false, &err), FF_EDATA));
    ff_image_fini(&original);
    ff_image_fini(&decoded);
}

Test(image, damage_does_not_spoil_the_next_picture)
{
    struct ff_image decoded = {0};
    size_t bytes;
    uint8_t *jpeg = picture_jpeg(&bytes, 32, 32, 2);
    for (size_t cut = 3; cut < bytes; cut += 17) {
        cr_assert(
            eq(int, ff_decode(&decoded, decoder, jpeg, cut, false, NULL), FF_EDATA));
        cr_assert(eq(int, ff_decode(&decoded, decoder, jpeg, bytes, false, NULL), 0),
                  "after %zu of %zu bytes", cut, bytes);
    }
    free(jpeg);
    ff_image_fini(&decoded);
}

Test(image, square_decode_refuses_another_size)
{
    uint8_t rgb[16 * 16 * 3];
    struct ff_err err = FF_ERR_INIT;
    size_t bytes;
    uint8_t *jpeg = picture_jpeg(&bytes, 24, 16, 2);
    cr_assert(eq(int, ff_decode_square(rgb, 16, decoder, jpeg, bytes, false, &err),
                 FF_EDATA));
    cr_assert(eq(str, err.text, "image is 24 x 16 px, 16 x 16 expected"));
    free(jpeg);
    jpeg = picture_jpeg(&bytes, 16, 16, 2);
    struct ff_image decoded = {0};
    cr_assert(eq(int, ff_decode(&decoded, decoder, jpeg, bytes, false, NULL), 0));
    cr_assert(eq(int, ff_decode_square(rgb, 16, decoder, jpeg, bytes, false, NULL), 0));
    cr_assert(eq(int, memcmp(rgb, decoded.rgb, sizeof rgb), 0));
    ff_image_fini(&decoded);
    free(jpeg);
}
