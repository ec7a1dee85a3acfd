/* SPDX-License-Identifier: MIT */
/* ff-data check: decodes a whole training set and lists what is wrong with it.
 *
 * Images go through the threads in blocks; damage is printed in the set's order, then
 * labels, then duplicates. Damage is an image that training would replace (unreadable,
 * or of another size than the first good one) and a label that most others of its
 * identity record contradict. Duplicates, found by the hash of the encoded bytes, are
 * listed but are no damage. */
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
#include "params.h"

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
    int32_t *labels, *sorted; /* (count) i32: -1 unreadable; scratch */
    int64_t *seen_in;  /* (classes) i64: identity record + 1 that has this label */
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

static int by_number(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* The label that most of labels (n > 0) carry; ties go to `preferred`, then to the
 * first of them. Sorts copy (n). */
static int32_t most_frequent(int32_t *copy, const int32_t *labels, int64_t n,
                             int64_t preferred)
{
    int32_t best = -1;
    int64_t best_run = 0;
    memcpy(copy, labels, (size_t)n * sizeof *copy);
    qsort(copy, (size_t)n, sizeof *copy, by_number);
    for (int64_t i = 0, run = 0; i < n; i++) {
        run = i && copy[i] == copy[i - 1] ? run + 1 : 1;
        bool better =
            run > best_run ||
            (run == best_run &&
             (copy[i] == preferred || (best != preferred && copy[i] == labels[0])));
        if (copy[i] >= 0 && better) {
            best = copy[i];
            best_run = run;
        }
    }
    return best;
}

/* Images first .. end - 1 are those of identity record i. */
static void check_identity(struct check *check, int64_t i, int64_t first, int64_t end)
{
    char where[256];
    if (first == end)
        return;
    const int32_t *labels = check->labels;
    int32_t usual = most_frequent(check->sorted, labels + first, end - first, i);
    for (int64_t k = first; k < end; k++) {
        if (labels[k] < 0 || labels[k] == usual)
            continue;
        ff_dataset_describe(where, sizeof where, check->dataset, k);
        printf("label: %s: label %" PRId32 ", but identity record %" PRId64
               " (records %" PRId64 " .. %" PRId64 ") is of label %" PRId32 "\n",
               where, labels[k], i, ff_recordio_key(check->dataset->rec, first),
               ff_recordio_key(check->dataset->rec, end - 1), usual);
        check->wrong_labels++;
    }
    if (usual < 0)
        return;
    int64_t before = check->seen_in[usual];
    check->seen_in[usual] = i + 1;
    if (before) {
        ff_dataset_describe(where, sizeof where, check->dataset, first);
        printf("label: %s: label %" PRId32 " of identity record %" PRId64
               " belongs to identity record %" PRId64 " already\n",
               where, usual, i, before - 1);
        check->wrong_labels++;
    }
}

/* Each image's label against the identity record that covers its key. Keys above 2^24
 * are rounded in those records, so nothing is said about them. */
static int check_labels(struct check *check, struct ff_err *err)
{
    struct ff_recordio *rec = check->dataset->rec;
    int64_t count = ff_dataset_count(check->dataset), at = 0;
    char where[256];
    if (!rec)
        return 0;
    for (int64_t i = 0; i < ff_recordio_identities(rec); i++) {
        int64_t first, last;
        int rc = ff_recordio_identity(&first, &last, rec, i, err);
        if (rc)
            return rc;
        if (last > FF_REC_EXACT_KEYS)
            return 0;
        for (; at < count && ff_recordio_key(rec, at) < first; at++) {
            ff_dataset_describe(where, sizeof where, check->dataset, at);
            printf("label: %s: no identity record covers it\n", where);
            check->wrong_labels++;
        }
        int64_t end = at;
        while (end < count && ff_recordio_key(rec, end) < last)
            end++;
        check_identity(check, i, at, end);
        at = end;
    }
    for (; ff_recordio_identities(rec) && at < count; at++) {
        ff_dataset_describe(where, sizeof where, check->dataset, at);
        printf("label: %s: no identity record covers it\n", where);
        check->wrong_labels++;
    }
    return 0;
}

static void report(struct check *check, int64_t index, const struct finding *finding)
{
    char where[256];
    ff_dataset_describe(where, sizeof where, check->dataset, index);
    check->labels[index] = (int32_t)finding->label;
    if (finding->label < 0) { /* the text says where */
        printf("damaged: %s\n", finding->text);
        check->damaged++;
    } else if (!finding->width) {
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
    if (finding->label >= 0)
        check->digests[check->digest_count++] = (struct digest){finding->hash, index};
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
    check->labels =
        malloc((size_t)ff_dataset_count(check->dataset) * sizeof *check->labels);
    check->sorted =
        malloc((size_t)ff_dataset_count(check->dataset) * sizeof *check->sorted);
    check->seen_in =
        calloc((size_t)ff_dataset_classes(check->dataset), sizeof *check->seen_in);
    if (!check->decoders || !check->buffers || !check->images || !check->block ||
        !check->digests || !check->labels || !check->sorted || !check->seen_in)
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
    free(check->labels);
    free(check->sorted);
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
    for (int64_t start = 0; start < count; start += BLOCK_IMAGES) {
        int64_t n = count - start < BLOCK_IMAGES ? count - start : BLOCK_IMAGES;
#pragma omp parallel for schedule(dynamic, 16) num_threads(check->threads)
        for (int64_t i = 0; i < n; i++)
            examine(&check->block[i], check, start + i);
        for (int64_t i = 0; i < n; i++)
            report(check, start + i, &check->block[i]);
        ff_progress(start + n == count, "checked %" PRId64 " of %" PRId64 " images",
                    start + n, count);
    }
    rc = check_labels(check, err);
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
    int64_t threads = 0;
    const struct ff_opt options[] = {
        {"--threads", "N", FF_OPT_I64, &threads, "threads; default: all CPUs", 1, 1024},
    };
    const struct ff_cli cli = {
        .program = "ff-data check",
        .synopsis = "DIR [--threads N]",
        .summary =
            "Decodes every image of a training set; lists damaged images, labels that "
            "the identity records contradict, and duplicates. Exit code 6 if anything "
            "is damaged.",
        .examples = "ff-data check data/train",
        .options = options,
        .option_count = sizeof options / sizeof *options,
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
                              .threads = threads ? (int)threads : ff_cpu_count()};
        rc = run(&check, &err);
        check_fini(&check);
    }
    if (rc)
        ff_error("%s", err.text);
    return ff_err_exit_code(rc);
}
