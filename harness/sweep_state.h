/* SPDX-License-Identifier: MIT */
/* What the events of a sweep add up to, and a view of the sweep from outside.
 *
 * Events (fields):
 *   begin   pid host version commit cells     ff-grid began to work on the sweep
 *   cell    place key evals total data        what a place of the grid stands for now
 *   start   key phase pid attempt             a child began; phase train or eval:NAME
 *   exit    key phase code|signal seconds     it ended
 *   wait    key phase code seconds reason     the GPU was taken: another try follows
 *   trained, done, diverged, failed, retry, aside   key, with reason, phase, to ...
 *   end     code                              ff-grid ended by itself
 * Directories decide outcomes; the log adds what they cannot say: which key a place
 * has, that a cell failed and why, attempts, evaluation time. */
#ifndef FF_SWEEP_STATE_H
#define FF_SWEEP_STATE_H

#include "cell_result.h"
#include "event_log.h"

#define FF_PHASE 80

struct ff_sweep_place {
    char *place, *evals; /* evals: "name=eval key" separated by spaces */
    char key[FF_SHA256_HEX];
    char data[128]; /* data fingerprint */
    int64_t total;  /* T */
};

struct ff_sweep_record {
    char key[FF_SHA256_HEX];
    bool failed, diverged;
    int code;             /* exit code of the failed child, -signal, 0 unknown */
    char phase[FF_PHASE]; /* of the failure */
    char eval_key[FF_SHA256_HEX]; /* of a failed evaluation */
    char reason[256];
    int attempts; /* children started for training */
};

struct ff_sweep_state {
    struct ff_sweep_place *places;
    int place_count;
    struct ff_sweep_record *records;
    int record_count;
    char running_key[FF_SHA256_HEX], running_phase[FF_PHASE]; /* "" = no child */
    int64_t running_pid, running_since;
    char waiting[400]; /* who has the GPU that is waited for; "" = no wait */
    int64_t waiting_since;
    bool open; /* begin without end */
    int64_t begin_pid;
    char begin_host[64];
    double eval_seconds; /* of eval_runs successful evaluations */
    int64_t eval_runs;
};

/* An ff_event_fn; `state` is a struct ff_sweep_state. Unknown kinds are passed over. */
int ff_sweep_state_apply(void *state, const struct ff_event *event, struct ff_err *err);
void ff_sweep_state_fini(struct ff_sweep_state *state);
/* NULL if not known. Borrowed until the next apply. */
const struct ff_sweep_place *ff_sweep_state_place(const struct ff_sweep_state *state,
                                                  const char *place);
const struct ff_sweep_record *ff_sweep_state_record(const struct ff_sweep_state *state,
                                                    const char *key);
/* The eval key of an entry as the place has it; "" if none. */
void ff_sweep_place_eval_key(char out[FF_SHA256_HEX],
                             const struct ff_sweep_place *place, const char *eval_name);

struct ff_sweep_view {
    char dir[FF_PATH_MAX];
    struct ff_grid *grid;
    struct ff_sweep_state state;
    struct ff_cell_result *results; /* (grid->cell_count) */
    int64_t *totals;                /* (grid->cell_count) T; 0 unknown */
    bool alive;                     /* an ff-grid works on it now */
};

/* Reads a sweep directory without changing or locking it: grid.yaml, events.log, run
 * directories. FF_EUSAGE if dir is no sweep directory. Freed by ff_sweep_view_fini. */
int ff_sweep_view_load(struct ff_sweep_view *view, const char *dir, struct ff_err *err);
void ff_sweep_view_fini(struct ff_sweep_view *view);
/* Reads one cell anew. A damaged run directory is FF_EDATA with status planned. */
int ff_sweep_view_read(struct ff_sweep_view *view, int index, struct ff_err *err);
/* "<dir>/cells/<train key>" of a cell whose key is known. */
int ff_sweep_cell_dir(char out[FF_PATH_MAX], const char *dir, const char *train_key,
                      struct ff_err *err);

/* Seconds that the rest of the sweep takes, by the cost of the cells finished so far,
 * or by `seconds_per_iteration` of the running one where none is (NaN = not known). NaN
 * where nothing was measured. *at_least: evaluations are left and none was timed yet;
 * theirs is not in it. */
double ff_sweep_eta(bool *at_least, const struct ff_sweep_view *view,
                    double seconds_per_iteration);
/* The same as "54 s", "> 54 s" or "unknown"; returns out. */
const char *ff_sweep_eta_text(char out[40], const struct ff_sweep_view *view,
                              double seconds_per_iteration);

/* Cells by status. */
void ff_sweep_count(int counts[FF_CELL_STATUS_COUNT], const struct ff_sweep_view *view);

#endif
