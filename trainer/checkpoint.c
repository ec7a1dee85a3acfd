/* SPDX-License-Identifier: MIT */
/* checkpoint.h5: everything that a run needs to go on bit for bit.
 *
 * Tensors, each with its CRC-32 (and one of all attributes), as in model.h5 plus
 * head.weight (CLS, D); momentum under momentum/; scheduler states under scheduler/<i>;
 * position, counters and the record of what fixes the bits as root attributes. The data
 * position is the iteration: order is a function of it. */
#include <hdf5.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "h5io.h"
#include "log.h"
#include "model_file.h"
#include "train_priv.h"

static int write_matrix(hid_t file, const char *name, const struct ff_train *run,
                        const struct ff_tensor *t, struct ff_err *err)
{
    hsize_t dims[2] = {(hsize_t)run->classes, (hsize_t)run->params->embedding};
    float *values = malloc((size_t)t->count * sizeof *values);
    if (!values)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    run->ops->download(run->ctx, values, t);
    int rc = ff_h5_write_sealed(file, name, H5T_NATIVE_FLOAT, 2, dims, values, err);
    free(values);
    return rc;
}

static int read_matrix(struct ff_train *run, hid_t file, const char *name,
                       struct ff_tensor *t, struct ff_err *err)
{
    hsize_t dims[2] = {(hsize_t)run->classes, (hsize_t)run->params->embedding};
    void *values;
    int rc = ff_h5_read(&values, file, name, H5T_NATIVE_FLOAT, 2, dims, err);
    if (rc)
        return rc;
    run->ops->upload(run->ctx, t, values);
    free(values);
    return 0;
}

static int write_schedules(hid_t file, const struct ff_train *run, struct ff_err *err)
{
    int rc = 0;
    for (int i = 0; !rc && i < run->schedule_count; i++) {
        char name[32];
        hsize_t count = ff_schedule_save(run->schedules[i], NULL);
        double *state = malloc(count * sizeof *state);
        if (!state)
            return ff_err_set(err, FF_ENOMEM, "out of memory");
        ff_schedule_save(run->schedules[i], state);
        snprintf(name, sizeof name, "scheduler/%d", i);
        rc = ff_h5_write_sealed(file, name, H5T_NATIVE_DOUBLE, 1, &count, state, err);
        free(state);
    }
    return rc;
}

static int read_schedules(struct ff_train *run, hid_t file, struct ff_err *err)
{
    int rc = 0;
    for (int i = 0; !rc && i < run->schedule_count; i++) {
        char name[32];
        hsize_t count = 0;
        void *state;
        snprintf(name, sizeof name, "scheduler/%d", i);
        rc = ff_h5_read(&state, file, name, H5T_NATIVE_DOUBLE, 1, &count, err);
        if (rc)
            return rc;
        rc = ff_schedule_load(run->schedules[i], state, count, err);
        free(state);
    }
    return rc;
}

/* The loss scale, and what the backend chose while running. */
static int write_backend(hid_t file, const struct ff_train *run, struct ff_err *err)
{
    struct ff_loss_scale scale = run->ops->loss_scale(run->ctx);
    char *choices = NULL;
    int rc = ff_h5_set_text(file, "backend", run->ops->describe(run->ctx), err);
    if (!rc)
        rc = ff_h5_set_f64(file, "loss_scale", scale.value, err);
    if (!rc)
        rc = ff_h5_set_i64(file, "loss_scale_good_steps", scale.good_steps, err);
    if (!rc && run->ops->choices)
        rc = run->ops->choices(run->ctx, &choices, err);
    if (!rc && choices)
        rc = ff_h5_set_text(file, "choices", choices, err);
    free(choices);
    return rc;
}

int ff_checkpoint_read_choices(struct ff_train *run, const char *path,
                               struct ff_err *err)
{
    char *choices = NULL;
    hid_t file;
    if (!run->ops->set_choices)
        return 0;
    int rc = ff_h5_open(&file, path, false, err);
    if (rc)
        return rc;
    if (H5Aexists(file, "choices") > 0)
        rc = ff_h5_get_text(&choices, file, "choices", err);
    if (!rc && choices)
        rc = run->ops->set_choices(run->ctx, choices, err);
    free(choices);
    H5Fclose(file);
    return rc;
}

/* A run begun without a loss scale starts its own. */
static int read_loss_scale(struct ff_train *run, hid_t file, struct ff_err *err)
{
    struct ff_loss_scale scale = run->ops->loss_scale(run->ctx);
    bool scales = scale.value != 1;
    if (!scales || H5Aexists(file, "loss_scale") <= 0)
        return 0;
    int rc = ff_h5_get_f64(&scale.value, file, "loss_scale", err);
    if (!rc)
        rc = ff_h5_get_i64(&scale.good_steps, file, "loss_scale_good_steps", err);
    if (!rc && scale.value > 1)
        run->ops->set_loss_scale(run->ctx, &scale);
    return rc;
}

static int write_state(hid_t file, const struct ff_train *run, struct ff_err *err)
{
    int rc = ff_h5_set_f64(file, "seconds", ff_train_seconds(run), err);
    if (!rc && !isnan(ff_train_energy(run)))
        rc = ff_h5_set_f64(file, "energy_joules", ff_train_energy(run), err);
    if (!rc)
        rc = ff_h5_set_f64(file, "last_loss", run->last_loss, err);
    if (!rc)
        rc = ff_h5_set_i64(file, "skipped_in_row", run->skipped_in_row, err);
    if (!rc)
        rc = ff_h5_set_i64(file, "bad_samples", run->bad_samples, err);
    if (!rc)
        rc = ff_h5_set_i64(file, "bit_equal", run->bit_equal, err);
    if (!rc)
        rc = write_backend(file, run, err);
    if (!rc)
        rc = ff_h5_set_text(file, "program", FF_VERSION, err);
    if (!rc)
        rc = ff_h5_set_text(file, "git_commit", ff_git_commit(), err);
    return rc;
}

int ff_checkpoint_write(const struct ff_train *run, const char *path,
                        struct ff_err *err)
{
    struct ff_h5_atomic out;
    const struct ff_model *m = run->model;
    struct ff_model_stamp stamp = {FF_CHECKPOINT_SCHEMA, run->train_key, run->iteration,
                                   run->params};
    int rc = ff_h5_begin(&out, path, err);
    if (rc)
        return rc;
    hid_t file = out.file;
    rc = ff_model_write_stamp(file, &stamp, err);
    if (!rc)
        rc = write_state(file, run, err);
    if (!rc)
        rc = ff_model_write_block(file, "", m, &m->weight, true, err);
    if (!rc)
        rc = ff_model_write_block(file, "", m, &m->buffer, false, err);
    if (!rc)
        rc = ff_model_write_counters(file, m, err);
    if (!rc)
        rc = ff_model_write_block(file, "momentum", m, &m->velocity, true, err);
    if (!rc)
        rc = write_matrix(file, "head.weight", run, &run->head_weight, err);
    if (!rc)
        rc = write_matrix(file, "momentum/head.weight", run, &run->head_velocity, err);
    if (!rc)
        rc = write_schedules(file, run, err);
    if (!rc)
        rc = ff_h5_seal(file, err);
    return ff_h5_end(&out, rc, err);
}

/* Key, position and counters; says what cannot be reused. */
static int read_state(struct ff_train *run, hid_t file, const char *path,
                      struct ff_err *err)
{
    char *schema = NULL, *key = NULL, *backend = NULL;
    int64_t bit_equal = 0;
    int rc = ff_h5_get_text(&schema, file, "schema", err);
    if (!rc && strcmp(schema, FF_CHECKPOINT_SCHEMA) != 0)
        rc = ff_err_set(err, FF_EDATA, "%s: schema \"%s\", this program reads \"%s\"",
                        path, schema, FF_CHECKPOINT_SCHEMA);
    if (!rc)
        rc = ff_h5_get_text(&key, file, "train_key", err);
    if (!rc && strcmp(key, run->train_key) != 0)
        rc = ff_err_set(err, FF_EUSAGE,
                        "%s: is of another run (train key %.12s, this run %.12s)", path,
                        key, run->train_key);
    if (!rc)
        rc = ff_h5_get_i64(&run->iteration, file, "iteration", err);
    if (!rc)
        rc = ff_h5_get_f64(&run->seconds_before, file, "seconds", err);
    /* Not there after a part on a device that told none: then the sum is not known. */
    bool known = H5Aexists(file, "energy_joules") > 0;
    run->energy_before = run->iteration > 0 ? (double)NAN : 0;
    if (!rc && known)
        rc = ff_h5_get_f64(&run->energy_before, file, "energy_joules", err);
    if (!rc)
        rc = ff_h5_get_f64(&run->last_loss, file, "last_loss", err);
    if (!rc)
        rc = ff_h5_get_i64(&run->skipped_in_row, file, "skipped_in_row", err);
    if (!rc)
        rc = ff_h5_get_i64(&run->bad_samples, file, "bad_samples", err);
    if (!rc)
        rc = ff_h5_get_i64(&bit_equal, file, "bit_equal", err);
    if (!rc)
        rc = ff_h5_get_text(&backend, file, "backend", err);
    if (!rc) {
        bool same = strcmp(backend, run->ops->describe(run->ctx)) == 0;
        if (!same)
            ff_warn("not bit-equal: the checkpoint was made on \"%s\", this is \"%s\"",
                    backend, run->ops->describe(run->ctx));
        run->bit_equal = bit_equal && same;
    }
    free(schema);
    free(key);
    free(backend);
    return rc;
}

int ff_checkpoint_read(struct ff_train *run, const char *path, struct ff_err *err)
{
    struct ff_model *m = run->model;
    hid_t file;
    int rc = ff_h5_open(&file, path, false, err);
    if (rc)
        return rc;
    rc = read_state(run, file, path, err);
    if (!rc)
        rc = ff_model_read_block(m, file, "", &m->weight, true, err);
    if (!rc)
        rc = ff_model_read_block(m, file, "", &m->buffer, false, err);
    if (!rc)
        rc = ff_model_read_counters(m, file, err);
    if (!rc)
        rc = ff_model_read_block(m, file, "momentum", &m->velocity, true, err);
    if (!rc)
        rc = read_matrix(run, file, "head.weight", &run->head_weight, err);
    if (!rc)
        rc = read_matrix(run, file, "momentum/head.weight", &run->head_velocity, err);
    if (!rc)
        rc = read_schedules(run, file, err);
    if (!rc)
        rc = read_loss_scale(run, file, err);
    H5Fclose(file);
    if (!rc) {
        ff_model_pack(m);
        run->ops->head_pack(run->ctx, run->head, &run->head_weight);
    }
    return rc ? rc : run->ops->sync(run->ctx, err);
}
