/* SPDX-License-Identifier: MIT */
/* Embedding of a small evaluation set with a small real network. */
#include <unistd.h>

#include "align.h"
#include "embed.h"
#include "image.h"
#include "saved_net_fixture.h"

enum { N = 5, D = 8, SIDE = 16 };
static char folder[64];
static struct ff_ijb_image face[N];
static struct ff_ijb_meta meta = {.image_count = N, .image = face};
static const char *const names[N] = {"0.jpg", "1.jpg", "2.jpg", "3.jpg", "4.jpg"};

static void write_picture(int i)
{
    struct ff_image image = {80, 90, malloc(80 * 90 * 3)};
    char path[FF_PATH_MAX];
    uint8_t *jpeg;
    size_t size;
    for (int k = 0; k < 80 * 90 * 3; k++)
        image.rgb[k] =
            (uint8_t)(128 + 100 * sin(0.01 * (i + 1) * (k / 240) + 0.05 * (k % 240)));
    cr_assert(eq(int, ff_encode_jpeg(&jpeg, &size, &image, 90, false, NULL), 0));
    ff_path(path, NULL, "%s/loose_crop/%s", folder, names[i]);
    FILE *f = fopen(path, "w");
    fwrite(jpeg, 1, size, f);
    fclose(f);
    free(jpeg);
    ff_image_fini(&image);
}

static void setup(void)
{
    struct net net;
    char path[FF_PATH_MAX];
    strcpy(folder, "/tmp/ff_embed_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    ff_path(path, NULL, "%s/loose_crop", folder);
    ff_mkdirs(path, NULL);
    for (int i = 0; i < N; i++) {
        write_picture(i);
        face[i].name = names[i];
        for (int p = 0; p < 5; p++) {
            face[i].point[p][0] = (float)(0.6 * ff_align_template[p][0] + i);
            face[i].point[p][1] = (float)(0.6 * ff_align_template[p][1] + 10);
        }
    }
    save_net(&net, SIDE, D, 1);
    net_close(&net);
}

static void teardown(void)
{
    ff_remove_tree(folder, NULL);
    remove_saved();
}

TestSuite(embed, .init = setup, .fini = teardown);

static int embed_with(float *features, int batch, int threads, bool flip,
                      bool allow_missing, int64_t *missing, struct ff_err *err)
{
    struct ff_embedder *embedder;
    struct ff_embed_options options = {folder, batch, threads, flip, allow_missing};
    int rc = ff_embedder_create(
        &embedder, saved_path, batch,
        &(struct ff_ops_options){.backend = FF_BACKEND_REF, .threads = 1}, err);
    cr_assert(eq(int, rc, 0), "%s", err->text);
    cr_assert(eq(int, ff_embedder_image_size(embedder), SIDE));
    cr_assert(eq(int, ff_embedder_dim(embedder), D));
    rc = ff_embed_images(features, NULL, missing, embedder, 0, &meta, &options, err);
    ff_embedder_destroy(embedder);
    return rc;
}

static int embed(float *features, int batch, bool flip, bool allow_missing,
                 int64_t *missing, struct ff_err *err)
{
    return embed_with(features, batch, 2, flip, allow_missing, missing, err);
}

/* Cosine of the summed halves, as the protocol scores two pictures. */
static double cosine(const float *a, const float *b)
{
    double dot = 0, aa = 0, bb = 0;
    for (int d = 0; d < D; d++) {
        double x = (double)a[d] + (double)a[D + d], y = (double)b[d] + (double)b[D + d];
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    return dot / sqrt(aa * bb);
}

Test(embed, batch_size_does_not_matter)
{
    float one[N][2 * D], other[N][2 * D];
    int64_t missing;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, embed(&one[0][0], 1, true, false, &missing, &err), 0), "%s",
              err.text);
    for (int batch = 2; batch <= 8; batch += 3) {
        cr_assert(eq(int, embed(&other[0][0], batch, true, false, &missing, &err), 0));
        for (int i = 0; i < N * 2 * D; i++)
            cr_assert(epsilon_eq(flt, other[i / (2 * D)][i % (2 * D)],
                                 one[i / (2 * D)][i % (2 * D)], 1e-5f));
        for (int i = 0; i < N; i++)
            for (int j = 0; j < i; j++)
                cr_assert(epsilon_eq(dbl, cosine(other[i], other[j]),
                                     cosine(one[i], one[j]), 1e-5));
    }
    /* Pictures and mirror images differ, so the above compares something. */
    cr_assert(ne(int, memcmp(one[0], one[1], sizeof one[0]), 0));
    cr_assert(ne(int, memcmp(one[0], one[0] + D, sizeof(float) * D), 0));
}

Test(embed, rows_are_the_network_of_the_aligned_picture)
{
    float got[N][2 * D], want[2][D];
    uint8_t crop[SIDE * SIDE * 3], mirrored[SIDE * SIDE * 3];
    char path[FF_PATH_MAX], *bytes;
    size_t size;
    int64_t missing;
    struct ff_image image = {0};
    struct ff_decoder *decoder;
    struct ff_embedder *embedder;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, embed(&got[0][0], 2, true, false, &missing, &err), 0));
    ff_path(path, NULL, "%s/loose_crop/3.jpg", folder);
    cr_assert(eq(int, ff_read_file(&bytes, &size, path, &err), 0));
    cr_assert(eq(int, ff_decoder_create(&decoder, &err), 0));
    cr_assert(eq(int, ff_decode(&image, decoder, bytes, size, true, &err), 0));
    cr_assert(eq(int, ff_align_face(crop, SIDE, &image, face[3].point, &err), 0));
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            memcpy(mirrored + 3 * (SIDE * y + x), crop + 3 * (SIDE * y + SIDE - 1 - x),
                   3);
    cr_assert(
        eq(int,
           ff_embedder_create(
               &embedder, saved_path, 1,
               &(struct ff_ops_options){.backend = FF_BACKEND_REF, .threads = 1}, &err),
           0));
    ff_embedder_run(want[0], embedder, crop, NULL, 1, &err);
    ff_embedder_run(want[1], embedder, mirrored, NULL, 1, &err);
    for (int k = 0; k < 2 * D; k++)
        cr_assert(epsilon_eq(flt, got[3][k], want[k / D][k % D], 1e-5f));
    ff_embedder_destroy(embedder);
    ff_decoder_destroy(decoder);
    ff_image_fini(&image);
    free(bytes);
}

Test(embed, without_flip_the_second_half_is_zero)
{
    float both[N][2 * D], single[N][2 * D];
    static const float zero[D];
    int64_t missing;
    struct ff_err err = FF_ERR_INIT;
    embed(&both[0][0], 4, true, false, &missing, &err);
    embed(&single[0][0], 4, false, false, &missing, &err);
    for (int i = 0; i < N; i++) {
        cr_assert(eq(int, memcmp(both[i], single[i], sizeof(float) * D), 0));
        cr_assert(eq(int, memcmp(single[i] + D, zero, sizeof zero), 0));
    }
}

Test(embed, missing_and_corrupt_pictures_are_named_or_left_zero)
{
    float features[N][2 * D];
    static const float zero[2 * D];
    char path[FF_PATH_MAX];
    int64_t missing;
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/loose_crop/1.jpg", folder);
    unlink(path);
    ff_path(path, NULL, "%s/loose_crop/4.jpg", folder);
    cr_assert(eq(int, truncate(path, 300), 0));
    cr_assert(
        eq(int, embed(&features[0][0], 2, true, false, &missing, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "loose_crop/1.jpg"), NULL), "%s", err.text);
    cr_assert(eq(int, embed(&features[0][0], 2, true, true, &missing, &err), 0));
    cr_assert(eq(i64, missing, 2));
    for (int i = 0; i < N; i++)
        cr_assert(eq(int, !memcmp(features[i], zero, sizeof zero), i == 1 || i == 4));
    write_picture(1);
    cr_assert(
        eq(int, embed(&features[0][0], 2, true, false, &missing, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "loose_crop/4.jpg: "), NULL), "%s", err.text);
}

Test(embed, threads_change_neither_rows_nor_counts_nor_the_error)
{
    float one[N][2 * D], other[N][2 * D];
    char path[FF_PATH_MAX];
    int64_t missing;
    struct ff_err first = FF_ERR_INIT, err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/loose_crop/2.jpg", folder);
    unlink(path);
    ff_path(path, NULL, "%s/loose_crop/3.jpg", folder);
    unlink(path);
    for (int batch = 1; batch <= 3; batch++) {
        embed_with(&one[0][0], batch, 1, true, true, &missing, &err);
        cr_assert(eq(i64, missing, 2));
        embed_with(&other[0][0], batch, 1, true, false, &missing, &first);
        for (int threads = 2; threads <= 7; threads += 5) {
            memset(other, 1, sizeof other);
            int rc =
                embed_with(&other[0][0], batch, threads, true, true, &missing, &err);
            cr_assert(eq(int, rc, 0), "%s", err.text);
            cr_assert(eq(i64, missing, 2));
            cr_assert(eq(int, memcmp(one, other, sizeof one), 0));
            rc = embed_with(&other[0][0], batch, threads, true, false, &missing, &err);
            cr_assert(eq(int, rc, FF_EDATA));
            cr_assert(eq(str, err.text, first.text));
        }
    }
}

Test(embed, bad_pictures_and_landmarks_are_named_with_their_line)
{
    float features[N][2 * D];
    int64_t missing;
    char path[FF_PATH_MAX];
    struct ff_err err = FF_ERR_INIT;
    meta.points_path = (char *)"m/points.txt";
    for (int p = 0; p < 5; p++)
        face[2].point[p][0] = face[2].point[p][1] = 0;
    cr_assert(
        eq(int, embed(&features[0][0], 2, true, false, &missing, &err), FF_EDATA));
    cr_assert(eq(int, strncmp(err.text, "m/points.txt:3: ", 16), 0), "%s", err.text);
    cr_assert(
        ne(ptr,
           strstr(err.text, "loose_crop/2.jpg: landmarks allow no alignment (first "
                            "point 0 0)"),
           NULL),
        "%s", err.text);
    cr_assert(eq(int, embed(&features[0][0], 2, true, true, &missing, &err), 0));
    cr_assert(eq(i64, missing, 1));
    ff_path(path, NULL, "%s/loose_crop/0.jpg", folder);
    FILE *f = fopen(path, "w"); /* no picture at all */
    fputs("not a picture", f);
    fclose(f);
    cr_assert(
        eq(int, embed(&features[0][0], 2, true, false, &missing, &err), FF_EDATA));
    cr_assert(eq(int, strncmp(err.text, "m/points.txt:1: ", 16), 0), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, "loose_crop/0.jpg: "), NULL), "%s", err.text);
    unlink(path);
    cr_assert(
        eq(int, embed(&features[0][0], 2, true, false, &missing, &err), FF_EDATA));
    cr_assert(eq(int, strncmp(err.text, "m/points.txt:1: ", 16), 0), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, "No such file"), NULL), "%s", err.text);
}

Test(embed, a_cut_run_goes_on_to_the_same_file)
{
    float whole[N][2 * D];
    char path[FF_PATH_MAX];
    int64_t missing, done;
    struct ff_features_writer *writer;
    struct ff_features *file;
    struct ff_embedder *embedder;
    struct ff_embed_options options = {folder, 2, 1, true, false};
    struct ff_err err = FF_ERR_INIT;
    embed(&whole[0][0], 2, true, false, &missing, &err);
    ff_path(path, NULL, "%s/features.h5", folder);
    ff_embedder_create(
        &embedder, saved_path, 2,
        &(struct ff_ops_options){.backend = FF_BACKEND_REF, .threads = 1}, &err);
    for (int64_t cut = 2; cut <= N; cut += 3) {
        meta.image_count = cut;
        int rc = ff_features_create(&writer, &done, path, names, N, D, "sha", &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        cr_assert(eq(i64, done, cut == 2 ? 0 : 2));
        rc = ff_embed_images(NULL, writer, &missing, embedder, done, &meta, &options,
                             &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        ff_features_writer_close(writer);
    }
    cr_assert(eq(int, ff_features_open(&file, path, &err), 0), "%s", err.text);
    cr_assert(eq(int, memcmp(file->data, whole, sizeof whole), 0));
    ff_features_close(file);
    ff_embedder_destroy(embedder);
}
