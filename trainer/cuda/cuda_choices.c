/* SPDX-License-Identifier: MIT */
/* Table, text and cache file of choices; see cuda_choices.h.
 *
 * One reader serves both uses of the text: a text from a checkpoint must be whole, the
 * cache file may be damaged (a full disk, a hand). The file is never changed in place:
 * a writer reads it under the lock, merges, and renames a new one over it, so readers
 * need no lock. The lock is a file of its own because the rename replaces the other. */
#include "cuda_choices.h"

#include <ctype.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "log.h"
#include "process.h"

#define SIGNATURE "# fastface choices 1: "

/* -- the table -- */

void cuda_choices_fini(struct cuda_choices *table)
{
    for (int i = 0; i < table->count; i++) {
        free(table->items[i].problem);
        free(table->items[i].choice);
    }
    free(table->items);
    *table = (struct cuda_choices)CUDA_CHOICES_INIT;
}

/* Index of the problem, or where it goes. */
static bool find(int *index, const struct cuda_choices *table, const char *problem)
{
    int low = 0, high = table->count;
    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = strcmp(table->items[middle].problem, problem);
        if (order == 0) {
            *index = middle;
            return true;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *index = low;
    return false;
}

const char *cuda_choices_get(const struct cuda_choices *table, const char *problem)
{
    int i;
    return find(&i, table, problem) ? table->items[i].choice : NULL;
}

static bool is_text(const char *s, size_t length)
{
    if (!length || length >= CUDA_CHOICES_TEXT || s[0] == ' ' || s[length - 1] == ' ')
        return false;
    for (size_t i = 0; i < length; i++)
        if (s[i] < ' ' || s[i] > '~' || s[i] == ':')
            return false;
    return true;
}

static int no_memory(struct ff_err *err)
{
    return ff_err_set(err, FF_ENOMEM, "out of memory");
}

int cuda_choices_set(struct cuda_choices *table, const char *problem,
                     const char *choice, struct ff_err *err)
{
    int i;
    if (!is_text(problem, strlen(problem)) || !is_text(choice, strlen(choice)))
        return ff_err_set(err, FF_EUSAGE, "\"%.100s: %.100s\" is no entry", problem,
                          choice);
    bool known = find(&i, table, problem);
    if (!known && table->count == table->capacity) {
        int capacity = table->capacity ? 2 * table->capacity : 64;
        void *more = realloc(table->items, (size_t)capacity * sizeof *table->items);
        if (!more)
            return no_memory(err);
        table->items = more;
        table->capacity = capacity;
    }
    char *value = strdup(choice), *key = known ? NULL : strdup(problem);
    if (!value || (!known && !key)) {
        free(value);
        free(key);
        return no_memory(err);
    }
    struct cuda_choice_entry *entry = &table->items[i];
    if (known) {
        free(entry->choice);
        entry->choice = value;
        return 0;
    }
    memmove(entry + 1, entry, (size_t)(table->count - i) * sizeof *entry);
    *entry = (struct cuda_choice_entry){key, value};
    table->count++;
    return 0;
}

int cuda_choices_merge(struct cuda_choices *table, const struct cuda_choices *from,
                       bool replace, struct ff_err *err)
{
    int rc = 0, at;
    for (int i = 0; i < from->count && !rc; i++)
        if (replace || !find(&at, table, from->items[i].problem))
            rc = cuda_choices_set(table, from->items[i].problem, from->items[i].choice,
                                  err);
    return rc;
}

/* -- the text -- */

char *cuda_choices_header(char out[CUDA_CHOICES_HEADER],
                          const struct cuda_choices_device *device)
{
    char name[128];
    snprintf(name, sizeof name, "%s", device->name);
    for (char *p = name; *p; p++)
        if (*p < ' ' || *p > '~')
            *p = '?';
    snprintf(out, CUDA_CHOICES_HEADER, SIGNATURE "%s, sm_%d, driver %d, cuDNN %d%s",
             name, device->sm, device->driver, device->cudnn,
             device->deterministic ? ", deterministic" : "");
    return out;
}

static int write_text(FILE *f, const struct cuda_choices *table, const char *header)
{
    int bad = fprintf(f, "%s\n", header) < 0;
    for (int i = 0; i < table->count && !bad; i++)
        bad =
            fprintf(f, "%s: %s\n", table->items[i].problem, table->items[i].choice) < 0;
    return bad;
}

char *cuda_choices_text(const struct cuda_choices *table, const char *header)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (!f)
        return NULL;
    int bad = write_text(f, table, header);
    if (fclose(f) || bad) {
        free(text);
        return NULL;
    }
    return text;
}

/* Reads one line without its end into the table; what is wrong with it, or NULL. */
static const char *read_line(struct cuda_choices *table, const char *line,
                             size_t length, int *rc, struct ff_err *err)
{
    char problem[CUDA_CHOICES_TEXT], choice[CUDA_CHOICES_TEXT];
    const char *colon = memchr(line, ':', length);
    if (!colon || colon + 1 == line + length || colon[1] != ' ')
        return "no \"problem: choice\"";
    size_t n = (size_t)(colon - line), m = length - n - 2;
    if (!is_text(line, n) || !is_text(colon + 2, m))
        return "no \"problem: choice\"";
    snprintf(problem, sizeof problem, "%.*s", (int)n, line);
    snprintf(choice, sizeof choice, "%.*s", (int)m, colon + 2);
    if (cuda_choices_get(table, problem))
        return "a problem that was there already";
    *rc = cuda_choices_set(table, problem, choice, err);
    return NULL;
}

struct damage {
    int lines; /* that were left out */
    int first; /* its number */
    const char *what;
};

/* The entries behind the header line, into an empty table. */
static int read_entries(struct cuda_choices *table, struct damage *damage,
                        const char *text, struct ff_err *err)
{
    int number = 1, rc = 0;
    *damage = (struct damage){0};
    for (const char *line = text; *line && !rc; number++) {
        size_t length = strcspn(line, "\n");
        const char *what = line[length] == 0 ? "the line has no end"
                           : number == 1     ? NULL
                                             : read_line(table, line, length, &rc, err);
        if (what && !damage->lines++) {
            damage->first = number;
            damage->what = what;
        }
        line += length + (line[length] != 0);
    }
    return rc;
}

static bool has_header(const char *text, const char *header)
{
    size_t n = strlen(header);
    return !strncmp(text, header, n) && text[n] == '\n';
}

int cuda_choices_parse(struct cuda_choices *table, const char *text, const char *name,
                       const char *header, struct ff_err *err)
{
    struct cuda_choices read = CUDA_CHOICES_INIT;
    struct damage damage;
    int length = (int)strcspn(text, "\n");
    if (strncmp(text, SIGNATURE, strlen(SIGNATURE)) != 0 || !text[length])
        return ff_err_set(err, FF_EDATA, "%s:1: does not begin with \"%s\"", name,
                          SIGNATURE);
    if (header && !has_header(text, header))
        return ff_err_set(err, FF_EUSAGE, "%s:1: \"%.*s\" instead of \"%s\"", name,
                          length < CUDA_CHOICES_HEADER ? length : CUDA_CHOICES_HEADER,
                          text, header);
    int rc = read_entries(&read, &damage, text, err);
    if (!rc && damage.lines)
        rc = ff_err_set(err, FF_EDATA, "%s:%d: %s", name, damage.first, damage.what);
    if (!rc)
        rc = cuda_choices_merge(table, &read, true, err);
    cuda_choices_fini(&read);
    return rc;
}

/* -- the cache file -- */

int cuda_choices_path(char out[FF_PATH_MAX], const struct cuda_choices_device *device,
                      struct ff_err *err)
{
    /* XDG base directory specification: a relative path is to be ignored. */
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char name[64];
    bool own = cache && cache[0] == '/';
    if (!own && (!home || home[0] != '/'))
        return ff_err_set(err, FF_EUSAGE,
                          "no cache folder: neither XDG_CACHE_HOME nor HOME is set");
    snprintf(name, sizeof name, "%s", device->name);
    for (char *p = name; *p; p++)
        *p = isalnum((unsigned char)*p) ? (char)tolower((unsigned char)*p) : '-';
    return ff_path(out, err, "%s%s/fastface/%s-sm%d-driver%d-cudnn%d%s.choices",
                   own ? cache : home, own ? "" : "/.cache", name, device->sm,
                   device->driver, device->cudnn,
                   device->deterministic ? "-deterministic" : "");
}

/* The file's entries; none if it is not there or has another header. */
static int read_file(struct cuda_choices *table, const char *path, const char *header,
                     struct ff_err *err)
{
    char *text;
    size_t bytes;
    struct damage damage;
    if (access(path, F_OK))
        return 0;
    int rc = ff_read_file(&text, &bytes, path, err);
    if (rc)
        return rc;
    if (has_header(text, header)) {
        rc = read_entries(table, &damage, text, err);
        if (!rc && strlen(text) < bytes && !damage.lines++) {
            damage.first = 1;
            damage.what = "the file holds a zero byte";
        }
        if (damage.lines == 1)
            ff_warn("%s:%d: %s; the line is left out", path, damage.first, damage.what);
        else if (damage.lines)
            ff_warn("%s:%d: %s; %d such lines are left out", path, damage.first,
                    damage.what, damage.lines);
    }
    free(text);
    return rc;
}

int cuda_choices_load(struct cuda_choices *table,
                      const struct cuda_choices_device *device, struct ff_err *err)
{
    char path[FF_PATH_MAX], header[CUDA_CHOICES_HEADER];
    struct cuda_choices read = CUDA_CHOICES_INIT;
    int rc = cuda_choices_path(path, device, err);
    if (!rc)
        rc = read_file(&read, path, cuda_choices_header(header, device), err);
    if (!rc)
        rc = cuda_choices_merge(table, &read, true, err);
    cuda_choices_fini(&read);
    return rc;
}

static int wait_for_lock(int *fd, const char *path, struct ff_err *err)
{
    enum { STEP_MS = 10 };
    int rc = ff_lock(fd, path, err);
    for (int waited_ms = 0; rc == FF_EBUSY && waited_ms < CUDA_CHOICES_WAIT_MS;
         waited_ms += STEP_MS) {
        poll(NULL, 0, STEP_MS);
        rc = ff_lock(fd, path, err);
    }
    return rc;
}

int cuda_choices_save(const struct cuda_choices *table,
                      const struct cuda_choices_device *device, struct ff_err *err)
{
    char path[FF_PATH_MAX], folder[FF_PATH_MAX], lock[FF_PATH_MAX];
    char header[CUDA_CHOICES_HEADER];
    struct cuda_choices all = CUDA_CHOICES_INIT;
    struct ff_atomic_file file = {.stream = NULL};
    int fd = -1, rc = cuda_choices_path(path, device, err);
    if (rc || (rc = ff_path(folder, err, "%s", path)) ||
        (rc = ff_path(lock, err, "%s.lock", path)))
        return rc;
    *strrchr(folder, '/') = 0;
    cuda_choices_header(header, device);
    if ((rc = ff_mkdirs(folder, err)) || (rc = wait_for_lock(&fd, lock, err)))
        return rc;
    if ((rc = read_file(&all, path, header, err)) ||
        (rc = cuda_choices_merge(&all, table, true, err)) ||
        (rc = ff_atomic_begin(&file, path, err)))
        goto done;
    write_text(file.stream, &all, header); /* commit reports what failed */
    rc = ff_atomic_commit(&file, err);
done:
    ff_atomic_abort(&file);
    close(fd);
    cuda_choices_fini(&all);
    return rc;
}
