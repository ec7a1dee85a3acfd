/* SPDX-License-Identifier: MIT */
/* ff-grid check: paths, counts, memory and disk before any work. */
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"

/* Can the sweep directory, or its nearest existing parent, be written? */
static int check_writable(const char *out, struct ff_err *err)
{
    char at[FF_PATH_MAX];
    int rc = ff_path(at, err, "%s", out);
    if (rc)
        return rc;
    while (access(at, F_OK)) {
        char *slash = strrchr(at, '/');
        if (!slash)
            snprintf(at, sizeof at, ".");
        else if (slash == at)
            at[1] = 0;
        else
            *slash = 0;
    }
    if (access(at, W_OK | X_OK))
        return ff_err_errno(err, FF_EFAIL, "%s: cannot be written", at);
    return 0;
}

int ff_cmd_check(int argc, char **argv)
{
    struct ff_opt_list sets = {0};
    const char *out = NULL;
    const struct ff_opt options[] = {
        {"--out", "DIR", FF_OPT_TEXT, &out, "sweep directory (results/<name>)", 0, 0},
        {"--set", "name=value", FF_OPT_REPEAT, &sets,
         "a parameter on top of train: (may be repeated)", 0, 0},
    };
    const struct ff_cli cli = {
        "ff-grid check",
        "GRID.yaml [options]",
        "Checks the grid, its training set and evaluation sets, disk and memory. Exit "
        "code "
        "0: a sweep can begin; 1: it does not fit; 2: a path or value is wrong; 6: bad "
        "data.",
        "  ff-grid check grids/lambda_tau.yaml\n",
        options,
        sizeof options / sizeof *options};
    struct ff_err err = FF_ERR_INIT;
    struct ff_cmd cmd = FF_CMD_INIT;
    int rc = ff_cmd_parse(&cli, argc, argv, 1, &err);
    if (rc > 0)
        return FF_EXIT_OK;
    if (!rc)
        rc = ff_cmd_open(&cmd, argv[1], &sets, out, &err);
    if (!rc)
        rc = ff_cmd_print_plan(stdout, &cmd, false, NAN, &err);
    if (!rc)
        rc = check_writable(cmd.out, &err);
    if (!rc)
        rc = ff_cmd_check_needs(&cmd, true, &err);
    if (!rc)
        printf("check: ok\n");
    int exit_code = rc ? ff_cmd_fail(&err) : FF_EXIT_OK;
    ff_cmd_close(&cmd);
    return exit_code;
}
