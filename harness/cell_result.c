/* SPDX-License-Identifier: MIT */
/* What a run directory says about its cell; see cell_result.h.
 *
 * DONE decides whether the cell is trained, DIVERGED whether it ended without a model,
 * eval-<name>.yaml which scores count: those that name the model of DONE and, where the
 * caller knows it, the present eval key. summary.yaml and curve.csv only add cost and
 * course. */
#include "cell_result.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "yaml_doc.h"

const char *const ff_cell_status_names[FF_CELL_STATUS_COUNT] = {
    "planned", "running", "done", "failed", "diverged", "excluded", "stale"};

/* What summary.yaml adds, as if there were none. */
static void forget_summary(struct ff_cell_result *result)
{
    result->seconds = result->samples_per_second = result->final_loss = NAN;
    result->energy_joules = NAN;
    result->bit_equal = true;
    result->backend[0] = result->device[0] = 0;
    free(result->drops);
    result->drops = NULL;
    result->drop_count = 0;
}

void ff_cell_result_init(struct ff_cell_result *result)
{
    memset(result, 0, sizeof *result);
    result->iteration = -1;
    forget_summary(result);
    for (int e = 0; e < FF_GRID_MAX_EVALS; e++) {
        for (int k = 0; k < FF_FAR_COUNT; k++)
            result->evals[e].tar[k] = result->evals[e].compat[k] = NAN;
        for (int k = 0; k < FF_GRID_MAX_BINS; k++)
            result->evals[e].accuracy[k] = NAN;
    }
}

void ff_cell_result_fini(struct ff_cell_result *result)
{
    free(result->drops);
    ff_cell_result_init(result);
}

int64_t ff_cell_result_iterations(const struct ff_cell_result *result)
{
    return result->iteration + !result->trained;
}

double ff_cell_result_metric(const struct ff_grid *grid,
                             const struct ff_cell_result *result)
{
    const struct ff_metric *metric = &grid->metric;
    if (result->status != FF_CELL_DONE || metric->eval_index < 0)
        return NAN;
    const struct ff_eval_score *score = &result->evals[metric->eval_index];
    if (!score->present)
        return NAN;
    if (metric->kind == FF_METRIC_ACCURACY)
        return score->accuracy[metric->bin_index];
    return metric->kind == FF_METRIC_TAR ? score->tar[metric->far_index]
                                         : score->compat[metric->far_index];
}

/* A file of the run directory as YAML; 1 = loaded, 0 = not there. */
static int load(struct ff_yaml **doc, const char *dir, const char *name,
                struct ff_err *err)
{
    char path[FF_PATH_MAX];
    *doc = NULL;
    int rc = ff_path(path, err, "%s/%s", dir, name);
    if (rc)
        return rc;
    if (access(path, F_OK))
        return 0;
    struct ff_err inner = FF_ERR_INIT;
    rc = ff_yaml_load(doc, path, &inner);
    if (rc)
        return ff_err_set(err, rc == FF_EUSAGE ? FF_EDATA : rc, "%s", inner.text);
    if ((*doc)->root.kind != FF_YAML_MAP) {
        ff_yaml_destroy(*doc);
        *doc = NULL;
        return ff_err_set(err, FF_EDATA, "%s: is no map", path);
    }
    return 1;
}

/* A number that may be nan or inf; NaN if absent. */
static double number(const struct ff_yaml_node *map, const char *key)
{
    const struct ff_yaml_node *node = ff_yaml_get(map, key);
    if (!node || node->kind != FF_YAML_SCALAR)
        return NAN;
    char *end;
    const char *text = node->text[0] == '.' ? node->text + 1 : node->text;
    double value = strtod(text, &end);
    return *end || end == text ? NAN : value;
}

static void text_of(char *out, size_t capacity, const struct ff_yaml_node *map,
                    const char *key)
{
    const struct ff_yaml_node *node = ff_yaml_get(map, key);
    snprintf(out, capacity, "%s",
             node && node->kind == FF_YAML_SCALAR ? node->text : "");
}

static int read_done(struct ff_cell_result *result, const char *dir, struct ff_err *err)
{
    struct ff_yaml *doc;
    int rc = load(&doc, dir, "DONE", err);
    if (rc <= 0)
        return rc;
    const struct ff_yaml_node *iteration = ff_yaml_get(&doc->root, "iteration");
    text_of(result->model_sha256, sizeof result->model_sha256, &doc->root, "sha256");
    struct ff_err inner = FF_ERR_INIT;
    if (strlen(result->model_sha256) != FF_SHA256_HEX - 1)
        rc = ff_err_set(err, FF_EDATA, "%s: sha256 is missing or short", doc->path);
    else if (!iteration)
        rc = ff_err_set(err, FF_EDATA, "%s: iteration is missing", doc->path);
    else if (ff_yaml_i64(&result->iteration, doc, iteration, &inner))
        rc = ff_err_set(err, FF_EDATA, "%s", inner.text);
    else
        rc = 0;
    ff_yaml_destroy(doc);
    result->trained = rc == 0;
    return rc;
}

static int read_diverged(struct ff_cell_result *result, const char *dir,
                         struct ff_err *err)
{
    struct ff_yaml *doc;
    int rc = load(&doc, dir, "DIVERGED", err);
    if (rc <= 0)
        return rc;
    result->status = FF_CELL_DIVERGED;
    text_of(result->reason, sizeof result->reason, &doc->root, "reason");
    double iteration = number(&doc->root, "iteration");
    if (!isnan(iteration))
        result->iteration = (int64_t)iteration;
    result->final_loss = number(&doc->root, "loss");
    ff_yaml_destroy(doc);
    return 0;
}

static int read_summary(struct ff_cell_result *result, const char *dir,
                        struct ff_err *err)
{
    struct ff_yaml *doc;
    int rc = load(&doc, dir, "summary.yaml", err);
    if (rc <= 0)
        return rc;
    rc = 0;
    const struct ff_yaml_node *root = &doc->root;
    if (ff_yaml_get(root, "final_loss"))
        result->final_loss = number(root, "final_loss");
    result->seconds = number(root, "seconds");
    result->samples_per_second = number(root, "samples_per_second");
    result->energy_joules = number(root, "energy_joules");
    text_of(result->backend, sizeof result->backend, root, "backend");
    text_of(result->device, sizeof result->device, root, "device");
    const struct ff_yaml_node *node = ff_yaml_get(root, "bit_equal");
    struct ff_err inner = FF_ERR_INIT;
    if (node && ff_yaml_bool(&result->bit_equal, doc, node, &inner))
        rc = ff_err_set(err, FF_EDATA, "%s", inner.text);
    node = ff_yaml_get(root, "changes");
    if (!rc && node && node->kind == FF_YAML_LIST && node->count) {
        result->drops = calloc(node->count, sizeof *result->drops);
        if (!result->drops)
            rc = ff_err_set(err, FF_ENOMEM, "out of memory");
        for (size_t i = 0; !rc && i < node->count; i++) {
            int64_t *drop = &result->drops[result->drop_count];
            if (ff_yaml_i64(drop, doc, &node->items[i], &inner))
                rc = ff_err_set(err, FF_EDATA, "%s", inner.text);
            else if (!result->trained || *drop < result->iteration)
                result->drop_count++; /* a change due after the end was never used */
        }
    }
    ff_yaml_destroy(doc);
    return rc;
}

/* `tar:` or `compat:`, a list of {far, tar, ...}. */
static void read_rates(double out[FF_FAR_COUNT], const struct ff_yaml_node *list)
{
    for (size_t i = 0; list && list->kind == FF_YAML_LIST && i < list->count; i++) {
        double far = number(&list->items[i], "far");
        for (int k = 0; k < FF_FAR_COUNT; k++)
            if (fabs(far / ff_fars[k] - 1) < 1e-9)
                out[k] = number(&list->items[i], "tar");
    }
}

/* `accuracy:`, a list of {name, accuracy, ...}. */
static void read_accuracy(double out[FF_GRID_MAX_BINS],
                          const struct ff_grid_eval *entry,
                          const struct ff_yaml_node *list)
{
    for (size_t i = 0; list && list->kind == FF_YAML_LIST && i < list->count; i++) {
        char name[FF_PAIR_NAME];
        text_of(name, sizeof name, &list->items[i], "name");
        for (int k = 0; k < entry->bin_count; k++)
            if (!strcmp(entry->bins[k].name, name))
                out[k] = number(&list->items[i], "accuracy");
    }
}

static int read_score(struct ff_eval_score *score, const char *dir,
                      const struct ff_grid_eval *entry, const char *model_sha256,
                      struct ff_err *err)
{
    char file[FF_GRID_NAME + 16];
    snprintf(file, sizeof file, "eval-%s.yaml", entry->name);
    struct ff_yaml *doc;
    int rc = load(&doc, dir, file, err);
    if (rc <= 0)
        return rc == FF_EDATA ? 0 : rc; /* a damaged score is no score: score again */
    char sha[FF_SHA256_HEX];
    text_of(sha, sizeof sha, &doc->root, "model_sha256");
    if (!strcmp(sha, model_sha256)) {
        score->present = true;
        text_of(score->eval_key, sizeof score->eval_key, &doc->root,
                ff_yaml_get(&doc->root, "eval_key") ? "eval_key" : "key");
        read_rates(score->tar, ff_yaml_get(&doc->root, "tar"));
        read_accuracy(score->accuracy, entry, ff_yaml_get(&doc->root, "accuracy"));
        read_rates(score->compat, ff_yaml_get(&doc->root, "compat"));
    }
    ff_yaml_destroy(doc);
    return 0;
}

int ff_cell_result_read(struct ff_cell_result *result, const struct ff_grid *grid,
                        const char *dir, const char (*eval_keys)[FF_SHA256_HEX],
                        struct ff_err *err)
{
    ff_cell_result_fini(result);
    int rc = read_done(result, dir, err);
    if (!rc && !result->trained)
        rc = read_diverged(result, dir, err);
    if (rc)
        return rc;
    struct ff_err damage = FF_ERR_INIT;
    rc = read_summary(result, dir, &damage);
    if (rc == FF_EDATA && result->trained) {
        forget_summary(result);
        ff_shorten(result->damage, sizeof result->damage, damage.text);
    } else if (rc) {
        return ff_err_set(err, rc, "%s", damage.text);
    }
    if (!result->trained) {
        if (result->status == FF_CELL_DIVERGED)
            return 0;
        char path[FF_PATH_MAX];
        if ((rc = ff_path(path, err, "%s/curve.csv", dir)))
            return rc;
        struct ff_curve_tail tail;
        ff_curve_tail_read(&tail, path);
        result->iteration = tail.iteration;
        if (tail.iteration >= 0)
            result->final_loss = tail.loss;
        return 0;
    }
    result->status = FF_CELL_DONE;
    for (int e = 0; e < grid->eval_count; e++) {
        struct ff_eval_score *score = &result->evals[e];
        rc = read_score(score, dir, &grid->evals[e], result->model_sha256, err);
        if (rc)
            return rc;
        if (!score->present || (eval_keys && strcmp(score->eval_key, eval_keys[e])))
            result->status = FF_CELL_STALE;
    }
    return 0;
}

/* Column of a name in a CSV header; -1 if absent. */
static int column(const char *header, const char *name)
{
    size_t length = strlen(name);
    int index = 0;
    for (const char *p = header; p && *p; index++) {
        size_t n = strcspn(p, ",\r\n");
        if (n == length && !strncmp(p, name, n))
            return index;
        p = p[n] == ',' ? p + n + 1 : NULL;
    }
    return -1;
}

static double field(const char *line, int index)
{
    for (; line && index > 0; index--) {
        line = strchr(line, ',');
        line = line ? line + 1 : NULL;
    }
    return line && index == 0 ? strtod(line, NULL) : NAN;
}

void ff_curve_tail_read(struct ff_curve_tail *tail, const char *path)
{
    *tail = (struct ff_curve_tail){-1, NAN, NAN};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    char head[512], end[2048];
    ssize_t head_bytes = pread(fd, head, sizeof head - 1, 0);
    off_t size = lseek(fd, 0, SEEK_END);
    off_t from = size > (off_t)sizeof end - 1 ? size - ((off_t)sizeof end - 1) : 0;
    ssize_t bytes = pread(fd, end, sizeof end - 1, from);
    close(fd);
    if (head_bytes <= 0 || bytes <= 0)
        return;
    head[head_bytes] = end[bytes] = 0;
    char *last = strrchr(end, '\n'); /* what follows is a line being written */
    if (!last || !strchr(head, '\n'))
        return;
    *last = 0;
    char *line = strrchr(end, '\n');
    if (!line && from == 0)
        return; /* the header alone */
    line = line ? line + 1 : end;
    double iteration = field(line, column(head, "iteration"));
    if (!(iteration >= 0))
        return;
    tail->iteration = (int64_t)iteration;
    tail->loss = field(line, column(head, "loss"));
    tail->lr = field(line, column(head, "lr"));
}
