/* SPDX-License-Identifier: MIT */
/* ff-grid plan: what a sweep would do and what it would take, without doing it. */
#include <math.h>
#include <unistd.h>

#include "cmd.h"
#include "log.h"
#include "measure.h"

/* Seconds for all that is left, at the measured pace. */
static double measured_time(const struct ff_cmd *cmd, const struct ff_sweep_view *view,
                            const struct ff_measure *measure)
{
    double seconds = 0;
    for (int k = 0; k < cmd->plan->order_count; k++) {
        int i = cmd->plan->order[k];
        const struct ff_cell_result *result = &view->results[i];
        if (result->status == FF_CELL_DIVERGED || result->status == FF_CELL_FAILED)
            continue;
        if (!result->trained)
            seconds += measure->seconds_per_iteration *
                       (double)(view->totals[i] - (result->iteration + 1));
        for (int e = 0; e < cmd->grid->eval_count; e++)
            if (!result->evals[e].present)
                seconds += measure->eval_seconds[e];
    }
    return seconds;
}

/* As ff_duration, with a decimal below ten seconds. */
static const char *seconds_text(char buf[32], double seconds)
{
    if (seconds >= 10)
        return ff_duration(buf, seconds);
    snprintf(buf, 32, "%.1f s", seconds);
    return buf;
}

static int measure_plan(double *seconds, struct ff_cmd *cmd, struct ff_err *err)
{
    struct ff_measure measure;
    struct ff_sweep_view view;
    char scratch[FF_PATH_MAX], text[32];
    int rc = ff_path(scratch, err, "%s.measure-%ld", cmd->out, (long)getpid());
    if (!rc)
        rc = ff_measure_run(&measure, cmd->plan, &cmd->exec, &cmd->programs, scratch,
                            err);
    if (!rc)
        rc = ff_cmd_view(&view, cmd, err);
    if (rc)
        return rc;
    int first = cmd->plan->order[0];
    double batch = (double)cmd->grid->cells[first].params.batch;
    printf("measured: %.4g s an iteration (%.1f samples/s), %s a cell of T = %lld\n",
           measure.seconds_per_iteration, batch / measure.seconds_per_iteration,
           seconds_text(text, measure.seconds_per_iteration *
                                  (double)cmd->plan->iterations[first]),
           (long long)cmd->plan->iterations[first]);
    for (int e = 0; e < cmd->grid->eval_count; e++)
        printf("measured: %s for an evaluation on %s\n",
               seconds_text(text, measure.eval_seconds[e]), cmd->grid->evals[e].name);
    *seconds = measured_time(cmd, &view, &measure);
    ff_cmd_view_fini(&view);
    return 0;
}

int ff_cmd_plan(int argc, char **argv)
{
    struct ff_opt_list sets = {0};
    const char *out = NULL;
    bool measure = false;
    const struct ff_opt options[] = {
        {"--out", "DIR", FF_OPT_TEXT, &out, "sweep directory (results/<name>)", 0, 0},
        {"--set", "name=value", FF_OPT_REPEAT, &sets,
         "a parameter on top of train: (may be repeated)", 0, 0},
        {"--measure", NULL, FF_OPT_FLAG, &measure,
         "run 200 iterations and 2,000 evaluation images of the first cell to tell the "
         "time",
         0, 0},
    };
    const struct ff_cli cli = {"ff-grid plan",
                               "GRID.yaml [options]",
                               "Shows the cells in their order, what is done already, "
                               "time, disk and memory, and "
                               "warns where a setting cannot act.",
                               "  ff-grid plan grids/lambda_tau.yaml --measure\n",
                               options,
                               sizeof options / sizeof *options};
    struct ff_err err = FF_ERR_INIT;
    struct ff_cmd cmd = FF_CMD_INIT;
    double seconds = NAN;
    int rc = ff_cmd_parse(&cli, argc, argv, 1, &err);
    if (rc > 0)
        return FF_EXIT_OK;
    if (!rc && measure)
        ff_stop_install();
    if (!rc)
        rc = ff_cmd_open(&cmd, argv[1], &sets, out, &err);
    if (!rc && measure)
        rc = measure_plan(&seconds, &cmd, &err);
    if (!rc)
        rc = ff_cmd_print_plan(stdout, &cmd, true, NULL, seconds, &err);
    int exit_code = rc ? ff_cmd_fail(&err) : FF_EXIT_OK;
    ff_cmd_close(&cmd);
    return exit_code;
}
