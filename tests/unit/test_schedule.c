/* SPDX-License-Identifier: MIT */
/* The schedules against independent code: two EMAs kept as arrays, kernels summed term
 * by term, and the decision rule written out from its definition. Losses are synthetic:
 * stretches of decay with noise, so that drops really occur. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "schedule.h"

#define MOST 20000

static double loss[MOST], slope[MOST], lr[MOST];
static int64_t changes[MOST];
static size_t change_count;

/* Decays towards a floor that sinks in steps; uniform noise. */
static void make_loss(int64_t total, uint64_t seed, double noise)
{
    double level = 40;
    for (int64_t t = 0; t < total; t++) {
        double floor_now = 20 - 4 * floor(6.0 * (double)t / (double)total);
        level += 0.004 * (floor_now - level);
        double u = ff_rng_uniform(seed, ff_stream("loss"), (uint64_t)t);
        loss[t] = level + noise * (u - 0.5);
    }
}

static void defaults(struct ff_params *p)
{
    ff_params_defaults(p);
    p->alpha = p->beta = 0.01;
    p->lambda = 2e-4;
    p->tau = 0.03;
}

static struct ff_schedule *create(const struct ff_params *p, int64_t total)
{
    struct ff_schedule *s;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_schedule_create(&s, p, total, &err), 0), "%s", err.text);
    return s;
}

/* -- the independent code: whole arrays first, then the rule on top -- */

static void reference_two_emas(const struct ff_params *p, int64_t total)
{
    static double smoothed[MOST];
    smoothed[0] = loss[0];
    for (int64_t t = 1; t < total; t++)
        smoothed[t] = p->alpha * loss[t] + (1 - p->alpha) * smoothed[t - 1];
    slope[0] = 0;
    slope[1] = smoothed[0] - smoothed[1];
    for (int64_t t = 2; t < total; t++)
        slope[t] =
            p->beta * (smoothed[t - 1] - smoothed[t]) + (1 - p->beta) * slope[t - 1];
    if (p->slope_init == FF_SLOPE_INIT_PUBLISHED) {
        /* D^E_0 = 0 instead of D_1: the difference decays as the recurrence's response
         * to that one start value, e_0 = -D_1, e_1 = 0. */
        double before = -slope[1], now = 0;
        for (int64_t t = 2; t < total; t++) {
            double next = (1 - p->alpha) * now + (1 - p->beta) * now -
                          (1 - p->alpha) * (1 - p->beta) * before;
            before = now;
            now = next;
            slope[t] += now;
        }
    }
}

static double box_mean(int64_t t, int64_t width)
{
    long double sum = 0;
    int64_t from = t - width + 1 > 0 ? t - width + 1 : 0;
    for (int64_t i = from; i <= t; i++)
        sum += (long double)loss[i];
    return (double)(sum / (long double)(t - from + 1));
}

static void reference_haar(const struct ff_params *p, int64_t total)
{
    static double smoothed[MOST];
    int64_t m = p->haar_width;
    for (int64_t t = 0; t < total; t++)
        smoothed[t] = p->smooth == FF_SMOOTH_BOX ? box_mean(t, p->smooth_width)
                      : t == 0                   ? loss[0]
                               : p->alpha * loss[t] + (1 - p->alpha) * smoothed[t - 1];
    for (int64_t t = 0; t < total; t++) {
        long double sum = 0;
        for (int64_t i = 0; i < m && t >= m - 1; i++)
            sum += (i < m / 2 ? -1 : 1) * (long double)smoothed[t - i];
        slope[t] = (double)(sum * 4 / ((long double)m * (long double)m));
    }
}

/* lr[t] used by iteration t, from slope[] with decisions from iteration `first`. */
static void reference_decisions(const struct ff_params *p, int64_t total, int64_t first)
{
    double gamma = p->gamma0;
    int64_t wait = 0, drops = 0, in_a_row = 0;
    int64_t let_pass = (int64_t)floor(p->tau * (double)total);
    change_count = 0;
    for (int64_t t = 0; t < total; t++)
        lr[t] = p->gamma0;
    for (int64_t t = first; t < total; t++) {
        bool stationary = slope[t] < p->lambda;
        if (!stationary) {
            wait = in_a_row = 0;
            continue;
        }
        if (wait < let_pass) {
            wait++;
            continue;
        }
        bool raise = p->restart_after > 0 && in_a_row >= p->restart_after;
        if (!raise && p->max_drops > 0 && drops >= p->max_drops)
            continue;
        gamma = raise ? gamma * p->restart_factor : gamma / p->delta;
        drops += !raise;
        in_a_row = raise ? 0 : in_a_row + 1;
        wait = 0;
        changes[change_count++] = t + 1 + p->lr_lag;
        for (int64_t i = t + 1 + p->lr_lag; i < total; i++)
            lr[i] = gamma;
    }
}

/* Runs the schedule and compares slope, LR and changes, iteration by iteration. */
static void compare(const struct ff_params *p, int64_t total, double tolerance,
                    size_t fewest, const char *what)
{
    struct ff_schedule *s = create(p, total);
    cr_assert(eq(dbl, ff_schedule_slope(s), 0));
    for (int64_t t = 0; t < total; t++) {
        cr_assert(eq(dbl, ff_schedule_lr(s), lr[t]), "%s: LR of iteration %d", what,
                  (int)t);
        ff_schedule_observe(s, loss[t]);
        cr_assert(epsilon_eq(dbl, ff_schedule_slope(s), slope[t], tolerance),
                  "%s: slope of iteration %d", what, (int)t);
    }
    size_t count;
    const int64_t *listed = ff_schedule_changes(s, &count);
    cr_assert(eq(sz, count, change_count), "%s", what);
    cr_assert(ge(sz, count, fewest), "%s: too few changes to test anything", what);
    for (size_t i = 0; i < count; i++)
        cr_assert(eq(i64, listed[i], changes[i]), "%s: change %zu", what, i);
    ff_schedule_destroy(s);
}

Test(schedule, recurrence_equals_two_emas_both_starts_both_lags)
{
    enum { T = 12000 };
    int longer = 0; /* without max_drops */
    for (int variant = 0; variant < 16; variant++) {
        struct ff_params p;
        char what[64];
        defaults(&p);
        p.slope_init = variant & 1;
        p.lr_lag = variant >> 1 & 1;
        p.max_drops = variant & 4 ? 3 : 0;
        p.beta = variant & 8 ? 0.003 : 0.01;
        p.lambda = variant & 8 ? 6e-4 : 2e-4;
        snprintf(what, sizeof what, "variant %d", variant);
        make_loss(T, (uint64_t)variant, 0.5);
        reference_two_emas(&p, T);
        reference_decisions(&p, T, 1);
        compare(&p, T, 1e-12, 3, what);
        if (p.max_drops)
            cr_assert(eq(sz, change_count, 3), "%s", what);
        else
            longer += change_count > 3;
    }
    cr_assert(le(int, 4, longer));
}

Test(schedule, starts_differ_as_published)
{
    struct ff_params p;
    enum { T = 5000 };
    defaults(&p);
    p.alpha = p.beta = 0.001;
    for (int t = 0; t < T; t++)
        loss[t] = t == 0 ? 40.5 : 40;
    struct ff_schedule *ema = create(&p, T);
    p.slope_init = FF_SLOPE_INIT_PUBLISHED;
    struct ff_schedule *published = create(&p, T);
    double most = 0;
    int at = 0;
    for (int t = 0; t < T; t++) {
        ff_schedule_observe(ema, loss[t]);
        ff_schedule_observe(published, loss[t]);
        if (fabs(ff_schedule_slope(published)) > most) {
            most = fabs(ff_schedule_slope(published));
            at = t;
        }
        cr_assert(le(dbl, fabs(ff_schedule_slope(ema)), 5e-4 * (1 + 1e-12)));
    }
    /* A first difference of 0.5 swings the public start to 0.18 around iteration 1000.
     */
    cr_assert(epsilon_eq(dbl, most, 0.184, 0.002));
    cr_assert(epsilon_eq(dbl, (double)at, 1000, 20));
    ff_schedule_destroy(ema);
    ff_schedule_destroy(published);
}

Test(schedule, restarts_and_their_limits)
{
    enum { T = 15000 };
    static const int settings[][3] = {
        {3, 0, 0}, {3, 0, 1}, {1, 0, 0}, {2, 5, 0}, {3, 2, 0}};
    for (int i = 0; i < 5; i++) {
        struct ff_params p;
        char what[64];
        defaults(&p);
        p.tau = 0.01;
        p.restart_after = settings[i][0];
        p.max_drops = settings[i][1];
        p.lr_lag = settings[i][2];
        snprintf(what, sizeof what, "setting %d", i);
        make_loss(T, 77, 0.5);
        reference_two_emas(&p, T);
        reference_decisions(&p, T, 1);
        bool raised = false, lowered = false;
        for (int t = 1; t < T; t++) {
            raised |= lr[t] > lr[t - 1];
            lowered |= lr[t] < lr[t - 1];
        }
        cr_assert(lowered, "%s", what);
        cr_assert(eq(int, raised, i != 4), "%s", what);
        compare(&p, T, 1e-12, 2, what);
    }
}

Test(schedule, drops_to_the_iteration)
{
    /* A constant loss is stationary from the first decision (t = 1): with floor(tau T)
     * = 100 let pass, L_101 decides the first drop, every 101 iterations another. */
    struct ff_params p;
    enum { T = 1000 };
    for (int lag = 0; lag < 2; lag++) {
        defaults(&p);
        p.tau = 0.1;
        p.lr_lag = lag;
        p.max_drops = 3;
        struct ff_schedule *s = create(&p, T);
        for (int t = 0; t < T; t++) {
            int drops = t - lag < 102 ? 0 : (t - lag - 1) / 101;
            cr_assert(eq(dbl, ff_schedule_lr(s), 0.02 / (1 << (drops < 3 ? drops : 3))),
                      "lag %d, iteration %d", lag, t);
            ff_schedule_observe(s, 7);
        }
        size_t count;
        const int64_t *at = ff_schedule_changes(s, &count);
        cr_assert(eq(sz, count, 3));
        for (int i = 0; i < 3; i++)
            cr_assert(eq(i64, at[i], 101 * (i + 1) + 1 + lag));
        ff_schedule_destroy(s);
    }
}

Test(schedule, tolerance_is_the_truncated_double_product)
{
    /* 0.29 * 100 is 28.999999999999996 in double: 28 iterations pass, L_29 drops. */
    struct ff_params p;
    size_t count;
    defaults(&p);
    p.tau = 0.29;
    struct ff_schedule *s = create(&p, 100);
    for (int t = 0; t < 100; t++)
        ff_schedule_observe(s, 1);
    cr_assert(eq(i64, ff_schedule_changes(s, &count)[0], 30));
    ff_schedule_destroy(s);
}

Test(schedule, zero_tolerance_drops_every_iteration)
{
    struct ff_params p;
    size_t count;
    defaults(&p);
    p.tau = 0;
    p.max_drops = 0;
    struct ff_schedule *s = create(&p, 50);
    for (int t = 0; t < 50; t++)
        ff_schedule_observe(s, 1);
    const int64_t *at = ff_schedule_changes(s, &count);
    cr_assert(eq(sz, count, 49));
    cr_assert(eq(i64, at[0], 2));
    cr_assert(eq(i64, at[48], 50)); /* due at T, listed though never used */
    ff_schedule_destroy(s);
}

Test(schedule, haar_running_sums_equal_the_plain_correlation)
{
    enum { T = 5000 };
    static const int64_t widths[] = {2, 4, 50, 400, 1000}, boxes[] = {0, 1, 7, 300};
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 4; j++) {
            struct ff_params p;
            char what[64];
            defaults(&p);
            p.schedule = FF_SCHEDULE_HAAR;
            p.haar_width = widths[i];
            p.smooth = boxes[j] ? FF_SMOOTH_BOX : FF_SMOOTH_EMA;
            p.smooth_width = boxes[j] ? boxes[j] : 1;
            p.max_drops = 0;
            p.lambda = widths[i] < 400 && boxes[j] < 300 ? 2e-3 : 6e-3;
            p.tau = widths[i] * (boxes[j] ? boxes[j] : 100) > 500 ? 0.02 : 0.0004;
            snprintf(what, sizeof what, "haar %d, box %d", (int)widths[i],
                     (int)boxes[j]);
            make_loss(T, 5, 0.5);
            reference_haar(&p, T);
            reference_decisions(&p, T, widths[i] - 1);
            compare(&p, T, 1e-10, 1, what);
        }
}

Test(schedule, haar_width_two_is_the_unsmoothed_slope)
{
    struct ff_params p;
    defaults(&p);
    p.schedule = FF_SCHEDULE_HAAR;
    struct ff_schedule *s = create(&p, 100);
    double smoothed = 10;
    ff_schedule_observe(s, 10);
    for (int t = 1; t < 100; t++) {
        double next = 0.01 * (10 - 0.1 * t) + 0.99 * smoothed;
        ff_schedule_observe(s, 10 - 0.1 * t);
        cr_assert(epsilon_eq(dbl, ff_schedule_slope(s), smoothed - next, 1e-13));
        smoothed = next;
    }
    ff_schedule_destroy(s);
}

Test(schedule, haar_slope_of_a_ramp_is_its_fall_for_every_width)
{
    for (int64_t m = 2; m <= 512; m *= 4) {
        struct ff_params p;
        defaults(&p);
        p.schedule = FF_SCHEDULE_HAAR;
        p.haar_width = m;
        p.smooth = FF_SMOOTH_BOX;
        p.smooth_width = 64;
        struct ff_schedule *s = create(&p, 4000);
        for (int t = 0; t < 4000; t++) {
            ff_schedule_observe(s, 50 - 0.003 * t);
            if (t < m - 1)
                cr_assert(eq(dbl, ff_schedule_slope(s), 0));
        }
        cr_assert(epsilon_eq(dbl, ff_schedule_slope(s), 0.003, 1e-10));
        ff_schedule_destroy(s);
    }
}

Test(schedule, haar_sums_do_not_drift)
{
    /* An infinite loss passes through: when the windows have left it behind, nothing of
     * it is left in the sums. */
    struct ff_params p;
    defaults(&p);
    p.schedule = FF_SCHEDULE_HAAR;
    p.haar_width = 20;
    p.smooth = FF_SMOOTH_BOX;
    p.smooth_width = 30;
    struct ff_schedule *s = create(&p, 1000);
    for (int t = 0; t < 1000; t++)
        ff_schedule_observe(s, t == 100 ? INFINITY : 5 - 0.001 * t);
    cr_assert(epsilon_eq(dbl, ff_schedule_slope(s), 0.001, 1e-12));
    ff_schedule_destroy(s);
}

Test(schedule, published_wide_kernel_drops_at_the_8001st_in_a_row)
{
    /* Box 4000, Haar 4000, a constant loss: m smoothed values exist at t = 3999, so
     * that L_3999 + 8000 decides the drop when floor(tau T) = 8000. */
    struct ff_params p;
    size_t count;
    defaults(&p);
    p.schedule = FF_SCHEDULE_HAAR;
    p.haar_width = p.smooth_width = 4000;
    p.smooth = FF_SMOOTH_BOX;
    p.lambda = 6e-5;
    p.tau = 0.4;
    struct ff_schedule *s = create(&p, 20000);
    for (int t = 0; t < 20000; t++)
        ff_schedule_observe(s, 12);
    const int64_t *at = ff_schedule_changes(s, &count);
    cr_assert(eq(sz, count, 1));
    cr_assert(eq(i64, at[0], 3999 + 8000 + 1));
    ff_schedule_destroy(s);
}

Test(schedule, timed_baselines)
{
    struct ff_params p;
    enum { T = 1000, W = 100 };
    static const int kinds[] = {FF_SCHEDULE_CONSTANT, FF_SCHEDULE_MULTISTEP,
                                FF_SCHEDULE_POLYNOMIAL, FF_SCHEDULE_COSINE};
    make_loss(T, 3, 2);
    for (int i = 0; i < 4; i++) {
        defaults(&p);
        p.schedule = kinds[i];
        p.warmup_iterations = W;
        p.power = 2;
        p.delta = 10;
        p.milestones = (struct ff_int_list){3, {200, 600, 2000}};
        reference_two_emas(&p, T);
        struct ff_schedule *s = create(&p, T);
        for (int t = 0; t < T; t++) {
            double done = (t - W) / (double)(T - W), warm = 0.02 * (t + 1) / W;
            double expected[] = {0.02,
                                 t < 200   ? 0.02
                                 : t < 600 ? 0.002
                                           : 0.0002,
                                 t < W ? warm : 0.02 * (1 - done) * (1 - done),
                                 t < W ? warm : 0.01 * (1 + cos(acos(-1.0) * done))};
            cr_assert(epsilon_eq(dbl, ff_schedule_lr(s), expected[i], 1e-15),
                      "kind %d, iteration %d", kinds[i], t);
            ff_schedule_observe(s, loss[t]);
            cr_assert(epsilon_eq(dbl, ff_schedule_slope(s), slope[t], 1e-12));
        }
        size_t count;
        const int64_t *at = ff_schedule_changes(s, &count);
        cr_assert(eq(sz, count, kinds[i] == FF_SCHEDULE_MULTISTEP ? 3 : 0));
        if (count)
            cr_assert(at[0] == 200 && at[2] == 2000);
        ff_schedule_destroy(s);
    }
}

Test(schedule, plateau_waits_out_its_patience)
{
    struct ff_params p;
    size_t count;
    for (int lag = 0; lag < 2; lag++) {
        defaults(&p);
        p.schedule = FF_SCHEDULE_PLATEAU;
        p.plateau_patience = 50;
        p.plateau_factor = 0.5;
        p.lr_lag = lag;
        /* L^E falls up to t = 299; 50 iterations without a minimum pass, the 51st
         * drops. */
        struct ff_schedule *s = create(&p, 500);
        for (int t = 0; t < 500; t++) {
            int drops = t < 351 + lag ? 0 : t < 402 + lag ? 1 : t < 453 + lag ? 2 : 3;
            cr_assert(eq(dbl, ff_schedule_lr(s), 0.02 / (1 << drops)), "iteration %d",
                      t);
            ff_schedule_observe(s, t < 300 ? 10 - 0.01 * t : 50);
        }
        const int64_t *at = ff_schedule_changes(s, &count);
        cr_assert(eq(sz, count, 3));
        cr_assert(eq(i64, at[0], 351 + lag));
        ff_schedule_destroy(s);
    }
}

static const int saved_kinds[] = {FF_SCHEDULE_FASTFACE,  FF_SCHEDULE_HAAR,
                                  FF_SCHEDULE_HAAR,      FF_SCHEDULE_PLATEAU,
                                  FF_SCHEDULE_MULTISTEP, FF_SCHEDULE_COSINE};

static void saved_params(struct ff_params *p, int i)
{
    defaults(p);
    p->schedule = saved_kinds[i];
    p->smooth = i == 2 ? FF_SMOOTH_BOX : FF_SMOOTH_EMA;
    p->smooth_width = 33;
    p->haar_width = i == 2 ? 100 : 2;
    p->plateau_patience = 100;
    p->milestones = (struct ff_int_list){2, {500, 3000}};
    p->restart_after = 3;
    p->tau = 0.005;
    p->lr_lag = i & 1;
}

Test(schedule, saved_state_goes_on_bit_for_bit)
{
    enum { T = 5000 };
    static const int points[] = {0, 1, 2, 32, 33, 99, 100, 101, 777, 2500, 4999, 5000};
    make_loss(T, 9, 2);
    for (int i = 0; i < 6; i++) {
        struct ff_params p;
        struct ff_err err = FF_ERR_INIT;
        saved_params(&p, i);
        struct ff_schedule *whole = create(&p, T);
        for (int t = 0; t < T; t++) {
            lr[t] = ff_schedule_lr(whole);
            ff_schedule_observe(whole, loss[t]);
            slope[t] = ff_schedule_slope(whole);
        }
        size_t whole_count, count;
        const int64_t *expected = ff_schedule_changes(whole, &whole_count);
        for (size_t k = 0; k < sizeof points / sizeof points[0]; k++) {
            struct ff_schedule *first = create(&p, T), *second = create(&p, T);
            for (int t = 0; t < points[k]; t++)
                ff_schedule_observe(first, loss[t]);
            size_t n = ff_schedule_save(first, NULL);
            double *state = malloc(n * sizeof *state),
                   *again = malloc(n * sizeof *state);
            cr_assert(eq(sz, ff_schedule_save(first, state), n));
            ff_schedule_destroy(first);
            cr_assert(eq(int, ff_schedule_load(second, state, n, &err), 0), "%s",
                      err.text);
            ff_schedule_save(second, again);
            cr_assert(eq(int, memcmp(state, again, n * sizeof *state), 0));
            for (int t = points[k]; t < T; t++) {
                double now = ff_schedule_lr(second);
                cr_assert(eq(int, memcmp(&now, &lr[t], sizeof now), 0));
                ff_schedule_observe(second, loss[t]);
                now = ff_schedule_slope(second);
                cr_assert(eq(int, memcmp(&now, &slope[t], sizeof now), 0),
                          "kind %d, from %d, %d", i, points[k], t);
            }
            const int64_t *at = ff_schedule_changes(second, &count);
            cr_assert(eq(sz, count, whole_count));
            cr_assert(eq(int, memcmp(at, expected, count * sizeof *at), 0));
            free(state);
            free(again);
            ff_schedule_destroy(second);
        }
        ff_schedule_destroy(whole);
    }
}

Test(schedule, foreign_state_is_refused)
{
    struct ff_params p;
    struct ff_err err = FF_ERR_INIT;
    defaults(&p);
    struct ff_schedule *s = create(&p, 1000), *longer = create(&p, 1001);
    p.schedule = FF_SCHEDULE_PLATEAU;
    struct ff_schedule *other = create(&p, 1000);
    double state[64];
    size_t n = ff_schedule_save(s, state);
    cr_assert(lt(sz, n, 64));
    cr_assert(eq(int, ff_schedule_load(longer, state, n, &err), FF_EDATA));
    cr_assert(eq(str, err.text,
                 "schedule state: number of iterations 1000 where 1001 is expected"));
    cr_assert(eq(int, ff_schedule_load(other, state, n, &err), FF_EDATA));
    cr_assert(eq(int, ff_schedule_load(s, state, n - 1, &err), FF_EDATA));
    cr_assert(eq(int, ff_schedule_load(s, state, n + 1, &err), FF_EDATA));
    cr_assert(eq(int, ff_schedule_load(s, state, 0, &err), FF_EDATA));
    cr_assert(eq(int, ff_schedule_load(s, state, n, &err), 0));
    state[5] = -1;
    cr_assert(eq(int, ff_schedule_load(s, state, n, &err), FF_EDATA));
    ff_schedule_destroy(s);
    ff_schedule_destroy(longer);
    ff_schedule_destroy(other);
}

Test(schedule, impossible_runs_are_refused)
{
    struct ff_params p;
    struct ff_schedule *s;
    struct ff_err err = FF_ERR_INIT;
    defaults(&p);
    cr_assert(eq(int, ff_schedule_create(&s, &p, 0, &err), FF_EUSAGE));
    p.schedule = FF_SCHEDULE_COSINE;
    p.warmup_iterations = 100;
    cr_assert(eq(int, ff_schedule_create(&s, &p, 100, &err), FF_EUSAGE));
    cr_assert(eq(str, err.text,
                 "warmup_iterations: 100 is not below the run's 100 iterations"));
    cr_assert(eq(ptr, s, NULL));
}
