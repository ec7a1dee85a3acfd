/* SPDX-License-Identifier: MIT */
/* Images a second of the loader with one worker, beside TurboJPEG's decoding alone.
 *
 *   bench_loader DIR
 *
 * DIR gets a RecordIO set of synthetic faces (112 x 112 px, JPEG quality 90, 4:2:0) if
 * it holds none. All sides take turns over the same images; "spread" decodes them in
 * another order and into as much memory as the loader's batches take; CPU time is that
 * of the whole process. Other load shows even there, by way of shared caches and core
 * halves: the best of many short rounds is what the code can do, the median what this
 * machine gave it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <turbojpeg.h>
#include <unistd.h>

#include "atomic_file.h"
#include "image.h"
#include "loader.h"
#include "log.h"
#include "recordio.h"
#include "synth_face.h"

enum { SIDE = 112, IDENTITIES = 40, EACH = 50, QUALITY = 90, BATCH = 125, ROUNDS = 21 };
enum { IMAGES = IDENTITIES * EACH, EPOCHS = 3 };

static int make_set(const char *dir, struct ff_err *err)
{
    struct ff_rec_writer *writer = NULL;
    struct ff_face_scratch scratch = {0};
    struct ff_face_crop crop;
    struct ff_image image = {0};
    int rc = ff_rec_writer_create(&writer, dir, SIDE, SIDE, err);
    ff_face_crop_aligned(&crop, SIDE);
    for (int i = 0; i < IMAGES && !rc; i++) {
        struct ff_face_identity identity;
        struct ff_face_nuisance nuisance;
        double points[5][2];
        uint8_t *jpeg = NULL;
        size_t bytes;
        uint64_t id = (uint64_t)(i / EACH), medium = (uint64_t)(i % EACH);
        ff_face_identity_draw(&identity, 1, id);
        ff_face_nuisance_draw(&nuisance, 1, id, medium, 0, 1.0);
        rc = ff_face_render(&image, points, &scratch, &identity, &nuisance, &crop, err);
        if (!rc)
            rc = ff_encode_jpeg(&jpeg, &bytes, &image, QUALITY, true, err);
        if (!rc)
            rc = ff_rec_writer_add(writer, i / EACH, jpeg, bytes, err);
        free(jpeg);
    }
    if (!rc)
        rc = ff_rec_writer_finish(writer, err);
    ff_rec_writer_destroy(writer);
    ff_face_scratch_fini(&scratch);
    ff_image_fini(&image);
    return rc;
}

static double cpu_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

struct rates {
    double wall[ROUNDS], cpu[ROUNDS]; /* images/s */
};

/* Every image once an epoch, as the loader decodes it, and nothing else: image i goes
 * to place i % places and is number i * step of the set. */
static int decode(struct ff_dataset *dataset, int places, int64_t step,
                  struct ff_err *err)
{
    size_t bytes_each = (size_t)SIDE * SIDE * 3;
    uint8_t *rgb = malloc((size_t)places * bytes_each);
    tjhandle turbo = tjInitDecompress();
    struct ff_read_buffer buffer = {0};
    int rc = turbo && rgb ? 0 : ff_err_set(err, FF_ENOMEM, "no memory to decode");
    for (int64_t i = 0; i < (int64_t)EPOCHS * IMAGES && !rc; i++) {
        const uint8_t *bytes;
        size_t size;
        int64_t label;
        rc = ff_dataset_read(&bytes, &size, &label, dataset, i * step % IMAGES, &buffer,
                             err);
        if (!rc &&
            tjDecompress2(turbo, bytes, size, rgb + (size_t)(i % places) * bytes_each,
                          SIDE, 0, SIDE, TJPF_RGB, TJFLAG_ACCURATEDCT))
            rc = ff_err_set(err, FF_EDATA, "TurboJPEG: %s", tjGetErrorStr2(turbo));
    }
    tjDestroy(turbo);
    free(buffer.data);
    free(rgb);
    return rc;
}

static int decode_alone(struct ff_dataset *dataset, struct ff_err *err)
{
    return decode(dataset, 1, 1, err);
}

/* As the loader must: from all over the file, into memory that was not just used. */
static int decode_spread(struct ff_dataset *dataset, struct ff_err *err)
{
    enum { RING = 3, PRIME = 7919 };
    return decode(dataset, RING * BATCH, PRIME, err);
}

static int load(struct ff_dataset *dataset, struct ff_err *err)
{
    const struct ff_loader_options options = {.batch = BATCH,
                                              .image_size_px = SIDE,
                                              .seed = 1,
                                              .flip_probability = 0.5,
                                              .workers = 1,
                                              .iterations = EPOCHS * (IMAGES / BATCH)};
    struct ff_loader *loader = NULL;
    struct ff_batch batch;
    int rc = ff_loader_create(&loader, dataset, &options, err);
    for (int64_t i = 0; i < options.iterations && !rc; i++)
        rc = ff_loader_next(&batch, loader, err);
    ff_loader_destroy(loader);
    return rc;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of the ratios of the rounds, whose sides ran one after the other. */
static void print_ratio(const char *name, const struct rates *over,
                        const struct rates *under)
{
    double wall[ROUNDS], cpu[ROUNDS];
    for (int k = 0; k < ROUNDS; k++) {
        wall[k] = over->wall[k] / under->wall[k];
        cpu[k] = over->cpu[k] / under->cpu[k];
    }
    qsort(wall, ROUNDS, sizeof *wall, by_value);
    qsort(cpu, ROUNDS, sizeof *cpu, by_value);
    printf("%-22s %9.3f %22.3f\n", name, wall[ROUNDS / 2], cpu[ROUNDS / 2]);
}

static void print_row(const char *name, struct rates *rates)
{
    qsort(rates->wall, ROUNDS, sizeof *rates->wall, by_value);
    qsort(rates->cpu, ROUNDS, sizeof *rates->cpu, by_value);
    printf("%-22s %9.0f %22.0f %9.0f\n", name, rates->wall[ROUNDS / 2],
           rates->cpu[ROUNDS / 2], rates->cpu[ROUNDS - 1]);
}

enum { SIDES = 3 };

static const struct {
    const char *name;
    int (*run)(struct ff_dataset *, struct ff_err *);
} sides[SIDES] = {{"TurboJPEG alone", decode_alone},
                  {"TurboJPEG, spread", decode_spread},
                  {"loader, one worker", load}};

int main(int argc, char **argv)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_dataset *dataset = NULL;
    struct rates rates[SIDES];
    char path[FF_PATH_MAX];
    if (argc != 2) {
        fprintf(stderr, "usage: bench_loader DIR\n");
        return FF_EXIT_USAGE;
    }
    int rc = ff_path(path, &err, "%s/train.rec", argv[1]);
    if (!rc && access(path, F_OK) != 0)
        rc = make_set(argv[1], &err);
    if (!rc)
        rc = ff_dataset_open(&dataset, argv[1], &err);
    for (int round = -1; round < ROUNDS && !rc; round++) { /* -1 warms up */
        for (int side = 0; side < SIDES && !rc; side++) {
            double wall = ff_now(), cpu = cpu_seconds();
            rc = sides[side].run(dataset, &err);
            if (round < 0)
                continue;
            rates[side].wall[round] = EPOCHS * IMAGES / (ff_now() - wall);
            rates[side].cpu[round] = EPOCHS * IMAGES / (cpu_seconds() - cpu);
        }
    }
    if (!rc) {
        printf("%-22s %9s %22s %9s\n", "", "images/s", "images a CPU second", "best");
        struct rates rounds[SIDES]; /* in order: a row is sorted when printed */
        memcpy(rounds, rates, sizeof rounds);
        for (int side = 0; side < SIDES; side++)
            print_row(sides[side].name, &rates[side]);
        print_ratio("loader / alone", &rounds[2], &rounds[0]);
        print_ratio("loader / spread", &rounds[2], &rounds[1]);
    }
    ff_dataset_close(dataset);
    if (rc)
        ff_error("%s", err.text);
    return ff_err_exit_code(rc);
}
