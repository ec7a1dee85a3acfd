/* SPDX-License-Identifier: MIT */
/* Keys, iterations, order and needs of a grid; see plan.h.
 *
 * Training sets, init files and meta files are read once each however many cells share
 * them. The order takes one seed after the other, so that the sheet of the first seed
 * is whole before any repeat begins. */
#include "plan.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "estimate.h"
#include "yaml_doc.h"

#define MIN_ALPHA_T 50 /* fewer EMA time constants than this never settle */

int ff_plan_hash_lines(char hash[FF_SHA256_HEX], int64_t *lines, const char *path,
                       struct ff_err *err)
{
    struct stat st; /* a pipe is refused, not waited for */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return ff_err_errno(err, FF_EUSAGE, "%s", path);
    *lines = 0;
    int rc = 0;
    if (fstat(fd, &st))
        rc = ff_err_errno(err, FF_EFAIL, "%s", path);
    else if (!S_ISREG(st.st_mode) || st.st_size == 0)
        rc = ff_err_set(err, FF_EDATA, "%s: is empty or no file", path);
    if (!rc) {
        size_t bytes = (size_t)st.st_size;
        char *text = mmap(NULL, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (text == MAP_FAILED) {
            rc = ff_err_errno(err, FF_EFAIL, "%s", path);
        } else {
            const char *end = text + bytes;
            ff_sha256(hash, text, bytes);
            for (const char *p = text; p < end; p++) {
                p = memchr(p, '\n', (size_t)(end - p));
                if (!p)
                    break;
                ++*lines;
            }
            if (end[-1] != '\n')
                ++*lines;
            munmap(text, bytes);
        }
    }
    close(fd);
    return rc;
}

static int read_meta(struct ff_plan_eval *out, const struct ff_grid *grid,
                     const struct ff_grid_eval *entry, struct ff_err *err)
{
    static const char *const files[] = {"face_tid_mid", "template_pair_label",
                                        "name_5pts_score"};
    char path[FF_PATH_MAX], all[3 * FF_SHA256_HEX + 1] = "";
    struct ff_err inner = FF_ERR_INIT;
    int64_t lines[3];
    for (int i = 0; i < 3; i++) {
        char hash[FF_SHA256_HEX];
        int rc = ff_path(path, &inner, "%s/meta/%s_%s.txt", entry->root,
                         entry->protocol, files[i]);
        if (!rc)
            rc = ff_plan_hash_lines(hash, &lines[i], path, &inner);
        if (rc)
            return ff_err_set(err, rc, "%s:%d: eval %s: %.800s", grid->path,
                              entry->root_line, entry->name, inner.text);
        strcat(strcat(all, hash), "\n");
    }
    int rc = ff_path(path, err, "%s/loose_crop", entry->root);
    if (rc)
        return rc;
    if (access(path, R_OK | X_OK))
        return ff_err_errno(err, FF_EUSAGE, "%s:%d: eval %s: %s", grid->path,
                            entry->root_line, entry->name, path);
    out->images = lines[2];
    out->pairs = lines[1];
    ff_sha256(out->meta_hash, all, strlen(all));
    return 0;
}

/* Text of `ff-data info path`; malloc'd. */
static int ask_info(char **text, const char *path, struct ff_exec *exec,
                    const struct ff_programs *programs, struct ff_err *err)
{
    const char *argv[] = {programs->data, "info", path, NULL};
    struct ff_child_result result;
    *text = NULL;
    int rc = exec->capture(exec->context, text, &result, argv, err);
    if (!rc && (result.state != FF_CHILD_EXITED || result.value))
        rc = ff_err_set(err, result.value == FF_EXIT_DATA ? FF_EDATA : FF_EFAIL,
                        "ff-data info %s: ended with %s %d", path,
                        result.state == FF_CHILD_EXITED ? "exit code" : "signal",
                        result.value);
    return rc;
}

static int64_t info_number(const struct ff_yaml *doc, const char *key)
{
    const struct ff_yaml_node *node = ff_yaml_get(&doc->root, key);
    int64_t value;
    return node && !ff_yaml_i64(&value, doc, node, NULL) ? value : 0;
}

static int read_info(struct ff_plan_data *data, const char *text, struct ff_err *err)
{
    struct ff_yaml *doc;
    int rc = ff_yaml_parse(&doc, "ff-data info", text, strlen(text), err);
    if (rc)
        return rc;
    const struct ff_yaml_node *print = ff_yaml_get(&doc->root, "fingerprint");
    data->images = info_number(doc, "images");
    data->classes = info_number(doc, "classes");
    data->height = info_number(doc, "height");
    if (data->images <= 0 || data->classes <= 0 || !print || !print->text ||
        !print->text[0] || strlen(print->text) >= sizeof data->fingerprint)
        rc = ff_err_set(err, FF_EDATA,
                        "%s: ff-data info names no images, classes or "
                        "fingerprint",
                        data->path);
    else
        snprintf(data->fingerprint, sizeof data->fingerprint, "%s", print->text);
    ff_yaml_destroy(doc);
    return rc;
}

static int bin_info(int64_t *images, int64_t *height, const char *path,
                    struct ff_exec *exec, const struct ff_programs *programs,
                    struct ff_err *err)
{
    char *text;
    struct ff_yaml *doc = NULL;
    int rc = ask_info(&text, path, exec, programs, err);
    if (!rc)
        rc = ff_yaml_parse(&doc, "ff-data info", text, strlen(text), err);
    if (!rc) {
        *images = info_number(doc, "images");
        *height = info_number(doc, "height");
        if (*images < 2 * FF_PAIR_FOLDS)
            rc = ff_err_set(err, FF_EDATA, "%s: %lld images are too few for %d folds",
                            path, (long long)*images, FF_PAIR_FOLDS);
    }
    ff_yaml_destroy(doc);
    free(text);
    return rc;
}

/* The files of a pairs entry: there, whole, and of every cell's image size. */
static int read_bins(struct ff_plan_eval *out, const struct ff_grid *grid,
                     const struct ff_grid_eval *entry, struct ff_exec *exec,
                     const struct ff_programs *programs, struct ff_err *err)
{
    char all[FF_GRID_MAX_BINS * (FF_PAIR_NAME + FF_SHA256_HEX + 2)];
    char where[FF_GRID_WHERE];
    size_t used = 0;
    for (int k = 0; k < entry->bin_count; k++) {
        char hash[FF_SHA256_HEX];
        int64_t images, height;
        struct ff_err inner = FF_ERR_INIT;
        const char *path = entry->bins[k].path;
        int rc = 0;
        if (access(path, R_OK))
            rc = ff_err_errno(&inner, FF_EUSAGE, "%s", path);
        if (!rc)
            rc = bin_info(&images, &height, path, exec, programs, &inner);
        if (!rc)
            rc = ff_sha256_file(hash, path, &inner);
        if (rc)
            return ff_err_set(err, rc, "%s:%d: eval %s: %.800s", grid->path,
                              entry->bins[k].line, entry->name, inner.text);
        for (int i = 0; i < grid->cell_count; i++)
            if (!grid->cells[i].excluded && height &&
                grid->cells[i].params.image_size != height)
                return ff_err_set(err, FF_EUSAGE,
                                  "%s: image_size is %lld, but the images of %s are "
                                  "%lld px",
                                  ff_grid_where(where, grid, "image_size"),
                                  (long long)grid->cells[i].params.image_size, path,
                                  (long long)height);
        used += (size_t)snprintf(all + used, sizeof all - used, "%s=%s\n",
                                 entry->bins[k].name, hash);
        out->bin_pairs[k] = images / 2;
        out->images += images;
        out->pairs += images / 2;
    }
    ff_sha256(out->meta_hash, all, used);
    return 0;
}

/* The files of `validate`, which ff-train reads itself: there at all? */
static int check_validate(const struct ff_grid *grid, const struct ff_params *params,
                          struct ff_err *err)
{
    char path[FF_PARAM_TEXT], where[FF_GRID_WHERE];
    const char *list = params->validate;
    while (ff_paths_next(path, &list))
        if (access(path, R_OK))
            return ff_err_errno(err, FF_EUSAGE, "%s: validate: %s",
                                ff_grid_where(where, grid, "validate"), path);
    return 0;
}

/* Index of a training set in plan->data, asked for on first use. */
static int find_data(struct ff_plan *plan, const char *path, struct ff_exec *exec,
                     const struct ff_programs *programs, struct ff_err *err)
{
    for (int i = 0; i < plan->data_count; i++)
        if (!strcmp(plan->data[i].path, path))
            return i;
    char where[FF_GRID_WHERE];
    if (!path[0] && plan->grid->train_line)
        return ff_err_set(err, FF_EUSAGE, "%s:%d: train: data is missing",
                          plan->grid->path, plan->grid->train_line);
    if (!path[0])
        return ff_err_set(err, FF_EUSAGE, "%s: train: data is missing",
                          plan->grid->path);
    if (access(path, R_OK))
        return ff_err_errno(err, FF_EUSAGE, "%s: data: %s",
                            ff_grid_where(where, plan->grid, "data"), path);
    void *grown =
        realloc(plan->data, (size_t)(plan->data_count + 1) * sizeof *plan->data);
    if (!grown)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    plan->data = grown;
    struct ff_plan_data *data = &plan->data[plan->data_count];
    memset(data, 0, sizeof *data);
    snprintf(data->path, sizeof data->path, "%s", path);
    char *text;
    int rc = ask_info(&text, path, exec, programs, err);
    if (!rc)
        rc = read_info(data, text, err);
    free(text);
    return rc ? rc : plan->data_count++;
}

void ff_plan_eval_key(char out[FF_SHA256_HEX], const char *train_key,
                      const struct ff_grid_eval *entry, const char *meta_hash)
{
    char text[512];
    int n = snprintf(
        text, sizeof text, "train=%s\nprotocol=%s\nflip=%d\nnorm=%d\ndet=%d\nmeta=%s\n",
        train_key, entry->protocol, entry->flip, entry->norm, entry->det, meta_hash);
    ff_sha256(out, text, (size_t)n);
}

struct init_cache {
    char path[FF_PARAM_TEXT], hash[FF_SHA256_HEX];
};

static int plan_cell(struct ff_plan *plan, int index, struct init_cache *init,
                     struct ff_exec *exec, const struct ff_programs *programs,
                     struct ff_err *err)
{
    struct ff_grid *grid = plan->grid;
    struct ff_cell *cell = &grid->cells[index];
    const struct ff_params *params = &cell->params;
    struct ff_err inner = FF_ERR_INIT;
    char where[FF_GRID_WHERE];
    int found = find_data(plan, params->data, exec, programs, err);
    if (found < 0)
        return found;
    const struct ff_plan_data *data = &plan->data[found];
    plan->cell_data[index] = found;
    if (data->images < params->batch)
        return ff_err_set(err, FF_EUSAGE, "%s: batch is %lld, but %s holds %lld images",
                          ff_grid_where(where, grid, "batch"), (long long)params->batch,
                          data->path, (long long)data->images);
    if (data->height && data->height != params->image_size)
        return ff_err_set(
            err, FF_EUSAGE, "%s: image_size is %lld, but the images of %s are %lld px",
            ff_grid_where(where, grid, "image_size"), (long long)params->image_size,
            data->path, (long long)data->height);
    plan->iterations[index] = params->epochs * (data->images / params->batch);
    if (strcmp(init->path, params->init)) {
        int rc = ff_sha256_file(init->hash, params->init, &inner);
        if (rc)
            return ff_err_set(err, rc, "%s: init: %.800s",
                              ff_grid_where(where, grid, "init"), inner.text);
        memcpy(init->path, params->init, sizeof init->path);
    }
    ff_train_key(cell->train_key, params, data->fingerprint,
                 params->init[0] ? init->hash : NULL);
    for (int e = 0; e < grid->eval_count; e++)
        ff_plan_eval_key(plan->eval_keys[index][e], cell->train_key, &grid->evals[e],
                         plan->evals[e].meta_hash);
    return 0;
}

int ff_plan_create(struct ff_plan **out, struct ff_grid *grid, struct ff_exec *exec,
                   const struct ff_programs *programs, struct ff_err *err)
{
    *out = NULL;
    size_t cells = (size_t)grid->cell_count;
    struct init_cache *init = calloc(1, sizeof *init);
    struct ff_plan *plan = calloc(1, sizeof *plan);
    int rc = 0;
    if (!plan || !init)
        goto no_memory;
    plan->grid = grid;
    plan->cell_data = calloc(cells, sizeof *plan->cell_data);
    plan->iterations = calloc(cells, sizeof *plan->iterations);
    plan->eval_keys = calloc(cells, sizeof *plan->eval_keys);
    plan->order = calloc(cells, sizeof *plan->order);
    if (!plan->cell_data || !plan->iterations || !plan->eval_keys || !plan->order)
        goto no_memory;
    for (int e = 0; e < grid->eval_count; e++) {
        int same = 0;
        while (same < e &&
               (grid->evals[e].bin_count ||
                strcmp(grid->evals[same].root, grid->evals[e].root) ||
                strcmp(grid->evals[same].protocol, grid->evals[e].protocol)))
            same++;
        if (same < e)
            plan->evals[e] = plan->evals[same];
        else if (grid->evals[e].bin_count)
            rc = read_bins(&plan->evals[e], grid, &grid->evals[e], exec, programs, err);
        else
            rc = read_meta(&plan->evals[e], grid, &grid->evals[e], err);
        if (rc)
            goto fail;
    }
    if ((rc = check_validate(grid, &grid->base, err)))
        goto fail;
    for (int s = 0; s < grid->seed_count; s++)
        for (int p = 0; p < grid->place_count; p++) {
            int index = p * grid->seed_count + s;
            if (grid->cells[index].excluded)
                continue;
            if ((rc = plan_cell(plan, index, init, exec, programs, err)))
                goto fail;
            plan->order[plan->order_count++] = index;
        }
    free(init);
    *out = plan;
    return 0;
no_memory:
    rc = ff_err_set(err, FF_ENOMEM, "out of memory for %d cells", grid->cell_count);
fail:
    free(init);
    ff_plan_destroy(plan);
    return rc;
}

void ff_plan_destroy(struct ff_plan *plan)
{
    if (!plan)
        return;
    free(plan->data);
    free(plan->cell_data);
    free(plan->iterations);
    free(plan->eval_keys);
    free(plan->order);
    free(plan);
}

/* Has a cell earlier in the order the same T and the same value? */
static bool seen_before(const struct ff_plan *plan, int position, double value,
                        double (*get)(const struct ff_params *))
{
    int index = plan->order[position];
    for (int i = 0; i < position; i++) {
        int other = plan->order[i];
        if (plan->iterations[other] == plan->iterations[index] &&
            plan->grid->cells[other].params.schedule ==
                plan->grid->cells[index].params.schedule &&
            get(&plan->grid->cells[other].params) == value)
            return true;
    }
    return false;
}

static double get_alpha(const struct ff_params *params)
{
    return params->alpha;
}

static double get_tau(const struct ff_params *params)
{
    return params->tau;
}

int ff_plan_warnings(const struct ff_plan *plan, FILE *f)
{
    int count = 0;
    for (int i = 0; i < plan->order_count; i++) {
        const struct ff_params *p = &plan->grid->cells[plan->order[i]].params;
        double t = (double)plan->iterations[plan->order[i]];
        bool ema = p->schedule == FF_SCHEDULE_FASTFACE ||
                   (p->schedule == FF_SCHEDULE_HAAR && p->smooth == FF_SMOOTH_EMA);
        if (ema && p->alpha * t < MIN_ALPHA_T &&
            !seen_before(plan, i, p->alpha, get_alpha)) {
            fprintf(f,
                    "warning: alpha %g with T = %.0f: alpha T = %.3g < %d, the "
                    "smoothed loss lags the whole run\n",
                    p->alpha, t, p->alpha * t, MIN_ALPHA_T);
            count++;
        }
        bool waits =
            p->schedule == FF_SCHEDULE_FASTFACE || p->schedule == FF_SCHEDULE_HAAR;
        if (waits && floor(p->tau * t) + 1 >= t &&
            !seen_before(plan, i, p->tau, get_tau)) {
            fprintf(f,
                    "warning: tau %g with T = %.0f: floor(tau T) + 1 = %.0f >= T, the "
                    "learning rate can never drop\n",
                    p->tau, t, floor(p->tau * t) + 1);
            count++;
        }
    }
    const struct ff_metric *metric = &plan->grid->metric;
    if (metric->eval_index >= 0 && metric->kind != FF_METRIC_ACCURACY) {
        const struct ff_plan_eval *eval = &plan->evals[metric->eval_index];
        if ((double)eval->pairs * ff_fars[metric->far_index] < 1) {
            fprintf(f, "warning: metric %s: %lld pairs are fewer than 1/FAR\n",
                    metric->text, (long long)eval->pairs);
            count++;
        }
    }
    return count;
}

void ff_plan_needs(struct ff_plan_needs *needs, const struct ff_plan *plan)
{
    const struct ff_grid *grid = plan->grid;
    int64_t checkpoint_most = 0, features_most = 0;
    memset(needs, 0, sizeof *needs);
    for (int i = 0; i < plan->order_count; i++) {
        int index = plan->order[i];
        const struct ff_params *p = &grid->cells[index].params;
        int64_t classes = plan->data[plan->cell_data[index]].classes;
        int64_t checkpoint = ff_estimate_checkpoint_bytes(p, classes);
        int64_t bytes = ff_estimate_curve_bytes(plan->iterations[index]);
        if (grid->keep_model)
            bytes += ff_estimate_model_bytes(p);
        if (grid->keep_checkpoint)
            bytes += checkpoint;
        int64_t features = 0;
        for (int e = 0; e < grid->eval_count; e++) {
            /* Pairs are scored block by block: no feature is kept. */
            bool pairs = grid->evals[e].bin_count > 0;
            int64_t images = pairs ? 0 : plan->evals[e].images;
            features += images * 2 * 4 * p->embedding;
            int64_t eval =
                ff_estimate_eval_bytes(p, images, pairs ? 0 : plan->evals[e].pairs);
            if (eval > needs->eval_bytes)
                needs->eval_bytes = eval;
        }
        if (grid->keep_features)
            bytes += features;
        else if (features > features_most)
            features_most = features;
        int64_t training = ff_estimate_training_bytes(p, classes);
        if (training > needs->training_bytes)
            needs->training_bytes = training;
        if (checkpoint > checkpoint_most)
            checkpoint_most = checkpoint;
        if (bytes > needs->cell_bytes)
            needs->cell_bytes = bytes;
        needs->total_bytes += bytes;
    }
    /* On top, one cell at a time: the old checkpoint stays till the new one's rename;
     * features go when all entries are scored. */
    int64_t passing = 2 * checkpoint_most;
    needs->total_bytes += passing > features_most ? passing : features_most;
}

int64_t ff_plan_disk_free(const char *path)
{
    char at[FF_PATH_MAX];
    struct statvfs vfs;
    if (ff_path(at, NULL, "%s", path))
        return -1;
    while (statvfs(at, &vfs)) {
        char *slash = strrchr(at, '/');
        if (!slash && !strcmp(at, "."))
            return -1;
        if (!slash)
            strcpy(at, ".");
        else if (slash == at && at[1])
            at[1] = 0;
        else if (slash == at)
            return -1;
        else
            *slash = 0;
    }
    return (int64_t)(vfs.f_bavail * vfs.f_frsize);
}
