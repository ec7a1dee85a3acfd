/* SPDX-License-Identifier: MIT */
/* Figures to files; see figure.h. */
#include "figure.h"

#include <cairo-svg.h>
#include <math.h>
#include <unistd.h>

#include "atomic_file.h"

int ff_figure_write(const char *path, bool png, double width, double height,
                    double scale, ff_figure_paint *paint, const void *what,
                    struct ff_err *err)
{
    char target[FF_PATH_MAX], temporary[FF_PATH_MAX];
    int rc = ff_atomic_names(target, temporary, path, err);
    if (rc)
        return rc;
    cairo_surface_t *surface =
        png ? cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)ceil(scale * width),
                                         (int)ceil(scale * height))
            : cairo_svg_surface_create(temporary, width, height);
    cairo_t *cr = cairo_create(surface);
    if (png)
        cairo_scale(cr, scale, scale);
    paint(cr, what);
    cairo_status_t status = cairo_status(cr);
    cairo_destroy(cr);
    if (status == CAIRO_STATUS_SUCCESS && png)
        status = cairo_surface_write_to_png(surface, temporary);
    cairo_surface_finish(surface);
    if (status == CAIRO_STATUS_SUCCESS)
        status = cairo_surface_status(surface);
    cairo_surface_destroy(surface);
    rc = status == CAIRO_STATUS_SUCCESS
             ? ff_atomic_rename(temporary, target, err)
             : ff_err_set(err, status == CAIRO_STATUS_NO_MEMORY ? FF_ENOMEM : FF_EFAIL,
                          "%s: cannot draw: %s", path, cairo_status_to_string(status));
    if (rc)
        unlink(temporary);
    return rc;
}
