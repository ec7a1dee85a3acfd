/* SPDX-License-Identifier: MIT */
/* Embedding of an evaluation set; see embed.h.
 *
 * The images go by in blocks of `batch`. Workers, a decoder each, claim one picture
 * after the other and fill the next block while the network runs over this one, as it
 * is and mirrored; two blocks take turns, which bounds memory and how far the workers
 * run ahead. With one thread the calling thread does it all by turns. A picture's row
 * depends on nothing but the picture, and blocks are looked at in order: rows, counts
 * and the error reported are the same with any number of threads. */
#include "embed.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "align.h"
#include "atomic_file.h"
#include "image.h"
#include "log.h"

#define BLOCKS 2

/* Aligned pictures on their way to the network. */
struct block {
    uint8_t *pixels;      /* (batch, side, side, 3) u8; black where rc is set */
    int *rc;              /* (batch) result of each picture */
    struct ff_err *error; /* (batch) */
    int left;             /* pictures still to come; under the lock */
};

/* What one worker decodes with. */
struct worker {
    struct stream *stream;
    struct ff_decoder *decoder;
    struct ff_image image; /* reused */
    pthread_t thread;
};

struct stream {
    const struct ff_ijb_meta *meta;
    const char *root;
    int64_t first, end; /* images first .. end - 1 */
    int batch, side_px, dim;
    size_t picture_bytes;
    struct block block[BLOCKS];
    struct worker *worker; /* (workers), at least one */
    int workers, started;  /* started = threads that run */
    uint8_t *flip;         /* (2 * batch): zeros, then ones */
    float *embedding;      /* (batch, D) f32 */
    float *rows;           /* (batch, 2 * D) f32 */

    pthread_mutex_t lock;
    pthread_cond_t loaded, freed; /* a block is whole; one may be filled again */
    int64_t next, limit;          /* image to claim; below limit there is room */
    bool stop;
};

static struct block *block_of(struct stream *s, int64_t image)
{
    return &s->block[(image - s->first) / s->batch % BLOCKS];
}

/* "list:line: path: text": where the picture is named, where it is, what is wrong. */
static int with_place(struct ff_err *err, int rc, const struct ff_ijb_meta *meta,
                      int64_t image, const char *path)
{
    char text[sizeof err->text], place[sizeof err->text] = "";
    memcpy(text, err->text, sizeof text);
    if (meta->points_path)
        snprintf(place, sizeof place, "%s:%lld: ", meta->points_path,
                 (long long)image + 1);
    bool named = !strncmp(text, path, strlen(path));
    return ff_err_set(err, rc, "%.300s%s%s%.400s", place, named ? "" : path,
                      named ? "" : ": ", text);
}

static int load_picture(uint8_t *dst, struct worker *w, int64_t image,
                        struct ff_err *err)
{
    const struct stream *s = w->stream;
    const struct ff_ijb_image *face = &s->meta->image[image];
    char path[FF_PATH_MAX], *bytes = NULL;
    size_t size;
    int rc = ff_path(path, err, "%s/loose_crop/%s", s->root, face->name);
    if (rc)
        return rc;
    rc = ff_read_file(&bytes, &size, path, err);
    if (rc == FF_EFAIL)
        rc = FF_EDATA;
    if (!rc)
        rc = ff_decode(&w->image, w->decoder, bytes, size, true, err);
    if (!rc)
        rc = ff_align_face(dst, s->side_px, &w->image, face->point, err);
    if (rc)
        rc = with_place(err, rc, s->meta, image, path);
    free(bytes);
    return rc;
}

/* Fills the picture's place in its block. */
static void load(struct worker *w, int64_t image)
{
    struct stream *s = w->stream;
    struct block *b = block_of(s, image);
    int i = (int)((image - s->first) % s->batch);
    uint8_t *dst = b->pixels + (size_t)i * s->picture_bytes;
    b->error[i].text[0] = 0;
    b->rc[i] = load_picture(dst, w, image, &b->error[i]);
    if (b->rc[i])
        memset(dst, 0, s->picture_bytes);
}

static void *work(void *argument)
{
    struct worker *w = argument;
    struct stream *s = w->stream;
    pthread_mutex_lock(&s->lock);
    for (;;) {
        while (!s->stop && s->next < s->end && s->next >= s->limit)
            pthread_cond_wait(&s->freed, &s->lock);
        if (s->stop || s->next >= s->end)
            break;
        int64_t image = s->next++;
        pthread_mutex_unlock(&s->lock);
        load(w, image);
        pthread_mutex_lock(&s->lock);
        if (--block_of(s, image)->left == 0)
            pthread_cond_signal(&s->loaded);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

static int pictures_at(const struct stream *s, int64_t at)
{
    return s->end - at < s->batch ? (int)(s->end - at) : s->batch;
}

/* Lets the block that begins at image `at` be filled. */
static void open_block(struct stream *s, int64_t at)
{
    if (at >= s->end)
        return;
    pthread_mutex_lock(&s->lock);
    block_of(s, at)->left = pictures_at(s, at);
    s->limit = at + pictures_at(s, at);
    pthread_cond_broadcast(&s->freed);
    pthread_mutex_unlock(&s->lock);
}

/* The block that begins at image `at`, once it is whole. */
static struct block *take_block(struct stream *s, int64_t at)
{
    struct block *b = block_of(s, at);
    if (!s->started) {
        for (int i = 0; i < pictures_at(s, at); i++)
            load(&s->worker[0], at + i);
        return b;
    }
    pthread_mutex_lock(&s->lock);
    while (b->left)
        pthread_cond_wait(&s->loaded, &s->lock);
    pthread_mutex_unlock(&s->lock);
    return b;
}

static void stream_fini(struct stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->stop = true;
    pthread_cond_broadcast(&s->freed);
    pthread_mutex_unlock(&s->lock);
    for (int k = 0; k < s->started; k++)
        pthread_join(s->worker[k].thread, NULL);
    for (int k = 0; s->worker && k < s->workers; k++) {
        ff_decoder_destroy(s->worker[k].decoder);
        ff_image_fini(&s->worker[k].image);
    }
    for (int k = 0; k < BLOCKS; k++) {
        free(s->block[k].error);
        free(s->block[k].rc);
        free(s->block[k].pixels);
    }
    free(s->rows);
    free(s->embedding);
    free(s->flip);
    free(s->worker);
    pthread_cond_destroy(&s->freed);
    pthread_cond_destroy(&s->loaded);
    pthread_mutex_destroy(&s->lock);
}

static int allocate(struct stream *s, struct ff_err *err)
{
    size_t n = (size_t)s->batch, dim = (size_t)s->dim;
    bool good = true;
    for (int k = 0; k < BLOCKS; k++) {
        struct block *b = &s->block[k];
        b->pixels = malloc(n * s->picture_bytes);
        b->rc = malloc(n * sizeof *b->rc);
        b->error = malloc(n * sizeof *b->error);
        good &= b->pixels && b->rc && b->error;
    }
    s->worker = calloc((size_t)s->workers, sizeof *s->worker);
    s->flip = calloc(2 * n, 1);
    s->embedding = malloc(n * dim * sizeof *s->embedding);
    s->rows = malloc(n * 2 * dim * sizeof *s->rows);
    if (!good || !s->worker || !s->flip || !s->embedding || !s->rows)
        return ff_err_set(err, FF_ENOMEM, "no memory for a batch of %d", s->batch);
    memset(s->flip + n, 1, n);
    int rc = 0;
    for (int k = 0; k < s->workers && !rc; k++) {
        s->worker[k].stream = s;
        rc = ff_decoder_create(&s->worker[k].decoder, err);
    }
    return rc;
}

/* Ended by stream_fini, also after an error. Where no thread can be had, the calling
 * thread decodes. */
static int stream_init(struct stream *s, const struct ff_embedder *embedder,
                       int64_t first, const struct ff_ijb_meta *meta,
                       const struct ff_embed_options *options, struct ff_err *err)
{
    *s = (struct stream){.meta = meta,
                         .root = options->root,
                         .first = first,
                         .end = meta->image_count,
                         .batch = options->batch,
                         .workers = options->threads,
                         .next = first,
                         .limit = first};
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->loaded, NULL);
    pthread_cond_init(&s->freed, NULL);
    s->side_px = ff_embedder_image_size(embedder);
    s->dim = ff_embedder_dim(embedder);
    s->picture_bytes = 3 * (size_t)s->side_px * (size_t)s->side_px;
    int rc = allocate(s, err);
    if (rc)
        return rc;
    for (int k = 0; k < BLOCKS; k++)
        open_block(s, first + (int64_t)k * s->batch);
    while (s->workers > 1 && s->started < s->workers &&
           !pthread_create(&s->worker[s->started].thread, NULL, work,
                           &s->worker[s->started]))
        s->started++;
    return 0;
}

/* Counts pictures that cannot be had, or fails at the first. */
static int look_at(int64_t *missing, const struct block *b, int count,
                   bool allow_missing, struct ff_err *err)
{
    for (int i = 0; i < count; i++) {
        bool no_picture = b->rc[i] == FF_EDATA;
        if (b->rc[i] && !(no_picture && allow_missing))
            return ff_err_set(err, b->rc[i], "%.900s", b->error[i].text);
        if (no_picture)
            ff_verbose("no picture: %s", b->error[i].text);
        *missing += no_picture;
    }
    return 0;
}

static int run_network(struct stream *s, const struct block *b,
                       struct ff_embedder *embedder, int count, bool flip,
                       struct ff_err *err)
{
    size_t dim = (size_t)s->dim;
    memset(s->rows, 0, (size_t)count * 2 * dim * sizeof *s->rows);
    for (int half = 0; half <= (flip ? 1 : 0); half++) {
        int rc = ff_embedder_run(s->embedding, embedder, b->pixels,
                                 s->flip + (size_t)half * (size_t)s->batch, count, err);
        if (rc)
            return rc;
        for (size_t i = 0; i < (size_t)count; i++) {
            if (!b->rc[i])
                memcpy(s->rows + (2 * i + (size_t)half) * dim, s->embedding + i * dim,
                       dim * sizeof *s->rows);
        }
    }
    return 0;
}

static void show_progress(int64_t done, int64_t first, int64_t total, double start)
{
    double seconds = ff_now() - start;
    double speed = seconds > 0 ? (double)(done - first) / seconds : 0;
    char left[32];
    ff_progress(done == total, "embedding %lld / %lld images, %.1f images/s, %s left",
                (long long)done, (long long)total, speed,
                ff_duration(left, speed > 0 ? (double)(total - done) / speed : 0));
}

int ff_embed_images(float *features, struct ff_features_writer *writer,
                    int64_t *missing, struct ff_embedder *embedder, int64_t first,
                    const struct ff_ijb_meta *meta,
                    const struct ff_embed_options *options, struct ff_err *err)
{
    struct stream s;
    *missing = 0;
    int rc = stream_init(&s, embedder, first, meta, options, err);
    double start = ff_now();
    for (int64_t at = first; at < s.end && !rc; at += s.batch) {
        int count = pictures_at(&s, at);
        const struct block *b = take_block(&s, at);
        rc = look_at(missing, b, count, options->allow_missing, err);
        if (!rc)
            rc = run_network(&s, b, embedder, count, options->flip, err);
        if (rc)
            break;
        open_block(&s, at + (int64_t)BLOCKS * s.batch);
        if (features)
            memcpy(features + (size_t)at * 2 * (size_t)s.dim, s.rows,
                   (size_t)count * 2 * (size_t)s.dim * sizeof *features);
        else
            rc = ff_features_append(writer, s.rows, at, count, err);
        if (!rc)
            show_progress(at + count, first, s.end, start);
    }
    stream_fini(&s);
    return rc;
}
