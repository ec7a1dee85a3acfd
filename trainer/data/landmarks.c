/* SPDX-License-Identifier: MIT */
/* Landmark lists; see landmarks.h. Lines are sorted by path, then each image of the set
 * looks up its own. */
#include "landmarks.h"

#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "yaml_doc.h"

enum { NUMBERS = 10, NUMBER_CHARS = 32 };

struct line {
    const char *path; /* in the file's text */
    int64_t number;   /* 1-based */
    bool used;
    struct ff_landmarks landmarks;
};

/* Takes the last word off [start, *end); false if it is no number. */
static bool take_last(float *value, const char *start, char **end)
{
    char word[NUMBER_CHARS];
    double number;
    char *stop = *end;
    while (stop > start && (stop[-1] == ' ' || stop[-1] == '\t' || stop[-1] == '\r'))
        stop--;
    char *p = stop;
    while (p > start && p[-1] != ' ' && p[-1] != '\t')
        p--;
    if (stop == p || (size_t)(stop - p) >= sizeof word)
        return false;
    memcpy(word, p, (size_t)(stop - p));
    word[stop - p] = 0;
    *end = p;
    *value = 0;
    if (ff_parse_f64(&number, word) || number < -1e6 || number > 1e6)
        return false;
    *value = (float)number;
    return true;
}

/* Cuts [start, end) into the path and its numbers. */
static bool parse_line(struct line *line, char *start, char *end)
{
    for (int i = NUMBERS - 1; i >= 0; i--)
        if (!take_last(&line->landmarks.point[i / 2][i % 2], start, &end))
            return false;
    while (end > start && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    *end = 0;
    line->path = strncmp(start, "./", 2) == 0 ? start + 2 : start;
    return *line->path != 0;
}

static int parse(struct line **out, int64_t *count, const char *path, char *text,
                 size_t bytes, struct ff_err *err)
{
    int64_t capacity = 0, number = 0;
    for (char *p = text, *end = text + bytes, *next; p < end; p = next) {
        char *stop = memchr(p, '\n', (size_t)(end - p));
        next = stop ? stop + 1 : end;
        stop = stop ? stop : end;
        number++;
        if (p + strspn(p, " \t\r") >= stop)
            continue;
        if (*count == capacity) {
            capacity = capacity ? 2 * capacity : 1024;
            struct line *grown = realloc(*out, (size_t)capacity * sizeof *grown);
            if (!grown)
                return ff_err_set(err, FF_ENOMEM, "out of memory for the lines of %s",
                                  path);
            *out = grown;
        }
        struct line *line = &(*out)[*count];
        *line = (struct line){.number = number};
        int shown = (int)(stop - p < 80 ? stop - p : 80);
        if (!parse_line(line, p, stop))
            return ff_err_set(err, FF_EDATA,
                              "%s:%lld: expected a path and ten numbers; found "
                              "\"%.*s\"",
                              path, (long long)number, shown, p);
        ++*count;
    }
    return 0;
}

static int by_path_then_number(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    int order = strcmp(x->path, y->path);
    return order ? order : (x->number > y->number) - (x->number < y->number);
}

static int by_path(const void *a, const void *b)
{
    const struct line *x = a, *y = b;
    return strcmp(x->path, y->path);
}

/* Gives each image of the set its line. */
static int join(struct ff_landmarks *landmarks, const char *path, struct line *lines,
                int64_t count, const struct ff_dataset *dataset, struct ff_err *err)
{
    char where[FF_PATH_MAX];
    if (count)
        qsort(lines, (size_t)count, sizeof *lines, by_path_then_number);
    for (int64_t i = 1; i < count; i++)
        if (strcmp(lines[i].path, lines[i - 1].path) == 0)
            return ff_err_set(err, FF_EDATA, "%s:%lld: %.500s stands in line %lld too",
                              path, (long long)lines[i].number, lines[i].path,
                              (long long)lines[i - 1].number);
    for (int64_t i = 0; i < ff_dataset_count(dataset); i++) {
        ff_dataset_describe(where, sizeof where, dataset, i);
        const struct line wanted = {.path = where};
        struct line *line =
            count ? bsearch(&wanted, lines, (size_t)count, sizeof *lines, by_path)
                  : NULL;
        if (!line)
            return ff_err_set(err, FF_EDATA, "%s: no line for the image %.500s", path,
                              where);
        line->used = true;
        landmarks[i] = line->landmarks;
    }
    const struct line *first = NULL;
    for (int64_t i = 0; i < count; i++)
        if (!lines[i].used && (!first || lines[i].number < first->number))
            first = &lines[i];
    if (first)
        return ff_err_set(err, FF_EDATA, "%s:%lld: the folder has no image %.500s",
                          path, (long long)first->number, first->path);
    return 0;
}

int ff_landmarks_load(struct ff_landmarks **out, const char *path,
                      const struct ff_dataset *dataset, struct ff_err *err)
{
    char *text = NULL;
    size_t bytes;
    struct line *lines = NULL;
    int64_t count = 0;
    struct ff_landmarks *landmarks =
        malloc((size_t)ff_dataset_count(dataset) * sizeof *landmarks);
    int rc = landmarks ? ff_read_file(&text, &bytes, path, err)
                       : ff_err_set(err, FF_ENOMEM, "out of memory for %s", path);
    if (!rc)
        rc = parse(&lines, &count, path, text, bytes, err);
    if (!rc)
        rc = join(landmarks, path, lines, count, dataset, err);
    free(lines);
    free(text);
    if (rc) {
        free(landmarks);
        return rc;
    }
    *out = landmarks;
    return 0;
}
