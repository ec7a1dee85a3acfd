/* SPDX-License-Identifier: MIT */
/* Helper of lfw_reference.sh: conversions and comparisons with reference data.
 *
 *   lfw_reference convert ROOT RAW.f32 FEATURES.h5   rows in the order of the points
 * list lfw_reference scores SCORES.h5 REFERENCE.f64     prints the largest difference
 *   lfw_reference crops ROOT CROPS.u8                aligned crops, 112 x 112 x 3, RGB
 *
 * Exit code 1 where a difference is above what the protocol allows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "align.h"
#include "atomic_file.h"
#include "feature_file.h"
#include "h5io.h"
#include "ijb_meta.h"

#define SCORE_LIMIT 1e-6
#define SIDE 112
#define CROP_BYTES (SIDE * SIDE * 3)

static int convert(const char *root, const char *raw_path, const char *out_path,
                   struct ff_err *err)
{
    struct ff_ijb_meta *meta = NULL;
    struct ff_features_writer *writer = NULL;
    const char **names = NULL;
    char *raw = NULL;
    size_t bytes;
    int64_t done;
    int rc = ff_ijb_meta_load(&meta, root, "ijbc", true, 1, err);
    if (!rc)
        rc = ff_read_file(&raw, &bytes, raw_path, err);
    if (rc)
        goto done;
    size_t row_bytes = bytes / (size_t)meta->image_count;
    if (bytes % (size_t)meta->image_count || row_bytes % (2 * sizeof(float))) {
        rc = ff_err_set(err, FF_EDATA, "%s: %zu bytes for %lld images", raw_path, bytes,
                        (long long)meta->image_count);
        goto done;
    }
    names = malloc((size_t)meta->image_count * sizeof *names);
    if (!names) {
        rc = ff_err_set(err, FF_ENOMEM, "no memory for names");
        goto done;
    }
    for (int64_t i = 0; i < meta->image_count; i++)
        names[i] = meta->image[i].name;
    rc = ff_features_create(&writer, &done, out_path, names, meta->image_count,
                            (int)(row_bytes / (2 * sizeof(float))), "", err);
    if (!rc)
        rc = ff_features_append(writer, (const float *)(const void *)raw, 0,
                                meta->image_count, err);
done:
    ff_features_writer_close(writer);
    free(names);
    free(raw);
    ff_ijb_meta_destroy(meta);
    return rc;
}

static int compare_scores(const char *path, const char *reference_path,
                          struct ff_err *err)
{
    hid_t file;
    hsize_t dims[1] = {0};
    void *data = NULL;
    char *reference = NULL;
    size_t bytes;
    int rc = ff_h5_open(&file, path, false, err);
    if (rc)
        return rc;
    rc = ff_h5_read(&data, file, "score", H5T_NATIVE_FLOAT, 1, dims, err);
    H5Fclose(file);
    if (!rc)
        rc = ff_read_file(&reference, &bytes, reference_path, err);
    if (!rc && bytes != dims[0] * sizeof(double))
        rc = ff_err_set(err, FF_EDATA, "%s: %zu bytes for %llu scores", reference_path,
                        bytes, (unsigned long long)dims[0]);
    if (!rc) {
        const float *score = data;
        const double *expected = (const double *)(const void *)reference;
        double worst = 0;
        for (hsize_t i = 0; i < dims[0]; i++)
            worst = fmax(worst, fabs((double)score[i] - expected[i]));
        printf("%llu scores, largest difference %.3g\n", (unsigned long long)dims[0],
               worst);
        if (!(worst <= SCORE_LIMIT))
            rc = ff_err_set(err, FF_EFAIL, "%s: above %g", path, SCORE_LIMIT);
    }
    free(reference);
    free(data);
    return rc;
}

static int align_one(uint8_t *crop, struct ff_decoder *decoder, struct ff_image *image,
                     const char *root, const struct ff_ijb_image *face,
                     struct ff_err *err)
{
    char path[FF_PATH_MAX], *bytes = NULL;
    size_t size;
    int rc = ff_path(path, err, "%s/loose_crop/%s", root, face->name);
    if (!rc)
        rc = ff_read_file(&bytes, &size, path, err);
    if (!rc)
        rc = ff_decode(image, decoder, bytes, size, true, err);
    if (!rc)
        rc = ff_align_face(crop, SIDE, image, face->point, err);
    free(bytes);
    return rc;
}

static int compare_crops(const char *root, const char *reference_path,
                         struct ff_err *err)
{
    struct ff_ijb_meta *meta = NULL;
    struct ff_decoder *decoder = NULL;
    struct ff_image image = {0};
    char *reference = NULL;
    size_t bytes = 0, differing = 0, histogram[256] = {0};
    uint8_t *crop = malloc(CROP_BYTES);
    int rc = crop ? 0 : ff_err_set(err, FF_ENOMEM, "no memory for a crop");
    if (!rc)
        rc = ff_ijb_meta_load(&meta, root, "ijbc", true, 1, err);
    if (!rc)
        rc = ff_read_file(&reference, &bytes, reference_path, err);
    if (!rc)
        rc = ff_decoder_create(&decoder, err);
    size_t count = bytes / CROP_BYTES;
    for (size_t i = 0; i < count && !rc; i++) {
        rc = align_one(crop, decoder, &image, root, &meta->image[i], err);
        const uint8_t *expected = (const uint8_t *)reference + i * CROP_BYTES;
        for (int k = 0; k < CROP_BYTES && !rc; k++) {
            int difference = abs(crop[k] - expected[k]);
            histogram[difference]++;
            differing += difference != 0;
        }
    }
    if (!rc) {
        printf("%zu crops, %zu samples, %zu differ\n", count, bytes, differing);
        for (int d = 1; d < 256; d++) {
            if (histogram[d])
                printf("  by %d: %zu\n", d, histogram[d]);
        }
    }
    ff_image_fini(&image);
    ff_decoder_destroy(decoder);
    free(reference);
    ff_ijb_meta_destroy(meta);
    free(crop);
    return rc;
}

int main(int argc, char **argv)
{
    struct ff_err err = FF_ERR_INIT;
    int rc = FF_EUSAGE;
    if (argc == 5 && !strcmp(argv[1], "convert"))
        rc = convert(argv[2], argv[3], argv[4], &err);
    else if (argc == 4 && !strcmp(argv[1], "scores"))
        rc = compare_scores(argv[2], argv[3], &err);
    else if (argc == 4 && !strcmp(argv[1], "crops"))
        rc = compare_crops(argv[2], argv[3], &err);
    else
        ff_err_set(&err, rc, "usage: lfw_reference convert|scores|crops ...");
    if (rc)
        fprintf(stderr, "lfw_reference: %s\n", err.text);
    return rc ? 1 : 0;
}
