/* SPDX-License-Identifier: MIT */
/* Strict readers of the IJB lists; see ijb_meta.h.
 *
 * A list is mapped, cut into chunks of lines (line_file.h) and parsed by all threads.
 * What joins lines - names given twice, images named twice - is one walk in the order
 * of the file afterwards. A chunk stops at its first bad line; the first of all bad
 * lines is the one that is reported, whatever the number of threads. */
#include "ijb_meta.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "line_file.h"
#include "name_table.h"

#define MAX_FIELDS 138   /* name, 68 points, score */
#define MAX_ID_DIGITS 18 /* always fits 64 bits */
#define EXACT_DIGITS 15  /* an integer of so many digits is exact in double */

/* Text for messages: at most 60 bytes of a field or line. */
#define SHOWN 60

/* A part of a line; the byte at `end` is a space or the newline. */
struct field {
    const char *begin, *end;
};

/* The place of a line and, after a failure, what is wrong with it. */
struct cursor {
    const char *path;
    int64_t line; /* from 1 */
    int rc;
    struct ff_err err;
};

/* `end` limits what is shown. */
static int bad_line(struct cursor *c, const char *what, const char *found,
                    const char *end)
{
    int length = end - found > SHOWN ? SHOWN : (int)(end - found);
    return c->rc = ff_err_set(&c->err, FF_EDATA, "%s:%lld: %s: '%.*s'", c->path,
                              (long long)c->line, what, length, found);
}

static int bad_field(struct cursor *c, const char *what, struct field f)
{
    return bad_line(c, what, f.begin, f.end);
}

/* Cuts the line at *p into fields and moves *p behind it. A line of more than
 * MAX_FIELDS, two spaces in a row or an empty line is an error. */
static int cut_line(struct field *field, int *count, const char **p, struct cursor *c)
{
    const char *at = *p, *end = rawmemchr(at, '\n');
    *p = end + 1;
    *count = 0;
    end -= end > at && end[-1] == '\r';
    if (at == end)
        return bad_line(c, "empty line", at, end);
    for (;; at++) {
        const char *begin = at;
        while (*at != ' ' && at != end)
            at++;
        if (at == begin)
            return bad_line(c, "fields must be parted by single spaces", begin, end);
        if (*count == MAX_FIELDS)
            return bad_line(c, "too many fields", begin, end);
        field[(*count)++] = (struct field){begin, at};
        if (at == end)
            return 0;
    }
}

static int parse_id(int64_t *out, struct cursor *c, const char *what, struct field f)
{
    int64_t value = 0;
    const char *p = f.begin;
    for (; *p >= '0' && *p <= '9' && p - f.begin < MAX_ID_DIGITS; p++)
        value = 10 * value + (*p - '0');
    if (p == f.begin || p != f.end)
        return bad_field(c, what, f);
    *out = value;
    return 0;
}

/* The value strtod gives, for digits with at most one point and at most EXACT_DIGITS
 * digits: the quotient of two exact doubles. False for anything else. */
static bool parse_plain(double *out, struct field f)
{
    static const double power[EXACT_DIGITS + 1] = {1e0,  1e1,  1e2,  1e3, 1e4,  1e5,
                                                   1e6,  1e7,  1e8,  1e9, 1e10, 1e11,
                                                   1e12, 1e13, 1e14, 1e15};
    const char *p = f.begin;
    bool minus = *p == '-';
    p += minus;
    int64_t value = 0;
    int digits = 0, behind = 0;
    for (; *p >= '0' && *p <= '9' && digits <= EXACT_DIGITS; p++, digits++)
        value = 10 * value + (*p - '0');
    if (*p == '.') {
        for (p++; *p >= '0' && *p <= '9' && digits <= EXACT_DIGITS;
             p++, digits++, behind++)
            value = 10 * value + (*p - '0');
    }
    if (p != f.end || digits == 0 || digits > EXACT_DIGITS)
        return false;
    double size = (double)value / power[behind];
    *out = minus ? -size : size;
    return true;
}

static int parse_float(float *out, struct cursor *c, const char *what, struct field f)
{
    double value;
    if (parse_plain(&value, f)) {
        *out = (float)value;
        return 0;
    }
    char *text = strndup(f.begin, (size_t)(f.end - f.begin)), *end;
    if (!text)
        return c->rc = ff_err_set(&c->err, FF_ENOMEM, "no memory for a number");
    value = strtod(text, &end);
    bool good = end != text && !*end && isfinite((float)value) &&
                strspn(text, "+-.0123456789eE") == strlen(text);
    free(text);
    if (!good)
        return bad_field(c, what, f);
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

/* Opens root/meta/<protocol>_<what> and a cursor for each of its chunks. */
static int open_list(struct ff_line_file *file, struct cursor **cursor,
                     const char *root, const char *protocol, const char *what,
                     int threads, struct ff_err *err)
{
    int rc = ff_path(file->path, err, "%s/meta/%s_%s", root, protocol, what);
    if (!rc)
        rc = ff_line_file_open(file, threads, err);
    if (rc)
        return rc;
    if (file->lines > INT32_MAX)
        return ff_err_set(err, FF_EDATA, "%s: %lld lines, at most %d", file->path,
                          (long long)file->lines, INT32_MAX);
    free(*cursor);
    *cursor = calloc((size_t)file->chunk_count, sizeof **cursor);
    if (!*cursor)
        return ff_err_set(err, FF_ENOMEM, "no memory for %s", file->path);
    for (int k = 0; k < file->chunk_count; k++)
        (*cursor)[k].path = file->path;
    return 0;
}

/* The first chunk's failure, if any, goes to err; *sound = lines before it, which were
 * all read. */
static int first_failure(int64_t *sound, const struct cursor *cursor,
                         const struct ff_line_file *file, struct ff_err *err)
{
    *sound = file->lines;
    for (int k = 0; k < file->chunk_count; k++) {
        if (cursor[k].rc) {
            *sound = cursor[k].line - 1;
            return ff_err_set(err, cursor[k].rc, "%s", cursor[k].err.text);
        }
    }
    return 0;
}

static int parse_point_line(struct ff_ijb_image *image, const char **p,
                            struct cursor *c)
{
    struct field field[MAX_FIELDS];
    float all[68][2];
    int count;
    int rc = cut_line(field, &count, p, c);
    if (rc)
        return rc;
    if (count != 12 && count != MAX_FIELDS) {
        return c->rc = ff_err_set(
                   &c->err, FF_EDATA,
                   "%s:%lld: %d fields, expected 12 (name, 5 points, score) or %d (68 "
                   "points)",
                   c->path, (long long)c->line, count, MAX_FIELDS);
    }
    image->name = field[0].begin;
    image->template_index = -1;
    for (int k = 0; k < count - 2 && !rc; k++)
        rc = parse_float(&all[k / 2][k % 2], c, "not a coordinate", field[k + 1]);
    if (!rc)
        rc =
            parse_float(&image->det_score, c, "not a detector score", field[count - 1]);
    if (rc)
        return rc;
    if (count == 12)
        memcpy(image->point, all, sizeof image->point);
    else
        five_of_68(image->point, all);
    return 0;
}

static size_t name_bytes(const char *name)
{
    return (size_t)((const char *)rawmemchr(name, ' ') - name) + 1;
}

/* Copies the names of the first `count` images out of the list. */
static int keep_names(struct ff_ijb_meta *m, int64_t count, struct ff_err *err)
{
    size_t bytes = 1;
    for (int64_t i = 0; i < count; i++)
        bytes += name_bytes(m->image[i].name);
    char *p = m->names = malloc(bytes);
    if (!p)
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld names", (long long)count);
    for (int64_t i = 0; i < count; i++) {
        size_t size = name_bytes(m->image[i].name);
        memcpy(p, m->image[i].name, size - 1);
        p[size - 1] = 0;
        m->image[i].name = p;
        p += size;
    }
    return 0;
}

static int read_points(struct ff_ijb_meta *m, struct ff_name_table *names,
                       struct cursor *cursor, const struct ff_line_file *file,
                       int threads, struct ff_err *err)
{
    int64_t lines = file->lines, sound;
    m->image = calloc((size_t)lines, sizeof *m->image);
    if (!m->image || ff_name_table_init(names, (size_t)lines))
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld images",
                          (long long)lines);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int k = 0; k < file->chunk_count; k++) {
        const struct ff_line_chunk *chunk = &file->chunk[k];
        struct cursor *c = &cursor[k];
        const char *p = chunk->begin;
        for (int64_t i = 0; i < chunk->lines && !c->rc; i++) {
            c->line = chunk->first + i + 1;
            parse_point_line(&m->image[c->line - 1], &p, c);
        }
    }
    int failure = first_failure(&sound, cursor, file, err);
    int rc = keep_names(m, sound, err);
    if (rc)
        return rc;
    for (int64_t i = 0; i < sound; i++) {
        int64_t first = ff_name_table_add(names, m->image[i].name, i);
        if (first >= 0) {
            return ff_err_set(err, FF_EDATA,
                              "%s:%lld: name '%.*s' was on line %lld already",
                              file->path, (long long)i + 1, SHOWN, m->image[i].name,
                              (long long)first + 1);
        }
    }
    m->image_count = lines;
    return failure;
}

/* A line of the template list, by its place in it. */
struct membership {
    int64_t image, template_id, media_id;
};

static int parse_template_line(struct membership *out, const char **p, struct cursor *c,
                               const struct ff_ijb_meta *m,
                               const struct ff_name_table *names,
                               const char *points_path)
{
    struct field field[MAX_FIELDS];
    int count;
    int rc = cut_line(field, &count, p, c);
    if (rc)
        return rc;
    if (count != 3) {
        return c->rc =
                   ff_err_set(&c->err, FF_EDATA,
                              "%s:%lld: %d fields, expected 3 (name, template, media)",
                              c->path, (long long)c->line, count);
    }
    size_t length = (size_t)(field[0].end - field[0].begin);
    int64_t row = c->line - 1;
    out->image = -1;
    if (row < m->image_count && !strncmp(m->image[row].name, field[0].begin, length) &&
        !m->image[row].name[length])
        out->image = row; /* the usual case: both lists have one order */
    else
        out->image = ff_name_table_find_part(names, field[0].begin, length);
    if (out->image < 0) {
        int shown = length > SHOWN ? SHOWN : (int)length;
        return c->rc = ff_err_set(
                   &c->err, FF_EDATA, "%s:%lld: name '%.*s' is not in %s", c->path,
                   (long long)c->line, shown, field[0].begin, points_path);
    }
    rc = parse_id(&out->template_id, c, "not a template id", field[1]);
    if (!rc)
        rc = parse_id(&out->media_id, c, "not a media id", field[2]);
    return rc;
}

/* Gives every image its medium, and its template id to `ids` (N). */
static int join_templates(struct ff_ijb_meta *m, int64_t *ids,
                          const struct membership *line, int64_t count,
                          const char *path, struct ff_err *err)
{
    for (int64_t row = 0; row < count; row++) {
        int64_t i = line[row].image;
        struct ff_ijb_image *image = &m->image[i];
        if (image->template_index >= 0) {
            return ff_err_set(err, FF_EDATA, "%s:%lld: name occurs twice: '%.*s'", path,
                              (long long)row + 1, SHOWN, image->name);
        }
        image->template_index = 0;
        image->media_id = line[row].media_id;
        ids[i] = line[row].template_id;
        m->reordered |= i != row;
    }
    return 0;
}

static int read_templates(struct ff_ijb_meta *m, int64_t *ids,
                          const struct ff_name_table *names, struct cursor *cursor,
                          const struct ff_line_file *file, const char *points_path,
                          int threads, struct ff_err *err)
{
    int64_t sound;
    struct membership *line = malloc((size_t)file->lines * sizeof *line);
    if (!line)
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld images",
                          (long long)file->lines);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
    for (int k = 0; k < file->chunk_count; k++) {
        const struct ff_line_chunk *chunk = &file->chunk[k];
        struct cursor *c = &cursor[k];
        const char *p = chunk->begin;
        for (int64_t i = 0; i < chunk->lines && !c->rc; i++) {
            c->line = chunk->first + i + 1;
            parse_template_line(&line[c->line - 1], &p, c, m, names, points_path);
        }
    }
    int failure = first_failure(&sound, cursor, file, err);
    int rc = join_templates(m, ids, line, sound, file->path, err);
    free(line);
    if (rc || failure)
        return rc ? rc : failure;
    for (int64_t i = 0; i < m->image_count; i++) {
        if (m->image[i].template_index < 0) {
            return ff_err_set(err, FF_EDATA, "%s:%lld: name '%.*s' is not in %s",
                              points_path, (long long)i + 1, SHOWN, m->image[i].name,
                              file->path);
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
    int64_t largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = ids[i] > largest ? ids[i] : largest;
    struct member_key *key = malloc(n * sizeof *key);
    m->template_id = malloc(n * sizeof *m->template_id);
    m->member = malloc(n * sizeof *m->member);
    m->member_start = calloc(n + 2, sizeof *m->member_start);
    int rc = 0;
    if (!key || !m->template_id || !m->member || !m->member_start) {
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %zu images", n);
        goto done;
    }
    if (ff_id_table_init(table, n, largest)) {
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %zu templates", n);
        goto done;
    }
    int32_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (ff_id_table_find(table, ids[i]) >= 0)
            continue;
        ff_id_table_set(table, ids[i], 0);
        m->template_id[count++] = ids[i];
    }
    qsort(m->template_id, (size_t)count, sizeof *m->template_id, compare_i64);
    m->template_count = count;
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
        bool sorted = true;
        for (int64_t i = from + 1; i < to && sorted; i++)
            sorted = key[i - 1].media_id <= key[i].media_id;
        if (!sorted) /* equal media have rising rows already */
            qsort(key + from, (size_t)(to - from), sizeof *key, compare_members);
    }
    for (size_t i = 0; i < n; i++)
        m->member[i] = key[i].row;
done:
    free(key);
    return rc;
}

/* A decimal id at *p, ending in `stop`; NULL if there is none. */
static inline const char *scan_id(int64_t *out, const char *p, char stop)
{
    int64_t value = 0;
    const char *start = p;
    for (; *p >= '0' && *p <= '9' && p - start < MAX_ID_DIGITS; p++)
        value = 10 * value + (*p - '0');
    *out = value;
    return p > start && *p == stop ? p + 1 : NULL;
}

/* Reads a chunk of pairs; *genuine counts those of one person. */
static void parse_pairs(struct ff_ijb_meta *m, int64_t *genuine, struct cursor *c,
                        const struct ff_line_chunk *chunk,
                        const struct ff_id_table *table)
{
    const char *line = chunk->begin;
    int64_t same = 0;
    for (int64_t i = chunk->first; i < chunk->first + chunk->lines; i++) {
        int64_t id[2];
        const char *p = scan_id(&id[0], line, ' ');
        if (p)
            p = scan_id(&id[1], p, ' ');
        c->line = i + 1;
        bool label = p && (*p == '0' || *p == '1');
        const char *end = label ? p + 1 + (p[1] == '\r') : p;
        if (!label || *end != '\n') {
            bad_line(c, "expected 'template template 0|1'", line,
                     rawmemchr(line, '\n'));
            return;
        }
        int32_t index[2] = {ff_id_table_find(table, id[0]),
                            ff_id_table_find(table, id[1])};
        if (index[0] < 0 || index[1] < 0) {
            c->rc = ff_err_set(
                &c->err, FF_EDATA, "%s:%lld: template %lld has no image in the set",
                c->path, (long long)c->line, (long long)id[index[0] < 0 ? 0 : 1]);
            return;
        }
        m->pair_a[i] = index[0];
        m->pair_b[i] = index[1];
        m->genuine[i] = p[0] == '1';
        same += p[0] == '1';
        line = end + 1;
    }
    *genuine += same;
}

static int read_pairs(struct ff_ijb_meta *m, const struct ff_id_table *table,
                      struct cursor *cursor, const struct ff_line_file *file,
                      int threads, struct ff_err *err)
{
    int64_t lines = file->lines, sound, genuine = 0;
    size_t n = (size_t)lines;
    m->pair_a = malloc(n * sizeof *m->pair_a);
    m->pair_b = malloc(n * sizeof *m->pair_b);
    m->genuine = malloc(n);
    if (!m->pair_a || !m->pair_b || !m->genuine)
        return ff_err_set(err, FF_ENOMEM, "no memory for %zu pairs", n);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)                     \
    reduction(+ : genuine)
    for (int k = 0; k < file->chunk_count; k++)
        parse_pairs(m, &genuine, &cursor[k], &file->chunk[k], table);
    int rc = first_failure(&sound, cursor, file, err);
    if (rc)
        return rc;
    m->pair_count = lines;
    m->genuine_count = genuine;
    if (genuine == 0)
        return ff_err_set(err, FF_EDATA, "%s: no genuine pair (label 1) among %lld",
                          file->path, (long long)lines);
    if (genuine == lines)
        return ff_err_set(err, FF_EDATA, "%s: no impostor pair (label 0) among %lld",
                          file->path, (long long)lines);
    return 0;
}

int ff_ijb_meta_load(struct ff_ijb_meta **meta, const char *root, const char *protocol,
                     bool with_pairs, int threads, struct ff_err *err)
{
    *meta = NULL;
    struct ff_name_table names = {0};
    struct ff_id_table table = {0};
    struct ff_line_file points = {0}, list = {0};
    struct cursor *cursor = NULL;
    int64_t *ids = NULL;
    struct ff_ijb_meta *m = calloc(1, sizeof *m);
    if (!m)
        return ff_err_set(err, FF_ENOMEM, "no memory for the meta files");
    int rc = open_list(&points, &cursor, root, protocol, "name_5pts_score.txt", threads,
                       err);
    if (!rc)
        rc = read_points(m, &names, cursor, &points, threads, err);
    ff_line_file_close(&points);
    if (!rc) {
        m->points_path = strdup(points.path);
        ids = malloc((size_t)m->image_count * sizeof *ids);
        if (!ids || !m->points_path)
            rc = ff_err_set(err, FF_ENOMEM, "no memory for the meta files");
    }
    if (!rc)
        rc =
            open_list(&list, &cursor, root, protocol, "face_tid_mid.txt", threads, err);
    if (!rc)
        rc = read_templates(m, ids, &names, cursor, &list, points.path, threads, err);
    ff_line_file_close(&list);
    if (!rc)
        rc = index_templates(m, &table, ids, err);
    free(ids);
    ff_name_table_fini(&names);
    if (!rc && with_pairs) {
        rc = open_list(&list, &cursor, root, protocol, "template_pair_label.txt",
                       threads, err);
        if (!rc)
            rc = read_pairs(m, &table, cursor, &list, threads, err);
        ff_line_file_close(&list);
    }
    free(cursor);
    ff_id_table_fini(&table);
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
    free(m->points_path);
    free(m->names);
    free(m);
}
