/* SPDX-License-Identifier: MIT */
/* ff-data info: the figures of a training set, or of a file of pairs, as YAML on
 * stdout; decodes one image at most. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "bin_pairs.h"
#include "cli.h"
#include "data_cmd.h"
#include "dataset_priv.h"
#include "image.h"
#include "log.h"

/* px: by property, or by the first image. */
static int image_size(int *width, int *height, struct ff_dataset *dataset,
                      struct ff_err *err)
{
    *width = *height = 0;
    if (dataset->rec)
        ff_recordio_image_size(width, height, dataset->rec);
    if (*width && *height)
        return 0;
    struct ff_decoder *decoder = NULL;
    struct ff_image image = {0};
    struct ff_read_buffer buffer = {0};
    const uint8_t *bytes;
    size_t size;
    int64_t label;
    int rc = ff_decoder_create(&decoder, err);
    if (!rc)
        rc = ff_dataset_read(&bytes, &size, &label, dataset, 0, &buffer, err);
    if (!rc) {
        rc = ff_decode(&image, decoder, bytes, size, ff_dataset_applies_exif(dataset),
                       err);
        if (rc == FF_EDATA) {
            char where[256], text[512];
            snprintf(text, sizeof text, "%.511s", err->text);
            ff_dataset_describe(where, sizeof where, dataset, 0);
            ff_err_set(err, rc, "%s: %s", where, text);
        }
    }
    *width = image.width_px;
    *height = image.height_px;
    ff_image_fini(&image);
    free(buffer.data);
    ff_decoder_destroy(decoder);
    return rc;
}

/* Images of each class into counts (classes) i64; damaged records are not counted. */
static int count_images(int64_t *counts, struct ff_dataset *dataset, struct ff_err *err)
{
    int64_t classes = ff_dataset_classes(dataset);
    if (dataset->folder) {
        for (int64_t i = 0; i < classes; i++)
            counts[i] = ff_folder_first(dataset->folder, i + 1) -
                        ff_folder_first(dataset->folder, i);
        return 0;
    }
    if (ff_recordio_identities(dataset->rec) == classes) {
        for (int64_t i = 0; i < classes; i++) {
            int64_t first, last;
            int rc = ff_recordio_identity(&first, &last, dataset->rec, i, err);
            if (rc)
                return rc;
            counts[i] = last - first;
        }
        return 0;
    }
    struct ff_read_buffer buffer = {0};
    for (int64_t i = 0; i < ff_dataset_count(dataset); i++) {
        const uint8_t *bytes;
        size_t size;
        int64_t label;
        struct ff_err skipped;
        if (ff_dataset_read(&bytes, &size, &label, dataset, i, &buffer, &skipped) == 0)
            counts[label]++;
    }
    free(buffer.data);
    return 0;
}

static void print_histogram(const int64_t *counts, int64_t classes)
{
    int64_t min = counts[0], max = counts[0], sum = 0;
    for (int64_t i = 0; i < classes; i++) {
        sum += counts[i];
        min = counts[i] < min ? counts[i] : min;
        max = counts[i] > max ? counts[i] : max;
    }
    printf("images_per_identity:\n  min: %" PRId64 "\n  mean: %.2f\n  max: %" PRId64
           "\n",
           min, (double)sum / (double)classes, max);
    printf("histogram: # images of an identity: identities\n");
    for (int64_t low = 0, high = 0; low <= max; low = high + 1, high = 2 * low - 1) {
        int64_t identities = 0;
        for (int64_t i = 0; i < classes; i++)
            identities += counts[i] >= low && counts[i] <= high;
        if (identities && low == high)
            printf("  \"%" PRId64 "\": %" PRId64 "\n", low, identities);
        else if (identities)
            printf("  \"%" PRId64 "-%" PRId64 "\": %" PRId64 "\n", low, high,
                   identities);
    }
}

/* A file of pairs; width and height are the first image's. */
static int pairs_info(const char *path, struct ff_err *err)
{
    struct ff_bin_pairs *pairs = NULL;
    struct ff_decoder *decoder = NULL;
    struct ff_image image = {0};
    int rc = ff_bin_pairs_open(&pairs, path, err);
    if (!rc)
        rc = ff_decoder_create(&decoder, err);
    if (!rc) {
        struct ff_err inner = FF_ERR_INIT;
        rc = ff_decode(&image, decoder, pairs->image[0].bytes, pairs->image[0].size,
                       false, &inner);
        if (rc)
            ff_err_set(err, rc, "%.500s: image 0: %.400s", path, inner.text);
    }
    if (!rc)
        printf("format: pairs\nimages: %" PRId64 "\npairs: %" PRId64 "\nsame: %" PRId64
               "\nheight: %d\nwidth: %d\nbytes: %zu\n",
               2 * pairs->pairs, pairs->pairs, pairs->same_count, image.height_px,
               image.width_px, pairs->map_bytes);
    ff_image_fini(&image);
    ff_decoder_destroy(decoder);
    ff_bin_pairs_close(pairs);
    return rc;
}

static int info(const char *path, struct ff_err *err)
{
    struct ff_dataset *dataset = NULL;
    char fingerprint[65];
    int width, height;
    int64_t *counts = NULL;
    int rc = ff_dataset_open(&dataset, path, err);
    if (!rc)
        rc = ff_dataset_fingerprint(fingerprint, dataset, err);
    if (!rc)
        rc = image_size(&width, &height, dataset, err);
    if (!rc) {
        counts = calloc((size_t)ff_dataset_classes(dataset), sizeof *counts);
        rc = counts ? count_images(counts, dataset, err)
                    : ff_err_set(err, FF_ENOMEM, "out of memory for the classes of %s",
                                 path);
    }
    if (!rc) {
        uint64_t bytes = dataset->rec ? ff_recordio_bytes(dataset->rec)
                                      : ff_folder_bytes(dataset->folder);
        printf("format: %s\nimages: %" PRId64 "\nclasses: %" PRId64 "\nheight: %d\n"
               "width: %d\nbytes: %" PRIu64
               "\nbytes_per_image: %.0f\nfingerprint: %s\n",
               dataset->rec ? "recordio" : "folder", ff_dataset_count(dataset),
               ff_dataset_classes(dataset), height, width, bytes,
               (double)bytes / (double)ff_dataset_count(dataset), fingerprint);
        print_histogram(counts, ff_dataset_classes(dataset));
    }
    free(counts);
    ff_dataset_close(dataset);
    return rc;
}

int ff_cmd_info(int argc, char **argv)
{
    static const struct ff_cli cli = {
        .program = "ff-data info",
        .synopsis = "DIR | FILE.bin",
        .summary =
            "What a training set holds, as YAML on stdout. DIR holds train.rec, or a "
            "folder for each identity; FILE.bin is a file of pairs.",
        .examples = "ff-data info data/train",
    };
    struct ff_err err = FF_ERR_INIT;
    int words;
    int rc = ff_cli_parse(&words, &cli, argc, argv, &err);
    if (rc > 0)
        return 0;
    if (!rc && words != 1)
        rc = ff_err_set(&err, FF_EUSAGE, "info takes one folder, %d given", words);
    struct stat st;
    if (!rc)
        rc = !stat(argv[1], &st) && S_ISREG(st.st_mode) ? pairs_info(argv[1], &err)
                                                        : info(argv[1], &err);
    if (rc)
        ff_error("%s", err.text);
    return ff_err_exit_code(rc);
}
