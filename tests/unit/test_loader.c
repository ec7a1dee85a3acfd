/* SPDX-License-Identifier: MIT */
/* The loader: one order for any number of workers and any interruption, damage
 * replaced. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "data_fixture.h"
#include "loader.h"
#include "rng.h"
#include "sample_order.h"

enum { SIDE = 16, IDENTITIES = 5, EACH = 5, IMAGES = 25, BATCH = 4, PER_EPOCH = 6 };

static struct scratch scratch;

static void setup(void)
{
    scratch_init(&scratch);
}

static void teardown(void)
{
    scratch_fini(&scratch);
}

TestSuite(loader, .init = setup, .fini = teardown, .timeout = 30);

static const struct ff_loader_options defaults = {.batch = BATCH,
                                                  .image_size_px = SIDE,
                                                  .seed = 11,
                                                  .flip_probability = 0.5,
                                                  .workers = 1,
                                                  .iterations = 3 * PER_EPOCH,
                                                  .max_bad_samples = 10};

static struct ff_dataset *make_and_open(int bad)
{
    struct ff_dataset *dataset = NULL;
    cr_assert(eq(int, make_set(at(&scratch, "set"), IDENTITIES, EACH, SIDE, bad), 0));
    cr_assert(eq(int, ff_dataset_open(&dataset, at(&scratch, "set"), NULL), 0));
    return dataset;
}

static struct ff_loader *start(struct ff_dataset *dataset,
                               const struct ff_loader_options *options)
{
    struct ff_loader *loader = NULL;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_loader_create(&loader, dataset, options, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return loader;
}

/* Everything a run sees, batch after batch. */
struct tape {
    uint8_t pixels[3 * PER_EPOCH][BATCH * SIDE * SIDE * 3];
    uint8_t flip[3 * PER_EPOCH][BATCH];
    int64_t label[3 * PER_EPOCH][BATCH];
};

static struct tape *record(struct ff_loader *loader, int64_t first, int64_t end)
{
    struct tape *tape = calloc(1, sizeof *tape);
    for (int64_t i = first; i < end; i++) {
        struct ff_batch batch;
        struct ff_err err = FF_ERR_INIT;
        int rc = ff_loader_next(&batch, loader, &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        memcpy(tape->pixels[i], batch.pixels, sizeof tape->pixels[i]);
        memcpy(tape->flip[i], batch.flip, sizeof tape->flip[i]);
        memcpy(tape->label[i], batch.label, sizeof tape->label[i]);
    }
    return tape;
}

/* The picture's number, which is the sample's index, from its blue channel. */
static int64_t sample_of(const struct tape *tape, int64_t iteration, int i)
{
    return (tape->pixels[iteration][(size_t)i * SIDE * SIDE * 3 + 2] + 4) / 8;
}

Test(loader, follows_the_permutation_of_each_epoch)
{
    struct ff_dataset *dataset = make_and_open(0);
    struct ff_loader *loader = start(dataset, &defaults);
    struct tape *tape = record(loader, 0, 3 * PER_EPOCH);
    for (int64_t t = 0; t < 3 * PER_EPOCH; t++) {
        int64_t perm[IMAGES];
        char shuffle[32], flip[32];
        snprintf(shuffle, sizeof shuffle, "shuffle/%d", (int)(t / PER_EPOCH));
        snprintf(flip, sizeof flip, "flip/%d", (int)(t / PER_EPOCH));
        ff_rng_permutation(perm, IMAGES, defaults.seed, ff_stream(shuffle));
        for (int i = 0; i < BATCH; i++) {
            int64_t sample = perm[t % PER_EPOCH * BATCH + i];
            cr_assert(eq(i64, sample_of(tape, t, i), sample));
            cr_assert(eq(i64, tape->label[t][i], sample / EACH));
            double draw =
                ff_rng_uniform(defaults.seed, ff_stream(flip), (uint64_t)sample);
            cr_assert(eq(int, tape->flip[t][i], draw < 0.5));
        }
    }
    struct ff_batch batch;
    cr_assert(eq(int, ff_loader_next(&batch, loader, NULL), FF_EUSAGE));
    cr_assert(eq(i64, ff_loader_bad_samples(loader), 0));
    cr_assert(le(dbl, 0.0, ff_loader_wait_seconds(loader)));
    free(tape);
    ff_loader_destroy(loader);
    ff_dataset_close(dataset);
}

Test(loader, workers_do_not_show)
{
    struct ff_dataset *dataset = make_and_open(7);
    struct ff_loader_options options = defaults;
    struct ff_loader *one = start(dataset, &options);
    options.workers = 3;
    struct ff_loader *three = start(dataset, &options);
    struct tape *a = record(one, 0, 3 * PER_EPOCH),
                *b = record(three, 0, 3 * PER_EPOCH);
    cr_assert(eq(int, memcmp(a, b, sizeof *a), 0));
    cr_assert(eq(i64, ff_loader_bad_samples(one), ff_loader_bad_samples(three)));
    free(a);
    free(b);
    ff_loader_destroy(one);
    ff_loader_destroy(three);
    ff_dataset_close(dataset);
}

Test(loader, resumed_run_equals_the_tail)
{
    struct ff_dataset *dataset = make_and_open(7);
    struct ff_loader_options options = defaults;
    struct ff_loader *whole = start(dataset, &options), *tail;
    struct tape *a = record(whole, 0, 3 * PER_EPOCH);
    for (int64_t first = 1; first < 3 * PER_EPOCH; first += 7) {
        /* What the interrupted run had counted by then goes in, the same total comes
         * out. */
        options.first_iteration = 0;
        options.bad_samples = 0;
        struct ff_loader *head = start(dataset, &options);
        free(record(head, 0, first));
        options.bad_samples = ff_loader_bad_samples(head);
        ff_loader_destroy(head);
        options.first_iteration = first;
        options.workers = 2;
        tail = start(dataset, &options);
        struct tape *b = record(tail, first, 3 * PER_EPOCH);
        for (int64_t t = first; t < 3 * PER_EPOCH; t++) {
            cr_assert(
                eq(int, memcmp(a->pixels[t], b->pixels[t], sizeof a->pixels[t]), 0));
            cr_assert(eq(int, memcmp(a->flip[t], b->flip[t], sizeof a->flip[t]), 0));
            cr_assert(eq(int, memcmp(a->label[t], b->label[t], sizeof a->label[t]), 0));
        }
        cr_assert(eq(i64, ff_loader_bad_samples(tail), ff_loader_bad_samples(whole)));
        free(b);
        ff_loader_destroy(tail);
    }
    free(a);
    ff_loader_destroy(whole);
    ff_dataset_close(dataset);
}

Test(loader, next_good_sample_replaces_a_damaged_one)
{
    /* Record 25 is sample 24, the last: sample 0 stands in for it. */
    struct ff_dataset *dataset = make_and_open(IMAGES);
    struct ff_loader *loader = start(dataset, &defaults);
    struct tape *tape = record(loader, 0, 3 * PER_EPOCH);
    int64_t replaced = 0;
    for (int64_t t = 0; t < 3 * PER_EPOCH; t++) {
        int64_t perm[IMAGES];
        char shuffle[32];
        snprintf(shuffle, sizeof shuffle, "shuffle/%d", (int)(t / PER_EPOCH));
        ff_rng_permutation(perm, IMAGES, defaults.seed, ff_stream(shuffle));
        for (int i = 0; i < BATCH; i++) {
            int64_t sample = perm[t % PER_EPOCH * BATCH + i];
            replaced += sample == IMAGES - 1;
            int64_t expected = sample == IMAGES - 1 ? 0 : sample;
            cr_assert(eq(i64, sample_of(tape, t, i), expected));
            cr_assert(eq(i64, tape->label[t][i], expected / EACH));
        }
    }
    cr_assert(lt(i64, 0, replaced));
    cr_assert(eq(i64, ff_loader_bad_samples(loader), replaced));
    free(tape);
    ff_loader_destroy(loader);
    ff_dataset_close(dataset);
}

Test(loader, fails_beyond_max_bad_samples)
{
    struct ff_dataset *dataset = make_and_open(4);
    struct ff_loader_options options = defaults;
    options.iterations = 100 * PER_EPOCH;
    options.max_bad_samples = 2;
    options.workers = 2;
    struct ff_loader *loader = start(dataset, &options);
    struct ff_batch batch;
    struct ff_err err = FF_ERR_INIT;
    int rc = 0;
    for (int64_t t = 0; t < options.iterations && !rc; t++)
        rc = ff_loader_next(&batch, loader, &err);
    cr_assert(eq(int, rc, FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "train.rec: record 4 (offset "), NULL), "%s",
              err.text);
    cr_assert(ne(ptr,
                 strstr(err.text, "damaged sample 3 of the run, max_bad_samples is 2"),
                 NULL),
              "%s", err.text);
    cr_assert(eq(int, ff_loader_next(&batch, loader, NULL), FF_EDATA));
    ff_loader_destroy(loader);
    ff_dataset_close(dataset);
}

/* A folder of one identity with pictures of the given sides. */
static struct ff_dataset *folder_of(int count, const int *sides)
{
    struct ff_dataset *dataset = NULL;
    for (int i = 0; i < count; i++) {
        char name[32];
        size_t bytes;
        uint8_t *jpeg = picture_jpeg(&bytes, sides[i], sides[i], i);
        snprintf(name, sizeof name, "set/ann/%d.jpg", i);
        write_file(at(&scratch, name), jpeg, bytes);
        free(jpeg);
    }
    cr_assert(eq(int, ff_dataset_open(&dataset, at(&scratch, "set"), NULL), 0));
    return dataset;
}

Test(loader, refuses_a_set_of_another_size)
{
    struct ff_dataset *dataset = folder_of(4, (int[]){24, 24, 24, 24});
    struct ff_loader *loader = NULL;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_loader_create(&loader, dataset, &defaults, &err), FF_EUSAGE));
    cr_assert(eq(str, err.text, "ann/0.jpg: images are 24 x 24 px, image_size is 16"));
    ff_dataset_close(dataset);
}

Test(loader, counts_a_later_sample_of_another_size)
{
    struct ff_dataset *dataset = folder_of(4, (int[]){16, 16, 24, 16});
    struct ff_loader_options options = defaults;
    options.iterations = 5;
    struct ff_loader *loader = start(dataset, &options);
    free(record(loader, 0, 5));
    cr_assert(eq(i64, ff_loader_bad_samples(loader), 5));
    ff_loader_destroy(loader);
    ff_dataset_close(dataset);
}

Test(loader, refuses_fewer_images_than_a_batch)
{
    struct ff_dataset *dataset = folder_of(3, (int[]){16, 16, 16});
    struct ff_loader *loader = NULL;
    cr_assert(eq(int, ff_loader_create(&loader, dataset, &defaults, NULL), FF_EUSAGE));
    ff_dataset_close(dataset);
}

Test(loader, fails_when_nothing_is_good)
{
    struct ff_dataset *dataset = folder_of(4, (int[]){16, 16, 16, 16});
    struct ff_loader_options options = defaults;
    options.max_bad_samples = 100;
    struct ff_loader *loader = start(dataset, &options);
    ff_loader_destroy(loader);
    for (int i = 0; i < 4; i++) {
        char name[32];
        snprintf(name, sizeof name, "set/ann/%d.jpg", i);
        write_file(at(&scratch, name), "no picture", 10);
    }
    cr_assert(eq(int, ff_loader_create(&loader, dataset, &options, NULL), FF_EDATA));
    ff_dataset_close(dataset);
}

Test(loader, stops_in_the_middle)
{
    struct ff_dataset *dataset = make_and_open(0);
    struct ff_loader_options options = defaults;
    options.iterations = 1000000;
    options.workers = 3;
    for (int i = 0; i < 20; i++) {
        struct ff_loader *loader = start(dataset, &options);
        free(record(loader, 0, i % 5));
        ff_loader_destroy(loader);
    }
    ff_dataset_close(dataset);
}

/* ---- the order of an epoch ---- */

static void expect_permutation(const int64_t *perm, int64_t count)
{
    bool *seen = calloc((size_t)count, 1);
    for (int64_t i = 0; i < count; i++) {
        cr_assert(perm[i] >= 0 && perm[i] < count && !seen[perm[i]], "place %d",
                  (int)i);
        seen[perm[i]] = true;
    }
    free(seen);
}

Test(loader, block_shuffle_is_a_permutation_of_whole_blocks)
{
    static const int64_t counts[] = {1, 2, 25, 100, 1000, 1001};
    static const int64_t blocks[] = {1, 2, 3, 7, 10, 64, 5000};
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
        for (size_t b = 0; b < sizeof blocks / sizeof *blocks; b++) {
            int64_t count = counts[c], perm[1001], again[1001];
            for (int64_t epoch = 0; epoch < 3; epoch++) {
                cr_assert(eq(
                    int, ff_sample_order(perm, count, 5, epoch, blocks[b], NULL), 0));
                expect_permutation(perm, count);
                ff_sample_order(again, count, 5, epoch, blocks[b], NULL);
                cr_assert(
                    eq(int, memcmp(perm, again, (size_t)count * sizeof *perm), 0));
            }
            ff_sample_order(again, count, 5, 0, blocks[b], NULL);
            if (count >= 25)
                cr_assert(ne(int, memcmp(perm, again, (size_t)count * sizeof *perm), 0),
                          "epochs 0 and 2 agree");
        }
    }
}

Test(loader, block_shuffle_stays_inside_windows_of_blocks)
{
    enum { COUNT = 1000, N = 10, WINDOW = FF_ORDER_WINDOW_BLOCKS * N };
    int64_t perm[COUNT];
    cr_assert(eq(int, ff_sample_order(perm, COUNT, 5, 1, N, NULL), 0));
    int neighbours = 0;
    for (int64_t at_sample = 0; at_sample < COUNT; at_sample += WINDOW) {
        bool seen[COUNT / N] = {false};
        int distinct = 0;
        int64_t end = at_sample + WINDOW < COUNT ? at_sample + WINDOW : COUNT;
        for (int64_t i = at_sample; i < end; i++) {
            distinct += !seen[perm[i] / N];
            seen[perm[i] / N] = true;
            neighbours += i > at_sample && perm[i] == perm[i - 1] + 1;
        }
        cr_assert(eq(int, distinct, (int)((end - at_sample) / N)));
    }
    cr_assert(lt(int, neighbours, COUNT / 20)); /* 1 in 160 by chance */
}

Test(loader, block_shuffle_does_not_depend_on_workers_or_a_resume)
{
    struct ff_dataset *dataset = make_and_open(7);
    struct ff_loader_options options = defaults;
    options.shuffle_block = 3;
    struct ff_loader *one = start(dataset, &options);
    options.workers = 3;
    struct ff_loader *three = start(dataset, &options);
    struct tape *a = record(one, 0, 3 * PER_EPOCH),
                *b = record(three, 0, 3 * PER_EPOCH);
    cr_assert(eq(int, memcmp(a, b, sizeof *a), 0));
    for (int64_t t = 0; t < 3 * PER_EPOCH; t++) {
        int64_t perm[IMAGES];
        ff_sample_order(perm, IMAGES, defaults.seed, t / PER_EPOCH, 3, NULL);
        for (int i = 0; i < BATCH; i++) {
            int64_t sample = perm[t % PER_EPOCH * BATCH + i];
            cr_assert(eq(i64, sample_of(a, t, i), sample == 6 ? 7 : sample));
        }
    }
    free(b);
    options.first_iteration = PER_EPOCH + 2;
    struct ff_loader *tail = start(dataset, &options);
    b = record(tail, PER_EPOCH + 2, 3 * PER_EPOCH);
    for (int64_t t = PER_EPOCH + 2; t < 3 * PER_EPOCH; t++)
        cr_assert(eq(int, memcmp(a->pixels[t], b->pixels[t], sizeof a->pixels[t]), 0));
    free(a);
    free(b);
    ff_loader_destroy(one);
    ff_loader_destroy(three);
    ff_loader_destroy(tail);
    ff_dataset_close(dataset);
}
