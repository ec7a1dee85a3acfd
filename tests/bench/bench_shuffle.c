/* SPDX-License-Identifier: MIT */
/* What shuffle_block does for a set that is not in memory.
 *
 *   bench_shuffle FACES DIR [IMAGES]
 *
 * DIR gets a RecordIO set of IMAGES (200,000, 0.75 GB) copies of those in FACES, a
 * set of bench_loader, if it holds none. Each row reads one epoch through the loader,
 * after the file was put out of the page cache, and mapped as a set is that exceeds
 * half the memory (MADV_RANDOM: no page is read that was not asked for): images a
 * second, page faults that waited for the disk, and the reads that the block device
 * served meanwhile (the whole device's: leave it alone). Rounds alternate between the
 * settings. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "atomic_file.h"
#include "loader.h"
#include "log.h"
#include "recordio.h"

enum { SIDE = 112, BATCH = 100, IDENTITY = 50, ROUNDS = 2 };
static const int blocks[] = {1, 100, 1000};

static int copy_set(const char *dir, const char *faces, int64_t images,
                    struct ff_err *err)
{
    struct ff_dataset *from = NULL;
    struct ff_rec_writer *writer = NULL;
    struct ff_read_buffer buffer = {0};
    int rc = ff_dataset_open(&from, faces, err);
    if (!rc)
        rc = ff_rec_writer_create(&writer, dir, SIDE, SIDE, err);
    for (int64_t i = 0; i < images && !rc; i++) {
        const uint8_t *bytes;
        size_t size;
        int64_t label;
        rc = ff_dataset_read(&bytes, &size, &label, from, i % ff_dataset_count(from),
                             &buffer, err);
        if (!rc)
            rc = ff_rec_writer_add(writer, i / IDENTITY, bytes, size, err);
    }
    if (!rc)
        rc = ff_rec_writer_finish(writer, err);
    ff_rec_writer_destroy(writer);
    ff_dataset_close(from);
    free(buffer.data);
    return rc;
}

/* Puts the file out of the page cache; *device is what it lies on. */
static int forget(dev_t *device, const char *path, struct ff_err *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) || fsync(fd) ||
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED))
        return ff_err_errno(err, FF_EFAIL, "%s", path);
    close(fd);
    *device = st.st_dev;
    return 0;
}

/* Every mapping of the file becomes that of a large set. */
static void map_as_large(const char *path)
{
    char line[2 * FF_PATH_MAX], *real = realpath(path, NULL);
    FILE *f = fopen("/proc/self/maps", "r");
    while (f && real && fgets(line, sizeof line, f)) {
        unsigned long begin, end;
        if (strstr(line, real) && sscanf(line, "%lx-%lx", &begin, &end) == 2)
            madvise((void *)begin, end - begin, MADV_RANDOM);
    }
    if (f)
        fclose(f);
    free(real);
}

/* Reads served so far and their bytes; zeros where the system does not say. */
static void device_reads(double *reads, double *bytes, dev_t device)
{
    char path[64];
    unsigned long long count = 0, merged, sectors = 0;
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/stat", major(device),
             minor(device));
    FILE *f = fopen(path, "r");
    if (f && fscanf(f, "%llu %llu %llu", &count, &merged, &sectors) != 3)
        count = sectors = 0;
    if (f)
        fclose(f);
    *reads = (double)count;
    *bytes = 512.0 * (double)sectors;
}

static int epoch(const char *dir, const char *records, int shuffle_block,
                 struct ff_err *err)
{
    struct ff_dataset *dataset = NULL;
    struct ff_loader *loader = NULL;
    struct ff_batch batch;
    struct rusage before, after;
    double reads[2], bytes[2];
    dev_t device = 0;
    int rc = forget(&device, records, err);
    if (!rc)
        rc = ff_dataset_open(&dataset, dir, err);
    if (rc)
        return rc;
    map_as_large(records);
    const struct ff_loader_options options = {.batch = BATCH,
                                              .image_size_px = SIDE,
                                              .seed = 1,
                                              .flip_probability = 0.5,
                                              .workers = 1,
                                              .shuffle_block = shuffle_block,
                                              .iterations =
                                                  ff_dataset_count(dataset) / BATCH};
    getrusage(RUSAGE_SELF, &before);
    device_reads(&reads[0], &bytes[0], device);
    double start = ff_now();
    rc = ff_loader_create(&loader, dataset, &options, err);
    for (int64_t i = 0; i < options.iterations && !rc; i++)
        rc = ff_loader_next(&batch, loader, err);
    double seconds = ff_now() - start;
    device_reads(&reads[1], &bytes[1], device);
    getrusage(RUSAGE_SELF, &after);
    double served = reads[1] - reads[0], read = bytes[1] - bytes[0];
    if (!rc)
        printf("%13d %9.0f %13ld %13.0f %11.0f %9.0f\n", shuffle_block,
               (double)(options.iterations * BATCH) / seconds,
               after.ru_majflt - before.ru_majflt, served,
               served > 0 ? read / served / 1024 : 0, read / 1e6);
    ff_loader_destroy(loader);
    ff_dataset_close(dataset);
    return rc;
}

int main(int argc, char **argv)
{
    struct ff_err err = FF_ERR_INIT;
    char records[FF_PATH_MAX];
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: bench_shuffle FACES DIR [IMAGES]\n");
        return FF_EXIT_USAGE;
    }
    int rc = ff_path(records, &err, "%s/train.rec", argv[2]);
    if (!rc && access(records, F_OK) != 0)
        rc = copy_set(argv[2], argv[1], argc > 3 ? atoll(argv[3]) : 200000, &err);
    if (!rc)
        printf("%13s %9s %13s %13s %11s %9s\n", "shuffle_block", "images/s",
               "major faults", "device reads", "KiB a read", "MB read");
    for (int round = 0; round < ROUNDS && !rc; round++)
        for (size_t k = 0; k < sizeof blocks / sizeof *blocks && !rc; k++)
            rc = epoch(argv[2], records, blocks[k], &err);
    if (rc)
        ff_error("%s", err.text);
    return ff_err_exit_code(rc);
}
