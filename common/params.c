/* SPDX-License-Identifier: MIT */
/* The parameter table and what is derived from it; see params.h and params.def.
 *
 * Every value comes in as text (default, YAML, --set) through ff_params_set, so that
 * one routine decides what is valid; ff_params_text is its inverse. */
#include "params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static const struct ff_param_info table[] = {
#define FF_PARAM(name_, type_, default_, neutral_, min_, max_, choices_, auto_,        \
                 class_, unit_, help_, source_)                                        \
    {.name = #name_,                                                                   \
     .type = FF_PARAM_##type_,                                                         \
     .default_text = default_,                                                         \
     .neutral_text = neutral_,                                                         \
     .min = min_,                                                                      \
     .max = max_,                                                                      \
     .choices = choices_,                                                              \
     .unit = unit_,                                                                    \
     .help = help_,                                                                    \
     .source = source_,                                                                \
     .param_class = FF_PARAM_##class_,                                                 \
     .has_auto = auto_,                                                                \
     .offset = offsetof(struct ff_params, name_)},
#include "params.def"
#undef FF_PARAM
};

#define TABLE_COUNT (sizeof table / sizeof table[0])

const struct ff_param_info *ff_params_table(size_t *count)
{
    *count = TABLE_COUNT;
    return table;
}

const struct ff_param_info *ff_params_find(const char *name)
{
    for (size_t i = 0; i < TABLE_COUNT; i++)
        if (!strcmp(table[i].name, name))
            return &table[i];
    return NULL;
}

const char *ff_params_nearest(const char *name)
{
    size_t best = 0;
    int best_distance = ff_edit_distance(name, table[0].name);
    for (size_t i = 1; i < TABLE_COUNT; i++) {
        int distance = ff_edit_distance(name, table[i].name);
        if (distance < best_distance) {
            best_distance = distance;
            best = i;
        }
    }
    return table[best].name;
}

static void *field_of(struct ff_params *params, const struct ff_param_info *info)
{
    return (char *)params + info->offset;
}

static const void *const_field_of(const struct ff_params *params,
                                  const struct ff_param_info *info)
{
    return (const char *)params + info->offset;
}

/* Index of a word in "a b c", -1 if it is none of them. */
static int choice_index(const char *choices, const char *word)
{
    size_t length = strlen(word);
    int index = 0;
    for (const char *p = choices; *p; index++) {
        size_t n = strcspn(p, " ");
        if (n == length && !memcmp(p, word, n))
            return index;
        p += n;
        p += *p == ' ';
    }
    return -1;
}

static void choice_text(char *out, size_t capacity, const char *choices, int index)
{
    const char *p = choices;
    for (int i = 0; i < index; i++)
        p += strcspn(p, " ") + 1;
    snprintf(out, capacity, "%.*s", (int)strcspn(p, " "), p);
}

static int bad_value(const struct ff_param_info *info, const char *text,
                     const char *where, const char *wanted, struct ff_err *err)
{
    return ff_err_set(err, FF_EUSAGE, "%s: %s: \"%s\" is not %s", where, info->name,
                      text, wanted);
}

static int out_of_range(const struct ff_param_info *info, const char *text,
                        const char *where, struct ff_err *err)
{
    return ff_err_set(err, FF_EUSAGE, "%s: %s: %s is out of range [%.10g, %.10g]",
                      where, info->name, text, info->min, info->max);
}

static bool in_range(const struct ff_param_info *info, double value)
{
    return value >= info->min && value <= info->max;
}

/* "[1, 2]", "1,2", "1 2" or "[]". */
static int set_list(struct ff_int_list *list, const struct ff_param_info *info,
                    const char *text, const char *where, struct ff_err *err)
{
    static const char wanted[] = "a list of integers such as [1000, 2000]";
    struct ff_int_list made = {0, {0}};
    size_t length = strlen(text);
    const char *p = text, *end = text + length;
    if (*p == '[') {
        if (length < 2 || end[-1] != ']')
            return bad_value(info, text, where, wanted, err);
        p++;
        end--;
    }
    while (p < end) {
        char word[32];
        size_t n = strcspn(p, ", ]");
        if (p + n > end)
            n = (size_t)(end - p);
        if (n) {
            snprintf(word, sizeof word, "%.*s", (int)n, p);
            int64_t value;
            if (n >= sizeof word || ff_parse_i64(&value, word))
                return bad_value(info, text, where, wanted, err);
            if (!in_range(info, (double)value))
                return out_of_range(info, word, where, err);
            if (made.count == FF_PARAM_LIST)
                return ff_err_set(err, FF_EUSAGE, "%s: %s: more than %d items", where,
                                  info->name, FF_PARAM_LIST);
            if (made.count && value <= made.items[made.count - 1])
                return ff_err_set(err, FF_EUSAGE,
                                  "%s: %s: %s does not exceed the item before it",
                                  where, info->name, word);
            made.items[made.count++] = value;
        }
        p += n;
        if (p < end && *p++ == ']')
            return bad_value(info, text, where, wanted, err);
    }
    *list = made;
    return 0;
}

bool ff_paths_next(char out[FF_PARAM_TEXT], const char **list)
{
    size_t length = strcspn(*list, "\n");
    if (!**list || length >= FF_PARAM_TEXT)
        return false;
    memcpy(out, *list, length);
    out[length] = 0;
    *list += length + 1;
    return true;
}

int ff_paths_add(char list[FF_PATHS_TEXT], const char *path, struct ff_err *err)
{
    size_t used = strlen(list), length = strlen(path);
    if (!length || strchr(path, '\n'))
        return ff_err_set(err, FF_EUSAGE, "a path is %s",
                          length ? "broken over lines" : "empty");
    if (length >= FF_PARAM_TEXT || used + length + 2 > FF_PATHS_TEXT)
        return ff_err_set(err, FF_EUSAGE, "%.200s: longer than %d characters%s", path,
                          length >= FF_PARAM_TEXT ? FF_PARAM_TEXT - 1
                                                  : FF_PATHS_TEXT - 1,
                          length >= FF_PARAM_TEXT ? "" : " with the paths before it");
    memcpy(list + used, path, length);
    strcpy(list + used + length, "\n");
    return 0;
}

/* Paths from YAML scalars, the whole field at once. */
static int set_paths(char field[FF_PATHS_TEXT], const struct ff_param_info *info,
                     const struct ff_yaml_node *items, size_t count, const char *where,
                     struct ff_err *err)
{
    char list[FF_PATHS_TEXT] = "", path[FF_PARAM_TEXT];
    for (size_t i = 0; i < count; i++) {
        struct ff_err inner = FF_ERR_INIT;
        const char *text = items[i].kind == FF_YAML_SCALAR ? items[i].text : "";
        int rc = ff_expand_env(path, sizeof path, text, &inner);
        if (!rc)
            rc = ff_paths_add(list, path, &inner);
        if (rc)
            return ff_err_set(err, rc, "%s: %s: %.800s", where, info->name, inner.text);
    }
    memset(field, 0, FF_PATHS_TEXT);
    strcpy(field, list);
    return 0;
}

/* "[a.bin, 'b, c.bin']" as in YAML, one bare path, or nothing. */
static int set_paths_text(char field[FF_PATHS_TEXT], const struct ff_param_info *info,
                          const char *text, const char *where, struct ff_err *err)
{
    struct ff_yaml *doc;
    struct ff_yaml_node one = {.kind = FF_YAML_SCALAR, .text = text};
    if (text[0] != '[')
        return set_paths(field, info, &one, *text ? 1 : 0, where, err);
    if (ff_yaml_parse(&doc, where, text, strlen(text), NULL))
        return bad_value(info, text, where, "a list of paths such as [lfw.bin]", err);
    int rc = set_paths(field, info, doc->root.items, doc->root.count, where, err);
    ff_yaml_destroy(doc);
    return rc;
}

static int set_value(struct ff_params *params, const struct ff_param_info *info,
                     const char *text, const char *where, struct ff_err *err)
{
    void *field = field_of(params, info);
    bool is_auto = info->has_auto && !strcmp(text, "auto");
    switch (info->type) {
    case FF_PARAM_FLOAT: {
        double value = NAN;
        if (!is_auto && ff_parse_f64(&value, text))
            return bad_value(info, text, where,
                             info->has_auto ? "a number or auto" : "a number", err);
        if (!is_auto && !in_range(info, value))
            return out_of_range(info, text, where, err);
        *(double *)field = value;
        return 0;
    }
    case FF_PARAM_INT: {
        int64_t value = 0;
        if (!is_auto && ff_parse_i64(&value, text))
            return bad_value(info, text, where,
                             info->has_auto ? "an integer or auto" : "an integer", err);
        if (!is_auto && !in_range(info, (double)value))
            return out_of_range(info, text, where, err);
        *(int64_t *)field = value;
        return 0;
    }
    case FF_PARAM_BOOL:
        if (strcmp(text, "true") && strcmp(text, "false"))
            return bad_value(info, text, where, "true or false", err);
        *(bool *)field = !strcmp(text, "true");
        return 0;
    case FF_PARAM_ENUM: {
        int index = choice_index(info->choices, text);
        if (index < 0)
            return ff_err_set(err, FF_EUSAGE, "%s: %s: \"%s\" is none of: %s", where,
                              info->name, text, info->choices);
        *(int *)field = index;
        return 0;
    }
    case FF_PARAM_WORD:
    case FF_PARAM_PATH: {
        /* The whole field is set, so that structs compare by memcmp. */
        char expanded[FF_PARAM_TEXT] = "";
        struct ff_err inner = FF_ERR_INIT;
        int rc = ff_expand_env(expanded, sizeof expanded, text, &inner);
        if (rc)
            return ff_err_set(err, rc, "%s: %s: %.800s", where, info->name, inner.text);
        memcpy(field, expanded, sizeof expanded);
        return 0;
    }
    case FF_PARAM_INTS: return set_list(field, info, text, where, err);
    case FF_PARAM_PATHS: return set_paths_text(field, info, text, where, err);
    }
    return 0;
}

int ff_params_set(struct ff_params *params, const char *name, const char *text,
                  const char *where, struct ff_err *err)
{
    const struct ff_param_info *info = ff_params_find(name);
    if (!info)
        return ff_err_set(err, FF_EUSAGE, "%s: unknown parameter \"%s\" (nearest: %s)",
                          where, name, ff_params_nearest(name));
    return set_value(params, info, text, where, err);
}

void ff_params_defaults(struct ff_params *params)
{
    memset(params, 0, sizeof *params);
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        struct ff_err err = FF_ERR_INIT;
        if (set_value(params, &table[i], table[i].default_text, "params.def", &err)) {
            fprintf(stderr, "%s\n", err.text);
            abort(); /* a mistake in the table itself */
        }
    }
}

/* One entry of a map: a scalar, or a list of scalars put together as its text. */
static int set_node(struct ff_params *params, const struct ff_yaml *doc,
                    const struct ff_yaml_node *node, struct ff_err *err)
{
    char where[512], text[32 * FF_PARAM_LIST] = "[";
    snprintf(where, sizeof where, "%s:%d", doc->path, node->line);
    const struct ff_param_info *info = ff_params_find(node->key);
    if (!info || node->kind == FF_YAML_SCALAR)
        return ff_params_set(params, node->key, node->text ? node->text : "", where,
                             err);
    if (node->kind == FF_YAML_LIST && info->type == FF_PARAM_PATHS)
        return set_paths(field_of(params, info), info, node->items, node->count, where,
                         err);
    if (node->kind == FF_YAML_MAP || info->type != FF_PARAM_INTS)
        return ff_err_set(err, FF_EUSAGE, "%s: %s: a %s stands where one value belongs",
                          where, node->key, node->kind == FF_YAML_MAP ? "map" : "list");
    size_t used = 1;
    for (size_t i = 0; i < node->count; i++) {
        const struct ff_yaml_node *item = &node->items[i];
        int n = snprintf(text + used, sizeof text - used, "%s%s", i ? ", " : "",
                         item->text ? item->text : "?");
        if (n < 0 || used + (size_t)n + 2 > sizeof text)
            return ff_err_set(err, FF_EUSAGE, "%s: %s: list too long", where,
                              node->key);
        used += (size_t)n;
    }
    strcpy(text + used, "]");
    return set_value(params, info, text, where, err);
}

int ff_params_set_map(struct ff_params *params, const struct ff_yaml *doc,
                      const struct ff_yaml_node *map, struct ff_err *err)
{
    if (map->kind != FF_YAML_MAP)
        return ff_err_set(err, FF_EUSAGE,
                          "%s:%d: parameters must be a map of lines \"name: value\"",
                          doc->path, map->line);
    for (size_t i = 0; i < map->count; i++) {
        int rc = set_node(params, doc, &map->items[i], err);
        if (rc)
            return rc;
    }
    return 0;
}

int ff_params_set_arg(struct ff_params *params, const char *assignment,
                      struct ff_err *err)
{
    const char *equals = strchr(assignment, '=');
    char name[64];
    if (!equals || equals == assignment)
        return ff_err_set(err, FF_EUSAGE, "--set: \"%s\" is not name=value",
                          assignment);
    snprintf(name, sizeof name, "%.*s", (int)(equals - assignment), assignment);
    return ff_params_set(params, name, equals + 1, "--set", err);
}

int ff_params_load(struct ff_params *params, const char *path, struct ff_err *err)
{
    struct ff_yaml *doc;
    int rc = ff_yaml_load(&doc, path, err);
    if (rc)
        return rc;
    rc = ff_params_set_map(params, doc, &doc->root, err);
    ff_yaml_destroy(doc);
    return rc;
}

int ff_params_resolve(struct ff_params *params, struct ff_err *err)
{
    if (isnan(params->margin))
        params->margin = params->head == FF_HEAD_ARCFACE   ? 0.5
                         : params->head == FF_HEAD_COSFACE ? 0.4
                                                           : 0.0;
    if (params->head == FF_HEAD_SOFTMAX && params->margin != 0)
        return ff_err_set(err, FF_EUSAGE, "margin: %g given, but head softmax has none",
                          params->margin);
    if (params->haar_width % 2)
        return ff_err_set(err, FF_EUSAGE, "haar_width: %lld is not even",
                          (long long)params->haar_width);
    if (params->image_size % 16)
        return ff_err_set(err, FF_EUSAGE, "image_size: %lld is not a multiple of 16",
                          (long long)params->image_size);
    if (params->embedding % 8)
        return ff_err_set(err, FF_EUSAGE, "embedding: %lld is not a multiple of 8",
                          (long long)params->embedding);
    bool half = params->precision == FF_PRECISION_FP16 ||
                params->precision == FF_PRECISION_BF16;
    bool half_head = params->head_precision == FF_HEAD_PRECISION_FP16;
    if ((half || half_head) &&
        (params->backend == FF_BACKEND_ONEDNN || params->backend == FF_BACKEND_REF)) {
        const char *name = half ? "precision" : "head_precision";
        char value[64], backend[64];
        ff_params_text(value, sizeof value, params, ff_params_find(name));
        ff_params_text(backend, sizeof backend, params, ff_params_find("backend"));
        return ff_err_set(err, FF_EUSAGE,
                          "%s: %s does not run on backend %s (hint: %s: fp32, or "
                          "backend: cuda)",
                          name, value, backend, name);
    }
    return 0;
}

void ff_params_text(char *out, size_t capacity, const struct ff_params *params,
                    const struct ff_param_info *info)
{
    const void *field = const_field_of(params, info);
    switch (info->type) {
    case FF_PARAM_FLOAT: {
        char text[32];
        double value = *(const double *)field;
        snprintf(out, capacity, "%s", isnan(value) ? "auto" : ff_f64_text(text, value));
        break;
    }
    case FF_PARAM_INT:
        if (info->has_auto && *(const int64_t *)field == 0)
            snprintf(out, capacity, "auto");
        else
            snprintf(out, capacity, "%lld", (long long)*(const int64_t *)field);
        break;
    case FF_PARAM_BOOL:
        snprintf(out, capacity, "%s", *(const bool *)field ? "true" : "false");
        break;
    case FF_PARAM_ENUM:
        choice_text(out, capacity, info->choices, *(const int *)field);
        break;
    case FF_PARAM_WORD:
    case FF_PARAM_PATH:
    case FF_PARAM_PATHS: {
        FILE *f = fmemopen(out, capacity, "w");
        if (!f) {
            snprintf(out, capacity, "\"\"");
            break;
        }
        ff_params_write_value(f, params, info);
        fputc(0, f);
        fclose(f);
        out[capacity - 1] = 0;
        break;
    }
    case FF_PARAM_INTS: {
        const struct ff_int_list *list = field;
        size_t used = (size_t)snprintf(out, capacity, "[");
        for (int64_t i = 0; i < list->count && used < capacity; i++)
            used += (size_t)snprintf(out + used, capacity - used, "%s%lld",
                                     i ? ", " : "", (long long)list->items[i]);
        if (used < capacity)
            snprintf(out + used, capacity - used, "]");
        break;
    }
    }
}

void ff_params_write_value(FILE *f, const struct ff_params *params,
                           const struct ff_param_info *info)
{
    const char *field = const_field_of(params, info);
    if (info->type == FF_PARAM_PATH || info->type == FF_PARAM_WORD) {
        ff_yaml_write_string(f, field);
    } else if (info->type == FF_PARAM_PATHS) {
        char path[FF_PARAM_TEXT];
        const char *comma = "[";
        while (ff_paths_next(path, &field)) {
            fputs(comma, f);
            ff_yaml_write_string(f, path);
            comma = ", ";
        }
        fputs(*comma == '[' ? "[]" : "]", f);
    } else {
        char text[32 * FF_PARAM_LIST];
        ff_params_text(text, sizeof text, params, info);
        fputs(text, f);
    }
}

void ff_params_write(FILE *f, const struct ff_params *params, const char *indent)
{
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        const struct ff_param_info *info = &table[i];
        fprintf(f, "%s%s: ", indent, info->name);
        ff_params_write_value(f, params, info);
        fputc('\n', f);
    }
}

static void write_range(FILE *f, const struct ff_param_info *info)
{
    switch (info->type) {
    case FF_PARAM_ENUM: fprintf(f, "%s", info->choices); break;
    case FF_PARAM_BOOL: fprintf(f, "true false"); break;
    case FF_PARAM_PATH: fprintf(f, "path"); break;
    case FF_PARAM_WORD: fprintf(f, "text"); break;
    case FF_PARAM_PATHS: fprintf(f, "list of paths"); break;
    case FF_PARAM_FLOAT:
    case FF_PARAM_INT:
    case FF_PARAM_INTS:
        fprintf(f, "%s%.10g .. %.10g%s", info->type == FF_PARAM_INTS ? "list of " : "",
                info->min, info->max, info->has_auto ? ", auto" : "");
        break;
    }
    if (*info->unit)
        fprintf(f, " (%s)", info->unit);
}

void ff_params_help(FILE *f)
{
    static const char *const class_names[] = {
        [FF_PARAM_TRAINING] = "training",
        [FF_PARAM_SCHEDULER] = "learning-rate schedule",
        [FF_PARAM_NEITHER] = "changes no result",
    };
    fprintf(f, "%-28s %-17s %s\n", "parameter", "default", "values");
    for (size_t i = 0; i < TABLE_COUNT; i++) {
        const struct ff_param_info *info = &table[i];
        fprintf(f, "%-28s %-17s ", info->name,
                *info->default_text ? info->default_text : "\"\"");
        write_range(f, info);
        fprintf(f, "\n    %s", info->help);
        if (*info->source)
            fprintf(f, " [%s]", info->source);
        fprintf(f, " {%s}\n", class_names[info->param_class]);
    }
}
