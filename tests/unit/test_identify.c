/* SPDX-License-Identifier: MIT */
/* 1:N search: a case by hand, a slow restatement, and the lists' refusals. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "gallery.h"
#include "identify.h"
#include "rng.h"
#include "score.h"

TestSuite(identify);

static struct ff_identify_result search(const float *templates, int dim,
                                        const struct ff_gallery_lists *lists,
                                        const double *fpir, int n, int threads)
{
    struct ff_identify_result r;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_identify(&r, templates, dim, lists, fpir, n, threads, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return r;
}

/* Templates on a line (D = 1), so that a score is a product of two numbers: gallery 1
 * holds people 1 (0.9) and 2 (0.5), gallery 2 person 3 (0.8); probes are 1 (1.0),
 * 2 (0.4), 3 (0.5) and 9 (0.6), who is in neither.
 *
 *   probe     in gallery 1              in gallery 2
 *   1: 1.0    mate 0.90 rank 1          other 0.80
 *   2: 0.4    mate 0.20 rank 2 (0.36)   other 0.32
 *   3: 0.5    other 0.45                mate 0.40 rank 1
 *   9: 0.6    other 0.54                other 0.48
 *
 * Five non-mated searches: 0.80 0.54 0.48 0.45 0.32; three mated: 0.90 0.40 0.20.
 * Joined: mates 0.90 (rank 1), 0.20 (rank 3: 0.36, 0.32), 0.40 (rank 2: 0.45); scores
 * of others 0.80 0.54 0.50 0.48 0.45 0.36 0.32 0.30 0.25. */
Test(identify, a_case_by_hand)
{
    static const float templates[7] = {0.9f, 0.5f, 0.8f, 1.0f, 0.4f, 0.5f, 0.6f};
    static int32_t one[2] = {0, 1}, two[1] = {2}, probe[4] = {3, 4, 5, 6};
    static int64_t in_one[2] = {1, 2}, in_two[1] = {3}, of_probe[4] = {1, 2, 3, 9};
    static const double fpir[3] = {0.1, 0.4, 1};
    struct ff_gallery_lists lists = {.gallery = {{2, one, in_one}, {1, two, in_two}},
                                     .probe = {4, probe, of_probe}};
    struct ff_identify_result r = search(templates, 1, &lists, fpir, 3, 1);
    cr_assert(eq(i64, r.mated, 3));
    cr_assert(eq(i64, r.nonmated, 5));
    cr_assert(eq(int, r.mated_probes, 3));
    /* 0.1 * 5 allows none: threshold 0.80, one of three mates above it. */
    cr_assert(epsilon_eq(dbl, r.tpir[0].threshold, 0.8, 1e-6));
    cr_assert(epsilon_eq(dbl, r.tpir[0].tpir, 1 / 3.0, 1e-12));
    cr_assert(eq(i64, r.tpir[0].false_accepts, 0));
    /* 0.4 * 5 allows two: threshold 0.48. */
    cr_assert(epsilon_eq(dbl, r.tpir[1].threshold, 0.48, 1e-6));
    cr_assert(epsilon_eq(dbl, r.tpir[1].tpir, 1 / 3.0, 1e-12));
    cr_assert(eq(i64, r.tpir[1].false_accepts, 2));
    cr_assert(epsilon_eq(dbl, r.tpir[1].actual_fpir, 0.4, 1e-12));
    /* 1: everything. */
    cr_assert(epsilon_eq(dbl, r.tpir[2].tpir, 1, 0));
    cr_assert(eq(i64, r.tpir[2].false_accepts, 5));
    /* compat: ceil(0.1 * 3) = 1st, ceil(0.4 * 3) = 2nd, 3rd of the others. */
    cr_assert(epsilon_eq(dbl, r.compat[0].threshold, 0.8, 1e-6));
    cr_assert(epsilon_eq(dbl, r.compat[1].threshold, 0.54, 1e-6));
    cr_assert(epsilon_eq(dbl, r.compat[2].threshold, 0.5, 1e-6));
    cr_assert(epsilon_eq(dbl, r.compat[1].tpir, 1 / 3.0, 1e-12));
    cr_assert(eq(i64, r.compat[1].false_accepts, 1));
    cr_assert(epsilon_eq(dbl, r.rank[0], 2 / 3.0, 1e-12));
    cr_assert(epsilon_eq(dbl, r.rank[1], 1, 0));
    cr_assert(epsilon_eq(dbl, r.compat_rank[0], 1 / 3.0, 1e-12));
    cr_assert(epsilon_eq(dbl, r.compat_rank[2], 1, 0));
}

enum { G1 = 45, G2 = 37, PROBES = 170, T = G1 + G2 + PROBES, D = 24, FPIRS = 5 };
static const double fpirs[FPIRS] = {0.01, 0.05, 0.1, 0.5, 1};
static float templates[T][D];
static int32_t place[T];
static int64_t subject[T];

/* A whole score list of each search, sorted by counting: no code in common. */
struct slow {
    float mate[2 * PROBES], top[2 * PROBES], joined[PROBES], others[PROBES * (G1 + G2)];
    int mated, nonmated, mated_probes, others_count;
    int rank[2 * PROBES], joined_rank[PROBES];
};

static void slow_search(struct slow *s)
{
    memset(s, 0, sizeof *s);
    for (int p = 0; p < PROBES; p++) {
        float score[G1 + G2];
        int best = -1;
        for (int j = 0; j < G1 + G2; j++) {
            const int32_t a = G1 + G2 + p, b = j;
            ff_score_pairs(&score[j], templates[0], D, &a, &b, 1, 1, NULL);
            if (subject[j] != subject[a])
                s->others[s->others_count++] = score[j];
            else if (best < 0 || score[j] > score[best])
                best = j;
        }
        for (int g = 0; g < 2; g++) {
            int from = g ? G1 : 0, to = g ? G1 + G2 : G1;
            float top = -2, mate = -2;
            int rank = 1;
            for (int j = from; j < to; j++) {
                float *which = subject[j] == subject[G1 + G2 + p] ? &mate : &top;
                *which = fmaxf(*which, score[j]);
            }
            for (int j = from; j < to; j++)
                rank += subject[j] != subject[G1 + G2 + p] && score[j] >= mate;
            if (mate > -2) {
                s->rank[s->mated] = rank;
                s->mate[s->mated++] = mate;
            } else {
                s->top[s->nonmated++] = top;
            }
        }
        if (best < 0)
            continue;
        int rank = 1;
        for (int j = 0; j < G1 + G2; j++)
            if (subject[j] != subject[G1 + G2 + p])
                rank += score[j] > score[best] || (score[j] == score[best] && j < best);
        s->joined_rank[s->mated_probes] = rank;
        s->joined[s->mated_probes++] = score[best];
    }
}

static int above(const float *value, int count, double threshold)
{
    int n = 0;
    for (int i = 0; i < count; i++)
        n += (double)value[i] > threshold;
    return n;
}

/* The place-th largest, from 1. */
static float largest(const float *value, int count, int nth)
{
    for (int i = 0; i < count; i++) {
        int greater = 0, equal = 0;
        for (int j = 0; j < count; j++) {
            greater += value[j] > value[i];
            equal += value[j] == value[i];
        }
        if (greater < nth && greater + equal >= nth)
            return value[i];
    }
    return NAN;
}

static void make_people(uint64_t seed, int people)
{
    for (int t = 0; t < T; t++) {
        double length = 0, v[D];
        place[t] = t;
        subject[t] =
            t < G1 ? t % 40 /* five people have two templates */
            : t < G1 + G2
                ? 30 + t - G1
                : (int64_t)(ff_rng_u64(seed, 1, (uint64_t)t) % (uint64_t)people);
        for (int d = 0; d < D; d++) {
            v[d] = ff_rng_normal(seed, 2, (uint64_t)(subject[t] * D + d)) +
                   1.5 * ff_rng_normal(seed, 3, (uint64_t)(t * D + d));
            v[d] = round(2 * v[d]); /* ties */
            length += v[d] * v[d];
        }
        for (int d = 0; d < D; d++)
            templates[t][d] = (float)(v[d] / sqrt(length));
    }
    memcpy(templates[7], templates[2], sizeof templates[7]); /* a tie of two people */
}

Test(identify, matches_a_slow_restatement_with_any_threads)
{
    static struct slow s;
    struct ff_gallery_lists lists = {
        .gallery = {{G1, place, subject}, {G2, place + G1, subject + G1}},
        .probe = {PROBES, place + G1 + G2, subject + G1 + G2}};
    for (uint64_t seed = 0; seed < 4; seed++) {
        make_people(seed, 60 + 20 * (int)seed);
        slow_search(&s);
        struct ff_identify_result r = search(templates[0], D, &lists, fpirs, FPIRS, 1);
        cr_assert(eq(i64, r.mated, s.mated));
        cr_assert(eq(i64, r.nonmated, s.nonmated));
        for (int k = 0; k < FPIRS; k++) {
            int allowed = (int)floor(fpirs[k] * s.nonmated * (1 + 1e-12));
            if (allowed < s.nonmated) {
                double th = (double)largest(s.top, s.nonmated, allowed + 1);
                cr_assert(epsilon_eq(dbl, r.tpir[k].threshold, th, 0));
                cr_assert(epsilon_eq(dbl, r.tpir[k].tpir,
                                     (double)above(s.mate, s.mated, th) / s.mated,
                                     1e-15));
                cr_assert(
                    eq(i64, r.tpir[k].false_accepts, above(s.top, s.nonmated, th)));
            } else {
                cr_assert(epsilon_eq(dbl, r.tpir[k].tpir, 1, 0));
                cr_assert(epsilon_eq(dbl, r.tpir[k].actual_fpir, 1, 0));
            }
            int nth = (int)ceil(s.mated_probes * fpirs[k]);
            double th = (double)largest(s.others, s.others_count, nth);
            cr_assert(epsilon_eq(dbl, r.compat[k].threshold, th, 0));
            cr_assert(epsilon_eq(
                dbl, r.compat[k].tpir,
                (double)above(s.joined, s.mated_probes, th) / s.mated_probes, 1e-15));
        }
        for (int k = 0; k < FF_IDENTIFY_RANKS; k++) {
            int found = 0, joined = 0;
            for (int i = 0; i < s.mated; i++)
                found += s.rank[i] <= ff_identify_rank[k];
            for (int i = 0; i < s.mated_probes; i++)
                joined += s.joined_rank[i] <= ff_identify_rank[k];
            cr_assert(epsilon_eq(dbl, r.rank[k], (double)found / s.mated, 1e-15));
            cr_assert(epsilon_eq(dbl, r.compat_rank[k], (double)joined / s.mated_probes,
                                 1e-15));
        }
        for (int threads = 2; threads <= 5; threads += 3) {
            struct ff_identify_result other =
                search(templates[0], D, &lists, fpirs, FPIRS, threads);
            cr_assert(eq(int, memcmp(&other.tpir, &r.tpir, sizeof r.tpir), 0));
            cr_assert(eq(int, memcmp(&other.compat, &r.compat, sizeof r.compat), 0));
            cr_assert(eq(int, memcmp(&other.rank, &r.rank, sizeof r.rank), 0));
        }
    }
}

Test(identify, one_sided_searches_are_refused)
{
    static const float one[3] = {1, 1, 1};
    static int32_t at[3] = {0, 1, 2};
    static int64_t all_same[3] = {7, 7, 7}, none[3] = {1, 2, 3};
    static const double fpir[1] = {0.1};
    struct ff_identify_result r;
    struct ff_err err = FF_ERR_INIT;
    struct ff_gallery_lists lists = {
        .gallery = {{1, at, all_same}, {1, at + 1, all_same}},
        .probe = {1, at + 2, all_same}};
    cr_assert(eq(int, ff_identify(&r, one, 1, &lists, fpir, 1, 1, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "no non-mated search"), NULL), "%s", err.text);
    lists = (struct ff_gallery_lists){.gallery = {{1, at, none}, {1, at + 1, none + 1}},
                                      .probe = {1, at + 2, none + 2}};
    cr_assert(eq(int, ff_identify(&r, one, 1, &lists, fpir, 1, 1, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "no mated search"), NULL), "%s", err.text);
}

static char folder[64];

static void put(const char *name, const char *text)
{
    char path[FF_PATH_MAX];
    ff_path(path, NULL, "%s/meta/%s", folder, name);
    FILE *f = fopen(path, "w");
    cr_assert(ne(ptr, f, NULL));
    fputs(text, f);
    fclose(f);
}

static const struct refusal {
    const char *text, *message;
} refusals[] = {
    {"H\n", "G2.csv: no line below the header"},
    {"H\n5,3\nx,1\n", "G2.csv:3: expected 'template,subject': 'x,1'"},
    {"H\n5 1\n", "G2.csv:2: expected 'template,subject': '5 1'"},
    {"H\n5,1x\n", "G2.csv:2: expected"},
    {"H\n5,\n", "G2.csv:2: expected"},
    {"H\n\n5,3\n", "G2.csv:2: expected"},
    {"H\n6,1\n", "G2.csv:2: template 6 has no image in the set"},
    {"H\n70000000001,1\n70000000001,2\n",
     "G2.csv:3: template 70000000001 is of subject 2, before it was of subject 1"},
    {"H\n5,3\n9,3\n", "G2.csv:3: template 9 is of subject 3, before it was of "
                      "subject 4"}, /* in G1 */
    {"H\n70000000001,3\n", "probe_mixed.csv:2: template 70000000001 is of subject 4, "
                           "before it was of subject 3"},
};

Test(identify, lists_are_read_and_refused_by_line)
{
    static int64_t ids[3] = {5, 9, 70000000001};
    struct ff_ijb_meta meta = {.template_count = 3, .template_id = ids};
    struct ff_gallery_lists lists;
    struct ff_err err = FF_ERR_INIT;
    char path[FF_PATH_MAX];
    strcpy(folder, "/tmp/ff_gallery_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    ff_path(path, NULL, "%s/meta", folder);
    ff_mkdirs(path, NULL);
    put("ijbc_1N_gallery_G1.csv", "TEMPLATE_ID,SUBJECT_ID\n9,4\n5,3\n9,4");
    put("ijbc_1N_probe_mixed.csv", "t,s,file\r\n70000000001,4,img/1.jpg\r\n");
    put("ijbc_1N_gallery_G2.csv", "t,s\n5,3\n");
    int rc = ff_gallery_load(&lists, folder, "ijbc", &meta, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(int, lists.gallery[0].count, 2));
    cr_assert(eq(int, lists.gallery[0].template_index[1], 1));
    cr_assert(eq(i64, lists.gallery[0].subject[0], 3));
    cr_assert(eq(int, lists.gallery[1].count, 1));
    cr_assert(eq(int, lists.probe.count, 1));
    cr_assert(eq(int, lists.probe.template_index[0], 2));
    cr_assert(eq(i64, lists.probe.subject[0], 4));
    ff_gallery_fini(&lists);
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        put("ijbc_1N_gallery_G2.csv", refusals[i].text);
        rc = ff_gallery_load(&lists, folder, "ijbc", &meta, &err);
        cr_assert(eq(int, rc, FF_EDATA), "case %zu", i);
        cr_assert(ne(ptr, strstr(err.text, refusals[i].message), NULL),
                  "wanted \"%s\", got \"%s\"", refusals[i].message, err.text);
        ff_gallery_fini(&lists);
    }
    rc = ff_gallery_load(&lists, folder, "ijbb", &meta, &err);
    cr_assert(eq(int, rc, FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "ijbb_1N_gallery_S1.csv"), NULL), "%s",
              err.text);
    ff_gallery_fini(&lists);
    ff_remove_tree(folder, NULL);
}
