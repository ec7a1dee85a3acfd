/* SPDX-License-Identifier: MIT */
/* Sets of synthetic faces: a training set and an evaluation set of other people.
 *
 * OUT/train   RecordIO in the insightface layout, aligned faces
 * OUT/ijb     IJB-C format: meta/ijbc_*.txt and loose_crop/<n>.jpg
 * OUT/synth.yaml   options, counts and checks, written last
 * All is made in OUT.tmp.<pid> and renamed at the end: OUT is whole or not there. The
 * bytes are a function of the options alone, whatever the number of threads. */
#ifndef FF_SYNTH_SET_H
#define FF_SYNTH_SET_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "synth_face.h"

/* Training identities count from 0, those of the evaluation set from here. */
#define FF_SYNTH_EVAL_FIRST ((uint64_t)1 << 40)

struct ff_synth_options {
    int64_t identities, images; /* training: people, pictures each */
    int64_t seed, image_size;
    int64_t eval_identities, eval_images; /* evaluation: people, pictures each */
    int64_t impostor_pairs; /* 0 = max(20 a template, 100,000); at most all */
    double hardness;
    int64_t threads; /* 0 = all CPUs this process may use */
    bool check;      /* whether ff_synth_check is run */
};
#define FF_SYNTH_OPTIONS_INIT                                                          \
    {                                                                                  \
        200, 40, 1, 112, 400, 12, 0, 1.0, 0, true                                      \
    }

/* One picture to make. */
struct ff_synth_item {
    uint64_t id, medium, frame;
    struct ff_face_crop crop;
    uint8_t *jpeg; /* result, malloc'd: whoever asked frees */
    size_t jpeg_bytes;
    double points[5][2], score; /* result */
};

/* Renders and encodes items (count) with `threads` OpenMP threads. On failure no jpeg
 * is left behind. */
int ff_synth_make(struct ff_synth_item *items, int64_t count,
                  const struct ff_synth_options *options, int threads,
                  struct ff_err *err);

/* Makes the whole set. Prints the content of synth.yaml to stdout. A complete OUT made
 * with the same options is left alone (and its synth.yaml printed); FF_EUSAGE if OUT
 * holds anything else. FF_ESTOPPED after a stop request, with nothing kept. */
int ff_synth_write(const char *out, const struct ff_synth_options *options,
                   struct ff_err *err);

/* PNG of aligned training pictures: rows = identities, columns = images. */
int ff_synth_sheet(const char *path, int rows, int columns,
                   const struct ff_synth_options *options, struct ff_err *err);

/* Share of the training set's spread of pose that the pixel matching lets in: standard
 * deviations of 4.4 degrees of yaw and 2.3 of pitch. Beyond that, plain pixels of a
 * turned head are no measure of who it is. */
#define FF_SYNTH_CHECK_POSE_SHARE 0.25

/* What the pictures and parameters are worth. */
struct ff_synth_check {
    int64_t identities;       /* looked at, training and evaluation together */
    double nearest_distance;  /* of two of them; see ff_face_identity_distance */
    int64_t pixel_identities; /* in the pixel matching */
    double
        pixel_tar_percent; /* nearest mean on pixels, only the pose varies, FAR 1e-4 */
};
int ff_synth_check(struct ff_synth_check *check, const struct ff_synth_options *options,
                   int threads, struct ff_err *err);

/* `ff-data synth`; argv[0] is the verb. Returns a process exit code. */
int ff_cmd_synth(int argc, char **argv);

#endif
