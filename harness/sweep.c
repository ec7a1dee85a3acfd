/* SPDX-License-Identifier: MIT */
/* What the sweep does next; see sweep.h.
 *
 * A cell goes planned -> (train) -> stale -> (score each entry) -> done. The outcome of
 * a child is judged by its exit code and by what lies in the run directory afterwards,
 * and is an event in the log. Exit codes of children: 0 look for DONE or the score; 3
 * the cell is diverged, which is a result; 4, or a signal that somebody sent (KILL,
 * TERM
 * ...), go on from the checkpoint, but not for ever without getting further; 7, or 5 of
 * a card that others have filled, is no fault of the cell: the sweep waits (--wait-gpu)
 * or stops and names who is in the way; everything else makes the cell failed until
 * --retry-failed. */
#include "sweep.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "child_argv.h"
#include "log.h"
#include "sweep_priv.h"

#define BUSY_TRIES 3
#define OUTSIDE_STOPS 3       /* ends from outside in a row that a cell may have */
#define LONG_RUN_SECONDS 60.0 /* of a child: it got what it needs */

const struct ff_sweep_view *ff_sweep_view_of(const struct ff_sweep *sweep)
{
    return &sweep->view;
}

static const char *phase_text(char out[FF_PHASE], const struct ff_sweep *sweep)
{
    if (sweep->phase == FF_PHASE_TRAIN)
        snprintf(out, FF_PHASE, "train");
    else
        snprintf(out, FF_PHASE, "eval:%s", sweep->view.grid->evals[sweep->phase].name);
    return out;
}

static const char *key_of(const struct ff_sweep *sweep, int index)
{
    return sweep->view.grid->cells[index].train_key;
}

/* An event about a cell with an optional reason. */
static int tell(struct ff_sweep *sweep, const char *kind, int index, const char *reason,
                struct ff_err *err)
{
    struct ff_event event;
    ff_event_init(&event, kind);
    ff_event_add(&event, "key", "%s", key_of(sweep, index));
    if (reason)
        ff_event_add(&event, "reason", "%s", reason);
    return ff_sweep_event(sweep, &event, err);
}

static int publish(struct ff_sweep *sweep, struct ff_err *err)
{
    if (!sweep->options->publish)
        return 0;
    return sweep->options->publish(sweep->options->publish_context, &sweep->view, err);
}

static int features_path(char out[FF_PATH_MAX], const char *dir,
                         const struct ff_grid_eval *entry, struct ff_err *err)
{
    return ff_path(out, err, "%s/features-%s.h5", dir, entry->name);
}

/* Removes what `keep:` does not name once the cell no longer needs it. */
static int tidy(struct ff_sweep *sweep, int index, struct ff_err *err)
{
    const struct ff_grid *grid = sweep->view.grid;
    const struct ff_cell_result *result = &sweep->view.results[index];
    char dir[FF_PATH_MAX], path[FF_PATH_MAX];
    if (!result->trained)
        return 0;
    int rc = ff_sweep_cell_dir(dir, sweep->view.dir, key_of(sweep, index), err);
    if (!rc && !grid->keep_checkpoint &&
        !(rc = ff_path(path, err, "%s/checkpoint.h5", dir)))
        unlink(path);
    if (!rc && !grid->keep_model && result->status == FF_CELL_DONE &&
        !(rc = ff_path(path, err, "%s/model.h5", dir)))
        unlink(path);
    for (int e = 0; !rc && e < grid->eval_count; e++)
        if (!grid->keep_features && result->status == FF_CELL_DONE &&
            !(rc = features_path(path, dir, &grid->evals[e], err)))
            unlink(path);
    return rc;
}

static int cell_ended(struct ff_sweep *sweep, int index, struct ff_err *err)
{
    const struct ff_cell_result *result = &sweep->view.results[index];
    char label[512];
    ff_grid_cell_label(label, sizeof label, sweep->view.grid,
                       &sweep->view.grid->cells[index]);
    sweep->ended++;
    double metric = ff_cell_result_metric(sweep->view.grid, result);
    bool done = result->status == FF_CELL_DONE;
    if (result->status == FF_CELL_FAILED || (done && result->reason[0])) {
        sweep->failed_one = true;
        ff_warn("cell %s failed: %s%s", label, result->reason,
                done ? "; its last score stays" : "");
    } else if (result->status == FF_CELL_DIVERGED) {
        ff_info("cell %s diverged: %s", label, result->reason);
    } else if (isnan(metric)) {
        ff_info("cell %s done", label);
    } else {
        ff_info("cell %s done: %s = %.2f %%", label, sweep->view.grid->metric.text,
                metric);
    }
    int rc = tidy(sweep, index, err);
    return rc ? rc : publish(sweep, err);
}

static int cell_failed(struct ff_sweep *sweep, int index, int code, const char *reason,
                       struct ff_err *err)
{
    char phase[FF_PHASE];
    struct ff_event event;
    ff_event_init(&event, "failed");
    ff_event_add(&event, "key", "%s", key_of(sweep, index));
    ff_event_add(&event, "phase", "%s", phase_text(phase, sweep));
    ff_event_add(&event, "code", "%d", code);
    ff_event_add(&event, "reason", "%s", reason);
    if (sweep->phase != FF_PHASE_TRAIN)
        ff_event_add(&event, "eval_key", "%s",
                     sweep->plan->eval_keys[index][sweep->phase]);
    int rc = ff_sweep_event(sweep, &event, err);
    if (!rc)
        rc = ff_sweep_view_read(&sweep->view, index, err);
    sweep->rescore[index] = 0;
    return rc ? rc : cell_ended(sweep, index, err);
}

static int output_path(char out[FF_PATH_MAX], const struct ff_sweep *sweep,
                       const char *dir, struct ff_err *err)
{
    if (sweep->phase == FF_PHASE_TRAIN)
        return ff_path(out, err, "%s/train-output.txt", dir);
    return ff_path(out, err, "%s/eval-%s-output.txt", dir,
                   sweep->view.grid->evals[sweep->phase].name);
}

static int write_cell_file(const char *path, const struct ff_params *params,
                           struct ff_err *err)
{
    struct ff_atomic_file file;
    int rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    ff_params_write(file.stream, params, "");
    return ff_atomic_commit(&file, err);
}

static int spawn(struct ff_sweep *sweep, const char *const *argv, const char *dir,
                 struct ff_err *err)
{
    char output[FF_PATH_MAX], phase[FF_PHASE];
    pid_t pid = 0;
    const char *key = key_of(sweep, sweep->current);
    int rc = output_path(output, sweep, dir, err);
    if (!rc)
        rc = sweep->exec->start(sweep->exec->context, &pid, argv, output, err);
    if (rc) {
        sweep->current = -1;
        return rc;
    }
    sweep->child_since = ff_now();
    sweep->first_iteration = -1;
    const struct ff_sweep_record *record =
        ff_sweep_state_record(&sweep->view.state, key);
    struct ff_event event;
    ff_event_init(&event, "start");
    ff_event_add(&event, "key", "%s", key);
    ff_event_add(&event, "phase", "%s", phase_text(phase, sweep));
    ff_event_add(&event, "attempt", "%d", (record ? record->attempts : 0) + 1);
    ff_event_add(&event, "pid", "%ld", (long)pid);
    return ff_sweep_event(sweep, &event, err);
}

static int start_training(struct ff_sweep *sweep, int index, struct ff_err *err)
{
    char dir[FF_PATH_MAX], file[FF_PATH_MAX];
    int rc = ff_sweep_cell_dir(dir, sweep->view.dir, key_of(sweep, index), err);
    if (!rc)
        rc = ff_mkdirs(dir, err);
    if (!rc)
        rc = ff_sweep_wait_holder(sweep, dir, key_of(sweep, index), err);
    if (!rc)
        rc = ff_path(file, err, "%s/cell.yaml", dir);
    if (!rc)
        rc = write_cell_file(file, &sweep->view.grid->cells[index].params, err);
    if (rc)
        return rc;
    sweep->current = index;
    sweep->phase = FF_PHASE_TRAIN;
    sweep->view.results[index].status = FF_CELL_RUNNING;
    const char *argv[] = {sweep->programs->train, file, "--out", dir, NULL};
    return spawn(sweep, argv, dir, err);
}

static int start_scoring(struct ff_sweep *sweep, int index, int entry,
                         struct ff_err *err)
{
    const struct ff_grid *grid = sweep->view.grid;
    const struct ff_grid_eval *eval = &grid->evals[entry];
    char dir[FF_PATH_MAX], model[FF_PATH_MAX], out[FF_PATH_MAX], features[FF_PATH_MAX];
    int rc = ff_sweep_cell_dir(dir, sweep->view.dir, key_of(sweep, index), err);
    if (!rc)
        rc = ff_path(model, err, "%s/model.h5", dir);
    if (!rc)
        rc = ff_path(out, err, "%s/eval-%s.yaml", dir, eval->name);
    if (!rc)
        rc = features_path(features, dir, eval, err);
    if (!rc)
        rc = ff_sweep_wait_holder(sweep, dir, key_of(sweep, index), err);
    if (rc)
        return rc;
    sweep->phase = entry;
    if (access(model, R_OK) && sweep->view.results[index].status == FF_CELL_DONE) {
        ff_warn("%s: is gone (keep: names no model); its scores stay", model);
        sweep->rescore[index] = 0;
        return 0;
    }
    if (access(model, R_OK))
        return cell_failed(sweep, index, 0,
                           "model.h5 is gone and cannot be scored again; "
                           "remove the run directory to train it anew",
                           err);
    sweep->current = index;
    sweep->view.results[index].status = FF_CELL_RUNNING;
    struct ff_child_argv argv;
    ff_child_argv_eval(&argv, sweep->programs, eval, &grid->cells[index].params, model,
                       out);
    ff_child_argv_add(&argv, "--key");
    ff_child_argv_add(&argv, sweep->plan->eval_keys[index][entry]);
    if (!eval->bin_count) { /* a scoring that was cut off goes on from them */
        ff_child_argv_add(&argv, "--save-features");
        ff_child_argv_add(&argv, features);
    }
    return spawn(sweep, argv.items, dir, err);
}

static int note_exit(struct ff_sweep *sweep, struct ff_child_result result,
                     struct ff_err *err)
{
    char phase[FF_PHASE];
    struct ff_event event;
    ff_event_init(&event, "exit");
    ff_event_add(&event, "key", "%s", key_of(sweep, sweep->current));
    ff_event_add(&event, "phase", "%s", phase_text(phase, sweep));
    ff_event_add(&event, result.state == FF_CHILD_EXITED ? "code" : "signal", "%d",
                 result.value);
    ff_event_add(&event, "seconds", "%.3f", ff_now() - sweep->child_since);
    return ff_sweep_event(sweep, &event, err);
}

static const char *failure_text(int code)
{
    switch (code) {
    case FF_EXIT_USAGE: return "bad parameters";
    case FF_EXIT_NOMEM: return "out of memory";
    case FF_EXIT_DATA: return "bad data";
    case FF_EXIT_BUSY: return "busy";
    case FF_EXIT_STOPPED: return "stopped again and again without going on";
    }
    return "failed";
}

/* A disk without room, or a used-up quota, would fail every cell that follows. */
static bool says_disk_full(const char *words)
{
    return strstr(words, strerror(ENOSPC)) || strstr(words, strerror(EDQUOT));
}

/* FF_EFAIL where the sweep must end with the cell left as it is. */
static int child_failed(struct ff_sweep *sweep, int index, const char *dir,
                        struct ff_child_result result, struct ff_err *err)
{
    char output[FF_PATH_MAX], words[1024], reason[1152];
    const char *program = sweep->phase == FF_PHASE_TRAIN ? "ff-train" : "ff-eval";
    int rc = output_path(output, sweep, dir, err);
    if (rc)
        return rc;
    if (result.state != FF_CHILD_EXITED) {
        snprintf(reason, sizeof reason, "%s ended by signal %d", program, result.value);
        return cell_failed(sweep, index, -result.value, reason, err);
    }
    ff_exec_last_words(words, sizeof words, output);
    if (result.value == FF_EXIT_FAILED && says_disk_full(words))
        return ff_err_set(err, FF_EFAIL,
                          "%s; the same command goes on once there is room", words);
    snprintf(reason, sizeof reason, "%s: exit code %d, %s%s%s", program, result.value,
             failure_text(result.value), words[0] ? ": " : "", words);
    return cell_failed(sweep, index, result.value, reason, err);
}

/* Was the child ended from outside, and may it go on? */
static bool goes_on(struct ff_sweep *sweep, int index, struct ff_child_result result)
{
    int64_t iteration = sweep->view.results[index].iteration;
    bool outside = result.state == FF_CHILD_EXITED
                       ? result.value == FF_EXIT_STOPPED
                       : result.value == SIGKILL || result.value == SIGTERM ||
                             result.value == SIGINT || result.value == SIGHUP;
    if (!outside)
        return false;
    if (sweep->resumed_cell != index || iteration > sweep->resumed_at) {
        sweep->resumed_cell = index;
        sweep->resumed_at = iteration;
        sweep->outside_stops = 0;
    }
    if (++sweep->outside_stops > OUTSIDE_STOPS)
        return false;
    ff_info("%s was stopped from outside; going on",
            sweep->phase == FF_PHASE_TRAIN ? "ff-train" : "ff-eval");
    return true;
}

static int training_ended(struct ff_sweep *sweep, int index, const char *dir,
                          struct ff_child_result result, bool asked, struct ff_err *err)
{
    const struct ff_cell_result *cell = &sweep->view.results[index];
    bool exited = result.state == FF_CHILD_EXITED;
    if (cell->trained) {
        int rc = tell(sweep, "trained", index, NULL, err);
        if (!rc)
            rc = tidy(sweep, index, err);
        if (rc || sweep->view.grid->eval_count)
            return rc;
        rc = tell(sweep, "done", index, NULL, err);
        return rc ? rc : cell_ended(sweep, index, err);
    }
    if (exited && result.value == FF_EXIT_DIVERGED) {
        int rc = tell(sweep, "diverged", index,
                      cell->reason[0] ? cell->reason : "loss is not finite", err);
        if (!rc)
            rc = ff_sweep_view_read(&sweep->view, index, err);
        return rc ? rc : cell_ended(sweep, index, err);
    }
    if (asked)
        return 0; /* stays planned, with or without a checkpoint */
    if (goes_on(sweep, index, result))
        return 0;
    if (exited && result.value == FF_EXIT_OK)
        return cell_failed(sweep, index, 0, "ff-train ended without DONE", err);
    return child_failed(sweep, index, dir, result, err);
}

static int scoring_ended(struct ff_sweep *sweep, int index, const char *dir,
                         struct ff_child_result result, bool asked, struct ff_err *err)
{
    const struct ff_cell_result *cell = &sweep->view.results[index];
    const struct ff_eval_score *score = &cell->evals[sweep->phase];
    bool good = result.state == FF_CHILD_EXITED && result.value == FF_EXIT_OK;
    if (!good && (asked || goes_on(sweep, index, result)))
        return 0;
    if (!good)
        return child_failed(sweep, index, dir, result, err);
    if (!score->present ||
        strcmp(score->eval_key, sweep->plan->eval_keys[index][sweep->phase]))
        return cell_failed(sweep, index, 0,
                           "ff-eval left no score of this model and key", err);
    sweep->rescore[index] &= (uint8_t) ~(1u << sweep->phase);
    if (cell->status != FF_CELL_DONE || sweep->rescore[index])
        return 0;
    int rc = tell(sweep, "done", index, NULL, err);
    if (!rc) /* a failure of before no longer counts */
        rc = ff_sweep_view_read(&sweep->view, index, err);
    return rc ? rc : cell_ended(sweep, index, err);
}

/* Cells that share the train key of this one (two axis values of one meaning). */
static int refresh_twins(struct ff_sweep *sweep, int index, struct ff_err *err)
{
    int rc = 0;
    for (int i = 0; !rc && i < sweep->view.grid->cell_count; i++)
        if (i != index && !sweep->view.grid->cells[i].excluded &&
            !strcmp(key_of(sweep, i), key_of(sweep, index)))
            rc = ff_sweep_view_read(&sweep->view, i, err);
    return rc;
}

/* Did the child end because something is in use by others? Then busy is filled. */
static int note_busy(struct ff_sweep *sweep, const char *dir,
                     struct ff_child_result result, bool *gpu, struct ff_err *err)
{
    char output[FF_PATH_MAX], words[1024];
    sweep->busy[0] = 0;
    *gpu = false;
    if (result.state != FF_CHILD_EXITED ||
        (result.value != FF_EXIT_BUSY && result.value != FF_EXIT_NOMEM))
        return 0;
    int rc = output_path(output, sweep, dir, err);
    if (rc)
        return rc;
    ff_exec_last_words(words, sizeof words, output);
    const char *says = strstr(words, result.value == FF_EXIT_BUSY ? FF_SAYS_GPU_BUSY
                                                                  : FF_SAYS_GPU_FULL);
    *gpu = says != NULL;
    if (says || result.value == FF_EXIT_BUSY)
        ff_shorten(sweep->busy, sizeof sweep->busy,
                   says     ? says
                   : *words ? words
                            : "ff-train: busy");
    return 0;
}

/* Another try for the GPU later; see --wait-gpu. */
static int wait_for_gpu(struct ff_sweep *sweep, int index, int code, struct ff_err *err)
{
    const struct ff_sweep_options *options = sweep->options;
    char phase[FF_PHASE];
    double now = ff_now();
    /* A child that ran for long had the GPU: a new wait begins. */
    bool first = !sweep->busy_since || now - sweep->child_since > LONG_RUN_SECONDS;
    if (first) {
        sweep->busy_since = now;
        sweep->busy_wait_ms = options->gpu_wait_ms;
        ff_info("waiting for the GPU: %s", sweep->busy);
    } else if (sweep->busy_wait_ms < options->gpu_wait_max_ms) {
        sweep->busy_wait_ms = 2 * sweep->busy_wait_ms < options->gpu_wait_max_ms
                                  ? 2 * sweep->busy_wait_ms
                                  : options->gpu_wait_max_ms;
    }
    sweep->busy_retry = now + 1e-3 * sweep->busy_wait_ms;
    struct ff_event event;
    ff_event_init(&event, "wait");
    ff_event_add(&event, "key", "%s", key_of(sweep, index));
    ff_event_add(&event, "phase", "%s", phase_text(phase, sweep));
    ff_event_add(&event, "code", "%d", code);
    ff_event_add(&event, "seconds", "%.0f", now - sweep->busy_since);
    ff_event_add(&event, "reason", "%s", sweep->busy);
    return ff_sweep_event(sweep, &event, err);
}

static int child_ended(struct ff_sweep *sweep, struct ff_child_result result,
                       bool asked, struct ff_err *err)
{
    char dir[FF_PATH_MAX];
    bool gpu = false;
    int index = sweep->current;
    int rc = note_exit(sweep, result, err);
    if (!rc)
        rc = ff_sweep_cell_dir(dir, sweep->view.dir, key_of(sweep, index), err);
    sweep->current = -1;
    if (!rc)
        rc = ff_sweep_refresh(sweep, index, err);
    if (!rc && !asked)
        rc = note_busy(sweep, dir, result, &gpu, err);
    if (rc)
        return rc;
    sweep->busy_retry = 0;
    if (gpu && sweep->options->wait_gpu)
        return wait_for_gpu(sweep, index, result.value, err);
    sweep->busy_since = 0;
    if (gpu || (sweep->busy[0] && sweep->busy_tries == BUSY_TRIES))
        return 0; /* stop_reason() looks at it */
    if (sweep->busy[0]) {
        sweep->busy[0] = 0;
        sweep->busy_tries++;
        ff_info("the run directory is busy; trying again in %d s",
                sweep->options->busy_wait_ms / 1000);
        for (int ms = 0; ms < sweep->options->busy_wait_ms && !ff_stop_requested();
             ms += 100)
            usleep(100000);
        return 0;
    }
    sweep->busy_tries = 0;
    rc = sweep->phase == FF_PHASE_TRAIN
             ? training_ended(sweep, index, dir, result, asked, err)
             : scoring_ended(sweep, index, dir, result, asked, err);
    return rc ? rc : refresh_twins(sweep, index, err);
}

/* The entry of a trained cell that is to be scored next; -1 = none. */
static int next_entry(const struct ff_sweep *sweep, int index)
{
    const struct ff_cell_result *result = &sweep->view.results[index];
    for (int e = 0; e < sweep->view.grid->eval_count; e++)
        if (!result->evals[e].present || (sweep->rescore[index] & (1u << e)) ||
            strcmp(result->evals[e].eval_key, sweep->plan->eval_keys[index][e]))
            return e;
    return -1;
}

static int start_next(struct ff_sweep *sweep, struct ff_err *err)
{
    for (int k = 0; k < sweep->plan->order_count; k++) {
        int index = sweep->plan->order[k];
        enum ff_cell_status status = sweep->view.results[index].status;
        if (!sweep->selected[index])
            continue;
        if (status == FF_CELL_STALE ||
            (status == FF_CELL_DONE && sweep->rescore[index])) {
            int rc = start_scoring(sweep, index, next_entry(sweep, index), err);
            return rc ? rc : 1;
        }
        if (status == FF_CELL_PLANNED && !sweep->options->score_only) {
            int rc = start_training(sweep, index, err);
            return rc ? rc : 1;
        }
    }
    return 0;
}

/* Seconds an iteration of the running training as seen so far; NaN = not yet. */
static double observed_pace(struct ff_sweep *sweep, int64_t iteration)
{
    if (iteration < 0)
        return NAN;
    if (sweep->first_iteration < 0) {
        sweep->first_iteration = iteration;
        sweep->first_seen = ff_now();
    }
    if (iteration <= sweep->first_iteration)
        return NAN;
    return (ff_now() - sweep->first_seen) /
           (double)(iteration - sweep->first_iteration);
}

static void show_progress(struct ff_sweep *sweep)
{
    char label[512], path[FF_PATH_MAX], eta[40];
    int index = sweep->current, counts[FF_CELL_STATUS_COUNT];
    struct ff_curve_tail tail = {-1, NAN, NAN};
    ff_sweep_count(counts, &sweep->view);
    int nth =
        counts[FF_CELL_DONE] + counts[FF_CELL_DIVERGED] + counts[FF_CELL_FAILED] + 1;
    ff_grid_cell_label(label, sizeof label, sweep->view.grid,
                       &sweep->view.grid->cells[index]);
    if (sweep->phase == FF_PHASE_TRAIN &&
        !ff_path(path, NULL, "%s/cells/%s/curve.csv", sweep->view.dir,
                 key_of(sweep, index))) {
        ff_curve_tail_read(&tail, path);
        sweep->view.results[index].iteration = tail.iteration;
    }
    ff_sweep_eta_text(eta, &sweep->view, observed_pace(sweep, tail.iteration));
    if (sweep->phase != FF_PHASE_TRAIN)
        ff_progress(false, "cell %d of %d  %s  scoring %s  sweep ETA %s", nth,
                    sweep->plan->order_count, label,
                    sweep->view.grid->evals[sweep->phase].name, eta);
    else if (tail.iteration < 0)
        ff_progress(false, "cell %d of %d  %s  starting  sweep ETA %s", nth,
                    sweep->plan->order_count, label, eta);
    else
        ff_progress(false,
                    "cell %d of %d  %s  %lld/%lld  loss %.4f  lr %.3g  sweep ETA %s",
                    nth, sweep->plan->order_count, label, (long long)tail.iteration + 1,
                    (long long)sweep->view.totals[index], tail.loss, tail.lr, eta);
}

static void show_waiting(const struct ff_sweep *sweep)
{
    char waited[32], next[32];
    double now = ff_now();
    ff_progress(false, "waiting for the GPU for %s, next try in %s: %s",
                ff_duration(waited, now - sweep->busy_since),
                ff_duration(next, sweep->busy_retry - now), sweep->busy);
}

int ff_sweep_act(struct ff_sweep *sweep, struct ff_err *err)
{
    if (sweep->current < 0 && sweep->busy[0] && ff_now() < sweep->busy_retry) {
        show_waiting(sweep);
        usleep(1000 * (useconds_t)sweep->options->poll_ms); /* ends at a signal */
        return 1;
    }
    if (sweep->current < 0)
        return start_next(sweep, err);
    struct ff_child_result result =
        sweep->exec->wait(sweep->exec->context, sweep->options->poll_ms);
    if (result.state == FF_CHILD_RUNNING) {
        show_progress(sweep);
        return 1;
    }
    int rc = child_ended(sweep, result, false, err);
    return rc ? rc : 1;
}

/* Why the sweep must stop now; NULL = go on. */
static const char *stop_reason(const struct ff_sweep *sweep)
{
    const struct ff_sweep_options *options = sweep->options;
    if (ff_stop_requested())
        return "asked to stop";
    if (options->max_hours > 0 && ff_now() - sweep->began >= 3600 * options->max_hours)
        return "--max-hours reached";
    if (options->max_cells > 0 && sweep->current < 0 &&
        sweep->ended >= options->max_cells)
        return "--max-cells reached";
    if (options->fail_fast && sweep->current < 0 && sweep->failed_one)
        return "a cell failed and --fail-fast is set";
    if (sweep->current < 0 && sweep->busy[0] && !sweep->busy_retry)
        return sweep->busy;
    return NULL;
}

static bool counts_as_left(const struct ff_sweep *sweep, int index)
{
    return !sweep->options->score_only || sweep->view.results[index].trained;
}

/* What this run leaves undone: cells that --only passed over, failed cells and why. */
static void tell_rest(const struct ff_sweep *sweep, const char *reason)
{
    const struct ff_grid *grid = sweep->view.grid;
    char label[512];
    int failed = 0, first = -1, others = 0;
    for (int i = 0; i < grid->cell_count; i++) {
        enum ff_cell_status status = sweep->view.results[i].status;
        bool open = status == FF_CELL_PLANNED || status == FF_CELL_STALE ||
                    status == FF_CELL_FAILED;
        if (!open || !counts_as_left(sweep, i))
            continue;
        others += !sweep->selected[i];
        if (sweep->selected[i] && status == FF_CELL_FAILED && !failed++)
            first = i;
    }
    if (reason || !others)
        ff_progress(true, "%s", reason ? reason : "nothing left to do");
    else
        ff_progress(true, "nothing left to do with --only; %d other cell%s not done",
                    others, others == 1 ? " is" : "s are");
    if (failed)
        ff_warn("%d cell%s failed%s; %s%s: %s", failed, failed == 1 ? "" : "s",
                sweep->options->retry_failed ? "" : " (--retry-failed tries again)",
                failed == 1 ? "" : "the first, ",
                ff_grid_cell_label(label, sizeof label, grid, &grid->cells[first]),
                sweep->view.results[first].reason);
}

/* 0, 1 or 4 by the state of the selected cells; 1 also where a cell that is done could
 * not be scored again. */
static int outcome(const struct ff_sweep *sweep)
{
    int code = sweep->failed_one ? FF_EXIT_FAILED : FF_EXIT_OK;
    for (int i = 0; i < sweep->view.grid->cell_count; i++) {
        enum ff_cell_status status = sweep->view.results[i].status;
        if (!sweep->selected[i] || !counts_as_left(sweep, i))
            continue;
        if (status == FF_CELL_PLANNED || status == FF_CELL_RUNNING ||
            status == FF_CELL_STALE)
            return sweep->options->fail_fast && sweep->failed_one ? FF_EXIT_FAILED
                                                                  : FF_EXIT_STOPPED;
        if (status == FF_CELL_FAILED)
            code = FF_EXIT_FAILED;
    }
    return code;
}

int ff_sweep_run(int *exit_code, struct ff_sweep *sweep, struct ff_err *err)
{
    const char *reason = NULL;
    int more = publish(sweep, err);
    if (more < 0)
        return more;
    for (int i = 0; i < sweep->view.grid->cell_count; i++)
        if ((more = tidy(sweep, i, err)) < 0)
            return more;
    do {
        reason = stop_reason(sweep);
        more = reason ? 0 : ff_sweep_act(sweep, err);
    } while (more > 0);
    if (more == FF_ESTOPPED) {
        reason = "asked to stop";
        more = 0;
    }
    if (more < 0)
        return more;
    bool busy = reason == sweep->busy;
    if (busy)
        ff_warn("%s", reason);
    else
        tell_rest(sweep, reason);
    if (sweep->current >= 0) {
        ff_info("stopping the running program; it writes its checkpoint "
                "(Ctrl-C again ends at once)");
        struct ff_child_result result =
            sweep->exec->stop(sweep->exec->context, sweep->options->grace_ms);
        int rc = child_ended(sweep, result, true, err);
        if (rc)
            return rc;
    }
    int rc = publish(sweep, err);
    if (rc)
        return rc;
    *exit_code = busy ? FF_EXIT_BUSY : outcome(sweep);
    struct ff_event event;
    ff_event_init(&event, "end");
    ff_event_add(&event, "code", "%d", *exit_code);
    ff_event_add(&event, "reason", "%s", reason ? reason : "");
    return ff_sweep_event(sweep, &event, err);
}
