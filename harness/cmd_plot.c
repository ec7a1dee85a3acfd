/* SPDX-License-Identifier: MIT */
/* ff-grid plot: makes heatmap.h5, the pictures and the report anew from what lies in a
 * sweep directory. */
#include <unistd.h>

#include "atomic_file.h"
#include "cmd.h"
#include "curves.h"
#include "heatmap.h"
#include "log.h"

/* curve.png in every run directory that has a curve.csv of some length. */
static void draw_curves(const struct ff_sweep_view *view)
{
    for (int64_t i = 0; i < view->grid->cell_count; i++) {
        const struct ff_cell *cell = &view->grid->cells[i];
        char png[FF_PATH_MAX], csv[FF_PATH_MAX], label[512];
        struct ff_err minor = FF_ERR_INIT;
        if (ff_path(csv, NULL, "%s/cells/%s/curve.csv", view->dir, cell->train_key) ||
            ff_path(png, NULL, "%s/cells/%s/curve.png", view->dir, cell->train_key) ||
            access(csv, R_OK) != 0)
            continue;
        ff_grid_cell_label(label, sizeof label, view->grid, cell);
        if (ff_curves_draw(png, NULL, csv, label, cell->params.lambda, &minor))
            ff_verbose("%s", minor.text);
    }
}

int ff_cmd_plot(int argc, char **argv)
{
    const struct ff_cli cli = {
        "ff-grid plot",
        "DIR",
        "Rebuilds heatmap.h5, heatmap.png, heatmap.svg and report.html in DIR from the "
        "event log and the run directories, and draws each run's curve.png.",
        "  ff-grid plot results/lambda_tau\n",
        NULL,
        0};
    struct ff_err err = FF_ERR_INIT;
    struct ff_sweep_view view;
    int exit_code;
    if (!ff_cmd_load_view(&view, &exit_code, &cli, argc, argv))
        return exit_code;
    int rc = ff_cmd_publish(NULL, &view, &err);
    if (!rc) {
        draw_curves(&view);
        ff_heatmap_print(stdout, view.grid, view.results,
                         (size_t)view.grid->cell_count);
        printf("%s/heatmap.h5 heatmap.png heatmap.svg report.html\n", view.dir);
    }
    ff_sweep_view_fini(&view);
    return rc ? ff_cmd_fail(&err) : FF_EXIT_OK;
}
