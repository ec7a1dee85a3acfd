/* SPDX-License-Identifier: MIT */
/* Whether the people differ: in their parameters, and in their pictures.
 *
 * Pictures: all nuisance is off but the pose, which moves as that of a person asked to
 * sit still (POSE_SHARE). A person's mean over ENROLLED pictures is enrolled, others
 * are probes, and the score is minus the squared distance of pixels, measured in units
 * of what the pose alone does: with C the covariance of pixels within a person (from
 * people of a third population), C + FLOOR I = L L', pictures are compared as
 * inverse(L) x. TAR follows the project's rule: the threshold is the (k+1)-th largest
 * impostor score with k = floor(FAR * impostors), and a score must exceed it. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "synth_set.h"

enum {
    COMPARED_MAX = 4000, /* identities whose parameters are compared pairwise */
    MATCHED_MAX = 400,   /* identities whose pictures are */
    ENROLLED = 8,
    PROBES = 2,
    EACH = ENROLLED + PROBES,
    CALIBRATORS = 300, /* people whose pictures give C */
    SIDE_PX = 16,
    PIXELS = SIDE_PX * SIDE_PX * 3
};

/* Of the training set's spread of yaw (17.5 degrees) and pitch (9.3 degrees). */
static const double POSE_SHARE = FF_SYNTH_CHECK_POSE_SHARE;
/* Variance of rounding and of what so few people do not show, squared 8-bit steps. */
static const double FLOOR = 1.0;
static const uint64_t CALIBRATION_FIRST = (uint64_t)2 << 40;

/* The i-th person of the check: evaluation people first. */
static uint64_t person(const struct ff_synth_options *o, int64_t i)
{
    return i < o->eval_identities ? FF_SYNTH_EVAL_FIRST + (uint64_t)i
                                  : (uint64_t)(i - o->eval_identities);
}

static int nearest(double *distance, int64_t count, const struct ff_synth_options *o,
                   struct ff_err *err)
{
    struct ff_face_identity *all = malloc((size_t)count * sizeof *all);
    if (!all)
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld identities",
                          (long long)count);
    for (int64_t i = 0; i < count; i++)
        ff_face_identity_draw(&all[i], (uint64_t)o->seed, person(o, i));
    *distance = DBL_MAX;
    for (int64_t i = 0; i < count; i++)
        for (int64_t j = 0; j < i; j++)
            *distance = fmin(*distance, ff_face_identity_distance(&all[i], &all[j]));
    free(all);
    return 0;
}

/* pixels (count, EACH, PIXELS) f32 of the people ids[0 .. count-1]. */
static int render_all(float *pixels, const uint64_t *ids, int64_t count, uint64_t seed,
                      int threads, struct ff_err *err)
{
    struct ff_err first = FF_ERR_INIT;
#pragma omp parallel num_threads(threads)
    {
        struct ff_face_scratch scratch = {0};
        struct ff_image image = {0};
#pragma omp for schedule(dynamic, 4)
        for (int64_t i = 0; i < count * EACH; i++) {
            struct ff_face_identity identity;
            struct ff_face_nuisance nuisance;
            struct ff_face_crop crop;
            struct ff_err mine = FF_ERR_INIT;
            double points[5][2];
            ff_face_identity_draw(&identity, seed, ids[i / EACH]);
            ff_face_nuisance_draw(&nuisance, seed, ids[i / EACH], (uint64_t)(i % EACH),
                                  0, 1.0);
            ff_face_nuisance_pose_only(&nuisance);
            nuisance.yaw_rad *= (float)POSE_SHARE;
            nuisance.pitch_rad *= (float)POSE_SHARE;
            ff_face_crop_aligned(&crop, SIDE_PX);
            if (ff_face_render(&image, points, &scratch, &identity, &nuisance, &crop,
                               &mine)) {
#pragma omp critical(ff_synth_check_error)
                first = mine;
                continue;
            }
            for (int k = 0; k < PIXELS; k++)
                pixels[i * PIXELS + k] = (float)image.rgb[k];
        }
        ff_face_scratch_fini(&scratch);
        ff_image_fini(&image);
    }
    if (first.code)
        return ff_err_set(err, first.code, "%s", first.text);
    return 0;
}

/* Lower Cholesky factor, row-major, of C + FLOOR I; pixels (count, EACH, PIXELS). */
static void factorise(double *factor, float *pixels, int64_t count, int threads)
{
    for (int64_t i = 0; i < count; i++)
        for (int k = 0; k < PIXELS; k++) {
            float mean = 0.0f;
            for (int e = 0; e < EACH; e++)
                mean += pixels[(i * EACH + e) * PIXELS + k] / EACH;
            for (int e = 0; e < EACH; e++)
                pixels[(i * EACH + e) * PIXELS + k] -= mean;
        }
    const double share = 1.0 / (double)(count * (EACH - 1));
#pragma omp parallel for num_threads(threads) schedule(dynamic, 8)
    for (int r = 0; r < PIXELS; r++) {
        double *row = factor + (int64_t)r * PIXELS;
        memset(row, 0, PIXELS * sizeof *row);
        for (int64_t i = 0; i < count * EACH; i++) {
            const float *x = pixels + i * PIXELS;
            for (int c = 0; c <= r; c++)
                row[c] += share * (double)x[r] * (double)x[c];
        }
        row[r] += FLOOR;
    }
    for (int r = 0; r < PIXELS; r++)
        for (int c = 0; c <= r; c++) {
            double *row = factor + (int64_t)r * PIXELS, sum = row[c];
            const double *other = factor + (int64_t)c * PIXELS;
            for (int k = 0; k < c; k++)
                sum -= row[k] * other[k];
            row[c] = c == r ? sqrt(sum) : sum / other[c];
        }
}

/* x := inverse(factor) x by forward substitution. */
static void whiten(float *x, const double *factor)
{
    double y[PIXELS];
    for (int r = 0; r < PIXELS; r++) {
        const double *row = factor + (int64_t)r * PIXELS;
        double sum = (double)x[r];
        for (int k = 0; k < r; k++)
            sum -= row[k] * y[k];
        y[r] = sum / row[r];
    }
    for (int r = 0; r < PIXELS; r++)
        x[r] = (float)y[r];
}

static int descending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static float minus_distance(const float *a, const float *b)
{
    float sum = 0.0f;
    for (int k = 0; k < PIXELS; k++)
        sum += (a[k] - b[k]) * (a[k] - b[k]);
    return -sum;
}

static double tar_percent(float *genuine, int64_t genuines, float *impostor,
                          int64_t impostors, double far)
{
    int64_t k = (int64_t)floor(far * (double)impostors * (1 + 1e-12)), accepted = 0;
    qsort(impostor, (size_t)impostors, sizeof *impostor, descending);
    for (int64_t i = 0; i < genuines; i++)
        accepted += genuine[i] > impostor[k];
    return 100.0 * (double)accepted / (double)genuines;
}

/* pixels (people, EACH, PIXELS) in the units of the score; the first ENROLLED pictures
 * of a person become the mean in place of the first. */
static void score_all(float *genuine, float *impostor, float *pixels, int64_t people,
                      int threads)
{
    for (int64_t i = 0; i < people; i++) {
        float *mean = pixels + i * EACH * PIXELS;
        for (int k = 0; k < PIXELS; k++) {
            for (int e = 1; e < ENROLLED; e++)
                mean[k] += mean[e * PIXELS + k];
            mean[k] /= ENROLLED;
        }
    }
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t p = 0; p < people * PROBES; p++) {
        int64_t own = p / PROBES, at = p * (people - 1);
        const float *probe = pixels + (own * EACH + ENROLLED + p % PROBES) * PIXELS;
        for (int64_t i = 0; i < people; i++) {
            float score = minus_distance(probe, pixels + i * EACH * PIXELS);
            if (i == own)
                genuine[p] = score;
            else
                impostor[at++] = score;
        }
    }
}

static int match_pixels(double *tar, int64_t people, const struct ff_synth_options *o,
                        int threads, struct ff_err *err)
{
    const int64_t all = people + CALIBRATORS, probes = people * PROBES;
    float *pixels = malloc((size_t)(all * EACH) * PIXELS * sizeof *pixels);
    float *genuine = malloc((size_t)probes * sizeof *genuine);
    float *impostor = malloc((size_t)(probes * (people - 1)) * sizeof *impostor);
    double *factor = malloc((size_t)PIXELS * PIXELS * sizeof *factor);
    uint64_t *ids = malloc((size_t)all * sizeof *ids);
    int code = 0;
    if (!pixels || !genuine || !impostor || !factor || !ids) {
        code = ff_err_set(err, FF_ENOMEM,
                          "no memory to compare the pictures of %lld people",
                          (long long)people);
        goto done;
    }
    for (int64_t i = 0; i < all; i++)
        ids[i] = i < people ? person(o, i) : CALIBRATION_FIRST + (uint64_t)(i - people);
    code = render_all(pixels, ids, all, (uint64_t)o->seed, threads, err);
    if (code)
        goto done;
    factorise(factor, pixels + people * EACH * PIXELS, CALIBRATORS, threads);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < people * EACH; i++)
        whiten(pixels + i * PIXELS, factor);
    score_all(genuine, impostor, pixels, people, threads);
    *tar = tar_percent(genuine, probes, impostor, probes * (people - 1), 1e-4);
done:
    free(ids);
    free(factor);
    free(impostor);
    free(genuine);
    free(pixels);
    return code;
}

int ff_synth_check(struct ff_synth_check *check, const struct ff_synth_options *options,
                   int threads, struct ff_err *err)
{
    int64_t all = options->identities + options->eval_identities;
    memset(check, 0, sizeof *check);
    check->identities = all < COMPARED_MAX ? all : COMPARED_MAX;
    check->pixel_identities = all < MATCHED_MAX ? all : MATCHED_MAX;
    if (all < 2)
        return ff_err_set(err, FF_EUSAGE,
                          "the check compares people: at least 2 are needed");
    int code = nearest(&check->nearest_distance, check->identities, options, err);
    if (code)
        return code;
    return match_pixels(&check->pixel_tar_percent, check->pixel_identities, options,
                        threads, err);
}
