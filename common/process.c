/* SPDX-License-Identifier: MIT */
/* Child processes, locks and stop signals; see process.h.
 *
 * Between fork and exec only async-signal-safe calls are made, so that a parent with
 * threads may spawn. The exec-error pipe closes by itself when exec succeeds: end of
 * file means a running program, four bytes are its errno. The parent-death signal
 * follows the thread that forked: spawn from a thread that lives as long as the child
 * should. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "atomic_file.h"
#include "log.h"

#define POLL_MS 10

static volatile sig_atomic_t stop_flag, interrupts;
static pid_t parent_at_start;

__attribute__((constructor)) static void note_parent(void)
{
    parent_at_start = getppid();
}

/* Runs in the child; returns only an errno. */
static int become(const char *const *argv, int log_fd, int out_fd, pid_t parent)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(128 + SIGTERM);
    struct sigaction action = {.sa_handler = SIG_DFL};
    for (int sig = 1; sig < NSIG; sig++)
        if (sig != SIGHUP)                 /* nohup's; a handler ends with exec */
            sigaction(sig, &action, NULL); /* refused for KILL, STOP and the reserved */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0)
        return errno;
    if (log_fd >= 0 &&
        (dup2(log_fd, STDOUT_FILENO) < 0 || dup2(log_fd, STDERR_FILENO) < 0))
        return errno;
    if (out_fd >= 0 && dup2(out_fd, STDOUT_FILENO) < 0)
        return errno;
    execv(argv[0], (char *const *)argv);
    return errno;
}

static int spawn(struct ff_child *child, const char *const *argv, const char *log_path,
                 int out_fd, struct ff_err *err)
{
    child->pid = 0;
    int rc = 0, log_fd = -1, ends[2] = {-1, -1};
    if (log_path) {
        log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (log_fd < 0)
            return ff_err_errno(err, FF_EFAIL, "%s: cannot write", log_path);
    }
    if (pipe2(ends, O_CLOEXEC)) {
        rc = ff_err_errno(err, FF_EFAIL, "%s: pipe", argv[0]);
        goto done;
    }
    fflush(NULL);
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) {
        rc = ff_err_errno(err, FF_EFAIL, "%s: fork", argv[0]);
        goto done;
    }
    if (pid == 0) {
        int code = become(argv, log_fd, out_fd, parent);
        ssize_t ignored = write(ends[1], &code, sizeof code);
        (void)ignored;
        _exit(127);
    }
    close(ends[1]);
    ends[1] = -1;
    int code = 0;
    ssize_t n;
    do
        n = read(ends[0], &code, sizeof code);
    while (n < 0 && errno == EINTR);
    if (n == (ssize_t)sizeof code) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        errno = code;
        rc = ff_err_errno(err, FF_EFAIL, "%s: cannot run", argv[0]);
        goto done;
    }
    child->pid = pid;
done:
    for (int i = 0; i < 2; i++)
        if (ends[i] >= 0)
            close(ends[i]);
    if (log_fd >= 0)
        close(log_fd);
    return rc;
}

int ff_child_spawn(struct ff_child *child, const char *const *argv,
                   const char *log_path, struct ff_err *err)
{
    return spawn(child, argv, log_path, -1, err);
}

/* Result of a reaped child; one that never ran counts as failed. */
static struct ff_child_result result_of(int status)
{
    if (WIFSIGNALED(status))
        return (struct ff_child_result){FF_CHILD_SIGNALED, WTERMSIG(status)};
    return (struct ff_child_result){FF_CHILD_EXITED, WEXITSTATUS(status)};
}

static const struct ff_child_result running = {FF_CHILD_RUNNING, 0};
static const struct ff_child_result never_ran = {FF_CHILD_EXITED, FF_EXIT_FAILED};

/* Polls every POLL_MS; a stop asked for meanwhile ends it where `interruptible`. */
static struct ff_child_result wait_child(struct ff_child *child, int timeout_ms,
                                         bool interruptible)
{
    if (child->pid <= 0)
        return never_ran;
    double end = ff_now() + 1e-3 * timeout_ms;
    bool stop_before = ff_stop_requested();
    for (;;) {
        int status = 0;
        pid_t pid = waitpid(child->pid, &status, WNOHANG);
        if (pid == child->pid || (pid < 0 && errno == ECHILD)) {
            child->pid = 0;
            return pid < 0 ? never_ran : result_of(status);
        }
        if (interruptible && ff_stop_requested() && !stop_before)
            return running;
        if (timeout_ms >= 0 && ff_now() >= end)
            return running;
        struct timespec pause = {0, POLL_MS * 1000000L};
        if (nanosleep(&pause, NULL) && interruptible)
            return running;
    }
}

struct ff_child_result ff_child_wait(struct ff_child *child, int timeout_ms)
{
    return wait_child(child, timeout_ms, true);
}

struct ff_child_result ff_child_stop(struct ff_child *child, int grace_ms)
{
    if (child->pid <= 0)
        return never_ran;
    kill(-child->pid, SIGTERM);
    /* Look without reaping: while the leader is a zombie its group's number is not
     * given to anybody else, so that what is left of the group can be killed. */
    double end = ff_now() + 1e-3 * grace_ms;
    for (;;) {
        siginfo_t info = {0};
        if (waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOWAIT | WNOHANG) &&
            errno != EINTR)
            break;
        if (info.si_pid == child->pid || ff_now() >= end)
            break;
        struct timespec pause = {0, POLL_MS * 1000000L};
        nanosleep(&pause, NULL);
    }
    kill(-child->pid, SIGKILL);
    return wait_child(child, -1, false);
}

int ff_child_capture(char **out, struct ff_child_result *result,
                     const char *const *argv, struct ff_err *err)
{
    int ends[2];
    struct ff_child child;
    char *text = NULL;
    size_t used = 0, capacity = 0;
    *out = NULL;
    *result = never_ran;
    if (pipe2(ends, O_CLOEXEC))
        return ff_err_errno(err, FF_EFAIL, "%s: pipe", argv[0]);
    int rc = spawn(&child, argv, NULL, ends[1], err);
    close(ends[1]);
    if (rc)
        goto done;
    for (;;) {
        if (capacity - used < 2) {
            capacity = capacity ? 2 * capacity : 4096;
            char *grown = realloc(text, capacity);
            if (!grown) {
                rc =
                    ff_err_set(err, FF_ENOMEM, "%s: no memory for its output", argv[0]);
                goto stop;
            }
            text = grown;
        }
        struct pollfd ready = {.fd = ends[0], .events = POLLIN};
        if (ff_stop_requested()) {
            rc = ff_err_set(err, FF_ESTOPPED, "%s: stopped", argv[0]);
            goto stop;
        }
        if (poll(&ready, 1, 100) <= 0)
            continue;
        ssize_t n = read(ends[0], text + used, capacity - used - 1);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            rc = ff_err_errno(err, FF_EFAIL, "%s: cannot read its output", argv[0]);
            goto stop;
        }
        if (n == 0)
            break;
        used += (size_t)n;
    }
    *result = wait_child(&child, -1, false);
    text[used] = 0;
    *out = text;
    text = NULL;
    goto done;
stop:
    *result = ff_child_stop(&child, 2000);
done:
    close(ends[0]);
    free(text);
    return rc;
}

int ff_sibling_program(char *out, size_t capacity, const char *name, struct ff_err *err)
{
    char self[FF_PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return ff_err_errno(err, FF_EFAIL, "/proc/self/exe");
    self[n] = 0;
    char *slash = strrchr(self, '/');
    int folder = slash ? (int)(slash - self) : 0;
    int length = snprintf(out, capacity, "%.*s/%s", folder, self, name);
    if (length < 0 || (size_t)length >= capacity)
        return ff_err_set(err, FF_EFAIL, "%.*s/%s: path is too long", folder, self,
                          name);
    if (access(out, X_OK))
        return ff_err_errno(err, FF_EFAIL, "%s: cannot run", out);
    return 0;
}

int ff_lock(int *fd, const char *path, struct ff_err *err)
{
    *fd = -1;
    int made = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (made < 0)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot open", path);
    if (flock(made, LOCK_EX | LOCK_NB)) {
        int rc;
        char holder[128];
        ssize_t n = 0;
        if (errno == EWOULDBLOCK) {
            n = read(made, holder, sizeof holder - 1);
            holder[n > 0 ? n : 0] = 0;
            holder[strcspn(holder, "\n")] = 0;
            rc = ff_err_set(err, FF_EBUSY, "%s: held by %s", path,
                            *holder ? holder : "another process");
        } else {
            rc = ff_err_errno(err, FF_EFAIL, "%s: cannot lock", path);
        }
        close(made);
        return rc;
    }
    char when[32], text[96];
    struct tm tm;
    time_t now = time(NULL);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    int n = snprintf(text, sizeof text, "pid %d since %s\n", (int)getpid(), when);
    if (ftruncate(made, 0) || pwrite(made, text, (size_t)n, 0) != n) {
        int rc = ff_err_errno(err, FF_EFAIL, "%s: cannot write", path);
        close(made);
        return rc;
    }
    *fd = made;
    return 0;
}

static void on_signal(int sig)
{
    if (sig == SIGINT && interrupts++)
        _exit(130);
    stop_flag = 1;
}

void ff_stop_install(void)
{
    struct sigaction action = {.sa_handler = on_signal}; /* no SA_RESTART: waits end */
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    struct sigaction before;
    if (!sigaction(SIGHUP, NULL, &before) && before.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
}

bool ff_stop_requested(void)
{
    return stop_flag != 0;
}

void ff_stop_with_parent(void)
{
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent_at_start)
        stop_flag = 1;
}

int64_t ff_memory_free(void)
{
    FILE *f = fopen("/proc/meminfo", "re");
    char line[256];
    long long kib, sum = -1;
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "MemAvailable: %lld kB", &kib) == 1 ||
            sscanf(line, "SwapFree: %lld kB", &kib) == 1)
            sum = (sum < 0 ? 0 : sum) + kib * 1024;
    if (f)
        fclose(f);
    return sum;
}
