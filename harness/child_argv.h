/* SPDX-License-Identifier: MIT */
/* Argument vectors of the programs that ff-grid starts. */
#ifndef FF_CHILD_ARGV_H
#define FF_CHILD_ARGV_H

#include "exec.h"
#include "grid.h"

#define FF_CHILD_ARGV_MAX 80

/* Borrows every text that is added; items end with NULL. */
struct ff_child_argv {
    const char *items[FF_CHILD_ARGV_MAX];
    int count;
    char threads[24], backend[32];
};

void ff_child_argv_add(struct ff_child_argv *argv, const char *word);
/* "ff-eval ijb" or "ff-eval pairs" for an entry with its switches or files, on the
 * backend, device and threads of the run. */
void ff_child_argv_eval(struct ff_child_argv *argv, const struct ff_programs *programs,
                        const struct ff_grid_eval *entry,
                        const struct ff_params *params, const char *model,
                        const char *out);

#endif
