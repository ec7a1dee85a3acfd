/* SPDX-License-Identifier: MIT */
/* The axes, seeds and rules of a grid, and the cells that they span.
 *
 * A value of an axis goes through ff_params_set on a scratch copy and comes back as its
 * canonical text; two values are the same if their texts are. Each cell copies the
 * train parameters, takes its axis values and seed, and is resolved by itself. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "grid_priv.h"

static int find_axis(const struct ff_grid *grid, const char *name)
{
    for (int a = 0; a < grid->axis_count; a++)
        if (!strcmp(grid->axes[a].param->name, name))
            return a;
    return -1;
}

/* Sets one parameter; a path becomes absolute. */
static int set_value(struct ff_params *params, const struct ff_param_info *info,
                     const char *text, const char *where, struct ff_err *err)
{
    int rc = ff_params_set(params, info->name, text, where, err);
    if (!rc && info->type == FF_PARAM_PATH)
        rc = ff_grid_make_absolute((char *)params + info->offset, err);
    return rc;
}

static int axis_append(struct ff_grid_reader *r, const struct ff_yaml_node *node,
                       struct ff_axis *axis, const char *text)
{
    char where[FF_PATH_MAX + 32];
    snprintf(where, sizeof where, "%s:%d", r->doc->path, node->line);
    struct ff_params *scratch = malloc(sizeof *scratch);
    if (!scratch)
        return ff_err_set(r->err, FF_ENOMEM, "out of memory");
    *scratch = r->grid->base;
    int rc = set_value(scratch, axis->param, text, where, r->err);
    if (rc)
        goto done;
    char canonical[FF_PARAM_TEXT];
    ff_grid_value_text(canonical, scratch, axis->param);
    for (int i = 0; i < axis->count; i++)
        if (!strcmp(axis->texts[i], canonical)) {
            rc = ff_grid_bad(r, node, "%s: value %s occurs twice", axis->param->name,
                             canonical);
            goto done;
        }
    if (axis->count == FF_GRID_MAX_VALUES) {
        rc = ff_grid_bad(r, node, "%s: more than %d values", axis->param->name,
                         FF_GRID_MAX_VALUES);
        goto done;
    }
    axis->texts[axis->count] = strdup(canonical);
    if (!axis->texts[axis->count]) {
        rc = ff_err_set(r->err, FF_ENOMEM, "out of memory");
        goto done;
    }
    if (axis->kind == FF_AXIS_NUMBER) {
        const char *field = (const char *)scratch + axis->param->offset;
        double value = axis->param->type == FF_PARAM_FLOAT
                           ? *(const double *)field
                           : (double)*(const int64_t *)field;
        if (isnan(value) || !strcmp(canonical, "auto")) {
            free(axis->texts[axis->count]);
            rc = ff_grid_bad(r, node, "%s: an axis needs numbers, found %s",
                             axis->param->name, text);
            goto done;
        }
        axis->values[axis->count] = value;
    }
    axis->count++;
done:
    free(scratch);
    return rc;
}

/* {log: [a, b], n: 5} or {linear: [a, b], n: 5}, rounded to 6 significant digits. */
static int generate_axis(struct ff_grid_reader *r, const struct ff_yaml_node *node,
                         struct ff_axis *axis)
{
    const char *name = axis->param->name;
    const struct ff_yaml_node *log_ends = ff_yaml_get(node, "log");
    const struct ff_yaml_node *linear_ends = ff_yaml_get(node, "linear");
    const struct ff_yaml_node *n_node = ff_yaml_get(node, "n");
    const struct ff_yaml_node *ends = log_ends ? log_ends : linear_ends;
    if (axis->kind != FF_AXIS_NUMBER)
        return ff_grid_bad(r, node, "%s: is no number; give a list of its values",
                           name);
    if (node->count != 2 || !ends || !n_node)
        return ff_grid_bad(r, node,
                           "%s: a list, {log: [a, b], n: N} or {linear: [a, b], n: N} "
                           "is wanted",
                           name);
    if (ends->kind != FF_YAML_LIST || ends->count != 2)
        return ff_grid_bad(r, ends, "%s: %s: two ends [a, b] are wanted", name,
                           ends->key);
    double a, b;
    int64_t n;
    for (int i = 0; i < 2; i++) {
        const char *text = ends->items[i].text;
        if (!text || ff_parse_f64(i ? &b : &a, text))
            return ff_grid_bad(r, &ends->items[i], "%s: %s: %s is not a number", name,
                               ends->key, text ? text : "what stands here");
    }
    int rc = ff_yaml_i64(&n, r->doc, n_node, r->err);
    if (rc)
        return rc;
    if (n < 2 || n > FF_GRID_MAX_VALUES)
        return ff_grid_bad(r, n_node, "%s: n is %lld; 2 to %d values are possible",
                           name, (long long)n, FF_GRID_MAX_VALUES);
    if (log_ends && (a <= 0 || b <= 0))
        return ff_grid_bad(r, ends,
                           "%s: log: both ends must be above 0, found %s and %s", name,
                           ends->items[0].text, ends->items[1].text);
    for (int64_t i = 0; i < n; i++) {
        double part = (double)i / (double)(n - 1);
        double value =
            log_ends ? exp(log(a) + part * (log(b) - log(a))) : a + part * (b - a);
        char text[64];
        snprintf(text, sizeof text, "%.6g", value);
        rc = axis_append(r, ends, axis, text);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_axis(struct ff_grid_reader *r, const struct ff_yaml_node *node)
{
    struct ff_grid *grid = r->grid;
    const struct ff_param_info *info = ff_params_find(node->key);
    if (!info)
        return ff_grid_bad(r, node, "sweep: unknown parameter %s; nearest is %s",
                           node->key, ff_params_nearest(node->key));
    if (!strcmp(info->name, "seed"))
        return ff_grid_bad(r, node,
                           "sweep: seed is no axis; repeats are listed under seeds:");
    if (info->type == FF_PARAM_INTS || info->type == FF_PARAM_PATHS)
        return ff_grid_bad(r, node, "sweep: %s is a list and cannot be an axis",
                           info->name);
    if (grid->given_line[ff_grid_table_index(info)])
        return ff_grid_bad(r, node, "sweep: %s is also set under train: or by --set",
                           info->name);
    if (grid->axis_count == FF_GRID_MAX_AXES)
        return ff_grid_bad(r, node, "sweep: %s is axis %d; at most %d are possible",
                           info->name, FF_GRID_MAX_AXES + 1, FF_GRID_MAX_AXES);
    struct ff_axis *axis = &grid->axes[grid->axis_count++];
    axis->param = info;
    axis->line = node->line;
    axis->kind = info->type == FF_PARAM_FLOAT || info->type == FF_PARAM_INT
                     ? FF_AXIS_NUMBER
                     : FF_AXIS_TEXT;
    axis->texts = calloc(FF_GRID_MAX_VALUES, sizeof *axis->texts);
    if (axis->kind == FF_AXIS_NUMBER)
        axis->values = calloc(FF_GRID_MAX_VALUES, sizeof *axis->values);
    if (!axis->texts || (axis->kind == FF_AXIS_NUMBER && !axis->values))
        return ff_err_set(r->err, FF_ENOMEM, "out of memory");
    if (node->kind == FF_YAML_MAP)
        return generate_axis(r, node, axis);
    if (node->kind != FF_YAML_LIST || node->count == 0)
        return ff_grid_bad(r, node, "sweep: %s: a list of values is wanted",
                           info->name);
    for (size_t i = 0; i < node->count; i++) {
        const struct ff_yaml_node *item = &node->items[i];
        if (item->kind != FF_YAML_SCALAR)
            return ff_grid_bad(r, item, "sweep: %s: value %zu is no single value",
                               info->name, i + 1);
        int rc = axis_append(r, item, axis, item->text);
        if (rc)
            return rc;
    }
    return 0;
}

int ff_grid_read_sweep(struct ff_grid_reader *r, const struct ff_yaml_node *node)
{
    if (node->count == 0 && node->kind != FF_YAML_SCALAR)
        return 0;
    if (node->kind != FF_YAML_MAP)
        return ff_grid_bad(r, node, "sweep: a map of axes is wanted");
    for (size_t i = 0; i < node->count; i++) {
        int rc = read_axis(r, &node->items[i]);
        if (rc)
            return rc;
    }
    return 0;
}

int ff_grid_read_seeds(struct ff_grid_reader *r, const struct ff_yaml_node *node)
{
    struct ff_grid *grid = r->grid;
    const struct ff_param_info *seed = ff_params_find("seed");
    if (!node) {
        grid->seeds[0] = grid->base.seed;
        grid->seed_count = 1;
        return 0;
    }
    if (grid->given_line[ff_grid_table_index(seed)])
        return ff_grid_bad(r, node, "seeds: seed is also set under train: or by --set");
    if (node->kind != FF_YAML_LIST || node->count == 0)
        return ff_grid_bad(r, node, "seeds: a list of integers is wanted");
    if (node->count > FF_GRID_MAX_SEEDS)
        return ff_grid_bad(r, node, "seeds: %zu of them; at most %d are possible",
                           node->count, FF_GRID_MAX_SEEDS);
    for (size_t i = 0; i < node->count; i++) {
        int64_t value;
        const char *text = node->items[i].text;
        if (!text || ff_parse_i64(&value, text))
            return ff_grid_bad(r, &node->items[i], "seeds: %s is not an integer",
                               text ? text : "what stands here");
        if ((double)value < seed->min || (double)value > seed->max)
            return ff_grid_bad(r, &node->items[i],
                               "seeds: %lld is out of range %g .. %g", (long long)value,
                               seed->min, seed->max);
        for (int k = 0; k < grid->seed_count; k++)
            if (grid->seeds[k] == value)
                return ff_grid_bad(r, &node->items[i], "seeds: %lld occurs twice",
                                   (long long)value);
        grid->seeds[grid->seed_count++] = value;
    }
    return 0;
}

/* Index of a value on an axis, or of a seed (axis -1); -1 if it is not there. */
static int value_index(const struct ff_grid *grid, int axis, const char *text,
                       const char *where, struct ff_err *err)
{
    if (axis < 0) {
        int64_t seed;
        if (!ff_parse_i64(&seed, text))
            for (int s = 0; s < grid->seed_count; s++)
                if (grid->seeds[s] == seed)
                    return s;
        return ff_err_set(err, FF_EUSAGE, "%s: %s is none of the seeds", where, text);
    }
    const struct ff_axis *a = &grid->axes[axis];
    struct ff_params *scratch = malloc(sizeof *scratch);
    if (!scratch)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    *scratch = grid->base;
    char canonical[FF_PARAM_TEXT];
    int found = set_value(scratch, a->param, text, where, err);
    if (!found) {
        ff_grid_value_text(canonical, scratch, a->param);
        for (found = 0; found < a->count; found++)
            if (!strcmp(a->texts[found], canonical))
                break;
        if (found == a->count)
            found = ff_err_set(err, FF_EUSAGE,
                               "%s: %s is no value of the axis %s "
                               "(%s .. %s)",
                               where, canonical, a->param->name, a->texts[0],
                               a->texts[a->count - 1]);
    }
    free(scratch);
    return found;
}

int ff_grid_read_exclude(struct ff_grid_reader *r, const struct ff_yaml_node *node)
{
    struct ff_grid *grid = r->grid;
    if (node->count == 0 && node->kind != FF_YAML_SCALAR)
        return 0;
    if (node->kind != FF_YAML_LIST)
        return ff_grid_bad(r, node,
                           "exclude: a list of {parameter: value} rules is wanted");
    grid->excludes = calloc(node->count, sizeof *grid->excludes);
    if (!grid->excludes)
        return ff_err_set(r->err, FF_ENOMEM, "out of memory");
    for (size_t i = 0; i < node->count; i++) {
        const struct ff_yaml_node *item = &node->items[i];
        if (item->kind != FF_YAML_MAP || item->count == 0)
            return ff_grid_bad(r, item, "exclude: a {parameter: value} rule is wanted");
        struct ff_grid_rule *rule = &grid->excludes[grid->exclude_count++];
        for (int a = 0; a < FF_GRID_MAX_AXES; a++)
            rule->at[a] = -1;
        rule->seed_index = -1;
        for (size_t k = 0; k < item->count; k++) {
            const struct ff_yaml_node *entry = &item->items[k];
            int axis = find_axis(grid, entry->key);
            bool seed = !strcmp(entry->key, "seed");
            if (axis < 0 && !seed)
                return ff_grid_bad(r, entry, "exclude: %s is no axis of this grid",
                                   entry->key);
            if (entry->kind != FF_YAML_SCALAR)
                return ff_grid_bad(r, entry, "exclude: %s: one value is wanted",
                                   entry->key);
            char where[FF_PATH_MAX + 64];
            snprintf(where, sizeof where, "%s:%d: exclude", r->doc->path, entry->line);
            int index = value_index(grid, axis, entry->text, where, r->err);
            if (index < 0)
                return index;
            *(seed ? &rule->seed_index : &rule->at[axis]) = index;
        }
    }
    return 0;
}

static bool excluded(const struct ff_grid *grid, const struct ff_cell *cell)
{
    for (int i = 0; i < grid->exclude_count; i++) {
        const struct ff_grid_rule *rule = &grid->excludes[i];
        bool match = rule->seed_index < 0 || rule->seed_index == cell->seed_index;
        for (int a = 0; match && a < grid->axis_count; a++)
            match = rule->at[a] < 0 || rule->at[a] == cell->at[a];
        if (match)
            return true;
    }
    return false;
}

int ff_grid_spread(struct ff_grid *grid, struct ff_err *err)
{
    grid->place_count = 1;
    for (int a = 0; a < grid->axis_count; a++) {
        grid->place_count *= grid->axes[a].count;
        if (grid->place_count * grid->seed_count > FF_GRID_MAX_CELLS)
            return ff_err_set(err, FF_EUSAGE, "%s: more than %d cells", grid->path,
                              FF_GRID_MAX_CELLS);
    }
    grid->cell_count = grid->place_count * grid->seed_count;
    grid->cells = calloc((size_t)grid->cell_count, sizeof *grid->cells);
    if (!grid->cells)
        return ff_err_set(err, FF_ENOMEM, "out of memory for %d cells",
                          grid->cell_count);
    for (int i = 0; i < grid->cell_count; i++) {
        struct ff_cell *cell = &grid->cells[i];
        int rest = i / grid->seed_count;
        cell->seed_index = i % grid->seed_count;
        for (int a = grid->axis_count - 1; a >= 0; a--) {
            cell->at[a] = rest % grid->axes[a].count;
            rest /= grid->axes[a].count;
        }
        cell->excluded = excluded(grid, cell);
        cell->params = grid->base;
        cell->params.seed = grid->seeds[cell->seed_index];
        int rc = 0;
        for (int a = 0; !rc && a < grid->axis_count; a++)
            rc = ff_params_set(&cell->params, grid->axes[a].param->name,
                               grid->axes[a].texts[cell->at[a]], grid->path, err);
        struct ff_err inner = FF_ERR_INIT;
        if (!rc && !cell->excluded && ff_params_resolve(&cell->params, &inner)) {
            char label[512], where[FF_GRID_WHERE], name[64];
            /* The message begins with the parameter's name. */
            snprintf(name, sizeof name, "%.*s", (int)strcspn(inner.text, ":"),
                     inner.text);
            ff_grid_cell_label(label, sizeof label, grid, cell);
            rc = ff_err_set(err, inner.code, "%s: cell %s: %.600s",
                            ff_grid_where(where, grid, name), label, inner.text);
        }
        if (rc)
            return rc;
    }
    return 0;
}

int ff_grid_cell_index(const struct ff_grid *grid, const int at[FF_GRID_MAX_AXES],
                       int seed_index)
{
    int place = 0;
    for (int a = 0; a < grid->axis_count; a++)
        place = place * grid->axes[a].count + at[a];
    return place * grid->seed_count + seed_index;
}

int ff_grid_cell_matches(const struct ff_grid *grid, const struct ff_cell *cell,
                         const char *list, struct ff_err *err)
{
    int match = 1;
    char *copy = strdup(list), *rest = copy;
    if (!copy)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    while (rest && *rest) {
        char *item = strsep(&rest, ","), *value = strchr(item, '=');
        if (!value) {
            match = ff_err_set(err, FF_EUSAGE, "--only %s: name=value is wanted", item);
            break;
        }
        *value++ = 0;
        int axis = find_axis(grid, item);
        if (axis < 0 && strcmp(item, "seed")) {
            match =
                ff_err_set(err, FF_EUSAGE, "--only %s: is no axis of this grid", item);
            break;
        }
        int index = value_index(grid, axis, value, "--only", err);
        if (index < 0) {
            match = index;
            break;
        }
        if (index != (axis < 0 ? cell->seed_index : cell->at[axis]))
            match = 0;
    }
    free(copy);
    return match;
}
