/* SPDX-License-Identifier: MIT */
/* ff-data pack: a folder of identities into RecordIO.
 *
 * Files go in as they are: only their headers and ends are looked at, so that nothing
 * cut short or of another size goes in (--verify decodes them too). With a list of
 * landmarks each image is decoded, aligned and encoded anew. Folders ignore EXIF
 * orientation and RecordIO follows it: a stored orientation is set to 1, so that both
 * show the same pixels.
 *
 * Worker threads take chunks of consecutive images in turn and fill a ring of slots;
 * the main thread writes the slots in the order of the images, so that the output does
 * not depend on the threads, and the first damaged image is the one that is named. */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "align.h"
#include "cli.h"
#include "data_cmd.h"
#include "dataset_priv.h"
#include "exif.h"
#include "hash.h"
#include "image.h"
#include "image_header.h"
#include "landmarks.h"
#include "log.h"
#include "params.h"
#include "process.h"

enum {
    CHUNK_IMAGES = 64,        /* small enough that a stop is soon heard */
    CHECKPOINT_IMAGES = 4096, /* a killed pack does at most so many again */
    SPARE_SLOTS = 4,          /* beside the chunk each worker fills */
    ALIGNED_SIDE_PX = 112,    /* without --size */
    PACK_BYTES_VERSION = 1    /* raised when the same input gives other bytes */
};

struct options {
    const char *root, *out, *landmarks;
    int64_t size_px, quality, threads;
    bool verify;
};

struct chunk {
    bool ready;
    int count;
    struct {
        int64_t label;
        size_t at, bytes; /* in data */
    } images[CHUNK_IMAGES];
    uint8_t *data;
    size_t used, capacity;
    int rc; /* why image number `count` could not be taken */
    struct ff_err err;
};

struct worker {
    pthread_t thread;
    struct pack *pack;
    struct ff_decoder *decoder;
    struct ff_read_buffer buffer;
    struct ff_image image, crop;
};

struct pack {
    const struct options *options;
    struct ff_dataset *dataset;
    struct ff_landmarks *landmarks; /* (count), or NULL */
    struct ff_rec_writer *writer;
    int width, height;    /* px that every packed image has */
    int64_t count, first; /* images; those of an earlier process */

    pthread_mutex_t lock;
    pthread_cond_t slot_free, slot_ready;
    struct chunk *slots; /* (slot_count); chunk k lies in slot k mod slot_count */
    int64_t slot_count;
    int64_t taken, written, chunks; /* chunks */
    bool stop;
    struct worker *workers; /* (threads) */
    int started;
};

/* ---- one image ---- */

/* "<root>/<image>: <text>" */
static int name_image(struct ff_err *err, const struct pack *pack, int64_t index,
                      int rc, const char *text)
{
    char where[512];
    ff_dataset_describe(where, sizeof where, pack->dataset, index);
    return ff_err_set(err, rc, "%.300s/%s: %.200s", pack->options->root, where, text);
}

static int append(struct chunk *chunk, int64_t label, const void *bytes, size_t count,
                  struct ff_err *err)
{
    if (count > chunk->capacity - chunk->used) {
        size_t capacity = 2 * chunk->capacity + count;
        uint8_t *grown = realloc(chunk->data, capacity);
        if (!grown)
            return ff_err_set(err, FF_ENOMEM, "out of memory to pack %zu bytes",
                              capacity);
        chunk->data = grown;
        chunk->capacity = capacity;
    }
    memcpy(chunk->data + chunk->used, bytes, count);
    chunk->images[chunk->count].label = label;
    chunk->images[chunk->count].at = chunk->used;
    chunk->images[chunk->count].bytes = count;
    chunk->used += count;
    chunk->count++;
    return 0;
}

static int check_size(const struct pack *pack, int64_t index, int width, int height,
                      struct ff_err *err)
{
    char text[128];
    if (width == pack->width && height == pack->height)
        return 0;
    snprintf(text, sizeof text, "%d x %d px, %d x %d expected", width, height,
             pack->width, pack->height);
    return name_image(err, pack, index, index == 0 ? FF_EUSAGE : FF_EDATA, text);
}

/* The file's bytes, its end and size checked. */
static int take_as_is(struct chunk *chunk, struct worker *worker, int64_t index,
                      int64_t label, size_t size, struct ff_err *err)
{
    const struct pack *pack = worker->pack;
    struct ff_err cause = FF_ERR_INIT;
    struct ff_image_header header;
    uint8_t *bytes = worker->buffer.data;
    int rc = ff_image_header(&header, bytes, size, &cause);
    if (!rc && header.components == 4)
        rc =
            ff_err_set(&cause, FF_EDATA, "JPEG in CMYK colours; RGB or grey is needed");
    if (rc)
        return name_image(err, pack, index, rc, cause.text);
    rc = check_size(pack, index, header.width_px, header.height_px, err);
    if (rc)
        return rc;
    ff_exif_reset_orientation(bytes, size);
    if (pack->options->verify) {
        rc = ff_decode(&worker->image, worker->decoder, bytes, size, false, &cause);
        if (rc)
            return name_image(err, pack, index, rc, cause.text);
    }
    return append(chunk, label, bytes, size, err);
}

static int take_aligned(struct chunk *chunk, struct worker *worker, int64_t index,
                        int64_t label, size_t size, struct ff_err *err)
{
    const struct pack *pack = worker->pack;
    struct ff_err cause = FF_ERR_INIT;
    uint8_t *jpeg = NULL;
    size_t jpeg_bytes;
    int rc = ff_decode(&worker->image, worker->decoder, worker->buffer.data, size,
                       false, &cause);
    if (!rc)
        rc = ff_align_face(worker->crop.rgb, pack->width, &worker->image,
                           pack->landmarks[index].point, &cause);
    if (!rc)
        rc = ff_encode_jpeg(&jpeg, &jpeg_bytes, &worker->crop,
                            (int)pack->options->quality, true, &cause);
    if (rc)
        return name_image(err, pack, index, rc, cause.text);
    rc = append(chunk, label, jpeg, jpeg_bytes, err);
    free(jpeg);
    return rc;
}

static void fill(struct chunk *chunk, struct worker *worker, int64_t number)
{
    const struct pack *pack = worker->pack;
    int64_t first = pack->first + number * CHUNK_IMAGES;
    int64_t end =
        first + CHUNK_IMAGES < pack->count ? first + CHUNK_IMAGES : pack->count;
    chunk->count = 0;
    chunk->used = 0;
    chunk->rc = 0;
    for (int64_t i = first; i < end && !chunk->rc; i++) {
        const uint8_t *bytes;
        size_t size;
        int64_t label;
        chunk->rc = ff_dataset_read(&bytes, &size, &label, pack->dataset, i,
                                    &worker->buffer, &chunk->err);
        if (!chunk->rc)
            chunk->rc = pack->landmarks
                            ? take_aligned(chunk, worker, i, label, size, &chunk->err)
                            : take_as_is(chunk, worker, i, label, size, &chunk->err);
    }
}

/* ---- threads ---- */

static void *work(void *argument)
{
    struct worker *worker = argument;
    struct pack *pack = worker->pack;
    pthread_mutex_lock(&pack->lock);
    while (!pack->stop && pack->taken < pack->chunks) {
        if (pack->taken - pack->written >= pack->slot_count) {
            pthread_cond_wait(&pack->slot_free, &pack->lock);
            continue;
        }
        int64_t number = pack->taken++;
        struct chunk *chunk = &pack->slots[number % pack->slot_count];
        pthread_mutex_unlock(&pack->lock);
        fill(chunk, worker, number);
        pthread_mutex_lock(&pack->lock);
        chunk->ready = true;
        pthread_cond_signal(&pack->slot_ready);
    }
    pthread_mutex_unlock(&pack->lock);
    return NULL;
}

/* Signals stay with the main thread. */
static int start(struct pack *pack, struct ff_err *err)
{
    int64_t threads = pack->options->threads;
    size_t side = (size_t)pack->width;
    sigset_t all, before;
    pack->slot_count = threads + SPARE_SLOTS;
    pack->slots = calloc((size_t)pack->slot_count, sizeof *pack->slots);
    pack->workers = calloc((size_t)threads, sizeof *pack->workers);
    if (!pack->slots || !pack->workers)
        return ff_err_set(err, FF_ENOMEM, "out of memory for %" PRId64 " threads",
                          threads);
    int rc = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int64_t i = 0; i < threads && !rc; i++) {
        struct worker *worker = &pack->workers[i];
        worker->pack = pack;
        rc = ff_decoder_create(&worker->decoder, err);
        if (!rc && pack->landmarks) {
            worker->crop =
                (struct ff_image){pack->width, pack->height, malloc(side * side * 3)};
            if (!worker->crop.rgb)
                rc = ff_err_set(err, FF_ENOMEM, "out of memory for a crop");
        }
        if (!rc && pthread_create(&worker->thread, NULL, work, worker) != 0)
            rc =
                ff_err_set(err, FF_EFAIL, "cannot start thread %" PRId64 " of %" PRId64,
                           i + 1, threads);
        pack->started += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void finish_threads(struct pack *pack)
{
    pthread_mutex_lock(&pack->lock);
    pack->stop = true;
    pthread_cond_broadcast(&pack->slot_free);
    pthread_mutex_unlock(&pack->lock);
    for (int i = 0; i < pack->started; i++)
        pthread_join(pack->workers[i].thread, NULL);
    for (int64_t i = 0; pack->workers && i < pack->options->threads; i++) {
        struct worker *worker = &pack->workers[i];
        ff_decoder_destroy(worker->decoder);
        free(worker->buffer.data);
        ff_image_fini(&worker->image);
        ff_image_fini(&worker->crop);
    }
    for (int64_t i = 0; pack->slots && i < pack->slot_count; i++)
        free(pack->slots[i].data);
    free(pack->workers);
    free(pack->slots);
}

/* ---- the whole folder ---- */

static void show_progress(const struct pack *pack, int64_t done, double started)
{
    char left[32];
    double seconds = ff_now() - started;
    double rate = (double)(done - pack->first) / (seconds > 1e-9 ? seconds : 1e-9);
    ff_duration(left, (double)(pack->count - done) / rate);
    ff_progress(done == pack->count,
                "packed %" PRId64 " of %" PRId64 " images  %.0f images/s  ETA %s", done,
                pack->count, rate, left);
}

/* Writes chunk after chunk as they become ready. */
static int write_chunks(struct pack *pack, struct ff_err *err)
{
    double started = ff_now();
    int64_t done = pack->first, noted = done;
    for (int64_t number = 0; number < pack->chunks; number++) {
        struct chunk *chunk = &pack->slots[number % pack->slot_count];
        if (ff_stop_requested()) {
            int rc = ff_rec_writer_checkpoint(pack->writer, err);
            return rc ? rc
                      : ff_err_set(err, FF_ESTOPPED,
                                   "stopped after %" PRId64 " of %" PRId64
                                   " images; the same command goes on",
                                   done, pack->count);
        }
        pthread_mutex_lock(&pack->lock);
        while (!chunk->ready)
            pthread_cond_wait(&pack->slot_ready, &pack->lock);
        pthread_mutex_unlock(&pack->lock);
        for (int i = 0; i < chunk->count; i++) {
            int rc = ff_rec_writer_add(pack->writer, chunk->images[i].label,
                                       chunk->data + chunk->images[i].at,
                                       chunk->images[i].bytes, err);
            if (rc)
                return rc;
        }
        done += chunk->count;
        if (chunk->rc) {
            *err = chunk->err;
            return chunk->rc;
        }
        pthread_mutex_lock(&pack->lock);
        chunk->ready = false;
        pack->written++;
        pthread_cond_signal(&pack->slot_free);
        pthread_mutex_unlock(&pack->lock);
        show_progress(pack, done, started);
        if (done - noted >= CHECKPOINT_IMAGES) {
            int rc = ff_rec_writer_checkpoint(pack->writer, err);
            if (rc)
                return rc;
            noted = done;
        }
    }
    return 0;
}

/* px that every image must have: --size, or what the first image has. */
static int choose_size(struct pack *pack, struct ff_err *err)
{
    struct ff_read_buffer buffer = {0};
    struct ff_err cause = FF_ERR_INIT;
    struct ff_image_header header;
    const uint8_t *bytes;
    size_t size;
    int64_t label;
    int64_t side = pack->options->size_px;
    if (pack->landmarks && !side)
        side = ALIGNED_SIDE_PX;
    pack->width = pack->height = (int)side;
    if (side)
        return 0;
    int rc = ff_dataset_read(&bytes, &size, &label, pack->dataset, 0, &buffer, err);
    if (!rc) {
        rc = ff_image_size(&header, bytes, size, &cause);
        if (rc)
            name_image(err, pack, 0, rc, cause.text);
        pack->width = header.width_px;
        pack->height = header.height_px;
    }
    free(buffer.data);
    return rc;
}

/* Everything that decides the bytes of the output. */
static int make_key(char key[FF_SHA256_HEX], const struct pack *pack,
                    struct ff_err *err)
{
    char stamp[FF_SHA256_HEX], list[FF_SHA256_HEX] = "none", text[512];
    const struct options *o = pack->options;
    int rc = ff_folder_stamp(stamp, pack->dataset->folder, err);
    if (rc)
        return rc;
    if (pack->landmarks)
        ff_sha256(list, pack->landmarks, (size_t)pack->count * sizeof *pack->landmarks);
    int length = snprintf(text, sizeof text,
                          "version %d\nfiles %s\nsize %d x %d\nlandmarks %s\n"
                          "quality %" PRId64 "\n",
                          PACK_BYTES_VERSION, stamp, pack->width, pack->height, list,
                          o->landmarks ? o->quality : 0);
    ff_sha256(key, text, (size_t)length);
    return 0;
}

static int pack_folder(struct pack *pack, struct ff_err *err)
{
    const struct options *o = pack->options;
    char key[FF_SHA256_HEX];
    int rc = ff_dataset_open(&pack->dataset, o->root, err);
    if (!rc && pack->dataset->rec)
        rc = ff_err_set(err, FF_EUSAGE, "%s holds a train.rec already", o->root);
    if (!rc)
        rc = ff_folder_refresh(pack->dataset->folder, err);
    if (!rc && o->landmarks)
        rc = ff_landmarks_load(&pack->landmarks, o->landmarks, pack->dataset, err);
    if (rc)
        return rc;
    pack->count = ff_dataset_count(pack->dataset);
    rc = choose_size(pack, err);
    if (!rc)
        rc = make_key(key, pack, err);
    if (!rc)
        rc = ff_rec_writer_resume(&pack->writer, &pack->first, o->out, pack->width,
                                  pack->height, key, err);
    if (rc)
        return rc;
    if (pack->first)
        ff_info("%s: goes on behind the %" PRId64 " images packed before", o->out,
                pack->first);
    pack->chunks = (pack->count - pack->first + CHUNK_IMAGES - 1) / CHUNK_IMAGES;
    rc = start(pack, err);
    if (!rc)
        rc = write_chunks(pack, err);
    if (!rc)
        rc = ff_rec_writer_finish(pack->writer, err);
    if (rc == FF_EDATA || rc == FF_EUSAGE) /* going on would lead there again */
        ff_rec_writer_discard(pack->writer);
    if (!rc)
        printf("images: %" PRId64 "\nclasses: %" PRId64 "\n", pack->count,
               ff_dataset_classes(pack->dataset));
    return rc;
}

static int run(const struct options *options, struct ff_err *err)
{
    struct pack pack = {.options = options};
    pthread_mutex_init(&pack.lock, NULL);
    pthread_cond_init(&pack.slot_free, NULL);
    pthread_cond_init(&pack.slot_ready, NULL);
    ff_stop_install();
    int rc = pack_folder(&pack, err);
    if (rc == FF_EFAIL && ff_stop_requested()) /* a read that the signal ended */
        rc = ff_err_set(err, FF_ESTOPPED, "stopped");
    finish_threads(&pack);
    ff_rec_writer_destroy(pack.writer);
    free(pack.landmarks);
    ff_dataset_close(pack.dataset);
    pthread_cond_destroy(&pack.slot_ready);
    pthread_cond_destroy(&pack.slot_free);
    pthread_mutex_destroy(&pack.lock);
    return rc;
}

int ff_cmd_pack(int argc, char **argv)
{
    struct options o = {.quality = -1};
    const struct ff_opt options[] = {
        {"--out", "DIR", FF_OPT_TEXT, &o.out,
         "folder for train.rec, train.idx and property", 0, 0},
        {"--size", "N", FF_OPT_I64, &o.size_px,
         "side in pixels that every image must have, or is aligned to; default: the "
         "first image's size, 112 with --landmarks",
         1, 4096},
        {"--landmarks", "FILE", FF_OPT_TEXT, &o.landmarks,
         "align the faces by lines \"path x1 y1 .. x5 y5\" (eyes, nose, mouth corners; "
         "pixels of the picture as stored), paths relative to DIR",
         0, 0},
        {"--quality", "Q", FF_OPT_I64, &o.quality,
         "JPEG quality of aligned faces; default 95", 1, 100},
        {"--verify", NULL, FF_OPT_FLAG, &o.verify,
         "decode every image, not just its header and end", 0, 0},
        {"--threads", "N", FF_OPT_I64, &o.threads,
         "threads that read and encode; default: all CPUs", 1, 1024},
    };
    const struct ff_cli cli = {
        .program = "ff-data pack",
        .synopsis = "DIR --out DIR [--size N] [--landmarks FILE [--quality Q]] "
                    "[--verify] [--threads N]",
        .summary =
            "Packs a folder of identities into RecordIO in the insightface layout: "
            "files as they are, or aligned by a list of landmarks. Ctrl-C stops it "
            "(exit code 4); after that, or after a crash, the same command goes on "
            "where it was.",
        .examples = "ff-data pack faces --out data/train --size 112\n"
                    "ff-data pack photos --out data/train --landmarks points.txt",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    struct ff_err err = FF_ERR_INIT;
    int words;
    int rc = ff_cli_parse(&words, &cli, argc, argv, &err);
    if (rc > 0)
        return 0;
    if (!rc && words != 1)
        rc = ff_err_set(&err, FF_EUSAGE, "pack takes one folder, %d given", words);
    if (!rc && !o.out)
        rc = ff_err_set(&err, FF_EUSAGE, "pack needs --out DIR");
    if (!rc && o.quality >= 0 && !o.landmarks)
        rc = ff_err_set(&err, FF_EUSAGE,
                        "--quality is of aligned faces: give --landmarks too");
    if (!rc)
        rc = ff_cli_check_input("--landmarks", o.landmarks, &err);
    if (!rc) {
        o.root = argv[1];
        o.quality = o.quality >= 0 ? o.quality : 95;
        o.threads = o.threads ? o.threads : ff_cpu_count();
        rc = run(&o, &err);
    }
    if (rc)
        ff_error("%s", err.text);
    return ff_err_exit_code(rc);
}
