/* SPDX-License-Identifier: MIT */
/* Synthetic faces: one identity, one set of nuisances, one crop -> RGB and 5 landmarks.
 *
 * A face is a small 3-D head (synth_shape.h) painted by analytic shapes
 * (synth_paint.h). Who it is stands in FF_FACE_PARAMETERS independent numbers; how it
 * looks today stands in struct ff_face_nuisance. Both are pure functions of (seed,
 * identity, medium, frame), and a picture is a pure function of them: no state, any
 * thread, any order. */
#ifndef FF_SYNTH_FACE_H
#define FF_SYNTH_FACE_H

#include <stdbool.h>
#include <stdint.h>

#include "err.h"
#include "image.h"

/* Identity parameters, each uniform in [0, 1) and independent of the others. */
#define FF_FACE_PARAMETER_LIST(X)                                                      \
    X(SKIN_MELANIN)                                                                    \
    X(SKIN_RED)                                                                        \
    X(SKIN_YELLOW) X(BLUSH) X(FRECKLES) X(AGE) X(MOLE_A_X) X(MOLE_A_Y) X(MOLE_B_X) X(  \
        MOLE_B_Y) X(HEAD_WIDTH) X(HEAD_TOP) X(HEAD_DEPTH) X(FOREHEAD) X(CHEEKBONE)     \
        X(CHEEK) X(JAW_WIDTH) X(JAW_SQUARE) X(CHIN_LENGTH) X(CHIN_WIDTH) X(CHIN_DEPTH) \
            X(EYE_SPACING) X(EYE_WIDTH) X(EYE_HEIGHT) X(EYE_TILT) X(EYE_DEPTH)         \
                X(EYE_CREASE) X(IRIS_HUE) X(IRIS_LIGHT) X(IRIS_SIZE) X(BROW_HEIGHT) X( \
                    BROW_THICK) X(BROW_LENGTH) X(BROW_ARCH) X(BROW_TILT) X(BROW_DARK)  \
                    X(NOSE_LENGTH) X(NOSE_WIDTH) X(NOSE_DEPTH) X(NOSE_BRIDGE)          \
                        X(NOSE_TIP) X(NOSE_HUMP) X(NOSTRIL) X(MOUTH_HEIGHT)            \
                            X(MOUTH_WIDTH) X(MOUTH_CURVE) X(LIP_UPPER) X(LIP_LOWER)    \
                                X(LIP_BOW) X(LIP_RED) X(EAR_SIZE) X(EAR_OUT)           \
                                    X(ASYMMETRY) X(HAIR_LIGHT) X(HAIR_RED)             \
                                        X(HAIR_LINE) X(HAIR_RECEDE) X(HAIR_VOLUME)     \
                                            X(HAIR_LENGTH) X(HAIR_FRINGE) X(HAIR_PART) \
                                                X(HAIR_WAVE) X(BEARD) X(MOUSTACHE)     \
                                                    X(GLASSES) X(GLASSES_SHAPE)

enum ff_face_parameter {
#define X(name) FF_FACE_##name,
    FF_FACE_PARAMETER_LIST(X)
#undef X
        FF_FACE_PARAMETERS
};

struct ff_face_identity {
    uint64_t id;
    float value[FF_FACE_PARAMETERS];
};

enum ff_face_occluder {
    FF_FACE_OCCLUDER_NONE,
    FF_FACE_OCCLUDER_BAR,
    FF_FACE_OCCLUDER_HAND,
    FF_FACE_OCCLUDER_MASK,
    FF_FACE_OCCLUDER_SUNGLASSES,
    FF_FACE_OCCLUDER_HAT,
    FF_FACE_OCCLUDERS
};

/* Everything about a picture that is not the person. Lengths are in pixels of the 112 x
 * 112 template unless said otherwise; colours are linear. */
struct ff_face_nuisance {
    uint32_t pattern;         /* of background, strands of noise, occluder */
    float yaw_rad, pitch_rad; /* roll is part of the crop */
    float camera_distance;    /* in eye distances */
    float light_direction[3]; /* unit; x right, y down, z to the viewer */
    float light_color[3], ambient_color[3];
    float gloss;
    float shadow_angle_rad, shadow_offset, shadow_strength; /* a soft cast shadow */
    float smile, mouth_open, brow_raise, eye_open;          /* expression */
    float gaze_x, gaze_y;
    float shirt_color[3], background_color[2][3], background_contrast;
    enum ff_face_occluder occluder;
    float occluder_color[3], occluder_x, occluder_y, occluder_angle_rad, occluder_size;
    float exposure, contrast, saturation;
    float blur_px[2], noise; /* sigma; noise in 1/255 */
    int jpeg_quality;
};

/* A picture's frame: where the 112 x 112 alignment template lies in it. */
struct ff_face_crop {
    int width_px, height_px;
    double scale, roll_rad, x_px,
        y_px; /* image = scale * R(roll) * template + (x, y) */
};

/* Buffers of one thread; zero-initialise, free with ff_face_scratch_fini. */
struct ff_face_scratch {
    void *samples;
    float *pixels, *rows;
    int64_t sample_capacity, pixel_capacity;
};

/* The five landmarks (image-left eye, image-right eye, nose tip, image-left and -right
 * mouth corner) of the 112 x 112 alignment template. */
extern const double ff_face_template[5][2];

/* Identity `id` of the population `seed`. */
void ff_face_identity_draw(struct ff_face_identity *identity, uint64_t seed,
                           uint64_t id);
/* Euclidean distance of the parameter vectors, divided by its root mean square over
 * independent identities: 0 = the same person, about 1 = two strangers. */
double ff_face_identity_distance(const struct ff_face_identity *a,
                                 const struct ff_face_identity *b);

/* Frontal, softly lit, neutral, sharp, plain background. */
void ff_face_nuisance_none(struct ff_face_nuisance *nuisance);
/* Frame `frame` of medium `medium` of identity `id`; frames of one medium share light,
 * background and occluder and nearly share pose and expression. hardness >= 0 scales
 * all. */
void ff_face_nuisance_draw(struct ff_face_nuisance *nuisance, uint64_t seed,
                           uint64_t id, uint64_t medium, uint64_t frame,
                           double hardness);
/* Turns everything off but the pose. */
void ff_face_nuisance_pose_only(struct ff_face_nuisance *nuisance);
/* What a face detector would say of such a picture, in (0, 1): falls with blur, noise,
 * occlusion, darkness and angle. */
double ff_face_nuisance_score(const struct ff_face_nuisance *nuisance);

/* The aligned crop of side `side_px`. */
void ff_face_crop_aligned(struct ff_face_crop *crop, int side_px);

/* Renders into *image (its buffer is reused if it is large enough for the crop, as
 * ff_decode does; zero-initialise it and free it with ff_image_fini). points: pixels of
 * the image, pixel centres at integers, exact: from the projection that draws. The face
 * is placed so that the least-squares similarity of its landmarks falls on the
 * template, i.e. alignment by these points undoes the crop. FF_ENOMEM. */
int ff_face_render(struct ff_image *image, double points[5][2],
                   struct ff_face_scratch *scratch,
                   const struct ff_face_identity *identity,
                   const struct ff_face_nuisance *nuisance,
                   const struct ff_face_crop *crop, struct ff_err *err);
void ff_face_scratch_fini(struct ff_face_scratch *scratch);

#endif
