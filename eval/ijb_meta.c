/* SPDX-License-Identifier: MIT */
/* Strict readers of the IJB lists; see ijb_meta.h.
 *
 * A list is read whole and cut in place: separators become zero bytes, so names are
 * borrowed from the buffer. `struct cursor` walks a file and knows path and line for
 * messages. The pair list of IJB-C has 15.7 million lines, so integers are read by hand
 * and its buffer is released as soon as the arrays are filled. */
#include "ijb_meta.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "name_table.h"

#define MAX_FIELDS 138   /* name, 68 points, score */
#define MAX_ID_DIGITS 18 /* always fits 64 bits */

struct cursor {
    const char *path;
    char *next, *end;
    int64_t line;
};

/* Text for messages: at most 60 bytes of a field or line. */
#define SHOWN 60

static int bad_line(const struct cursor *c, struct ff_err *err, const char *what,
                    const char *found)
{
    return ff_err_set(err, FF_EDATA, "%s:%lld: %s: '%.*s'", c->path, (long long)c->line,
                      what, SHOWN, found);
}

static int open_list(struct cursor *c, char **text, char path[FF_PATH_MAX],
                     const char *root, const char *protocol, const char *what,
                     struct ff_err *err)
{
    int rc = ff_path(path, err, "%s/meta/%s_%s.txt", root, protocol, what);
    if (rc)
        return rc;
    size_t bytes;
    rc = ff_read_file(text, &bytes, path, err);
    if (rc) {
        if (rc == FF_EFAIL && err)
            err->code = FF_EDATA;
        return rc == FF_EFAIL ? FF_EDATA : rc;
    }
    if (!bytes)
        return ff_err_set(err, FF_EDATA, "%s: empty", path);
    if (memchr(*text, 0, bytes))
        return ff_err_set(err, FF_EDATA, "%s: holds a zero byte", path);
    *c = (struct cursor){.path = path, .next = *text, .end = *text + bytes, .line = 0};
    return 0;
}

static int64_t count_lines(const struct cursor *c)
{
    int64_t lines = 0;
    const char *p = c->next;
    while (p < c->end) {
        const char *newline = memchr(p, '\n', (size_t)(c->end - p));
        lines++;
        if (!newline)
            break;
        p = newline + 1;
    }
    return lines;
}

/* Cuts the next line into fields; *count fields, or 0 at the end of the file. A line of
 * more than MAX_FIELDS, two spaces in a row or an empty line is an error. */
static int next_fields(char **field, int *count, struct cursor *c, struct ff_err *err)
{
    *count = 0;
    if (c->next >= c->end)
        return 0;
    char *line = c->next;
    char *newline = memchr(line, '\n', (size_t)(c->end - line));
    c->next = newline ? newline + 1 : c->end;
    if (newline)
        *newline = 0;
    c->line++;
    if (!*line)
        return bad_line(c, err, "empty line", line);
    for (char *p = line;;) {
        char *space = strchr(p, ' ');
        if (!*p || space == p)
            return bad_line(c, err, "fields must be parted by single spaces", p);
        if (*count == MAX_FIELDS)
            return bad_line(c, err, "too many fields", p);
        field[(*count)++] = p;
        if (!space)
            return 0;
        *space = 0;
        p = space + 1;
    }
}

static int parse_id(int64_t *out, const struct cursor *c, const char *what,
                    const char *text, struct ff_err *err)
{
    int64_t value = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9' && p - text < MAX_ID_DIGITS; p++)
        value = 10 * value + (*p - '0');
    if (p == text || *p)
        return bad_line(c, err, what, text);
    *out = value;
    return 0;
}

static int parse_float(float *out, const struct cursor *c, const char *what,
                       const char *text, struct ff_err *err)
{
    char *end;
    double value = strtod(text, &end);
    bool decimal = strspn(text, "+-.0123456789eE") == strlen(text);
    if (end == text || *end || !decimal || !isfinite((float)value))
        return bad_line(c, err, what, text);
    *out = (float)value;
    return 0;
}

/* 68 points to five: eyes from their corners, nose tip, mouth corners. */
static void five_of_68(float out[5][2], float all[68][2])
{
    for (int k = 0; k < 2; k++) {
        out[0][k] = (all[36][k] + all[39][k]) / 2;
        out[1][k] = (all[42][k] + all[45][k]) / 2;
        out[2][k] = all[30][k];
        out[3][k] = all[48][k];
        out[4][k] = all[54][k];
    }
}

static int read_points(struct ff_ijb_meta *m, struct ff_name_table *names,
                       struct cursor *c, struct ff_err *err)
{
    int64_t lines = count_lines(c);
    if (lines > INT32_MAX)
        return ff_err_set(err, FF_EDATA, "%s: %lld images, at most %d", c->path,
                          (long long)lines, INT32_MAX);
    m->image = calloc((size_t)lines, sizeof *m->image);
    if (!m->image || ff_name_table_init(names, (size_t)lines))
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld images",
                          (long long)lines);
    for (int64_t i = 0; i < lines; i++) {
        char *field[MAX_FIELDS];
        int count;
        int rc = next_fields(field, &count, c, err);
        if (rc)
            return rc;
        if (count != 12 && count != MAX_FIELDS) {
            return ff_err_set(err, FF_EDATA,
                              "%s:%lld: %d fields, expected 12 (name, 5 points, score) "
                              "or %d (68 points)",
                              c->path, (long long)c->line, count, MAX_FIELDS);
        }
        struct ff_ijb_image *image = &m->image[i];
        image->name = field[0];
        image->template_index = -1;
        float all[68][2];
        for (int k = 0; k < count - 2; k++) {
            rc = parse_float(&all[k / 2][k % 2], c, "not a coordinate", field[k + 1],
                             err);
            if (rc)
                return rc;
        }
        if (count == 12)
            memcpy(image->point, all, sizeof image->point);
        else
            five_of_68(image->point, all);
        rc = parse_float(&image->det_score, c, "not a detector score", field[count - 1],
                         err);
        if (rc)
            return rc;
        int64_t first = ff_name_table_add(names, image->name, i);
        if (first >= 0) {
            return ff_err_set(
                err, FF_EDATA, "%s:%lld: name '%.*s' was on line %lld already", c->path,
                (long long)c->line, SHOWN, image->name, (long long)first + 1);
        }
    }
    m->image_count = lines;
    return 0;
}

/* Template ids go to `ids` (N), by image row. */
static int read_templates(struct ff_ijb_meta *m, int64_t *ids,
                          const struct ff_name_table *names, struct cursor *c,
                          const char *points_path, struct ff_err *err)
{
    for (int64_t row = 0;; row++) {
        char *field[MAX_FIELDS];
        int count;
        int rc = next_fields(field, &count, c, err);
        if (rc)
            return rc;
        if (!count)
            break;
        if (count != 3) {
            return ff_err_set(err, FF_EDATA,
                              "%s:%lld: %d fields, expected 3 (name, template, media)",
                              c->path, (long long)c->line, count);
        }
        int64_t i = ff_name_table_find(names, field[0]);
        if (i < 0) {
            return ff_err_set(err, FF_EDATA, "%s:%lld: name '%.*s' is not in %s",
                              c->path, (long long)c->line, SHOWN, field[0],
                              points_path);
        }
        struct ff_ijb_image *image = &m->image[i];
        if (image->template_index >= 0)
            return bad_line(c, err, "name occurs twice", field[0]);
        image->template_index = 0;
        rc = parse_id(&ids[i], c, "not a template id", field[1], err);
        if (!rc)
            rc = parse_id(&image->media_id, c, "not a media id", field[2], err);
        if (rc)
            return rc;
        m->reordered |= i != row;
    }
    for (int64_t i = 0; i < m->image_count; i++) {
        if (m->image[i].template_index < 0) {
            return ff_err_set(err, FF_EDATA, "%s:%lld: name '%.*s' is not in %s",
                              points_path, (long long)i + 1, SHOWN, m->image[i].name,
                              c->path);
        }
    }
    return 0;
}

static int compare_i64(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

struct member_key {
    int64_t media_id;
    int32_t row;
};

static int compare_members(const void *a, const void *b)
{
    const struct member_key *x = a, *y = b;
    if (x->media_id != y->media_id)
        return x->media_id < y->media_id ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* Ids to indices, and the members of each template by (media, row). */
static int index_templates(struct ff_ijb_meta *m, struct ff_id_table *table,
                           const int64_t *ids, struct ff_err *err)
{
    size_t n = (size_t)m->image_count;
    struct member_key *key = malloc(n * sizeof *key);
    m->template_id = malloc(n * sizeof *m->template_id);
    m->member = malloc(n * sizeof *m->member);
    m->member_start = calloc(n + 2, sizeof *m->member_start);
    int rc = 0;
    if (!key || !m->template_id || !m->member || !m->member_start) {
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %zu images", n);
        goto done;
    }
    memcpy(m->template_id, ids, n * sizeof *ids);
    qsort(m->template_id, n, sizeof *m->template_id, compare_i64);
    int32_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || m->template_id[i] != m->template_id[i - 1])
            m->template_id[count++] = m->template_id[i];
    }
    m->template_count = count;
    if (ff_id_table_init(table, (size_t)count)) {
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %d templates", count);
        goto done;
    }
    for (int32_t t = 0; t < count; t++)
        ff_id_table_set(table, m->template_id[t], t);
    /* Counting sort: start[t + 2] counts, start[t + 1] walks, start[t] stays. */
    for (size_t i = 0; i < n; i++) {
        m->image[i].template_index = ff_id_table_find(table, ids[i]);
        m->member_start[m->image[i].template_index + 2]++;
    }
    for (int32_t t = 0; t < count; t++)
        m->member_start[t + 2] += m->member_start[t + 1];
    for (size_t i = 0; i < n; i++) {
        int64_t at = m->member_start[m->image[i].template_index + 1]++;
        key[at] = (struct member_key){m->image[i].media_id, (int32_t)i};
    }
    for (int32_t t = 0; t < count; t++) {
        int64_t from = m->member_start[t], to = m->member_start[t + 1];
        qsort(key + from, (size_t)(to - from), sizeof *key, compare_members);
    }
    for (size_t i = 0; i < n; i++)
        m->member[i] = key[i].row;
done:
    free(key);
    return rc;
}

/* A decimal id at *p, ending in `stop`; NULL if there is none. */
static const char *scan_id(int64_t *out, const char *p, char stop)
{
    int64_t value = 0;
    const char *start = p;
    for (; *p >= '0' && *p <= '9' && p - start < MAX_ID_DIGITS; p++)
        value = 10 * value + (*p - '0');
    *out = value;
    return p > start && *p == stop ? p + 1 : NULL;
}

static int read_pairs(struct ff_ijb_meta *m, const struct ff_id_table *table,
                      struct cursor *c, struct ff_err *err)
{
    int64_t lines = count_lines(c);
    if (lines > INT32_MAX) {
        return ff_err_set(err, FF_EDATA, "%s: %lld pairs, at most %d", c->path,
                          (long long)lines, INT32_MAX);
    }
    size_t n = (size_t)lines;
    m->pair_a = malloc(n * sizeof *m->pair_a);
    m->pair_b = malloc(n * sizeof *m->pair_b);
    m->genuine = malloc(n);
    if (!m->pair_a || !m->pair_b || !m->genuine)
        return ff_err_set(err, FF_ENOMEM, "no memory for %zu pairs", n);
    for (int64_t i = 0; i < lines; i++) {
        char *line = c->next;
        char *newline = memchr(line, '\n', (size_t)(c->end - line));
        c->next = newline ? newline + 1 : c->end;
        if (newline)
            *newline = 0;
        c->line++;
        int64_t id[2];
        const char *p = scan_id(&id[0], line, ' ');
        if (p)
            p = scan_id(&id[1], p, ' ');
        if (!p || (p[0] != '0' && p[0] != '1') || p[1])
            return bad_line(c, err, "expected 'template template 0|1'", line);
        int32_t index[2];
        for (int k = 0; k < 2; k++) {
            index[k] = ff_id_table_find(table, id[k]);
            if (index[k] < 0) {
                return ff_err_set(err, FF_EDATA,
                                  "%s:%lld: template %lld has no image in the set",
                                  c->path, (long long)c->line, (long long)id[k]);
            }
        }
        m->pair_a[i] = index[0];
        m->pair_b[i] = index[1];
        m->genuine[i] = p[0] == '1';
        m->genuine_count += m->genuine[i];
    }
    m->pair_count = lines;
    if (m->genuine_count == 0)
        return ff_err_set(err, FF_EDATA, "%s: no genuine pair (label 1) among %lld",
                          c->path, (long long)lines);
    if (m->genuine_count == lines)
        return ff_err_set(err, FF_EDATA, "%s: no impostor pair (label 0) among %lld",
                          c->path, (long long)lines);
    return 0;
}

int ff_ijb_meta_load(struct ff_ijb_meta **meta, const char *root, const char *protocol,
                     struct ff_err *err)
{
    *meta = NULL;
    struct ff_name_table names = {0};
    struct ff_id_table table = {0};
    struct cursor c;
    char points_path[FF_PATH_MAX], path[FF_PATH_MAX];
    char *pairs_text = NULL;
    int64_t *ids = NULL;
    struct ff_ijb_meta *m = calloc(1, sizeof *m);
    if (!m)
        return ff_err_set(err, FF_ENOMEM, "no memory for the meta files");
    int rc =
        open_list(&c, &m->text[0], points_path, root, protocol, "name_5pts_score", err);
    if (!rc)
        rc = read_points(m, &names, &c, err);
    if (!rc) {
        ids = malloc((size_t)m->image_count * sizeof *ids);
        if (!ids)
            rc = ff_err_set(err, FF_ENOMEM, "no memory for the meta files");
    }
    if (!rc)
        rc = open_list(&c, &m->text[1], path, root, protocol, "face_tid_mid", err);
    if (!rc)
        rc = read_templates(m, ids, &names, &c, points_path, err);
    if (!rc)
        rc = index_templates(m, &table, ids, err);
    if (!rc)
        rc = open_list(&c, &pairs_text, path, root, protocol, "template_pair_label",
                       err);
    if (!rc)
        rc = read_pairs(m, &table, &c, err);
    free(pairs_text);
    free(ids);
    ff_id_table_fini(&table);
    ff_name_table_fini(&names);
    if (rc) {
        ff_ijb_meta_destroy(m);
        return rc;
    }
    *meta = m;
    return 0;
}

void ff_ijb_meta_destroy(struct ff_ijb_meta *m)
{
    if (!m)
        return;
    free(m->genuine);
    free(m->pair_b);
    free(m->pair_a);
    free(m->member);
    free(m->member_start);
    free(m->template_id);
    free(m->image);
    free(m->text[0]);
    free(m->text[1]);
    free(m);
}
