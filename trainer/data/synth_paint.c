/* SPDX-License-Identifier: MIT */
/* Colours of a synthetic face: analytic shapes with soft edges one sample wide.
 *
 * On the skin, in painted coordinates, from below: complexion, blush, freckles, moles,
 * folds, beard, eye shadow, brows, eyes, lips, nostrils, mask. Each feature first tests
 * a box, so that most samples pay for a few comparisons only. Strands and blotches come
 * from integer hashes of lattice points: a texture is a pure function of its pattern.
 */
#include "synth_paint.h"

#include <math.h>
#include <string.h>

#include "rng.h"

static uint32_t mix_bits(uint32_t x)
{
    x ^= x >> 16;
    x *= 0x7feb352du;
    x ^= x >> 15;
    x *= 0x846ca68bu;
    return x ^ x >> 16;
}

static float lattice(uint32_t pattern, int x, int y)
{
    uint32_t h = mix_bits(pattern ^ mix_bits((uint32_t)x * 0x9e3779b1u + (uint32_t)y));
    return (float)(h >> 8) * 0x1p-24f;
}

/* Value noise in [0, 1], one cell a unit. */
static float noise_2d(uint32_t pattern, float x, float y)
{
    float fx = floorf(x), fy = floorf(y), tx = x - fx, ty = y - fy;
    int ix = (int)fx, iy = (int)fy;
    tx = tx * tx * (3.0f - 2.0f * tx);
    ty = ty * ty * (3.0f - 2.0f * ty);
    float a = ff_face_mix(lattice(pattern, ix, iy), lattice(pattern, ix + 1, iy), tx);
    float b =
        ff_face_mix(lattice(pattern, ix, iy + 1), lattice(pattern, ix + 1, iy + 1), tx);
    return ff_face_mix(a, b, ty);
}

static void blend(float rgb[3], const float over[3], float cover)
{
    for (int k = 0; k < 3; k++)
        rgb[k] += (over[k] - rgb[k]) * cover;
}

static void darken(float rgb[3], float factor)
{
    for (int k = 0; k < 3; k++)
        rgb[k] *= factor;
}

/* Share of a footprint on the positive side of an edge at signed distance d. */
static float cover(float d, float footprint)
{
    return ff_face_clamp(0.5f + d / footprint);
}

static float between(const struct ff_face_identity *id, enum ff_face_parameter which,
                     float low, float high)
{
    return ff_face_mix(low, high, id->value[which]);
}

static void hair_color(float rgb[3], float light, float red, float age)
{
    /* Black, brown, fair; red shifts the hue; age turns to grey. */
    static const float ramp[4][3] = {{0.012f, 0.010f, 0.010f},
                                     {0.060f, 0.030f, 0.016f},
                                     {0.22f, 0.115f, 0.050f},
                                     {0.58f, 0.40f, 0.19f}};
    float at = light * 2.999f;
    int i = (int)at;
    for (int k = 0; k < 3; k++)
        rgb[k] = ff_face_mix(ramp[i][k], ramp[i + 1][k], at - (float)i);
    float copper = ff_face_step(0.70f, 1.0f, red);
    const float red_hair[3] = {0.34f, 0.075f, 0.025f}, grey[3] = {0.42f, 0.42f, 0.43f};
    blend(rgb, red_hair, 0.75f * copper * ff_face_step(0.1f, 0.5f, light));
    blend(rgb, grey, 0.85f * ff_face_step(0.72f, 1.0f, age));
}

void ff_face_paint_init(struct ff_face_paint *p, const struct ff_face_identity *id,
                        const struct ff_face_shape *shape,
                        const struct ff_face_nuisance *nuisance, double pixels_per_unit)
{
    memset(p, 0, sizeof *p);
    p->shape = shape;
    p->nuisance = nuisance;
    p->footprint = (float)(1.0 / (pixels_per_unit * FF_FACE_SUPERSAMPLES));
    p->pattern = mix_bits((uint32_t)id->id ^ mix_bits((uint32_t)(id->id >> 32) + 77u));
    const float *value = id->value;

    /* Fair to dark in equal steps of lightness, i.e. geometrically. */
    static const float fair[3] = {0.86f, 0.60f, 0.47f},
                       dark[3] = {0.115f, 0.055f, 0.034f};
    float melanin = powf(value[FF_FACE_SKIN_MELANIN], 1.5f);
    float red = between(id, FF_FACE_SKIN_RED, -0.20f, 0.20f);
    float yellow = between(id, FF_FACE_SKIN_YELLOW, -0.22f, 0.26f);
    for (int k = 0; k < 3; k++)
        p->skin[k] = fair[k] * powf(dark[k] / fair[k], melanin);
    p->skin[1] *= 1.0f - red;
    p->skin[2] *= (1.0f - 0.7f * red) * (1.0f - yellow);
    p->blush = between(id, FF_FACE_BLUSH, 0.0f, 0.6f);
    p->age = value[FF_FACE_AGE];
    hair_color(p->hair, value[FF_FACE_HAIR_LIGHT], value[FF_FACE_HAIR_RED], p->age);
    p->brow_density = between(id, FF_FACE_BROW_DARK, 0.45f, 1.0f);
    for (int k = 0; k < 3; k++)
        p->brow[k] = p->hair[k] * 0.55f;

    float lip_red = value[FF_FACE_LIP_RED];
    p->lip[0] = p->skin[0] * ff_face_mix(0.80f, 0.92f, lip_red);
    p->lip[1] = p->skin[1] * ff_face_mix(0.66f, 0.22f, lip_red);
    p->lip[2] = p->skin[2] * ff_face_mix(0.72f, 0.34f, lip_red);

    static const float hues[4][3] = {{0.22f, 0.10f, 0.04f},
                                     {0.30f, 0.22f, 0.06f},
                                     {0.14f, 0.28f, 0.14f},
                                     {0.14f, 0.28f, 0.46f}};
    float at = value[FF_FACE_IRIS_HUE] * 2.999f;
    float light = between(id, FF_FACE_IRIS_LIGHT, 0.35f, 1.35f);
    for (int k = 0; k < 3; k++)
        p->iris[k] = light * ff_face_mix(hues[(int)at][k], hues[(int)at + 1][k],
                                         at - floorf(at));
    p->crease = between(id, FF_FACE_EYE_CREASE, 0.15f, 0.7f);
    p->beard = value[FF_FACE_BEARD] < 0.62f
                   ? 0.0f
                   : ff_face_mix(0.25f, 1.0f, (value[FF_FACE_BEARD] - 0.62f) / 0.38f);
    p->moustache = value[FF_FACE_MOUSTACHE] < 0.72f && p->beard < 0.6f
                       ? 0.0f
                       : 0.35f + 0.6f * value[FF_FACE_MOUSTACHE];
    float frame_light = value[FF_FACE_GLASSES_SHAPE] * 7.0f;
    frame_light -= floorf(frame_light);
    p->frame[0] = 0.02f + 0.45f * frame_light * frame_light;
    p->frame[1] = 0.02f + 0.25f * frame_light * frame_light;
    p->frame[2] = 0.03f + 0.12f * frame_light * frame_light;
    if (shape->sunglasses)
        memcpy(p->frame, nuisance->occluder_color, sizeof p->frame);

    /* A mole with a coordinate in the outer part of its range is not there. */
    for (int i = 0; i < 2; i++) {
        float mx = value[FF_FACE_MOLE_A_X + 2 * i],
              my = value[FF_FACE_MOLE_A_Y + 2 * i];
        p->mole[i][0] = ff_face_mix(-0.85f, 0.85f, mx);
        p->mole[i][1] = ff_face_mix(0.2f, 1.45f, my);
        p->mole[i][2] =
            my > 0.15f && my < 0.85f ? 0.025f + 0.035f * fabsf(mx - 0.5f) : 0.0f;
    }
    float many = value[FF_FACE_FRECKLES];
    p->freckles = many > 0.6f ? (int)((many - 0.6f) / 0.4f * FF_FACE_FRECKLES) : 0;
    for (int i = 0; i < p->freckles; i++) {
        float side = i & 1 ? 1.0f : -1.0f;
        p->freckle[i][0] = side * (0.08f + 0.72f * lattice(p->pattern, i, 1));
        p->freckle[i][1] = 0.22f + 0.42f * lattice(p->pattern, i, 2);
        p->freckle[i][2] = 0.014f + 0.014f * lattice(p->pattern, i, 3);
    }
}

static void paint_complexion(float rgb[3], const struct ff_face_paint *p, float x,
                             float y)
{
    const struct ff_face_shape *s = p->shape;
    float ax = fabsf(x);
    memcpy(rgb, p->skin, sizeof p->skin);
    float cx = ax - 0.62f, cy = y - 0.55f;
    float blush = p->blush * ff_face_bump((cx * cx + cy * cy) / 0.20f);
    blush += 0.6f * p->blush *
             ff_face_bump((x * x + (y - s->nose_y) * (y - s->nose_y)) / 0.05f);
    rgb[1] *= 1.0f - 0.45f * blush;
    rgb[2] *= 1.0f - 0.40f * blush;
    float mottle = noise_2d(p->pattern, x * 3.1f + 50.0f, y * 3.1f + 50.0f) - 0.5f;
    darken(rgb, 1.0f + 0.10f * mottle);
    if (p->freckles && y > 0.1f && y < 0.75f && ax < 0.9f)
        for (int i = 0; i < p->freckles; i++) {
            float dx = x - p->freckle[i][0], dy = y - p->freckle[i][1];
            float r = p->freckle[i][2], d2 = dx * dx + dy * dy;
            if (d2 < 4.0f * r * r)
                darken(rgb, 1.0f - 0.42f * cover(r - sqrtf(d2), p->footprint + 0.012f));
        }
    for (int i = 0; i < 2; i++) {
        float dx = x - p->mole[i][0], dy = y - p->mole[i][1], r = p->mole[i][2];
        if (r > 0.0f && fabsf(dx) < 0.1f && fabsf(dy) < 0.1f)
            darken(rgb, 1.0f - 0.75f * cover(r - sqrtf(dx * dx + dy * dy),
                                             p->footprint + 0.01f));
    }
}

/* Folds from the nose to the mouth, lines on the forehead, shade under the eyes. */
static void paint_age(float rgb[3], const struct ff_face_paint *p, float x, float y)
{
    const struct ff_face_shape *s = p->shape;
    float ax = fabsf(x), fold = 0.10f + 0.42f * p->age + 0.25f * p->nuisance->smile;
    float t = (y - s->nose_y) / (s->mouth_y + 0.06f - s->nose_y);
    if (t > -0.1f && t < 1.15f && ax < 0.85f) {
        float line = s->nose_width + 0.07f +
                     (s->mouth_width + 0.10f - s->nose_width) * t * (0.55f + 0.45f * t);
        float d = (ax - line) / 0.045f, end = (t - 0.5f) / 0.65f;
        darken(rgb, 1.0f - fold * ff_face_bump(d * d) * ff_face_bump(end * end));
    }
    if (y < -0.5f && y > -1.2f && p->age > 0.45f) {
        float wave = (y + 0.05f * x * x) * 5.5f, near = wave - floorf(wave) - 0.5f;
        darken(rgb, 1.0f - 0.5f * (p->age - 0.45f) * ff_face_bump(near * near / 0.03f) *
                               ff_face_bump(x * x / 0.6f));
    }
    float ex = ax - s->eye_x, ey = y - 0.24f;
    if (ey > -0.12f && ey < 0.12f)
        darken(rgb, 1.0f - (0.08f + 0.30f * p->age) *
                               ff_face_bump(ex * ex / 0.07f + ey * ey / 0.012f));
}

static void paint_beard(float rgb[3], const struct ff_face_paint *p, float x, float y)
{
    const struct ff_face_shape *s = p->shape;
    float ax = fabsf(x), density = 0.0f;
    if (y < 0.3f || (p->beard <= 0.0f && p->moustache <= 0.0f))
        return;
    if (p->beard > 0.0f) {
        /* Below a line from the sideburns to under the mouth. */
        float cheek = s->mouth_y + 0.10f - 0.95f * ff_face_step(0.35f, 1.05f, ax);
        density = ff_face_step(-0.05f, 0.12f, y - cheek) *
                  (p->beard > 0.75f ? 1.0f : ff_face_mix(0.35f, 0.9f, p->beard));
        if (p->beard < 0.45f) /* goatee */
            density *= ff_face_bump(x * x / 0.25f) * 1.6f;
        float gap = y - s->mouth_y - s->lip_lower - 0.03f;
        density *= ff_face_step(-0.06f, 0.02f, gap + ff_face_step(0.2f, 0.5f, ax));
    }
    if (p->moustache > 0.0f) {
        float low = s->mouth_y - 0.6f * s->lip_upper, high = s->nose_y + 0.15f;
        float reach = s->mouth_width * 1.15f;
        float m = ff_face_step(high - 0.04f, high + 0.05f, y + 0.18f * x * x) *
                  ff_face_step(low + 0.02f, low - 0.04f, y - 0.25f * x * x) *
                  ff_face_bump(x * x / (reach * reach)) * 1.5f;
        density = fmaxf(density, ff_face_clamp(m) * p->moustache);
    }
    if (density > 0.0f) {
        float strand = noise_2d(p->pattern, x * 31.0f + 200.0f, y * 13.0f + 200.0f);
        blend(rgb, p->brow, ff_face_clamp(density) * (0.62f + 0.38f * strand));
    }
}

static void paint_brow(float rgb[3], const struct ff_face_paint *p, float x, float y)
{
    const struct ff_face_shape *s = p->shape;
    float reach = s->brow_length, lx = fabsf(x) - (s->eye_x + 0.03f);
    float dy = y - (s->brow_y + 0.8f * s->eye_y[x < 0 ? 0 : 1]);
    if (fabsf(lx) > 1.1f * reach || dy < -0.4f || dy > 0.3f)
        return;
    float t = lx / reach, top = t - 0.25f;
    float line = -s->brow_arch * (1.0f - top * top) + 0.06f - s->brow_tilt * lx;
    float thick = s->brow_thick * (1.0f - 0.65f * ff_face_step(0.0f, 1.0f, t)) *
                  ff_face_step(1.08f, 0.85f, fabsf(t));
    float strand = noise_2d(p->pattern, (x + 0.5f * y) * 26.0f, y * 9.0f);
    float c = cover(thick - fabsf(dy - line), p->footprint + 0.03f);
    if (thick > 0.004f)
        blend(rgb, p->brow, c * p->brow_density * (0.6f + 0.4f * strand));
}

static void paint_eye(float rgb[3], const struct ff_face_paint *p, float x, float y)
{
    const struct ff_face_shape *s = p->shape;
    const float f = p->footprint;
    int side = x < 0 ? 0 : 1;
    float ox = fabsf(x) - s->eye_x, oy = y - s->eye_y[side];
    if (fabsf(ox) > 1.5f * s->eye_width || fabsf(oy) > 0.36f)
        return;
    float ct = 1.0f - 0.5f * s->eye_tilt * s->eye_tilt;
    float lx = ct * ox - s->eye_tilt * oy, ly = ct * oy + s->eye_tilt * ox;
    float t = lx / s->eye_width, arc = 1.0f - t * t;
    float upper = -s->lid_upper * arc, lower = s->lid_lower * arc;
    /* Shade of the socket and crease of the lid. */
    darken(rgb, 1.0f - 0.30f * ff_face_bump(t * t / 1.7f +
                                            (ly + 0.05f) * (ly + 0.05f) / 0.05f));
    float fold = ly - (upper - s->crease * (0.4f + 0.6f * arc));
    darken(rgb, 1.0f - p->crease * ff_face_bump(fold * fold / 0.0012f) *
                           ff_face_bump(t * t / 1.4f));
    if (arc > 0.0f) {
        float inside = cover(ly - upper, f) * cover(lower - ly, f);
        if (inside > 0.0f) {
            float ball[3] = {0.80f, 0.77f, 0.74f};
            float mirror = side ? 1.0f : -1.0f; /* gaze is the same way for both */
            float ix = lx - mirror * s->gaze_x, iy = ly - s->gaze_y + 0.01f;
            float r = sqrtf(ix * ix + iy * iy);
            float rim = cover(s->iris - r, f + 0.01f);
            float ring = 0.55f + 0.45f * cover(0.78f * s->iris - r, f + 0.04f);
            float iris[3] = {p->iris[0] * ring, p->iris[1] * ring, p->iris[2] * ring};
            const float black[3] = {0.006f, 0.006f, 0.006f},
                        white[3] = {1.1f, 1.1f, 1.1f};
            blend(ball, iris, rim);
            blend(ball, black, cover(0.42f * s->iris - r, f + 0.01f));
            float hx = mirror * ix + 0.35f * s->iris, hy = iy + 0.35f * s->iris;
            blend(ball, white, cover(0.022f - sqrtf(hx * hx + hy * hy), f + 0.005f));
            darken(ball, 1.0f - 0.55f * ff_face_step(0.10f, 0.0f,
                                                     ly - upper)); /* lid shadow */
            blend(rgb, ball, inside);
        }
    }
    if (fabsf(t) < 1.12f) {
        const float lash[3] = {0.02f, 0.015f, 0.012f};
        float edge = ly - (arc > 0.0f ? upper : 0.0f),
              thick = 0.020f + 0.012f * ff_face_clamp(t);
        float c = cover(thick - fabsf(edge), f + 0.01f) *
                  ff_face_step(1.12f, 0.95f, fabsf(t));
        blend(rgb, lash, 0.88f * c);
        float under = ly - lower;
        if (arc > 0.0f)
            blend(rgb, lash, 0.35f * cover(0.010f - fabsf(under), f + 0.012f));
    }
}

static void paint_mouth(float rgb[3], const struct ff_face_paint *p, float x, float y)
{
    const struct ff_face_shape *s = p->shape;
    const float f = p->footprint;
    float t = x / s->mouth_width, dy = y - s->mouth_y;
    if (fabsf(t) > 1.15f || dy < -0.35f || dy > 0.75f)
        return;
    float q = t * t, arc = ff_face_clamp(1.0f - q);
    float line = s->mouth_corner * q * (0.4f + 0.6f * q);
    float bow =
        1.0f - s->bow * ff_face_bump(q / 0.05f) +
        0.35f * s->bow * ff_face_bump((fabsf(t) - 0.28f) * (fabsf(t) - 0.28f) / 0.04f);
    float root = sqrtf(arc);
    float top = line - s->lip_upper * arc * bow - 0.25f * s->mouth_open * arc;
    float gap_top = line - 0.25f * s->mouth_open * arc;
    float gap_bottom = line + 0.75f * s->mouth_open * root * (0.3f + 0.7f * arc);
    float bottom = gap_bottom + s->lip_lower * (0.35f * arc + 0.65f * arc * root);
    float lips = cover(dy - top, f + 0.012f) * cover(bottom - dy, f + 0.012f) *
                 cover((1.0f - fabsf(t)) * s->mouth_width, f);
    if (lips > 0.0f) {
        float lip[3] = {p->lip[0], p->lip[1], p->lip[2]};
        darken(lip, dy < gap_top ? 0.80f : 1.05f);
        blend(rgb, lip, 0.92f * lips);
    }
    float shade = dy - bottom - 0.05f;
    darken(rgb, 1.0f - 0.28f * ff_face_bump(q / 0.5f) *
                           ff_face_bump(shade * shade / 0.004f));
    float open = cover(dy - gap_top, f) * cover(gap_bottom - dy, f);
    if (s->mouth_open > 0.015f && open > 0.0f && q < 1.0f) {
        float inner[3] = {0.060f, 0.012f, 0.012f};
        const float teeth[3] = {0.72f, 0.68f, 0.60f};
        blend(inner, teeth,
              cover(gap_top + 0.10f * root - dy, f + 0.02f) *
                  ff_face_step(0.95f, 0.75f, fabsf(t)));
        blend(rgb, inner, open);
    }
    if (fabsf(t) < 1.04f) {
        const float dark[3] = {0.07f, 0.02f, 0.02f};
        float d = fabsf(dy - gap_top);
        blend(rgb, dark,
              (0.75f - 0.3f * q) * cover(0.013f - d, f + 0.014f) *
                  ff_face_step(1.04f, 0.95f, fabsf(t)));
    }
}

static void paint_nostrils(float rgb[3], const struct ff_face_paint *p, float x,
                           float y)
{
    const struct ff_face_shape *s = p->shape;
    float ax = fabsf(x), dx = ax - 0.55f * s->nose_width, dy = y - (s->nose_y + 0.095f);
    if (ax > 0.5f || fabsf(dy) > 0.25f)
        return;
    float r = s->nostril, d = sqrtf(dx * dx * 0.45f + dy * dy * 1.6f);
    const float dark[3] = {0.035f, 0.012f, 0.010f};
    darken(rgb,
           1.0f - 0.35f * ff_face_bump(x * x / (2.2f * s->nose_width * s->nose_width) +
                                       (dy - 0.02f) * (dy - 0.02f) / 0.012f));
    blend(rgb, dark, 0.85f * cover(0.72f * r - d, p->footprint + 0.025f));
    /* The crease round the wing. */
    float wx = ax - s->nose_width, wy = dy + 0.10f,
          w = sqrtf(wx * wx + wy * wy) - 0.085f;
    if (wx > -0.02f)
        darken(rgb, 1.0f - 0.32f * ff_face_bump(w * w / 0.0012f));
}

static void paint_skin(float rgb[3], float *gloss, const struct ff_face_paint *p,
                       float x, float y)
{
    const struct ff_face_shape *s = p->shape;
    const struct ff_face_nuisance *n = p->nuisance;
    *gloss = 0.16f;
    if (y < s->hat_y) {
        memcpy(rgb, n->occluder_color, 3 * sizeof *rgb);
        *gloss = 0.0f;
        return;
    }
    paint_complexion(rgb, p, x, y);
    paint_age(rgb, p, x, y);
    paint_beard(rgb, p, x, y);
    paint_brow(rgb, p, x, y);
    paint_eye(rgb, p, x, y);
    paint_nostrils(rgb, p, x, y);
    paint_mouth(rgb, p, x, y);
    if (n->occluder == FF_FACE_OCCLUDER_MASK) {
        float rim =
            0.40f + 0.12f * n->occluder_size - 0.30f * ff_face_bump(x * x / 0.30f);
        float c = cover(y - rim - 0.28f * x * x, p->footprint);
        float pleat = y * 4.0f - floorf(y * 4.0f);
        float cloth[3];
        for (int k = 0; k < 3; k++)
            cloth[k] = n->occluder_color[k] * (0.86f + 0.14f * pleat);
        blend(rgb, cloth, c);
        *gloss *= 1.0f - c;
    }
}

void ff_face_paint_sample(float rgb[3], const struct ff_face_paint *p,
                          const struct ff_face_sample *sample)
{
    const struct ff_face_nuisance *n = p->nuisance;
    const struct ff_face_shape *s = p->shape;
    float gloss = 0.0f, u = sample->u, v = sample->v;
    switch (sample->layer) {
    case FF_FACE_LAYER_SKIN: paint_skin(rgb, &gloss, p, u, v); break;
    case FF_FACE_LAYER_EAR: {
        memcpy(rgb, p->skin, sizeof p->skin);
        rgb[1] *= 0.88f;
        rgb[2] *= 0.86f;
        float hole = (u - 0.2f) * (u - 0.2f) * 2.0f + v * v;
        darken(rgb, 1.0f - 0.45f * ff_face_bump(hole / 0.35f));
        gloss = 0.1f;
        break;
    }
    case FF_FACE_LAYER_NECK:
        memcpy(rgb, p->skin, sizeof p->skin);
        darken(rgb, 0.55f + 0.45f * ff_face_step(s->chin - 0.1f, s->chin + 1.1f, v));
        gloss = 0.05f;
        break;
    case FF_FACE_LAYER_SHIRT: memcpy(rgb, n->shirt_color, 3 * sizeof *rgb); break;
    case FF_FACE_LAYER_HAIR: {
        if (v < s->hat_y) {
            memcpy(rgb, n->occluder_color, 3 * sizeof *rgb);
            float band = v - s->hat_y + 0.22f;
            darken(rgb, band > 0.0f ? 0.55f : 1.0f);
            break;
        }
        memcpy(rgb, p->hair, sizeof p->hair);
        float bend = s->wave * 6.0f * sinf(5.0f * v + 3.0f * u);
        float strand =
            noise_2d(p->pattern, u * 17.0f + bend + 100.0f, v * 1.6f + 40.0f);
        float fine =
            noise_2d(p->pattern + 1u, u * 45.0f + bend + 100.0f, v * 2.5f + 40.0f);
        darken(rgb, 0.45f + 0.70f * strand + 0.35f * fine);
        gloss = 0.10f * strand;
        break;
    }
    case FF_FACE_LAYER_LENS:
        rgb[0] = rgb[1] = rgb[2] = 0.015f;
        gloss = 0.5f;
        break;
    case FF_FACE_LAYER_FRAME:
    case FF_FACE_LAYER_NONE:
        memcpy(rgb, p->frame, sizeof p->frame);
        gloss = 0.3f;
        break;
    }
    for (int k = 0; k < 3; k++)
        rgb[k] = rgb[k] * (n->light_color[k] * sample->diffuse +
                           n->ambient_color[k] * sample->ambient) +
                 n->light_color[k] * gloss * n->gloss * sample->gloss;
}

void ff_face_paint_background(float rgb[3], const struct ff_face_nuisance *n, float x,
                              float y)
{
    float t = 0.5f + 0.15f * (x + 0.6f * y), strength = n->background_contrast;
    if (strength > 0.0f) {
        float coarse = noise_2d(n->pattern, x * 0.55f + 90.0f, y * 0.55f + 90.0f);
        float fine = noise_2d(n->pattern + 9u, x * 1.9f + 90.0f, y * 1.9f + 90.0f);
        t += strength * (1.6f * (coarse - 0.5f) + 0.6f * (fine - 0.5f));
        /* A wall's edge. */
        float angle = 6.2831853f * lattice(n->pattern, 5, 5),
              edge = lattice(n->pattern, 6, 6);
        float d = x * cosf(angle) + y * sinf(angle) - 2.0f * (edge - 0.2f);
        t += strength * 0.5f * ff_face_clamp(d * 20.0f);
    }
    t = ff_face_clamp(t);
    for (int k = 0; k < 3; k++)
        rgb[k] = ff_face_mix(n->background_color[0][k], n->background_color[1][k], t);
}

static float capsule(float x, float y, float ax, float ay, float bx, float by,
                     float radius)
{
    float vx = bx - ax, vy = by - ay, px = x - ax, py = y - ay;
    float t = ff_face_clamp((px * vx + py * vy) / (vx * vx + vy * vy));
    float dx = px - t * vx, dy = py - t * vy;
    return sqrtf(dx * dx + dy * dy) - radius;
}

void ff_face_paint_over(float rgb[3], const struct ff_face_nuisance *n, float x,
                        float y, float footprint, bool on_person)
{
    if (n->shadow_strength > 0.0f && on_person) {
        float d = x * cosf(n->shadow_angle_rad) + y * sinf(n->shadow_angle_rad);
        d +=
            0.12f * sinf(3.0f * (x * sinf(n->shadow_angle_rad) - y)) - n->shadow_offset;
        darken(rgb, 1.0f - n->shadow_strength * ff_face_step(-0.06f, 0.06f, d));
    }
    if (n->occluder != FF_FACE_OCCLUDER_BAR && n->occluder != FF_FACE_OCCLUDER_HAND)
        return;
    float c = cosf(n->occluder_angle_rad), s = sinf(n->occluder_angle_rad);
    float px = x - n->occluder_x, py = y - n->occluder_y;
    float lx = c * px + s * py, ly = c * py - s * px, d;
    if (n->occluder == FF_FACE_OCCLUDER_BAR) {
        float half = 0.15f + 0.22f * n->occluder_size;
        d = half - fabsf(ly);
    } else {
        float r = 0.11f + 0.03f * n->occluder_size, best = 1e9f;
        for (int i = 0; i < 4; i++) {
            float off = ((float)i - 1.5f) * 1.95f * r;
            float tip = -0.75f + 0.10f * fabsf((float)i - 1.3f);
            best = fminf(best, capsule(lx, ly, off, tip, 0.85f * off, 0.5f, r));
        }
        best = fminf(best, capsule(lx, ly, 0.0f, 0.75f, 0.0f, 4.0f, 3.6f * r));
        d = -best;
    }
    if (d <= -footprint)
        return;
    float shade = 0.55f + 0.45f * ff_face_step(0.0f, 0.09f, d), over[3];
    for (int k = 0; k < 3; k++)
        over[k] = n->occluder_color[k] * shade *
                  (0.7f * n->light_color[k] + 0.8f * n->ambient_color[k]);
    blend(rgb, over, cover(d, footprint));
}
