/* SPDX-License-Identifier: MIT */
/* The training loop.
 *
 * Iteration t: the scheduler gives the LR, the loader the batch; forward, loss,
 * backward, norm and finiteness, update; the scheduler sees the loss. On a backend that
 * overlaps, the host waits for the loss alone and queues step t+1 while the backward
 * pass of t still runs; t's line of curve.csv is written then. A step with a
 * non-finite gradient changes no weight but counts in T, its loss enters the slope, and
 * BN's running statistics have moved. Stop flag, period and --stop-after lead to a
 * checkpoint; curve.csv is on disk before a checkpoint takes its name. */
#include "train.h"

#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "h5io.h"
#include "hash.h"
#include "log.h"
#include "model_file.h"
#include "process.h"
#include "rng.h"
#include "train_priv.h"

#define WAIT_NOTE_SECONDS 60.0
#define MAX_SKIPPED_IN_ROW 200 /* then the run counts as diverged */

static struct ff_head_shape head_shape(const struct ff_train *run)
{
    const struct ff_params *p = run->params;
    return (struct ff_head_shape){.N = (int)p->batch,
                                  .D = (int)p->embedding,
                                  .CLS = run->classes,
                                  .kind = p->head,
                                  .margin_grad = p->margin_grad,
                                  .scale = (float)p->scale,
                                  .margin = (float)p->margin};
}

/* Host memory for the whole run: the pages are taken one by one as they are written, so
 * that no allocation would fail. */
static int enough_host_memory(const struct ff_train *run, int64_t network,
                              struct ff_err *err)
{
    const struct ff_params *p = run->params;
    /* centres, momentum, gradient, unit centres; logits */
    int64_t head = 4 * run->classes * (4 * p->embedding + p->batch);
    int64_t there = ff_memory_free();
    if (there < 0 || network + head <= there)
        return 0;
    return ff_err_set(err, FF_ENOMEM,
                      "out of memory: %lld bytes wanted (network %lld, head of %lld "
                      "classes %lld), %lld free",
                      (long long)(network + head), (long long)network,
                      (long long)run->classes, (long long)head, (long long)there);
}

/* Memory for the whole run, before any of it is taken. */
static int enough_memory(const struct ff_train *run,
                         const struct ff_model_config *config, struct ff_err *err)
{
    const struct ff_params *p = run->params;
    struct ff_head_shape shape = head_shape(run);
    int64_t network = 0;
    int rc = ff_model_bytes(&network, run->ops, config, (int)p->batch, true, err);
    if (rc)
        return rc;
    if (!run->ops->memory_free)
        return enough_host_memory(run, network, err);
    int64_t head = run->ops->head_bytes(run->ctx, &shape) +
                   8 * run->classes * p->embedding; /* centres and momentum */
    char what[128];
    snprintf(what, sizeof what, "network %lld, head of %lld classes %lld",
             (long long)network, (long long)run->classes, (long long)head);
    return run->ops->memory_check(run->ctx, network + head, what, err);
}

static int alloc_head(struct ff_train *run, struct ff_err *err)
{
    const struct ff_params *p = run->params;
    int64_t count = run->classes * p->embedding;
    struct ff_head_shape shape = head_shape(run);
    int rc = run->ops->alloc(run->ctx, &run->head_weight, count, 4, err);
    if (!rc)
        rc = run->ops->alloc(run->ctx, &run->head_velocity, count, 4, err);
    if (!rc)
        rc = run->ops->alloc(run->ctx, &run->dembedding, p->batch * p->embedding, 4,
                             err);
    if (!rc)
        rc = run->ops->head_create(run->ctx, &run->head, &shape, err);
    return rc;
}

/* Class centres N(0, 0.01), as the published recipe. */
static int init_head(struct ff_train *run, struct ff_err *err)
{
    int64_t count = run->head_weight.count;
    uint64_t stream = ff_stream("head.weight"), seed = (uint64_t)run->params->seed;
    float *values = malloc((size_t)count * sizeof *values);
    if (!values)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    for (int64_t i = 0; i < count; i++)
        values[i] = (float)(0.01 * ff_rng_normal(seed, stream, (uint64_t)i));
    run->ops->upload(run->ctx, &run->head_weight, values);
    free(values);
    return 0;
}

/* Weights of `init`: the network's, and the head's where the file holds them. */
static int load_init(struct ff_train *run, struct ff_err *err)
{
    const char *path = run->params->init;
    hid_t file;
    int rc = ff_model_load(run->model, path, err);
    if (!rc && !ff_model_is_h5(path))
        return 0;
    if (!rc)
        rc = ff_h5_open(&file, path, false, err);
    if (rc)
        return rc;
    if (ff_h5_exists(file, "head.weight")) {
        hsize_t dims[2] = {(hsize_t)run->classes, (hsize_t)run->params->embedding};
        void *values;
        rc = ff_h5_read(&values, file, "head.weight", H5T_NATIVE_FLOAT, 2, dims, err);
        if (!rc) {
            run->ops->upload(run->ctx, &run->head_weight, values);
            free(values);
        }
    }
    H5Fclose(file);
    return rc;
}

/* The checkpoint that this run goes on from, or "". */
static int find_checkpoint(struct ff_train *run, struct ff_err *err)
{
    int rc = ff_path(run->checkpoint, err, "%s/checkpoint.h5", run->options->out);
    if (rc || access(run->checkpoint, F_OK) == 0)
        return rc;
    rc = ff_cli_check_input("--from", run->options->from, err);
    return rc ? rc
              : ff_path(run->checkpoint, err, "%s",
                        run->options->from ? run->options->from : "");
}

static int start_weights(struct ff_train *run, struct ff_err *err)
{
    int rc;
    if (*run->checkpoint) {
        rc = ff_checkpoint_read(run, run->checkpoint, err);
        if (!rc)
            ff_info("goes on from %s at iteration %lld of %lld", run->checkpoint,
                    (long long)run->iteration, (long long)run->iterations);
        return rc;
    }
    rc = ff_model_init(run->model, (uint64_t)run->params->seed, err);
    if (!rc)
        rc = init_head(run, err);
    if (!rc && *run->params->init)
        rc = load_init(run, err);
    if (!rc)
        run->ops->head_pack(run->ctx, run->head, &run->head_weight);
    return rc;
}

static int set_up(struct ff_train *run, struct ff_err *err)
{
    const struct ff_params *p = run->params;
    char init_hash[FF_SHA256_HEX] = "";
    if (!*p->data)
        return ff_err_set(err, FF_EUSAGE, "no training set: give data: DIR");
    int rc = ff_dataset_open(&run->dataset, p->data, err);
    if (!rc)
        rc = ff_dataset_fingerprint(run->fingerprint, run->dataset, err);
    if (!rc && *p->init)
        rc = ff_cli_check_input("init", p->init, err);
    if (!rc && *p->init)
        rc = ff_sha256_file(init_hash, p->init, err);
    if (rc)
        return rc;
    ff_train_key(run->train_key, p, run->fingerprint, init_hash);
    int64_t images = ff_dataset_count(run->dataset);
    run->classes = ff_dataset_classes(run->dataset);
    run->iterations_epoch = images / p->batch;
    run->iterations = p->epochs * run->iterations_epoch;
    if (run->iterations == 0)
        return ff_err_set(err, FF_EUSAGE,
                          "%s: %lld images are less than one batch of %lld", p->data,
                          (long long)images, (long long)p->batch);
    rc =
        ff_loader_check_size(run->dataset, (int)p->image_size, p->max_bad_samples, err);
    if (rc)
        return rc;
    run->threads = p->threads ? (int)p->threads : ff_cpu_count();
    const struct ff_ops_options backend = {.backend = p->backend,
                                           .threads = run->threads,
                                           .precision = p->precision,
                                           .head_precision = p->head_precision,
                                           .device = p->device,
                                           .nondeterministic = !p->deterministic,
                                           .tf32 = p->tf32,
                                           .engine_search = p->engine_search,
                                           .weights_beside = p->weights_beside};
    rc = ff_ops_open(&run->ops, &run->ctx, &run->backend_reason, &backend, err);
    if (rc)
        return rc;
    ff_info("backend %s (%s; %s)", run->ops->name, run->ops->describe(run->ctx),
            run->backend_reason);
    int cpus = ff_cpu_count();
    int decoders = !run->ops->overlaps ? 1 : cpus < 8 ? cpus : 8;
    run->workers = p->workers ? (int)p->workers : decoders;
    struct ff_model_config config = ff_model_config_from(p);
    rc = find_checkpoint(run, err);
    if (!rc && *run->checkpoint)
        rc = ff_checkpoint_read_choices(run, run->checkpoint, err);
    if (!rc)
        rc = enough_memory(run, &config, err);
    if (!rc)
        rc = ff_model_create(&run->model, run->ops, run->ctx, &config, (int)p->batch,
                             true, err);
    if (!rc)
        rc = alloc_head(run, err);
    for (run->schedule_count = 0; !rc && run->schedule_count < FF_MAX_CELLS;)
        rc = ff_schedule_create(&run->schedules[run->schedule_count++], p,
                                run->iterations, err);
    if (!rc)
        rc = start_weights(run, err);
    if (rc)
        return rc;
    ff_info("%lld images of %lld identities, %lld iterations, %.1f M parameters + head "
            "%.1f M, train key %.12s",
            (long long)images, (long long)run->classes, (long long)run->iterations,
            1e-6 * (double)ff_model_parameter_count(run->model),
            1e-6 * (double)run->head_weight.count, run->train_key);
    struct ff_loader_options options = {.batch = p->batch,
                                        .image_size_px = (int)p->image_size,
                                        .seed = (uint64_t)p->seed,
                                        .shuffle_block = p->shuffle_block,
                                        .flip_probability = p->flip,
                                        .workers = run->workers,
                                        .first_iteration = run->iteration,
                                        .iterations = run->iterations,
                                        .max_bad_samples = p->max_bad_samples,
                                        .bad_samples = run->bad_samples};
    return ff_loader_create(&run->loader, run->dataset, &options, err);
}

static void tear_down(struct ff_train *run)
{
    ff_validation_destroy(run->validation);
    ff_loader_destroy(run->loader);
    for (int i = 0; i < run->schedule_count; i++)
        ff_schedule_destroy(run->schedules[i]);
    if (run->ctx) {
        run->ops->head_destroy(run->ctx, run->head);
        run->ops->free(run->ctx, &run->head_weight);
        run->ops->free(run->ctx, &run->head_velocity);
        run->ops->free(run->ctx, &run->dembedding);
        ff_model_destroy(run->model);
        run->ops->destroy(run->ctx);
    }
    ff_dataset_close(run->dataset);
    if (run->curve)
        fclose(run->curve);
    if (run->telemetry)
        fclose(run->telemetry);
    if (run->validation_csv)
        fclose(run->validation_csv);
}

/* The ops of one optimizer step: the same at every iteration. */
static void queue_step(void *arg)
{
    struct ff_train *run = arg;
    const struct ff_params *p = run->params;
    const struct ff_ops *ops = run->ops;
    struct ff_model *m = run->model;
    const struct ff_sgd sgd = {.momentum = p->momentum,
                               .weight_decay = p->weight_decay,
                               .clip_norm = p->clip_norm};
    const struct ff_tensor *embedding = ff_model_forward(m, NULL, NULL);
    ops->head_fwd(run->ctx, run->head, embedding, &run->head_weight, NULL);
    ops->head_bwd(run->ctx, run->head, &run->dembedding, embedding, &run->head_weight);
    ff_model_backward(m, &run->dembedding);
    ops->grad_check(run->ctx, &m->dweight, run->head);
    ops->sgd(run->ctx, &m->weight, &m->velocity, &m->dweight, &sgd);
    ops->head_update(run->ctx, run->head, &run->head_weight, &run->head_velocity, &sgd);
    ff_model_pack(m);
}

static int save_checkpoint(struct ff_train *run, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    run->bad_samples = ff_loader_bad_samples(run->loader);
    int rc = ff_train_sync_curves(run, err);
    if (!rc)
        rc = ff_path(path, err, "%s/checkpoint.h5", run->options->out);
    if (!rc)
        rc = ff_checkpoint_write(run, path, err);
    return rc;
}

static int diverged(struct ff_train *run, double loss, const char *reason,
                    struct ff_err *err)
{
    int rc = ff_train_sync_curves(run, err);
    if (!rc)
        rc = ff_train_write_diverged(run, loss, reason, err);
    return rc ? rc
              : ff_err_set(err, FF_EDIVERGED, "diverged at iteration %lld: %s",
                           (long long)run->iteration, reason);
}

/* What the host knows of a step before its result has come. */
struct open_line {
    bool open;
    int64_t iteration;
    double loss, lr, slope;
};

/* Waits for the end of the step, writes its line and judges it. */
static int settle(struct ff_train *run, struct open_line *line, struct ff_err *err)
{
    struct ff_step_result result;
    if (!line->open)
        return 0;
    line->open = false;
    run->ops->step_result(run->ctx, &result);
    int rc = ff_train_write_curve(run, line->iteration, line->loss, line->lr,
                                  line->slope, &result, err);
    if (rc)
        return rc;
    run->last_loss = line->loss;
    if (!isfinite(line->loss))
        return diverged(run, line->loss, "the loss is not finite", err);
    run->skipped_in_row = result.finite ? 0 : run->skipped_in_row + 1;
    if (run->skipped_in_row >= MAX_SKIPPED_IN_ROW)
        return diverged(run, line->loss, "200 skipped steps in a row", err);
    if (result.loss_scale < 1)
        return diverged(run, line->loss, "the loss scale fell below 1", err);
    return 0;
}

/* One iteration up to its loss; the rest may still be running. */
static int take_step(struct ff_train *run, struct open_line *line, struct ff_err *err)
{
    struct ff_schedule *schedule = run->schedules[0];
    struct ff_batch batch;
    double lr = ff_schedule_lr(schedule);
    int rc = ff_loader_next(&batch, run->loader, err);
    if (rc)
        return rc;
    const int64_t side = run->params->image_size;
    const struct ff_step step = {.N = (int)run->params->batch,
                                 .image_bytes = side * side * 3,
                                 .pixels = batch.pixels,
                                 .flip = batch.flip,
                                 .label = batch.label,
                                 .lr = lr};
    run->ops->step(run->ctx, &step, queue_step, run);
    run->model->batches_tracked++;
    double loss = (double)run->ops->loss(run->ctx);
    if (!run->ops->overlaps || !isfinite(loss))
        rc = run->ops->sync(run->ctx, err);
    if (!rc)
        rc = settle(run, line, err);
    if (rc)
        return rc;
    for (int i = 0; i < run->schedule_count && isfinite(loss); i++)
        ff_schedule_observe(run->schedules[i], loss);
    *line =
        (struct open_line){true, run->iteration, loss, lr, ff_schedule_slope(schedule)};
    if (!run->ops->overlaps || !isfinite(loss))
        rc = settle(run, line, err);
    return rc;
}

static void show_progress(const struct ff_train *run, double loss, double lr,
                          double slope, bool last)
{
    char left[32];
    double done = (double)(run->iteration - run->first_iteration);
    double rate = done / fmax(ff_now() - run->started, 1e-9);
    ff_duration(left, (double)(run->iterations - run->iteration) / rate);
    double share = (double)run->iteration / (double)run->iterations;
    char bar[21];
    for (int i = 0; i < 20; i++)
        bar[i] = i < (int)(share * 20) ? '#' : '.';
    bar[20] = 0;
    ff_progress(
        last,
        "[%s] %3.0f %%  %lld/%lld  %.0f samples/s  loss %.4f  lr %.3g  slope %.2e  "
        "ETA %s",
        bar, 100 * share, (long long)run->iteration, (long long)run->iterations,
        rate * (double)run->params->batch, loss, lr, slope, left);
}

/* Says once a minute where time went that more workers would save. */
static void note_waiting(struct ff_train *run)
{
    char text[160];
    double now = ff_now(), waited = ff_loader_wait_seconds(run->loader);
    if (now - run->waits_since < WAIT_NOTE_SECONDS)
        return;
    if (ff_train_wait_text(text, waited - run->waited, now - run->waits_since,
                           run->workers))
        ff_info("%s", text);
    run->waits_since = now;
    run->waited = waited;
}

static bool checkpoint_due(const struct ff_train *run, double last_checkpoint)
{
    const struct ff_params *p = run->params;
    int64_t every = p->checkpoint_every_iterations;
    return (p->checkpoint_minutes > 0 &&
            ff_now() - last_checkpoint > 60 * p->checkpoint_minutes) ||
           (every > 0 && run->iteration % every == 0);
}

static int loop(struct ff_train *run, struct ff_err *err)
{
    struct open_line line = {0};
    double last_checkpoint = ff_now();
    int rc = 0;
    run->first_iteration = run->iteration;
    run->started = run->waits_since = ff_now();
    ff_train_energy_start(run);
    if (ff_validation_due(run)) /* of a checkpoint's weights: cut off, or cut short */
        rc = ff_validation_run(run, err);
    if (rc)
        return rc;
    while (run->iteration < run->iterations) {
        rc = take_step(run, &line, err);
        if (rc)
            return rc;
        run->iteration++;
        note_waiting(run);
        show_progress(run, line.loss, line.lr, line.slope,
                      run->iteration == run->iterations);
        bool validates = ff_validation_due(run);
        bool ends = run->iteration == run->iterations;
        bool stop = ff_stop_requested() ||
                    (run->options->stop_after &&
                     run->iteration - run->first_iteration >= run->options->stop_after);
        bool saves = stop || checkpoint_due(run, last_checkpoint);
        if (validates || ends || saves)
            rc = settle(run, &line, err);
        if (!rc && validates)
            rc = ff_validation_run(run, err);
        if (rc && rc != FF_ESTOPPED)
            return rc;
        if (ends && !rc)
            break;
        stop = stop || rc;
        if (stop || saves) {
            rc = save_checkpoint(run, err);
            if (rc)
                return rc;
            last_checkpoint = ff_now();
        }
        if (stop)
            return ff_err_set(err, FF_ESTOPPED,
                              "stopped with a checkpoint at iteration %lld of %lld",
                              (long long)run->iteration, (long long)run->iterations);
    }
    rc = save_checkpoint(run, err);
    return rc ? rc : ff_train_finish(run, err);
}

/* Removes what a killed writer left half-written; the lock is held, so nobody writes.
 */
static int remove_temporaries(const char *directory, struct ff_err *err)
{
    char pattern[FF_PATH_MAX];
    glob_t found;
    int rc = ff_path(pattern, err, "%s/*.tmp.*", directory);
    if (rc || glob(pattern, 0, NULL, &found) != 0)
        return rc;
    for (size_t i = 0; i < found.gl_pathc; i++)
        unlink(found.gl_pathv[i]);
    globfree(&found);
    return 0;
}

/* Whether the directory holds this run, finished; another run's is FF_EUSAGE. The
 * checkpoint may be gone by then, so model.h5 is asked. */
static int already_done(bool *done, const struct ff_train *run, struct ff_err *err)
{
    char path[FF_PATH_MAX], *key = NULL;
    hid_t file;
    int rc = ff_path(path, err, "%s/DONE", run->options->out);
    *done = !rc && access(path, F_OK) == 0;
    if (rc || !*done)
        return rc;
    rc = ff_path(path, err, "%s/model.h5", run->options->out);
    if (!rc)
        rc = ff_h5_open(&file, path, false, err);
    if (rc)
        return rc;
    rc = ff_h5_get_text(&key, file, "train_key", err);
    if (!rc && strcmp(key, run->train_key) != 0)
        rc = ff_err_set(err, FF_EUSAGE,
                        "%s: is of another run (train key %.12s, this run %.12s)", path,
                        key, run->train_key);
    H5Fclose(file);
    free(key);
    return rc;
}

int ff_train_run(const struct ff_params *params, const struct ff_train_options *options,
                 struct ff_err *err)
{
    struct ff_train run = {.params = params, .options = options, .bit_equal = true};
    char path[FF_PATH_MAX];
    int lock = -1;
    bool done = false;
    int rc = ff_mkdirs(options->out, err);
    if (!rc)
        rc = ff_path(path, err, "%s/lock", options->out);
    if (!rc)
        rc = ff_lock(&lock, path, err);
    if (!rc)
        rc = remove_temporaries(options->out, err);
    if (!rc)
        rc = ff_path(path, err, "%s/log.txt", options->out);
    if (!rc && ff_log_open(path) != 0)
        rc = ff_err_errno(err, FF_EFAIL, "%s", path);
    if (!rc)
        rc = set_up(&run, err);
    if (!rc)
        rc = already_done(&done, &run, err);
    if (!rc && done) {
        ff_info("%s: done already", options->out);
        goto done;
    }
    if (!rc)
        rc = ff_validation_create(&run.validation, &run, err);
    if (!rc)
        rc = ff_train_write_record(&run, err);
    if (!rc)
        rc = ff_train_open_curves(&run, err);
    if (!rc)
        rc = loop(&run, err);
done:
    tear_down(&run);
    ff_log_open(NULL);
    if (lock >= 0)
        close(lock);
    return rc;
}
