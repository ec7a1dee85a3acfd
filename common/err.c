/* SPDX-License-Identifier: MIT */
/* Error codes and messages; see err.h. */
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

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

int ff_err_set(struct ff_err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        ff_show_controls(err->text, sizeof err->text);
    }
    return code;
}

int ff_err_errno(struct ff_err *err, int code, const char *fmt, ...)
{
    int saved = errno;
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
        size_t used = strlen(err->text);
        snprintf(err->text + used, sizeof err->text - used, ": %s", strerror(saved));
        ff_show_controls(err->text, sizeof err->text);
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
