/* SPDX-License-Identifier: MIT */
/* JPEG and PNG to RGB and back.
 *
 * The kind is told by the first bytes, never by a file name. JPEG takes the accurate
 * integer DCT and the library's default upsampling; PNG is brought to 8-bit RGB as
 * OpenCV and PIL do: palette and grey expanded, the low byte of 16 bits and alpha
 * dropped, no gamma. Orientation is the JPEG's alone. An oriented picture is decoded
 * into the decoder's scratch buffer and turned from there; every other one goes
 * straight to its place. */
#include "image.h"

#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <turbojpeg.h>

#include "exif.h"
#include "image_header.h"

/* Larger is taken for damage: 2^27 px are 400 MB of RGB. */
#define MAX_PIXELS ((int64_t)1 << 27)

struct ff_decoder {
    tjhandle turbo;
    uint8_t *scratch; /* (height, width, 3) u8 of a picture still to be turned */
    size_t scratch_bytes;
};

int ff_decoder_create(struct ff_decoder **out, struct ff_err *err)
{
    struct ff_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder)
        return ff_err_set(err, FF_ENOMEM, "out of memory for an image decoder");
    decoder->turbo = tjInitDecompress();
    if (!decoder->turbo) {
        free(decoder);
        return ff_err_set(err, FF_ENOMEM, "TurboJPEG: %s", tjGetErrorStr2(NULL));
    }
    *out = decoder;
    return 0;
}

void ff_decoder_destroy(struct ff_decoder *decoder)
{
    if (!decoder)
        return;
    tjDestroy(decoder->turbo);
    free(decoder->scratch);
    free(decoder);
}

void ff_image_fini(struct ff_image *image)
{
    free(image->rgb);
    *image = (struct ff_image){0};
}

static int check_size(int width, int height, struct ff_err *err)
{
    if (width < 1 || height < 1 || (int64_t)width * height > MAX_PIXELS)
        return ff_err_set(err, FF_EDATA, "image of %d x %d px", width, height);
    return 0;
}

/* Where the pixels go: a fixed square, or an image grown to fit. */
struct target {
    struct ff_image *image; /* NULL: the square */
    uint8_t *square;        /* (side, side, 3) u8 */
    int side_px;
};

/* Room for width x height px of the finished picture. */
static int target_reserve(uint8_t **rgb, struct target *target, int width, int height,
                          struct ff_err *err)
{
    if (!target->image) {
        if (width != target->side_px || height != target->side_px)
            return ff_err_set(err, FF_EDATA, "image is %d x %d px, %d x %d expected",
                              width, height, target->side_px, target->side_px);
        *rgb = target->square;
        return 0;
    }
    uint8_t *grown = realloc(target->image->rgb, (size_t)width * height * 3);
    if (!grown)
        return ff_err_set(err, FF_ENOMEM, "out of memory for an image of %d x %d px",
                          width, height);
    *target->image = (struct ff_image){width, height, grown};
    *rgb = grown;
    return 0;
}

/* dst (dst_height, dst_width, 3) from src turned by an EXIF orientation 2 .. 8: a
 * source step for a step right and one for a step down cover all of them. */
static void orient(uint8_t *dst, const uint8_t *src, int src_width, int src_height,
                   int orientation)
{
    ptrdiff_t px = 3, row = 3 * (ptrdiff_t)src_width;
    ptrdiff_t last_x = px * (src_width - 1), last_y = row * (src_height - 1);
    ptrdiff_t start = 0, right = px, down = row;
    switch (orientation) {
    case 2: start = last_x, right = -px; break;
    case 3: start = last_x + last_y, right = -px, down = -row; break;
    case 4: start = last_y, down = -row; break;
    case 5: right = row, down = px; break;
    case 6: start = last_y, right = -row, down = px; break;
    case 7: start = last_x + last_y, right = -row, down = -px; break;
    case 8: start = last_x, right = row, down = -px; break;
    default: break;
    }
    bool turned = orientation >= 5;
    int width = turned ? src_height : src_width,
        height = turned ? src_width : src_height;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++, dst += 3)
            memcpy(dst, src + start + y * down + x * right, 3);
    }
}

/* Reports the library's message and renews the handle: after a failed call the old one
 * may still be in the middle of its picture and refuse the next, good one. */
static int jpeg_failed(struct ff_decoder *decoder, struct ff_err *err)
{
    ff_err_set(err, FF_EDATA, "JPEG: %s", tjGetErrorStr2(decoder->turbo));
    tjhandle fresh = tjInitDecompress();
    if (!fresh)
        return ff_err_set(err, FF_ENOMEM, "TurboJPEG: %s", tjGetErrorStr2(NULL));
    tjDestroy(decoder->turbo);
    decoder->turbo = fresh;
    return FF_EDATA;
}

static int decode_jpeg(struct target *target, struct ff_decoder *decoder,
                       const uint8_t *bytes, size_t size, bool apply_exif,
                       struct ff_err *err)
{
    /* The library reads the tables of a JPEG again for each of its calls, so it is only
     * asked for a header that we cannot follow: then for its verdict. */
    struct ff_image_header header;
    if (ff_image_size(&header, bytes, size, NULL)) {
        int subsampling = 0, colorspace = 0;
        if (tjDecompressHeader3(decoder->turbo, bytes, size, &header.width_px,
                                &header.height_px, &subsampling, &colorspace))
            return jpeg_failed(decoder, err);
        header.components = colorspace == TJCS_CMYK || colorspace == TJCS_YCCK ? 4 : 3;
    }
    int width = header.width_px, height = header.height_px;
    if (header.components == 4)
        return ff_err_set(err, FF_EDATA, "JPEG in CMYK colours; RGB or grey is needed");
    int rc = check_size(width, height, err);
    if (rc)
        return rc;
    int orientation = apply_exif ? ff_exif_orientation(bytes, size) : 1;
    bool turned = orientation >= 5;
    uint8_t *rgb = NULL;
    rc = target_reserve(&rgb, target, turned ? height : width, turned ? width : height,
                        err);
    if (rc)
        return rc;
    uint8_t *pixels = rgb;
    if (orientation != 1) {
        size_t need = (size_t)width * height * 3;
        if (need > decoder->scratch_bytes) {
            uint8_t *grown = realloc(decoder->scratch, need);
            if (!grown)
                return ff_err_set(err, FF_ENOMEM,
                                  "out of memory for an image of %d x %d px", width,
                                  height);
            decoder->scratch = grown;
            decoder->scratch_bytes = need;
        }
        pixels = decoder->scratch;
    }
    if (tjDecompress2(decoder->turbo, bytes, size, pixels, width, 0, height, TJPF_RGB,
                      TJFLAG_ACCURATEDCT))
        return jpeg_failed(decoder, err);
    if (orientation != 1)
        orient(rgb, pixels, width, height, orientation);
    return 0;
}

/* State of one PNG read, reached from the library's callbacks. */
struct png_source {
    const uint8_t *bytes;
    size_t size, at;
    char message[160];
    jmp_buf failed;
};

static void png_fail(png_structp png, png_const_charp message)
{
    struct png_source *source = png_get_error_ptr(png);
    strncpy(source->message, message, sizeof source->message - 1);
    longjmp(source->failed, 1);
}

static void png_pass_over(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message;
}

static void png_take(png_structp png, png_bytep out, size_t count)
{
    struct png_source *source = png_get_io_ptr(png);
    if (count > source->size - source->at)
        png_error(png, "cut short");
    memcpy(out, source->bytes + source->at, count);
    source->at += count;
}

/* All that may longjmp; nothing is acquired here but inside `png` and the target. */
static int read_png(struct target *target, png_structp png, png_infop info,
                    struct png_source *source, struct ff_err *err)
{
    if (setjmp(source->failed))
        return ff_err_set(err, FF_EDATA, "PNG: %s", source->message);
    png_set_read_fn(png, source, png_take);
    png_read_info(png, info);
    png_uint_32 width = png_get_image_width(png, info);
    png_uint_32 height = png_get_image_height(png, info);
    int rc = check_size((int)width, (int)height, err);
    if (rc)
        return rc;
    png_set_expand(png);
    png_set_strip_16(png);
    png_set_strip_alpha(png);
    png_set_gray_to_rgb(png);
    int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    size_t stride = (size_t)width * 3;
    if (png_get_rowbytes(png, info) != stride)
        png_error(png, "pixel format is not RGB");
    uint8_t *rgb = NULL;
    rc = target_reserve(&rgb, target, (int)width, (int)height, err);
    if (rc)
        return rc;
    for (int pass = 0; pass < passes; pass++) {
        for (png_uint_32 y = 0; y < height; y++)
            png_read_row(png, rgb + y * stride, NULL);
    }
    png_read_end(png, NULL);
    return 0;
}

static int decode_png(struct target *target, const uint8_t *bytes, size_t size,
                      struct ff_err *err)
{
    struct png_source source = {.bytes = bytes, .size = size};
    png_structp png =
        png_create_read_struct(PNG_LIBPNG_VER_STRING, &source, png_fail, png_pass_over);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    int rc = info ? read_png(target, png, info, &source, err)
                  : ff_err_set(err, FF_ENOMEM, "out of memory for a PNG decoder");
    if (png)
        png_destroy_read_struct(&png, info ? &info : NULL, NULL);
    return rc;
}

static int decode(struct target *target, struct ff_decoder *decoder,
                  const uint8_t *bytes, size_t size, bool apply_exif,
                  struct ff_err *err)
{
    if (size >= 3 && memcmp(bytes, "\xff\xd8\xff", 3) == 0)
        return decode_jpeg(target, decoder, bytes, size, apply_exif, err);
    if (size >= 8 && memcmp(bytes, "\x89PNG\r\n\x1a\n", 8) == 0)
        return decode_png(target, bytes, size, err);
    char found[3 * 8 + 1] = "";
    for (size_t i = 0; i < size && i < 8; i++)
        snprintf(found + 3 * i, sizeof found - 3 * i, " %02x", bytes[i]);
    return ff_err_set(err, FF_EDATA,
                      "neither JPEG nor PNG: %zu bytes, beginning with%s", size,
                      size ? found : " nothing");
}

int ff_decode(struct ff_image *image, struct ff_decoder *decoder, const void *bytes,
              size_t size, bool apply_exif, struct ff_err *err)
{
    struct target target = {.image = image};
    return decode(&target, decoder, bytes, size, apply_exif, err);
}

int ff_decode_square(uint8_t *rgb, int side_px, struct ff_decoder *decoder,
                     const void *bytes, size_t size, bool apply_exif,
                     struct ff_err *err)
{
    struct target target = {.square = rgb, .side_px = side_px};
    return decode(&target, decoder, bytes, size, apply_exif, err);
}

int ff_encode_jpeg(uint8_t **jpeg, size_t *size, const struct ff_image *image,
                   int quality, bool chroma_420, struct ff_err *err)
{
    int rc = 0, subsampling = chroma_420 ? TJSAMP_420 : TJSAMP_444;
    unsigned long written = tjBufSize(image->width_px, image->height_px, subsampling);
    uint8_t *buffer = malloc(written);
    tjhandle turbo = tjInitCompress();
    if (!buffer || !turbo) {
        rc = ff_err_set(err, FF_ENOMEM, "out of memory to write a JPEG");
        goto done;
    }
    if (tjCompress2(turbo, image->rgb, image->width_px, 0, image->height_px, TJPF_RGB,
                    &buffer, &written, subsampling, quality,
                    TJFLAG_NOREALLOC | TJFLAG_ACCURATEDCT)) {
        rc = ff_err_set(err, FF_EFAIL, "JPEG of %d x %d px: %s", image->width_px,
                        image->height_px, tjGetErrorStr2(turbo));
        goto done;
    }
    uint8_t *fitted = realloc(buffer, written);
    *jpeg = fitted ? fitted : buffer;
    *size = written;
    buffer = NULL;
done:
    if (turbo)
        tjDestroy(turbo);
    free(buffer);
    return rc;
}
