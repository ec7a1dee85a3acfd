/* SPDX-License-Identifier: MIT */
/* Cost of the scheduler for one iteration, in ns: the O(1) recurrence of `fastface`,
 * the O(1) running sums of `haar`, and a plain correlation with the same Haar kernel,
 * O(m).
 *
 * All three see the same noisy falling loss. The plain form keeps the last m smoothed
 * losses twice in a row, so that its window is always one straight piece of memory: the
 * fastest plain form, not a straw man. Its slopes must agree with `haar`, else exit 1.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "log.h"
#include "rng.h"
#include "schedule.h"

#define REPEATS 9

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[count / 2];
}

/* ns an iteration of our scheduler; slope (T) as it saw them. */
static int time_schedule(double *ns, double *slope, const char *kind, int64_t width,
                         const double *loss, int64_t T, struct ff_err *err)
{
    struct ff_params p;
    char number[32];
    double times[REPEATS];
    ff_params_defaults(&p);
    snprintf(number, sizeof number, "%lld", (long long)width);
    int rc = ff_params_set(&p, "schedule", kind, "bench", err);
    if (!rc)
        rc = ff_params_set(&p, "haar_width", number, "bench", err);
    if (!rc)
        rc = ff_params_resolve(&p, err);
    for (int r = 0; r < REPEATS && !rc; r++) {
        struct ff_schedule *s;
        rc = ff_schedule_create(&s, &p, T, err);
        if (rc)
            break;
        double lr = 0, start = ff_now();
        for (int64_t t = 0; t < T; t++) {
            lr += ff_schedule_lr(s);
            ff_schedule_observe(s, loss[t]);
            slope[t] = ff_schedule_slope(s);
        }
        times[r] = 1e9 * (ff_now() - start) / (double)T;
        ff_schedule_destroy(s);
        if (!(lr > 0))
            rc = ff_err_set(err, FF_EFAIL, "%s: sum of learning rates %g", kind, lr);
    }
    if (!rc)
        *ns = median(times, REPEATS);
    return rc;
}

/* Response of the kernel to the m values at v, older half positive. */
static double haar_response(const double *v, int64_t m)
{
    double older = 0, newer = 0;
    for (int64_t i = 0; i < m / 2; i++)
        older += v[i];
    for (int64_t i = m / 2; i < m; i++)
        newer += v[i];
    return (older - newer) * 4 / ((double)m * (double)m);
}

/* The same slopes by correlation; ns an iteration once the window is full. */
static int time_plain(double *ns, double *slope, int64_t m, double alpha,
                      const double *loss, int64_t T, struct ff_err *err)
{
    double times[REPEATS], *window = calloc(2 * (size_t)m, sizeof *window);
    if (!window)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    for (int r = 0; r < REPEATS; r++) {
        double ema = loss[0], start = 0;
        for (int64_t t = 0; t < T; t++) {
            if (t == m - 1)
                start = ff_now();
            ema = alpha * loss[t] + (1 - alpha) * ema;
            int64_t at = t % m;
            window[at] = window[at + m] = ema;
            slope[t] = t < m - 1 ? 0 : haar_response(window + at + 1, m);
        }
        times[r] = 1e9 * (ff_now() - start) / (double)(T - m + 1);
    }
    free(window);
    *ns = median(times, REPEATS);
    return 0;
}

int main(int argc, char **argv)
{
    int64_t T = 1000000, T_plain = 24000, width = 4000;
    struct ff_err err = FF_ERR_INIT;
    const struct ff_opt options[] = {
        {"--iterations", "N", FF_OPT_I64, &T, "of the O(1) forms (1000000)", 100, 1e9},
        {"--width", "M", FF_OPT_I64, &width, "Haar kernel, even (4000)", 2, 20000},
    };
    const struct ff_cli cli = {.program = "bench_schedule",
                               .synopsis = "[options]",
                               .summary = "Times one iteration of the scheduler.",
                               .options = options,
                               .option_count = sizeof options / sizeof *options};
    int positional;
    int rc = ff_cli_parse(&positional, &cli, argc, argv, &err);
    if (rc == 1)
        return 0;
    if (rc) {
        ff_error("%s", err.text);
        return 1;
    }
    T_plain = T < T_plain + width ? T : T_plain + width;
    double fast = 0, haar = 0, plain = 0, worst = 0, largest = 0;
    double *loss = malloc((size_t)T * sizeof *loss);
    double *slope = malloc((size_t)T * sizeof *slope);
    double *plain_slope = malloc((size_t)T * sizeof *plain_slope);
    if (!loss || !slope || !plain_slope)
        rc = ff_err_set(&err, FF_ENOMEM, "out of memory");
    else if (T < 2 * width)
        rc = ff_err_set(&err, FF_EUSAGE, "--iterations: %lld is below twice the width",
                        (long long)T);
    if (!rc) {
        for (int64_t t = 0; t < T; t++)
            loss[t] = 2 + 20 * exp(-3.0 * (double)t / (double)T) +
                      0.5 * ff_rng_normal(1, ff_stream("loss"), (uint64_t)t);
        rc = time_schedule(&fast, slope, "fastface", width, loss, T, &err);
    }
    if (!rc)
        rc = time_schedule(&haar, slope, "haar", width, loss, T, &err);
    if (!rc) {
        struct ff_params p;
        ff_params_defaults(&p);
        rc = time_plain(&plain, plain_slope, width, p.alpha, loss, T_plain, &err);
    }
    for (int64_t t = 0; t < T_plain && !rc; t++) {
        worst = fmax(worst, fabs(slope[t] - plain_slope[t]));
        largest = fmax(largest, fabs(slope[t]));
    }
    if (!rc && !(worst <= 1e-9 * largest))
        rc = ff_err_set(&err, FF_EFAIL, "plain and O(1) haar differ by %g of %g", worst,
                        largest);
    if (!rc) {
        printf("%-40s %10s\n", "scheduler", "ns / iter.");
        printf("%-40s %10.1f\n", "fastface, O(1)", fast);
        printf("haar, width %5lld, O(1)%18s %10.1f\n", (long long)width, "", haar);
        printf("haar, width %5lld, plain O(m)%12s %10.1f\n", (long long)width, "",
               plain);
        printf(
            "plain haar / fastface: %.0f x; slopes of the two haar forms agree to %.1e "
            "of the largest\n",
            plain / fast, worst / largest);
    }
    free(loss);
    free(slope);
    free(plain_slope);
    if (rc)
        ff_error("%s", err.text);
    return rc ? 1 : 0;
}
