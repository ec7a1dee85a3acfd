/* SPDX-License-Identifier: MIT */
/* How the sweep runs a program: a method table, so that the sweep's logic does not know
 * whether a real child is behind it (exec_local.c) or a script (exec_fake.c). At most
 * one started child at a time. */
#ifndef FF_EXEC_H
#define FF_EXEC_H

#include "atomic_file.h"
#include "err.h"
#include "process.h"

struct ff_exec {
    void *context;
    /* Starts argv (NULL-terminated; argv[0] a path), output appended to log_path;
     * *pid = its process. FF_EFAIL if it cannot be started. */
    int (*start)(void *context, pid_t *pid, const char *const *argv,
                 const char *log_path, struct ff_err *err);
    /* Waits up to timeout_ms for the started child (0 = poll). */
    struct ff_child_result (*wait)(void *context, int timeout_ms);
    /* SIGTERM, up to grace_ms for a checkpoint, SIGKILL; the child is gone after. */
    struct ff_child_result (*stop)(void *context, int grace_ms);
    /* Runs a program to its end; its stdout malloc'd into *out. */
    int (*capture)(void *context, char **out, struct ff_child_result *result,
                   const char *const *argv, struct ff_err *err);
    void (*destroy)(void *context);
};

/* Children of this process, over process.h. */
int ff_exec_local_create(struct ff_exec *exec, struct ff_err *err);
/* Stops a child that still runs, frees. */
void ff_exec_destroy(struct ff_exec *exec);
/* The last line that programs left in a log, shortened to fit; "" if there is none. */
void ff_exec_last_words(char *out, size_t capacity, const char *log_path);

/* The programs that stand beside ff-grid. */
struct ff_programs {
    char train[FF_PATH_MAX], eval[FF_PATH_MAX], data[FF_PATH_MAX];
};
int ff_programs_find(struct ff_programs *programs, struct ff_err *err);

#endif
