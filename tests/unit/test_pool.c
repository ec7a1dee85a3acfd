/* SPDX-License-Identifier: MIT */
/* Template pooling against a plain re-statement, for all eight switch settings. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pool.h"
#include "rng.h"
#include "score.h"

enum { N = 60, T = 9, D = 11 };

static float features[N][2 * D];
static struct ff_ijb_image image[N];
static int64_t row[N], member_start[T + 1], template_id[T];
static int32_t member[N];
static struct ff_ijb_meta meta;

/* Images in templates 0 .. T-1, media ids that repeat inside and across templates;
 * members listed by (media, row) as the reader does; features rows in reverse. */
static void setup(void)
{
    int at = 0;
    for (int i = 0; i < N; i++) {
        image[i].name = "face.jpg";
        image[i].template_index = (i * 7) % T;
        image[i].media_id = (i / T) % 3;
        image[i].det_score = 0.3f + 0.01f * (float)i;
        row[i] = N - 1 - i;
        for (int d = 0; d < 2 * D; d++)
            features[row[i]][d] = (float)ff_rng_normal(3, 5, (uint64_t)(i * 2 * D + d));
    }
    for (int t = 0; t < T; t++) {
        member_start[t] = at;
        for (int m = 0; m < 3; m++)
            for (int i = 0; i < N; i++)
                if (image[i].template_index == t && image[i].media_id == m)
                    member[at++] = i;
    }
    member_start[T] = at;
    meta = (struct ff_ijb_meta){.image_count = N,
                                .image = image,
                                .template_count = T,
                                .template_id = template_id,
                                .member_start = member_start,
                                .member = member};
}

TestSuite(pool, .init = setup);

/* f (D) of one image under the switches. */
static void naive_image(double *f, int i, struct ff_pool_switches s)
{
    double length = 0;
    for (int d = 0; d < D; d++) {
        f[d] = features[row[i]][d];
        if (s.flip)
            f[d] += (double)features[row[i]][D + d];
        length += f[d] * f[d];
    }
    for (int d = 0; d < D; d++) {
        if (!s.norm)
            f[d] /= sqrt(length);
        if (s.det)
            f[d] *= (double)image[i].det_score;
    }
}

/* Straight from the protocol's words; image `skip` (or -1) does not exist. */
static void naive(double out[T][D], struct ff_pool_switches s, int skip)
{
    for (int t = 0; t < T; t++) {
        memset(out[t], 0, sizeof out[t]);
        for (int media = 0; media < 3; media++) {
            double sum[D] = {0}, f[D];
            int count = 0;
            for (int i = 0; i < N; i++) {
                if (image[i].template_index != t || image[i].media_id != media ||
                    i == skip)
                    continue;
                naive_image(f, i, s);
                for (int d = 0; d < D; d++)
                    sum[d] += f[d];
                count++;
            }
            for (int d = 0; count && d < D; d++)
                out[t][d] += sum[d] / count;
        }
        double length = 0;
        for (int d = 0; d < D; d++)
            length += out[t][d] * out[t][d];
        for (int d = 0; d < D; d++)
            out[t][d] /= sqrt(length);
    }
}

static void check_against_naive(struct ff_pool_switches s, int skip)
{
    float got[T][D];
    double want[T][D];
    int64_t missing;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_pool_templates(&got[0][0], &missing, &features[0][0], D, row, &meta, s,
                               1, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(i64, missing, skip >= 0));
    naive(want, s, skip);
    for (int t = 0; t < T; t++)
        for (int d = 0; d < D; d++)
            cr_assert(epsilon_eq(dbl, (double)got[t][d], want[t][d], 1e-7),
                      "template %d value %d", t, d);
}

Test(pool, all_switch_settings_match_the_protocol)
{
    for (int k = 0; k < 8; k++)
        check_against_naive((struct ff_pool_switches){k & 1, k & 2, k & 4}, -1);
}

Test(pool, a_zero_row_is_left_out_of_the_mean_and_counted)
{
    memset(features[row[17]], 0, sizeof features[0]);
    for (int k = 0; k < 8; k++)
        check_against_naive((struct ff_pool_switches){k & 1, k & 2, k & 4}, 17);
}

Test(pool, a_template_without_pictures_is_zero_and_scores_zero)
{
    float got[T][D], score[1];
    int64_t missing;
    struct ff_pool_switches on = {true, true, true};
    static const int32_t a[1] = {4}, b[1] = {5};
    for (int i = 0; i < N; i++)
        if (image[i].template_index == 4)
            memset(features[row[i]], 0, sizeof features[0]);
    cr_assert(eq(int,
                 ff_pool_templates(&got[0][0], &missing, &features[0][0], D, row, &meta,
                                   on, 1, NULL),
                 0));
    for (int d = 0; d < D; d++)
        cr_assert(epsilon_eq(flt, got[4][d], 0.0f, 0));
    cr_assert(eq(int, ff_score_pairs(score, &got[0][0], D, a, b, 1, 1, NULL), 0));
    cr_assert(epsilon_eq(flt, score[0], 0.0f, 0));
}

Test(pool, threads_do_not_change_a_bit)
{
    float one[T][D], three[T][D];
    int64_t missing;
    struct ff_pool_switches on = {true, true, true};
    ff_pool_templates(&one[0][0], &missing, &features[0][0], D, row, &meta, on, 1,
                      NULL);
    ff_pool_templates(&three[0][0], &missing, &features[0][0], D, row, &meta, on, 3,
                      NULL);
    cr_assert(eq(int, memcmp(one, three, sizeof one), 0));
}

Test(pool, a_feature_that_is_not_finite_names_its_image)
{
    float got[T][D];
    int64_t missing;
    struct ff_err err = FF_ERR_INIT;
    struct ff_pool_switches on = {true, true, true};
    image[23].name = "bad/23.jpg";
    features[row[23]][2] = NAN;
    features[row[40]][2] = INFINITY;
    cr_assert(eq(int,
                 ff_pool_templates(&got[0][0], &missing, &features[0][0], D, row, &meta,
                                   on, 2, &err),
                 FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "bad/23.jpg"), NULL), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, "row 36"), NULL), "%s", err.text);
}

Test(pool, scores_are_dot_products_for_any_dimension_and_threads)
{
    enum { PAIRS = 200, MOST = 37 };
    static float templates[T][MOST];
    int32_t a[PAIRS], b[PAIRS];
    float one[PAIRS], two[PAIRS];
    for (int dim = 1; dim <= MOST; dim += 6) {
        float *flat = &templates[0][0];
        for (int i = 0; i < T * dim; i++)
            flat[i] = (float)ff_rng_normal(9, 1, (uint64_t)i) / (float)dim;
        for (int i = 0; i < PAIRS; i++) {
            a[i] = (i * 5) % T;
            b[i] = (i * 3 + i / T) % T;
        }
        cr_assert(eq(int, ff_score_pairs(one, flat, dim, a, b, PAIRS, 1, NULL), 0));
        cr_assert(eq(int, ff_score_pairs(two, flat, dim, a, b, PAIRS, 3, NULL), 0));
        cr_assert(eq(int, memcmp(one, two, sizeof one), 0));
        for (int i = 0; i < PAIRS; i++) {
            double sum = 0;
            for (int d = 0; d < dim; d++)
                sum += (double)flat[a[i] * dim + d] * (double)flat[b[i] * dim + d];
            cr_assert(epsilon_eq(dbl, (double)one[i], sum, 1e-7));
        }
    }
}
