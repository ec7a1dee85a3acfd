/* SPDX-License-Identifier: MIT */
/* report.html; see report.h.
 *
 * One file, no scripts, nothing fetched: the picture is put in as SVG text (without its
 * XML declaration), styles stand in the head. Every text from outside is escaped. */
#include "report.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "log.h"

static const char style[] =
    "body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:70em;"
    "padding:0 1em;color:#222}"
    "h1,h2{font-weight:600}svg{max-width:100%;height:auto}"
    "table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}"
    "th,td{padding:.25em .7em;border-bottom:1px solid #ddd;text-align:right;"
    "white-space:nowrap}"
    "th:first-child,td:first-child,td.t{text-align:left}td.t{white-space:normal}"
    "tr.best td{font-weight:700}.diverged,.failed{color:#b2182b}"
    ".planned,.excluded{color:#888}"
    "pre{background:#f6f6f6;padding:1em;overflow:auto;font-size:13px}"
    ".wide{overflow-x:auto}p.small{color:#666;font-size:13px}";

static void escape(FILE *f, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '&': fputs("&amp;", f); break;
        case '"': fputs("&quot;", f); break;
        default: fputc(*text, f);
        }
    }
}

static void number_cell(FILE *f, const char *fmt, double value)
{
    fputs("<td>", f);
    if (!isnan(value))
        fprintf(f, fmt, value);
    fputs("</td>", f);
}

static void write_picture(FILE *f, const char *svg_path)
{
    char *data = NULL;
    size_t bytes;
    if (!svg_path || ff_read_file(&data, &bytes, svg_path, NULL))
        return;
    const char *start = strstr(data, "<svg");
    if (start)
        fprintf(f, "<figure>%s</figure>\n", start);
    free(data);
}

/* Columns of the metric's own eval entry: its rates, or its files of pairs. */
static int own_columns(const struct ff_grid *grid)
{
    int own = grid->metric.eval_index;
    if (own < 0)
        return 0;
    return grid->evals[own].bin_count ? grid->evals[own].bin_count : FF_FAR_COUNT;
}

static void write_rows(FILE *f, const struct ff_grid *grid,
                       const struct ff_cell_result *results)
{
    int own = grid->metric.eval_index;
    double best = -INFINITY;
    for (int c = 0; c < grid->cell_count; c++)
        best = fmax(best, ff_cell_result_metric(grid, &results[c]));
    for (int c = 0; c < grid->cell_count; c++) {
        const struct ff_cell_result *r = &results[c];
        enum ff_cell_status status =
            grid->cells[c].excluded ? FF_CELL_EXCLUDED : r->status;
        char label[1024], took[32];
        double metric = ff_cell_result_metric(grid, r);
        fprintf(f, "<tr class=\"%s%s\"><td>", ff_cell_status_names[status],
                metric >= best ? " best" : "");
        escape(f, ff_grid_cell_label(label, sizeof label, grid, &grid->cells[c]));
        fprintf(f, "</td><td>%s</td>", ff_cell_status_names[status]);
        number_cell(f, "%.2f", metric);
        const struct ff_eval_score *score = own < 0 ? NULL : &r->evals[own];
        int columns = own_columns(grid);
        for (int k = 0; k < columns; k++)
            number_cell(f, "%.2f",
                        !score->present              ? NAN
                        : grid->evals[own].bin_count ? score->accuracy[k]
                                                     : score->tar[k]);
        number_cell(f, "%.4f", r->final_loss);
        fputs("<td>", f);
        for (int i = 0; i < r->drop_count; i++)
            fprintf(f, "%s%lld", i ? ", " : "", (long long)r->drops[i]);
        fprintf(f, "</td><td>%s</td>",
                isnan(r->seconds) ? "" : ff_duration(took, r->seconds));
        number_cell(f, "%.1f", r->samples_per_second);
        const char *key = *r->train_key ? r->train_key : grid->cells[c].train_key;
        fprintf(f, "<td><code>%.12s</code></td><td class=\"t\">", key);
        escape(f, r->reason);
        if (!r->bit_equal)
            fprintf(f, "%snot bit-equal", r->reason[0] ? "; " : "");
        fputs("</td></tr>\n", f);
    }
}

static void write_table(FILE *f, const struct ff_grid *grid,
                        const struct ff_cell_result *results)
{
    fputs(
        "<h2>Cells</h2>\n<div class=\"wide\"><table>\n<tr><th>cell</th><th>status</th>"
        "<th>",
        f);
    escape(f, grid->metric.text);
    fputs("</th>", f);
    int own = grid->metric.eval_index, columns = own_columns(grid);
    bool pairs = own >= 0 && grid->evals[own].bin_count;
    for (int k = 0; k < columns; k++) {
        if (pairs)
            fprintf(f, "<th>%s</th>", grid->evals[own].bins[k].name);
        else
            fprintf(f, "<th>1e-%ld</th>", lround(-log10(ff_fars[k])));
    }
    fputs("<th>final loss</th><th>changes of the LR</th><th>time</th><th>samples/s</th>"
          "<th>train key</th><th>note</th></tr>\n",
          f);
    write_rows(f, grid, results);
    fprintf(
        f,
        "</table></div>\n<p class=\"small\">%s; changes of the learning rate as the "
        "first iteration that uses the new one.</p>\n",
        pairs     ? "Accuracy in percent on each file of pairs"
        : own < 0 ? "Nothing is scored (no eval:)"
                  : "TAR in percent at each false accept rate");
}

static bool is_axis(const struct ff_grid *grid, const char *name)
{
    for (int a = 0; a < grid->axis_count; a++)
        if (!strcmp(grid->axes[a].param->name, name))
            return true;
    return false;
}

/* Parameters of the computation that the whole grid sets off the table's defaults,
 * which are the published recipe. Values are compared as a default written by the same
 * code. */
static int write_differences(FILE *f, const struct ff_grid *grid, struct ff_err *err)
{
    struct ff_params *published = malloc(sizeof *published);
    if (!published)
        return ff_err_set(err, FF_ENOMEM, "out of memory for the report");
    ff_params_defaults(published);
    size_t count;
    const struct ff_param_info *table = ff_params_table(&count);
    for (size_t i = 0; i < count; i++) {
        char ours[FF_PARAM_TEXT], theirs[FF_PARAM_TEXT];
        if (table[i].param_class == FF_PARAM_NEITHER || is_axis(grid, table[i].name) ||
            !strcmp(table[i].name, "seed"))
            continue;
        ff_grid_value_text(ours, &grid->base, &table[i]);
        ff_grid_value_text(theirs, published, &table[i]);
        if (!strcmp(ours, theirs))
            continue;
        fprintf(f, "<li><code>%s: ", table[i].name);
        escape(f, ours);
        fputs("</code> instead of <code>", f);
        escape(f, theirs);
        fputs("</code></li>\n", f);
    }
    free(published);
    return 0;
}

static int write_departures(FILE *f, const struct ff_grid *grid,
                            const struct ff_cell_result *results, struct ff_err *err)
{
    bool cpu = false;
    for (int c = 0; c < grid->cell_count; c++)
        cpu |= results[c].backend[0] && strcmp(results[c].backend, "cuda");
    fputs(
        "<h2>Known departures from the published work</h2>\n<ul>\n"
        "<li>The axes and cells of the paper's heatmaps are not public; those here are "
        "this grid's own.</li>\n"
        "<li>The highest cell is chosen on the data it is scored on.</li>\n",
        f);
    if (cpu)
        fputs(
            "<li>Runs on a CPU backend compute in fp32; the published runs used mixed "
            "fp16.</li>\n",
            f);
    int rc = write_differences(f, grid, err);
    fputs("</ul>\n", f);
    return rc;
}

static int write_page(FILE *f, const char *svg_path, const struct ff_grid *grid,
                      const struct ff_cell_result *results, struct ff_err *err)
{
    int count[FF_CELL_STATUS_COUNT] = {0};
    for (int c = 0; c < grid->cell_count; c++)
        count[grid->cells[c].excluded ? FF_CELL_EXCLUDED : results[c].status]++;
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
          "<title>",
          f);
    escape(f, grid->name);
    fprintf(f, "</title>\n<style>%s</style></head><body>\n<h1>", style);
    escape(f, grid->name);
    fprintf(f, "</h1>\n<p>%d cells:", grid->cell_count);
    for (int k = 0, any = 0; k < FF_CELL_STATUS_COUNT; k++)
        if (count[k])
            fprintf(f, "%s %d %s", any++ ? "," : "", count[k], ff_cell_status_names[k]);
    fputs(".</p>\n", f);
    write_picture(f, svg_path);
    write_table(f, grid, results);
    fputs("<h2>Settings</h2>\n<pre>", f);
    escape(f, grid->text ? grid->text : "");
    fputs("</pre>\n", f);
    int rc = write_departures(f, grid, results, err);
    char created[32];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(created, sizeof created, "%Y-%m-%d %H:%M UTC", &utc);
    fprintf(f,
            "<p class=\"small\">Written %s by ff-grid %s (%s).</p>\n</body></html>\n",
            created, FF_VERSION, ff_git_commit());
    return rc;
}

int ff_report_write(const char *path, const char *svg_path, const struct ff_grid *grid,
                    const struct ff_cell_result *results, size_t count,
                    struct ff_err *err)
{
    assert(count == (size_t)grid->cell_count);
    (void)count;
    struct ff_atomic_file file;
    int rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    rc = write_page(file.stream, svg_path, grid, results, err);
    if (!rc)
        rc = ff_atomic_commit(&file, err);
    ff_atomic_abort(&file);
    return rc;
}
