/* SPDX-License-Identifier: MIT */
/* Short runs to time a grid; see measure.h.
 *
 * The pace of training is taken between the first and the last look at curve.csv, so
 * that start-up does not count; where the file grew in one piece, the whole run is
 * taken. */
#include "measure.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cell_result.h"
#include "child_argv.h"
#include "log.h"

#define POLL_MS 20
#define GRACE_MS 60000
#define MIN_SEEN 20 /* iterations between two looks for a pace worth having */

struct look {
    int64_t first, last;
    double first_at, last_at;
};

static int finish(struct ff_exec *exec, struct look *look, const char *curve,
                  const char *what, struct ff_child_result *result, struct ff_err *err)
{
    do {
        *result = exec->wait(exec->context, POLL_MS);
        if (result->state == FF_CHILD_RUNNING && ff_stop_requested()) {
            exec->stop(exec->context, GRACE_MS);
            return ff_err_set(err, FF_ESTOPPED, "stopped while measuring %s", what);
        }
        struct ff_curve_tail tail = {-1, 0, 0};
        if (look)
            ff_curve_tail_read(&tail, curve);
        if (look && tail.iteration >= 0 && look->first < 0) {
            look->first = look->last = tail.iteration;
            look->first_at = look->last_at = ff_now();
        } else if (look && tail.iteration > look->last) {
            look->last = tail.iteration;
            look->last_at = ff_now();
        }
    } while (result->state == FF_CHILD_RUNNING);
    return 0;
}

static int failed(const char *program, struct ff_child_result result, const char *log,
                  struct ff_err *err)
{
    char words[300];
    ff_exec_last_words(words, sizeof words, log);
    return ff_err_set(err, FF_EFAIL, "%s ended with %s %d%s%s", program,
                      result.state == FF_CHILD_EXITED ? "exit code" : "signal",
                      result.value, words[0] ? ": " : "", words);
}

static int time_training(struct ff_measure *measure, const struct ff_plan *plan,
                         struct ff_exec *exec, const struct ff_programs *programs,
                         const char *dir, struct ff_err *err)
{
    char file[FF_PATH_MAX], curve[FF_PATH_MAX], log[FF_PATH_MAX], count[32];
    struct ff_atomic_file cell;
    pid_t pid;
    int index = plan->order[0];
    int rc = ff_path(file, err, "%s/cell.yaml", dir);
    if (!rc)
        rc = ff_path(curve, err, "%s/curve.csv", dir);
    if (!rc)
        rc = ff_path(log, err, "%s/output.txt", dir);
    if (!rc)
        rc = ff_atomic_begin(&cell, file, err);
    if (rc)
        return rc;
    ff_params_write(cell.stream, &plan->grid->cells[index].params, "");
    rc = ff_atomic_commit(&cell, err);
    if (rc)
        return rc;
    snprintf(count, sizeof count, "%d", FF_MEASURE_ITERATIONS);
    const char *argv[] = {programs->train, file,  "--out", dir,
                          "--stop-after",  count, NULL};
    struct look look = {-1, -1, 0, 0};
    struct ff_child_result result;
    double began = ff_now();
    rc = exec->start(exec->context, &pid, argv, log, err);
    if (!rc)
        rc = finish(exec, &look, curve, "ff-train", &result, err);
    if (rc)
        return rc;
    if (result.state != FF_CHILD_EXITED ||
        (result.value != FF_EXIT_STOPPED && result.value != FF_EXIT_OK))
        return failed("ff-train", result, log, err);
    if (look.last < 0)
        return ff_err_set(err, FF_EFAIL, "ff-train wrote no iteration to %s", curve);
    if (look.last - look.first >= MIN_SEEN)
        measure->seconds_per_iteration =
            (look.last_at - look.first_at) / (double)(look.last - look.first);
    else
        measure->seconds_per_iteration = (ff_now() - began) / (double)(look.last + 1);
    return 0;
}

static int time_eval(double *seconds, const struct ff_plan *plan, int entry,
                     struct ff_exec *exec, const struct ff_programs *programs,
                     const char *dir, struct ff_err *err)
{
    const struct ff_grid_eval *eval = &plan->grid->evals[entry];
    char model[FF_PATH_MAX], out[FF_PATH_MAX], log[FF_PATH_MAX], count[32];
    int rc = ff_path(model, err, "%s/model.h5", dir);
    if (!rc && access(model, R_OK))
        rc = ff_path(model, err, "%s/checkpoint.h5", dir);
    if (!rc)
        rc = ff_path(out, err, "%s/eval.yaml", dir);
    if (!rc)
        rc = ff_path(log, err, "%s/eval-output.txt", dir);
    if (rc)
        return rc;
    snprintf(count, sizeof count, "%d", FF_MEASURE_IMAGES);
    struct ff_child_argv argv;
    ff_child_argv_eval(&argv, programs, eval, &plan->grid->cells[plan->order[0]].params,
                       model, out);
    ff_child_argv_add(&argv, "--limit-images");
    ff_child_argv_add(&argv, count);
    struct ff_child_result result;
    pid_t pid;
    double began = ff_now();
    rc = exec->start(exec->context, &pid, argv.items, log, err);
    if (!rc)
        rc = finish(exec, NULL, NULL, "ff-eval", &result, err);
    if (rc)
        return rc;
    if (result.state != FF_CHILD_EXITED || result.value)
        return failed("ff-eval", result, log, err);
    double images = (double)plan->evals[entry].images;
    double part = images > FF_MEASURE_IMAGES ? FF_MEASURE_IMAGES : images;
    *seconds = (ff_now() - began) * images / part;
    return 0;
}

int ff_measure_run(struct ff_measure *measure, const struct ff_plan *plan,
                   struct ff_exec *exec, const struct ff_programs *programs,
                   const char *scratch, struct ff_err *err)
{
    memset(measure, 0, sizeof *measure);
    if (plan->order_count == 0)
        return ff_err_set(err, FF_EUSAGE, "%s: every cell is excluded",
                          plan->grid->path);
    int rc = ff_mkdirs(scratch, err);
    if (rc)
        return rc;
    ff_info("measuring %d iterations", FF_MEASURE_ITERATIONS);
    rc = time_training(measure, plan, exec, programs, scratch, err);
    for (int e = 0; !rc && e < plan->grid->eval_count; e++) {
        ff_info("measuring %d images of %s", FF_MEASURE_IMAGES,
                plan->grid->evals[e].name);
        rc =
            time_eval(&measure->eval_seconds[e], plan, e, exec, programs, scratch, err);
    }
    struct ff_err ignored = FF_ERR_INIT;
    ff_remove_tree(scratch, &ignored);
    return rc;
}
