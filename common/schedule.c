/* SPDX-License-Identifier: MIT */
/* The learning-rate schedules; see schedule.h.
 *
 * FastFace: D^E_t = w1 D^E_{t-1} - w2 D^E_{t-2} + w3 (L_{t-1} - L_t), two EMAs and the
 * difference between them in one recurrence. Every other schedule but haar keeps it
 * too, for its slope.
 *
 * haar: the smoothed loss (EMA, or mean of the last smooth_width losses, of what is
 * there at the start) runs through a kernel of m/2 times +1 (older) and m/2 times -1
 * (newer), scaled by 4/m^2. Before m smoothed values exist (t < m - 1) the slope is 0
 * and nothing is decided. Sums over a window are running sums, added up anew each time
 * the ring of the window comes round: O(1) an iteration on average and no drift.
 *
 * Decision (fastface, haar): floor(tau T) stationary iterations are let pass, the next
 * one drops. A drop that max_drops forbids leaves the count where it is: until the
 * slope rises nothing changes. max_drops counts drops of these two schedules alone. */
#include "schedule.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define STATE_MAGIC 4.1964e9 /* changes with the layout of a saved state */

/* Sum over the last `size` values; size 0 = not in use. */
struct ring {
    int64_t size;
    double *values;
};

/* What changes from iteration to iteration; saved member by member. */
struct moving {
    int64_t t;                  /* losses observed */
    double gamma, gamma_before; /* LR by the last decision and by the one before it */
    double loss, ema;           /* L_t, L^E_t */
    double slope, slope_before; /* D^E_t, D^E_{t-1} */
    int64_t count, drops, consecutive;
    double best; /* plateau: lowest L^E so far */
    int64_t bad; /* plateau: iterations since */
    double box_sum, kernel_sum;
    int64_t change_count;
};

/* clang-format off */
#define MOVING_I64(X) X(t) X(count) X(drops) X(consecutive) X(bad) X(change_count)
#define MOVING_F64(X)                                                                  \
    X(gamma) X(gamma_before) X(loss) X(ema) X(slope) X(slope_before) X(best)           \
    X(box_sum) X(kernel_sum)
/* clang-format on */
#define ONE(name) +1
enum {
    HEADER_DOUBLES = 5, /* magic, schedule, T, box and kernel width */
    MOVING_DOUBLES = 0 MOVING_I64(ONE) MOVING_F64(ONE),
};

struct ff_schedule {
    struct ff_params params;
    int64_t total;     /* T */
    int64_t tolerance; /* floor(tau T) */
    double w1, w2, w3;
    struct ring box, kernel;
    struct moving now;
    int64_t *changes; /* (change_capacity) */
    int64_t change_capacity;
};

/* Upper bound of the changes that decisions can make in T iterations. */
static int64_t most_changes(const struct ff_schedule *s)
{
    const struct ff_params *p = &s->params;
    switch (p->schedule) {
    case FF_SCHEDULE_FASTFACE:
    case FF_SCHEDULE_HAAR: {
        int64_t most = s->total / (s->tolerance + 1) + 1;
        bool limited = p->max_drops > 0 && p->restart_after == 0;
        return limited && p->max_drops < most ? p->max_drops : most;
    }
    case FF_SCHEDULE_PLATEAU: return s->total / (p->plateau_patience + 1) + 1;
    case FF_SCHEDULE_MULTISTEP: return p->milestones.count;
    default: return 0;
    }
}

int ff_schedule_create(struct ff_schedule **out, const struct ff_params *params,
                       int64_t total_iterations, struct ff_err *err)
{
    *out = NULL;
    if (total_iterations < 1)
        return ff_err_set(err, FF_EUSAGE, "a run of %lld iterations has no schedule",
                          (long long)total_iterations);
    bool warms_up = params->schedule == FF_SCHEDULE_POLYNOMIAL ||
                    params->schedule == FF_SCHEDULE_COSINE;
    if (warms_up && params->warmup_iterations >= total_iterations)
        return ff_err_set(
            err, FF_EUSAGE,
            "warmup_iterations: %lld is not below the run's %lld iterations",
            (long long)params->warmup_iterations, (long long)total_iterations);
    struct ff_schedule *s = calloc(1, sizeof *s);
    if (!s)
        return ff_err_set(err, FF_ENOMEM, "schedule: out of memory");
    double a = params->alpha, b = params->beta;
    s->params = *params;
    s->total = total_iterations;
    s->tolerance = (int64_t)(params->tau * (double)total_iterations);
    s->w1 = 2 - a - b;
    s->w2 = (1 - a) * (1 - b);
    s->w3 = a * b;
    s->now.gamma = s->now.gamma_before = params->gamma0;
    s->now.best = INFINITY;
    if (params->schedule == FF_SCHEDULE_HAAR) {
        s->kernel.size = params->haar_width;
        s->box.size = params->smooth == FF_SMOOTH_BOX ? params->smooth_width : 0;
    }
    s->change_capacity = most_changes(s);
    s->changes = calloc((size_t)s->change_capacity + 1, sizeof *s->changes);
    s->kernel.values = calloc((size_t)s->kernel.size + 1, sizeof(double));
    s->box.values = calloc((size_t)s->box.size + 1, sizeof(double));
    if (!s->changes || !s->kernel.values || !s->box.values) {
        ff_schedule_destroy(s);
        return ff_err_set(err, FF_ENOMEM, "schedule: out of memory");
    }
    if (params->schedule == FF_SCHEDULE_MULTISTEP) {
        s->now.change_count = s->change_capacity;
        memcpy(s->changes, params->milestones.items,
               (size_t)s->change_capacity * sizeof *s->changes);
    }
    *out = s;
    return 0;
}

void ff_schedule_destroy(struct ff_schedule *schedule)
{
    if (!schedule)
        return;
    free(schedule->changes);
    free(schedule->kernel.values);
    free(schedule->box.values);
    free(schedule);
}

/* Polynomial and cosine: linear warm-up over w iterations, then f of the rest. */
static double timed_lr(const struct ff_schedule *s, int64_t t)
{
    const struct ff_params *p = &s->params;
    int64_t w = p->warmup_iterations;
    if (t < w)
        return p->gamma0 * (double)(t + 1) / (double)w;
    double done = (double)(t - w) / (double)(s->total - w);
    if (done > 1)
        done = 1;
    if (p->schedule == FF_SCHEDULE_COSINE)
        return p->gamma0 * 0.5 * (1 + cos(3.14159265358979323846 * done));
    return p->gamma0 * pow(1 - done, p->power);
}

double ff_schedule_lr(const struct ff_schedule *schedule)
{
    const struct ff_params *p = &schedule->params;
    const struct moving *now = &schedule->now;
    switch (p->schedule) {
    case FF_SCHEDULE_POLYNOMIAL:
    case FF_SCHEDULE_COSINE: return timed_lr(schedule, now->t);
    case FF_SCHEDULE_CONSTANT: return p->gamma0;
    case FF_SCHEDULE_MULTISTEP: {
        double lr = p->gamma0;
        for (int64_t i = 0; i < p->milestones.count; i++)
            if (now->t >= p->milestones.items[i])
                lr /= p->delta;
        return lr;
    }
    default: return p->lr_lag ? now->gamma_before : now->gamma;
    }
}

/* A new LR by the decision from L_t. */
static void change_lr(struct ff_schedule *s, int64_t t, double gamma)
{
    s->now.gamma = gamma;
    if (s->now.change_count < s->change_capacity)
        s->changes[s->now.change_count++] = t + 1 + s->params.lr_lag;
}

/* Figure 5: count stationary iterations, drop after the tolerance. */
static void decide(struct ff_schedule *s, int64_t t)
{
    const struct ff_params *p = &s->params;
    struct moving *now = &s->now;
    if (!(now->slope < p->lambda)) {
        now->count = 0;
        now->consecutive = 0;
    } else if (now->count < s->tolerance) {
        now->count++;
    } else if (p->restart_after > 0 && now->consecutive == p->restart_after) {
        now->count = 0;
        now->consecutive = 0;
        change_lr(s, t, now->gamma * p->restart_factor);
    } else if (p->max_drops == 0 || now->drops < p->max_drops) {
        now->count = 0;
        now->consecutive++;
        now->drops++;
        change_lr(s, t, now->gamma / p->delta);
    }
}

/* A new minimum of L^E ends the wait; more than plateau_patience without one ends it by
 * a change of the LR. */
static void decide_plateau(struct ff_schedule *s, int64_t t)
{
    struct moving *now = &s->now;
    if (now->ema < now->best) {
        now->best = now->ema;
        now->bad = 0;
    } else if (++now->bad > s->params.plateau_patience) {
        now->bad = 0;
        change_lr(s, t, now->gamma * s->params.plateau_factor);
    }
}

static void observe_recurrence(struct ff_schedule *s, int64_t t, double loss)
{
    struct moving *now = &s->now;
    double fall = now->loss - loss;
    if (t == 0)
        return;
    if (t == 1) {
        now->slope = s->params.alpha * fall;
        now->slope_before = s->params.slope_init == FF_SLOPE_INIT_EMA ? now->slope : 0;
        return;
    }
    double slope = s->w1 * now->slope - s->w2 * now->slope_before + s->w3 * fall;
    now->slope_before = now->slope;
    now->slope = slope;
}

/* Mean of the last min(t + 1, size) losses. */
static double observe_box(struct ff_schedule *s, int64_t t, double loss)
{
    struct ring *box = &s->box;
    int64_t at = t % box->size;
    double *sum = &s->now.box_sum;
    *sum += loss - box->values[at]; /* a value not there yet is 0 */
    box->values[at] = loss;
    if (at == box->size - 1) {
        *sum = 0;
        for (int64_t i = 0; i < box->size; i++)
            *sum += box->values[i];
    }
    return *sum / (double)(t + 1 < box->size ? t + 1 : box->size);
}

/* Kernel over the last m smoothed values: true once there are m. */
static bool observe_kernel(struct ff_schedule *s, int64_t t, double smoothed)
{
    struct ring *kernel = &s->kernel;
    int64_t m = kernel->size, half = m / 2, at = t % m;
    double *v = kernel->values, *sum = &s->now.kernel_sum;
    *sum += 2 * v[(at + half) % m] - v[at] - smoothed;
    v[at] = smoothed;
    if (at == m - 1) { /* the ring lies in order of time */
        *sum = 0;
        for (int64_t i = 0; i < half; i++)
            *sum += v[i] - v[i + half];
    }
    if (t < m - 1)
        return false;
    s->now.slope = *sum * 4 / ((double)m * (double)m);
    return true;
}

void ff_schedule_observe(struct ff_schedule *schedule, double loss)
{
    struct ff_schedule *s = schedule;
    const struct ff_params *p = &s->params;
    struct moving *now = &s->now;
    int64_t t = now->t;
    now->gamma_before = now->gamma;
    now->ema = t ? p->alpha * loss + (1 - p->alpha) * now->ema : loss;
    if (p->schedule == FF_SCHEDULE_HAAR) {
        double smoothed = s->box.size ? observe_box(s, t, loss) : now->ema;
        if (observe_kernel(s, t, smoothed))
            decide(s, t);
    } else {
        observe_recurrence(s, t, loss);
        if (p->schedule == FF_SCHEDULE_FASTFACE && t >= 1)
            decide(s, t);
        else if (p->schedule == FF_SCHEDULE_PLATEAU)
            decide_plateau(s, t);
    }
    now->loss = loss;
    now->t = t + 1;
}

double ff_schedule_slope(const struct ff_schedule *schedule)
{
    return schedule->now.slope;
}

const int64_t *ff_schedule_changes(const struct ff_schedule *schedule, size_t *count)
{
    *count = (size_t)schedule->now.change_count;
    return schedule->changes;
}

static void fill_header(const struct ff_schedule *s, double header[HEADER_DOUBLES])
{
    header[0] = STATE_MAGIC;
    header[1] = s->params.schedule;
    header[2] = (double)s->total;
    header[3] = (double)s->box.size;
    header[4] = (double)s->kernel.size;
}

/* Order: header, members of struct moving, changes, rings. */
size_t ff_schedule_save(const struct ff_schedule *schedule, double *state)
{
    const struct ff_schedule *s = schedule;
    size_t changes = (size_t)s->now.change_count;
    size_t box = (size_t)s->box.size, kernel = (size_t)s->kernel.size;
    if (state) {
        fill_header(s, state);
        state += HEADER_DOUBLES;
#define PUT(name) *state++ = (double)s->now.name;
        MOVING_I64(PUT)
        MOVING_F64(PUT)
#undef PUT
        for (size_t i = 0; i < changes; i++)
            *state++ = (double)s->changes[i];
        memcpy(state, s->box.values, box * sizeof *state);
        memcpy(state + box, s->kernel.values, kernel * sizeof *state);
    }
    return HEADER_DOUBLES + MOVING_DOUBLES + changes + box + kernel;
}

int ff_schedule_load(struct ff_schedule *schedule, const double *state, size_t count,
                     struct ff_err *err)
{
    static const char *const header_names[HEADER_DOUBLES] = {
        "layout", "kind", "number of iterations", "box width", "kernel width"};
    struct ff_schedule *s = schedule;
    size_t box = (size_t)s->box.size, kernel = (size_t)s->kernel.size;
    size_t fixed = HEADER_DOUBLES + MOVING_DOUBLES + box + kernel;
    double header[HEADER_DOUBLES];
    fill_header(s, header);
    for (size_t i = 0; i < HEADER_DOUBLES && i < count; i++)
        if (state[i] != header[i])
            return ff_err_set(err, FF_EDATA,
                              "schedule state: %s %.17g where %.17g is expected",
                              header_names[i], state[i], header[i]);
    if (count < fixed)
        return ff_err_set(err, FF_EDATA,
                          "schedule state: %zu values, at least %zu needed", count,
                          fixed);
    const double *from = state + HEADER_DOUBLES;
    struct moving made;
#define IS_INTEGER(name)                                                               \
    if (!(*from >= 0 && *from <= 0x1p53))                                              \
        return ff_err_set(err, FF_EDATA, "schedule state: %s is %.17g", #name, *from); \
    made.name = (int64_t)*from++;
    MOVING_I64(IS_INTEGER)
#undef IS_INTEGER
#define TAKE(name) made.name = *from++;
    MOVING_F64(TAKE)
#undef TAKE
    if (made.change_count > s->change_capacity ||
        count != fixed + (size_t)made.change_count)
        return ff_err_set(err, FF_EDATA, "schedule state: %zu values with %lld changes",
                          count, (long long)made.change_count);
    s->now = made;
    for (int64_t i = 0; i < made.change_count; i++)
        s->changes[i] = (int64_t)*from++;
    memcpy(s->box.values, from, box * sizeof *from);
    memcpy(s->kernel.values, from + box, kernel * sizeof *from);
    return 0;
}
