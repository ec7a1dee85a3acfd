/* SPDX-License-Identifier: MIT */
/* The head of a synthetic face: shape, surface, projection, z-buffered sampling.
 *
 * Every part (head, ears, neck, shoulders, hair shell, glasses) is a grid of vertices:
 * the position function gives points of the head frame, normals come from grid
 * differences, light is taken at the vertices, and triangles are sampled into a
 * z-buffer. The landmarks use the same position function and the same projection, so
 * they lie where the picture shows them. The mesh is fine enough that its flat
 * triangles stray from the surface by well under a tenth of a pixel at 112 x 112. */
#include "synth_shape.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { HEAD_ROWS = 72, HEAD_COLUMNS = 53, GRID_VERTICES = 72 * 53 };

static const float PI_F = 3.14159265f;
/* The head mesh wraps this far round from the front. */
static const float HEAD_ANGLE = 2.4f;
/* Rows above this one start to close towards the crown, below it towards the chin. */
static const float HEAD_MIDDLE = -0.2f;

struct vertex {
    struct ff_face_vector at; /* head frame */
    float x, y, z;            /* image pixels times SS, camera z */
    float u, v, diffuse, ambient, gloss, mask;
};

static float value_between(const struct ff_face_identity *id,
                           enum ff_face_parameter which, float low, float high)
{
    return ff_face_mix(low, high, id->value[which]);
}

void ff_face_shape_init(struct ff_face_shape *s, const struct ff_face_identity *id,
                        const struct ff_face_nuisance *n)
{
#define BETWEEN(name, low, high) value_between(id, FF_FACE_##name, low, high)
    memset(s, 0, sizeof *s);
    s->half_width = BETWEEN(HEAD_WIDTH, 1.00f, 1.31f);
    s->top = BETWEEN(HEAD_TOP, -1.9f, -2.35f);
    s->chin = BETWEEN(CHIN_LENGTH, 1.58f, 2.06f);
    s->depth = BETWEEN(HEAD_DEPTH, 1.2f, 1.42f);
    s->jaw_power = BETWEEN(JAW_SQUARE, 2.0f, 3.4f);
    s->forehead = BETWEEN(FOREHEAD, -0.10f, 0.08f);
    s->cheekbone = BETWEEN(CHEEKBONE, -0.04f, 0.10f);
    s->jaw = BETWEEN(JAW_WIDTH, -0.13f, 0.12f);
    s->chin_width = BETWEEN(CHIN_WIDTH, -0.10f, 0.14f);
    s->cheek = BETWEEN(CHEEK, -0.06f, 0.14f) + 0.06f * n->smile;
    s->chin_bulge = BETWEEN(CHIN_DEPTH, -0.02f, 0.22f);

    float skew = BETWEEN(ASYMMETRY, -0.035f, 0.035f);
    s->eye_x = BETWEEN(EYE_SPACING, 0.43f, 0.57f);
    s->eye_y[0] = skew;
    s->eye_y[1] = -skew;
    s->eye_width = BETWEEN(EYE_WIDTH, 0.18f, 0.30f);
    float lid = BETWEEN(EYE_HEIGHT, 0.070f, 0.175f);
    s->lid_lower = 0.55f * lid * (1.0f - 0.25f * n->smile);
    s->lid_upper = ff_face_mix(-0.8f * s->lid_lower, lid, n->eye_open);
    s->eye_tilt = BETWEEN(EYE_TILT, -0.20f, 0.26f);
    s->socket = BETWEEN(EYE_DEPTH, 0.03f, 0.20f);
    s->crease = BETWEEN(EYE_CREASE, 0.0f, 0.10f);
    s->iris = BETWEEN(IRIS_SIZE, 0.085f, 0.125f);
    s->gaze_x = n->gaze_x;
    s->gaze_y = n->gaze_y;

    s->brow_y = -BETWEEN(BROW_HEIGHT, 0.23f, 0.50f) - 0.10f * n->brow_raise;
    s->brow_thick = BETWEEN(BROW_THICK, 0.020f, 0.095f);
    s->brow_length = BETWEEN(BROW_LENGTH, 0.24f, 0.38f);
    s->brow_arch = BETWEEN(BROW_ARCH, -0.02f, 0.16f);
    s->brow_tilt = BETWEEN(BROW_TILT, -0.22f, 0.26f) - 0.12f * n->brow_raise;

    s->nose_y = BETWEEN(NOSE_LENGTH, 0.44f, 0.74f);
    s->nose_width = BETWEEN(NOSE_WIDTH, 0.13f, 0.27f) * (1.0f + 0.08f * n->smile);
    s->nose_depth = BETWEEN(NOSE_DEPTH, 0.24f, 0.50f);
    s->bridge_width = BETWEEN(NOSE_BRIDGE, 0.10f, 0.19f);
    s->tip = BETWEEN(NOSE_TIP, 0.02f, 0.14f);
    s->hump = BETWEEN(NOSE_HUMP, -0.08f, 0.10f);
    s->nostril = BETWEEN(NOSTRIL, 0.03f, 0.065f);

    s->mouth_y = s->nose_y + BETWEEN(MOUTH_HEIGHT, 0.42f, 0.68f);
    s->mouth_width = BETWEEN(MOUTH_WIDTH, 0.28f, 0.52f) * (1.0f + 0.22f * n->smile);
    s->mouth_corner = BETWEEN(MOUTH_CURVE, -0.045f, 0.045f) - 0.11f * n->smile;
    s->mouth_open = n->mouth_open;
    s->lip_upper = BETWEEN(LIP_UPPER, 0.025f, 0.13f) * (1.0f - 0.3f * n->smile);
    s->lip_lower = BETWEEN(LIP_LOWER, 0.05f, 0.19f) * (1.0f - 0.2f * n->smile);
    s->bow = BETWEEN(LIP_BOW, 0.0f, 0.6f);

    s->ear = BETWEEN(EAR_SIZE, 0.75f, 1.3f);
    s->ear_out = BETWEEN(EAR_OUT, 0.02f, 0.20f);

    s->hair_line = BETWEEN(HAIR_LINE, -1.60f, -0.95f);
    s->hair_recede = BETWEEN(HAIR_RECEDE, -0.15f, 0.50f);
    s->hair_volume = BETWEEN(HAIR_VOLUME, 0.06f, 0.34f);
    float length = id->value[FF_FACE_HAIR_LENGTH];
    s->hair_bottom = length < 0.55f ? ff_face_mix(-0.45f, 0.35f, length / 0.55f)
                                    : ff_face_mix(0.7f, 2.9f, (length - 0.55f) / 0.45f);
    s->ears_seen = s->hair_bottom < 0.5f;
    float fringe = id->value[FF_FACE_HAIR_FRINGE];
    s->fringe =
        fringe > 0.65f ? ff_face_mix(0.25f, 0.85f, (fringe - 0.65f) / 0.35f) : 0;
    s->part = BETWEEN(HAIR_PART, -0.8f, 0.8f);
    s->wave = BETWEEN(HAIR_WAVE, 0.0f, 0.16f);
    s->bald = id->value[FF_FACE_HAIR_VOLUME] < 0.07f && length < 0.55f;
    s->hat_y = -9.0f;
    if (n->occluder == FF_FACE_OCCLUDER_HAT)
        s->hat_y = -0.62f - 0.25f * n->occluder_size;

    float glasses = id->value[FF_FACE_GLASSES];
    s->sunglasses = n->occluder == FF_FACE_OCCLUDER_SUNGLASSES;
    s->glasses = glasses < 0.28f || s->sunglasses;
    float kind = s->sunglasses ? n->occluder_size : glasses / 0.28f;
    s->glasses_width = ff_face_mix(0.31f, 0.42f, kind);
    s->glasses_height = BETWEEN(GLASSES_SHAPE, 0.20f, 0.36f);
    s->glasses_power = BETWEEN(GLASSES_SHAPE, 4.5f, 2.0f);
    s->glasses_thick = ff_face_mix(0.030f, 0.075f, 1.0f - kind);
#undef BETWEEN
}

/* Half width of the head at height y. */
static float width_at(const struct ff_face_shape *s, float y)
{
    float base;
    if (y < HEAD_MIDDLE) {
        float t = ff_face_clamp((HEAD_MIDDLE - y) / (HEAD_MIDDLE - s->top));
        base = powf(1.0f - powf(t, 2.5f), 0.45f);
    } else {
        float t = ff_face_clamp((y - HEAD_MIDDLE) / (s->chin - HEAD_MIDDLE));
        base = powf(1.0f - powf(t, s->jaw_power), 0.52f);
    }
    float more = s->forehead * ff_face_bump((y + 0.95f) * (y + 0.95f) / 0.8f) +
                 s->cheekbone * ff_face_bump((y - 0.25f) * (y - 0.25f) / 0.5f) +
                 s->jaw * ff_face_bump((y - 1.0f) * (y - 1.0f) / 0.5f) +
                 s->chin_width * ff_face_bump((y - 1.5f) * (y - 1.5f) / 0.3f);
    return base * (s->half_width + more);
}

/* Distance of the surface before (front) or behind the axis at height y. */
static float depth_at(const struct ff_face_shape *s, float y, bool front)
{
    if (y < HEAD_MIDDLE) {
        float t = ff_face_clamp((HEAD_MIDDLE - y) / (HEAD_MIDDLE - s->top));
        return s->depth * powf(1.0f - powf(t, 2.6f), 0.5f);
    }
    float t = ff_face_clamp((y - HEAD_MIDDLE) / (s->chin - HEAD_MIDDLE));
    float t2 = t * t, t8 = t2 * t2 * t2 * t2;
    float closing = sqrtf(1.0f - t8);
    return front ? s->depth * (1.0f - 0.10f * t) * closing
                 : s->depth * (1.0f - 0.85f * ff_face_step(0.1f, 0.9f, t)) * closing;
}

/* Relief of the face over the plain head, towards the viewer. */
static float relief_at(const struct ff_face_shape *s, float x, float y)
{
    float ax = fabsf(x), eye_y = s->eye_y[x < 0 ? 0 : 1], sum = 0.0f;
    /* Nose: a ridge from the bridge to the tip that widens and rises, and two wings. */
    float start = -0.22f, t = (y - start) / (s->nose_y - start);
    if (ax < 0.6f && t > -0.4f && t < 1.6f) {
        float rise;
        if (t < 1.0f) {
            float tt = ff_face_clamp(t);
            rise = s->nose_depth * (0.15f + 0.85f * powf(tt, 1.25f)) +
                   s->hump * sinf(PI_F * tt) * 0.9f;
            rise *= ff_face_step(-0.35f, 0.25f, t);
        } else {
            rise = s->nose_depth * ff_face_bump((t - 1.0f) * (t - 1.0f) / 0.10f);
        }
        float half = ff_face_mix(s->bridge_width, 0.8f * s->nose_width + 0.05f,
                                 ff_face_step(0.2f, 1.0f, t)) *
                     1.9f;
        sum += rise * ff_face_bump(x * x / (half * half));
        float dy = y - s->nose_y;
        sum += s->tip * ff_face_bump((x * x + dy * dy) / 0.030f);
        float wx = ax - s->nose_width, wy = y - s->nose_y - 0.02f;
        sum += 0.13f * ff_face_bump((wx * wx + wy * wy) / 0.022f);
    }
    float ex = ax - s->eye_x, ey = y - eye_y;
    sum -= s->socket * ff_face_bump(ex * ex / 0.16f + ey * ey / 0.08f);
    sum += 0.06f * ff_face_bump((ex * ex + ey * ey) / 0.035f);
    float by = y - s->brow_y;
    sum += 0.07f * ff_face_bump(ex * ex / 0.25f + by * by / 0.035f);
    float cx = ax - 0.62f, cy = y - 0.52f;
    sum += s->cheek * ff_face_bump((cx * cx + cy * cy) / 0.16f);
    float mw = s->mouth_width * 1.15f, my = y - s->mouth_y;
    if (ax < mw) {
        float across = ff_face_bump(x * x / (mw * mw));
        float up = my + 0.5f * s->lip_upper, low = my - 0.5f * s->lip_lower;
        sum += across * (0.06f * ff_face_bump(up * up / 0.012f) +
                         0.08f * ff_face_bump(low * low / 0.014f));
    }
    float ly = y - (s->chin - 0.28f);
    sum += s->chin_bulge * ff_face_bump((x * x + ly * ly) / 0.20f);
    return sum;
}

/* Point at an angle round the head; y as painted. An open mouth lowers the chin. */
static struct ff_face_vector wrap(const struct ff_face_shape *s, float angle, float y,
                                  float width, float front, float back)
{
    float c = cosf(angle), sn = sinf(angle);
    float flat = c > 0.0f ? powf(c, 0.8f) : c;
    struct ff_face_vector p = {width * sn, y, (c > 0.0f ? front : back) * flat};
    if (c > 0.0f)
        p.z += relief_at(s, p.x, y) * ff_face_step(0.0f, 0.35f, c);
    p.y +=
        0.6f * s->mouth_open * ff_face_step(s->mouth_y + 0.05f, s->mouth_y + 0.35f, y);
    return p;
}

struct ff_face_vector ff_face_shape_surface(const struct ff_face_shape *s, float x,
                                            float y)
{
    float width = width_at(s, y);
    float ratio = width > 1e-3f ? x / width : 0.0f;
    float angle = asinf(fminf(fmaxf(ratio, -1.0f), 1.0f));
    return wrap(s, angle, y, width, depth_at(s, y, true), depth_at(s, y, false));
}

void ff_face_shape_landmarks(float painted[5][2], const struct ff_face_shape *s)
{
    painted[0][0] = -s->eye_x;
    painted[0][1] = s->eye_y[0];
    painted[1][0] = s->eye_x;
    painted[1][1] = s->eye_y[1];
    painted[2][0] = 0.0f;
    painted[2][1] = s->nose_y;
    painted[3][0] = -s->mouth_width;
    painted[4][0] = s->mouth_width;
    painted[3][1] = painted[4][1] = s->mouth_y + s->mouth_corner;
}

static struct ff_face_vector turn(const float m[9], struct ff_face_vector p)
{
    return (struct ff_face_vector){m[0] * p.x + m[1] * p.y + m[2] * p.z,
                                   m[3] * p.x + m[4] * p.y + m[5] * p.z,
                                   m[6] * p.x + m[7] * p.y + m[8] * p.z};
}

/* Rx(pitch) Ry(yaw); positive yaw turns the nose to the image's right, pitch down. */
static void rotation_init(float m[9], float yaw, float pitch)
{
    float cy = cosf(yaw), sy = sinf(yaw), cp = cosf(pitch), sp = sinf(pitch);
    const float r[9] = {cy, 0.0f, sy, -sp * sy, cp, sp * cy, -cp * sy, -sp, cp * cy};
    memcpy(m, r, sizeof r);
}

/* Perspective on the camera plane, before any similarity. */
static void camera_plane(double *x, double *y, float *z,
                         const struct ff_face_view *view, const float rotation[9],
                         struct ff_face_vector p)
{
    struct ff_face_vector c = turn(rotation, p);
    double k = view->camera_distance / (view->camera_distance - c.z);
    *x = k * c.x;
    *y = k * c.y;
    *z = c.z;
}

/* Least-squares similarity (no reflection) of five points: dst = (a, -b; b, a) src + t.
 */
static void similarity_fit(double *a, double *b, double t[2], const double src[5][2],
                           const double dst[5][2])
{
    double ms[2] = {0, 0}, md[2] = {0, 0}, dot = 0, cross = 0, norm = 0;
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 2; k++) {
            ms[k] += src[i][k] / 5;
            md[k] += dst[i][k] / 5;
        }
    for (int i = 0; i < 5; i++) {
        double sx = src[i][0] - ms[0], sy = src[i][1] - ms[1];
        double dx = dst[i][0] - md[0], dy = dst[i][1] - md[1];
        dot += sx * dx + sy * dy;
        cross += sx * dy - sy * dx;
        norm += sx * sx + sy * sy;
    }
    *a = dot / norm;
    *b = cross / norm;
    t[0] = md[0] - (*a * ms[0] - *b * ms[1]);
    t[1] = md[1] - (*b * ms[0] + *a * ms[1]);
}

void ff_face_view_init(struct ff_face_view *view, const struct ff_face_shape *shape,
                       const struct ff_face_nuisance *n,
                       const struct ff_face_crop *crop)
{
    rotation_init(view->rotation, n->yaw_rad, n->pitch_rad);
    rotation_init(view->body, 0.4f * n->yaw_rad, 0.2f * n->pitch_rad);
    view->camera_distance = n->camera_distance;

    float painted[5][2];
    ff_face_shape_landmarks(painted, shape);
    double plane[5][2], a, b, t[2];
    for (int i = 0; i < 5; i++) {
        float z;
        camera_plane(&plane[i][0], &plane[i][1], &z, view, view->rotation,
                     ff_face_shape_surface(shape, painted[i][0], painted[i][1]));
    }
    similarity_fit(&a, &b, t, plane, ff_face_template);

    /* Crop after fit, both similarities. */
    double c = crop->scale * cos(crop->roll_rad), s = crop->scale * sin(crop->roll_rad);
    double p = c * a - s * b, q = s * a + c * b;
    view->affine[0] = p;
    view->affine[1] = -q;
    view->affine[2] = c * t[0] - s * t[1] + crop->x_px;
    view->affine[3] = q;
    view->affine[4] = p;
    view->affine[5] = s * t[0] + c * t[1] + crop->y_px;
    view->pixels_per_unit = sqrt(p * p + q * q);
}

static void to_image(double *x_px, double *y_px, float *z,
                     const struct ff_face_view *view, const float rotation[9],
                     struct ff_face_vector point)
{
    double x, y;
    camera_plane(&x, &y, z, view, rotation, point);
    *x_px = view->affine[0] * x + view->affine[1] * y + view->affine[2];
    *y_px = view->affine[3] * x + view->affine[4] * y + view->affine[5];
}

void ff_face_view_project(double *x_px, double *y_px, const struct ff_face_view *view,
                          struct ff_face_vector point)
{
    float z;
    to_image(x_px, y_px, &z, view, view->rotation, point);
}

/* ---- sampling ---- */

struct drawing {
    struct ff_face_buffer *buffer;
    const struct ff_face_shape *shape;
    const struct ff_face_view *view;
    const struct ff_face_nuisance *nuisance;
};

static void project_vertex(struct vertex *v, const struct ff_face_view *view,
                           const float rotation[9])
{
    double x, y;
    to_image(&x, &y, &v->z, view, rotation, v->at);
    /* Pixel centres at integers; sample s of a row lies at pixel (s + 0.5) / SS - 0.5.
     */
    v->x = (float)((x + 0.5) * FF_FACE_SUPERSAMPLES - 0.5);
    v->y = (float)((y + 0.5) * FF_FACE_SUPERSAMPLES - 0.5);
}

/* Light at a vertex; `normal` of the head frame, any length, pointing out. */
static void light_vertex(struct vertex *v, const struct ff_face_nuisance *n,
                         const float rotation[9], struct ff_face_vector normal)
{
    struct ff_face_vector c = turn(rotation, normal);
    float length = sqrtf(c.x * c.x + c.y * c.y + c.z * c.z);
    float inverse = length > 1e-9f ? 1.0f / length : 0.0f;
    c.x *= inverse;
    c.y *= inverse;
    c.z *= inverse;
    const float *l = n->light_direction;
    float d = c.x * l[0] + c.y * l[1] + c.z * l[2];
    float wrapped = (d + 0.15f) / 1.15f;
    v->diffuse = wrapped > 0.0f ? wrapped : 0.0f;
    v->ambient = 0.62f - 0.25f * c.y + 0.18f * c.z;
    /* Blinn: half vector between the light and the viewer (0, 0, 1). */
    float hx = l[0], hy = l[1], hz = l[2] + 1.0f;
    float h = sqrtf(hx * hx + hy * hy + hz * hz);
    float cosine = h > 1e-6f ? (c.x * hx + c.y * hy + c.z * hz) / h : 0.0f;
    float p = cosine > 0.0f ? cosine * cosine : 0.0f;
    p *= p;
    p *= p;
    p *= p;
    v->gloss = d > 0.0f ? p : 0.0f;
}

static float min3(float a, float b, float c)
{
    float m = a < b ? a : b;
    return m < c ? m : c;
}

static float max3(float a, float b, float c)
{
    float m = a > b ? a : b;
    return m > c ? m : c;
}

static void draw_triangle(struct drawing *d, const struct vertex *a,
                          const struct vertex *b, const struct vertex *c,
                          enum ff_face_layer layer)
{
    if (a->mask < 0.0f && b->mask < 0.0f && c->mask < 0.0f)
        return;
    float area = (b->x - a->x) * (c->y - a->y) - (b->y - a->y) * (c->x - a->x);
    /* A closed part shows its outside only; of hair and glasses both sides are seen. */
    if (area < 1e-7f && (layer <= FF_FACE_LAYER_SHIRT || area > -1e-7f))
        return;
    float left = min3(a->x, b->x, c->x), right = max3(a->x, b->x, c->x);
    float top = min3(a->y, b->y, c->y), bottom = max3(a->y, b->y, c->y);
    const int width = d->buffer->width, height = d->buffer->height;
    if (!(right >= 0.0f && bottom >= 0.0f && left <= (float)(width - 1) &&
          top <= (float)(height - 1)))
        return;
    int x0 = left > 0.0f ? (int)left : 0;
    int y0 = top > 0.0f ? (int)top : 0;
    x0 += (float)x0 < left - 1e-3f;
    y0 += (float)y0 < top - 1e-3f;
    int x1 = right < (float)(width - 1) ? (int)(right + 1e-3f) : width - 1;
    int y1 = bottom < (float)(height - 1) ? (int)(bottom + 1e-3f) : height - 1;
    if (x0 > x1 || y0 > y1)
        return;
    float inverse = 1.0f / area;
    float db = (c->y - a->y) * inverse, dc = -(b->y - a->y) * inverse;
    for (int y = y0; y <= y1; y++) {
        float fy = (float)y - a->y, fx = (float)x0 - a->x;
        float wb = (fx * (c->y - a->y) - fy * (c->x - a->x)) * inverse;
        float wc = (fy * (b->x - a->x) - fx * (b->y - a->y)) * inverse;
        struct ff_face_sample *row = d->buffer->samples + (int64_t)y * width;
        for (int x = x0; x <= x1; x++, wb += db, wc += dc) {
            float wa = 1.0f - wb - wc;
            /* The slack closes the seams of shared edges under rounding. */
            if (wa < -1e-4f || wb < -1e-4f || wc < -1e-4f)
                continue;
            float z = wa * a->z + wb * b->z + wc * c->z;
            if (z <= row[x].z || wa * a->mask + wb * b->mask + wc * c->mask < 0.0f)
                continue;
            row[x] = (struct ff_face_sample){
                .z = z,
                .u = wa * a->u + wb * b->u + wc * c->u,
                .v = wa * a->v + wb * b->v + wc * c->v,
                .diffuse = wa * a->diffuse + wb * b->diffuse + wc * c->diffuse,
                .ambient = wa * a->ambient + wb * b->ambient + wc * c->ambient,
                .gloss = wa * a->gloss + wb * b->gloss + wc * c->gloss,
                .layer = layer};
        }
    }
}

/* Projects, lights and samples a grid whose `at`, u, v and mask are set. `outside` = +1
 * or -1 orients the normals. */
static void draw_grid(struct drawing *d, struct vertex *grid, int rows, int columns,
                      float outside, const float rotation[9], enum ff_face_layer layer)
{
    assert(rows * columns <= GRID_VERTICES && rows > 1 && columns > 1);
    for (int r = 0; r < rows; r++)
        for (int c = 0; c < columns; c++) {
            struct vertex *v = grid + r * columns + c;
            const struct ff_face_vector e =
                grid[r * columns + (c + 1 < columns ? c + 1 : c)].at;
            const struct ff_face_vector w = grid[r * columns + (c > 0 ? c - 1 : c)].at;
            const struct ff_face_vector s =
                grid[(r + 1 < rows ? r + 1 : r) * columns + c].at;
            const struct ff_face_vector n = grid[(r > 0 ? r - 1 : r) * columns + c].at;
            float ax = e.x - w.x, ay = e.y - w.y, az = e.z - w.z;
            float bx = s.x - n.x, by = s.y - n.y, bz = s.z - n.z;
            struct ff_face_vector normal = {outside * (ay * bz - az * by),
                                            outside * (az * bx - ax * bz),
                                            outside * (ax * by - ay * bx)};
            light_vertex(v, d->nuisance, rotation, normal);
            project_vertex(v, d->view, rotation);
        }
    for (int r = 0; r + 1 < rows; r++)
        for (int c = 0; c + 1 < columns; c++) {
            const struct vertex *v = grid + r * columns + c;
            draw_triangle(d, v, v + 1, v + columns, layer);
            draw_triangle(d, v + 1, v + columns + 1, v + columns, layer);
        }
}

static void draw_head(struct drawing *d, struct vertex *grid)
{
    const struct ff_face_shape *s = d->shape;
    for (int r = 0; r < HEAD_ROWS; r++) {
        float t = (float)r / (HEAD_ROWS - 1);
        t = 0.75f * t + 0.25f * (0.5f - 0.5f * cosf(PI_F * t));
        float y = ff_face_mix(s->top, s->chin, t);
        float width = width_at(s, y), front = depth_at(s, y, true);
        float back = depth_at(s, y, false);
        for (int c = 0; c < HEAD_COLUMNS; c++) {
            float k = 2.0f * (float)c / (HEAD_COLUMNS - 1) - 1.0f;
            float angle = HEAD_ANGLE * k * (0.42f + 0.58f * k * k);
            struct vertex *v = grid + r * HEAD_COLUMNS + c;
            v->at = wrap(s, angle, y, width, front, back);
            v->u = width * sinf(angle);
            v->v = y;
            v->mask = 1.0f;
        }
    }
    draw_grid(d, grid, HEAD_ROWS, HEAD_COLUMNS, 1.0f, d->view->rotation,
              FF_FACE_LAYER_SKIN);
}

/* How deep inside the hair a place is; negative = no hair there. */
static float hair_mask(const struct ff_face_shape *s, float angle, float y)
{
    float a = fabsf(angle);
    float line =
        s->hair_line - s->hair_recede * ff_face_bump((a - 0.62f) * (a - 0.62f) / 0.16f);
    if (s->bald)
        line = -9.0f;
    line += 0.9f * ff_face_step(0.75f, 1.5f, a);
    if (s->fringe > 0.0f && !s->bald) {
        float lean = (angle - s->part) * 0.35f;
        line += (s->fringe - lean * lean) * (1.0f - ff_face_step(0.7f, 1.1f, a));
    }
    line += s->wave * 0.18f * sinf(angle * 7.0f + s->part * 11.0f);
    float side_start = s->hair_bottom > 0.5f ? 1.12f + 0.12f * s->part : 1.32f;
    float side = fminf(a - side_start - 0.08f * sinf(y * 5.0f) * s->wave * 4.0f,
                       s->hair_bottom + 0.10f * sinf(angle * 7.0f) - y);
    return fmaxf(line - y, side);
}

/* A shell over the skull, as thick as the hair stands off, long hair hanging straight.
 */
static void draw_hair(struct drawing *d, struct vertex *grid)
{
    const struct ff_face_shape *s = d->shape;
    enum { ROWS = 60, COLUMNS = 61 };
    _Static_assert(ROWS * COLUMNS <= GRID_VERTICES, "the hair fits the grid");
    float top = s->top - 0.02f, bottom = fmaxf(s->hair_bottom + 0.15f, 0.3f);
    for (int r = 0; r < ROWS; r++) {
        float t = (float)r / (ROWS - 1);
        float y = ff_face_mix(top, bottom, 0.65f * t + 0.35f * t * t);
        float width = width_at(s, fminf(y, 0.1f)),
              front = depth_at(s, fminf(y, 0.1f), true);
        for (int c = 0; c < COLUMNS; c++) {
            float angle = PI_F * (2.0f * (float)c / (COLUMNS - 1) - 1.0f);
            struct vertex *v = grid + r * COLUMNS + c;
            v->u = angle;
            v->v = y;
            v->mask = hair_mask(s, angle, y);
            float lift = ff_face_step(-0.05f, 0.45f, v->mask);
            float thick =
                0.03f + lift * (s->hair_volume +
                                0.25f * s->wave * sinf(6.0f * y + 4.0f * angle));
            float away = ff_face_clamp(0.35f + fabsf(angle - s->part) * 1.6f);
            thick *= away;
            if (y < s->hat_y + 0.1f)
                thick = fmaxf(thick, 0.12f);
            float grow = 1.0f + thick / s->half_width;
            struct ff_face_vector p = {(width + thick * ff_face_step(0, 0.6f, width)) *
                                           sinf(angle),
                                       y, (front + thick) * cosf(angle)};
            if (p.z < 0.0f)
                p.z *= 0.9f;
            p.y = y < 0.0f ? y * grow : y;
            v->at = p;
            if (y < s->hat_y)
                v->mask = 1.0f;
        }
    }
    draw_grid(d, grid, ROWS, COLUMNS, 1.0f, d->view->rotation, FF_FACE_LAYER_HAIR);
}

/* An ellipsoid with radii r about `centre`. */
static void draw_ellipsoid(struct drawing *d, struct vertex *grid,
                           struct ff_face_vector centre, struct ff_face_vector r,
                           const float rotation[9], enum ff_face_layer layer)
{
    enum { ROWS = 17, COLUMNS = 25 };
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            float lat = PI_F * ((float)i / (ROWS - 1) - 0.5f);
            float lon = PI_F * (2.0f * (float)j / (COLUMNS - 1) - 1.0f);
            struct vertex *v = grid + i * COLUMNS + j;
            float x = cosf(lat) * sinf(lon), y = sinf(lat), z = cosf(lat) * cosf(lon);
            v->at = (struct ff_face_vector){centre.x + r.x * x, centre.y + r.y * y,
                                            centre.z + r.z * z};
            v->u = centre.x < 0.0f ? x : -x;
            v->v = y;
            v->mask = 1.0f;
        }
    draw_grid(d, grid, ROWS, COLUMNS, 1.0f, rotation, layer);
}

static void draw_ears(struct drawing *d, struct vertex *grid)
{
    const struct ff_face_shape *s = d->shape;
    float x = width_at(s, 0.2f) + 0.3f * s->ear_out;
    for (int side = -1; side <= 1; side += 2)
        draw_ellipsoid(d, grid, (struct ff_face_vector){(float)side * x, 0.16f, -0.02f},
                       (struct ff_face_vector){0.06f + 0.6f * s->ear_out,
                                               0.34f * s->ear, 0.16f * s->ear},
                       d->view->rotation, FF_FACE_LAYER_EAR);
}

static void draw_body(struct drawing *d, struct vertex *grid)
{
    enum { ROWS = 12, COLUMNS = 25 };
    float radius = 0.66f * d->shape->half_width;
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            float y = ff_face_mix(0.7f, 3.4f, (float)i / (ROWS - 1));
            float angle = PI_F * (2.0f * (float)j / (COLUMNS - 1) - 1.0f);
            struct vertex *v = grid + i * COLUMNS + j;
            float flare = radius + 0.5f * ff_face_step(2.1f, 3.2f, y);
            v->at = (struct ff_face_vector){flare * sinf(angle), y,
                                            flare * cosf(angle) - 0.25f};
            v->u = v->at.x;
            v->v = y;
            v->mask = 1.0f;
        }
    draw_grid(d, grid, ROWS, COLUMNS, 1.0f, d->view->body, FF_FACE_LAYER_NECK);
    draw_ellipsoid(d, grid, (struct ff_face_vector){0.0f, 3.95f, -0.3f},
                   (struct ff_face_vector){2.5f, 1.35f, 0.95f}, d->view->body,
                   FF_FACE_LAYER_SHIRT);
}

/* A band of a lens outline between two fractions of its radius. */
static void draw_ring(struct drawing *d, struct vertex *grid, float centre_x,
                      float centre_y, float inner, float outer,
                      enum ff_face_layer layer)
{
    const struct ff_face_shape *s = d->shape;
    enum { ROWS = 2, COLUMNS = 41 };
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            float angle = 2.0f * PI_F * (float)j / (COLUMNS - 1);
            float c = cosf(angle), sn = sinf(angle);
            float r = powf(powf(fabsf(c), s->glasses_power) +
                               powf(fabsf(sn), s->glasses_power),
                           -1.0f / s->glasses_power);
            float more = i == 0 ? inner : outer;
            struct vertex *v = grid + i * COLUMNS + j;
            float x = r * c * fmaxf(s->glasses_width + more, 0.0f);
            float y = r * sn * fmaxf(s->glasses_height + more, 0.0f);
            v->at = (struct ff_face_vector){
                centre_x + x, centre_y + y,
                s->depth + 0.16f - 0.10f * (centre_x + x) * (centre_x + x)};
            v->u = x;
            v->v = y;
            v->mask = 1.0f;
        }
    draw_grid(d, grid, ROWS, COLUMNS, -1.0f, d->view->rotation, layer);
}

static void draw_strip(struct drawing *d, struct vertex *grid,
                       struct ff_face_vector from, struct ff_face_vector to,
                       float half_height)
{
    enum { COLUMNS = 5 };
    for (int i = 0; i < 2; i++)
        for (int j = 0; j < COLUMNS; j++) {
            float t = (float)j / (COLUMNS - 1);
            struct vertex *v = grid + i * COLUMNS + j;
            v->at = (struct ff_face_vector){ff_face_mix(from.x, to.x, t),
                                            ff_face_mix(from.y, to.y, t) +
                                                (i ? half_height : -half_height),
                                            ff_face_mix(from.z, to.z, t)};
            v->u = t;
            v->v = 0.0f;
            v->mask = 1.0f;
        }
    draw_grid(d, grid, 2, COLUMNS, 1.0f, d->view->rotation, FF_FACE_LAYER_FRAME);
}

static void draw_glasses(struct drawing *d, struct vertex *grid)
{
    const struct ff_face_shape *s = d->shape;
    const float y = 0.05f, z = s->depth + 0.16f, thick = s->glasses_thick;
    const float x = fmaxf(s->eye_x, s->glasses_width + 0.09f);
    for (int side = -1; side <= 1; side += 2) {
        float f = (float)side, end = x + s->glasses_width;
        draw_ring(d, grid, f * x, y, 0.0f, thick, FF_FACE_LAYER_FRAME);
        if (s->sunglasses)
            draw_ring(d, grid, f * x, y, -1.0f, 0.0f, FF_FACE_LAYER_LENS);
        draw_strip(
            d, grid, (struct ff_face_vector){f * end, y - 0.08f, z - 0.1f * end * end},
            (struct ff_face_vector){f * (s->half_width + 0.06f), y - 0.08f, -0.1f},
            0.5f * thick);
    }
    draw_strip(d, grid, (struct ff_face_vector){-(x - s->glasses_width), y - 0.06f, z},
               (struct ff_face_vector){x - s->glasses_width, y - 0.06f, z},
               0.5f * thick);
}

void ff_face_shape_draw(struct ff_face_buffer *buffer,
                        const struct ff_face_shape *shape,
                        const struct ff_face_view *view,
                        const struct ff_face_nuisance *nuisance)
{
    struct drawing d = {buffer, shape, view, nuisance};
    struct vertex grid[GRID_VERTICES];
    int64_t count = (int64_t)buffer->width * buffer->height;
    for (int64_t i = 0; i < count; i++)
        buffer->samples[i] = (struct ff_face_sample){.z = -1e30f};
    draw_head(&d, grid);
    if (!shape->bald || shape->hat_y > -9.0f || shape->hair_bottom > -0.4f)
        draw_hair(&d, grid);
    if (shape->ears_seen)
        draw_ears(&d, grid);
    draw_body(&d, grid);
    if (shape->glasses)
        draw_glasses(&d, grid);
}
