/* SPDX-License-Identifier: MIT */
/* An executor that starts nothing: it plays a script of exits, hangs and crashes and
 * leaves the files that the real programs would leave. For tests of the sweep's logic.
 */
#ifndef FF_EXEC_FAKE_H
#define FF_EXEC_FAKE_H

#include "exec.h"
#include "params.h"

enum ff_fake_act {
    FF_FAKE_SUCCEED, /* what a good run leaves, exit 0 */
    FF_FAKE_EXIT,  /* exit code `value`; 3 leaves DIVERGED, 4 a curve of `iterations` */
    FF_FAKE_EMPTY, /* exit 0, but nothing left behind */
    FF_FAKE_SIGNAL,  /* ended by signal `value` */
    FF_FAKE_HANG,    /* runs until it is stopped; then exit 4 and a curve */
    FF_FAKE_GARBAGE, /* exit 1, having left a DONE that is no YAML */
};

struct ff_fake_step {
    const char *program; /* "ff-train" or "ff-eval": must be what is started */
    enum ff_fake_act act;
    int value;
    int iterations;
};

struct ff_fake {
    const struct ff_fake_step *steps; /* played in order of the starts; then SUCCEED */
    int step_count;
    const char *const *words;      /* (step_count) last lines of output; NULL = any */
    const char *info;              /* stdout of `ff-data info` */
    int started, trained, scored;  /* starts so far, by program */
    int surprises;                 /* starts that were not the program of the step */
    char last_argv[8192];          /* of the last start, blanks between */
    int (*on_wait)(void *context); /* called at every wait; nonzero ends a hang */
    void *on_wait_context;
    /* of the child in play */
    struct ff_fake_step now;
    bool running;
    char dir[FF_PATH_MAX], out[FF_PATH_MAX], name[64], key[128];
    char bins[FF_PATHS_TEXT]; /* --bin of an evaluation of pairs */
};

/* *exec plays `fake`, which must outlive it. */
void ff_exec_fake(struct ff_exec *exec, struct ff_fake *fake);

#endif
