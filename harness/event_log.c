/* SPDX-License-Identifier: MIT */
/* Append-only event log; see event_log.h.
 *
 * A line is built whole in memory and written by one write() behind O_APPEND, so that
 * what a kill leaves is a prefix of a line. Reading parses every line strictly; only
 * the last one may be bad, and then it never happened. */
#include "event_log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "atomic_file.h"

#define TOO_MUCH (FF_EVENT_FIELDS + 1) /* count after a failed ff_event_add */

void ff_event_init(struct ff_event *event, const char *kind)
{
    memset(event, 0, sizeof *event);
    snprintf(event->kind, sizeof event->kind, "%s", kind);
}

void ff_event_add(struct ff_event *event, const char *name, const char *fmt, ...)
{
    if (event->count >= FF_EVENT_FIELDS) {
        event->count = TOO_MUCH;
        return;
    }
    struct ff_event_field *field = &event->fields[event->count];
    va_list ap;
    va_start(ap, fmt);
    int length = vasprintf(&field->value, fmt, ap);
    va_end(ap);
    if (length < 0) {
        field->value = NULL;
        event->count = TOO_MUCH;
        return;
    }
    snprintf(field->name, sizeof field->name, "%s", name);
    event->count++;
}

void ff_event_fini(struct ff_event *event)
{
    for (int i = 0; i < FF_EVENT_FIELDS; i++)
        free(event->fields[i].value);
    memset(event, 0, sizeof *event);
}

const char *ff_event_get(const struct ff_event *event, const char *name)
{
    for (int i = 0; i < event->count && i < FF_EVENT_FIELDS; i++)
        if (!strcmp(event->fields[i].name, name))
            return event->fields[i].value;
    return "";
}

int64_t ff_event_seconds(const struct ff_event *event)
{
    struct tm tm = {0};
    if (!strptime(event->time, "%Y-%m-%dT%H:%M:%SZ", &tm))
        return 0;
    return (int64_t)timegm(&tm);
}

static bool word(char *out, size_t capacity, const char **at)
{
    size_t n = 0;
    while ((*at)[n] && strchr("abcdefghijklmnopqrstuvwxyz0123456789_-", (*at)[n]))
        n++;
    if (n == 0 || n >= capacity)
        return false;
    memcpy(out, *at, n);
    out[n] = 0;
    *at += n;
    return true;
}

/* "..." with escapes into a malloc'd text; NULL if it is none. */
static char *quoted(const char **at)
{
    const char *p = *at;
    if (*p++ != '"')
        return NULL;
    char *text = malloc(strlen(p) + 1), *out = text;
    if (!text)
        return NULL;
    for (; *p && *p != '"'; p++) {
        if (*p == '\\') {
            p++;
            if (*p != '\\' && *p != '"' && *p != 'n')
                break;
            *out++ = *p == 'n' ? '\n' : *p;
        } else {
            *out++ = *p;
        }
    }
    *out = 0;
    if (*p != '"') {
        free(text);
        return NULL;
    }
    *at = p + 1;
    return text;
}

/* One line without its line feed; false if it is no event. */
static bool parse_line(struct ff_event *event, const char *line)
{
    const char *at = line;
    memset(event, 0, sizeof *event);
    if (strlen(line) < 22 || line[19] != 'Z' || line[20] != ' ')
        return false;
    memcpy(event->time, line, 20);
    at += 21;
    if (ff_event_seconds(event) == 0 || !word(event->kind, sizeof event->kind, &at))
        return false;
    while (*at == ' ') {
        at++;
        if (event->count == FF_EVENT_FIELDS)
            return false;
        struct ff_event_field *field = &event->fields[event->count];
        if (!word(field->name, sizeof field->name, &at) || *at++ != '=' ||
            !(field->value = quoted(&at)))
            return false;
        event->count++;
    }
    return *at == 0;
}

/* Replays the text; *good = bytes of whole events. */
static int replay_text(size_t *good, const char *path, char *text, size_t bytes,
                       ff_event_fn *apply, void *context, struct ff_err *err)
{
    int line_number = 0;
    *good = 0;
    while (*good < bytes) {
        char *line = text + *good;
        char *end = memchr(line, '\n', bytes - *good);
        if (!end)
            return 0;
        *end = 0;
        line_number++;
        struct ff_event event;
        bool whole = strlen(line) == (size_t)(end - line) && parse_line(&event, line);
        if (!whole) {
            if (strlen(line) == (size_t)(end - line))
                ff_event_fini(&event);
            if ((size_t)(end + 1 - text) == bytes)
                return 0;
            return ff_err_set(err, FF_EDATA, "%s:%d: is no event: %.80s", path,
                              line_number, line);
        }
        int rc = apply ? apply(context, &event, err) : 0;
        ff_event_fini(&event);
        if (rc)
            return rc;
        *good = (size_t)(end + 1 - text);
    }
    return 0;
}

int ff_event_log_replay(const char *path, ff_event_fn *apply, void *context,
                        struct ff_err *err)
{
    if (access(path, F_OK) && errno == ENOENT)
        return 0;
    char *text;
    size_t bytes, good;
    int rc = ff_read_file(&text, &bytes, path, err);
    if (rc)
        return rc;
    rc = replay_text(&good, path, text, bytes, apply, context, err);
    free(text);
    return rc;
}

int ff_event_log_open(struct ff_event_log *log, const char *path, ff_event_fn *apply,
                      void *context, struct ff_err *err)
{
    char *text = NULL;
    size_t bytes, good;
    log->fd = -1;
    int rc = ff_path(log->path, err, "%s", path);
    if (rc)
        return rc;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return ff_err_errno(err, FF_EFAIL, "%s", path);
    rc = ff_read_file(&text, &bytes, path, err);
    if (!rc)
        rc = replay_text(&good, path, text, bytes, apply, context, err);
    if (!rc && good < bytes && ftruncate(fd, (off_t)good))
        rc = ff_err_errno(err, FF_EFAIL, "%s: cutting a torn line", path);
    free(text);
    if (rc)
        close(fd);
    else
        log->fd = fd;
    return rc;
}

static void write_quoted(FILE *f, const char *text)
{
    fputc('"', f);
    for (; *text; text++) {
        if (*text == '\\' || *text == '"')
            fputc('\\', f);
        if (*text == '\n')
            fputs("\\n", f);
        else
            fputc(*text, f);
    }
    fputc('"', f);
}

int ff_event_log_append(struct ff_event_log *log, struct ff_event *event,
                        struct ff_err *err)
{
    if (event->count > FF_EVENT_FIELDS)
        return ff_err_set(err, FF_ENOMEM, "%s: event %s has too many fields", log->path,
                          event->kind);
    if (!event->time[0]) {
        time_t now = time(NULL);
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(event->time, sizeof event->time, "%Y-%m-%dT%H:%M:%SZ", &tm);
    }
    char *line = NULL;
    size_t bytes;
    FILE *f = open_memstream(&line, &bytes);
    if (!f)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    fprintf(f, "%s %s", event->time, event->kind);
    for (int i = 0; i < event->count; i++) {
        fprintf(f, " %s=", event->fields[i].name);
        write_quoted(f, event->fields[i].value);
    }
    fputc('\n', f);
    if (fclose(f)) {
        free(line);
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    }
    int rc = 0;
    ssize_t written = write(log->fd, line, bytes);
    if (written != (ssize_t)bytes)
        rc = written < 0 ? ff_err_errno(err, FF_EFAIL, "%s", log->path)
                         : ff_err_set(err, FF_EFAIL,
                                      "%s: short write, is the disk full?", log->path);
    else if (fdatasync(log->fd))
        rc = ff_err_errno(err, FF_EFAIL, "%s", log->path);
    free(line);
    return rc;
}

void ff_event_log_close(struct ff_event_log *log)
{
    if (log->fd >= 0)
        close(log->fd);
    log->fd = -1;
}
