/* SPDX-License-Identifier: MIT */
/* Scores of pair files; see pair_score.h.
 *
 * The two images of a pair lie next to each other, so a block of an even number of
 * images holds whole pairs and no embedding outlives its block. */
#include "pair_score.h"

#include <assert.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

#include "image.h"
#include "log.h"
#include "process.h"

struct block {
    int images, threads, side_px, dim; /* images: even */
    struct ff_decoder **decoder;       /* (threads) */
    uint8_t *pixels;                   /* (images, side, side, 3) u8 */
    uint8_t *flip;                     /* (images) ones */
    float *embedding;                  /* (2, images, D) f32: as it is, mirrored */
    int *rc;                           /* (images) */
    struct ff_err *error;              /* (images) */
};

static void block_fini(struct block *b)
{
    for (int i = 0; b->decoder && i < b->threads; i++)
        ff_decoder_destroy(b->decoder[i]);
    free(b->error);
    free(b->rc);
    free(b->embedding);
    free(b->flip);
    free(b->pixels);
    free(b->decoder);
}

/* dim 0: decodes only. */
static int block_init(struct block *b, int images, int side_px, int dim, int threads,
                      struct ff_err *err)
{
    size_t n = (size_t)images, side = (size_t)side_px;
    *b = (struct block){images, threads, side_px, dim,  NULL,
                        NULL,   NULL,    NULL,    NULL, NULL};
    b->decoder = calloc((size_t)threads, sizeof(struct ff_decoder *));
    b->pixels = malloc(n * side * side * 3);
    b->flip = malloc(n);
    b->embedding = malloc(2 * n * (size_t)(dim ? dim : 1) * sizeof *b->embedding);
    b->rc = malloc(n * sizeof *b->rc);
    b->error = malloc(n * sizeof *b->error);
    int rc = 0;
    if (!b->decoder || !b->pixels || !b->flip || !b->embedding || !b->rc || !b->error)
        rc = ff_err_set(err, FF_ENOMEM, "no memory for a batch of %d", images);
    for (int i = 0; i < threads && !rc; i++)
        rc = ff_decoder_create(&b->decoder[i], err);
    if (rc)
        block_fini(b);
    else
        memset(b->flip, 1, n);
    return rc;
}

/* Decodes images first .. first + count - 1; the first bad one is named. */
static int load_block(struct block *b, const struct ff_bin_pairs *pairs, int64_t first,
                      int count, struct ff_err *err)
{
    size_t bytes = 3 * (size_t)b->side_px * (size_t)b->side_px;
#pragma omp parallel for num_threads(b->threads) schedule(dynamic, 1)
    for (int i = 0; i < count; i++) {
        const struct ff_bin_image *image = &pairs->image[first + i];
        b->error[i].text[0] = 0;
        b->rc[i] = ff_decode_square(b->pixels + (size_t)i * bytes, b->side_px,
                                    b->decoder[omp_get_thread_num()], image->bytes,
                                    image->size, false, &b->error[i]);
    }
    for (int i = 0; i < count; i++)
        if (b->rc[i])
            return ff_err_set(err, b->rc[i], "%.500s: image %lld: %.400s", pairs->name,
                              (long long)(first + i), b->error[i].text);
    return 0;
}

int ff_pair_check(const struct ff_bin_pairs *pairs, int side_px, int threads,
                  struct ff_err *err)
{
    struct block b;
    if (pairs->pairs < FF_PAIR_FOLDS)
        return ff_err_set(err, FF_EDATA, "%s: %lld pairs are too few for %d folds",
                          pairs->name, (long long)pairs->pairs, FF_PAIR_FOLDS);
    int rc = block_init(&b, 64, side_px, 0, threads, err);
    if (rc)
        return rc;
    int64_t images = 2 * pairs->pairs;
    for (int64_t at = 0; !rc && at < images; at += b.images)
        rc = load_block(&b, pairs, at,
                        images - at < b.images ? (int)(images - at) : b.images, err);
    block_fini(&b);
    return rc;
}

static int embed_block(struct block *b, struct ff_embedder *embedder, int count,
                       struct ff_err *err)
{
    float *mirrored = b->embedding + (size_t)b->images * (size_t)b->dim;
    int rc = ff_embedder_run(b->embedding, embedder, b->pixels, NULL, count, err);
    return rc ? rc
              : ff_embedder_run(mirrored, embedder, b->pixels, b->flip, count, err);
}

static void show_progress(const char *name, int64_t done, int64_t total, double start)
{
    double seconds = ff_now() - start;
    double speed = seconds > 0 ? (double)done / seconds : 0;
    char left[32];
    ff_progress(done == total, "%s: %lld / %lld images, %.1f images/s, %s left", name,
                (long long)done, (long long)total, speed,
                ff_duration(left, speed > 0 ? (double)(total - done) / speed : 0));
}

int ff_pair_distances(double *distance, struct ff_embedder *embedder,
                      const struct ff_bin_pairs *pairs, int64_t limit, int threads,
                      const char *progress, struct ff_err *err)
{
    struct block b;
    int batch = ff_embedder_batch(embedder);
    assert(batch >= 2);
    int rc = block_init(&b, batch & ~1, ff_embedder_image_size(embedder),
                        ff_embedder_dim(embedder), threads, err);
    if (rc)
        return rc;
    double start = ff_now();
    int64_t images = 2 * (limit > 0 && limit < pairs->pairs ? limit : pairs->pairs);
    for (int64_t at = 0; at < images; at += b.images) {
        int count = images - at < b.images ? (int)(images - at) : b.images;
        if (ff_stop_requested())
            rc = ff_err_set(err, FF_ESTOPPED, "stopped while scoring %s", pairs->name);
        if (!rc)
            rc = load_block(&b, pairs, at, count, err);
        if (!rc)
            rc = embed_block(&b, embedder, count, err);
        if (rc)
            break;
        size_t dim = (size_t)b.dim;
        const float *plain = b.embedding, *flipped = plain + (size_t)b.images * dim;
        for (size_t i = 0; i < (size_t)count; i += 2)
            distance[((size_t)at + i) / 2] =
                ff_pair_distance(plain + i * dim, flipped + i * dim,
                                 plain + (i + 1) * dim, flipped + (i + 1) * dim, b.dim);
        if (progress)
            show_progress(progress, at + count, images, start);
    }
    block_fini(&b);
    return rc;
}

int ff_pair_score(struct ff_pair_accuracy *out, struct ff_embedder *embedder,
                  const struct ff_bin_pairs *pairs, int threads, const char *progress,
                  struct ff_err *err)
{
    double *distance = malloc((size_t)pairs->pairs * sizeof *distance);
    struct ff_err inner = FF_ERR_INIT;
    if (!distance)
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld distances",
                          (long long)pairs->pairs);
    int rc = ff_pair_distances(distance, embedder, pairs, 0, threads, progress, err);
    if (!rc &&
        (rc = ff_pair_accuracy(out, distance, pairs->same, pairs->pairs, &inner)))
        ff_err_set(err, rc, "%.500s: %.400s", pairs->name, inner.text);
    free(distance);
    return rc;
}
