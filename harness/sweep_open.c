/* SPDX-License-Identifier: MIT */
/* Taking hold of a sweep: the lock, the log, what changed since last time, leftovers.
 *
 * A place of the grid (its coordinates) had a train key when it was last planned. If
 * that key was another one and its run is finished, the experiment behind a finished
 * cell would silently change: that is refused. A place that was never finished just
 * moves to its new key. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "h5io.h"
#include "log.h"
#include "sweep_priv.h"

int ff_sweep_event(struct ff_sweep *sweep, struct ff_event *event, struct ff_err *err)
{
    int rc = ff_event_log_append(&sweep->log, event, err);
    if (!rc)
        rc = ff_sweep_state_apply(&sweep->view.state, event, err);
    ff_event_fini(event);
    return rc;
}

static bool finished_dir(const char *dir, const char *key)
{
    char path[FF_PATH_MAX];
    if (ff_path(path, NULL, "%s/cells/%s/DONE", dir, key))
        return false;
    if (!access(path, F_OK))
        return true;
    return !ff_path(path, NULL, "%s/cells/%s/DIVERGED", dir, key) &&
           !access(path, F_OK);
}

/* Adds "name old -> new" texts, each name once. */
static void note_change(char *list, size_t capacity, const char *name, const char *from,
                        const char *to)
{
    char item[2 * FF_PARAM_TEXT + 64], start[80];
    snprintf(start, sizeof start, "%s ", name);
    size_t used = strlen(list);
    for (const char *p = list; (p = strstr(p, start)); p++)
        if (p == list || p[-1] == ' ')
            return;
    snprintf(item, sizeof item, "%s%s%s -> %s", used ? ", " : "", start, from, to);
    if (used + strlen(item) < capacity)
        memcpy(list + used, item, strlen(item) + 1);
}

/* What differs between the run of an old key and the cell as it is planned now. */
static void list_changes(char *list, size_t capacity, const struct ff_sweep *sweep,
                         const struct ff_sweep_place *old, int index)
{
    char path[FF_PATH_MAX], was[FF_PARAM_TEXT], is[FF_PARAM_TEXT];
    const struct ff_cell *cell = &sweep->view.grid->cells[index];
    const struct ff_plan_data *data = &sweep->plan->data[sweep->plan->cell_data[index]];
    size_t count;
    const struct ff_param_info *table = ff_params_table(&count);
    struct ff_params *params = malloc(sizeof *params);
    if (!params)
        return;
    ff_params_defaults(params);
    bool known =
        !ff_path(path, NULL, "%s/cells/%s/cell.yaml", sweep->view.dir, old->key) &&
        !ff_params_load(params, path, NULL) && !ff_params_resolve(params, NULL);
    size_t before = strlen(list);
    for (size_t i = 0; known && i < count; i++) {
        if (table[i].param_class == FF_PARAM_NEITHER && strcmp(table[i].name, "init"))
            continue;
        ff_grid_value_text(was, params, &table[i]);
        ff_grid_value_text(is, &cell->params, &table[i]);
        if (strcmp(was, is))
            note_change(list, capacity, table[i].name, was, is);
    }
    if (strcmp(old->data, data->fingerprint))
        note_change(list, capacity, "data", old->data, data->fingerprint);
    if (strlen(list) == before && !before)
        note_change(list, capacity, "train key", old->key, cell->train_key);
    free(params);
}

static int refuse_changes(struct ff_sweep *sweep, struct ff_err *err)
{
    char place[4096], label[512], first[512] = "", list[600] = "";
    const struct ff_grid *grid = sweep->view.grid;
    int changed = 0;
    for (int i = 0; i < grid->cell_count; i++) {
        const struct ff_cell *cell = &grid->cells[i];
        if (cell->excluded)
            continue;
        const struct ff_sweep_place *old = ff_sweep_state_place(
            &sweep->view.state, ff_grid_cell_place(place, sizeof place, grid, cell));
        if (!old || !strcmp(old->key, cell->train_key) ||
            !finished_dir(sweep->view.dir, old->key))
            continue;
        list_changes(list, sizeof list, sweep, old, i);
        if (!changed++)
            snprintf(first, sizeof first, "%s",
                     ff_grid_cell_label(label, sizeof label, grid, cell));
    }
    if (!changed)
        return 0;
    return ff_err_set(err, FF_EUSAGE,
                      "%s: %d finished cell%s (%s%s) would change meaning: "
                      "%s; take another --out, or undo the change",
                      sweep->view.dir, changed, changed == 1 ? "" : "s", first,
                      changed == 1 ? "" : " ...", list);
}

static int keep_grid(struct ff_sweep *sweep, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    int rc = ff_path(path, err, "%s/grid.yaml", sweep->view.dir);
    if (rc)
        return rc;
    char *old = NULL;
    size_t bytes;
    bool same = !access(path, F_OK) && !ff_read_file(&old, &bytes, path, NULL) &&
                !strcmp(old, sweep->view.grid->text);
    free(old);
    if (same)
        return 0;
    struct ff_atomic_file file;
    rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    fputs(sweep->view.grid->text, file.stream);
    return ff_atomic_commit(&file, err);
}

/* Notes every place whose key, eval keys or length is new to the log. */
static int note_cells(struct ff_sweep *sweep, struct ff_err *err)
{
    const struct ff_grid *grid = sweep->view.grid;
    const struct ff_plan *plan = sweep->plan;
    char place[4096], evals[FF_GRID_MAX_EVALS * (FF_GRID_NAME + FF_SHA256_HEX + 2)];
    for (int k = 0; k < plan->order_count; k++) {
        int i = plan->order[k];
        const struct ff_cell *cell = &grid->cells[i];
        const char *data = plan->data[plan->cell_data[i]].fingerprint;
        size_t used = 0;
        evals[0] = 0;
        for (int e = 0; e < grid->eval_count; e++)
            used += (size_t)snprintf(evals + used, sizeof evals - used, "%s%s=%s",
                                     e ? " " : "", grid->evals[e].name,
                                     plan->eval_keys[i][e]);
        ff_grid_cell_place(place, sizeof place, grid, cell);
        const struct ff_sweep_place *old =
            ff_sweep_state_place(&sweep->view.state, place);
        if (old && !strcmp(old->key, cell->train_key) && !strcmp(old->evals, evals) &&
            !strcmp(old->data, data) && old->total == plan->iterations[i])
            continue;
        struct ff_event event;
        ff_event_init(&event, "cell");
        ff_event_add(&event, "place", "%s", place);
        ff_event_add(&event, "key", "%s", cell->train_key);
        ff_event_add(&event, "evals", "%s", evals);
        ff_event_add(&event, "total", "%lld", (long long)plan->iterations[i]);
        ff_event_add(&event, "data", "%s", data);
        int rc = ff_sweep_event(sweep, &event, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int note_begin(struct ff_sweep *sweep, struct ff_err *err)
{
    char host[64] = "";
    struct ff_event event;
    gethostname(host, sizeof host - 1);
    ff_event_init(&event, "begin");
    ff_event_add(&event, "pid", "%ld", (long)getpid());
    ff_event_add(&event, "host", "%s", host);
    ff_event_add(&event, "version", "%s", FF_VERSION);
    ff_event_add(&event, "commit", "%s", ff_git_commit());
    ff_event_add(&event, "cells", "%d", sweep->plan->order_count);
    return ff_sweep_event(sweep, &event, err);
}

int ff_sweep_set_aside(struct ff_sweep *sweep, const char *dir, const char *key,
                       const char *reason, struct ff_err *err)
{
    char to[FF_PATH_MAX];
    int rc, n = 1;
    do {
        if ((rc = ff_path(to, err, "%s.broken-%d", dir, n++)))
            return rc;
    } while (!access(to, F_OK));
    if (rename(dir, to))
        return ff_err_errno(err, FF_EFAIL, "%s: setting it aside", dir);
    ff_warn("%s: %s; set aside as %s, the cell starts anew", dir, reason,
            strrchr(to, '/') + 1);
    struct ff_event event;
    ff_event_init(&event, "aside");
    ff_event_add(&event, "key", "%s", key);
    ff_event_add(&event, "to", "%s", strrchr(to, '/') + 1);
    ff_event_add(&event, "reason", "%s", reason);
    return ff_sweep_event(sweep, &event, err);
}

/* Is the process one that was started for this key? */
static bool works_on(pid_t pid, const char *key)
{
    char path[64], line[8192];
    snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)pid);
    FILE *f = pid > 0 ? fopen(path, "re") : NULL;
    if (!f)
        return false;
    size_t bytes = fread(line, 1, sizeof line, f);
    fclose(f);
    return memmem(line, bytes, key, strlen(key)) != NULL;
}

/* The first number in a lock file; 0 if there is none. */
static pid_t lock_holder(const char *path)
{
    FILE *f = fopen(path, "re");
    long pid = 0;
    int c;
    while (f && (c = fgetc(f)) != EOF)
        if (c >= '0' && c <= '9') {
            ungetc(c, f);
            if (fscanf(f, "%ld", &pid) != 1)
                pid = 0;
            break;
        }
    if (f)
        fclose(f);
    return (pid_t)pid;
}

int ff_sweep_wait_holder(struct ff_sweep *sweep, const char *dir, const char *key,
                         struct ff_err *err)
{
    char path[FF_PATH_MAX];
    int rc = ff_path(path, err, "%s/lock", dir);
    if (rc)
        return rc;
    pid_t left_over = (pid_t)sweep->view.state.running_pid;
    double since = ff_now();
    bool told = false, termed = false;
    for (;;) {
        struct ff_err busy = FF_ERR_INIT;
        pid_t holder = works_on(left_over, key) ? left_over : 0;
        int fd = -1;
        rc = ff_lock(&fd, path, &busy);
        if (!rc)
            close(fd);
        else if (rc != FF_EBUSY)
            return ff_err_set(err, rc, "%s", busy.text);
        else if (!holder && works_on(lock_holder(path), key))
            holder = lock_holder(path);
        if (!rc && !holder)
            return 0;
        if (ff_stop_requested())
            return ff_err_set(err, FF_ESTOPPED, "stopped while %s is held", dir);
        if (!told)
            ff_info("waiting for the run left over in %s", dir);
        told = true;
        double waited_ms = 1000 * (ff_now() - since);
        if (holder && waited_ms > sweep->options->holder_kill_ms)
            kill(holder, SIGKILL);
        else if (holder && !termed && waited_ms > sweep->options->holder_term_ms)
            termed = !kill(holder, SIGTERM);
        else if (!holder && waited_ms > 2.0 * sweep->options->holder_kill_ms)
            return ff_err_set(err, FF_EBUSY, "%s", busy.text);
        usleep(50000);
    }
}

/* checkpoint.h5 that cannot be opened: the run cannot go on from it. */
static bool checkpoint_broken(const char *dir)
{
    char path[FF_PATH_MAX];
    hid_t file;
    if (ff_path(path, NULL, "%s/checkpoint.h5", dir) || access(path, F_OK))
        return false;
    if (ff_h5_open(&file, path, false, NULL))
        return true;
    H5Fclose(file);
    return false;
}

int ff_sweep_refresh(struct ff_sweep *sweep, int index, struct ff_err *err)
{
    struct ff_err damage = FF_ERR_INIT;
    int rc = ff_sweep_view_read(&sweep->view, index, &damage);
    const char *key = sweep->view.grid->cells[index].train_key;
    char dir[FF_PATH_MAX];
    if (rc && rc != FF_EDATA)
        return ff_err_set(err, rc, "%s", damage.text);
    if (sweep->view.grid->cells[index].excluded)
        return 0;
    if (ff_sweep_cell_dir(dir, sweep->view.dir, key, err))
        return FF_EUSAGE;
    if (!rc && !sweep->view.results[index].trained && checkpoint_broken(dir))
        rc = ff_err_set(&damage, FF_EDATA, "checkpoint.h5 is damaged");
    if (!rc)
        return 0;
    rc = ff_sweep_wait_holder(sweep, dir, key, err);
    if (!rc)
        rc = ff_sweep_set_aside(sweep, dir, key, damage.text, err);
    return rc ? rc : ff_sweep_view_read(&sweep->view, index, err);
}

static int retry_failed(struct ff_sweep *sweep, int index, struct ff_err *err)
{
    const char *key = sweep->view.grid->cells[index].train_key;
    const struct ff_sweep_record *record =
        ff_sweep_state_record(&sweep->view.state, key);
    char dir[FF_PATH_MAX];
    bool bad_data =
        record && record->code == FF_EXIT_DATA && !strcmp(record->phase, "train");
    struct ff_event event;
    ff_event_init(&event, "retry");
    ff_event_add(&event, "key", "%s", key);
    int rc = ff_sweep_event(sweep, &event, err);
    if (!rc)
        rc = ff_sweep_cell_dir(dir, sweep->view.dir, key, err);
    /* What ff-train refused as bad data may be the checkpoint itself. */
    if (!rc && bad_data && !access(dir, F_OK)) {
        rc = ff_sweep_wait_holder(sweep, dir, key, err);
        if (!rc)
            rc = ff_sweep_set_aside(sweep, dir, key, "the last attempt found bad data",
                                    err);
    }
    return rc ? rc : ff_sweep_refresh(sweep, index, err);
}

static int select_cells(struct ff_sweep *sweep, struct ff_err *err)
{
    const struct ff_grid *grid = sweep->view.grid;
    for (int i = 0; i < grid->cell_count; i++) {
        int match = 1;
        if (sweep->options->only)
            match =
                ff_grid_cell_matches(grid, &grid->cells[i], sweep->options->only, err);
        if (match < 0)
            return match;
        sweep->selected[i] = match && !grid->cells[i].excluded;
    }
    return 0;
}

static int look_at_cells(struct ff_sweep *sweep, struct ff_err *err)
{
    const struct ff_sweep_options *options = sweep->options;
    const struct ff_grid *grid = sweep->view.grid;
    for (int i = 0; i < grid->cell_count; i++) {
        const struct ff_cell_result *result = &sweep->view.results[i];
        int rc = ff_sweep_refresh(sweep, i, err);
        if (!rc && sweep->selected[i] && options->retry_failed &&
            result->status == FF_CELL_FAILED &&
            (result->trained || !options->score_only))
            rc = retry_failed(sweep, i, err);
        if (rc)
            return rc;
        if (options->rescore && result->trained)
            sweep->rescore[i] = (uint8_t)((1u << grid->eval_count) - 1);
    }
    return 0;
}

int ff_sweep_open(struct ff_sweep **out, const char *dir, struct ff_plan *plan,
                  struct ff_exec *exec, const struct ff_programs *programs,
                  const struct ff_sweep_options *options, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    *out = NULL;
    struct ff_sweep *sweep = calloc(1, sizeof *sweep);
    if (!sweep)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    sweep->plan = plan;
    sweep->exec = exec;
    sweep->programs = programs;
    sweep->options = options;
    sweep->view.grid = plan->grid;
    sweep->lock_fd = -1;
    sweep->log.fd = -1;
    sweep->current = sweep->resumed_cell = -1;
    sweep->began = ff_now();
    size_t cells = (size_t)plan->grid->cell_count;
    sweep->view.results = calloc(cells, sizeof *sweep->view.results);
    sweep->view.totals = calloc(cells, sizeof *sweep->view.totals);
    sweep->selected = calloc(cells, sizeof *sweep->selected);
    sweep->rescore = calloc(cells, sizeof *sweep->rescore);
    int rc = 0;
    if (!sweep->view.results || !sweep->view.totals || !sweep->selected ||
        !sweep->rescore)
        rc = ff_err_set(err, FF_ENOMEM, "out of memory for %zu cells", cells);
    if (!rc)
        rc = select_cells(sweep, err);
    if (!rc)
        rc = ff_path(sweep->view.dir, err, "%s", dir);
    if (!rc)
        rc = ff_path(path, err, "%s/cells", dir);
    if (!rc)
        rc = ff_mkdirs(path, err);
    if (!rc)
        rc = ff_path(path, err, "%s/lock", dir);
    if (!rc)
        rc = ff_lock(&sweep->lock_fd, path, err);
    if (!rc)
        rc = ff_path(path, err, "%s/events.log", dir);
    if (!rc)
        rc = ff_event_log_open(&sweep->log, path, ff_sweep_state_apply,
                               &sweep->view.state, err);
    if (!rc)
        rc = refuse_changes(sweep, err);
    if (!rc)
        rc = keep_grid(sweep, err);
    if (!rc)
        rc = note_begin(sweep, err);
    if (!rc)
        rc = note_cells(sweep, err);
    if (!rc)
        rc = look_at_cells(sweep, err);
    if (rc)
        ff_sweep_close(sweep);
    else
        *out = sweep;
    return rc;
}

void ff_sweep_close(struct ff_sweep *sweep)
{
    if (!sweep)
        return;
    if (sweep->current >= 0)
        sweep->exec->stop(sweep->exec->context, sweep->options->grace_ms);
    sweep->view.grid = NULL;
    for (int i = 0; sweep->view.results && i < sweep->plan->grid->cell_count; i++)
        ff_cell_result_fini(&sweep->view.results[i]);
    free(sweep->view.results);
    free(sweep->view.totals);
    ff_sweep_state_fini(&sweep->view.state);
    ff_event_log_close(&sweep->log);
    if (sweep->lock_fd >= 0)
        close(sweep->lock_fd);
    free(sweep->selected);
    free(sweep->rescore);
    free(sweep);
}
