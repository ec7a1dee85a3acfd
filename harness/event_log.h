/* SPDX-License-Identifier: MIT */
/* The event log of a sweep: append-only text, one line an event, that decides
 * decisions: order, attempts, reasons.
 *
 *     2026-01-31T12:00:00Z start key="9f..." phase="train" attempt="1"
 *
 * A line is a time, a kind and fields name="value", in which \\ \" and \n stand for a
 * backslash, a quote and a line feed. A last line without a line feed, or of a kind of
 * garbage that an interrupted write leaves, is cut off on opening; a bad line anywhere
 * else is FF_EDATA with its number. */
#ifndef FF_EVENT_LOG_H
#define FF_EVENT_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"

#define FF_EVENT_FIELDS 12

struct ff_event {
    char time[24]; /* "2026-01-31T12:00:00Z", UTC; "" = now when appended */
    char kind[16]; /* lower-case letters and - */
    int count;
    struct ff_event_field {
        char name[16];
        char *value; /* malloc'd */
    } fields[FF_EVENT_FIELDS];
};

/* A new event of a kind, without fields. */
void ff_event_init(struct ff_event *event, const char *kind);
/* Adds a field; printf into its value. Out of memory or too many fields is remembered
 * and reported by ff_event_log_append. */
void ff_event_add(struct ff_event *event, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void ff_event_fini(struct ff_event *event);
/* Value of a field; "" if it is not there. Borrowed. */
const char *ff_event_get(const struct ff_event *event, const char *name);
/* Seconds since 1970 of event->time; 0 if it is none. */
int64_t ff_event_seconds(const struct ff_event *event);

/* Takes one event while a log is replayed; nonzero stops and is returned. */
typedef int ff_event_fn(void *context, const struct ff_event *event,
                        struct ff_err *err);

/* Replays a log without changing it; a torn last line is passed over, a missing file is
 * an empty log. */
int ff_event_log_replay(const char *path, ff_event_fn *apply, void *context,
                        struct ff_err *err);

struct ff_event_log {
    int fd; /* -1 = closed */
    char path[4096];
};
#define FF_EVENT_LOG_INIT                                                              \
    {                                                                                  \
        -1, ""                                                                         \
    }

/* Opens for appending, created if absent, replays it into apply and cuts a torn end.
 * The caller holds the sweep's lock. */
int ff_event_log_open(struct ff_event_log *log, const char *path, ff_event_fn *apply,
                      void *context, struct ff_err *err);
/* One write and fdatasync. Fills event->time if it is "". */
int ff_event_log_append(struct ff_event_log *log, struct ff_event *event,
                        struct ff_err *err);
void ff_event_log_close(struct ff_event_log *log);

#endif
