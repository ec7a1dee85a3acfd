/* SPDX-License-Identifier: MIT */
/* Pictures of curve.csv: drawn, and what bad files get. */
#include <cairo.h>
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "curves.h"

struct place {
    char dir[64], csv[96], png[96], svg[96];
};

static void open_place(struct place *p)
{
    strcpy(p->dir, "/tmp/ff-curves-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(p->dir), NULL));
    snprintf(p->csv, sizeof p->csv, "%s/curve.csv", p->dir);
    snprintf(p->png, sizeof p->png, "%s/curve.png", p->dir);
    snprintf(p->svg, sizeof p->svg, "%s/curve.svg", p->dir);
}

static void write_text(const struct place *p, const char *text)
{
    FILE *f = fopen(p->csv, "w");
    cr_assert(ne(ptr, f, NULL));
    fputs(text, f);
    fclose(f);
}

/* Dashes of a vertical line where the learning rate changes half way. */
static int grey_pixels_half_way(const char *png)
{
    cairo_surface_t *surface = cairo_image_surface_create_from_png(png);
    cr_assert(eq(int, cairo_surface_status(surface), CAIRO_STATUS_SUCCESS));
    int stride = cairo_image_surface_get_stride(surface), count = 0;
    const unsigned char *data = cairo_image_surface_get_data(surface);
    for (int y = 80; y < 330; y++) /* the panel of the loss */
        for (int x = 608; x <= 624; x++) {
            const unsigned char *pixel = data + (size_t)y * (size_t)stride + 4 * x;
            if (pixel[0] < 200 && pixel[0] == pixel[1] && pixel[1] == pixel[2]) {
                count++;
                break;
            }
        }
    cairo_surface_destroy(surface);
    return count;
}

Test(curves, draws_long_runs_with_nan_and_marks_changes)
{
    struct place p;
    struct ff_err err = FF_ERR_INIT;
    open_place(&p);
    for (int changing = 0; changing < 2; changing++) {
        FILE *f = fopen(p.csv, "w");
        cr_assert(ne(ptr, f, NULL));
        fprintf(f, "lr,iteration,epoch,slope,loss\n");
        for (int t = 0; t < 5000; t++)
            fprintf(f, "%g,%d,0,%g,%s\n", changing && t >= 2500 ? 0.01 : 0.02, t,
                    1e-3 * sin(t * 0.01), t == 4000 ? "nan" : "3.5");
        fprintf(f, "0.01,50"); /* torn last line */
        fclose(f);
        int rc = ff_curves_draw(p.png, p.svg, p.csv, "tau=0.05", 1e-4, &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        int grey = grey_pixels_half_way(p.png);
        if (changing)
            cr_assert(lt(int, 60, grey));
        else
            cr_assert(lt(int, grey, 10));
    }
    cr_assert(eq(int, access(p.svg, R_OK), 0));
    ff_remove_tree(p.dir, NULL);
}

Test(curves, names_what_is_wrong_with_a_file)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "curve.csv: empty"},
        {"iteration,loss,lr\n", "curve.csv:1: no column slope"},
        {"iteration,loss,lr,slope\n0,1,0.1,0\n1,oops,0.1,0\n",
         "curve.csv:3: no number in column loss"},
        {"iteration,loss,lr,slope\n0,1,0.1\n",
         "curve.csv:2: no number in column slope"},
        {"iteration,loss,lr,slope\n0,1,0.1,0\n", "curve.csv: 1 iterations"},
    };
    struct place p;
    open_place(&p);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ff_err err = FF_ERR_INIT;
        write_text(&p, cases[i].text);
        int rc = ff_curves_draw(p.png, p.svg, p.csv, "x", NAN, &err);
        cr_assert(eq(int, rc, FF_EDATA), "%s", cases[i].message);
        cr_assert(ne(ptr, strstr(err.text, cases[i].message), NULL), "%s", err.text);
        cr_assert(ne(int, access(p.png, F_OK), 0));
    }
    ff_remove_tree(p.dir, NULL);
}
