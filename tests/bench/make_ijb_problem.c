/* SPDX-License-Identifier: MIT */
/* Writes an evaluation problem of IJB-C's size: meta files, 1:N lists and features.h5.
 *
 *   make_ijb_problem DIR [SCALE]     SCALE 1 = published counts (1.9 GB), 0 < SCALE <=
 * 1
 *
 * 469,375 images, 23,124 templates (one gallery template for each of 3,531 people, the
 * rest probes), 15,658,489 pairs of a gallery and a probe template, 19,557 of them
 * genuine. Template ids are sparse and in no order of role; a template has one image or
 * hundreds, a medium one picture or a run of frames. An image's feature is the person's
 * vector plus noise of its template's quality, part of it shared by the frames of a
 * medium, so that TAR falls from FAR 1e-1 to 1e-6 as with a network. Everything is a
 * pure function of (SCALE, index) through rng.h: equal files on every machine. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "feature_file.h"
#include "rng.h"

#define SEED 3407
#define DIM 512
#define BLOCK_ROWS 4096
#define FRAMES_MAX 24

struct problem {
    int64_t images, templates, pairs, genuine, people;
    int64_t *id;     /* (templates) template id */
    int64_t *person; /* (templates); templates 0 .. people-1 are the gallery */
    int64_t *first;  /* (templates + 1) first image */
    int64_t *medium; /* (images) media id */
    double *noise;   /* (templates) noise to signal */
};

static uint64_t u64(const char *stream, int64_t index)
{
    return ff_rng_u64(SEED, ff_stream(stream), (uint64_t)index);
}

static double uniform(const char *stream, int64_t index)
{
    return ff_rng_uniform(SEED, ff_stream(stream), (uint64_t)index);
}

/* Sparse rising ids, dealt out to the templates at random. */
static int make_ids(struct problem *p)
{
    int64_t *order = malloc((size_t)p->templates * sizeof *order);
    if (!order)
        return -1;
    ff_rng_permutation(order, p->templates, SEED, ff_stream("ids"));
    int64_t id = 0;
    for (int64_t k = 0; k < p->templates; k++) {
        id += 1 + (int64_t)(u64("gap", k) % 9);
        p->id[order[k]] = id;
    }
    free(order);
    return 0;
}

/* One image each, the others by log-normal weights; runs of frames make media. */
static int make_images(struct problem *p)
{
    double total = 0, sum = 0;
    uint64_t stream = ff_stream("size");
    for (int64_t t = 0; t < p->templates; t++)
        total += exp(1.3 * ff_rng_normal(SEED, stream, (uint64_t)t));
    for (int64_t t = 0; t < p->templates; t++) {
        p->first[t] =
            t + (int64_t)(sum / total * (double)(p->images - p->templates) + 0.5);
        sum += exp(1.3 * ff_rng_normal(SEED, stream, (uint64_t)t));
    }
    p->first[p->templates] = p->images;
    int64_t medium = 0, run = 0;
    for (int64_t t = 0; t < p->templates; t++) {
        run = 0;
        for (int64_t i = p->first[t]; i < p->first[t + 1]; i++, run--) {
            if (run <= 0) {
                medium += 1 + (int64_t)(u64("media", i) % 5);
                run = uniform("still", i) < 0.4
                          ? 1
                          : 2 + (int64_t)(u64("frames", i) % (FRAMES_MAX - 1));
            }
            p->medium[i] = medium;
        }
        p->noise[t] = 0.9 + 5 * uniform("quality", t);
        p->person[t] =
            t < p->people ? t : (int64_t)(u64("person", t) % (uint64_t)p->people);
    }
    return 0;
}

static FILE *open_meta(struct ff_atomic_file *file, const char *dir, const char *name,
                       struct ff_err *err)
{
    char path[FF_PATH_MAX];
    if (ff_path(path, err, "%s/meta/ijbc_%s", dir, name) ||
        ff_atomic_begin(file, path, err))
        return NULL;
    return file->stream;
}

static int write_images(const struct problem *p, const char *dir, struct ff_err *err)
{
    struct ff_atomic_file points, ids;
    FILE *f = open_meta(&points, dir, "name_5pts_score.txt", err);
    if (!f)
        return -1;
    FILE *g = open_meta(&ids, dir, "face_tid_mid.txt", err);
    if (!g) {
        ff_atomic_abort(&points);
        return -1;
    }
    for (int64_t t = 0; t < p->templates; t++)
        for (int64_t i = p->first[t]; i < p->first[t + 1]; i++) {
            static const int at[10] = {46, 62, 87, 60, 68, 77, 52, 99, 86, 98};
            fprintf(f, "%lld.jpg", (long long)i + 1);
            for (int k = 0; k < 10; k++)
                fprintf(f, " %d.%03d", at[k], (int)(u64("point", 10 * i + k) % 1000));
            fprintf(f, " 0.%03d\n", 500 + (int)(u64("score", i) % 500));
            fprintf(g, "%lld.jpg %lld %lld\n", (long long)i + 1, (long long)p->id[t],
                    (long long)p->medium[i]);
        }
    int rc = ff_atomic_commit(&points, err);
    int other = ff_atomic_commit(&ids, err);
    return rc ? rc : other;
}

/* Gallery by gallery: its genuine probes, then impostors by selection sampling. */
static int write_pairs(const struct problem *p, const char *dir, struct ff_err *err)
{
    struct ff_atomic_file file;
    FILE *f = open_meta(&file, dir, "template_pair_label.txt", err);
    if (!f)
        return -1;
    int64_t probes = p->templates - p->people, impostors = p->pairs - p->genuine;
    int64_t genuine = 0, written = 0;
    uint64_t stream = ff_stream("pair");
    for (int64_t g = 0; g < p->people; g++) {
        int64_t others = 0;
        for (int64_t t = p->people; t < p->templates; t++) {
            bool same = p->person[t] == g;
            others += !same;
            /* Probe t's place among all probes decides whether its pair is listed. */
            if (same && t - p->people < p->genuine) {
                fprintf(f, "%lld %lld 1\n", (long long)p->id[g], (long long)p->id[t]);
                genuine++;
            }
        }
        int64_t wanted = impostors * (g + 1) / p->people - written;
        for (int64_t t = p->people; t < p->templates && wanted > 0; t++) {
            if (p->person[t] == g)
                continue;
            double u = ff_rng_uniform(SEED, stream, (uint64_t)(g * probes + t));
            if (u * (double)others < (double)wanted) {
                fprintf(f, "%lld %lld 0\n", (long long)p->id[g], (long long)p->id[t]);
                wanted--;
                written++;
            }
            others--;
        }
    }
    if (genuine != p->genuine || written != impostors) {
        ff_atomic_abort(&file);
        return ff_err_set(err, FF_EFAIL, "%lld genuine and %lld impostor pairs",
                          (long long)genuine, (long long)written);
    }
    return ff_atomic_commit(&file, err);
}

/* People of even numbers in G1, the others in G2; every 20th in neither. */
static int write_lists(const struct problem *p, const char *dir, struct ff_err *err)
{
    static const char *const names[3] = {"1N_gallery_G1.csv", "1N_gallery_G2.csv",
                                         "1N_probe_mixed.csv"};
    for (int list = 0; list < 3; list++) {
        struct ff_atomic_file file;
        FILE *f = open_meta(&file, dir, names[list], err);
        if (!f)
            return -1;
        fprintf(f, "TEMPLATE_ID,SUBJECT_ID\n");
        for (int64_t t = 0; t < p->templates; t++) {
            bool gallery = t < p->people && t % 20 != 19 && t % 2 == list;
            if (list == 2 ? t >= p->people : gallery)
                fprintf(f, "%lld,%lld\n", (long long)p->id[t],
                        (long long)p->person[t] + 1);
        }
        int rc = ff_atomic_commit(&file, err);
        if (rc)
            return rc;
    }
    return 0;
}

/* dst (2 * DIM) += scale * uniform noise in [-1, 1), four values of 16 bits a draw. */
static void add_noise(float *dst, int values, double scale, uint64_t stream,
                      uint64_t index)
{
    for (int d = 0; d < values; d += 4) {
        uint64_t bits = ff_rng_u64(SEED, stream, index * 512 + (uint64_t)d / 4);
        for (int k = 0; k < 4; k++)
            dst[d + k] +=
                (float)(scale * ((double)(bits >> 16 * k & 0xffff) / 32768 - 1));
    }
}

/* Original and flipped half share the person and the medium's noise. */
static void make_row(float *row, const struct problem *p, int64_t t, int64_t i)
{
    memset(row, 0, 2 * DIM * sizeof *row);
    add_noise(row, DIM, 1, ff_stream("face"), (uint64_t)p->person[t]);
    add_noise(row, DIM, 0.85 * p->noise[t], ff_stream("medium"),
              (uint64_t)p->medium[i]);
    memcpy(row + DIM, row, DIM * sizeof *row);
    add_noise(row, 2 * DIM, 0.5 * p->noise[t], ff_stream("image"), (uint64_t)i);
}

static int write_features(const struct problem *p, const char *dir, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    struct ff_features_writer *writer = NULL;
    size_t n = (size_t)p->images;
    const char **name = malloc(n * sizeof *name);
    char(*text)[24] = malloc(n * sizeof *text);
    float *rows = malloc((size_t)BLOCK_ROWS * 2 * DIM * sizeof *rows);
    int64_t *owner = malloc(n * sizeof *owner), done = 0;
    int rc = ff_path(path, err, "%s/features.h5", dir);
    if (!rc && (!name || !text || !rows || !owner))
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %lld rows", (long long)n);
    if (rc)
        goto done;
    for (int64_t i = 0; i < p->images; i++) {
        snprintf(text[i], sizeof text[i], "%lld.jpg", (long long)i + 1);
        name[i] = text[i];
    }
    for (int64_t t = 0; t < p->templates; t++)
        for (int64_t i = p->first[t]; i < p->first[t + 1]; i++)
            owner[i] = t;
    rc = ff_features_create(&writer, &done, path, name, p->images, DIM, "", err);
    while (!rc && done < p->images) {
        int64_t count = p->images - done < BLOCK_ROWS ? p->images - done : BLOCK_ROWS;
#pragma omp parallel for schedule(static)
        for (int64_t k = 0; k < count; k++)
            make_row(rows + (size_t)k * 2 * DIM, p, owner[done + k], done + k);
        rc = ff_features_append(writer, rows, done, count, err);
        done += count;
    }
done:
    ff_features_writer_close(writer);
    free(owner);
    free(rows);
    free(text);
    free(name);
    return rc;
}

static int make(struct problem *p, const char *dir, struct ff_err *err)
{
    char meta[FF_PATH_MAX];
    size_t t = (size_t)p->templates;
    p->id = malloc(t * sizeof *p->id);
    p->person = malloc(t * sizeof *p->person);
    p->first = malloc((t + 1) * sizeof *p->first);
    p->medium = malloc((size_t)p->images * sizeof *p->medium);
    p->noise = malloc(t * sizeof *p->noise);
    if (!p->id || !p->person || !p->first || !p->medium || !p->noise || make_ids(p) ||
        make_images(p))
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld images",
                          (long long)p->images);
    int rc = ff_path(meta, err, "%s/meta", dir);
    if (!rc)
        rc = ff_mkdirs(meta, err);
    if (!rc)
        rc = write_images(p, dir, err);
    if (!rc)
        rc = write_pairs(p, dir, err);
    if (!rc)
        rc = write_lists(p, dir, err);
    return rc ? rc : write_features(p, dir, err);
}

int main(int argc, char **argv)
{
    struct ff_err err = FF_ERR_INIT;
    double scale = argc > 2 ? atof(argv[2]) : 1;
    if (argc < 2 || argc > 3 || !(scale > 0 && scale <= 1)) {
        fprintf(stderr, "usage: make_ijb_problem DIR [SCALE in (0, 1]]\n");
        return FF_EXIT_USAGE;
    }
    struct problem p = {
        .images = (int64_t)ceil(469375 * scale),
        .templates = (int64_t)ceil(23124 * scale),
        .pairs = (int64_t)ceil(15658489 * scale * scale),
        .genuine = (int64_t)ceil(19557 * scale),
        .people = (int64_t)ceil(3531 * scale),
    };
    if (p.genuine > p.templates - p.people)
        p.genuine = p.templates - p.people;
    int rc = make(&p, argv[1], &err);
    if (rc)
        fprintf(stderr, "make_ijb_problem: %s\n", err.text);
    free(p.noise);
    free(p.medium);
    free(p.first);
    free(p.person);
    free(p.id);
    return rc ? 1 : 0;
}
