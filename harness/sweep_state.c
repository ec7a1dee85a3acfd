/* SPDX-License-Identifier: MIT */
/* Replay of a sweep's events, and the view that status, plot and export show; see
 * sweep_state.h. apply() only ever changes the state by what the event says, so that a
 * replay and the run that wrote the log arrive at the same state. */
#include "sweep_state.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"

static void copy(char *out, size_t capacity, const char *text)
{
    size_t length = strnlen(text, capacity - 1);
    memcpy(out, text, length);
    out[length] = 0;
}

/* Room for one more item in an array that doubles. */
static void *grow(void *items, int count, size_t bytes)
{
    if (count & (count - 1))
        return items;
    return realloc(items, (size_t)(count ? 2 * count : 1) * bytes);
}

static struct ff_sweep_record *record_of(struct ff_sweep_state *state, const char *key)
{
    for (int i = state->record_count - 1; i >= 0; i--)
        if (!strcmp(state->records[i].key, key))
            return &state->records[i];
    void *grown = grow(state->records, state->record_count, sizeof *state->records);
    if (!grown)
        return NULL;
    state->records = grown;
    struct ff_sweep_record *record = &state->records[state->record_count++];
    memset(record, 0, sizeof *record);
    copy(record->key, sizeof record->key, key);
    return record;
}

static int apply_cell(struct ff_sweep_state *state, const struct ff_event *event)
{
    const char *name = ff_event_get(event, "place");
    struct ff_sweep_place *place = NULL;
    for (int i = 0; i < state->place_count && !place; i++)
        if (!strcmp(state->places[i].place, name))
            place = &state->places[i];
    if (!place) {
        void *grown = grow(state->places, state->place_count, sizeof *state->places);
        if (!grown)
            return FF_ENOMEM;
        state->places = grown;
        place = &state->places[state->place_count];
        memset(place, 0, sizeof *place);
        if (!(place->place = strdup(name)))
            return FF_ENOMEM;
        state->place_count++;
    }
    char *evals = strdup(ff_event_get(event, "evals"));
    if (!evals)
        return FF_ENOMEM;
    free(place->evals);
    place->evals = evals;
    copy(place->key, sizeof place->key, ff_event_get(event, "key"));
    copy(place->data, sizeof place->data, ff_event_get(event, "data"));
    place->total = strtoll(ff_event_get(event, "total"), NULL, 10);
    return 0;
}

static void apply_exit(struct ff_sweep_state *state, const struct ff_event *event)
{
    bool eval = !strncmp(ff_event_get(event, "phase"), "eval:", 5);
    if (eval && !strcmp(ff_event_get(event, "code"), "0")) {
        state->eval_seconds += strtod(ff_event_get(event, "seconds"), NULL);
        state->eval_runs++;
    }
    state->running_key[0] = state->running_phase[0] = 0;
    state->running_pid = 0;
}

int ff_sweep_state_apply(void *context, const struct ff_event *event,
                         struct ff_err *err)
{
    struct ff_sweep_state *state = context;
    const char *kind = event->kind, *key = ff_event_get(event, "key");
    if (!strcmp(kind, "begin")) {
        state->open = true;
        state->waiting[0] = 0;
        state->begin_pid = strtoll(ff_event_get(event, "pid"), NULL, 10);
        copy(state->begin_host, sizeof state->begin_host, ff_event_get(event, "host"));
        return 0;
    }
    if (!strcmp(kind, "end")) {
        state->open = false;
        return 0;
    }
    if (!strcmp(kind, "cell"))
        return apply_cell(state, event) ? ff_err_set(err, FF_ENOMEM, "out of memory")
                                        : 0;
    if (!strcmp(kind, "exit")) {
        apply_exit(state, event);
        return 0;
    }
    struct ff_sweep_record *record = key[0] ? record_of(state, key) : NULL;
    if (!record)
        return key[0] ? ff_err_set(err, FF_ENOMEM, "out of memory") : 0;
    if (!strcmp(kind, "start")) {
        copy(state->running_key, sizeof state->running_key, key);
        copy(state->running_phase, sizeof state->running_phase,
             ff_event_get(event, "phase"));
        state->running_pid = strtoll(ff_event_get(event, "pid"), NULL, 10);
        state->running_since = ff_event_seconds(event);
        record->attempts += !strcmp(state->running_phase, "train");
        state->waiting[0] = 0;
    } else if (!strcmp(kind, "wait")) {
        ff_shorten(state->waiting, sizeof state->waiting,
                   ff_event_get(event, "reason"));
        state->waiting_since = ff_event_seconds(event) -
                               (int64_t)strtod(ff_event_get(event, "seconds"), NULL);
        /* A try that got no GPU is none. */
        record->attempts -= !strcmp(ff_event_get(event, "phase"), "train");
    } else if (!strcmp(kind, "failed")) {
        record->failed = true;
        record->code = (int)strtol(ff_event_get(event, "code"), NULL, 10);
        copy(record->phase, sizeof record->phase, ff_event_get(event, "phase"));
        ff_shorten(record->reason, sizeof record->reason,
                   ff_event_get(event, "reason"));
        copy(record->eval_key, sizeof record->eval_key,
             ff_event_get(event, "eval_key"));
    } else if (!strcmp(kind, "diverged")) {
        record->diverged = true;
        ff_shorten(record->reason, sizeof record->reason,
                   ff_event_get(event, "reason"));
    } else if (!strcmp(kind, "retry") || !strcmp(kind, "aside") ||
               !strcmp(kind, "done")) {
        record->failed = record->diverged = false;
        record->reason[0] = 0;
    }
    return 0;
}

void ff_sweep_state_fini(struct ff_sweep_state *state)
{
    for (int i = 0; i < state->place_count; i++) {
        free(state->places[i].place);
        free(state->places[i].evals);
    }
    free(state->places);
    free(state->records);
    memset(state, 0, sizeof *state);
}

const struct ff_sweep_place *ff_sweep_state_place(const struct ff_sweep_state *state,
                                                  const char *place)
{
    for (int i = 0; i < state->place_count; i++)
        if (!strcmp(state->places[i].place, place))
            return &state->places[i];
    return NULL;
}

const struct ff_sweep_record *ff_sweep_state_record(const struct ff_sweep_state *state,
                                                    const char *key)
{
    for (int i = 0; i < state->record_count; i++)
        if (!strcmp(state->records[i].key, key))
            return &state->records[i];
    return NULL;
}

void ff_sweep_place_eval_key(char out[FF_SHA256_HEX],
                             const struct ff_sweep_place *place, const char *eval_name)
{
    size_t length = strlen(eval_name);
    out[0] = 0;
    for (const char *p = place->evals; p && *p; p = strchr(p, ' '), p = p ? p + 1 : p)
        if (!strncmp(p, eval_name, length) && p[length] == '=') {
            snprintf(out, FF_SHA256_HEX, "%.64s", p + length + 1);
            return;
        }
}

int ff_sweep_cell_dir(char out[FF_PATH_MAX], const char *dir, const char *train_key,
                      struct ff_err *err)
{
    return ff_path(out, err, "%s/cells/%s", dir, train_key);
}

/* Adds what the log knows to what the directory says. */
static void overlay(struct ff_cell_result *result, const struct ff_grid *grid,
                    const struct ff_sweep_view *view,
                    const char (*eval_keys)[FF_SHA256_HEX])
{
    const struct ff_sweep_record *record =
        ff_sweep_state_record(&view->state, result->train_key);
    if (record && result->status == FF_CELL_PLANNED && record->diverged) {
        result->status = FF_CELL_DIVERGED;
        ff_shorten(result->reason, sizeof result->reason, record->reason);
    } else if (record && record->failed) {
        bool training = !strcmp(record->phase, "train");
        bool holds = training && result->status == FF_CELL_PLANNED;
        for (int e = 0; !training && e < grid->eval_count; e++)
            holds = holds || (result->trained &&
                              !strcmp(record->phase + 5, grid->evals[e].name) &&
                              !strcmp(record->eval_key, eval_keys[e]));
        if (holds)
            ff_shorten(result->reason, sizeof result->reason, record->reason);
        /* Where scoring again failed, the score of before stands: the cell is done. */
        if (holds && result->status != FF_CELL_DONE)
            result->status = FF_CELL_FAILED;
    }
    if (view->alive && !strcmp(view->state.running_key, result->train_key) &&
        result->status != FF_CELL_DONE)
        result->status = FF_CELL_RUNNING;
}

int ff_sweep_view_read(struct ff_sweep_view *view, int index, struct ff_err *err)
{
    struct ff_grid *grid = view->grid;
    struct ff_cell_result *result = &view->results[index];
    struct ff_cell *cell = &grid->cells[index];
    ff_cell_result_fini(result);
    if (cell->excluded) {
        result->status = FF_CELL_EXCLUDED;
        return 0;
    }
    char name[4096], path[FF_PATH_MAX];
    const struct ff_sweep_place *place = ff_sweep_state_place(
        &view->state, ff_grid_cell_place(name, sizeof name, grid, cell));
    if (!place)
        return 0;
    copy(cell->train_key, sizeof cell->train_key, place->key);
    view->totals[index] = place->total;
    char eval_keys[FF_GRID_MAX_EVALS][FF_SHA256_HEX];
    for (int e = 0; e < grid->eval_count; e++)
        ff_sweep_place_eval_key(eval_keys[e], place, grid->evals[e].name);
    int rc = ff_sweep_cell_dir(path, view->dir, place->key, err);
    if (!rc)
        rc = ff_cell_result_read(result, grid, path,
                                 (const char(*)[FF_SHA256_HEX])eval_keys, err);
    if (rc) {
        ff_cell_result_fini(result);
        ff_shorten(result->reason, sizeof result->reason, err ? err->text : "damaged");
    }
    if (result->damage[0])
        ff_warn("%s; model and scores are used without it", result->damage);
    copy(result->train_key, sizeof result->train_key, place->key);
    overlay(result, grid, view, (const char(*)[FF_SHA256_HEX])eval_keys);
    return rc;
}

/* Does the ff-grid that wrote the last begin still run on this host? */
static bool writer_alive(const struct ff_sweep_state *state)
{
    char host[64] = "";
    gethostname(host, sizeof host - 1);
    if (!state->open || state->begin_pid <= 0 || strcmp(host, state->begin_host))
        return false;
    return !kill((pid_t)state->begin_pid, 0) || errno == EPERM;
}

int ff_sweep_view_load(struct ff_sweep_view *view, const char *dir, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    memset(view, 0, sizeof *view);
    int rc = ff_path(view->dir, err, "%s", dir);
    if (!rc)
        rc = ff_path(path, err, "%s/grid.yaml", dir);
    if (rc)
        return rc;
    if (access(path, R_OK))
        return ff_err_set(err, FF_EUSAGE, "%s: is no sweep directory (no grid.yaml)",
                          dir);
    rc = ff_grid_load(&view->grid, path, NULL, 0, err);
    if (rc)
        return rc;
    size_t cells = (size_t)view->grid->cell_count;
    view->results = calloc(cells, sizeof *view->results);
    view->totals = calloc(cells, sizeof *view->totals);
    if (!view->results || !view->totals)
        rc = ff_err_set(err, FF_ENOMEM, "out of memory for %zu cells", cells);
    if (!rc)
        rc = ff_path(path, err, "%s/events.log", dir);
    if (!rc)
        rc = ff_event_log_replay(path, ff_sweep_state_apply, &view->state, err);
    if (rc) {
        ff_sweep_view_fini(view);
        return rc;
    }
    view->alive = writer_alive(&view->state);
    for (int i = 0; i < view->grid->cell_count; i++) {
        struct ff_err damaged = FF_ERR_INIT;
        if (ff_sweep_view_read(view, i, &damaged) &&
            view->results[i].status == FF_CELL_PLANNED)
            view->results[i].status = FF_CELL_STALE;
    }
    return 0;
}

void ff_sweep_view_fini(struct ff_sweep_view *view)
{
    for (int i = 0; view->results && i < view->grid->cell_count; i++)
        ff_cell_result_fini(&view->results[i]);
    free(view->results);
    free(view->totals);
    ff_sweep_state_fini(&view->state);
    ff_grid_destroy(view->grid);
    memset(view, 0, sizeof *view);
}

double ff_sweep_eta(bool *at_least, const struct ff_sweep_view *view,
                    double seconds_per_iteration)
{
    const struct ff_grid *grid = view->grid;
    double seconds = 0, iterations = 0, left = 0;
    int64_t evals_left = 0;
    for (int i = 0; i < grid->cell_count; i++) {
        const struct ff_cell_result *result = &view->results[i];
        if (result->trained && !isnan(result->seconds)) {
            seconds += result->seconds;
            iterations += (double)view->totals[i];
        }
        bool open = result->status == FF_CELL_PLANNED ||
                    result->status == FF_CELL_STALE ||
                    result->status == FF_CELL_RUNNING;
        if (!open)
            continue;
        if (!result->trained)
            left += (double)(view->totals[i] - (result->iteration + 1));
        for (int e = 0; e < grid->eval_count; e++)
            evals_left += !result->evals[e].present;
    }
    if (iterations > 0)
        seconds_per_iteration = seconds / iterations;
    double eta = 0;
    if (left > 0)
        eta += left * seconds_per_iteration;
    *at_least = evals_left && !view->state.eval_runs;
    if (evals_left && view->state.eval_runs)
        eta += (double)evals_left * view->state.eval_seconds /
               (double)view->state.eval_runs;
    return *at_least && eta == 0 ? NAN : eta;
}

const char *ff_sweep_eta_text(char out[40], const struct ff_sweep_view *view,
                              double seconds_per_iteration)
{
    char text[32];
    bool at_least;
    double seconds = ff_sweep_eta(&at_least, view, seconds_per_iteration);
    snprintf(out, 40, "%s%s", at_least && !isnan(seconds) ? "> " : "",
             isnan(seconds) ? "unknown" : ff_duration(text, seconds));
    return out;
}

void ff_sweep_count(int counts[FF_CELL_STATUS_COUNT], const struct ff_sweep_view *view)
{
    memset(counts, 0, FF_CELL_STATUS_COUNT * sizeof *counts);
    for (int i = 0; i < view->grid->cell_count; i++)
        counts[view->results[i].status]++;
}
