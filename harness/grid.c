/* SPDX-License-Identifier: MIT */
/* Reads grid files.
 *
 * The tree of yaml_doc is walked once, key by key; every value of a parameter goes
 * through ff_params_set, so that a grid accepts exactly what a parameter file accepts.
 * Then the axes are spread out: each cell copies the train parameters, takes its axis
 * values and seed, and is resolved by itself. Relative paths become absolute here, so
 * that the copy kept in the sweep directory means the same from anywhere. */
#include "grid.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "grid_priv.h"

const double ff_fars[FF_FAR_COUNT] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1};

int ff_grid_bad(const struct ff_grid_reader *r, const struct ff_yaml_node *node,
                const char *fmt, ...)
{
    char text[900];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return ff_err_set(r->err, FF_EUSAGE, "%s:%d: %s", r->doc->path, node->line, text);
}

static bool plain_name(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || length >= FF_GRID_NAME)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '_' && c != '-')
            return false;
    }
    return text[0] != '-';
}

size_t ff_grid_table_index(const struct ff_param_info *info)
{
    size_t count;
    return (size_t)(info - ff_params_table(&count));
}

int ff_grid_paths_absolute(char list[FF_PATHS_TEXT], struct ff_err *err)
{
    char made[FF_PATHS_TEXT] = "", path[FF_PARAM_TEXT];
    const char *at = list;
    while (ff_paths_next(path, &at)) {
        int rc = ff_grid_make_absolute(path, err);
        if (!rc)
            rc = ff_paths_add(made, path, err);
        if (rc)
            return rc;
    }
    memcpy(list, made, sizeof made);
    return 0;
}

int ff_grid_make_absolute(char path[FF_PARAM_TEXT], struct ff_err *err)
{
    if (path[0] == '/' || path[0] == 0)
        return 0;
    char here[FF_PATH_MAX], whole[2 * FF_PATH_MAX];
    if (!getcwd(here, sizeof here))
        return ff_err_errno(err, FF_EFAIL, "current directory");
    snprintf(whole, sizeof whole, "%s/%s", here, path);
    if (strlen(whole) >= FF_PARAM_TEXT)
        return ff_err_set(err, FF_EUSAGE, "%s: path longer than %d characters", whole,
                          FF_PARAM_TEXT - 1);
    memcpy(path, whole, strlen(whole) + 1);
    return 0;
}

static char *path_field(struct ff_params *params, const struct ff_param_info *info)
{
    return (char *)params + info->offset;
}

const char *ff_grid_value_text(char out[FF_PARAM_TEXT], const struct ff_params *params,
                               const struct ff_param_info *info)
{
    if (info->type == FF_PARAM_PATH || info->type == FF_PARAM_WORD)
        snprintf(out, FF_PARAM_TEXT, "%s", (const char *)params + info->offset);
    else
        ff_params_text(out, FF_PARAM_TEXT, params, info);
    return out;
}

static int read_train(struct ff_grid_reader *r, const struct ff_yaml_node *node)
{
    if (node->kind != FF_YAML_MAP)
        return ff_grid_bad(r, node, "train: a map of parameters is wanted");
    r->grid->train_line = node->line;
    int rc = ff_params_set_map(&r->grid->base, r->doc, node, r->err);
    if (rc)
        return rc;
    for (size_t i = 0; i < node->count; i++) {
        const struct ff_param_info *info = ff_params_find(node->items[i].key);
        r->grid->given_line[ff_grid_table_index(info)] = node->items[i].line;
        if (info->type == FF_PARAM_PATH)
            rc = ff_grid_make_absolute(path_field(&r->grid->base, info), r->err);
        else if (info->type == FF_PARAM_PATHS)
            rc = ff_grid_paths_absolute(path_field(&r->grid->base, info), r->err);
        if (rc)
            return rc;
    }
    return 0;
}

static int copy_text(struct ff_grid_reader *r, char *out, size_t capacity,
                     const struct ff_yaml_node *node, const char *what)
{
    if (node->kind != FF_YAML_SCALAR || !node->text[0])
        return ff_grid_bad(r, node, "%s: a text is wanted", what);
    if (strlen(node->text) >= capacity)
        return ff_grid_bad(r, node, "%s: longer than %zu characters", what,
                           capacity - 1);
    memcpy(out, node->text, strlen(node->text) + 1);
    return 0;
}

/* A path of an eval entry: ${VAR} expanded, absolute. */
static int read_eval_path(struct ff_grid_reader *r, char path[FF_PARAM_TEXT],
                          const struct ff_yaml_node *node, const char *what)
{
    char text[FF_PARAM_TEXT];
    struct ff_err inner = FF_ERR_INIT;
    int rc = copy_text(r, text, sizeof text, node, what);
    if (!rc && ff_expand_env(path, FF_PARAM_TEXT, text, &inner))
        rc = ff_grid_bad(r, node, "%s: %.600s", what, inner.text);
    return rc ? rc : ff_grid_make_absolute(path, r->err);
}

/* `bin:` of a pairs entry: a list of files, or one. */
static int read_bins(struct ff_grid_reader *r, struct ff_grid_eval *entry,
                     const struct ff_yaml_node *node)
{
    const struct ff_yaml_node *items = node->kind == FF_YAML_LIST ? node->items : node;
    size_t count = node->kind == FF_YAML_LIST ? node->count : 1;
    if (node->kind == FF_YAML_MAP || !count)
        return ff_grid_bad(r, node, "eval: bin: a list of files of pairs is wanted");
    if (count > FF_GRID_MAX_BINS)
        return ff_grid_bad(r, node, "eval: bin: %zu files; at most %d are possible",
                           count, FF_GRID_MAX_BINS);
    for (size_t i = 0; i < count; i++) {
        struct ff_grid_bin *bin = &entry->bins[i];
        bin->line = items[i].line;
        int rc = read_eval_path(r, bin->path, &items[i], "eval: bin");
        if (rc)
            return rc;
        if (!ff_pair_name(bin->name, bin->path))
            return ff_grid_bad(r, &items[i],
                               "eval: bin: %s: the file's name must be of letters, "
                               "digits, _, - and points",
                               bin->path);
        entry->bin_count++;
        for (int e = 0; e <= r->grid->eval_count; e++)
            for (int k = 0; k < r->grid->evals[e].bin_count; k++)
                if (&r->grid->evals[e].bins[k] != bin &&
                    !strcmp(r->grid->evals[e].bins[k].name, bin->name))
                    return ff_grid_bad(r, &items[i],
                                       "eval: bin: two files are named %s", bin->name);
    }
    return 0;
}

/* What belongs to one protocol is refused with the other. */
static int check_eval_entry(struct ff_grid_reader *r, const struct ff_yaml_node *node,
                            const struct ff_grid_eval *entry)
{
    static const char *const of_ijb[] = {"root", "flip", "norm", "det"};
    bool pairs = !strcmp(entry->protocol, "pairs");
    if (!entry->protocol[0])
        return ff_grid_bad(r, node, "eval: protocol is missing");
    for (int k = 0; pairs && k < 4; k++)
        if (ff_yaml_get(node, of_ijb[k]))
            return ff_grid_bad(r, ff_yaml_get(node, of_ijb[k]),
                               "eval: protocol pairs has no %s", of_ijb[k]);
    if (!pairs && entry->bin_count)
        return ff_grid_bad(r, node, "eval: protocol %s has no bin", entry->protocol);
    if (pairs ? !entry->bin_count : !entry->root[0])
        return ff_grid_bad(r, node, "eval: %s is missing", pairs ? "bin" : "root");
    return 0;
}

static int read_eval_entry(struct ff_grid_reader *r, const struct ff_yaml_node *node)
{
    struct ff_grid *grid = r->grid;
    if (node->kind != FF_YAML_MAP)
        return ff_grid_bad(r, node,
                           "eval: an entry {protocol: ijbc, root: ...} is wanted");
    if (grid->eval_count == FF_GRID_MAX_EVALS)
        return ff_grid_bad(r, node, "eval: more than %d entries", FF_GRID_MAX_EVALS);
    struct ff_grid_eval *entry = &grid->evals[grid->eval_count];
    entry->flip = entry->norm = entry->det = true;
    for (size_t i = 0; i < node->count; i++) {
        const struct ff_yaml_node *item = &node->items[i];
        int rc = 0;
        if (!strcmp(item->key, "protocol")) {
            rc = copy_text(r, entry->protocol, sizeof entry->protocol, item,
                           "eval: protocol");
            if (!rc && strcmp(entry->protocol, "ijbc") &&
                strcmp(entry->protocol, "ijbb") && strcmp(entry->protocol, "pairs"))
                rc = ff_grid_bad(r, item,
                                 "eval: protocol %s; ijbc, ijbb and pairs are known",
                                 item->text);
        } else if (!strcmp(item->key, "name")) {
            rc = copy_text(r, entry->name, sizeof entry->name, item, "eval: name");
            if (!rc && !plain_name(entry->name))
                rc =
                    ff_grid_bad(r, item, "eval: name %s: letters, digits, _ and - only",
                                item->text);
        } else if (!strcmp(item->key, "root")) {
            entry->root_line = item->line;
            rc = read_eval_path(r, entry->root, item, "eval: root");
        } else if (!strcmp(item->key, "bin")) {
            rc = read_bins(r, entry, item);
        } else if (!strcmp(item->key, "flip")) {
            rc = ff_yaml_bool(&entry->flip, r->doc, item, r->err);
        } else if (!strcmp(item->key, "norm")) {
            rc = ff_yaml_bool(&entry->norm, r->doc, item, r->err);
        } else if (!strcmp(item->key, "det")) {
            rc = ff_yaml_bool(&entry->det, r->doc, item, r->err);
        } else {
            rc = ff_grid_bad(r, item,
                             "eval: unknown key %s; protocol, name, root, bin, flip, "
                             "norm and det are known",
                             item->key);
        }
        if (rc)
            return rc;
    }
    int rc = check_eval_entry(r, node, entry);
    if (rc)
        return rc;
    if (!entry->name[0])
        memcpy(entry->name, entry->protocol, sizeof entry->protocol);
    /* heatmap.h5 has datasets tar_<name> and tar_compat_<name>. */
    if (!strncmp(entry->name, "compat", 6))
        return ff_grid_bad(r, node, "eval: name %s: may not begin with compat",
                           entry->name);
    for (int e = 0; e < grid->eval_count; e++)
        if (!strcmp(grid->evals[e].name, entry->name))
            return ff_grid_bad(
                r, node,
                "eval: two entries are named %s; give one a name:", entry->name);
    grid->eval_count++;
    return 0;
}

static int read_eval(struct ff_grid_reader *r, const struct ff_yaml_node *node)
{
    if (node->count == 0 && node->kind != FF_YAML_SCALAR)
        return 0;
    if (node->kind != FF_YAML_LIST)
        return ff_grid_bad(r, node, "eval: a list of entries is wanted");
    for (size_t i = 0; i < node->count; i++) {
        int rc = read_eval_entry(r, &node->items[i]);
        if (rc)
            return rc;
    }
    return 0;
}

/* accuracy@NAME: the file of that name, in whichever entry. */
static int read_accuracy(struct ff_grid_reader *r, const struct ff_yaml_node *node,
                         const char *name)
{
    struct ff_metric *metric = &r->grid->metric;
    metric->kind = FF_METRIC_ACCURACY;
    for (int e = 0; e < r->grid->eval_count; e++)
        for (int k = 0; k < r->grid->evals[e].bin_count; k++)
            if (!strcmp(r->grid->evals[e].bins[k].name, name)) {
                metric->eval_index = e;
                metric->bin_index = k;
                return 0;
            }
    return ff_grid_bad(r, node, "metric: no file of pairs is named %s", name);
}

/* Without `metric:`: tar@1e-4 of the only entry, or the accuracy on its only file. */
static int default_metric(struct ff_grid_reader *r)
{
    struct ff_grid *grid = r->grid;
    struct ff_metric *metric = &grid->metric;
    const struct ff_grid_eval *entry = &grid->evals[0];
    bool pairs = entry->bin_count > 0;
    if (grid->eval_count > 1 || (pairs && entry->bin_count > 1))
        return ff_grid_bad(r, &r->doc->root,
                           "metric: is missing; with several eval entries or files it "
                           "names one, as in %s%s",
                           pairs ? "accuracy@" : "tar@1e-4:",
                           pairs ? entry->bins[0].name : entry->name);
    if (!grid->eval_count) {
        metric->eval_index = -1;
        snprintf(metric->text, sizeof metric->text, "none");
        return 0;
    }
    metric->far_index = 2;
    metric->eval_index = 0;
    metric->kind = pairs ? FF_METRIC_ACCURACY : FF_METRIC_TAR;
    snprintf(metric->text, sizeof metric->text, "%s%s",
             pairs ? "accuracy@" : "tar@1e-4", pairs ? entry->bins[0].name : "");
    return 0;
}

/* tar@X[:name], tar_compat@X[:name], accuracy@NAME. */
static int read_metric(struct ff_grid_reader *r, const struct ff_yaml_node *node)
{
    struct ff_grid *grid = r->grid;
    struct ff_metric *metric = &grid->metric;
    if (!node)
        return default_metric(r);
    int rc = copy_text(r, metric->text, sizeof metric->text, node, "metric");
    if (rc)
        return rc;
    char text[sizeof metric->text];
    memcpy(text, metric->text, sizeof text);
    if (!strncmp(text, "accuracy@", 9))
        return read_accuracy(r, node, text + 9);
    char *at = strchr(text, '@'), *name = at ? strchr(at, ':') : NULL;
    if (at)
        *at++ = 0;
    if (name)
        *name++ = 0;
    if (at && !strcmp(text, "tar"))
        metric->kind = FF_METRIC_TAR;
    else if (at && !strcmp(text, "tar_compat"))
        metric->kind = FF_METRIC_TAR_COMPAT;
    else
        return ff_grid_bad(r, node,
                           "metric: %s; tar@X[:name], tar_compat@X[:name] or "
                           "accuracy@NAME is wanted",
                           node->text);
    double far;
    metric->far_index = -1;
    if (!ff_parse_f64(&far, at))
        for (int k = 0; k < FF_FAR_COUNT; k++)
            if (fabs(far / ff_fars[k] - 1) < 1e-9)
                metric->far_index = k;
    if (metric->far_index < 0)
        return ff_grid_bad(r, node,
                           "metric: FAR %s; 1e-6, 1e-5, 1e-4, 1e-3, 1e-2 and 1e-1 are "
                           "measured",
                           at);
    if (!name && grid->eval_count != 1)
        return ff_grid_bad(r, node,
                           grid->eval_count
                               ? "metric: with several eval entries it "
                                 "names one, as in %s:%s"
                               : "metric: %s, but there is no eval entry%s",
                           node->text, grid->eval_count ? grid->evals[0].name : "");
    metric->eval_index = name ? -1 : 0;
    for (int e = 0; name && e < grid->eval_count; e++)
        if (!strcmp(grid->evals[e].name, name))
            metric->eval_index = e;
    if (metric->eval_index < 0)
        return ff_grid_bad(r, node, "metric: no eval entry is named %s", name);
    const struct ff_grid_eval *entry = &grid->evals[metric->eval_index];
    if (entry->bin_count)
        return ff_grid_bad(r, node,
                           "metric: %s: entry %s has no TAR; accuracy@%s is possible",
                           node->text, entry->name, entry->bins[0].name);
    return 0;
}

static int read_keep(struct ff_grid_reader *r, const struct ff_yaml_node *node)
{
    struct ff_grid *grid = r->grid;
    if (!node) {
        grid->keep_model = true;
        return 0;
    }
    if (node->kind == FF_YAML_SCALAR)
        return ff_grid_bad(r, node,
                           "keep: a list of model, checkpoint, features is wanted");
    for (size_t i = 0; i < node->count; i++) {
        const struct ff_yaml_node *item = &node->items[i];
        const char *text = item->kind == FF_YAML_SCALAR ? item->text : "";
        if (node->kind == FF_YAML_LIST && !strcmp(text, "model"))
            grid->keep_model = true;
        else if (node->kind == FF_YAML_LIST && !strcmp(text, "checkpoint"))
            grid->keep_checkpoint = true;
        else if (node->kind == FF_YAML_LIST && !strcmp(text, "features"))
            grid->keep_features = true;
        else
            return ff_grid_bad(
                r, item, "keep: %s; model, checkpoint and features are known", text);
    }
    return 0;
}

static int apply_sets(struct ff_grid *grid, const struct ff_yaml_node *sweep,
                      const char *const *sets, int set_count, struct ff_err *err)
{
    for (int i = 0; i < set_count; i++) {
        int rc = ff_params_set_arg(&grid->base, sets[i], err);
        if (rc)
            return rc;
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)strcspn(sets[i], "="), sets[i]);
        const struct ff_param_info *info = ff_params_find(name);
        if (!info)
            return ff_err_set(err, FF_EUSAGE, "--set %s: name=value is wanted",
                              sets[i]);
        if (sweep && ff_yaml_get(sweep, name))
            return ff_err_set(err, FF_EUSAGE,
                              "--set %s: %s is an axis of the grid; "
                              "--only picks cells",
                              sets[i], name);
        grid->given_line[ff_grid_table_index(info)] = FF_GRID_BY_SET;
        if (info->type == FF_PARAM_PATH)
            rc = ff_grid_make_absolute(path_field(&grid->base, info), err);
        else if (info->type == FF_PARAM_PATHS)
            rc = ff_grid_paths_absolute(path_field(&grid->base, info), err);
        if (rc)
            return rc;
    }
    return 0;
}

/* The leading comment lines of a text, malloc'd. */
static char *leading_comments(const char *text)
{
    const char *end = text;
    while (*end == '#') {
        const char *line_end = strchr(end, '\n');
        end = line_end ? line_end + 1 : end + strlen(end);
    }
    return strndup(text, (size_t)(end - text));
}

static const char *const grid_keys[] = {"name",  "train", "sweep",  "exclude",
                                        "seeds", "eval",  "metric", "keep"};

static int read_grid(struct ff_grid_reader *r, const char *const *sets, int set_count)
{
    const struct ff_yaml_node *root = &r->doc->root;
    struct ff_grid *grid = r->grid;
    if (root->kind != FF_YAML_MAP)
        return ff_grid_bad(r, root, "a grid is a map with name:, train:, sweep: ...");
    for (size_t i = 0; i < root->count; i++) {
        bool known = false;
        for (size_t k = 0; k < sizeof grid_keys / sizeof *grid_keys; k++)
            known = known || !strcmp(root->items[i].key, grid_keys[k]);
        if (!known)
            return ff_grid_bad(
                r, &root->items[i],
                "unknown key %s; name, train, sweep, exclude, seeds, eval, "
                "metric and keep are known%s",
                root->items[i].key,
                ff_params_find(root->items[i].key)
                    ? " (a parameter belongs under train:)"
                    : "");
    }
    const struct ff_yaml_node *node = ff_yaml_get(root, "name");
    if (!node)
        return ff_grid_bad(r, root, "name: is missing");
    int rc = copy_text(r, grid->name, sizeof grid->name, node, "name");
    if (rc)
        return rc;
    if (!plain_name(grid->name))
        return ff_grid_bad(r, node, "name: %s: letters, digits, _ and - only",
                           grid->name);
    node = ff_yaml_get(root, "train");
    const struct ff_yaml_node *sweep = ff_yaml_get(root, "sweep");
    if (node && (rc = read_train(r, node)))
        return rc;
    if ((rc = apply_sets(grid, sweep, sets, set_count, r->err)))
        return rc;
    if (sweep && (rc = ff_grid_read_sweep(r, sweep)))
        return rc;
    if ((rc = ff_grid_read_seeds(r, ff_yaml_get(root, "seeds"))))
        return rc;
    node = ff_yaml_get(root, "exclude");
    if (node && (rc = ff_grid_read_exclude(r, node)))
        return rc;
    node = ff_yaml_get(root, "eval");
    if (node && (rc = read_eval(r, node)))
        return rc;
    if ((rc = read_metric(r, ff_yaml_get(root, "metric"))))
        return rc;
    if ((rc = read_keep(r, ff_yaml_get(root, "keep"))))
        return rc;
    return ff_grid_spread(grid, r->err);
}

int ff_grid_parse(struct ff_grid **out, const char *name, const char *text,
                  const char *const *sets, int set_count, struct ff_err *err)
{
    struct ff_yaml *doc = NULL;
    char *comments = NULL;
    size_t parameters;
    ff_params_table(&parameters);
    *out = NULL;
    int rc = ff_yaml_parse(&doc, name, text, strlen(text), err);
    if (rc)
        return rc;
    struct ff_grid *grid = calloc(1, sizeof *grid);
    if (grid)
        grid->given_line = calloc(parameters, sizeof *grid->given_line);
    comments = leading_comments(text);
    if (!grid || !grid->given_line || !comments) {
        rc = ff_err_set(err, FF_ENOMEM, "out of memory");
        goto done;
    }
    snprintf(grid->path, sizeof grid->path, "%s", name);
    ff_params_defaults(&grid->base);
    struct ff_grid_reader reader = {grid, doc, err};
    rc = read_grid(&reader, sets, set_count);
    if (!rc)
        rc = ff_grid_compose(grid, comments, err);
done:
    free(comments);
    ff_yaml_destroy(doc);
    if (rc)
        ff_grid_destroy(grid);
    else
        *out = grid;
    return rc;
}

int ff_grid_load(struct ff_grid **grid, const char *path, const char *const *sets,
                 int set_count, struct ff_err *err)
{
    char *text;
    size_t bytes;
    *grid = NULL;
    struct stat st;
    if (access(path, R_OK) || stat(path, &st))
        return ff_err_errno(err, FF_EUSAGE, "%s", path);
    if (S_ISDIR(st.st_mode))
        return ff_err_set(err, FF_EUSAGE, "%s: is a folder, not a grid", path);
    int rc = ff_read_file(&text, &bytes, path, err);
    if (rc)
        return rc;
    if (strlen(text) != bytes)
        rc = ff_err_set(err, FF_EUSAGE, "%s: holds a zero byte at offset %zu", path,
                        strlen(text));
    else
        rc = ff_grid_parse(grid, path, text, sets, set_count, err);
    free(text);
    return rc;
}

void ff_grid_destroy(struct ff_grid *grid)
{
    if (!grid)
        return;
    for (int a = 0; a < grid->axis_count; a++) {
        for (int i = 0; grid->axes[a].texts && i < grid->axes[a].count; i++)
            free(grid->axes[a].texts[i]);
        free(grid->axes[a].texts);
        free(grid->axes[a].values);
    }
    free(grid->excludes);
    free(grid->cells);
    free(grid->given_line);
    free(grid->text);
    free(grid);
}
