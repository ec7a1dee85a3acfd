/* SPDX-License-Identifier: MIT */
/* Colours of a synthetic face: what is painted on the surface, behind it and before it.
 * Colours are linear RGB in 0 .. 1 and beyond. Internal to the renderer. */
#ifndef FF_SYNTH_PAINT_H
#define FF_SYNTH_PAINT_H

#include "synth_shape.h"

#define FF_FACE_FRECKLES 28

struct ff_face_paint {
    const struct ff_face_shape *shape;
    const struct ff_face_nuisance *nuisance;
    float skin[3], lip[3], iris[3], hair[3], brow[3], frame[3];
    float blush, age, crease, beard, moustache, brow_density;
    float mole[2][3];                   /* x, y, radius */
    float freckle[FF_FACE_FRECKLES][3]; /* x, y, radius */
    int freckles;
    float footprint;  /* of a sample, in units */
    uint32_t pattern; /* of the person's strands */
};

void ff_face_paint_init(struct ff_face_paint *paint,
                        const struct ff_face_identity *identity,
                        const struct ff_face_shape *shape,
                        const struct ff_face_nuisance *nuisance,
                        double pixels_per_unit);
/* Lit colour of a sample with layer != NONE. */
void ff_face_paint_sample(float rgb[3], const struct ff_face_paint *paint,
                          const struct ff_face_sample *sample);
/* Background at template position (x, y), in units from the template's centre. */
void ff_face_paint_background(float rgb[3], const struct ff_face_nuisance *nuisance,
                              float x, float y);
/* Cast shadow, bar and hand over a pixel at the same coordinates; footprint of a pixel.
 */
void ff_face_paint_over(float rgb[3], const struct ff_face_nuisance *nuisance, float x,
                        float y, float footprint, bool on_person);

#endif
