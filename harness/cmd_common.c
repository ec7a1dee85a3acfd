/* SPDX-License-Identifier: MIT */
/* What the verbs share: opening a grid, printing a plan, checking needs, publishing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "estimate.h"
#include "heatmap.h"
#include "log.h"
#include "report.h"

int ff_cmd_parse(const struct ff_cli *cli, int argc, char **argv, int words,
                 struct ff_err *err)
{
    int found;
    int rc = ff_cli_parse(&found, cli, argc, argv, err);
    if (rc)
        return rc;
    if (found < words)
        return ff_err_set(err, FF_EUSAGE, "usage: %s %s", cli->program, cli->synopsis);
    if (found > words)
        return ff_err_set(err, FF_EUSAGE, "one word too many: %s (usage: %s %s)",
                          argv[1 + words], cli->program, cli->synopsis);
    return 0;
}

int ff_cmd_fail(const struct ff_err *err)
{
    ff_error("%s", err->text);
    return ff_err_exit_code(err->code);
}

bool ff_cmd_load_view(struct ff_sweep_view *view, int *exit_code,
                      const struct ff_cli *cli, int argc, char **argv)
{
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_cmd_parse(cli, argc, argv, 1, &err);
    if (!rc)
        rc = ff_sweep_view_load(view, argv[1], &err);
    if (rc)
        *exit_code = rc > 0 ? FF_EXIT_OK : ff_cmd_fail(&err);
    return !rc;
}

int ff_cmd_open(struct ff_cmd *cmd, const char *grid_path,
                const struct ff_opt_list *sets, const char *out, struct ff_err *err)
{
    int rc = ff_grid_load(&cmd->grid, grid_path, sets ? sets->items : NULL,
                          sets ? sets->count : 0, err);
    if (!rc)
        rc = out ? ff_path(cmd->out, err, "%s", out)
                 : ff_path(cmd->out, err, "results/%s", cmd->grid->name);
    if (!rc)
        rc = ff_programs_find(&cmd->programs, err);
    if (!rc)
        rc = ff_exec_local_create(&cmd->exec, err);
    if (!rc)
        rc = ff_plan_create(&cmd->plan, cmd->grid, &cmd->exec, &cmd->programs, err);
    return rc;
}

void ff_cmd_close(struct ff_cmd *cmd)
{
    ff_plan_destroy(cmd->plan);
    ff_exec_destroy(&cmd->exec);
    ff_grid_destroy(cmd->grid);
}

int ff_cmd_view(struct ff_sweep_view *view, const struct ff_cmd *cmd,
                struct ff_err *err)
{
    char path[FF_PATH_MAX];
    size_t cells = (size_t)cmd->grid->cell_count;
    memset(view, 0, sizeof *view);
    view->grid = cmd->grid;
    view->results = calloc(cells, sizeof *view->results);
    view->totals = calloc(cells, sizeof *view->totals);
    int rc = 0;
    if (!view->results || !view->totals)
        rc = ff_err_set(err, FF_ENOMEM, "out of memory for %zu cells", cells);
    if (!rc)
        rc = ff_path(view->dir, err, "%s", cmd->out);
    if (!rc)
        rc = ff_path(path, err, "%s/events.log", cmd->out);
    if (!rc)
        rc = ff_event_log_replay(path, ff_sweep_state_apply, &view->state, err);
    for (int i = 0; !rc && i < cmd->grid->cell_count; i++) {
        struct ff_cell_result *result = &view->results[i];
        const struct ff_cell *cell = &cmd->grid->cells[i];
        ff_cell_result_init(result);
        view->totals[i] = cmd->plan->iterations[i];
        if (cell->excluded) {
            result->status = FF_CELL_EXCLUDED;
            continue;
        }
        rc = ff_sweep_cell_dir(path, cmd->out, cell->train_key, err);
        if (rc)
            break;
        if (ff_cell_result_read(result, cmd->grid, path,
                                (const char(*)[FF_SHA256_HEX])cmd->plan->eval_keys[i],
                                NULL))
            ff_cell_result_fini(result);
        const struct ff_sweep_record *record =
            ff_sweep_state_record(&view->state, cell->train_key);
        if (record && record->failed && result->status == FF_CELL_PLANNED) {
            result->status = FF_CELL_FAILED;
            snprintf(result->reason, sizeof result->reason, "%s", record->reason);
        }
    }
    if (rc)
        ff_cmd_view_fini(view);
    return rc;
}

void ff_cmd_view_fini(struct ff_sweep_view *view)
{
    for (int i = 0; view->results && i < view->grid->cell_count; i++)
        ff_cell_result_fini(&view->results[i]);
    free(view->results);
    free(view->totals);
    ff_sweep_state_fini(&view->state);
    memset(view, 0, sizeof *view);
}

static void print_shape(FILE *f, const struct ff_grid *grid)
{
    fprintf(f, "%s: ", grid->name);
    for (int a = 0; a < grid->axis_count; a++)
        fprintf(f, "%s%d %s", a ? " x " : "", grid->axes[a].count,
                grid->axes[a].param->name);
    fprintf(f, "%s%d seed%s\n", grid->axis_count ? " x " : "", grid->seed_count,
            grid->seed_count == 1 ? "" : "s");
}

static void print_counts(FILE *f, const struct ff_sweep_view *view)
{
    int counts[FF_CELL_STATUS_COUNT];
    const char *comma = "";
    ff_sweep_count(counts, view);
    fprintf(f, "%d cells: ", view->grid->cell_count);
    for (int s = 0; s < FF_CELL_STATUS_COUNT; s++)
        if (counts[s]) {
            fprintf(f, "%s%d %s", comma, counts[s], ff_cell_status_names[s]);
            comma = ", ";
        }
    fputc('\n', f);
}

static void print_cells(FILE *f, const struct ff_cmd *cmd, const char *only,
                        const struct ff_sweep_view *view)
{
    char label[512];
    fprintf(f, "order%s%s:\n", only ? ", of --only " : "", only ? only : "");
    for (int k = 0; k < cmd->plan->order_count; k++) {
        int i = cmd->plan->order[k];
        if (only && !ff_grid_cell_matches(cmd->grid, &cmd->grid->cells[i], only, NULL))
            continue;
        fprintf(
            f, "  %3d  %-40s T = %-8lld %-9s cells/%.12s\n", k + 1,
            ff_grid_cell_label(label, sizeof label, cmd->grid, &cmd->grid->cells[i]),
            (long long)cmd->plan->iterations[i],
            ff_cell_status_names[view->results[i].status],
            cmd->grid->cells[i].train_key);
    }
}

static void print_needs(FILE *f, const struct ff_cmd *cmd)
{
    struct ff_plan_needs needs;
    char a[32], b[32], c[32];
    ff_plan_needs(&needs, cmd->plan);
    int64_t disk = ff_plan_disk_free(cmd->out), memory = ff_memory_free();
    fprintf(f, "disk: about %s a cell, %s in all; %s free\n",
            ff_bytes_text(a, (double)needs.cell_bytes),
            ff_bytes_text(b, (double)needs.total_bytes),
            disk < 0 ? "unknown" : ff_bytes_text(c, (double)disk));
    fprintf(f, "memory: about %s to train (on the device)",
            ff_bytes_text(a, (double)needs.training_bytes));
    if (needs.eval_bytes)
        fprintf(f, ", %s to score", ff_bytes_text(b, (double)needs.eval_bytes));
    fprintf(f, "; %s of host memory available\n",
            memory < 0 ? "unknown" : ff_bytes_text(c, (double)memory));
}

static void print_eval(FILE *f, const struct ff_grid_eval *entry,
                       const struct ff_plan_eval *plan)
{
    for (int k = 0; k < entry->bin_count; k++)
        fprintf(f, "eval: %s: %s: %lld pairs\n", entry->name, entry->bins[k].path,
                (long long)plan->bin_pairs[k]);
    if (!entry->bin_count)
        fprintf(f, "eval: %s: %s: %lld images, %lld pairs\n", entry->name, entry->root,
                (long long)plan->images, (long long)plan->pairs);
}

int ff_cmd_print_plan(FILE *f, const struct ff_cmd *cmd, bool cells, const char *only,
                      double measured_seconds, struct ff_err *err)
{
    struct ff_sweep_view view;
    char eta[32];
    int match = only ? ff_grid_cell_matches(cmd->grid, cmd->grid->cells, only, err) : 1;
    int rc = match < 0 ? match : ff_cmd_view(&view, cmd, err);
    if (rc)
        return rc;
    print_shape(f, cmd->grid);
    for (int d = 0; d < cmd->plan->data_count; d++)
        fprintf(f, "data: %s: %lld images, %lld classes\n", cmd->plan->data[d].path,
                (long long)cmd->plan->data[d].images,
                (long long)cmd->plan->data[d].classes);
    for (int e = 0; e < cmd->grid->eval_count; e++)
        print_eval(f, &cmd->grid->evals[e], &cmd->plan->evals[e]);
    fprintf(f, "into: %s\n", cmd->out);
    print_counts(f, &view);
    if (cells)
        print_cells(f, cmd, only, &view);
    bool at_least = false;
    double seconds = measured_seconds;
    if (isnan(seconds))
        seconds = ff_sweep_eta(&at_least, &view, NAN);
    if (seconds == 0)
        fprintf(f, "time: nothing left to do\n");
    else if (isnan(seconds))
        fprintf(f, "time: unknown before a cell has run (ff-grid plan --measure)\n");
    else
        fprintf(f, "time: %s %s to go\n", at_least ? "more than" : "about",
                ff_duration(eta, seconds));
    print_needs(f, cmd);
    ff_plan_warnings(cmd->plan, f);
    ff_cmd_view_fini(&view);
    return 0;
}

int ff_cmd_tell_plan(const struct ff_cmd *cmd, const char *only, struct ff_err *err)
{
    char *text = NULL, *rest;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (!f)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    int rc = ff_cmd_print_plan(f, cmd, false, only, NAN, err);
    if (fclose(f) && !rc)
        rc = ff_err_set(err, FF_ENOMEM, "out of memory");
    rest = text;
    for (char *line; !rc && (line = strsep(&rest, "\n")) && *line;)
        if (!strncmp(line, "warning: ", 9))
            ff_warn("%s", line + 9);
        else
            ff_info("%s", line);
    free(text);
    return rc;
}

int ff_cmd_check_needs(const struct ff_cmd *cmd, bool strict, struct ff_err *err)
{
    struct ff_plan_needs needs;
    char text[256], need[32], have[32];
    struct ff_sweep_view view;
    ff_plan_needs(&needs, cmd->plan);
    int rc = ff_cmd_view(&view, cmd, err);
    if (rc)
        return rc;
    int counts[FF_CELL_STATUS_COUNT];
    ff_sweep_count(counts, &view);
    ff_cmd_view_fini(&view);
    int64_t left = counts[FF_CELL_PLANNED] + counts[FF_CELL_FAILED];
    int64_t cells = cmd->plan->order_count ? cmd->plan->order_count : 1;
    int64_t disk = ff_plan_disk_free(cmd->out), memory = ff_memory_free();
    int64_t bytes = needs.total_bytes / cells * left;
    text[0] = 0;
    if (disk >= 0 && bytes > disk)
        snprintf(text, sizeof text,
                 "%.120s: the cells left need about %s of disk, %s is free", cmd->out,
                 ff_bytes_text(need, (double)bytes), ff_bytes_text(have, (double)disk));
    else if (memory >= 0 && needs.eval_bytes > memory)
        snprintf(text, sizeof text, "scoring needs about %s of memory, %s is available",
                 ff_bytes_text(need, (double)needs.eval_bytes),
                 ff_bytes_text(have, (double)memory));
    if (text[0] && strict)
        return ff_err_set(err, FF_EFAIL, "%s", text);
    if (text[0])
        ff_warn("%s", text);
    if (memory >= 0 && needs.training_bytes > memory &&
        cmd->grid->base.backend != FF_BACKEND_CUDA)
        ff_warn("training needs about %s; on a CPU backend only %s is available",
                ff_bytes_text(need, (double)needs.training_bytes),
                ff_bytes_text(have, (double)memory));
    return 0;
}

int ff_cmd_publish(void *context, const struct ff_sweep_view *view, struct ff_err *err)
{
    char h5[FF_PATH_MAX], png[FF_PATH_MAX], svg[FF_PATH_MAX], html[FF_PATH_MAX];
    size_t count = (size_t)view->grid->cell_count;
    (void)context;
    int rc = ff_path(h5, err, "%s/heatmap.h5", view->dir);
    if (!rc)
        rc = ff_path(png, err, "%s/heatmap.png", view->dir);
    if (!rc)
        rc = ff_path(svg, err, "%s/heatmap.svg", view->dir);
    if (!rc)
        rc = ff_path(html, err, "%s/report.html", view->dir);
    if (!rc)
        rc = ff_heatmap_write(h5, view->grid, view->results, count, err);
    if (rc)
        return rc;
    struct ff_err minor = FF_ERR_INIT;
    if (ff_heatmap_draw(png, svg, view->grid, view->results, count, &minor) ||
        ff_report_write(html, svg, view->grid, view->results, count, &minor))
        ff_warn("%s", minor.text);
    return 0;
}
