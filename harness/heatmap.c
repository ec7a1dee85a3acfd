/* SPDX-License-Identifier: MIT */
/* heatmap.h5 and its pictures; see heatmap.h.
 *
 * The file follows netCDF-4's rules on top of HDF5: every axis of every dataset carries
 * a dimension scale, which is a dataset of the same name as the dimension. The scales
 * are written first (one a swept parameter, then seed, far, drop), then every array
 * with its scales attached in order. Results arrive in the order of (axes..., seed), so
 * most arrays are one pass over them. */
#include "heatmap.h"

#include <assert.h>
#include <hdf5_hl.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "draw.h"
#include "h5io.h"
#include "log.h"
#include "terminal_map.h"

#define SCHEMA "ff-heatmap/1"
#define MAX_DIMS (FF_GRID_MAX_AXES + 2)

/* The dimensions of an array: the axes, then seed if wanted, then one more. */
struct shape {
    int ndim;
    hsize_t dims[MAX_DIMS];
    const char *names[MAX_DIMS];
};

struct writer {
    hid_t file;
    const char *path;
    const struct ff_grid *grid;
    const struct ff_cell_result *results; /* (cell_count) */
    size_t count;
    size_t drop_count; /* length of the dimension `drop` */
};

static struct shape axes_shape(const struct writer *w)
{
    struct shape shape = {.ndim = w->grid->axis_count};
    for (int a = 0; a < shape.ndim; a++) {
        shape.dims[a] = (hsize_t)w->grid->axes[a].count;
        shape.names[a] = w->grid->axes[a].param->name;
    }
    return shape;
}

static struct shape with(struct shape shape, const char *name, size_t length)
{
    shape.dims[shape.ndim] = length;
    shape.names[shape.ndim++] = name;
    return shape;
}

static struct shape cells_shape(const struct writer *w)
{
    return with(axes_shape(w), "seed", (size_t)w->grid->seed_count);
}

static enum ff_cell_status status_of(const struct ff_grid *grid,
                                     const struct ff_cell_result *results, size_t cell)
{
    return grid->cells[cell].excluded ? FF_CELL_EXCLUDED : results[cell].status;
}

static int text_attribute(const struct writer *w, const char *dataset, const char *name,
                          const char *text, struct ff_err *err)
{
    hid_t id = H5Dopen2(w->file, dataset, H5P_DEFAULT);
    if (id < 0)
        return ff_err_set(err, FF_EFAIL, "%s: %s: cannot open", w->path, dataset);
    int rc = ff_h5_set_text(id, name, text, err);
    H5Dclose(id);
    return rc;
}

static int describe(const struct writer *w, const char *dataset, const char *long_name,
                    const char *units, struct ff_err *err)
{
    int rc = text_attribute(w, dataset, "long_name", long_name, err);
    return rc || !*units ? rc : text_attribute(w, dataset, "units", units, err);
}

static int attach_scales(const struct writer *w, const char *dataset,
                         const struct shape *shape, struct ff_err *err)
{
    hid_t id = H5Dopen2(w->file, dataset, H5P_DEFAULT);
    bool good = id >= 0;
    for (int d = 0; good && d < shape->ndim; d++) {
        hid_t scale = H5Dopen2(w->file, shape->names[d], H5P_DEFAULT);
        good = scale >= 0 && H5DSattach_scale(id, scale, (unsigned)d) >= 0;
        if (scale >= 0)
            H5Dclose(scale);
    }
    if (id >= 0)
        H5Dclose(id);
    return good ? 0
                : ff_err_set(err, FF_EFAIL, "%s: %s: cannot attach dimension scales",
                             w->path, dataset);
}

static int write_numbers(const struct writer *w, const char *name, hid_t type,
                         const struct shape *shape, const void *data,
                         const char *long_name, const char *units, struct ff_err *err)
{
    int rc = ff_h5_write(w->file, name, type, shape->ndim, shape->dims, data, err);
    if (!rc)
        rc = attach_scales(w, name, shape, err);
    return rc ? rc : describe(w, name, long_name, units, err);
}

static int write_texts(const struct writer *w, const char *name,
                       const struct shape *shape, const char *const *data,
                       const char *long_name, struct ff_err *err)
{
    int rc = ff_h5_write_strings(w->file, name, shape->ndim, shape->dims, data, err);
    if (!rc)
        rc = attach_scales(w, name, shape, err);
    return rc ? rc : describe(w, name, long_name, "", err);
}

static void *allocate(size_t count, size_t size, struct ff_err *err)
{
    void *memory = calloc(count ? count : 1, size);
    if (!memory)
        ff_err_set(err, FF_ENOMEM, "out of memory for a heatmap of %zu numbers", count);
    return memory;
}

/* ---- dimension scales ---- */

static int make_scale(const struct writer *w, const char *name, const char *long_name,
                      const char *units, struct ff_err *err)
{
    hid_t id = H5Dopen2(w->file, name, H5P_DEFAULT);
    bool good = id >= 0 && H5DSset_scale(id, name) >= 0;
    if (id >= 0)
        H5Dclose(id);
    if (!good)
        return ff_err_set(err, FF_EFAIL, "%s: %s: cannot make a dimension scale",
                          w->path, name);
    return describe(w, name, long_name, units, err);
}

static int write_scales(struct writer *w, struct ff_err *err)
{
    const struct ff_grid *grid = w->grid;
    int rc = 0;
    for (int a = 0; a < grid->axis_count && !rc; a++) {
        const struct ff_axis *axis = &grid->axes[a];
        const char *name = axis->param->name;
        hsize_t n = (hsize_t)axis->count;
        rc = axis->kind == FF_AXIS_NUMBER
                 ? ff_h5_write(w->file, name, H5T_NATIVE_DOUBLE, 1, &n, axis->values,
                               err)
                 : ff_h5_write_strings(w->file, name, 1, &n,
                                       (const char *const *)axis->texts, err);
        if (!rc)
            rc = make_scale(w, name, axis->param->help, axis->param->unit, err);
    }
    hsize_t seeds = (hsize_t)grid->seed_count, fars = FF_FAR_COUNT,
            drops = w->drop_count;
    if (!rc)
        rc =
            ff_h5_write(w->file, "seed", H5T_NATIVE_INT64, 1, &seeds, grid->seeds, err);
    if (!rc)
        rc = make_scale(w, "seed", "seed of the run", "", err);
    if (!rc)
        rc = ff_h5_write(w->file, "far", H5T_NATIVE_DOUBLE, 1, &fars, ff_fars, err);
    if (!rc)
        rc = make_scale(w, "far", "false accept rate", "1", err);
    int64_t *ordinal = rc ? NULL : allocate(drops, sizeof *ordinal, err);
    if (!rc && !ordinal)
        rc = FF_ENOMEM;
    for (hsize_t i = 0; !rc && i < drops; i++)
        ordinal[i] = (int64_t)i + 1;
    if (!rc)
        rc = ff_h5_write(w->file, "drop", H5T_NATIVE_INT64, 1, &drops, ordinal, err);
    if (!rc)
        rc = make_scale(w, "drop", "ordinal of the change of the learning rate", "",
                        err);
    free(ordinal);
    return rc;
}

/* ---- arrays ---- */

/* Mean and sample std over the seeds of one place, and what stands for it without. */
static struct ff_sheet_cell summarize(const struct ff_grid *grid,
                                      const struct ff_cell_result *results,
                                      size_t place)
{
    struct ff_sheet_cell out = {FF_SHEET_HOLE, NAN, NAN, 0, 0};
    size_t seeds = (size_t)grid->seed_count, first = place * seeds;
    int count[FF_CELL_STATUS_COUNT] = {0};
    double sum = 0, squares = 0;
    for (size_t c = first; c < first + seeds; c++) {
        enum ff_cell_status status = status_of(grid, results, c);
        count[status]++;
        double value = ff_cell_result_metric(grid, &results[c]);
        if (status == FF_CELL_EXCLUDED || !isfinite(value))
            continue;
        out.values++;
        sum += value;
    }
    out.lost = count[FF_CELL_DIVERGED] + count[FF_CELL_FAILED];
    if (out.values) {
        out.state = FF_SHEET_VALUE;
        out.mean = sum / out.values;
        for (size_t c = first; c < first + seeds; c++) {
            double value = ff_cell_result_metric(grid, &results[c]);
            if (!grid->cells[c].excluded && isfinite(value))
                squares += (value - out.mean) * (value - out.mean);
        }
        if (out.values > 1)
            out.std = sqrt(squares / (out.values - 1));
    } else if (count[FF_CELL_DONE]) {
        out.state = FF_SHEET_DONE;
    } else if (count[FF_CELL_RUNNING]) {
        out.state = FF_SHEET_RUNNING;
    } else if (count[FF_CELL_STALE]) {
        out.state = FF_SHEET_UNSCORED;
    } else if (count[FF_CELL_DIVERGED]) {
        out.state = FF_SHEET_DIVERGED;
    } else if (count[FF_CELL_FAILED]) {
        out.state = FF_SHEET_FAILED;
    } else if (count[FF_CELL_EXCLUDED] == grid->seed_count) {
        out.state = FF_SHEET_EXCLUDED;
    }
    return out;
}

static int write_heatmap(const struct writer *w, const char *label, struct ff_err *err)
{
    size_t places = (size_t)w->grid->place_count;
    struct shape shape = axes_shape(w);
    double *mean = allocate(2 * places, sizeof *mean, err);
    if (!mean)
        return FF_ENOMEM;
    double *std = mean + places;
    for (size_t i = 0; i < places; i++) {
        struct ff_sheet_cell cell = summarize(w->grid, w->results, i);
        mean[i] = cell.mean;
        std[i] = cell.std;
    }
    int rc =
        write_numbers(w, "heatmap", H5T_NATIVE_DOUBLE, &shape, mean, label, "%", err);
    if (!rc)
        rc = write_numbers(w, "heatmap_std", H5T_NATIVE_DOUBLE, &shape, std,
                           "sample standard deviation over seeds", "%", err);
    free(mean);
    return rc;
}

/* TAR of one eval entry at every FAR; NaN where there is no score. */
static int write_rates(const struct writer *w, const char *name, int eval, bool compat,
                       struct ff_err *err)
{
    struct shape shape = with(cells_shape(w), "far", FF_FAR_COUNT);
    double *data = allocate(w->count * FF_FAR_COUNT, sizeof *data, err);
    if (!data)
        return FF_ENOMEM;
    for (size_t c = 0; c < w->count; c++) {
        const struct ff_eval_score *score =
            eval < 0 ? NULL : &w->results[c].evals[eval];
        for (int k = 0; k < FF_FAR_COUNT; k++)
            data[c * FF_FAR_COUNT + (size_t)k] = !score || !score->present ? NAN
                                                 : compat ? score->compat[k]
                                                          : score->tar[k];
    }
    int rc = write_numbers(w, name, H5T_NATIVE_DOUBLE, &shape, data,
                           compat ? "true accept rate at the threshold of the nearest "
                                    "false accept rate"
                                  : "true accept rate, false accept rate not above far",
                           "%", err);
    free(data);
    return rc;
}

/* accuracy_<name> of one file of pairs; NaN where there is no score. */
static int write_accuracy(const struct writer *w, int eval, int bin, struct ff_err *err)
{
    char name[FF_PAIR_NAME + 16];
    struct shape shape = cells_shape(w);
    double *data = allocate(w->count, sizeof *data, err);
    if (!data)
        return FF_ENOMEM;
    for (size_t c = 0; c < w->count; c++) {
        const struct ff_eval_score *score = &w->results[c].evals[eval];
        data[c] = score->present ? score->accuracy[bin] : NAN;
    }
    snprintf(name, sizeof name, "accuracy_%s", w->grid->evals[eval].bins[bin].name);
    int rc =
        write_numbers(w, name, H5T_NATIVE_DOUBLE, &shape, data,
                      "verification accuracy on pairs, mean of ten folds", "%", err);
    free(data);
    return rc;
}

static int write_evals(const struct writer *w, struct ff_err *err)
{
    /* A metric without a rate has no rates of its own: all NaN. */
    bool rates = w->grid->metric.kind != FF_METRIC_ACCURACY;
    int own = rates ? w->grid->metric.eval_index : -1, rc = 0;
    char name[FF_GRID_NAME + 32];
    struct shape shape = cells_shape(w);
    const char **keys = allocate(w->count, sizeof *keys, err);
    if (!keys)
        return FF_ENOMEM;
    if ((rc = write_rates(w, "tar", own, false, err)) ||
        (rc = write_rates(w, "tar_compat", own, true, err)))
        goto done;
    for (int e = 0; e < w->grid->eval_count; e++) {
        const char *eval = w->grid->evals[e].name;
        int bins = w->grid->evals[e].bin_count;
        for (int k = 0; k < bins; k++)
            if ((rc = write_accuracy(w, e, k, err)))
                goto done;
        for (int compat = 0; !bins && compat < 2; compat++) {
            snprintf(name, sizeof name, "%s_%s", compat ? "tar_compat" : "tar", eval);
            if ((rc = write_rates(w, name, e, compat, err)))
                goto done;
        }
        for (size_t c = 0; c < w->count; c++) {
            const struct ff_eval_score *score = &w->results[c].evals[e];
            keys[c] = score->present ? score->eval_key : "";
        }
        snprintf(name, sizeof name, "eval_key_%s", eval);
        if ((rc = write_texts(w, name, &shape, keys,
                              "train key, protocol, switches and files", err)))
            goto done;
    }
done:
    free(keys);
    return rc;
}

static int write_status(const struct writer *w, struct ff_err *err)
{
    uint8_t *data = allocate(w->count, 1, err), flags[FF_CELL_STATUS_COUNT];
    if (!data)
        return FF_ENOMEM;
    for (size_t c = 0; c < w->count; c++)
        data[c] = (uint8_t)status_of(w->grid, w->results, c);
    struct shape shape = cells_shape(w);
    int rc = write_numbers(w, "status", H5T_NATIVE_UINT8, &shape, data,
                           "state of the run", "", err);
    if (rc)
        goto done;
    char meanings[128] = "";
    size_t used = 0;
    for (int k = 0; k < FF_CELL_STATUS_COUNT; k++) {
        flags[k] = (uint8_t)k;
        used += (size_t)snprintf(meanings + used, sizeof meanings - used, "%s%s",
                                 k ? " " : "", ff_cell_status_names[k]);
    }
    rc = text_attribute(w, "status", "flag_meanings", meanings, err);
    if (!rc && H5LTset_attribute_uchar(w->file, "status", "flag_values", flags,
                                       FF_CELL_STATUS_COUNT) < 0)
        rc = ff_err_set(err, FF_EFAIL, "%s: status: cannot write flag_values", w->path);
done:
    free(data);
    return rc;
}

static int write_course(const struct writer *w, struct ff_err *err)
{
    static const struct {
        const char *name, *units, *long_name;
        size_t offset;    /* of a double in struct ff_cell_result */
        bool where_known; /* left out where no cell has it */
    } fields[] = {
        {"seconds", "s", "training time", offsetof(struct ff_cell_result, seconds),
         false},
        {"samples_per_second", "s-1", "training samples per second",
         offsetof(struct ff_cell_result, samples_per_second), false},
        {"energy", "J", "energy of the card while it trained",
         offsetof(struct ff_cell_result, energy_joules), true},
        {"final_loss", "1", "loss of the last iteration",
         offsetof(struct ff_cell_result, final_loss), false},
        {"shared_iterations", "1", "iterations taken over from a shared trunk",
         offsetof(struct ff_cell_result, shared_iterations), false},
    };
    struct shape shape = cells_shape(w);
    double *data = allocate(w->count, sizeof *data, err);
    int rc = data ? 0 : FF_ENOMEM;
    for (size_t f = 0; !rc && f < sizeof fields / sizeof fields[0]; f++) {
        bool known = !fields[f].where_known;
        for (size_t c = 0; c < w->count; c++) {
            memcpy(&data[c], (const char *)&w->results[c] + fields[f].offset,
                   sizeof data[c]);
            known = known || !isnan(data[c]);
        }
        if (known)
            rc = write_numbers(w, fields[f].name, H5T_NATIVE_DOUBLE, &shape, data,
                               fields[f].long_name, fields[f].units, err);
    }
    free(data);
    return rc;
}

static int write_drops(const struct writer *w, struct ff_err *err)
{
    struct shape shape = with(cells_shape(w), "drop", w->drop_count);
    int64_t *data = allocate(w->count * w->drop_count, sizeof *data, err);
    if (!data)
        return FF_ENOMEM;
    for (size_t c = 0; c < w->count; c++)
        for (size_t i = 0; i < w->drop_count; i++)
            data[c * w->drop_count + i] =
                i < (size_t)w->results[c].drop_count ? w->results[c].drops[i] : -1;
    int rc = write_numbers(w, "drop_iteration", H5T_NATIVE_INT64, &shape, data,
                           "first iteration with the changed learning rate, -1 = none",
                           "1", err);
    free(data);
    return rc;
}

static int write_identity(const struct writer *w, struct ff_err *err)
{
    struct shape shape = cells_shape(w);
    const char **keys = allocate(w->count, sizeof *keys, err);
    uint8_t *equal = keys ? allocate(w->count, 1, err) : NULL;
    int rc = keys && equal ? 0 : FF_ENOMEM;
    for (size_t c = 0; !rc && c < w->count; c++) {
        const char *key = w->results[c].train_key;
        keys[c] = *key ? key : w->grid->cells[c].train_key;
        equal[c] = w->results[c].bit_equal;
    }
    if (!rc)
        rc = write_texts(w, "train_key", &shape, keys, "what the run was computed from",
                         err);
    if (!rc)
        rc = write_numbers(w, "bit_equal", H5T_NATIVE_UINT8, &shape, equal,
                           "0 where a resume could not reuse the recorded choices", "",
                           err);
    free(equal);
    free(keys);
    return rc;
}

static int write_root(const struct writer *w, struct ff_err *err)
{
    char created[32], host[256] = "unknown";
    const char *device = "unknown";
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", &utc);
    gethostname(host, sizeof host - 1);
    for (size_t c = w->count; c-- > 0;)
        if (w->results[c].device[0])
            device = w->results[c].device; /* the first cell's */
    const char *pairs[][2] = {
        {"schema", SCHEMA},
        {"Conventions", "CF-1.10"},
        {"name", w->grid->name},
        {"metric", w->grid->metric.text},
        {"created", created},
        {"grid", w->grid->text ? w->grid->text : ""},
        {"program_version", FF_VERSION},
        {"git_commit", ff_git_commit()},
        {"host", host},
        {"device", device},
    };
    int rc = 0;
    for (size_t i = 0; !rc && i < sizeof pairs / sizeof pairs[0]; i++)
        rc = ff_h5_set_text(w->file, pairs[i][0], pairs[i][1], err);
    return rc;
}

/* "TAR@FAR=1e-4 (%)"; the eval entry is named where there are several. "accuracy on
 * lfw (%)". What stands for it in a grid without eval: entries. */
static void metric_label(char out[128], const struct ff_grid *grid)
{
    const struct ff_metric *metric = &grid->metric;
    if (metric->kind == FF_METRIC_ACCURACY) {
        snprintf(out, 128, "accuracy on %s (%%)",
                 grid->evals[metric->eval_index].bins[metric->bin_index].name);
        return;
    }
    if (metric->eval_index < 0) {
        snprintf(out, 128, "nothing is scored (no eval:)");
        return;
    }
    bool several = grid->eval_count > 1;
    snprintf(out, 128, "TAR%s@FAR=1e-%ld%s%s (%%)",
             metric->kind == FF_METRIC_TAR_COMPAT ? " (compat)" : "",
             lround(-log10(ff_fars[metric->far_index])), several ? ", " : "",
             several ? grid->evals[metric->eval_index].name : "");
}

static int write_all(struct writer *w, struct ff_err *err)
{
    char label[128];
    metric_label(label, w->grid);
    int rc = write_root(w, err);
    if (!rc)
        rc = write_scales(w, err);
    if (!rc)
        rc = write_heatmap(w, label, err);
    if (!rc)
        rc = write_evals(w, err);
    if (!rc)
        rc = write_status(w, err);
    if (!rc)
        rc = write_course(w, err);
    if (!rc)
        rc = write_drops(w, err);
    return rc ? rc : write_identity(w, err);
}

int ff_heatmap_write(const char *path, const struct ff_grid *grid,
                     const struct ff_cell_result *results, size_t count,
                     struct ff_err *err)
{
    assert(count == (size_t)grid->cell_count);
    struct ff_h5_atomic out;
    struct writer w = {-1, out.temporary, grid, results, count, 1};
    for (size_t c = 0; c < count; c++)
        if ((size_t)results[c].drop_count > w.drop_count)
            w.drop_count = (size_t)results[c].drop_count;
    int rc = ff_h5_begin(&out, path, err);
    if (rc)
        return rc;
    w.file = out.file;
    rc = write_all(&w, err);
    return ff_h5_end(&out, rc, err);
}

/* ---- pictures ---- */

int ff_heatmap_sheet(struct ff_sheet *sheet, const struct ff_grid *grid,
                     const struct ff_cell_result *results, size_t count,
                     struct ff_err *err)
{
    assert(count == (size_t)grid->cell_count);
    (void)count;
    char label[128], numbers[FF_GRID_MAX_VALUES][32];
    const char *texts[FF_GRID_MAX_VALUES];
    metric_label(label, grid);
    int rc = ff_sheet_init(sheet, grid->name, label, grid->seed_count, err);
    for (int a = 0; a < grid->axis_count && !rc; a++) {
        const struct ff_axis *axis = &grid->axes[a];
        for (int i = 0; i < axis->count; i++) {
            if (axis->kind == FF_AXIS_NUMBER) {
                texts[i] = ff_sheet_number(numbers[i], axis->values[i]);
            } else { /* of a path, the last part tells it apart best */
                const char *slash = strrchr(axis->texts[i], '/');
                texts[i] = slash && slash[1] ? slash + 1 : axis->texts[i];
            }
        }
        rc = ff_sheet_add_axis(sheet, axis->param->name, axis->count, texts, err);
    }
    for (size_t i = 0; !rc && i < sheet->cell_count; i++)
        sheet->cells[i] = summarize(grid, results, i);
    return rc;
}

int ff_heatmap_draw(const char *png_path, const char *svg_path,
                    const struct ff_grid *grid, const struct ff_cell_result *results,
                    size_t count, struct ff_err *err)
{
    struct ff_sheet sheet;
    int rc = ff_heatmap_sheet(&sheet, grid, results, count, err);
    if (!rc && png_path)
        rc = ff_draw_png(png_path, &sheet, err);
    if (!rc && svg_path)
        rc = ff_draw_svg(svg_path, &sheet, err);
    ff_sheet_fini(&sheet);
    return rc;
}

/* https://no-color.org: a NO_COLOR that is not empty. */
static bool coloured(int fd)
{
    const char *no_colour = getenv("NO_COLOR");
    return ff_terminal(fd) && !(no_colour && *no_colour);
}

void ff_heatmap_print(FILE *f, const struct ff_grid *grid,
                      const struct ff_cell_result *results, size_t count)
{
    struct ff_sheet sheet;
    struct ff_err err = FF_ERR_INIT;
    if (ff_heatmap_sheet(&sheet, grid, results, count, &err))
        fprintf(f, "%s\n", err.text);
    else
        ff_terminal_map_print(f, &sheet, coloured(fileno(f)));
    ff_sheet_fini(&sheet);
}
