/* SPDX-License-Identifier: MIT */
/* Readers of the 1:N lists; see gallery.h. They are small: one thread reads them. */
#include "gallery.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "line_file.h"

#define MAX_ID_DIGITS 18 /* always fits 64 bits */
#define SHOWN 60         /* bytes of a line in messages */

/* Digits at *p, moved behind them; false if there are none or too many. */
static bool scan_number(int64_t *out, const char **p)
{
    const char *start = *p;
    int64_t value = 0;
    for (; **p >= '0' && **p <= '9' && *p - start < MAX_ID_DIGITS; ++*p)
        value = 10 * value + (**p - '0');
    *out = value;
    return *p > start;
}

static int find_template(const struct ff_ijb_meta *meta, int64_t id)
{
    int32_t low = 0, high = meta->template_count;
    while (low < high) {
        int32_t middle = low + (high - low) / 2;
        if (meta->template_id[middle] < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < meta->template_count && meta->template_id[low] == id ? low : -1;
}

static bool scan_line(int64_t *id, int64_t *person, const char *p)
{
    if (!scan_number(id, &p) || *p++ != ',')
        return false;
    return scan_number(person, &p) && (*p == ',' || *p == '\n' || *p == '\r');
}

/* A list without its header would lose its first template. */
static int check_header(const char *line, const char *path, struct ff_err *err)
{
    int64_t id, person;
    if (!scan_line(&id, &person, line))
        return 0;
    return ff_err_set(err, FF_EDATA,
                      "%s:1: expected a header, not template %lld of subject %lld",
                      path, (long long)id, (long long)person);
}

/* What has been read: of the templates (T). */
struct lists {
    const struct ff_ijb_meta *meta;
    int64_t *subject; /* -1 = in no list so far */
    bool *listed;     /* in the list that is being read */
};

static int read_line(struct lists *read, const char *line, const char *end,
                     const char *path, int64_t number, struct ff_err *err)
{
    int64_t id, person;
    if (!scan_line(&id, &person, line)) {
        int shown = end - line > SHOWN ? SHOWN : (int)(end - line);
        return ff_err_set(err, FF_EDATA, "%s:%lld: expected 'template,subject': '%.*s'",
                          path, (long long)number, shown, line);
    }
    int32_t t = find_template(read->meta, id);
    if (t < 0)
        return ff_err_set(err, FF_EDATA,
                          "%s:%lld: template %lld has no image in the set", path,
                          (long long)number, (long long)id);
    if (read->subject[t] >= 0 && read->subject[t] != person)
        return ff_err_set(err, FF_EDATA,
                          "%s:%lld: template %lld is of subject %lld, before it was of "
                          "subject %lld",
                          path, (long long)number, (long long)id, (long long)person,
                          (long long)read->subject[t]);
    read->subject[t] = person;
    read->listed[t] = true;
    return 0;
}

static int keep(struct ff_gallery_list *list, const struct lists *read,
                struct ff_err *err)
{
    int32_t count = 0;
    for (int32_t t = 0; t < read->meta->template_count; t++)
        count += read->listed[t];
    list->template_index = malloc(((size_t)count + 1) * sizeof *list->template_index);
    list->subject = malloc(((size_t)count + 1) * sizeof *list->subject);
    if (!list->template_index || !list->subject)
        return ff_err_set(err, FF_ENOMEM, "no memory for %d templates", count);
    for (int32_t t = 0; t < read->meta->template_count; t++) {
        if (!read->listed[t])
            continue;
        list->template_index[list->count] = t;
        list->subject[list->count++] = read->subject[t];
    }
    return 0;
}

static int read_list(struct ff_gallery_list *list, struct lists *read, const char *root,
                     const char *protocol, const char *what, struct ff_err *err)
{
    struct ff_line_file file = {.map = NULL};
    memset(read->listed, 0, (size_t)read->meta->template_count * sizeof *read->listed);
    int rc = ff_path(file.path, err, "%s/meta/%s_1N_%s.csv", root, protocol, what);
    if (!rc)
        rc = ff_line_file_open(&file, 1, err);
    if (!rc && file.lines < 2)
        rc = ff_err_set(err, FF_EDATA, "%s: no line below the header", file.path);
    for (int k = 0; k < file.chunk_count && !rc; k++) {
        const struct ff_line_chunk *chunk = &file.chunk[k];
        const char *p = chunk->begin;
        for (int64_t i = chunk->first; p < chunk->end && !rc; i++) {
            const char *end = rawmemchr(p, '\n');
            rc = i ? read_line(read, p, end, file.path, i + 1, err)
                   : check_header(p, file.path, err);
            p = end + 1;
        }
    }
    if (!rc)
        rc = keep(list, read, err);
    ff_line_file_close(&file);
    return rc;
}

int ff_gallery_load(struct ff_gallery_lists *lists, const char *root,
                    const char *protocol, const struct ff_ijb_meta *meta,
                    struct ff_err *err)
{
    static const char *const names[2][FF_GALLERIES] = {{"gallery_G1", "gallery_G2"},
                                                       {"gallery_S1", "gallery_S2"}};
    bool ijbb = !strcmp(protocol, "ijbb");
    size_t count = (size_t)meta->template_count;
    struct lists read = {meta, malloc(count * sizeof *read.subject),
                         malloc(count * sizeof *read.listed)};
    *lists = (struct ff_gallery_lists){.probe = {0}};
    int rc = 0;
    if (read.subject && read.listed)
        memset(read.subject, -1, count * sizeof *read.subject);
    else
        rc = ff_err_set(err, FF_ENOMEM, "no memory for the 1:N lists");
    for (int g = 0; g < FF_GALLERIES && !rc; g++)
        rc = read_list(&lists->gallery[g], &read, root, protocol, names[ijbb][g], err);
    if (!rc)
        rc = read_list(&lists->probe, &read, root, protocol, "probe_mixed", err);
    free(read.listed);
    free(read.subject);
    return rc;
}

void ff_gallery_fini(struct ff_gallery_lists *lists)
{
    for (int g = 0; g < FF_GALLERIES; g++) {
        free(lists->gallery[g].template_index);
        free(lists->gallery[g].subject);
    }
    free(lists->probe.template_index);
    free(lists->probe.subject);
}
