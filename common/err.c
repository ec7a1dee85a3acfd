/* SPDX-License-Identifier: MIT */
/* Error codes and messages; see err.h. */
#include "err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int ff_err_set(struct ff_err *err, int code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start(ap, fmt);
        err->code = code;
        vsnprintf(err->text, sizeof err->text, fmt, ap);
        va_end(ap);
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
