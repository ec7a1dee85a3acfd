/* SPDX-License-Identifier: MIT */
/* Synthetic faces: who (identity), how (nuisance), and the picture.
 *
 * A picture: shape from identity and expression; pose; similarity that lays the
 * projected landmarks on the template; crop; z-buffered samples; colours; average of
 * the samples of a pixel; shadow and occluders; blur; camera (exposure, contrast,
 * saturation, gamma); noise. All draws are cursors over counter-based streams named by
 * (identity, medium, frame). */
#include "synth_face.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "synth_paint.h"
#include "synth_shape.h"

const double ff_face_template[5][2] = {{38.2946, 51.6963},
                                       {73.5318, 51.5014},
                                       {56.0252, 71.7366},
                                       {41.5493, 92.3655},
                                       {70.7299, 92.2041}};

static const double PI_D = 3.14159265358979323846;
/* Template side over two: the centre, in template pixels (pixel centres at integers).
 */
static const double TEMPLATE_CENTRE = 55.5;

static struct ff_rng stream_of(const char *name, uint64_t seed, uint64_t id,
                               uint64_t index)
{
    uint64_t stream = ff_stream(name) + id * 0x9E3779B97F4A7C15u;
    return (struct ff_rng){seed, ff_rng_u64(seed, stream, index), 0};
}

static float uniform(struct ff_rng *rng, double low, double high)
{
    return (float)(low + (high - low) * ff_rng_next(rng));
}

static float normal(struct ff_rng *rng, double sigma, double limit)
{
    double x = sigma * ff_rng_next_normal(rng);
    return (float)fmin(fmax(x, -limit), limit);
}

void ff_face_identity_draw(struct ff_face_identity *identity, uint64_t seed,
                           uint64_t id)
{
    struct ff_rng rng = stream_of("synth/identity", seed, id, 0);
    identity->id = id;
    for (int i = 0; i < FF_FACE_PARAMETERS; i++)
        identity->value[i] = (float)((double)(ff_rng_next_u64(&rng) >> 40) * 0x1p-24);
}

double ff_face_identity_distance(const struct ff_face_identity *a,
                                 const struct ff_face_identity *b)
{
    double sum = 0;
    for (int i = 0; i < FF_FACE_PARAMETERS; i++) {
        double d = (double)a->value[i] - (double)b->value[i];
        sum += d * d;
    }
    /* Two independent uniforms differ by 1/6 in the mean square. */
    return sqrt(sum / ((double)FF_FACE_PARAMETERS / 6.0));
}

static void color_set(float rgb[3], float r, float g, float b)
{
    rgb[0] = r;
    rgb[1] = g;
    rgb[2] = b;
}

void ff_face_nuisance_none(struct ff_face_nuisance *n)
{
    memset(n, 0, sizeof *n);
    n->camera_distance = 14.0f;
    n->light_direction[0] = -0.30f;
    n->light_direction[1] = -0.40f;
    n->light_direction[2] = 0.866f;
    color_set(n->light_color, 0.70f, 0.70f, 0.70f);
    color_set(n->ambient_color, 0.55f, 0.55f, 0.55f);
    n->gloss = 0.5f;
    n->eye_open = 1.0f;
    color_set(n->shirt_color, 0.10f, 0.12f, 0.16f);
    color_set(n->background_color[0], 0.22f, 0.22f, 0.22f);
    color_set(n->background_color[1], 0.22f, 0.22f, 0.22f);
    n->exposure = n->contrast = n->saturation = 1.0f;
    n->jpeg_quality = 95;
}

void ff_face_nuisance_pose_only(struct ff_face_nuisance *n)
{
    struct ff_face_nuisance plain;
    ff_face_nuisance_none(&plain);
    plain.yaw_rad = n->yaw_rad;
    plain.pitch_rad = n->pitch_rad;
    *n = plain;
}

static void random_color(float rgb[3], struct ff_rng *rng, double low, double high)
{
    double light = low * pow(high / low, ff_rng_next(rng));
    for (int k = 0; k < 3; k++)
        rgb[k] = (float)(light * (0.45 + 1.1 * ff_rng_next(rng)));
}

static void draw_light(struct ff_face_nuisance *n, struct ff_rng *rng, double h)
{
    double azimuth = fmin(h, 1.6) * uniform(rng, -1.25, 1.25);
    double elevation = fmin(h, 1.6) * uniform(rng, -0.35, 1.0);
    n->light_direction[0] = (float)(sin(azimuth) * cos(elevation));
    n->light_direction[1] = (float)-sin(elevation);
    n->light_direction[2] = (float)(cos(azimuth) * cos(elevation));
    /* Key against fill: from flat to hard light. Colour: warm against cool, and green.
     */
    double key = 0.45 + 0.65 * fmin(h, 1.5) * ff_rng_next(rng);
    double fill = 1.15 - 0.75 * key, warm = normal(rng, 0.16 * h, 0.45),
           green = normal(rng, 0.06 * h, 0.18), warm_fill = normal(rng, 0.16 * h, 0.45);
    color_set(n->light_color, (float)(key * (1 + warm)), (float)(key * (1 + green)),
              (float)(key * (1 - warm)));
    color_set(n->ambient_color, (float)(fill * (1 + warm_fill)), (float)fill,
              (float)(fill * (1 - warm_fill)));
    n->gloss = (float)(0.5 + h * 0.8 * uniform(rng, -0.5, 1.0));
    n->shadow_angle_rad = uniform(rng, 0, 2 * PI_D);
    n->shadow_offset = uniform(rng, -0.5, 0.7);
    float strength = uniform(rng, 0.25, 0.75);
    n->shadow_strength = ff_rng_next(rng) < fmin(0.30 * h, 0.8) ? strength : 0.0f;
}

static void draw_occluder(struct ff_face_nuisance *n, struct ff_rng *rng, double h)
{
    double chance = ff_rng_next(rng), kind = ff_rng_next(rng);
    random_color(n->occluder_color, rng, 0.03, 0.8);
    float skin = uniform(rng, 0, 1);
    n->occluder_x = uniform(rng, -0.9, 0.9);
    n->occluder_y = uniform(rng, -0.7, 1.1);
    n->occluder_angle_rad = uniform(rng, -PI_D, PI_D);
    n->occluder_size = uniform(rng, 0, 1);
    n->occluder = FF_FACE_OCCLUDER_NONE;
    if (chance >= fmin(0.24 * h, 0.85))
        return;
    n->occluder = kind < 0.25   ? FF_FACE_OCCLUDER_BAR
                  : kind < 0.5  ? FF_FACE_OCCLUDER_HAND
                  : kind < 0.62 ? FF_FACE_OCCLUDER_MASK
                  : kind < 0.76 ? FF_FACE_OCCLUDER_SUNGLASSES
                                : FF_FACE_OCCLUDER_HAT;
    if (n->occluder == FF_FACE_OCCLUDER_HAND) {
        color_set(n->occluder_color, ff_face_mix(0.15f, 0.8f, skin),
                  ff_face_mix(0.08f, 0.55f, skin), ff_face_mix(0.05f, 0.42f, skin));
        n->occluder_angle_rad *= 0.4f; /* it comes from below */
        n->occluder_y += 0.55f;
    }
    if (n->occluder == FF_FACE_OCCLUDER_SUNGLASSES)
        for (int k = 0; k < 3; k++)
            n->occluder_color[k] *= 0.2f;
}

static void draw_quality(struct ff_face_nuisance *n, struct ff_rng *rng, double h)
{
    /* One number decides most: a good photograph or a bad one. */
    double bad = pow(ff_rng_next(rng), 2.2) * h, blur = bad * (0.3 + ff_rng_next(rng));
    n->blur_px[0] = (float)fmin(2.6 * blur, 6.0);
    n->blur_px[1] = (float)fmin(2.6 * blur * (0.5 + 0.7 * ff_rng_next(rng)), 6.0);
    n->noise = (float)fmin(1.0 * h + 16.0 * bad * ff_rng_next(rng), 60.0);
    double quality = 94 - 62 * bad * ff_rng_next(rng) - 8 * h * ff_rng_next(rng);
    n->jpeg_quality = (int)fmin(fmax(quality, 12), 96);
}

void ff_face_nuisance_draw(struct ff_face_nuisance *n, uint64_t seed, uint64_t id,
                           uint64_t medium, uint64_t frame, double hardness)
{
    const double h = hardness, degree = PI_D / 180;
    struct ff_rng rng = stream_of("synth/medium", seed, id, medium);
    ff_face_nuisance_none(n);
    n->pattern = (uint32_t)ff_rng_next_u64(&rng);
    double yaw = normal(&rng, 17 * h, 48), pitch = normal(&rng, 9 * h, 26);
    n->camera_distance = (float)(14 * exp(normal(&rng, 0.25 * h, 0.6)));
    draw_light(n, &rng, h);
    double smile = fmin(h, 1.3) * fmax(0, uniform(&rng, -0.7, 1.0));
    double open = fmin(h, 1.4) * fmax(0, uniform(&rng, -0.8, 0.40));
    double raise = normal(&rng, 0.35 * h, 0.9);
    random_color(n->shirt_color, &rng, 0.02, 0.7);
    for (int i = 0; i < 2; i++) {
        float color[3];
        random_color(color, &rng, 0.02, 0.95);
        for (int k = 0; k < 3; k++)
            n->background_color[i][k] =
                (float)(n->background_color[i][k] +
                        fmin(h, 1.0) * (color[k] - n->background_color[i][k]));
    }
    n->background_contrast = (float)(fmin(h, 1.0) * uniform(&rng, 0.2, 1.2));
    draw_occluder(n, &rng, h);
    n->exposure = (float)exp2(normal(&rng, 0.55 * h, 1.3));
    n->contrast = (float)(1 + normal(&rng, 0.14 * h, 0.4));
    n->saturation = (float)fmax(0.0, 1 + normal(&rng, 0.22 * h, 0.9));
    if (ff_rng_next(&rng) < fmin(0.06 * h, 0.3))
        n->saturation = 0.0f; /* a black-and-white photograph */
    draw_quality(n, &rng, h);

    /* Frames of a medium: nearly the same moment. */
    rng = stream_of("synth/frame", seed, id, medium << 16 | frame);
    n->yaw_rad = (float)(degree * (yaw + normal(&rng, 4 * h, 10)));
    n->pitch_rad = (float)(degree * (pitch + normal(&rng, 2.5 * h, 6)));
    n->smile = (float)fmin(fmax(smile + normal(&rng, 0.12 * h, 0.3), 0), 1.2);
    n->mouth_open = (float)fmin(fmax(open + normal(&rng, 0.05 * h, 0.15), 0), 0.5);
    n->brow_raise = (float)(raise + normal(&rng, 0.12 * h, 0.3));
    double lids = 1 - 0.25 * fmin(h, 1.5) * ff_rng_next(&rng);
    if (ff_rng_next(&rng) < fmin(0.05 * h, 0.3))
        lids = 0.05; /* a blink */
    n->eye_open = (float)lids;
    n->gaze_x = normal(&rng, 0.035 * h, 0.08);
    n->gaze_y = normal(&rng, 0.018 * h, 0.04);
    n->blur_px[0] *= uniform(&rng, 0.7, 1.4);
    n->blur_px[1] *= uniform(&rng, 0.7, 1.4);
    /* The seed of the pixel noise and of the occluder's place move with the frame. */
    n->occluder_x += normal(&rng, 0.05 * h, 0.15);
    n->occluder_y += normal(&rng, 0.05 * h, 0.15);
}

double ff_face_nuisance_score(const struct ff_face_nuisance *n)
{
    static const double hidden[FF_FACE_OCCLUDERS] = {0, 1.6, 2.2, 2.2, 1.1, 0.5};
    double blur = 0.5 * ((double)n->blur_px[0] + (double)n->blur_px[1]);
    double turn = (double)n->yaw_rad * (double)n->yaw_rad +
                  1.5 * (double)n->pitch_rad * (double)n->pitch_rad;
    double doubt = 1.3 * blur + 0.09 * (double)n->noise + hidden[n->occluder] +
                   3.5 * turn + 1.2 * fabs(log2((double)n->exposure)) +
                   0.02 * (95 - n->jpeg_quality) + 0.6 * (double)n->shadow_strength;
    return 1 / (1 + exp(0.85 * doubt - 4.6));
}

void ff_face_crop_aligned(struct ff_face_crop *crop, int side_px)
{
    *crop = (struct ff_face_crop){side_px, side_px, side_px / 112.0, 0.0, 0.0, 0.0};
}

static int scratch_reserve(struct ff_face_scratch *s, int64_t samples, int64_t pixels,
                           struct ff_err *err)
{
    if (samples > s->sample_capacity) {
        free(s->samples);
        s->sample_capacity = 0;
        s->samples = malloc((size_t)samples * sizeof(struct ff_face_sample));
        if (!s->samples)
            return ff_err_set(err, FF_ENOMEM, "no memory for %lld samples of a face",
                              (long long)samples);
        s->sample_capacity = samples;
    }
    if (pixels > s->pixel_capacity) {
        free(s->pixels);
        free(s->rows);
        s->pixel_capacity = 0;
        s->pixels = malloc((size_t)pixels * 3 * sizeof *s->pixels);
        s->rows = malloc((size_t)pixels * 3 * sizeof *s->rows);
        if (!s->pixels || !s->rows)
            return ff_err_set(err, FF_ENOMEM, "no memory for %lld pixels of a face",
                              (long long)pixels);
        s->pixel_capacity = pixels;
    }
    return 0;
}

void ff_face_scratch_fini(struct ff_face_scratch *scratch)
{
    free(scratch->samples);
    free(scratch->pixels);
    free(scratch->rows);
    memset(scratch, 0, sizeof *scratch);
}

/* Whether the samples of a pixel see one smooth piece of one part; *mean is their mean.
 */
static bool samples_agree(struct ff_face_sample *mean,
                          const struct ff_face_sample *first, int stride,
                          float footprint)
{
    const int ss = FF_FACE_SUPERSAMPLES;
    const float share = 1.0f / (float)(ss * ss), limit = 6.0f * footprint;
    *mean = (struct ff_face_sample){.layer = first->layer};
    for (int i = 0; i < ss * ss; i++) {
        const struct ff_face_sample *s = first + (int64_t)(i / ss) * stride + i % ss;
        if (s->layer != first->layer || fabsf(s->u - first->u) > limit ||
            fabsf(s->v - first->v) > limit)
            return false;
        mean->u += share * s->u;
        mean->v += share * s->v;
        mean->diffuse += share * s->diffuse;
        mean->ambient += share * s->ambient;
        mean->gloss += share * s->gloss;
    }
    return true;
}

/* Samples to pixels: colours, background, occluders. A pixel inside one part is painted
 * once with the pixel's own footprint; at outlines every sample is painted. */
static void resolve(float *pixels, const struct ff_face_buffer *buffer,
                    const struct ff_face_paint *paint, const struct ff_face_crop *crop)
{
    const struct ff_face_nuisance *n = paint->nuisance;
    const int ss = FF_FACE_SUPERSAMPLES, width = crop->width_px;
    const float share = 1.0f / (float)(ss * ss);
    const double inverse = 1.0 / (crop->scale * FF_FACE_UNIT_PX);
    const double c = cos(crop->roll_rad) * inverse, s = sin(crop->roll_rad) * inverse;
    const double centre = TEMPLATE_CENTRE / FF_FACE_UNIT_PX;
    const float footprint = (float)inverse;
    struct ff_face_paint coarse = *paint;
    coarse.footprint = footprint;
    for (int y = 0; y < crop->height_px; y++)
        for (int x = 0; x < width; x++) {
            float *rgb = pixels + 3 * ((int64_t)y * width + x), behind[3];
            double dx = x - crop->x_px, dy = y - crop->y_px;
            float tx = (float)(c * dx + s * dy - centre),
                  ty = (float)(c * dy - s * dx - centre);
            bool background_known = false, on_person = false;
            rgb[0] = rgb[1] = rgb[2] = 0.0f;
            const struct ff_face_sample *first =
                buffer->samples + (int64_t)y * ss * buffer->width + x * ss;
            struct ff_face_sample mean;
            bool agree = samples_agree(&mean, first, buffer->width, footprint);
            if (agree && first->layer != FF_FACE_LAYER_NONE) {
                ff_face_paint_sample(rgb, &coarse, &mean);
                on_person = true;
            } else if (agree) {
                ff_face_paint_background(rgb, n, tx, ty);
            }
            for (int i = 0; !agree && i < ss * ss; i++) {
                const struct ff_face_sample *sample =
                    first + (int64_t)(i / ss) * buffer->width + i % ss;
                float color[3];
                if (sample->layer == FF_FACE_LAYER_NONE) {
                    if (!background_known)
                        ff_face_paint_background(behind, n, tx, ty);
                    background_known = true;
                    memcpy(color, behind, sizeof color);
                } else {
                    ff_face_paint_sample(color, paint, sample);
                    on_person = true;
                }
                for (int k = 0; k < 3; k++)
                    rgb[k] += share * color[k];
            }
            ff_face_paint_over(rgb, n, tx, ty, footprint, on_person);
        }
}

/* Gaussian along one axis; edges repeat. */
static void blur_axis(float *dst, const float *src, int width, int height, double sigma,
                      bool vertical)
{
    enum { RADIUS_MAX = 48 };
    float weight[RADIUS_MAX + 1], sum = 0.0f;
    int radius = (int)ceil(2.5 * sigma);
    if (radius > RADIUS_MAX)
        radius = RADIUS_MAX;
    for (int i = 0; i <= radius; i++) {
        weight[i] = (float)exp(-0.5 * i * i / (sigma * sigma));
        sum += i ? 2.0f * weight[i] : weight[i];
    }
    for (int i = 0; i <= radius; i++)
        weight[i] /= sum;
    const int stride = vertical ? width : 1, last = (vertical ? height : width) - 1;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const int at = vertical ? y : x;
            const float *base =
                src + 3 * ((int64_t)y * width + x - (int64_t)at * stride);
            float r = 0.0f, g = 0.0f, b = 0.0f;
            for (int i = -radius; i <= radius; i++) {
                int from = at + i < 0 ? 0 : at + i > last ? last : at + i;
                const float *p = base + 3 * (int64_t)from * stride;
                float w = weight[i < 0 ? -i : i];
                r += w * p[0];
                g += w * p[1];
                b += w * p[2];
            }
            float *out = dst + 3 * ((int64_t)y * width + x);
            out[0] = r;
            out[1] = g;
            out[2] = b;
        }
}

static void blur(struct ff_face_scratch *s, const struct ff_face_nuisance *n,
                 const struct ff_face_crop *crop)
{
    for (int axis = 0; axis < 2; axis++) {
        double sigma = (double)n->blur_px[axis] * crop->scale;
        if (sigma < 0.25)
            continue;
        blur_axis(s->rows, s->pixels, crop->width_px, crop->height_px, sigma,
                  axis == 1);
        float *t = s->pixels;
        s->pixels = s->rows;
        s->rows = t;
    }
}

/* Four bytes of random bits to an approximately normal number of unit variance. */
static float normal_of(uint32_t bits)
{
    int sum = (int)(bits & 255u) + (int)(bits >> 8 & 255u) + (int)(bits >> 16 & 255u) +
              (int)(bits >> 24);
    return (float)(sum - 510) * (1.0f / 147.8f);
}

/* Exposure, saturation, gamma 2, contrast, noise, 8 bits. */
static void develop(uint8_t *rgb, const float *pixels, const struct ff_face_nuisance *n,
                    const struct ff_face_crop *crop)
{
    const int64_t count = (int64_t)crop->width_px * crop->height_px;
    /* A larger picture of the same face averages its noise when it is shrunk. */
    const float noise = n->noise * (float)fmax(1.0, crop->scale);
    const uint32_t key[2] = {n->pattern, 0x6e6f6973u};
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits[4];
        if (noise > 0.0f) {
            float pose[2] = {n->yaw_rad, n->pitch_rad}; /* frames of a medium differ */
            uint32_t ctr[4] = {(uint32_t)i, (uint32_t)(i >> 32), 0, 0};
            memcpy(ctr + 2, pose, sizeof pose);
            ff_philox(bits, ctr, key);
        }
        const float *p = pixels + 3 * i;
        float grey = 0.30f * p[0] + 0.59f * p[1] + 0.11f * p[2];
        for (int k = 0; k < 3; k++) {
            float c = (grey + (p[k] - grey) * n->saturation) * n->exposure;
            c = sqrtf(c > 0.0f ? c : 0.0f);
            c = c > 0.8f ? 1.0f - 0.2f / (1.0f + (c - 0.8f) * 5.0f) : c; /* shoulder */
            c = 255.0f * (0.5f + (c - 0.5f) * n->contrast);
            if (noise > 0.0f)
                c += noise * normal_of(bits[k]);
            rgb[3 * i + k] = (uint8_t)(c <= 0.0f     ? 0.0f
                                       : c >= 255.0f ? 255.0f
                                                     : c + 0.5f);
        }
    }
}

int ff_face_render(struct ff_image *image, double points[5][2],
                   struct ff_face_scratch *scratch,
                   const struct ff_face_identity *identity,
                   const struct ff_face_nuisance *nuisance,
                   const struct ff_face_crop *crop, struct ff_err *err)
{
    const int ss = FF_FACE_SUPERSAMPLES;
    const int64_t pixels = (int64_t)crop->width_px * crop->height_px;
    int code = scratch_reserve(scratch, pixels * ss * ss, pixels, err);
    if (code)
        return code;
    uint8_t *rgb = realloc(image->rgb, (size_t)pixels * 3);
    if (!rgb)
        return ff_err_set(err, FF_ENOMEM, "no memory for a picture of %d x %d",
                          crop->width_px, crop->height_px);
    *image = (struct ff_image){crop->width_px, crop->height_px, rgb};

    struct ff_face_shape shape;
    struct ff_face_view view;
    struct ff_face_paint paint;
    struct ff_face_buffer buffer = {scratch->samples, crop->width_px * ss,
                                    crop->height_px * ss};
    ff_face_shape_init(&shape, identity, nuisance);
    ff_face_view_init(&view, &shape, nuisance, crop);
    ff_face_paint_init(&paint, identity, &shape, nuisance, view.pixels_per_unit);
    ff_face_shape_draw(&buffer, &shape, &view, nuisance);
    resolve(scratch->pixels, &buffer, &paint, crop);
    blur(scratch, nuisance, crop);
    develop(rgb, scratch->pixels, nuisance, crop);

    float painted[5][2];
    ff_face_shape_landmarks(painted, &shape);
    for (int i = 0; i < 5; i++)
        ff_face_view_project(
            &points[i][0], &points[i][1], &view,
            ff_face_shape_surface(&shape, painted[i][0], painted[i][1]));
    return 0;
}
