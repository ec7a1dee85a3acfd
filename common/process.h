/* SPDX-License-Identifier: MIT */
/* Child processes, locks, stop signals, and the memory that is left for them. */
#ifndef FF_PROCESS_H
#define FF_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "err.h"

struct ff_child {
    pid_t pid; /* 0 = none running */
};

enum ff_child_state { FF_CHILD_RUNNING, FF_CHILD_EXITED, FF_CHILD_SIGNALED };

struct ff_child_result {
    enum ff_child_state state;
    int value; /* exit code or signal number */
};

/* Starts argv[0] (a path) in a process group of its own, default signal actions (SIGHUP
 * stays ignored where it is) and mask, parent-death signal SIGTERM, stdin /dev/null,
 * stdout and stderr appended to log_path (NULL = inherited). A failed exec is reported
 * here (exec-error pipe), not as exit code 127. FF_EFAIL. */
int ff_child_spawn(struct ff_child *child, const char *const *argv,
                   const char *log_path, struct ff_err *err);
/* Waits up to timeout_ms (-1 = for ever, 0 = poll); EINTR ends the wait early. */
struct ff_child_result ff_child_wait(struct ff_child *child, int timeout_ms);
/* SIGTERM to the group, grace_ms, then SIGKILL; reaps. */
struct ff_child_result ff_child_stop(struct ff_child *child, int grace_ms);
/* Runs to the end; stdout into *out (malloc'd, zero-terminated; the caller frees). */
int ff_child_capture(char **out, struct ff_child_result *result,
                     const char *const *argv, struct ff_err *err);

/* Path of a program beside this one (/proc/self/exe's folder): "ff-train". */
int ff_sibling_program(char *out, size_t capacity, const char *name,
                       struct ff_err *err);

/* flock on path (created): FF_EBUSY names the holder's pid and start written inside.
 * *fd stays open for the life of the lock. */
int ff_lock(int *fd, const char *path, struct ff_err *err);

/* SIGINT, SIGTERM and, where it is not ignored (nohup), SIGHUP: the first sets a flag,
 * the second SIGINT ends the process at once (exit 130). */
void ff_stop_install(void);
bool ff_stop_requested(void);
/* Asks the kernel to send SIGTERM when the parent dies; if it has died already since
 * the program's start, the stop flag is set. */
void ff_stop_with_parent(void);

/* Bytes of memory of this machine that a program could still take, swap included; -1
 * where not known. */
int64_t ff_memory_free(void);

#endif
