/* SPDX-License-Identifier: MIT */
/* YAML file to tree; see yaml_doc.h.
 *
 * libyaml's events are turned into nodes by recursion, one level a collection, at most
 * DEPTH_MAX deep. Every node owns its key, text and items; a half-built tree is freed
 * by the same routine as a whole one. While a map is read, a hash table finds a key
 * that stands there already. */
#include "yaml_doc.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "atomic_file.h"
#include "rng.h"

#define DEPTH_MAX 64

struct reader {
    yaml_parser_t parser;
    const char *name, *text;
    size_t bytes;
    struct ff_err *err;
};

static void free_node(struct ff_yaml_node *node)
{
    for (size_t i = 0; i < node->count; i++)
        free_node(&node->items[i]);
    free(node->items);
    free((char *)node->key);
    free((char *)node->text);
    memset(node, 0, sizeof *node);
}

static int next_event(struct reader *r, yaml_event_t *event)
{
    if (yaml_parser_parse(&r->parser, event))
        return 0;
    const yaml_parser_t *p = &r->parser;
    memset(event, 0, sizeof *event);
    if (p->error == YAML_MEMORY_ERROR)
        return ff_err_set(r->err, FF_ENOMEM, "%s: out of memory", r->name);
    size_t line = p->problem_mark.line;
    if (p->error == YAML_READER_ERROR) /* no mark there: it reads ahead */
        for (size_t i = line = 0; i < p->problem_offset && i < r->bytes; i++)
            line += r->text[i] == '\n';
    return ff_err_set(r->err, FF_EUSAGE, "%s:%zu: not YAML: %s%s%s", r->name, line + 1,
                      p->problem ? p->problem : "unreadable", p->context ? ", " : "",
                      p->context ? p->context : "");
}

static int refuse(struct reader *r, int line, const char *what)
{
    return ff_err_set(r->err, FF_EUSAGE, "%s:%d: %s", r->name, line, what);
}

static int copy_scalar(struct reader *r, const char **out, const yaml_event_t *event)
{
    const char *value = (const char *)event->data.scalar.value;
    size_t length = event->data.scalar.length;
    if (memchr(value, 0, length))
        return refuse(r, (int)event->start_mark.line + 1, "zero byte in a text");
    *out = strndup(value, length);
    if (!*out)
        return ff_err_set(r->err, FF_ENOMEM, "%s: out of memory", r->name);
    return 0;
}

/* A zeroed new last entry of a list or map; the parent's items may move. */
static struct ff_yaml_node *append(struct reader *r, struct ff_yaml_node *parent)
{
    size_t n = parent->count;
    if ((n & (n - 1)) == 0) {
        size_t capacity = n ? 2 * n : 1;
        void *items = realloc(parent->items, capacity * sizeof *parent->items);
        if (!items) {
            ff_err_set(r->err, FF_ENOMEM, "%s: out of memory", r->name);
            return NULL;
        }
        parent->items = items;
    }
    parent->count++;
    return memset(&parent->items[n], 0, sizeof *parent->items);
}

static int check_plain(struct reader *r, const yaml_event_t *event)
{
    int line = (int)event->start_mark.line + 1;
    const void *anchor = NULL, *tag = NULL;
    switch (event->type) {
    case YAML_ALIAS_EVENT: return refuse(r, line, "aliases are not supported");
    case YAML_SCALAR_EVENT:
        anchor = event->data.scalar.anchor;
        tag = event->data.scalar.tag;
        break;
    case YAML_SEQUENCE_START_EVENT:
        anchor = event->data.sequence_start.anchor;
        tag = event->data.sequence_start.tag;
        break;
    case YAML_MAPPING_START_EVENT:
        anchor = event->data.mapping_start.anchor;
        tag = event->data.mapping_start.tag;
        break;
    default: return refuse(r, line, "unexpected YAML structure");
    }
    if (anchor)
        return refuse(r, line, "anchors are not supported");
    if (tag)
        return refuse(r, line, "tags are not supported");
    return 0;
}

/* The keys of a map: open addressing, at most half full. */
struct key_table {
    size_t *slot; /* (size): number of the entry, from 1; 0 = free */
    size_t size;  /* a power of two */
};

/* The slot that holds the key, or the free one where it belongs. */
static size_t *find_slot(const struct key_table *table, const struct ff_yaml_node *map,
                         const char *key)
{
    size_t i = ff_stream(key) & (table->size - 1);
    while (table->slot[i] && strcmp(map->items[table->slot[i] - 1].key, key))
        i = (i + 1) & (table->size - 1);
    return &table->slot[i];
}

/* Notes the key of the map's last entry. */
static int note_key(struct reader *r, struct key_table *table,
                    const struct ff_yaml_node *map)
{
    size_t last = map->count - 1;
    const struct ff_yaml_node *item = &map->items[last];
    if (2 * map->count > table->size) {
        free(table->slot);
        table->size = table->size ? 2 * table->size : 16;
        table->slot = calloc(table->size, sizeof *table->slot);
        if (!table->slot)
            return ff_err_set(r->err, FF_ENOMEM, "%s: out of memory", r->name);
        for (size_t i = 0; i < last; i++)
            *find_slot(table, map, map->items[i].key) = i + 1;
    }
    size_t *slot = find_slot(table, map, item->key);
    if (*slot)
        return ff_err_set(r->err, FF_EUSAGE,
                          "%s:%d: key \"%s\" occurs twice (first in line %d)", r->name,
                          item->line, item->key, map->items[*slot - 1].line);
    *slot = last + 1;
    return 0;
}

static int read_node(struct reader *r, struct ff_yaml_node *node,
                     const yaml_event_t *first, int depth);

static int read_items(struct reader *r, struct ff_yaml_node *node, int depth)
{
    bool is_map = node->kind == FF_YAML_MAP;
    yaml_event_type_t end = is_map ? YAML_MAPPING_END_EVENT : YAML_SEQUENCE_END_EVENT;
    struct key_table keys = {0};
    yaml_event_t event;
    int rc;
    while (!(rc = next_event(r, &event))) {
        if (event.type == end)
            break;
        struct ff_yaml_node *item = append(r, node);
        if (!item) {
            rc = FF_ENOMEM;
            break;
        }
        if (is_map) {
            int line = item->line = (int)event.start_mark.line + 1;
            if ((rc = check_plain(r, &event)))
                break;
            if (event.type != YAML_SCALAR_EVENT) {
                rc = refuse(r, line, "a key must be a word");
                break;
            }
            if ((rc = copy_scalar(r, &item->key, &event)))
                break;
            if ((rc = note_key(r, &keys, node)))
                break;
            yaml_event_delete(&event);
            if ((rc = next_event(r, &event)))
                break;
        }
        rc = read_node(r, item, &event, depth + 1);
        if (rc)
            break;
        yaml_event_delete(&event);
    }
    yaml_event_delete(&event);
    free(keys.slot);
    return rc;
}

/* Fills node from its first event, reading on where it is a collection. */
static int read_node(struct reader *r, struct ff_yaml_node *node,
                     const yaml_event_t *first, int depth)
{
    int rc = check_plain(r, first);
    if (rc)
        return rc;
    if (!node->key)
        node->line = (int)first->start_mark.line + 1;
    if (depth > DEPTH_MAX)
        return refuse(r, node->line, "nested too deeply");
    if (first->type == YAML_SCALAR_EVENT) {
        node->kind = FF_YAML_SCALAR;
        node->plain = first->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
        return copy_scalar(r, &node->text, first);
    }
    node->kind = first->type == YAML_MAPPING_START_EVENT ? FF_YAML_MAP : FF_YAML_LIST;
    return read_items(r, node, depth);
}

/* Stream start to stream end: no or one document. */
static int read_stream(struct reader *r, struct ff_yaml_node *root)
{
    bool seen = false;
    for (;;) {
        yaml_event_t event;
        int rc = next_event(r, &event);
        if (rc)
            return rc;
        yaml_event_type_t type = event.type;
        int line = (int)event.start_mark.line + 1;
        if (type == YAML_DOCUMENT_START_EVENT && seen)
            rc = refuse(r, line, "more than one document");
        else if (type != YAML_STREAM_START_EVENT && type != YAML_STREAM_END_EVENT &&
                 type != YAML_DOCUMENT_START_EVENT && type != YAML_DOCUMENT_END_EVENT) {
            rc = read_node(r, root, &event, 0);
            seen = true;
        }
        yaml_event_delete(&event);
        if (rc)
            return rc;
        if (type == YAML_STREAM_END_EVENT)
            break;
    }
    if (!seen)
        root->line = 1;
    if (!seen || (root->kind == FF_YAML_SCALAR && root->plain && !*root->text)) {
        free((char *)root->text);
        root->text = NULL;
        root->plain = false;
        root->kind = FF_YAML_MAP;
    }
    return 0;
}

int ff_yaml_parse(struct ff_yaml **doc, const char *name, const char *text,
                  size_t bytes, struct ff_err *err)
{
    *doc = NULL;
    struct reader r = {.name = name, .text = text, .bytes = bytes, .err = err};
    struct ff_yaml *made = calloc(1, sizeof *made);
    char *path = strdup(name);
    if (!made || !path || !yaml_parser_initialize(&r.parser)) {
        free(made);
        free(path);
        return ff_err_set(err, FF_ENOMEM, "%s: out of memory", name);
    }
    made->path = path;
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    int rc = read_stream(&r, &made->root);
    yaml_parser_delete(&r.parser);
    if (rc)
        ff_yaml_destroy(made);
    else
        *doc = made;
    return rc;
}

int ff_yaml_load(struct ff_yaml **doc, const char *path, struct ff_err *err)
{
    char *text;
    size_t bytes;
    *doc = NULL;
    int rc = ff_read_file(&text, &bytes, path, err);
    if (rc)
        return rc;
    rc = ff_yaml_parse(doc, path, text, bytes, err);
    free(text);
    return rc;
}

void ff_yaml_destroy(struct ff_yaml *doc)
{
    if (!doc)
        return;
    free_node(&doc->root);
    free(doc->path);
    free(doc);
}

const struct ff_yaml_node *ff_yaml_get(const struct ff_yaml_node *map, const char *key)
{
    if (!map || map->kind != FF_YAML_MAP)
        return NULL;
    for (size_t i = 0; i < map->count; i++)
        if (!strcmp(map->items[i].key, key))
            return &map->items[i];
    return NULL;
}

/* The common failure of the strict reads. */
static int bad_scalar(const struct ff_yaml *doc, const struct ff_yaml_node *node,
                      const char *wanted, struct ff_err *err)
{
    const char *key = node->key ? node->key : "item";
    if (node->kind != FF_YAML_SCALAR)
        return ff_err_set(err, FF_EUSAGE, "%s:%d: %s: a %s is not %s", doc->path,
                          node->line, key, node->kind == FF_YAML_LIST ? "list" : "map",
                          wanted);
    return ff_err_set(err, FF_EUSAGE, "%s:%d: %s: \"%s\" is not %s", doc->path,
                      node->line, key, node->text, wanted);
}

int ff_yaml_f64(double *out, const struct ff_yaml *doc, const struct ff_yaml_node *node,
                struct ff_err *err)
{
    if (node->kind != FF_YAML_SCALAR || ff_parse_f64(out, node->text))
        return bad_scalar(doc, node, "a number", err);
    return 0;
}

int ff_yaml_i64(int64_t *out, const struct ff_yaml *doc,
                const struct ff_yaml_node *node, struct ff_err *err)
{
    if (node->kind != FF_YAML_SCALAR || ff_parse_i64(out, node->text))
        return bad_scalar(doc, node, "an integer", err);
    return 0;
}

int ff_yaml_bool(bool *out, const struct ff_yaml *doc, const struct ff_yaml_node *node,
                 struct ff_err *err)
{
    bool scalar = node->kind == FF_YAML_SCALAR;
    if (scalar && (!strcmp(node->text, "true") || !strcmp(node->text, "on")))
        *out = true;
    else if (scalar && (!strcmp(node->text, "false") || !strcmp(node->text, "off")))
        *out = false;
    else
        return bad_scalar(doc, node, "true or false", err);
    return 0;
}

int ff_parse_f64(double *out, const char *text)
{
    const char *p = text;
    int digits = 0;
    if (*p == '+' || *p == '-')
        p++;
    for (; isdigit((unsigned char)*p); p++)
        digits++;
    if (*p == '.')
        for (p++; isdigit((unsigned char)*p); p++)
            digits++;
    if (!digits)
        return -1;
    if (*p == 'e' || *p == 'E') {
        p++;
        if (*p == '+' || *p == '-')
            p++;
        if (!isdigit((unsigned char)*p))
            return -1;
        while (isdigit((unsigned char)*p))
            p++;
    }
    if (*p)
        return -1;
    errno = 0;
    double value = strtod(text, NULL);
    if (!isfinite(value) || (value == 0 && errno == ERANGE))
        return -1;
    *out = value == 0 ? 0 : value; /* no negative zero: it would be another text */
    return 0;
}

int ff_parse_i64(int64_t *out, const char *text)
{
    if (!strpbrk(text, ".eE")) {
        char *end;
        if (!isdigit((unsigned char)text[*text == '+' || *text == '-']))
            return -1;
        errno = 0;
        long long value = strtoll(text, &end, 10);
        if (*end || errno)
            return -1;
        *out = value;
        return 0;
    }
    double value;
    if (ff_parse_f64(&value, text) || value != trunc(value) || fabs(value) > 0x1p53)
        return -1;
    *out = (int64_t)value;
    return 0;
}

int ff_expand_env(char *out, size_t capacity, const char *text, struct ff_err *err)
{
    size_t used = 0;
    const char *p = text;
    while (*p) {
        const char *from = p, *rest = p + 1;
        size_t n = 1;
        if (p[0] == '$' && p[1] == '{') {
            const char *end = strchr(p, '}');
            if (!end)
                return ff_err_set(err, FF_EUSAGE, "\"%s\": \"${\" without \"}\"", text);
            char name[128];
            size_t name_length = strcspn(p + 2, ":}");
            bool has_default = p[2 + name_length] == ':';
            if (!name_length || name_length >= sizeof name ||
                (has_default && p[3 + name_length] != '-'))
                return ff_err_set(err, FF_EUSAGE,
                                  "\"%s\": neither ${VAR} nor "
                                  "${VAR:-default}",
                                  text);
            memcpy(name, p + 2, name_length);
            name[name_length] = 0;
            from = getenv(name);
            if (has_default && (!from || !*from)) {
                from = p + 2 + name_length + 2;
                n = (size_t)(end - from);
            } else if (!from) {
                return ff_err_set(err, FF_EUSAGE,
                                  "\"%s\": environment variable %s is not set", text,
                                  name);
            } else {
                n = strlen(from);
            }
            rest = end + 1;
        }
        if (used + n >= capacity)
            return ff_err_set(err, FF_EUSAGE, "\"%s\": longer than %zu bytes", text,
                              capacity - 1);
        memcpy(out + used, from, n);
        used += n;
        p = rest;
    }
    out[used] = 0;
    return 0;
}

const char *ff_f64_text(char out[32], double value)
{
    if (!isfinite(value))
        return strcpy(out, isnan(value) ? ".nan" : value > 0 ? ".inf" : "-.inf");
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            break;
    }
    if (!strchr(out, '.')) {
        size_t mantissa = strcspn(out, "e");
        memmove(out + mantissa + 2, out + mantissa, strlen(out + mantissa) + 1);
        memcpy(out + mantissa, ".0", 2);
    }
    return out;
}

void ff_yaml_write_f64(FILE *f, double value)
{
    char text[32];
    fputs(ff_f64_text(text, value), f);
}

void ff_yaml_write_string(FILE *f, const char *text)
{
    fputc('"', f);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(f, "\\%c", *p);
        else if (*p == '\n')
            fputs("\\n", f);
        else if (*p < 32 || *p == 127)
            fprintf(f, "\\x%02x", *p);
        else
            fputc(*p, f);
    }
    fputc('"', f);
}
