/* SPDX-License-Identifier: MIT */
/* Embedding of an evaluation set; see embed.h.
 *
 * A block is decoded and aligned by all threads (a decoder each), then pushed through
 * the network twice, as it is and mirrored. A picture's row depends on nothing but the
 * picture: blocks only bound memory. */
#include "embed.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "align.h"
#include "atomic_file.h"
#include "image.h"
#include "log.h"

struct block {
    int batch, threads, side_px, dim;
    size_t picture_bytes;
    struct ff_decoder **decoder; /* (threads) */
    struct ff_image *image;      /* (threads) reused by the decoders */
    uint8_t *pixels;             /* (batch, side, side, 3) u8 */
    uint8_t *flip;               /* (2 * batch): zeros, then ones */
    float *embedding;            /* (batch, D) f32 */
    float *rows;                 /* (batch, 2 * D) f32 */
    int *rc;                     /* (batch) result of each picture */
    struct ff_err *error;        /* (batch) */
};

static void block_fini(struct block *b)
{
    for (int i = 0; i < b->threads; i++) {
        if (b->decoder)
            ff_decoder_destroy(b->decoder[i]);
        if (b->image)
            ff_image_fini(&b->image[i]);
    }
    free(b->error);
    free(b->rc);
    free(b->rows);
    free(b->embedding);
    free(b->flip);
    free(b->pixels);
    free(b->image);
    free(b->decoder);
}

static int block_init(struct block *b, const struct ff_embedder *embedder, int batch,
                      int threads, struct ff_err *err)
{
    size_t n = (size_t)batch;
    *b = (struct block){.batch = batch, .threads = threads};
    b->side_px = ff_embedder_image_size(embedder);
    b->dim = ff_embedder_dim(embedder);
    b->picture_bytes = 3 * (size_t)b->side_px * (size_t)b->side_px;
    b->decoder = calloc((size_t)threads, sizeof(struct ff_decoder *));
    b->image = calloc((size_t)threads, sizeof *b->image);
    b->pixels = malloc(n * b->picture_bytes);
    b->flip = calloc(2 * n, 1);
    b->embedding = malloc(n * (size_t)b->dim * sizeof *b->embedding);
    b->rows = malloc(n * 2 * (size_t)b->dim * sizeof *b->rows);
    b->rc = malloc(n * sizeof *b->rc);
    b->error = malloc(n * sizeof *b->error);
    int rc = 0;
    if (!b->decoder || !b->image || !b->pixels || !b->flip || !b->embedding ||
        !b->rows || !b->rc || !b->error)
        rc = ff_err_set(err, FF_ENOMEM, "no memory for a batch of %d", batch);
    for (int i = 0; i < threads && !rc; i++)
        rc = ff_decoder_create(&b->decoder[i], err);
    if (rc) {
        block_fini(b);
        return rc;
    }
    memset(b->flip + n, 1, n);
    return 0;
}

/* Puts the path in front of a lower error's text. */
static int with_path(struct ff_err *err, int rc, const char *path)
{
    char text[sizeof err->text];
    memcpy(text, err->text, sizeof text);
    return ff_err_set(err, rc, "%s: %.*s", path, (int)(sizeof text / 2), text);
}

static int load_picture(uint8_t *dst, struct block *b, int thread, const char *root,
                        const struct ff_ijb_image *face, struct ff_err *err)
{
    char path[FF_PATH_MAX], *bytes = NULL;
    size_t size;
    int rc = ff_path(path, err, "%s/loose_crop/%s", root, face->name);
    if (rc)
        return rc;
    rc = ff_read_file(&bytes, &size, path, err);
    if (rc)
        return rc == FF_EFAIL ? FF_EDATA : rc;
    rc = ff_decode(&b->image[thread], b->decoder[thread], bytes, size, true, err);
    if (!rc)
        rc = ff_align_face(dst, b->side_px, &b->image[thread], face->point, err);
    if (rc)
        rc = with_path(err, rc, path);
    free(bytes);
    return rc;
}

/* Fills pixels of images first .. first + count - 1; pictures that cannot be had are
 * black and have rc set. */
static void load_block(struct block *b, int64_t first, int count,
                       const struct ff_ijb_meta *meta, const char *root)
{
#pragma omp parallel for num_threads(b->threads) schedule(dynamic, 1)
    for (int i = 0; i < count; i++) {
        uint8_t *dst = b->pixels + (size_t)i * b->picture_bytes;
        b->error[i].text[0] = 0;
        b->rc[i] = load_picture(dst, b, omp_get_thread_num(), root,
                                &meta->image[first + i], &b->error[i]);
        if (b->rc[i])
            memset(dst, 0, b->picture_bytes);
    }
}

static int run_network(struct block *b, struct ff_embedder *embedder, int count,
                       bool flip, struct ff_err *err)
{
    size_t dim = (size_t)b->dim;
    memset(b->rows, 0, (size_t)count * 2 * dim * sizeof *b->rows);
    for (int half = 0; half <= (flip ? 1 : 0); half++) {
        int rc = ff_embedder_run(b->embedding, embedder, b->pixels,
                                 b->flip + (size_t)half * (size_t)b->batch, count, err);
        if (rc)
            return rc;
        for (size_t i = 0; i < (size_t)count; i++) {
            if (!b->rc[i])
                memcpy(b->rows + (2 * i + (size_t)half) * dim, b->embedding + i * dim,
                       dim * sizeof *b->rows);
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
    struct block b;
    *missing = 0;
    int rc = block_init(&b, embedder, options->batch, options->threads, err);
    if (rc)
        return rc;
    double start = ff_now();
    for (int64_t at = first; at < meta->image_count; at += b.batch) {
        int64_t left = meta->image_count - at;
        int count = left < b.batch ? (int)left : b.batch;
        load_block(&b, at, count, meta, options->root);
        for (int i = 0; i < count; i++) {
            bool no_picture = b.rc[i] == FF_EDATA;
            if (b.rc[i] && !(no_picture && options->allow_missing)) {
                rc = ff_err_set(err, b.rc[i], "%.900s", b.error[i].text);
                goto done;
            }
            if (no_picture)
                ff_verbose("no picture: %s", b.error[i].text);
            *missing += no_picture;
        }
        rc = run_network(&b, embedder, count, options->flip, err);
        if (!rc && features)
            memcpy(features + (size_t)at * 2 * (size_t)b.dim, b.rows,
                   (size_t)count * 2 * (size_t)b.dim * sizeof *features);
        else if (!rc)
            rc = ff_features_append(writer, b.rows, at, count, err);
        if (rc)
            goto done;
        show_progress(at + count, first, meta->image_count, start);
    }
done:
    block_fini(&b);
    return rc;
}
