/* SPDX-License-Identifier: MIT */
/* The executor that runs children of this process; see exec.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "exec.h"

#define DESTROY_GRACE_MS 10000

static int local_start(void *context, pid_t *pid, const char *const *argv,
                       const char *log_path, struct ff_err *err)
{
    struct ff_child *child = context;
    int rc = ff_child_spawn(child, argv, log_path, err);
    *pid = rc ? 0 : child->pid;
    return rc;
}

static struct ff_child_result local_wait(void *context, int timeout_ms)
{
    return ff_child_wait(context, timeout_ms);
}

static struct ff_child_result local_stop(void *context, int grace_ms)
{
    return ff_child_stop(context, grace_ms);
}

static int local_capture(void *context, char **out, struct ff_child_result *result,
                         const char *const *argv, struct ff_err *err)
{
    (void)context;
    return ff_child_capture(out, result, argv, err);
}

static void local_destroy(void *context)
{
    struct ff_child *child = context;
    if (child->pid > 0)
        ff_child_stop(child, DESTROY_GRACE_MS);
    free(child);
}

int ff_exec_local_create(struct ff_exec *exec, struct ff_err *err)
{
    struct ff_child *child = calloc(1, sizeof *child);
    if (!child)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    *exec = (struct ff_exec){child,      local_start,   local_wait,
                             local_stop, local_capture, local_destroy};
    return 0;
}

void ff_exec_destroy(struct ff_exec *exec)
{
    if (exec && exec->destroy)
        exec->destroy(exec->context);
    if (exec)
        *exec = (struct ff_exec){0};
}

void ff_exec_last_words(char *out, size_t capacity, const char *path)
{
    char text[4096];
    out[0] = 0;
    FILE *f = fopen(path, "re");
    if (!f)
        return;
    if (!fseek(f, 0, SEEK_END) && ftell(f) > (long)sizeof text - 1)
        fseek(f, -((long)sizeof text - 1), SEEK_END);
    else
        rewind(f);
    size_t bytes = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[bytes] = 0;
    while (bytes && strchr("\n\r ", text[bytes - 1]))
        text[--bytes] = 0;
    const char *line = text + bytes;
    while (line > text && line[-1] != '\n' && line[-1] != '\r')
        line--;
    ff_shorten(out, capacity, line);
}

int ff_programs_find(struct ff_programs *programs, struct ff_err *err)
{
    int rc =
        ff_sibling_program(programs->train, sizeof programs->train, "ff-train", err);
    if (!rc)
        rc = ff_sibling_program(programs->eval, sizeof programs->eval, "ff-eval", err);
    if (!rc)
        rc = ff_sibling_program(programs->data, sizeof programs->data, "ff-data", err);
    return rc;
}
