/* SPDX-License-Identifier: MIT */
/* ff-grid status: every cell of a sweep, the time left and the heatmap; also while the
 * sweep runs. Reads only. */
#include <math.h>
#include <string.h>
#include <time.h>

#include "cmd.h"
#include "heatmap.h"
#include "log.h"

/* Pace of the running cell where it began from nothing, NaN else. */
static double running_pace(const struct ff_sweep_view *view)
{
    const struct ff_sweep_state *state = &view->state;
    if (!view->alive || strcmp(state->running_phase, "train"))
        return NAN;
    const struct ff_sweep_record *record =
        ff_sweep_state_record(state, state->running_key);
    for (int i = 0; i < view->grid->cell_count; i++)
        if (view->results[i].status == FF_CELL_RUNNING && record &&
            record->attempts == 1 && view->results[i].iteration > 0)
            return (double)(time(NULL) - state->running_since) /
                   (double)(view->results[i].iteration + 1);
    return NAN;
}

static void print_cell(const struct ff_sweep_view *view, int index, int width)
{
    const struct ff_cell_result *result = &view->results[index];
    char label[512], text[32], where[64] = "";
    double metric = ff_cell_result_metric(view->grid, result);
    ff_grid_cell_label(label, sizeof label, view->grid, &view->grid->cells[index]);
    printf("  %-*s  %-8s", width, label, ff_cell_status_names[result->status]);
    if (result->status == FF_CELL_DONE && !isnan(metric))
        printf("  %7.3f %%", metric);
    else
        printf("  %9s", "");
    if (result->iteration >= 0)
        snprintf(where, sizeof where, "%lld/%lld",
                 (long long)ff_cell_result_iterations(result),
                 (long long)view->totals[index]);
    printf("  %-16s", where);
    if (!isnan(result->final_loss))
        printf("  loss %-9.4f", result->final_loss);
    if (!isnan(result->seconds))
        printf("  %s", ff_duration(text, result->seconds));
    if (result->drop_count)
        printf("  %d LR change%s", result->drop_count,
               result->drop_count == 1 ? "" : "s");
    if (result->reason[0])
        printf("  %s", result->reason);
    if (result->trained && !result->bit_equal)
        printf("  not bit-equal");
    putchar('\n');
}

int ff_cmd_status(int argc, char **argv)
{
    bool brief = false;
    const struct ff_opt options[] = {
        {"--brief", NULL, FF_OPT_FLAG, &brief, "without the list of cells", 0, 0},
    };
    const struct ff_cli cli = {
        "ff-grid status",
        "DIR [options]",
        "Shows every cell of the sweep in DIR, the time left and the heatmap. Changes "
        "nothing and may be used while the sweep runs.",
        "  ff-grid status results/lambda_tau\n"
        "  watch -n 10 ff-grid status results/lambda_tau --brief\n",
        options,
        sizeof options / sizeof *options};
    struct ff_sweep_view view;
    char label[512], eta[40];
    int exit_code;
    if (!ff_cmd_load_view(&view, &exit_code, &cli, argc, argv))
        return exit_code;
    int counts[FF_CELL_STATUS_COUNT], width = 0;
    ff_sweep_count(counts, &view);
    printf("%s: %s%s", view.grid->name, argv[1], view.alive ? ", running" : "");
    for (int s = 0; s < FF_CELL_STATUS_COUNT; s++)
        if (counts[s])
            printf(", %d %s", counts[s], ff_cell_status_names[s]);
    if (counts[FF_CELL_PLANNED] + counts[FF_CELL_RUNNING] + counts[FF_CELL_STALE] > 0)
        printf(", ETA %s", ff_sweep_eta_text(eta, &view, running_pace(&view)));
    putchar('\n');
    if (view.alive && view.state.waiting[0])
        printf("waiting for the GPU for %s: %s\n",
               ff_duration(eta, (double)(time(NULL) - view.state.waiting_since)),
               view.state.waiting);
    for (int i = 0; i < view.grid->cell_count; i++) {
        ff_grid_cell_label(label, sizeof label, view.grid, &view.grid->cells[i]);
        if ((int)strlen(label) > width)
            width = (int)strlen(label);
    }
    for (int i = 0; !brief && i < view.grid->cell_count; i++)
        print_cell(&view, i, width);
    putchar('\n');
    ff_heatmap_print(stdout, view.grid, view.results, (size_t)view.grid->cell_count);
    ff_sweep_view_fini(&view);
    return FF_EXIT_OK;
}
