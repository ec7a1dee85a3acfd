/* SPDX-License-Identifier: MIT */
/* The head of a synthetic face as a surface, its projection, and its sampling.
 *
 * Head frame: x to the image's right, y down, z to the viewer; the unit is the mean eye
 * distance, the eyes lie at y = 0, the origin on the axis between the ears. The surface
 * is z = h(x, y) around the front, wrapped to the sides by an angle; features are
 * painted in (x, y) before expression moves them. Internal to the renderer
 * (synth_face.c). */
#ifndef FF_SYNTH_SHAPE_H
#define FF_SYNTH_SHAPE_H

#include "synth_face.h"

/* Samples a pixel and axis. */
#define FF_FACE_SUPERSAMPLES 2

/* Template pixels per unit: the distance of the template's eyes. */
#define FF_FACE_UNIT_PX 35.2377

enum ff_face_layer {
    FF_FACE_LAYER_NONE,
    FF_FACE_LAYER_SKIN,
    FF_FACE_LAYER_EAR,
    FF_FACE_LAYER_NECK,
    FF_FACE_LAYER_SHIRT,
    FF_FACE_LAYER_HAIR,
    FF_FACE_LAYER_FRAME,
    FF_FACE_LAYER_LENS
};

/* What one sample of the picture sees. */
struct ff_face_sample {
    float z;    /* larger = nearer */
    float u, v; /* SKIN: x, y; HAIR: angle, y; others: own */
    float diffuse, ambient, gloss;
    enum ff_face_layer layer;
};

struct ff_face_vector {
    float x, y, z;
};

/* Lengths of one face today, in units, derived from identity and expression. */
struct ff_face_shape {
    float half_width, top, chin, depth, jaw_power;
    float forehead, cheekbone, jaw, chin_width; /* additions to the half width */
    float cheek, chin_bulge;
    float eye_x, eye_y[2], eye_width, lid_upper, lid_lower, eye_tilt, socket, crease;
    float iris, gaze_x, gaze_y;
    float brow_y, brow_thick, brow_length, brow_arch, brow_tilt;
    float nose_y, nose_width, nose_depth, bridge_width, tip, hump, nostril;
    float mouth_y, mouth_width, mouth_corner, mouth_open, lip_upper, lip_lower, bow;
    float ear, ear_out;
    float hair_line, hair_recede, hair_volume, hair_bottom, fringe, part, wave;
    float hat_y; /* above it all is hat; far up = no hat */
    bool bald, ears_seen, glasses, sunglasses;
    float glasses_width, glasses_height, glasses_power, glasses_thick;
};

/* Where things land: head frame -> template -> image. */
struct ff_face_view {
    float rotation[9]; /* row-major, head to camera */
    float body[9];     /* the same for neck and shoulders */
    float camera_distance;
    double affine[6]; /* camera plane -> image pixels: x' = a0 x + a1 y + a2, ... */
    double pixels_per_unit;
};

struct ff_face_buffer {
    struct ff_face_sample *samples; /* (height * SS, width * SS) */
    int width, height;              /* in samples */
};

void ff_face_shape_init(struct ff_face_shape *shape,
                        const struct ff_face_identity *identity,
                        const struct ff_face_nuisance *nuisance);

/* Point of the surface painted at (x, y). */
struct ff_face_vector ff_face_shape_surface(const struct ff_face_shape *shape, float x,
                                            float y);
/* The five landmarks as painted positions, in the template's order. */
void ff_face_shape_landmarks(float painted[5][2], const struct ff_face_shape *shape);

/* Pose and the similarity that lays the landmarks on the template, then the crop. */
void ff_face_view_init(struct ff_face_view *view, const struct ff_face_shape *shape,
                       const struct ff_face_nuisance *nuisance,
                       const struct ff_face_crop *crop);
/* Image pixels of a point of the head frame. */
void ff_face_view_project(double *x_px, double *y_px, const struct ff_face_view *view,
                          struct ff_face_vector point);

/* Fills the buffer (cleared here) with what each sample sees. */
void ff_face_shape_draw(struct ff_face_buffer *buffer,
                        const struct ff_face_shape *shape,
                        const struct ff_face_view *view,
                        const struct ff_face_nuisance *nuisance);

/* (1 - r2)^2 inside the unit circle, 0 outside: the one bump used everywhere. */
static inline float ff_face_bump(float r2)
{
    return r2 < 1.0f ? (1.0f - r2) * (1.0f - r2) : 0.0f;
}
static inline float ff_face_clamp(float x)
{
    return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x;
}
static inline float ff_face_step(float low, float high, float x)
{
    float t = ff_face_clamp((x - low) / (high - low));
    return t * t * (3.0f - 2.0f * t);
}
static inline float ff_face_mix(float a, float b, float t)
{
    return a + (b - a) * t;
}

#endif
