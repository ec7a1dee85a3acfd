/* SPDX-License-Identifier: MIT */
/* ff-data check: decodes a whole training set and lists what is wrong with it.
 *
 * Images go through the threads in blocks; findings are printed in the set's order.
 * Damage is an image that training would replace (unreadable, or of another size than
 * the first good one) and a label that its identity record contradicts. Duplicates,
 * found by the hash of the encoded bytes, are listed but are no damage. */
#include <inttypes.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "data_cmd.h"
#include "dataset_priv.h"
#include "hash.h"
#include "image.h"
#include "log.h"

enum { BLOCK_IMAGES = 2048 };

struct finding {
    int width, height; /* 0: damaged, text says why */
    int64_t label;     /* -1: unreadable */
    uint64_t hash;     /* first 64 bits of the SHA-256 of the encoded bytes */
    char text[240];
};

struct digest {
    uint64_t hash;
    int64_t index;
};

/* What is known of the identity whose key range is being walked (RecordIO). */
struct identity_walk {
    int64_t identity, first, last, label;
};

struct check {
    struct ff_dataset *dataset;
    const char *path;
    int threads;
    struct ff_decoder **decoders;   /* (threads) */
    struct ff_read_buffer *buffers; /* (threads) */
    struct ff_image *images;        /* (threads) */
    struct finding *block;          /* (BLOCK_IMAGES) */
    struct digest *digests;         /* (digest_count) */
    int64_t digest_count;
    int64_t *seen_in; /* (classes) i64: identity record + 1 that has this label */
    struct identity_walk walk;
    int width, height; /* px of the first good image */
    int64_t damaged, wrong_labels, duplicates;
};

static void examine(struct finding *finding, struct check *check, int64_t index)
{
    int thread = omp_get_thread_num();
    struct ff_err err = FF_ERR_INIT;
    const uint8_t *bytes;
    size_t size;
    struct ff_image *image = &check->images[thread];
    *finding = (struct finding){.label = -1};
    int rc = ff_dataset_read(&bytes, &size, &finding->label, check->dataset, index,
                             &check->buffers[thread], &err);
    if (rc) {
        finding->label = -1;
    } else {
        char hex[FF_SHA256_HEX];
        ff_sha256(hex, bytes, size);
        hex[16] = 0;
        finding->hash = strtoull(hex, NULL, 16);
        rc = ff_decode(image, check->decoders[thread], bytes, size,
                       ff_dataset_applies_exif(check->dataset), &err);
    }
    if (rc) {
        snprintf(finding->text, sizeof finding->text, "%.239s", err.text);
        return;
    }
    finding->width = image->width_px;
    finding->height = image->height_px;
}

/* An image's label against the identity record that covers its key. Keys above 2^24 are
 * rounded in those records, so nothing is said about them. */
static int check_label(struct check *check, int64_t index, int64_t label,
                       struct ff_err *err)
{
    struct ff_recordio *rec = check->dataset->rec;
    struct identity_walk *walk = &check->walk;
    if (!rec || !ff_recordio_identities(rec))
        return 0;
    char where[256];
    int64_t key = ff_recordio_key(rec, index);
    if (key >= FF_REC_EXACT_KEYS)
        return 0;
    while (key >= walk->last && walk->identity + 1 < ff_recordio_identities(rec)) {
        walk->identity++;
        walk->label = -1;
        int rc =
            ff_recordio_identity(&walk->first, &walk->last, rec, walk->identity, err);
        if (rc)
            return rc;
    }
    ff_dataset_describe(where, sizeof where, check->dataset, index);
    if (key < walk->first || key >= walk->last) {
        printf("label: %s: no identity record covers it\n", where);
        check->wrong_labels++;
        return 0;
    }
    if (walk->label < 0) {
        walk->label = label;
        int64_t before = check->seen_in[label];
        check->seen_in[label] = walk->identity + 1;
        if (before) {
            printf("label: %s: label %" PRId64 " in identity record %" PRId64
                   " belongs to identity record %" PRId64 " already\n",
                   where, label, walk->identity, before - 1);
            check->wrong_labels++;
        }
    } else if (label != walk->label) {
        printf("label: %s: label %" PRId64 ", but identity record %" PRId64
               " (records %" PRId64 " .. %" PRId64 ") begins with label %" PRId64 "\n",
               where, label, walk->identity, walk->first, walk->last - 1, walk->label);
        check->wrong_labels++;
    }
    return 0;
}

static int report(struct check *check, int64_t index, const struct finding *finding,
                  struct ff_err *err)
{
    char where[256];
    ff_dataset_describe(where, sizeof where, check->dataset, index);
    if (finding->label < 0 || !finding->width) {
        printf("damaged: %s: %s\n", where, finding->text);
        check->damaged++;
    } else {
        if (!check->width) {
            check->width = finding->width;
            check->height = finding->height;
        }
        if (finding->width != check->width || finding->height != check->height) {
            printf("damaged: %s: %d x %d px, the first image has %d x %d\n", where,
                   finding->width, finding->height, check->width, check->height);
            check->damaged++;
        }
    }
    if (finding->label < 0)
        return 0;
    check->digests[check->digest_count++] = (struct digest){finding->hash, index};
    return check_label(check, index, finding->label, err);
}

static int by_hash_then_index(const void *a, const void *b)
{
    const struct digest *x = a, *y = b;
    if (x->hash != y->hash)
        return x->hash < y->hash ? -1 : 1;
    return (x->index > y->index) - (x->index < y->index);
}

static void list_duplicates(struct check *check)
{
    struct ff_dataset *dataset = check->dataset;
    struct digest *digests = check->digests;
    if (check->digest_count)
        qsort(digests, (size_t)check->digest_count, sizeof *digests,
              by_hash_then_index);
    for (int64_t i = 1, first = 0; i < check->digest_count; i++) {
        if (digests[i].hash != digests[first].hash) {
            first = i;
            continue;
        }
        char where[256], earlier[256];
        const uint8_t *bytes;
        size_t size;
        int64_t label[2] = {0, 0};
        if (ff_dataset_read(&bytes, &size, &label[0], dataset, digests[first].index,
                            &check->buffers[0], NULL) ||
            ff_dataset_read(&bytes, &size, &label[1], dataset, digests[i].index,
                            &check->buffers[0], NULL))
            continue;
        ff_dataset_describe(earlier, sizeof earlier, dataset, digests[first].index);
        ff_dataset_describe(where, sizeof where, dataset, digests[i].index);
        printf("duplicate: %s (identity %" PRId64 ") = %s (identity %" PRId64 ")\n",
               where, label[1], earlier, label[0]);
        check->duplicates++;
    }
}

static int allocate(struct check *check, struct ff_err *err)
{
    size_t threads = (size_t)check->threads;
    check->decoders = calloc(threads, sizeof *check->decoders);
    check->buffers = calloc(threads, sizeof *check->buffers);
    check->images = calloc(threads, sizeof *check->images);
    check->block = malloc(BLOCK_IMAGES * sizeof *check->block);
    check->digests =
        malloc((size_t)ff_dataset_count(check->dataset) * sizeof *check->digests);
    check->seen_in =
        calloc((size_t)ff_dataset_classes(check->dataset), sizeof *check->seen_in);
    if (!check->decoders || !check->buffers || !check->images || !check->block ||
        !check->digests || !check->seen_in)
        return ff_err_set(err, FF_ENOMEM, "out of memory to check %s", check->path);
    int rc = 0;
    for (size_t i = 0; i < threads && !rc; i++)
        rc = ff_decoder_create(&check->decoders[i], err);
    return rc;
}

static void check_fini(struct check *check)
{
    for (int i = 0; i < check->threads; i++) {
        if (check->decoders)
            ff_decoder_destroy(check->decoders[i]);
        if (check->buffers)
            free(check->buffers[i].data);
        if (check->images)
            ff_image_fini(&check->images[i]);
    }
    free(check->decoders);
    free(check->buffers);
    free(check->images);
    free(check->block);
    free(check->digests);
    free(check->seen_in);
    ff_dataset_close(check->dataset);
}

static int run(struct check *check, struct ff_err *err)
{
    char fingerprint[65];
    int rc = ff_dataset_open(&check->dataset, check->path, err);
    if (!rc && check->dataset->folder)
        rc = ff_folder_refresh(check->dataset->folder, err);
    if (!rc)
        rc = allocate(check, err);
    if (!rc)
        rc = ff_dataset_fingerprint(fingerprint, check->dataset, err);
    if (rc)
        return rc;
    int64_t count = ff_dataset_count(check->dataset);
    for (int64_t start = 0; start < count && !rc; start += BLOCK_IMAGES) {
        int64_t n = count - start < BLOCK_IMAGES ? count - start : BLOCK_IMAGES;
#pragma omp parallel for schedule(dynamic, 16) num_threads(check->threads)
        for (int64_t i = 0; i < n; i++)
            examine(&check->block[i], check, start + i);
        for (int64_t i = 0; i < n && !rc; i++)
            rc = report(check, start + i, &check->block[i], err);
        if (!rc)
            ff_progress(start + n == count, "checked %" PRId64 " of %" PRId64 " images",
                        start + n, count);
    }
    if (rc)
        return rc;
    list_duplicates(check);
    printf("images: %" PRId64 "\nclasses: %" PRId64 "\ndamaged: %" PRId64
           "\nwrong_labels: %" PRId64 "\nduplicates: %" PRId64 "\nfingerprint: %s\n",
           count, ff_dataset_classes(check->dataset), check->damaged,
           check->wrong_labels, check->duplicates, fingerprint);
    if (check->damaged || check->wrong_labels)
        rc = ff_err_set(err, FF_EDATA,
                        "%s: %" PRId64 " damaged images, %" PRId64 " wrong labels",
                        check->path, check->damaged, check->wrong_labels);
    return rc;
}

int ff_cmd_check(int argc, char **argv)
{
    static const struct ff_cli cli = {
        .program = "ff-data check",
        .synopsis = "DIR",
        .summary =
            "Decodes every image of a training set; lists damaged images, labels that "
            "the identity records contradict, and duplicates. Exit code 6 if anything "
            "is damaged.",
        .examples = "ff-data check data/train",
    };
    struct ff_err err = FF_ERR_INIT;
    int words;
    int rc = ff_cli_parse(&words, &cli, argc, argv, &err);
    if (rc > 0)
        return 0;
    if (!rc && words != 1)
        rc = ff_err_set(&err, FF_EUSAGE, "check takes one folder, %d given", words);
    if (!rc) {
        struct check check = {.path = argv[1],
                              .threads = omp_get_max_threads(),
                              .walk = {.identity = -1}};
        rc = run(&check, &err);
        check_fini(&check);
    }
    if (rc)
        ff_error("%s", err.text);
    return ff_err_exit_code(rc);
}
