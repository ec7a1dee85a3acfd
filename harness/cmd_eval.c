/* SPDX-License-Identifier: MIT */
/* ff-grid eval: scores finished cells again, without training. */
#include <unistd.h>

#include "cmd.h"
#include "heatmap.h"
#include "sweep.h"

int ff_cmd_eval(int argc, char **argv)
{
    struct ff_sweep_options sweep_options = FF_SWEEP_OPTIONS_INIT;
    const char *grid = NULL;
    bool missing = false;
    const struct ff_opt options[] = {
        {"--grid", "GRID.yaml", FF_OPT_TEXT, &grid,
         "take eval: and metric: from this grid instead of DIR/grid.yaml", 0, 0},
        {"--missing", NULL, FF_OPT_FLAG, &missing,
         "only where a score is missing or of other settings", 0, 0},
        {"--only", "name=value,...", FF_OPT_TEXT, &sweep_options.only,
         "only the cells with these axis values (or seed)", 0, 0},
    };
    const struct ff_cli cli = {
        "ff-grid eval",
        "DIR [options]",
        "Scores the trained cells of the sweep in DIR again and rewrites the heatmap. "
        "Trains nothing.",
        "  ff-grid eval results/lambda_tau\n"
        "  ff-grid eval results/lambda_tau --grid flip_off.yaml\n",
        options,
        sizeof options / sizeof *options};
    struct ff_err err = FF_ERR_INIT;
    struct ff_cmd cmd = FF_CMD_INIT;
    struct ff_sweep *sweep = NULL;
    char path[FF_PATH_MAX];
    int exit_code = FF_EXIT_OK;
    int rc = ff_cmd_parse(&cli, argc, argv, 1, &err);
    if (rc > 0)
        return FF_EXIT_OK;
    if (!rc)
        rc = ff_path(path, &err, "%s/grid.yaml", argv[1]);
    if (!rc && access(path, R_OK))
        rc = ff_err_set(&err, FF_EUSAGE, "%s: is no sweep directory (no grid.yaml)",
                        argv[1]);
    if (!rc)
        ff_stop_install();
    if (!rc)
        rc = ff_cmd_open(&cmd, grid ? grid : path, NULL, argv[1], &err);
    sweep_options.score_only = true;
    sweep_options.retry_failed = true;
    sweep_options.rescore = !missing;
    sweep_options.publish = ff_cmd_publish;
    if (!rc)
        rc = ff_sweep_open(&sweep, cmd.out, cmd.plan, &cmd.exec, &cmd.programs,
                           &sweep_options, &err);
    if (!rc)
        rc = ff_sweep_run(&exit_code, sweep, &err);
    if (!rc)
        ff_heatmap_print(stdout, cmd.grid, ff_sweep_view_of(sweep)->results,
                         (size_t)cmd.grid->cell_count);
    if (rc)
        exit_code = ff_cmd_fail(&err);
    ff_sweep_close(sweep);
    ff_cmd_close(&cmd);
    return exit_code;
}
