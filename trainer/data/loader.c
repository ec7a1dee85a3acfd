/* SPDX-License-Identifier: MIT */
/* Decode-ahead loader: a ring of batches between worker threads and the train loop.
 *
 * A worker takes the next iteration under `order`, waits there until the ring's slot
 * (iteration mod slots) is free, copies the batch's sample numbers, and decodes the
 * whole batch outside the locks. `ring` guards the states of the slots and the stop
 * flag; it is only ever taken for a moment, and by a holder of `order` but never the
 * other way round. Batches are handed out in the order of iterations, so that damaged
 * samples are counted and logged in the same order whatever the number of workers. */
#include "loader.h"

#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "log.h"
#include "rng.h"
#include "sample_order.h"

/* Beside the batch each worker decodes: one lent to the caller, one ready. */
enum { SPARE_SLOTS = 2 };

enum slot_state { SLOT_FREE, SLOT_FILLING, SLOT_READY, SLOT_LENT };

struct bad_sample {
    int64_t index, used; /* damaged sample, and the one in its place */
    char text[240];
};

struct slot {
    enum slot_state state;
    int64_t *sample; /* (N) i64: numbers the order asks for */
    uint8_t *pixels; /* (N, H, W, 3) u8 */
    uint8_t *flip;   /* (N) u8 */
    int64_t *label;  /* (N) i64 */
    int64_t epoch;
    struct bad_sample *bad; /* (bad_count) */
    int64_t bad_count, bad_capacity;
    int order_rc, rc; /* why the order or the batch could not be made */
    struct ff_err err;
};

struct worker {
    pthread_t thread;
    struct ff_loader *loader;
    struct ff_decoder *decoder;
    struct ff_read_buffer buffer;
};

struct ff_loader {
    struct ff_dataset *dataset;
    struct ff_loader_options options;
    int64_t count, batches_per_epoch;

    pthread_mutex_t order;
    int64_t next;       /* iteration to be taken */
    int64_t perm_epoch; /* epoch that perm belongs to, -1 none */
    int64_t *perm;      /* (count) i64 */

    pthread_mutex_t ring;
    pthread_cond_t slot_free, slot_ready;
    struct slot *slots;
    int slot_count;
    bool stop;

    struct worker *workers;
    int workers_started;
    int64_t delivered; /* iteration that ff_loader_next gives next */
    struct slot *lent;
    struct ff_err failure; /* once set, every ff_loader_next returns it */
    int64_t bad_samples;
    double wait_seconds;
};

/* ---- decoding ---- */

static int decode_sample(uint8_t *rgb, int64_t *label, struct worker *worker,
                         int64_t index, struct ff_err *err)
{
    struct ff_loader *loader = worker->loader;
    const uint8_t *bytes;
    size_t size;
    int rc = ff_dataset_read(&bytes, &size, label, loader->dataset, index,
                             &worker->buffer, err);
    if (rc)
        return rc;
    return ff_decode_square(rgb, loader->options.image_size_px, worker->decoder, bytes,
                            size, ff_dataset_applies_exif(loader->dataset), err);
}

static int note_bad(struct slot *slot, int64_t index, int64_t used, const char *text,
                    struct ff_err *err)
{
    if (slot->bad_count == slot->bad_capacity) {
        int64_t capacity = slot->bad_capacity ? 2 * slot->bad_capacity : 8;
        struct bad_sample *grown = realloc(slot->bad, (size_t)capacity * sizeof *grown);
        if (!grown)
            return ff_err_set(err, FF_ENOMEM, "out of memory for the damaged samples");
        slot->bad = grown;
        slot->bad_capacity = capacity;
    }
    struct bad_sample *bad = &slot->bad[slot->bad_count++];
    bad->index = index;
    bad->used = used;
    snprintf(bad->text, sizeof bad->text, "%s", text);
    return 0;
}

static bool stopping(struct ff_loader *loader)
{
    pthread_mutex_lock(&loader->ring);
    bool stop = loader->stop;
    pthread_mutex_unlock(&loader->ring);
    return stop;
}

/* Sample i of the batch; a damaged one is replaced by the next good one in index order.
 * A run of more damaged samples than are allowed ends the search, since an epoch would
 * count all of them. */
static int fill_sample(struct slot *slot, int64_t i, struct worker *worker)
{
    struct ff_loader *loader = worker->loader;
    size_t side = (size_t)loader->options.image_size_px;
    uint8_t *rgb = slot->pixels + (size_t)i * side * side * 3;
    int64_t wanted = slot->sample[i];
    char text[240] = "";
    for (int64_t tries = 0; tries < loader->count; tries++) {
        struct ff_err err = FF_ERR_INIT;
        int64_t index = (wanted + tries) % loader->count;
        int rc = decode_sample(rgb, &slot->label[i], worker, index, &err);
        if (!rc)
            return tries ? note_bad(slot, wanted, index, text, &slot->err) : 0;
        if (rc != FF_EDATA) {
            slot->err = err;
            return rc;
        }
        if (tries == 0)
            snprintf(text, sizeof text, "%.239s", err.text);
        if (tries >= loader->options.max_bad_samples || stopping(loader))
            break;
    }
    return note_bad(slot, wanted, -1, text, &slot->err);
}

static void fill_slot(struct slot *slot, struct worker *worker)
{
    const struct ff_loader_options *options = &worker->loader->options;
    char name[40];
    snprintf(name, sizeof name, "flip/%" PRId64, slot->epoch);
    uint64_t flips = ff_stream(name);
    slot->bad_count = 0;
    slot->rc = slot->order_rc;
    for (int64_t i = 0; i < options->batch && !slot->rc; i++) {
        if (stopping(worker->loader))
            return;
        slot->flip[i] =
            ff_rng_uniform(options->seed, flips, (uint64_t)slot->sample[i]) <
            options->flip_probability;
        slot->rc = fill_sample(slot, i, worker);
    }
}

/* Samples of a window of the order, where the order has windows. */
static int64_t window_samples(const struct ff_loader *loader)
{
    return FF_ORDER_WINDOW_BLOCKS * loader->options.shuffle_block;
}

/* Has the blocks read ahead whose first samples stand at places first .. end - 1 of the
 * order. Announced a window early, every block of a window is under way when it begins.
 */
static void announce(struct ff_loader *loader, int64_t first, int64_t end)
{
    int64_t n = loader->options.shuffle_block;
    if (n <= 1 || loader->perm_epoch < 0)
        return;
    for (int64_t i = first; i < end && i < loader->count; i++)
        if (loader->perm[i] % n == 0)
            ff_dataset_will_read(loader->dataset, loader->perm[i], n);
}

/* Takes the next iteration and its samples; NULL when there is none or at the stop. */
static struct slot *take(struct ff_loader *loader)
{
    struct slot *slot = NULL;
    pthread_mutex_lock(&loader->order);
    if (loader->next < loader->options.iterations) {
        slot = &loader->slots[loader->next % loader->slot_count];
        pthread_mutex_lock(&loader->ring);
        while (slot->state != SLOT_FREE && !loader->stop)
            pthread_cond_wait(&loader->slot_free, &loader->ring);
        if (loader->stop)
            slot = NULL;
        else
            slot->state = SLOT_FILLING;
        pthread_mutex_unlock(&loader->ring);
    }
    if (slot) {
        int64_t batch = loader->options.batch;
        slot->epoch = loader->next / loader->batches_per_epoch;
        int64_t first = loader->next % loader->batches_per_epoch * batch;
        slot->order_rc = 0;
        if (slot->epoch != loader->perm_epoch) {
            slot->order_rc =
                ff_sample_order(loader->perm, loader->count, loader->options.seed,
                                slot->epoch, loader->options.shuffle_block, &slot->err);
            loader->perm_epoch = slot->order_rc ? -1 : slot->epoch;
            announce(loader, first, first + window_samples(loader));
        }
        if (!slot->order_rc)
            memcpy(slot->sample, loader->perm + first,
                   (size_t)batch * sizeof *slot->sample);
        first += window_samples(loader);
        announce(loader, first, first + batch);
        loader->next++;
    }
    pthread_mutex_unlock(&loader->order);
    return slot;
}

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct ff_loader *loader = worker->loader;
    for (struct slot *slot; (slot = take(loader));) {
        fill_slot(slot, worker);
        pthread_mutex_lock(&loader->ring);
        slot->state = SLOT_READY;
        pthread_cond_signal(&loader->slot_ready);
        pthread_mutex_unlock(&loader->ring);
    }
    return NULL;
}

/* ---- life ---- */

int ff_loader_check_size(struct ff_dataset *dataset, int side_px, int64_t max_bad,
                         struct ff_err *err)
{
    struct ff_decoder *decoder = NULL;
    struct ff_image image = {0};
    struct ff_read_buffer buffer = {0};
    int64_t used = 0, count = ff_dataset_count(dataset);
    int rc = ff_decoder_create(&decoder, err);
    if (rc)
        return rc;
    for (; used < count; used++) {
        const uint8_t *bytes;
        size_t size;
        int64_t label;
        rc = ff_dataset_read(&bytes, &size, &label, dataset, used, &buffer, err);
        if (!rc)
            rc = ff_decode(&image, decoder, bytes, size,
                           ff_dataset_applies_exif(dataset), err);
        if (rc != FF_EDATA || used >= max_bad)
            break;
    }
    char where[256];
    if (rc == FF_EDATA) {
        ff_dataset_describe(where, sizeof where, dataset, 0);
        rc = ff_err_set(err, rc, "%s: damaged, and so are the %" PRId64 " after it",
                        where, used < count ? used : count - 1);
    }
    if (!rc && (image.width_px != side_px || image.height_px != side_px)) {
        ff_dataset_describe(where, sizeof where, dataset, used);
        rc = ff_err_set(err, FF_EUSAGE, "%s: images are %d x %d px, image_size is %d",
                        where, image.width_px, image.height_px, side_px);
    }
    ff_image_fini(&image);
    free(buffer.data);
    ff_decoder_destroy(decoder);
    return rc;
}

static int allocate(struct ff_loader *loader, struct ff_err *err)
{
    const struct ff_loader_options *options = &loader->options;
    size_t batch = (size_t)options->batch, side = (size_t)options->image_size_px;
    loader->slot_count = options->workers + SPARE_SLOTS;
    loader->slots = calloc((size_t)loader->slot_count, sizeof *loader->slots);
    loader->workers = calloc((size_t)options->workers, sizeof *loader->workers);
    loader->perm = malloc((size_t)loader->count * sizeof *loader->perm);
    bool good = loader->slots && loader->workers && loader->perm;
    for (int i = 0; good && i < loader->slot_count; i++) {
        struct slot *slot = &loader->slots[i];
        slot->sample = malloc(batch * sizeof *slot->sample);
        slot->pixels = malloc(batch * side * side * 3);
        slot->flip = malloc(batch);
        slot->label = malloc(batch * sizeof *slot->label);
        good = slot->sample && slot->pixels && slot->flip && slot->label;
    }
    if (!good)
        return ff_err_set(err, FF_ENOMEM, "out of memory for %d batches of %zu images",
                          loader->slot_count, batch);
    return 0;
}

/* Signals stay with the threads that were there before: they are the train loop's. */
static int start(struct ff_loader *loader, struct ff_err *err)
{
    sigset_t all, before;
    int rc = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < loader->options.workers && !rc; i++) {
        struct worker *worker = &loader->workers[i];
        worker->loader = loader;
        rc = ff_decoder_create(&worker->decoder, err);
        if (rc)
            break;
        if (pthread_create(&worker->thread, NULL, work, worker) != 0)
            rc = ff_err_set(err, FF_EFAIL, "cannot start loader thread %d of %d", i + 1,
                            loader->options.workers);
        else
            loader->workers_started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

int ff_loader_create(struct ff_loader **out, struct ff_dataset *dataset,
                     const struct ff_loader_options *options, struct ff_err *err)
{
    int64_t count = ff_dataset_count(dataset);
    if (options->batch < 1 || options->workers < 1 || options->image_size_px < 1 ||
        options->first_iteration < 0)
        return ff_err_set(err, FF_EUSAGE,
                          "loader: batch %" PRId64 ", workers %d, image_size %d, first "
                          "iteration %" PRId64 " are not possible",
                          options->batch, options->workers, options->image_size_px,
                          options->first_iteration);
    if (count < options->batch)
        return ff_err_set(err, FF_EUSAGE,
                          "the training set has %" PRId64
                          " images, fewer than one batch "
                          "of %" PRId64,
                          count, options->batch);
    struct ff_loader *loader = calloc(1, sizeof *loader);
    if (!loader)
        return ff_err_set(err, FF_ENOMEM, "out of memory for the loader");
    loader->dataset = dataset;
    loader->options = *options;
    if (loader->options.shuffle_block > count)
        loader->options.shuffle_block = count;
    loader->count = count;
    loader->batches_per_epoch = count / options->batch;
    loader->next = loader->delivered = options->first_iteration;
    loader->perm_epoch = -1;
    loader->bad_samples = options->bad_samples;
    pthread_mutex_init(&loader->order, NULL);
    pthread_mutex_init(&loader->ring, NULL);
    pthread_cond_init(&loader->slot_free, NULL);
    pthread_cond_init(&loader->slot_ready, NULL);
    int rc = ff_loader_check_size(dataset, options->image_size_px,
                                  options->max_bad_samples, err);
    if (!rc)
        rc = allocate(loader, err);
    if (!rc)
        rc = start(loader, err);
    if (rc) {
        ff_loader_destroy(loader);
        return rc;
    }
    *out = loader;
    return 0;
}

void ff_loader_destroy(struct ff_loader *loader)
{
    if (!loader)
        return;
    pthread_mutex_lock(&loader->ring);
    loader->stop = true;
    pthread_cond_broadcast(&loader->slot_free);
    pthread_mutex_unlock(&loader->ring);
    for (int i = 0; i < loader->workers_started; i++)
        pthread_join(loader->workers[i].thread, NULL);
    for (int i = 0; loader->workers && i < loader->options.workers; i++) {
        ff_decoder_destroy(loader->workers[i].decoder);
        free(loader->workers[i].buffer.data);
    }
    for (int i = 0; loader->slots && i < loader->slot_count; i++) {
        free(loader->slots[i].sample);
        free(loader->slots[i].pixels);
        free(loader->slots[i].flip);
        free(loader->slots[i].label);
        free(loader->slots[i].bad);
    }
    pthread_cond_destroy(&loader->slot_ready);
    pthread_cond_destroy(&loader->slot_free);
    pthread_mutex_destroy(&loader->ring);
    pthread_mutex_destroy(&loader->order);
    free(loader->slots);
    free(loader->workers);
    free(loader->perm);
    free(loader);
}

/* ---- the caller's side ---- */

/* Counts and logs the damaged samples of a batch that is about to be handed out. */
static int count_bad(struct ff_loader *loader, const struct slot *slot,
                     struct ff_err *err)
{
    for (int64_t i = 0; i < slot->bad_count; i++) {
        const struct bad_sample *bad = &slot->bad[i];
        char where[256], instead[256];
        ff_dataset_describe(where, sizeof where, loader->dataset, bad->index);
        loader->bad_samples++;
        if (loader->bad_samples > loader->options.max_bad_samples)
            return ff_err_set(
                err, FF_EDATA,
                "%s: damaged (%s): damaged sample %" PRId64 " of the run, "
                "max_bad_samples is %" PRId64,
                where, bad->text, loader->bad_samples, loader->options.max_bad_samples);
        if (bad->used < 0)
            return ff_err_set(err, FF_EDATA,
                              "%s: damaged (%s), and so are the %" PRId64 " after it",
                              where, bad->text, loader->options.max_bad_samples);
        ff_dataset_describe(instead, sizeof instead, loader->dataset, bad->used);
        ff_warn("%s: damaged (%s); %s takes its place", where, bad->text, instead);
    }
    return 0;
}

int ff_loader_next(struct ff_batch *batch, struct ff_loader *loader, struct ff_err *err)
{
    if (loader->failure.code) {
        if (err)
            *err = loader->failure;
        return loader->failure.code;
    }
    if (loader->delivered >= loader->options.iterations)
        return ff_err_set(err, FF_EUSAGE,
                          "loader: all %" PRId64 " batches are delivered",
                          loader->options.iterations);
    struct slot *slot = &loader->slots[loader->delivered % loader->slot_count];
    pthread_mutex_lock(&loader->ring);
    if (loader->lent) {
        loader->lent->state = SLOT_FREE;
        loader->lent = NULL;
        pthread_cond_signal(&loader->slot_free);
    }
    if (slot->state != SLOT_READY) {
        double start_s = ff_now();
        while (slot->state != SLOT_READY)
            pthread_cond_wait(&loader->slot_ready, &loader->ring);
        loader->wait_seconds += ff_now() - start_s;
    }
    slot->state = SLOT_LENT;
    loader->lent = slot;
    pthread_mutex_unlock(&loader->ring);
    if (slot->rc)
        loader->failure = slot->err;
    else
        count_bad(loader, slot, &loader->failure);
    if (loader->failure.code) {
        if (err)
            *err = loader->failure;
        return loader->failure.code;
    }
    loader->delivered++;
    *batch = (struct ff_batch){slot->pixels, slot->flip, slot->label};
    return 0;
}

double ff_loader_wait_seconds(const struct ff_loader *loader)
{
    return loader->wait_seconds;
}

int64_t ff_loader_bad_samples(const struct ff_loader *loader)
{
    return loader->bad_samples;
}
