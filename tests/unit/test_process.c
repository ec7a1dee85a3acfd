/* SPDX-License-Identifier: MIT */
/* Children, locks and stop signals, with /bin/sh as the child. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "atomic_file.h"
#include "log.h"
#include "process.h"

static char folder[64];

static void setup(void)
{
    strcpy(folder, "/tmp/ff_process_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
}

static void teardown(void)
{
    ff_remove_tree(folder, NULL);
}

TestSuite(process, .init = setup, .fini = teardown, .timeout = 20);

#define SH(script)                                                                     \
    (const char *const[])                                                              \
    {                                                                                  \
        "/bin/sh", "-c", script, NULL                                                  \
    }

static struct ff_child spawn_ok(const char *script, const char *log_path)
{
    struct ff_child child;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_child_spawn(&child, SH(script), log_path, &err), 0), "%s",
              err.text);
    return child;
}

Test(process, exit_code_and_signal_are_told_apart)
{
    struct ff_child child = spawn_ok("exit 7", NULL);
    struct ff_child_result r = ff_child_wait(&child, -1);
    cr_assert(r.state == FF_CHILD_EXITED && r.value == 7);
    cr_assert(eq(int, child.pid, 0));
    child = spawn_ok("kill -9 $$", NULL);
    r = ff_child_wait(&child, -1);
    cr_assert(r.state == FF_CHILD_SIGNALED && r.value == SIGKILL);
}

Test(process, failed_exec_is_an_error)
{
    struct ff_child child;
    struct ff_err err = FF_ERR_INIT;
    const char *const argv[] = {"/nonexistent/ff-train", NULL};
    cr_assert(eq(int, ff_child_spawn(&child, argv, NULL, &err), FF_EFAIL));
    cr_assert(eq(str, err.text,
                 "/nonexistent/ff-train: cannot run: No such file or directory"));
    cr_assert(eq(int, child.pid, 0));
    cr_assert(waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD);
}

Test(process, output_is_appended_to_the_log)
{
    char path[FF_PATH_MAX];
    char *text;
    size_t bytes;
    ff_path(path, NULL, "%s/log.txt", folder);
    for (int i = 0; i < 2; i++) {
        struct ff_child child = spawn_ok("echo out; echo err >&2; cat", path);
        ff_child_wait(&child, -1); /* cat ends at once: stdin is /dev/null */
    }
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, NULL), 0));
    cr_assert(eq(str, text, "out\nerr\nout\nerr\n"));
    free(text);
}

Test(process, wait_times_out)
{
    struct ff_child child = spawn_ok("sleep 10", NULL);
    double start = ff_now();
    cr_assert(eq(int, (int)ff_child_wait(&child, 0).state, FF_CHILD_RUNNING));
    cr_assert(eq(int, (int)ff_child_wait(&child, 60).state, FF_CHILD_RUNNING));
    double waited = ff_now() - start;
    cr_assert(waited >= 0.06 && waited < 5, "%g s", waited);
    struct ff_child_result r = ff_child_stop(&child, 5000);
    cr_assert(r.state == FF_CHILD_SIGNALED && r.value == SIGTERM);
}

Test(process, stop_kills_after_the_grace)
{
    char path[FF_PATH_MAX], script[4 * FF_PATH_MAX];
    ff_path(path, NULL, "%s/ready", folder);
    snprintf(script, sizeof script, "trap '' TERM; touch %s; sleep 10 & wait; sleep 10",
             path);
    struct ff_child child = spawn_ok(script, NULL);
    for (int i = 0; i < 500 && access(path, F_OK); i++)
        poll(NULL, 0, 10);
    double start = ff_now();
    struct ff_child_result r = ff_child_stop(&child, 100);
    cr_assert(r.state == FF_CHILD_SIGNALED && r.value == SIGKILL);
    cr_assert(lt(dbl, ff_now() - start, 5));
    cr_assert(le(dbl, 0.1, ff_now() - start));
}

Test(process, stop_reaches_grandchildren)
{
    char *text;
    struct ff_child_result r;
    char path[FF_PATH_MAX], script[4 * FF_PATH_MAX];
    size_t bytes;
    ff_path(path, NULL, "%s/pid", folder);
    snprintf(script, sizeof script,
             "sh -c 'trap \"\" TERM; echo $$ > %s.t; mv %s.t %s; "
             "while :; do sleep 0.05; done' & wait",
             path, path, path);
    struct ff_child child = spawn_ok(script, NULL);
    for (int i = 0; i < 500 && access(path, F_OK); i++)
        poll(NULL, 0, 10);
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, NULL), 0));
    pid_t grandchild = atoi(text);
    free(text);
    r = ff_child_stop(&child, 5000);
    cr_assert(eq(int, (int)r.state, FF_CHILD_SIGNALED));
    char stat_path[64], line[256] = "";
    bool gone = false;
    snprintf(stat_path, sizeof stat_path, "/proc/%d/stat", (int)grandchild);
    for (int i = 0; i < 200 && !gone; i++) {
        FILE *f = fopen(stat_path, "r");
        gone = !f || !fgets(line, sizeof line, f) || strstr(line, ") Z ");
        if (f)
            fclose(f);
        poll(NULL, 0, 10);
    }
    cr_assert(gone, "grandchild lives: %s", line);
}

Test(process, child_has_default_signals_and_its_own_group)
{
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    signal(SIGINT, SIG_IGN);
    char *out;
    struct ff_child_result r;
    struct ff_err err = FF_ERR_INIT;
    /* Not by way of a shell, which may clear the mask itself. */
    const char *const argv[] = {"/bin/grep", "^Sig", "/proc/self/status", NULL};
    cr_assert(eq(int, ff_child_capture(&out, &r, argv, &err), 0), "%s", err.text);
    cr_assert(strstr(out, "SigBlk:\t0000000000000000") != NULL, "%s", out);
    /* Bits 31 and 32: the two signals that the C library keeps for itself and that may
     * come ignored from an ancestor (make). */
    const char *ignored = strstr(out, "SigIgn:\t");
    cr_assert(ignored && !(strtoull(ignored + 8, NULL, 16) & ~0x180000000ULL), "%s",
              out);
    free(out);
    struct ff_child child = spawn_ok("sleep 10", NULL);
    cr_assert(eq(int, getpgid(child.pid), child.pid));
    ff_child_stop(&child, 1000);
}

Test(process, capture_takes_long_output_and_the_exit_code)
{
    char *out;
    struct ff_child_result r;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_child_capture(&out, &r,
                              SH("i=0; while [ $i -lt 5000 ]; do echo 0123456789; "
                                 "i=$((i+1)); done; exit 3"),
                              &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(sz, strlen(out), 55000));
    cr_assert(r.state == FF_CHILD_EXITED && r.value == 3);
    free(out);
}

Test(process, second_lock_names_the_holder)
{
    char path[FF_PATH_MAX], expected[FF_PATH_MAX + 64];
    int fd, other;
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/lock", folder);
    cr_assert(eq(int, ff_lock(&fd, path, &err), 0), "%s", err.text);
    cr_assert(eq(int, ff_lock(&other, path, &err), FF_EBUSY));
    snprintf(expected, sizeof expected, "%s: held by pid %d since 20", path,
             (int)getpid());
    cr_assert(strncmp(err.text, expected, strlen(expected)) == 0, "%s", err.text);
    cr_assert(eq(int, other, -1));
    struct ff_child child = spawn_ok("sleep 10", NULL);
    close(fd); /* the child does not hold it */
    cr_assert(eq(int, ff_lock(&fd, path, &err), 0), "%s", err.text);
    close(fd);
    ff_child_stop(&child, 1000);
}

Test(process, sibling_lies_beside_the_program)
{
    char out[FF_PATH_MAX], self[FF_PATH_MAX];
    struct ff_err err = FF_ERR_INIT;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n] = 0;
    cr_assert(
        eq(int, ff_sibling_program(out, sizeof out, strrchr(self, '/') + 1, &err), 0));
    cr_assert(eq(str, out, self));
    cr_assert(eq(int, ff_sibling_program(out, sizeof out, "no-such-program", &err),
                 FF_EFAIL));
    cr_assert(eq(int, ff_sibling_program(out, 4, "x", &err), FF_EFAIL));
}

Test(process, first_signal_asks_second_interrupt_ends)
{
    pid_t pid = fork();
    if (pid == 0) {
        ff_stop_install();
        if (ff_stop_requested())
            _exit(1);
        raise(SIGTERM);
        raise(SIGTERM);
        if (!ff_stop_requested())
            _exit(2);
        raise(SIGINT);
        raise(SIGINT);
        _exit(3);
    }
    int status;
    waitpid(pid, &status, 0);
    bool exited = WIFEXITED(status);
    cr_assert(exited && WEXITSTATUS(status) == 130, "status %x", status);
}

Test(process, hangup_stops_where_it_is_not_ignored)
{
    signal(SIGHUP, SIG_IGN);
    ff_stop_install();
    raise(SIGHUP);
    cr_assert(not(ff_stop_requested()));
    struct ff_child child = spawn_ok("kill -HUP $$; exit 7", NULL);
    cr_assert(eq(int, ff_child_wait(&child, -1).value, 7));
    signal(SIGHUP, SIG_DFL);
    ff_stop_install();
    child = spawn_ok("kill -HUP $$; exit 7", NULL);
    cr_assert(eq(int, ff_child_wait(&child, -1).value, SIGHUP));
    raise(SIGHUP);
    cr_assert(ff_stop_requested());
}

Test(process, signal_ends_a_wait)
{
    struct ff_child child = spawn_ok("sleep 10", NULL);
    pid_t self = getpid(), killer = fork();
    if (killer == 0) {
        poll(NULL, 0, 100);
        kill(self, SIGTERM);
        _exit(0);
    }
    ff_stop_install();
    double start = ff_now();
    cr_assert(eq(int, (int)ff_child_wait(&child, -1).state, FF_CHILD_RUNNING));
    cr_assert(lt(dbl, ff_now() - start, 5));
    cr_assert(ff_stop_requested());
    waitpid(killer, NULL, 0);
    ff_child_stop(&child, 1000);
}

Test(process, child_ends_with_its_parent)
{
    int ends[2];
    cr_assert(eq(int, pipe(ends), 0));
    pid_t middle = fork();
    if (middle == 0) {
        struct ff_child child;
        close(ends[0]);
        dup2(ends[1], STDOUT_FILENO);
        close(ends[1]);
        if (ff_child_spawn(&child,
                           SH("trap 'echo terminated; exit' TERM; echo ready; "
                              "while :; do sleep 0.05; done"),
                           NULL, NULL))
            _exit(1);
        pause();
    }
    close(ends[1]);
    FILE *f = fdopen(ends[0], "r");
    char line[64];
    cr_assert(fgets(line, sizeof line, f) && !strcmp(line, "ready\n"));
    kill(middle, SIGKILL);
    waitpid(middle, NULL, 0);
    cr_assert(fgets(line, sizeof line, f) && !strcmp(line, "terminated\n"));
    fclose(f);
}
