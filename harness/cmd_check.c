/* SPDX-License-Identifier: MIT */
/* ff-grid check: paths, counts, memory and disk before any work.
 *
 * What only the other programs can tell, the backend and the lists of an evaluation
 * set, is asked by starting them with a last input that is an empty file: a program
 * that gets as far as to refuse it has found everything before it in order. */
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "log.h"

#define EMPTY "empty.h5"
#define MAX_ASKED 64 /* kinds of backend in one grid */

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

/* Runs a program that is to end by refusing EMPTY. What it says otherwise is the
 * error, with its exit code and `where` in front; a GPU in use is but a warning. */
static int ask(struct ff_cmd *cmd, const char *const *argv, const char *log,
               const char *where, struct ff_err *err)
{
    struct ff_child_result result;
    char words[900];
    pid_t pid;
    int rc = cmd->exec.start(cmd->exec.context, &pid, argv, log, err);
    if (rc)
        return rc;
    do
        result = cmd->exec.wait(cmd->exec.context, 1000);
    while (result.state == FF_CHILD_RUNNING);
    ff_exec_last_words(words, sizeof words, log);
    if (strstr(words, EMPTY))
        return 0;
    bool exited = result.state == FF_CHILD_EXITED;
    if (exited && result.value == FF_EXIT_BUSY) {
        ff_warn("%s", words);
        return 0;
    }
    int code = exited && result.value == FF_EXIT_USAGE  ? FF_EUSAGE
               : exited && result.value == FF_EXIT_DATA ? FF_EDATA
                                                        : FF_EFAIL;
    return ff_err_set(err, code, "%s: %s", where, words);
}

static bool same_backend(const struct ff_params *a, const struct ff_params *b)
{
    return a->backend == b->backend && a->precision == b->precision &&
           a->head_precision == b->head_precision && !strcmp(a->device, b->device);
}

/* Does ff-train find the backend of every cell, in its precision? */
static int check_backends(struct ff_cmd *cmd, const char *scratch, struct ff_err *err)
{
    const struct ff_params *asked[MAX_ASKED];
    char file[FF_PATH_MAX], log[FF_PATH_MAX], from[FF_PATH_MAX], label[512];
    char where[FF_PATH_MAX + sizeof label];
    int count = 0, rc = ff_path(file, err, "%s/cell.yaml", scratch);
    if (!rc)
        rc = ff_path(log, err, "%s/train.txt", scratch);
    if (!rc)
        rc = ff_path(from, err, "%s/" EMPTY, scratch);
    for (int k = 0; !rc && k < cmd->plan->order_count && count < MAX_ASKED; k++) {
        const struct ff_cell *cell = &cmd->grid->cells[cmd->plan->order[k]];
        int known = 0;
        while (known < count && !same_backend(asked[known], &cell->params))
            known++;
        if (known < count)
            continue;
        asked[count++] = &cell->params;
        struct ff_atomic_file out;
        rc = ff_atomic_begin(&out, file, err);
        if (rc)
            break;
        ff_params_write(out.stream, &cell->params, "");
        rc = ff_atomic_commit(&out, err);
        const char *argv[] = {
            cmd->programs.train, file, "--out", scratch, "--from", from, NULL};
        snprintf(where, sizeof where, "%s: cell %s", cmd->grid->path,
                 ff_grid_cell_label(label, sizeof label, cmd->grid, cell));
        if (!rc)
            rc = ask(cmd, argv, log, where, err);
    }
    return rc;
}

/* Is every picture of the list there? Names the first that is not. */
static int check_images(const struct ff_grid *grid, const struct ff_grid_eval *entry,
                        int64_t images, struct ff_err *err)
{
    char path[FF_PATH_MAX], *text = NULL;
    size_t bytes;
    int rc = ff_path(path, err, "%s/meta/%s_name_5pts_score.txt", entry->root,
                     entry->protocol);
    if (!rc)
        rc = ff_read_file(&text, &bytes, path, err);
    if (!rc)
        rc = ff_path(path, err, "%s/loose_crop", entry->root);
    const char **names = rc ? NULL : malloc((size_t)images * sizeof *names);
    if (!rc && !names)
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %lld names", (long long)images);
    int64_t count = 0, missing = 0, first = images;
    char *rest = text;
    for (char *line; names && count < images && (line = strsep(&rest, "\n"));) {
        line[strcspn(line, " ")] = 0;
        names[count++] = line;
    }
    int folder = rc ? -1 : open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
#pragma omp parallel for schedule(static) reduction(+ : missing) reduction(min : first)
    for (int64_t i = 0; i < count; i++)
        if (faccessat(folder, names[i], R_OK, 0)) {
            missing++;
            first = i < first ? i : first;
        }
    if (missing)
        rc = ff_err_set(err, FF_EDATA,
                        "%s:%d: eval %s: %s/%s: is not there; %lld of %lld images are "
                        "missing",
                        grid->path, entry->root_line, entry->name, path, names[first],
                        (long long)missing, (long long)images);
    if (folder >= 0)
        close(folder);
    free(names);
    free(text);
    return rc;
}

/* The lists of every IJB entry, by ff-eval, and their pictures. */
static int check_sets(struct ff_cmd *cmd, const char *scratch, struct ff_err *err)
{
    char log[FF_PATH_MAX], features[FF_PATH_MAX], where[FF_PATH_MAX + 128];
    int rc = ff_path(log, err, "%s/eval.txt", scratch);
    if (!rc)
        rc = ff_path(features, err, "%s/" EMPTY, scratch);
    for (int e = 0; !rc && e < cmd->grid->eval_count; e++) {
        const struct ff_grid_eval *entry = &cmd->grid->evals[e];
        if (entry->bin_count)
            continue;
        const char *argv[] = {cmd->programs.eval, "ijb",        "--root",
                              entry->root,        "--protocol", entry->protocol,
                              "--features",       features,     NULL};
        snprintf(where, sizeof where, "%s:%d: eval %s", cmd->grid->path,
                 entry->root_line, entry->name);
        rc = ask(cmd, argv, log, where, err);
        if (!rc)
            rc = check_images(cmd->grid, entry, cmd->plan->evals[e].images, err);
    }
    return rc;
}

static int make_empty(const char *scratch, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    struct ff_atomic_file file;
    int rc = ff_path(path, err, "%s/" EMPTY, scratch);
    if (!rc)
        rc = ff_atomic_begin(&file, path, err);
    return rc ? rc : ff_atomic_commit(&file, err);
}

static int check_by_programs(struct ff_cmd *cmd, struct ff_err *err)
{
    const char *folder = getenv("TMPDIR");
    char scratch[FF_PATH_MAX];
    int rc = ff_path(scratch, err, "%s/ff-check-XXXXXX",
                     folder && *folder ? folder : "/tmp");
    if (rc)
        return rc;
    if (!mkdtemp(scratch))
        return ff_err_errno(err, FF_EFAIL, "%s", scratch);
    rc = make_empty(scratch, err);
    if (!rc)
        rc = check_backends(cmd, scratch, err);
    if (!rc)
        rc = check_sets(cmd, scratch, err);
    ff_remove_tree(scratch, NULL);
    return rc;
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
        "Checks the grid, its training set and evaluation sets with every picture, the "
        "backend, disk and memory. Exit code "
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
        rc = ff_cmd_print_plan(stdout, &cmd, false, NULL, NAN, &err);
    if (!rc)
        rc = check_writable(cmd.out, &err);
    if (!rc)
        rc = ff_cmd_check_needs(&cmd, true, &err);
    if (!rc)
        rc = check_by_programs(&cmd, &err);
    if (!rc)
        printf("check: ok\n");
    int exit_code = rc ? ff_cmd_fail(&err) : FF_EXIT_OK;
    ff_cmd_close(&cmd);
    return exit_code;
}
