/* SPDX-License-Identifier: MIT */
/* model.h5 reading and writing; see model_file.h. */
#include "model_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h5io.h"

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
            rc = ff_h5_write(file, path, H5T_NATIVE_FLOAT, n->ndim, dims, values, err);
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
            int rc = ff_h5_write(file, path, H5T_NATIVE_INT64, 0, NULL,
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
    return ff_h5_end(&out, rc, err);
}

int ff_model_read_config(struct ff_model_config *config, const char *path,
                         struct ff_err *err)
{
    static const char *const names[] = {"backbone", "width", "image_size", "embedding"};
    struct ff_params params;
    hid_t file;
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

int ff_model_load(struct ff_model *model, const char *path, struct ff_err *err)
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
    if (!rc)
        ff_model_pack(model);
    return rc ? rc : model->ops->sync(model->ctx, err);
}
