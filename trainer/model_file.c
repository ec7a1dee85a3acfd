/* SPDX-License-Identifier: MIT */
/* model.h5 reading and writing; see model_file.h. */
#include "model_file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "h5io.h"
#include "log.h"
#include "safetensors.h"

static void dataset_name(char out[160], const char *group, const char *name)
{
    snprintf(out, 160, "%s%s%s", group, *group ? "/" : "", name);
}

int ff_model_write_block(hid_t file, const char *group, const struct ff_model *model,
                         const struct ff_tensor *block, bool trained,
                         struct ff_err *err)
{
    for (int i = 0; i < model->named_count; i++) {
        const struct ff_named *n = &model->named[i];
        if (n->trained != trained)
            continue;
        char path[160];
        float *values;
        hsize_t dims[4];
        for (int k = 0; k < n->ndim; k++)
            dims[k] = (hsize_t)n->dims[k];
        dataset_name(path, group, n->name);
        int rc = ff_model_get(&values, model, n, block, err);
        if (!rc)
            rc = ff_h5_write_sealed(file, path, H5T_NATIVE_FLOAT, n->ndim, dims, values,
                                    err);
        free(values);
        if (rc)
            return rc;
    }
    return 0;
}

int ff_model_read_block(struct ff_model *model, hid_t file, const char *group,
                        struct ff_tensor *block, bool trained, struct ff_err *err)
{
    for (int i = 0; i < model->named_count; i++) {
        const struct ff_named *n = &model->named[i];
        if (n->trained != trained)
            continue;
        char path[160];
        void *values;
        hsize_t dims[4];
        for (int k = 0; k < n->ndim; k++)
            dims[k] = (hsize_t)n->dims[k];
        dataset_name(path, group, n->name);
        int rc = ff_h5_read(&values, file, path, H5T_NATIVE_FLOAT, n->ndim, dims, err);
        if (rc)
            return rc;
        rc = ff_model_set(model, n, block, values, err);
        free(values);
        if (rc)
            return rc;
    }
    return 0;
}

/* A BN is known by its running_mean; its counter stands beside it. */
static bool counter_name(char out[160], const struct ff_named *n)
{
    static const char end[] = "running_mean";
    size_t length = strlen(n->name), k = sizeof end - 1;
    if (length < k || strcmp(n->name + length - k, end) != 0)
        return false;
    snprintf(out, 160, "%.*snum_batches_tracked", (int)(length - k), n->name);
    return true;
}

int ff_model_write_counters(hid_t file, const struct ff_model *model,
                            struct ff_err *err)
{
    char path[160];
    for (int i = 0; i < model->named_count; i++)
        if (counter_name(path, &model->named[i])) {
            int rc = ff_h5_write_sealed(file, path, H5T_NATIVE_INT64, 0, NULL,
                                        &model->batches_tracked, err);
            if (rc)
                return rc;
        }
    return 0;
}

int ff_model_read_counters(struct ff_model *model, hid_t file, struct ff_err *err)
{
    char path[160];
    for (int i = 0; i < model->named_count; i++)
        if (counter_name(path, &model->named[i])) {
            void *value;
            int rc = ff_h5_read(&value, file, path, H5T_NATIVE_INT64, 0, NULL, err);
            if (rc)
                return rc;
            model->batches_tracked = *(int64_t *)value;
            free(value);
            return 0; /* all are equal */
        }
    return 0;
}

int ff_model_write_stamp(hid_t file, const struct ff_model_stamp *stamp,
                         struct ff_err *err)
{
    size_t count;
    const struct ff_param_info *table = ff_params_table(&count);
    int rc = ff_h5_set_text(file, "schema", stamp->schema, err);
    if (!rc)
        rc = ff_h5_set_text(file, "train_key", stamp->train_key, err);
    if (!rc)
        rc = ff_h5_set_i64(file, "iteration", stamp->iteration, err);
    for (size_t i = 0; !rc && i < count; i++) {
        char text[2 * FF_PARAM_TEXT];
        if (table[i].param_class == FF_PARAM_NEITHER)
            continue;
        ff_params_text(text, sizeof text, stamp->params, &table[i]);
        rc = ff_h5_set_text(file, table[i].name, text, err);
    }
    return rc;
}

int ff_model_save(const char *path, const struct ff_model *model,
                  const struct ff_model_stamp *stamp, struct ff_err *err)
{
    struct ff_h5_atomic out;
    int rc = ff_h5_begin(&out, path, err);
    if (rc)
        return rc;
    hid_t file = out.file;
    rc = ff_model_write_stamp(file, stamp, err);
    if (!rc)
        rc = ff_model_write_block(file, "", model, &model->weight, true, err);
    if (!rc)
        rc = ff_model_write_block(file, "", model, &model->buffer, false, err);
    if (!rc)
        rc = ff_model_write_counters(file, model, err);
    if (!rc)
        rc = ff_h5_seal(file, err);
    return ff_h5_end(&out, rc, err);
}

bool ff_model_is_h5(const char *path)
{
    static const char magic[8] = "\x89HDF\r\n\x1a\n";
    char start[sizeof magic];
    FILE *f = fopen(path, "rbe");
    bool same = f && fread(start, sizeof start, 1, f) == 1 &&
                !memcmp(start, magic, sizeof magic);
    if (f)
        fclose(f);
    return same;
}

/* -- safetensors: a state_dict of insightface's networks -- */

/* Blocks of IResNet's stages, by the names; false if it is no known depth. */
static bool known_depth(int *backbone, const struct ff_safetensors *file)
{
    struct ff_safetensor t;
    int blocks[4] = {0};
    for (int s = 0; s < 4; s++)
        for (bool more = true; more;) {
            char name[64];
            snprintf(name, sizeof name, "layer%d.%d.conv1.weight", s + 1, blocks[s]);
            more = blocks[s] < 1000 && ff_safetensors_find(&t, file, name);
            blocks[s] += more;
        }
    *backbone = ff_iresnet_of_blocks(blocks);
    return *backbone >= 0;
}

static bool find(struct ff_safetensor *t, const struct ff_safetensors *file,
                 const char *name, int ndim)
{
    return ff_safetensors_find(t, file, name) && t->ndim == ndim && t->count > 0 &&
           t->count <= INT32_MAX;
}

/* A convolution and its output channels at width 1. */
struct channels {
    const char *name;
    int count;
};

/* The middle of the widths that give all these channels, which a network rounds to
 * multiples of `step` and not below one; 0 if there is none. */
static double find_width(const struct ff_safetensors *file,
                         const struct channels *channels, int count, int step)
{
    double low = 0, high = INFINITY;
    for (int i = 0; i < count; i++) {
        struct ff_safetensor t;
        if (!find(&t, file, channels[i].name, 4))
            return 0;
        double steps = (double)t.dims[0] / step,
               scale = (double)channels[i].count / step;
        if (steps > 1)
            low = fmax(low, (steps - 0.5) / scale);
        high = fmin(high, (steps + 0.5) / scale);
    }
    return low < high ? (low + high) / 2 : 0;
}

static bool iresnet_config(struct ff_model_config *config,
                           const struct ff_safetensors *file)
{
    static const struct channels channels[] = {{"layer1.0.conv1.weight", 64},
                                               {"layer2.0.conv1.weight", 128},
                                               {"layer3.0.conv1.weight", 256},
                                               {"layer4.0.conv1.weight", 512}};
    struct ff_safetensor last, fc;
    if (!known_depth(&config->backbone, file) || !find(&last, file, "bn2.weight", 1) ||
        !find(&fc, file, "fc.weight", 2))
        return false;
    int side = 1;
    while (side * side * last.dims[0] < fc.dims[1] && side < 28)
        side++;
    config->width = find_width(file, channels, 4, 1);
    config->embedding = (int)fc.dims[0];
    config->image_size_px = 16 * side;
    return side * side * last.dims[0] == fc.dims[1];
}

static bool mbf_config(struct ff_model_config *config,
                       const struct ff_safetensors *file)
{
    static const struct channels channels[] = {
        {"layers.0.layers.0.weight", 128},
        {"layers.4.layers.2.layers.0.weight", 256},
        {"conv_sep.layers.0.weight", 512}};
    struct ff_safetensor map, fc;
    if (!find(&map, file, "features.layers.0.layers.0.weight", 4) ||
        !find(&fc, file, "features.layers.2.weight", 2))
        return false;
    config->backbone = FF_BACKBONE_MBF;
    config->width = find_width(file, channels, 3, 2);
    config->embedding = (int)fc.dims[0];
    config->image_size_px = 16 * (int)map.dims[2];
    return map.dims[2] >= 1 && map.dims[2] <= 28;
}

static int safetensors_config(struct ff_model_config *config, const char *path,
                              struct ff_err *err)
{
    struct ff_safetensors *file;
    int rc = ff_safetensors_open(&file, path, err);
    if (rc)
        return rc;
    if (!iresnet_config(config, file) && !mbf_config(config, file))
        rc = ff_err_set(err, FF_EDATA,
                        "%s: the tensors are those of no known backbone (IResNet 18, "
                        "34, 50, 100, 200 or mbf, as insightface names them)",
                        path);
    else if (!(config->width > 0))
        rc =
            ff_err_set(err, FF_EDATA,
                       "%s: no width gives its stages these numbers of channels", path);
    ff_safetensors_close(file);
    return rc;
}

static int set_from_safetensors(struct ff_model *model, const struct ff_named *n,
                                const struct ff_safetensors *file, const char *path,
                                struct ff_err *err)
{
    struct ff_safetensor t;
    float *values;
    if (!ff_safetensors_find(&t, file, n->name))
        return ff_err_set(err, FF_EDATA, "%s: %s: not in the file", path, n->name);
    hsize_t is[FF_SAFETENSORS_MAX_DIMS], wanted[4];
    for (int i = 0; i < t.ndim; i++)
        is[i] = (hsize_t)t.dims[i];
    for (int i = 0; i < n->ndim; i++)
        wanted[i] = (hsize_t)n->dims[i];
    if (t.ndim != n->ndim || memcmp(is, wanted, (size_t)t.ndim * sizeof *is) != 0) {
        char found[160], expected[160];
        ff_h5_shape_text(found, sizeof found, t.ndim, is, false);
        ff_h5_shape_text(expected, sizeof expected, n->ndim, wanted, false);
        return ff_err_set(err, FF_EDATA, "%s: %s: shape %s where %s is expected", path,
                          n->name, found, expected);
    }
    int rc = ff_safetensors_f32(&values, file, &t, err);
    if (!rc)
        rc = ff_model_set(model, n, n->trained ? &model->weight : &model->buffer,
                          values, err);
    free(values);
    return rc;
}

static bool has_named(const struct ff_model *model, const char *name)
{
    for (int i = 0; i < model->named_count; i++)
        if (!strcmp(model->named[i].name, name))
            return true;
    return false;
}

/* Tensors that are none of the network, the counters of its BN aside. */
static void warn_of_others(const struct ff_model *model,
                           const struct ff_safetensors *file, const char *path)
{
    static const char counter[] = ".num_batches_tracked";
    const char *name, *first = NULL;
    int others = 0;
    for (int i = 0; (name = ff_safetensors_name(file, i)); i++) {
        const char *end = strstr(name, counter);
        if ((end && !end[sizeof counter - 1]) || has_named(model, name))
            continue;
        first = first ? first : name;
        others++;
    }
    if (others)
        ff_warn("%s: %d tensor%s not of the network and not read: %.100s%s", path,
                others, others > 1 ? "s are" : " is", first, others > 1 ? ", ..." : "");
}

static int load_safetensors(struct ff_model *model, const char *path,
                            struct ff_err *err)
{
    struct ff_safetensors *file;
    int rc = ff_safetensors_open(&file, path, err);
    for (int i = 0; !rc && i < model->named_count; i++)
        rc = set_from_safetensors(model, &model->named[i], file, path, err);
    if (!rc)
        warn_of_others(model, file, path);
    ff_safetensors_close(file);
    return rc;
}

/* -- either kind -- */

int ff_model_read_config(struct ff_model_config *config, const char *path,
                         struct ff_err *err)
{
    static const char *const names[] = {"backbone", "width", "image_size", "embedding"};
    struct ff_params params;
    hid_t file;
    if (!access(path, R_OK) && !ff_model_is_h5(path))
        return safetensors_config(config, path, err);
    int rc = ff_h5_open(&file, path, false, err);
    if (rc)
        return rc;
    ff_params_defaults(&params);
    for (size_t i = 0; !rc && i < sizeof names / sizeof *names; i++) {
        char *text = NULL;
        rc = ff_h5_get_text(&text, file, names[i], err);
        if (!rc)
            rc = ff_params_set(&params, names[i], text, path, err);
        free(text);
    }
    H5Fclose(file);
    if (rc)
        return FF_EDATA;
    *config = ff_model_config_from(&params);
    return 0;
}

static int load_h5(struct ff_model *model, const char *path, struct ff_err *err)
{
    hid_t file;
    int rc = ff_h5_open(&file, path, false, err);
    if (rc)
        return rc;
    rc = ff_model_read_block(model, file, "", &model->weight, true, err);
    if (!rc)
        rc = ff_model_read_block(model, file, "", &model->buffer, false, err);
    if (!rc)
        rc = ff_model_read_counters(model, file, err);
    H5Fclose(file);
    return rc;
}

int ff_model_load(struct ff_model *model, const char *path, struct ff_err *err)
{
    bool h5 = access(path, R_OK) || ff_model_is_h5(path);
    int rc = h5 ? load_h5(model, path, err) : load_safetensors(model, path, err);
    if (rc)
        return rc;
    ff_model_pack(model);
    return model->ops->sync(model->ctx, err);
}
