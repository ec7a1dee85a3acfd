/* SPDX-License-Identifier: MIT */
/* Size and end of encoded images, without decoding. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <png.h>

#include "data_fixture.h"
#include "image_header.h"

TestSuite(image_header, .timeout = 20);

static int header_of(struct ff_image_header *header, const void *bytes, size_t size,
                     struct ff_err *err)
{
    /* An exact copy, so that a sanitizer sees overreads. */
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    int rc = ff_image_header(header, copy, size, err);
    free(copy);
    return rc;
}

static uint8_t *png_of(size_t *bytes, int width, int height)
{
    struct ff_image image = picture(width, height, 3);
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)width,
                     .height = (png_uint_32)height,
                     .format = PNG_FORMAT_RGB};
    png_alloc_size_t size = 1 << 16;
    uint8_t *out = malloc(size);
    cr_assert(
        eq(int, png_image_write_to_memory(&png, out, &size, 0, image.rgb, 0, NULL), 1));
    ff_image_fini(&image);
    *bytes = size;
    return out;
}

Test(image_header, tells_the_size)
{
    struct ff_image_header header;
    size_t bytes;
    uint8_t *jpeg = picture_jpeg(&bytes, 40, 24, 1);
    cr_assert(eq(int, header_of(&header, jpeg, bytes, NULL), 0));
    cr_assert(eq(int, header.width_px, 40));
    cr_assert(eq(int, header.height_px, 24));
    cr_assert(eq(int, header.components, 3));
    free(jpeg);
    uint8_t *png = png_of(&bytes, 17, 9);
    cr_assert(eq(int, header_of(&header, png, bytes, NULL), 0));
    cr_assert(eq(int, header.width_px, 17));
    cr_assert(eq(int, header.height_px, 9));
    cr_assert(eq(int, header.components, 0));
    free(png);
}

Test(image_header, every_cut_is_noticed)
{
    struct ff_image_header header;
    size_t bytes;
    uint8_t *jpeg = picture_jpeg(&bytes, 32, 32, 1);
    for (size_t cut = 0; cut < bytes; cut++)
        cr_assert(eq(int, header_of(&header, jpeg, cut, NULL), FF_EDATA), "%zu of %zu",
                  cut, bytes);
    free(jpeg);
    uint8_t *png = png_of(&bytes, 32, 32);
    for (size_t cut = 0; cut < bytes; cut++)
        cr_assert(eq(int, header_of(&header, png, cut, NULL), FF_EDATA), "%zu of %zu",
                  cut, bytes);
    free(png);
}

Test(image_header, bytes_behind_the_end_do_not_matter)
{
    struct ff_image_header header;
    size_t bytes;
    uint8_t *jpeg = picture_jpeg(&bytes, 32, 32, 1);
    jpeg = realloc(jpeg, bytes + 100);
    memset(jpeg + bytes, 0, 100);
    cr_assert(eq(int, header_of(&header, jpeg, bytes + 100, NULL), 0));
    /* Zeros over the end itself: what a broken copy leaves. */
    memset(jpeg + bytes - 40, 0, 40);
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, header_of(&header, jpeg, bytes + 100, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "hold no end marker"), NULL), "%s", err.text);
    free(jpeg);
}

Test(image_header, an_end_inside_a_thumbnail_does_not_count)
{
    /* An APP1 segment that holds a whole JPEG; the picture around it is cut. */
    struct ff_image_header header;
    size_t bytes;
    uint8_t *jpeg = picture_jpeg(&bytes, 16, 16, 1);
    uint8_t *outer = malloc(2 * bytes + 4);
    memcpy(outer, jpeg, 2);
    outer[2] = 0xff, outer[3] = 0xe1;
    outer[4] = (uint8_t)((bytes + 2) >> 8), outer[5] = (uint8_t)(bytes + 2);
    memcpy(outer + 6, jpeg, bytes);
    memcpy(outer + 6 + bytes, jpeg + 2, bytes - 2);
    size_t whole = 6 + bytes + bytes - 2;
    cr_assert(eq(int, header_of(&header, outer, whole, NULL), 0));
    cr_assert(eq(int, header_of(&header, outer, whole - 1, NULL), FF_EDATA));
    free(outer);
    free(jpeg);
}

Test(image_header, other_kinds_are_refused)
{
    struct ff_image_header header;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, header_of(&header, "GIF89a", 6, &err), FF_EDATA));
    cr_assert(eq(str, err.text, "neither JPEG nor PNG: 6 bytes"));
    cr_assert(eq(int, header_of(&header, "\xff\xd8\xff\xd9\0\0", 6, &err), FF_EDATA));
    cr_assert(eq(str, err.text, "JPEG: holds no picture"));
}
