/* SPDX-License-Identifier: MIT */
/* ff-grid run: trains and scores the cells of a grid, and goes on where it stopped. */
#include <math.h>

#include "cmd.h"
#include "heatmap.h"
#include "log.h"
#include "sweep.h"

int ff_cmd_run(int argc, char **argv)
{
    struct ff_opt_list sets = {0};
    struct ff_sweep_options sweep_options = FF_SWEEP_OPTIONS_INIT;
    const char *out = NULL;
    bool dry = false;
    const struct ff_opt options[] = {
        {"--out", "DIR", FF_OPT_TEXT, &out, "sweep directory (results/<name>)", 0, 0},
        {"--set", "name=value", FF_OPT_REPEAT, &sets,
         "a parameter on top of train: (may be repeated)", 0, 0},
        {"--only", "name=value,...", FF_OPT_TEXT, &sweep_options.only,
         "only the cells with these axis values (or seed)", 0, 0},
        {"--max-cells", "N", FF_OPT_I64, &sweep_options.max_cells,
         "stop after N cells have ended (exit code 4 if more are left)", 1, 1e9},
        {"--max-hours", "H", FF_OPT_F64, &sweep_options.max_hours,
         "stop with a checkpoint after H hours", 1e-6, 1e6},
        {"--retry-failed", NULL, FF_OPT_FLAG, &sweep_options.retry_failed,
         "try failed cells once more", 0, 0},
        {"--fail-fast", NULL, FF_OPT_FLAG, &sweep_options.fail_fast,
         "stop at the first failed cell", 0, 0},
        {"--wait-gpu", NULL, FF_OPT_FLAG, &sweep_options.wait_gpu,
         "wait where another program holds the GPU or has filled it", 0, 0},
        {"-n", NULL, FF_OPT_FLAG, &dry, "show the plan and launch nothing", 0, 0},
    };
    const struct ff_cli cli = {
        "ff-grid run",
        "GRID.yaml [options]",
        "Trains one run a cell, scores it, and rewrites heatmap.h5, .png and .svg "
        "after "
        "every cell. The same command again goes on where the last one stopped: "
        "finished "
        "cells are kept, an interrupted one goes on from its checkpoint. Ctrl-C stops "
        "with everything kept; a second Ctrl-C ends at once. Exit code: 0 every cell "
        "done, diverged or excluded; 1 some failed; 4 stopped; 7 another ff-grid works "
        "on the directory, or another program holds the GPU.",
        "  ff-grid grids/lambda_tau.yaml\n"
        "  ff-grid grids/lambda_tau.yaml --only tau=0.05 --max-hours 8\n"
        "  ff-grid grids/lambda_tau.yaml --out /big/lt --set batch=64\n",
        options,
        sizeof options / sizeof *options};
    struct ff_err err = FF_ERR_INIT;
    struct ff_cmd cmd = FF_CMD_INIT;
    struct ff_sweep *sweep = NULL;
    int exit_code = FF_EXIT_OK;
    int rc = ff_cmd_parse(&cli, argc, argv, 1, &err);
    if (rc > 0)
        return FF_EXIT_OK;
    if (!rc && !dry)
        ff_stop_install();
    if (!rc)
        rc = ff_cmd_open(&cmd, argv[1], &sets, out, &err);
    if (!rc)
        rc = dry ? ff_cmd_print_plan(stdout, &cmd, true, sweep_options.only, NAN, &err)
                 : ff_cmd_tell_plan(&cmd, sweep_options.only, &err);
    if (rc || dry)
        goto done;
    rc = ff_cmd_check_needs(&cmd, false, &err);
    sweep_options.publish = ff_cmd_publish;
    if (!rc)
        rc = ff_sweep_open(&sweep, cmd.out, cmd.plan, &cmd.exec, &cmd.programs,
                           &sweep_options, &err);
    if (!rc)
        rc = ff_sweep_run(&exit_code, sweep, &err);
    if (!rc)
        ff_heatmap_print(stdout, cmd.grid, ff_sweep_view_of(sweep)->results,
                         (size_t)cmd.grid->cell_count);
    if (!rc && exit_code == FF_EXIT_STOPPED)
        ff_info("stopped; the same command goes on");
    if (!rc && exit_code == FF_EXIT_BUSY)
        ff_info("stopped; the same command goes on (--wait-gpu waits for a GPU)");
done:
    if (rc < 0)
        exit_code = ff_cmd_fail(&err);
    ff_sweep_close(sweep);
    ff_cmd_close(&cmd);
    return exit_code;
}
