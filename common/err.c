/* SPDX-License-Identifier: MIT */
/* Error codes and messages; see err.h. */
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define WHOLE_MAX 6144 /* bytes before a message is shortened: a path, words */

void ff_show_controls(char *text, size_t capacity)
{
    char shown[FF_SHOWN_MAX];
    size_t used = 0;
    bool any = false;
    for (const char *p = text; *p && used + sizeof "\\x00" <= capacity; p++) {
        bool control = (unsigned char)*p < 0x20 || *p == 0x7f;
        any = any || control;
        if (control)
            used += (size_t)snprintf(shown + used, sizeof "\\x00", "\\x%02x", *p);
        else
            shown[used++] = *p;
    }
    shown[used] = 0;
    if (any)
        memcpy(text, shown, used + 1);
}

static bool inside_character(char c) /* of UTF-8 */
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

void ff_shorten(char *out, size_t capacity, const char *text)
{
    size_t length = strlen(text);
    if (length < capacity) {
        memcpy(out, text, length + 1);
        return;
    }
    size_t kept = capacity - sizeof "...", head = kept / 2;
    const char *tail = text + length - (kept - head);
    while (head > 0 && inside_character(text[head]))
        head--;
    while (inside_character(*tail))
        tail++;
    snprintf(out, capacity, "%.*s...%s", (int)head, text, tail);
}

/* The text and behind it `cause`. */
static void fill(struct ff_err *err, int code, const char *cause, const char *fmt,
                 va_list ap)
{
    char whole[WHOLE_MAX];
    vsnprintf(whole, sizeof whole - strlen(cause), fmt, ap);
    strcat(whole, cause);
    err->code = code;
    ff_shorten(err->text, sizeof err->text, whole);
    ff_show_controls(err->text, sizeof err->text);
}

int ff_err_set(struct ff_err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        fill(err, code, "", fmt, ap);
        va_end(ap);
    }
    return code;
}

int ff_err_errno(struct ff_err *err, int code, const char *fmt, ...)
{
    int saved = errno;
    if (err) {
        char cause[128];
        va_list ap;
        snprintf(cause, sizeof cause, ": %s", strerror(saved));
        va_start(ap, fmt);
        fill(err, code, cause, fmt, ap);
        va_end(ap);
    }
    errno = saved;
    return code;
}

int ff_err_exit_code(int code)
{
    switch (code) {
#define X(name, value, exit_code, text)                                                \
    case value: return exit_code;
        FF_ERROR_LIST(X)
#undef X
    }
    return code == 0 ? FF_EXIT_OK : FF_EXIT_FAILED;
}
