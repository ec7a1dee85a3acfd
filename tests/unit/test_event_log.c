/* SPDX-License-Identifier: MIT */
/* The event log: round trip, torn ends, bad lines. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "event_log.h"

static char folder[64], path[128];

static void setup(void)
{
    strcpy(folder, "/tmp/ff-event-XXXXXX");
    cr_assert(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/events.log", folder);
}

static void teardown(void)
{
    ff_remove_tree(folder, NULL);
}

TestSuite(event_log, .init = setup, .fini = teardown);

struct seen {
    int count;
    char kinds[256], last[256];
};

static int note(void *context, const struct ff_event *event, struct ff_err *err)
{
    struct seen *seen = context;
    (void)err;
    seen->count++;
    strcat(strcat(seen->kinds, event->kind), " ");
    snprintf(seen->last, sizeof seen->last, "%s", ff_event_get(event, "reason"));
    return 0;
}

static void append(const char *kind, const char *reason)
{
    struct ff_event_log log = FF_EVENT_LOG_INIT;
    struct ff_event event;
    cr_assert(eq(int, ff_event_log_open(&log, path, NULL, NULL, NULL), 0));
    ff_event_init(&event, kind);
    ff_event_add(&event, "key", "%d", 12);
    ff_event_add(&event, "reason", "%s", reason);
    cr_assert(eq(int, ff_event_log_append(&log, &event, NULL), 0));
    ff_event_fini(&event);
    ff_event_log_close(&log);
}

static void add_bytes(const char *text)
{
    FILE *f = fopen(path, "a");
    cr_assert(f != NULL);
    fputs(text, f);
    fclose(f);
}

static long file_size(void)
{
    char *text;
    size_t bytes;
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, NULL), 0));
    free(text);
    return (long)bytes;
}

Test(event_log, replays_what_was_appended)
{
    struct seen seen = {0};
    append("begin", "a");
    append("failed", "said \"no\"\nand C:\\x, key=\"1\"");
    cr_assert(eq(int, ff_event_log_replay(path, note, &seen, NULL), 0));
    cr_assert(eq(int, seen.count, 2));
    cr_assert(eq(str, seen.kinds, "begin failed "));
    cr_assert(eq(str, seen.last, "said \"no\"\nand C:\\x, key=\"1\""));
}

Test(event_log, missing_file_is_empty)
{
    struct seen seen = {0};
    cr_assert(eq(int, ff_event_log_replay(path, note, &seen, NULL), 0));
    cr_assert(eq(int, seen.count, 0));
}

Test(event_log, cuts_a_line_torn_at_any_byte)
{
    append("begin", "a");
    long whole = file_size();
    append("failed", "second");
    long both = file_size();
    char *text;
    size_t bytes;
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, NULL), 0));
    for (long cut = whole; cut < both; cut++) {
        struct seen seen = {0};
        FILE *f = fopen(path, "w");
        fwrite(text, 1, (size_t)cut, f);
        fclose(f);
        cr_assert(eq(int, ff_event_log_replay(path, note, &seen, NULL), 0));
        cr_assert(eq(int, seen.count, 1));
        cr_assert(eq(long, file_size(), cut), "replay must not write");
        struct ff_event_log log = FF_EVENT_LOG_INIT;
        cr_assert(eq(int, ff_event_log_open(&log, path, NULL, NULL, NULL), 0));
        ff_event_log_close(&log);
        cr_assert(eq(long, file_size(), whole));
    }
    free(text);
    append("done", "third");
    struct seen seen = {0};
    cr_assert(eq(int, ff_event_log_replay(path, note, &seen, NULL), 0));
    cr_assert(eq(str, seen.kinds, "begin done "));
}

Test(event_log, last_line_of_garbage_is_cut)
{
    append("begin", "a");
    add_bytes("2026-01-31T12:00:00Z start key=\"unclosed\n");
    append("done", "b");
    struct seen seen = {0};
    cr_assert(eq(int, ff_event_log_replay(path, note, &seen, NULL), 0));
    cr_assert(eq(str, seen.kinds, "begin done "));
}

Test(event_log, bad_line_in_the_middle_is_an_error_with_its_number)
{
    struct ff_err err = FF_ERR_INIT;
    append("begin", "a");
    add_bytes("hello\n2026-01-31T12:00:00Z end code=\"0\"\n");
    cr_assert(eq(int, ff_event_log_replay(path, NULL, NULL, &err), FF_EDATA));
    cr_assert(strstr(err.text, "events.log:2:") != NULL, "%s", err.text);
    cr_assert(strstr(err.text, "hello") != NULL);
}

Test(event_log, too_many_fields_are_reported)
{
    struct ff_event_log log = FF_EVENT_LOG_INIT;
    struct ff_event event;
    cr_assert(eq(int, ff_event_log_open(&log, path, NULL, NULL, NULL), 0));
    ff_event_init(&event, "x");
    for (int i = 0; i <= FF_EVENT_FIELDS; i++)
        ff_event_add(&event, "a", "%d", i);
    cr_assert(eq(int, ff_event_log_append(&log, &event, NULL), FF_ENOMEM));
    ff_event_fini(&event);
    ff_event_log_close(&log);
    cr_assert(eq(long, file_size(), 0));
}
