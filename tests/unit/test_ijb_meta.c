/* SPDX-License-Identifier: MIT */
/* The IJB lists: joining by name, sparse ids, and every refusal with file and line. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "ijb_meta.h"

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

#define POINTS                                                                         \
    "b.jpg 1 2 3 4 5 6 7 8 9 10 0.5\n"                                                 \
    "a.jpg 1.5 2 3 4 5 6 7 8 9 -10 0.25\n"                                             \
    "x/c.png 1e1 2 3 4 5 6 7 8 9 10 1\n"                                               \
    "d.jpg 1 2 3 4 5 6 7 8 9 10 0.75\n"
#define TEMPLATES "b.jpg 70000000001 9\na.jpg 5 3\nx/c.png 70000000001 2\nd.jpg 5 3\n"
#define PAIRS "5 70000000001 0\n70000000001 70000000001 1\n"

static void setup(void)
{
    char path[FF_PATH_MAX];
    strcpy(folder, "/tmp/ff_meta_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    ff_path(path, NULL, "%s/meta", folder);
    cr_assert(eq(int, ff_mkdirs(path, NULL), 0));
    put("ijbc_name_5pts_score.txt", POINTS);
    put("ijbc_face_tid_mid.txt", TEMPLATES);
    put("ijbc_template_pair_label.txt", PAIRS);
}

static void teardown(void)
{
    ff_remove_tree(folder, NULL);
}

TestSuite(ijb_meta, .init = setup, .fini = teardown);

static struct ff_ijb_meta *load(void)
{
    struct ff_ijb_meta *meta;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_ijb_meta_load(&meta, folder, "ijbc", true, 2, &err), 0), "%s",
              err.text);
    return meta;
}

Test(ijb_meta, joins_lists_and_indexes_templates)
{
    struct ff_ijb_meta *m = load();
    cr_assert(eq(i64, m->image_count, 4));
    cr_assert(eq(int, m->template_count, 2));
    cr_assert(eq(i64, m->template_id[0], 5));
    cr_assert(eq(i64, m->template_id[1], INT64_C(70000000001)));
    cr_assert(not(m->reordered));
    cr_assert(eq(str, (char *)m->image[2].name, "x/c.png"));
    cr_assert(epsilon_eq(flt, m->image[1].point[4][1], -10.0f, 0));
    cr_assert(epsilon_eq(flt, m->image[2].point[0][0], 10.0f, 0));
    cr_assert(epsilon_eq(flt, m->image[3].det_score, 0.75f, 0));
    cr_assert(eq(i64, m->member_start[0], 0));
    cr_assert(eq(i64, m->member_start[1], 2));
    cr_assert(eq(i64, m->member_start[2], 4));
    static const int32_t members[4] = {1, 3, 2, 0}; /* media 3 3 | 2 9 */
    cr_assert(eq(int, memcmp(m->member, members, sizeof members), 0));
    cr_assert(eq(i64, m->pair_count, 2));
    cr_assert(eq(i64, m->genuine_count, 1));
    cr_assert(eq(int, m->pair_a[0], 0));
    cr_assert(eq(int, m->pair_b[0], 1));
    cr_assert(eq(int, m->genuine[1], 1));
    ff_ijb_meta_destroy(m);
}

Test(ijb_meta, another_row_order_is_joined_by_name)
{
    put("ijbc_face_tid_mid.txt",
        "d.jpg 5 3\nx/c.png 70000000001 2\nb.jpg 70000000001 9\na.jpg 5 3\n");
    struct ff_ijb_meta *m = load();
    cr_assert(m->reordered);
    static const int32_t members[4] = {1, 3, 2, 0};
    cr_assert(eq(int, memcmp(m->member, members, sizeof members), 0));
    ff_ijb_meta_destroy(m);
}

Test(ijb_meta, last_line_may_lack_its_newline)
{
    put("ijbc_template_pair_label.txt", "5 70000000001 0\n5 5 1");
    struct ff_ijb_meta *m = load();
    cr_assert(eq(i64, m->pair_count, 2));
    ff_ijb_meta_destroy(m);
}

Test(ijb_meta, lines_may_end_in_cr_lf)
{
    put("ijbc_name_5pts_score.txt", "b.jpg 1 2 3 4 5 6 7 8 9 10 0.5\r\n"
                                    "a.jpg 1 2 3 4 5 6 7 8 9 10 0.25\r\n");
    put("ijbc_face_tid_mid.txt", "b.jpg 7 9\r\na.jpg 5 3\r\n");
    put("ijbc_template_pair_label.txt", "5 7 0\r\n5 5 1\r\n");
    struct ff_ijb_meta *m = load();
    cr_assert(epsilon_eq(flt, m->image[1].det_score, 0.25f, 0));
    cr_assert(eq(i64, m->image[0].media_id, 9));
    cr_assert(eq(i64, m->pair_count, 2));
    cr_assert(eq(i64, m->genuine_count, 1));
    ff_ijb_meta_destroy(m);
}

Test(ijb_meta, takes_five_points_out_of_68)
{
    char text[4096];
    int n = snprintf(text, sizeof text, "a.jpg");
    for (int k = 0; k < 68; k++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %d %d.5", k, 100 + k);
    snprintf(text + n, sizeof text - (size_t)n, " 0.5\n");
    put("ijbc_name_5pts_score.txt", text);
    put("ijbc_face_tid_mid.txt", "a.jpg 5 3\n");
    put("ijbc_template_pair_label.txt", "5 5 1\n5 5 0\n");
    struct ff_ijb_meta *m = load();
    static const float want[5][2] = {
        {37.5f, 138}, {43.5f, 144}, {30, 130.5f}, {48, 148.5f}, {54, 154.5f}};
    cr_assert(eq(int, memcmp(m->image[0].point, want, sizeof want), 0));
    ff_ijb_meta_destroy(m);
}

static const struct refusal {
    const char *file, *text, *message;
} refusals[] = {
    {"ijbc_name_5pts_score.txt", "", "score.txt: empty"},
    {"ijbc_name_5pts_score.txt", "b.jpg 1 2 3 4 5 6 7 8 9 0.5\n",
     "score.txt:1: 11 fields, expected 12"},
    {"ijbc_name_5pts_score.txt", "b.jpg 1 2 3 4 5 6 7 8 9 1O 0.5\n",
     "score.txt:1: not a coordinate: '1O'"},
    {"ijbc_name_5pts_score.txt", "b.jpg 1 2 3 4 5 6 7 8 9 nan 0.5\n",
     "score.txt:1: not a coordinate: 'nan'"},
    {"ijbc_name_5pts_score.txt", "b.jpg 1 2 3 4 5 6 7 8 9 10 0x1\n",
     "score.txt:1: not a detector score: '0x1'"},
    {"ijbc_name_5pts_score.txt", "b.jpg 1 2 3 4 5 6 7 8 9 10 1e99\n",
     "score.txt:1: not a detector score: '1e99'"},
    {"ijbc_name_5pts_score.txt",
     "b.jpg 1 2 3 4 5 6 7 8 9 10 1\nb.jpg 1 2 3 4 5 6 7 8 9 10 1\n",
     "score.txt:2: name 'b.jpg' was on line 1 already"},
    {"ijbc_name_5pts_score.txt",
     "b.jpg 1 2 3 4 5 6 7 8 9 10 1\nb.jpg 1 2 3 4 5 6 7 8 9 10 1\nx y\n",
     "score.txt:2: name 'b.jpg' was on line 1 already"},
    {"ijbc_name_5pts_score.txt", "b.jpg\n", "score.txt:1: 1 fields, expected 12"},
    {"ijbc_name_5pts_score.txt", "b.jpg 1  2 3 4 5 6 7 8 9 10 1\n",
     "score.txt:1: fields must be parted by single spaces"},
    {"ijbc_name_5pts_score.txt", POINTS "e.jpg 1 2 3 4 5 6 7 8 9 10 1\n",
     "score.txt:5: name 'e.jpg' is not in"},
    {"ijbc_face_tid_mid.txt", TEMPLATES "e.jpg 5 3\n",
     "mid.txt:5: name 'e.jpg' is not in"},
    {"ijbc_face_tid_mid.txt", TEMPLATES "a.jpg 5 3\n",
     "mid.txt:5: name occurs twice: 'a.jpg'"},
    {"ijbc_face_tid_mid.txt", "b.jpg 70000000001\n", "mid.txt:1: 2 fields, expected 3"},
    {"ijbc_face_tid_mid.txt", "b.jpg -1 2\n", "mid.txt:1: not a template id: '-1'"},
    {"ijbc_face_tid_mid.txt", "b.jpg 1 2.0\n", "mid.txt:1: not a media id: '2.0'"},
    {"ijbc_face_tid_mid.txt", "b.jpg 1 2\n\na.jpg 1 2\n", "mid.txt:2: empty line"},
    {"ijbc_face_tid_mid.txt", "b.jpg 1 99999999999999999999\n",
     "mid.txt:1: not a media id: '99999999999999999999'"},
    {"ijbc_template_pair_label.txt", "5 70000000001 0\n5 5 2\n",
     "label.txt:2: expected 'template template 0|1': '5 5 2'"},
    {"ijbc_template_pair_label.txt", "5 5\n", "label.txt:1: expected"},
    {"ijbc_template_pair_label.txt", "5 5 1 \n", "label.txt:1: expected"},
    {"ijbc_template_pair_label.txt", "5 5 1\r5 5 0\n",
     "label.txt:1: expected 'template template 0|1': '5 5 1\\x0d5 5 0'"},
    {"ijbc_template_pair_label.txt", PAIRS "5 6 1\n",
     "label.txt:3: template 6 has no image in the set"},
    {"ijbc_template_pair_label.txt", "5 5 1\n", "label.txt: no impostor pair"},
    {"ijbc_template_pair_label.txt", "5 5 0\n", "label.txt: no genuine pair"},
};

Test(ijb_meta, refusals_name_file_line_and_value)
{
    for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++) {
        struct ff_ijb_meta *meta;
        struct ff_err err = FF_ERR_INIT;
        put("ijbc_name_5pts_score.txt", POINTS);
        put("ijbc_face_tid_mid.txt", TEMPLATES);
        put("ijbc_template_pair_label.txt", PAIRS);
        put(refusals[i].file, refusals[i].text);
        int rc = ff_ijb_meta_load(&meta, folder, "ijbc", true, 2, &err);
        cr_assert(eq(int, rc, FF_EDATA), "case %zu", i);
        cr_assert(eq(ptr, meta, NULL));
        cr_assert(ne(ptr, strstr(err.text, refusals[i].message), NULL),
                  "case %zu: wanted \"%s\", got \"%s\"", i, refusals[i].message,
                  err.text);
    }
}

enum { MANY = 3000, MANY_PAIRS = 9000 };

/* Lists of several chunks; line `bad` of the list `which` is spoilt (-1 = none). */
static void put_many(int which, int bad)
{
    static const char *const names[3] = {"ijbc_name_5pts_score.txt",
                                         "ijbc_face_tid_mid.txt",
                                         "ijbc_template_pair_label.txt"};
    for (int list = 0; list < 3; list++) {
        char *text;
        size_t size;
        FILE *f = open_memstream(&text, &size);
        for (int i = 0; i < (list == 2 ? MANY_PAIRS : MANY); i++) {
            if (list == which && i == bad)
                fprintf(f, "what is this\n");
            else if (list == 0)
                fprintf(f, "f/%d.jpg %d.25 -2.5 3 4 5 6e-1 7 8 9 %d.0625 0.%03d\n", i,
                        i, i % 7, i % 1000);
            else if (list == 1)
                fprintf(f, "f/%d.jpg %lld %d\n", i, (i * 7 % 500) * 90000001LL, i % 11);
            else
                fprintf(f, "%lld %lld %d\n", (i % 500) * 90000001LL,
                        (i * 3 % 500) * 90000001LL, i % 5 == 0);
        }
        fclose(f);
        put(names[list], text);
        free(text);
    }
}

Test(ijb_meta, threads_read_the_same)
{
    struct ff_ijb_meta *one, *other;
    put_many(-1, -1);
    cr_assert(eq(int, ff_ijb_meta_load(&one, folder, "ijbc", true, 1, NULL), 0));
    for (int threads = 2; threads <= 7; threads += 5) {
        int rc = ff_ijb_meta_load(&other, folder, "ijbc", true, threads, NULL);
        cr_assert(eq(int, rc, 0));
        cr_assert(eq(i64, other->image_count, MANY));
        cr_assert(eq(int, other->template_count, 500));
        cr_assert(eq(i64, other->pair_count, MANY_PAIRS));
        cr_assert(eq(i64, other->genuine_count, MANY_PAIRS / 5));
        for (int i = 0; i < MANY; i++) {
            char name[32];
            snprintf(name, sizeof name, "f/%d.jpg", i);
            cr_assert(eq(str, (char *)other->image[i].name, name));
            cr_assert(
                epsilon_eq(flt, other->image[i].point[0][0], (float)i + 0.25f, 0));
            cr_assert(epsilon_eq(flt, other->image[i].point[2][1], 0.6f, 0));
            cr_assert(eq(i64, other->image[i].media_id, i % 11));
            cr_assert(eq(i64, other->template_id[other->image[i].template_index],
                         (i * 7 % 500) * INT64_C(90000001)));
        }
        cr_assert(
            eq(int, memcmp(one->member, other->member, MANY * sizeof(int32_t)), 0));
        cr_assert(eq(int, memcmp(one->pair_a, other->pair_a, MANY_PAIRS * 4), 0));
        cr_assert(eq(int, memcmp(one->pair_b, other->pair_b, MANY_PAIRS * 4), 0));
        cr_assert(eq(int, memcmp(one->genuine, other->genuine, MANY_PAIRS), 0));
        ff_ijb_meta_destroy(other);
    }
    ff_ijb_meta_destroy(one);
}

Test(ijb_meta, threads_name_the_first_bad_line)
{
    for (int which = 0; which < 3; which++) {
        for (int bad = 0; bad < MANY; bad += 833) {
            char place[32];
            put_many(which, bad);
            snprintf(place, sizeof place, ".txt:%d: ", bad + 1);
            for (int threads = 1; threads <= 5; threads += 2) {
                struct ff_ijb_meta *meta;
                struct ff_err err = FF_ERR_INIT;
                int rc = ff_ijb_meta_load(&meta, folder, "ijbc", true, threads, &err);
                cr_assert(eq(int, rc, FF_EDATA));
                cr_assert(ne(ptr, strstr(err.text, place), NULL), "%s", err.text);
            }
        }
    }
}

/* Digits on both sides of what parse_plain takes, against strtof. */
Test(ijb_meta, coordinates_are_those_of_strtod)
{
    static const char *const number[10] = {"123456789012345",
                                           "1234567890.12345",
                                           "0.1234567890123456",
                                           "-17.3330",
                                           "99999999999999999999",
                                           ".5",
                                           "5.",
                                           "-0",
                                           "+2.5e1",
                                           "16777217"};
    char text[512];
    int n = snprintf(text, sizeof text, "a.jpg");
    for (int k = 0; k < 10; k++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %s", number[k]);
    snprintf(text + n, sizeof text - (size_t)n, " 0.999999\n");
    put("ijbc_name_5pts_score.txt", text);
    put("ijbc_face_tid_mid.txt", "a.jpg 5 3\n");
    put("ijbc_template_pair_label.txt", "5 5 1\n5 5 0\n");
    struct ff_ijb_meta *m = load();
    for (int k = 0; k < 10; k++) {
        float want = (float)strtod(number[k], NULL);
        cr_assert(
            eq(int, memcmp(&m->image[0].point[k / 2][k % 2], &want, sizeof want), 0),
            "%s", number[k]);
    }
    ff_ijb_meta_destroy(m);
}

Test(ijb_meta, without_pairs_the_pair_list_is_not_asked_for)
{
    char path[FF_PATH_MAX];
    struct ff_ijb_meta *meta;
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/meta/ijbc_template_pair_label.txt", folder);
    remove(path);
    int rc = ff_ijb_meta_load(&meta, folder, "ijbc", false, 2, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(i64, meta->pair_count, 0));
    ff_ijb_meta_destroy(meta);
    rc = ff_ijb_meta_load(&meta, folder, "ijbc", true, 2, &err);
    cr_assert(eq(int, rc, FF_EDATA));
}

Test(ijb_meta, missing_file_is_named)
{
    struct ff_ijb_meta *meta;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(
        eq(int, ff_ijb_meta_load(&meta, folder, "ijbb", true, 2, &err), FF_EDATA));
    cr_assert(eq(int, err.code, FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "meta/ijbb_name_5pts_score.txt"), NULL));
}
