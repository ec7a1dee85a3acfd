/* SPDX-License-Identifier: MIT */
/* Contact sheet of a synthetic training set: what the JPEG files decode to, a row a
 * person, a column a picture, as PNG by cairo. */
#include <cairo.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "atomic_file.h"
#include "params.h"
#include "synth_set.h"

static int draw_sheet(cairo_surface_t *surface, int rows, int columns,
                      const struct ff_synth_options *o, struct ff_err *err)
{
    const int side = (int)o->image_size;
    struct ff_decoder *decoder = NULL;
    struct ff_image image = {0};
    struct ff_synth_item *items = calloc((size_t)rows * (size_t)columns, sizeof *items);
    if (!items)
        return ff_err_set(err, FF_ENOMEM, "no memory for a sheet of %d x %d pictures",
                          rows, columns);
    for (int i = 0; i < rows * columns; i++) {
        items[i].id = (uint64_t)(i / columns);
        items[i].medium = (uint64_t)(i % columns);
        ff_face_crop_aligned(&items[i].crop, side);
    }
    int code = ff_synth_make(items, rows * columns, o,
                             o->threads ? (int)o->threads : ff_cpu_count(), err);
    if (!code)
        code = ff_decoder_create(&decoder, err);
    unsigned char *data = cairo_image_surface_get_data(surface);
    const int stride = cairo_image_surface_get_stride(surface);
    for (int i = 0; !code && i < rows * columns; i++) {
        code =
            ff_decode(&image, decoder, items[i].jpeg, items[i].jpeg_bytes, false, err);
        for (int y = 0; !code && y < side; y++) {
            uint32_t *line =
                (uint32_t *)(void *)(data +
                                     (int64_t)(i / columns * side + y) * stride) +
                i % columns * side;
            for (int x = 0; x < side; x++) {
                const uint8_t *p = image.rgb + 3 * (y * side + x);
                line[x] = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2];
            }
        }
    }
    ff_decoder_destroy(decoder);
    ff_image_fini(&image);
    for (int i = 0; i < rows * columns; i++)
        free(items[i].jpeg);
    free(items);
    return code;
}

int ff_synth_sheet(const char *path, int rows, int columns,
                   const struct ff_synth_options *options, struct ff_err *err)
{
    char target[FF_PATH_MAX], temporary[FF_PATH_MAX];
    const int side = (int)options->image_size;
    int code = ff_atomic_names(target, temporary, path, err);
    if (code)
        return code;
    cairo_surface_t *surface =
        cairo_image_surface_create(CAIRO_FORMAT_RGB24, columns * side, rows * side);
    cairo_status_t status = cairo_surface_status(surface);
    if (status == CAIRO_STATUS_SUCCESS) {
        code = draw_sheet(surface, rows, columns, options, err);
        cairo_surface_mark_dirty(surface);
        if (!code)
            status = cairo_surface_write_to_png(surface, temporary);
    }
    cairo_surface_destroy(surface);
    if (status != CAIRO_STATUS_SUCCESS)
        code = ff_err_set(err, FF_EFAIL, "%s: cannot write the sheet: %s", path,
                          cairo_status_to_string(status));
    if (!code)
        code = ff_atomic_rename(temporary, target, err);
    if (code)
        unlink(temporary);
    return code;
}
