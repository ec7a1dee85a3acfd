/* SPDX-License-Identifier: MIT */
/* Messages to people; see log.h. */
#include "log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "err.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static enum ff_log_level level = FF_LOG_NORMAL;
static FILE *file;
static bool progress_drawn;
static double progress_last;

extern char *program_invocation_short_name;

void ff_log_set_level(enum ff_log_level new_level)
{
    level = new_level;
}

int ff_log_open(const char *path)
{
    pthread_mutex_lock(&lock);
    if (file)
        fclose(file);
    file = path ? fopen(path, "ae") : NULL;
    int rc = path && !file ? -1 : 0;
    pthread_mutex_unlock(&lock);
    return rc;
}

static void emit(bool to_stderr, const char *prefix, const char *fmt, va_list ap)
{
    char text[FF_SHOWN_MAX];
    vsnprintf(text, sizeof text, fmt, ap);
    ff_show_controls(text, sizeof text);
    pthread_mutex_lock(&lock);
    if (to_stderr) {
        fflush(stdout); /* in order where both go to one place */
        if (progress_drawn)
            fputs("\r\033[K", stderr);
        progress_drawn = false;
        fprintf(stderr, "%s%s\n", prefix, text);
    }
    if (file) {
        char when[32];
        struct tm tm;
        time_t now = time(NULL);
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
        fprintf(file, "%s %s%s\n", when, prefix, text);
        fflush(file);
    }
    pthread_mutex_unlock(&lock);
}

void ff_info(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(level >= FF_LOG_NORMAL, "", fmt, ap);
    va_end(ap);
}

void ff_verbose(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(level >= FF_LOG_VERBOSE, "", fmt, ap);
    va_end(ap);
}

void ff_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    emit(true, "warning: ", fmt, ap);
    va_end(ap);
}

void ff_error(const char *fmt, ...)
{
    char prefix[64];
    snprintf(prefix, sizeof prefix, "%s: ", program_invocation_short_name);
    va_list ap;
    va_start(ap, fmt);
    emit(true, prefix, fmt, ap);
    va_end(ap);
}

bool ff_terminal(int fd)
{
    const char *term = getenv("TERM");
    return isatty(fd) && !(term && !strcmp(term, "dumb"));
}

/* Columns of the terminal: as it says, as $COLUMNS says, 80. */
static int terminal_width(int fd)
{
    struct winsize size;
    const char *columns = getenv("COLUMNS");
    if (!ioctl(fd, TIOCGWINSZ, &size) && size.ws_col > 0)
        return size.ws_col;
    return columns && atoi(columns) > 0 ? atoi(columns) : 80;
}

/* Keeps the first `characters` of UTF-8 text. */
static void cut(char *text, int characters)
{
    while (*text && (((unsigned char)*text & 0xc0) == 0x80 || characters-- > 0))
        text++;
    *text = 0;
}

void ff_progress(bool last, const char *fmt, ...)
{
    if (level < FF_LOG_NORMAL)
        return;
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pthread_mutex_lock(&lock);
    double now = ff_now();
    if (ff_terminal(STDERR_FILENO)) {
        if (last || !progress_drawn || now - progress_last > 0.1) {
            if (!last) /* the last column stays free: a full line may wrap */
                cut(text, terminal_width(STDERR_FILENO) - 1);
            fprintf(stderr, "\r%s\033[K%s", text, last ? "\n" : "");
            progress_drawn = !last;
            progress_last = now;
        }
    } else if (last || now - progress_last >= 10) {
        fprintf(stderr, "%s\n", text);
        progress_last = now;
    }
    fflush(stderr);
    pthread_mutex_unlock(&lock);
}

double ff_now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

const char *ff_duration(char buf[32], double seconds)
{
    if (!(seconds >= 0) || seconds > 1e9)
        snprintf(buf, 32, "?");
    else if (seconds >= 3600)
        snprintf(buf, 32, "%d h %02d min", (int)(seconds / 3600),
                 (int)(seconds / 60) % 60);
    else if (seconds >= 60)
        snprintf(buf, 32, "%d min %02d s", (int)(seconds / 60), (int)seconds % 60);
    else
        snprintf(buf, 32, "%.0f s", seconds);
    return buf;
}
