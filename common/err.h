/* SPDX-License-Identifier: MIT */
/* Error codes and the error object that carries a one-line message upwards.
 *
 * A fallible function returns 0 or a negative enum ff_error and takes a caller-owned
 * `struct ff_err *err` as its last argument (NULL allowed). The whole failure path is
 * `return ff_err_set(err, FF_EDATA, "%s: record %lld: ...", ...)`. Messages are one
 * line and name file, line or record and the value found. */
#ifndef FF_ERR_H
#define FF_ERR_H

#include <stddef.h>

#include "exit_code.h"

#define FF_ERROR_LIST(X)                                                               \
    X(EFAIL, -1, FF_EXIT_FAILED, "failed")                                             \
    X(EUSAGE, -2, FF_EXIT_USAGE, "bad usage or parameter")                             \
    X(EDIVERGED, -3, FF_EXIT_DIVERGED, "diverged")                                     \
    X(ESTOPPED, -4, FF_EXIT_STOPPED, "stopped")                                        \
    X(ENOMEM, -5, FF_EXIT_NOMEM, "out of memory")                                      \
    X(EDATA, -6, FF_EXIT_DATA, "bad data")                                             \
    X(EBUSY, -7, FF_EXIT_BUSY, "busy")                                                 \
    X(ENODEV, -8, FF_EXIT_USAGE, "no such device here")

enum ff_error {
#define X(name, code, exit_code, text) FF_##name = code,
    FF_ERROR_LIST(X)
#undef X
};

struct ff_err {
    int code; /* 0 or enum ff_error */
    char text[1024];
};

#define FF_ERR_INIT                                                                    \
    {                                                                                  \
        0, ""                                                                          \
    }

/* Fills err (if not NULL) and returns code. Control characters become \x0a; of a text
 * that does not fit both ends stay (ff_shorten). */
int ff_err_set(struct ff_err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* As ff_err_set, with ": <strerror(errno)>" appended. */
int ff_err_errno(struct ff_err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Text into a block of `capacity` >= 8 bytes of its own; "..." stands for the middle of
 * one that does not fit: a message begins with a path and ends with what went wrong. */
void ff_shorten(char *out, size_t capacity, const char *text);

/* Control bytes of a text in a block of `capacity` <= FF_SHOWN_MAX bytes as \x0d, cut
 * to fit: a name or a file's line must not write on the terminal. */
#define FF_SHOWN_MAX 2048
void ff_show_controls(char *text, size_t capacity);

/* Process exit code (enum ff_exit) for a code returned by a function; 0 for 0. */
int ff_err_exit_code(int code);

#endif
