/* SPDX-License-Identifier: MIT */
/* ff-grid export: the cells of a sweep as CSV, one line a cell, unknown fields empty.
 */
#include <math.h>
#include <string.h>

#include "atomic_file.h"
#include "cmd.h"

static void write_number(FILE *f, double value, const char *fmt)
{
    fputc(',', f);
    if (!isnan(value))
        fprintf(f, fmt, value);
}

/* A field, quoted where CSV needs it. */
static void write_text(FILE *f, const char *text)
{
    bool plain = !strpbrk(text, ",\"\n\r");
    if (!plain)
        fputc('"', f);
    for (; *text; text++) {
        if (*text == '"')
            fputc('"', f);
        fputc(*text, f);
    }
    if (!plain)
        fputc('"', f);
}

static void write_header(FILE *f, const struct ff_grid *grid)
{
    for (int a = 0; a < grid->axis_count; a++)
        fprintf(f, "%s,", grid->axes[a].param->name);
    fprintf(f, "seed,status,metric");
    for (int e = 0; e < grid->eval_count; e++) {
        for (int k = 0; k < grid->evals[e].bin_count; k++)
            fprintf(f, ",accuracy_%s", grid->evals[e].bins[k].name);
        if (grid->evals[e].bin_count)
            continue;
        for (int k = 0; k < FF_FAR_COUNT; k++)
            fprintf(f, ",tar_%s@%.0e", grid->evals[e].name, ff_fars[k]);
        for (int k = 0; k < FF_FAR_COUNT; k++)
            fprintf(f, ",tar_compat_%s@%.0e", grid->evals[e].name, ff_fars[k]);
    }
    fprintf(f, ",iteration,final_loss,seconds,samples_per_second,drop_iterations,"
               "bit_equal,backend,device,train_key");
    for (int e = 0; e < grid->eval_count; e++)
        fprintf(f, ",eval_key_%s", grid->evals[e].name);
    fprintf(f, ",reason\n");
}

static void write_cell(FILE *f, const struct ff_sweep_view *view, int index)
{
    const struct ff_grid *grid = view->grid;
    const struct ff_cell *cell = &grid->cells[index];
    const struct ff_cell_result *result = &view->results[index];
    for (int a = 0; a < grid->axis_count; a++) {
        write_text(f, grid->axes[a].texts[cell->at[a]]);
        fputc(',', f);
    }
    fprintf(f, "%lld,%s", (long long)grid->seeds[cell->seed_index],
            ff_cell_status_names[result->status]);
    write_number(f, ff_cell_result_metric(grid, result), "%.6f");
    for (int e = 0; e < grid->eval_count; e++) {
        for (int k = 0; k < grid->evals[e].bin_count; k++)
            write_number(f, result->evals[e].accuracy[k], "%.6f");
        if (grid->evals[e].bin_count)
            continue;
        for (int k = 0; k < FF_FAR_COUNT; k++)
            write_number(f, result->evals[e].tar[k], "%.6f");
        for (int k = 0; k < FF_FAR_COUNT; k++)
            write_number(f, result->evals[e].compat[k], "%.6f");
    }
    fputc(',', f);
    if (result->iteration >= 0)
        fprintf(f, "%lld", (long long)ff_cell_result_iterations(result));
    write_number(f, result->final_loss, "%.9g");
    write_number(f, result->seconds, "%.3f");
    write_number(f, result->samples_per_second, "%.3f");
    fputc(',', f);
    for (int d = 0; d < result->drop_count; d++)
        fprintf(f, "%s%lld", d ? " " : "", (long long)result->drops[d]);
    fprintf(f, result->trained ? ",%d," : ",,", result->bit_equal);
    write_text(f, result->backend);
    fputc(',', f);
    write_text(f, result->device);
    fprintf(f, ",%s", result->train_key);
    for (int e = 0; e < grid->eval_count; e++)
        fprintf(f, ",%s", result->evals[e].eval_key);
    fputc(',', f);
    write_text(f, result->reason);
    fputc('\n', f);
}

int ff_cmd_export(int argc, char **argv)
{
    const char *out = NULL;
    const struct ff_opt options[] = {
        {"--out", "FILE.csv", FF_OPT_TEXT, &out, "write there instead of to stdout", 0,
         0},
    };
    const struct ff_cli cli = {
        "ff-grid export",
        "DIR [options]",
        "Writes the cells of the sweep in DIR as CSV, one line a cell and seed; a "
        "field "
        "that is not known is empty. iteration counts the iterations that were run, of "
        "T in a cell that is done; drop_iterations are the first with a changed "
        "learning rate, counted from 0; bit_equal is 0 where a resume changed its "
        "choices.",
        "  ff-grid export results/lambda_tau > lambda_tau.csv\n",
        options,
        sizeof options / sizeof *options};
    struct ff_err err = FF_ERR_INIT;
    struct ff_sweep_view view;
    struct ff_atomic_file file;
    int rc = 0, exit_code;
    if (!ff_cmd_load_view(&view, &exit_code, &cli, argc, argv))
        return exit_code;
    if (out)
        rc = ff_atomic_begin(&file, out, &err);
    if (!rc) {
        FILE *f = out ? file.stream : stdout;
        write_header(f, view.grid);
        for (int i = 0; i < view.grid->cell_count; i++)
            write_cell(f, &view, i);
        if (out)
            rc = ff_atomic_commit(&file, &err);
        else if (fflush(stdout))
            rc = ff_err_errno(&err, FF_EFAIL, "stdout");
    }
    ff_sweep_view_fini(&view);
    return rc ? ff_cmd_fail(&err) : FF_EXIT_OK;
}
