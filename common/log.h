/* SPDX-License-Identifier: MIT */
/* Messages to people: stderr, and a log file where one is open.
 *
 * Results go to stdout by plain printf; everything here goes to stderr. A progress
 * line is redrawn in place on a terminal; elsewhere it is a plain line at most every
 * ten seconds. Thread-safe. */
#ifndef FF_LOG_H
#define FF_LOG_H

#include <stdbool.h>

enum ff_log_level { FF_LOG_QUIET, FF_LOG_NORMAL, FF_LOG_VERBOSE };

/* Level of what reaches stderr; warnings and errors always do. Default NORMAL. */
void ff_log_set_level(enum ff_log_level level);
/* Appends every message also to this file, with an ISO time in front; path is copied,
 * NULL closes. Returns 0 or -1 with errno. */
int ff_log_open(const char *path);

void ff_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void ff_verbose(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void ff_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* "<program>: <text>" for main() just before it returns an error's exit code. */
void ff_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Redraws the progress line, cut to the terminal's width; on no terminal prints it if
 * ten seconds have passed since the last or `last` is set. `last` ends the line. */
void ff_progress(bool last, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Is fd a terminal that takes colours and moves its cursor (not TERM=dumb)? */
bool ff_terminal(int fd);

/* Seconds of a monotonic clock. */
double ff_now(void);
/* "1 h 02 min", "3 min 20 s", "12 s" into buf; returns buf. */
const char *ff_duration(char buf[32], double seconds);

#endif
