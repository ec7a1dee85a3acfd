/* SPDX-License-Identifier: MIT */
/* The verbs of ff-grid, one a file, and what they share. A verb gets argc and argv as
 * if it were a program of its own and returns an exit code. */
#ifndef FF_CMD_H
#define FF_CMD_H

#include "cli.h"
#include "plan.h"
#include "sweep_state.h"

int ff_cmd_run(int argc, char **argv);
int ff_cmd_plan(int argc, char **argv);
int ff_cmd_check(int argc, char **argv);
int ff_cmd_status(int argc, char **argv);
int ff_cmd_eval(int argc, char **argv);
int ff_cmd_plot(int argc, char **argv);
int ff_cmd_export(int argc, char **argv);

/* A grid with everything that its sweep needs. */
struct ff_cmd {
    struct ff_grid *grid;
    struct ff_exec exec;
    struct ff_programs programs;
    struct ff_plan *plan;
    char out[FF_PATH_MAX]; /* sweep directory */
};
#define FF_CMD_INIT                                                                    \
    {                                                                                  \
        NULL, {0}, {"", "", ""}, NULL, ""                                              \
    }

/* Loads and plans a grid; out NULL = results/<name>. Freed by ff_cmd_close. */
int ff_cmd_open(struct ff_cmd *cmd, const char *grid_path,
                const struct ff_opt_list *sets, const char *out, struct ff_err *err);
void ff_cmd_close(struct ff_cmd *cmd);

/* Parses, and wants `words` positional words. 0 to go on; 1 help was printed; negative.
 */
int ff_cmd_parse(const struct ff_cli *cli, int argc, char **argv, int words,
                 struct ff_err *err);
/* Prints the error; its exit code. */
int ff_cmd_fail(const struct ff_err *err);

/* For a verb that only looks at the sweep directory argv[1]: parses and loads it.
 * False: the verb ends with *exit_code. The view is freed by ff_sweep_view_fini. */
bool ff_cmd_load_view(struct ff_sweep_view *view, int *exit_code,
                      const struct ff_cli *cli, int argc, char **argv);

/* Fills a view of what the sweep directory holds for this plan, nothing locked or
 * changed; a directory that is not there gives planned cells. The view borrows the
 * grid. Freed by ff_cmd_view_fini. */
int ff_cmd_view(struct ff_sweep_view *view, const struct ff_cmd *cmd,
                struct ff_err *err);
void ff_cmd_view_fini(struct ff_sweep_view *view);

/* Prints the plan: data, cells in their order (those of `only` where that is not NULL),
 * disk and memory, warnings. The time is that of ff_sweep_eta, or `measured_seconds` if
 * that is no NaN. FF_EUSAGE for an `only` that ff_grid_cell_matches refuses. */
int ff_cmd_print_plan(FILE *f, const struct ff_cmd *cmd, bool cells, const char *only,
                      double measured_seconds, struct ff_err *err);

/* The same without the cells, as messages. */
int ff_cmd_tell_plan(const struct ff_cmd *cmd, const char *only, struct ff_err *err);

/* Disk and memory against the plan. `strict`: what does not fit is FF_EFAIL, else a
 * warning. */
int ff_cmd_check_needs(const struct ff_cmd *cmd, bool strict, struct ff_err *err);

/* Rewrites heatmap.h5, heatmap.png, heatmap.svg and report.html in view->dir. A picture
 * that cannot be drawn is a warning. An ff_sweep_options publish; context is not used.
 */
int ff_cmd_publish(void *context, const struct ff_sweep_view *view, struct ff_err *err);

#endif
