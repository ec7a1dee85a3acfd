/* SPDX-License-Identifier: MIT */
/* Plans: iterations, keys, order, warnings, needs, and what is refused before any work.
 */
#include "sweep_fixture.h"

TestSuite(plan, .init = fixture_setup, .fini = fixture_teardown, .timeout = 20);

static struct ff_fake fake;
static struct ff_exec executor;

static struct ff_plan *make_plan(struct ff_grid *grid)
{
    struct ff_plan *plan;
    struct ff_err err = FF_ERR_INIT;
    fake.info = FIXTURE_INFO;
    ff_exec_fake(&executor, &fake);
    cr_assert(
        eq(int, ff_plan_create(&plan, grid, &executor, &fixture_programs, &err), 0),
        "%s", err.text);
    return plan;
}

static void refuses(struct ff_grid *grid, const char *info, int code,
                    const char *wanted)
{
    struct ff_plan *plan;
    struct ff_err err = FF_ERR_INIT;
    fake.info = info;
    ff_exec_fake(&executor, &fake);
    cr_expect(
        eq(int, ff_plan_create(&plan, grid, &executor, &fixture_programs, &err), code));
    cr_expect(zero(ptr, plan));
    cr_expect(strstr(err.text, wanted) != NULL, "%s", err.text);
}

Test(plan, counts_iterations_and_fills_keys)
{
    struct ff_grid *grid = fixture_grid("  epochs: 3\n", "1.0e-5, 2.0e-5", "");
    struct ff_plan *plan = make_plan(grid);
    cr_assert(eq(int, plan->order_count, 4));
    cr_assert(eq(i64, plan->iterations[0], 60));
    cr_assert(eq(i64, plan->data[0].classes, 20));
    cr_assert(eq(int, plan->data_count, 1));
    cr_assert(eq(i64, plan->evals[0].images, 2));
    cr_assert(eq(i64, plan->evals[0].pairs, 3));
    for (int i = 0; i < 4; i++) {
        cr_assert(eq(sz, strlen(grid->cells[i].train_key), 64));
        for (int k = 0; k < i; k++)
            cr_assert(ne(str, grid->cells[i].train_key, grid->cells[k].train_key));
    }
    ff_plan_destroy(plan);
    ff_grid_destroy(grid);
}

Test(plan, takes_one_seed_after_the_other)
{
    struct ff_grid *grid;
    struct ff_err err = FF_ERR_INIT;
    char text[512];
    snprintf(text, sizeof text,
             "name: a\ntrain: {data: %s/faces, batch: 32}\n"
             "sweep: {tau: [0.1, 0.2, 0.3]}\nexclude: [{tau: 0.2}]\nseeds: [5, 6]\n",
             fixture_dir);
    cr_assert(eq(int, ff_grid_parse(&grid, "a", text, NULL, 0, &err), 0), "%s",
              err.text);
    struct ff_plan *plan = make_plan(grid);
    cr_assert(eq(int, plan->order_count, 4));
    const int order[] = {0, 4, 1, 5};
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, plan->order[i], order[i]));
    ff_plan_destroy(plan);
    ff_grid_destroy(grid);
}

Test(plan, eval_key_follows_switches_and_meta_files_but_not_the_folder)
{
    struct ff_grid *grid = fixture_grid("", "1.0e-5", "");
    struct ff_grid *other = fixture_grid("", "1.0e-5", ", det: false");
    struct ff_plan *plan = make_plan(grid), *switched = make_plan(other);
    cr_assert(ne(str, plan->eval_keys[0][0], switched->eval_keys[0][0]));
    ff_plan_destroy(switched);
    ff_grid_destroy(other);
    fixture_file("ijb/meta/ijbc_template_pair_label.txt", "1 2 0\n1 1 1\n2 2 0\n");
    other = fixture_grid("", "1.0e-5", "");
    switched = make_plan(other);
    cr_assert(ne(str, plan->eval_keys[0][0], switched->eval_keys[0][0]));
    cr_assert(eq(str, grid->cells[0].train_key, other->cells[0].train_key));
    ff_plan_destroy(switched);
    ff_grid_destroy(other);
    ff_plan_destroy(plan);
    ff_grid_destroy(grid);
}

Test(plan, warns_where_a_setting_cannot_act)
{
    struct ff_grid *grid = fixture_grid("  epochs: 3\n", "1.0e-5, 2.0e-5", "");
    struct ff_plan *plan = make_plan(grid);
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    int count = ff_plan_warnings(plan, f);
    fclose(f);
    cr_assert(strstr(text, "alpha T = 0.06 < 50") != NULL, "%s", text);
    cr_assert(strstr(text, "never drop") == NULL, "%s", text);
    cr_assert(eq(int, count, 2), "%s", text); /* alpha once, and too few pairs */
    free(text);
    ff_plan_destroy(plan);
    ff_grid_destroy(grid);
    grid = fixture_grid("  epochs: 1\n  alpha: 0.9\n", "1.0e-5", "");
    for (int i = 0; i < grid->cell_count; i++)
        grid->cells[i].params.tau = 0.97;
    plan = make_plan(grid);
    f = open_memstream(&text, &bytes);
    ff_plan_warnings(plan, f);
    fclose(f);
    cr_assert(strstr(text, "floor(tau T) + 1 = 20 >= T") != NULL, "%s", text);
    free(text);
    ff_plan_destroy(plan);
    ff_grid_destroy(grid);
}

Test(plan, refuses_what_does_not_fit_before_any_work)
{
    struct ff_grid *grid = fixture_grid("", "1.0e-5", "");
    refuses(grid, "images: 31\nclasses: 2\nfingerprint: x\n", FF_EUSAGE,
            "small.yaml:4: batch is 32");
    refuses(grid, "images: 640\nclasses: 2\nheight: 48\nfingerprint: x\n", FF_EUSAGE,
            "small.yaml: image_size is 112");
    refuses(grid, "images: 640\nclasses: 2\n", FF_EDATA, "fingerprint");
    fixture_file("ijb/meta/ijbc_name_5pts_score.txt", "");
    refuses(grid, FIXTURE_INFO, FF_EDATA, "ijbc_name_5pts_score.txt: is empty");
    char path[128];
    snprintf(path, sizeof path, "%s/ijb/meta/ijbc_face_tid_mid.txt", fixture_dir);
    unlink(path);
    refuses(grid, FIXTURE_INFO, FF_EUSAGE, "ijbc_face_tid_mid.txt: No such file");
    refuses(grid, FIXTURE_INFO, FF_EUSAGE, "small.yaml:9: eval ijbc: ");
    ff_grid_destroy(grid);
}

Test(plan, eval_key_follows_the_content_and_name_of_files_of_pairs)
{
    char keys[4][FF_SHA256_HEX];
    static const char *const contents[] = {"faces", "faces", "others", "faces"};
    for (int i = 0; i < 4; i++) {
        fixture_pairs(contents[i]);
        struct ff_grid *grid = fixture_grid("", "1.0e-5", "");
        if (i == 3) /* another file of the same content */
            strcpy(grid->evals[0].bins[0].name, "lfw2");
        struct ff_plan *plan = make_plan(grid);
        strcpy(keys[i], plan->eval_keys[0][0]);
        cr_assert(eq(i64, plan->evals[0].pairs, 640));
        cr_assert(eq(i64, plan->evals[0].bin_pairs[1], 320));
        ff_plan_destroy(plan);
        ff_grid_destroy(grid);
    }
    cr_assert(eq(str, keys[0], keys[1]));
    cr_assert(ne(str, keys[0], keys[2]));
    cr_assert(ne(str, keys[0], keys[3]));
}

Test(plan, refuses_files_of_pairs_that_cannot_be_scored)
{
    char path[128], wanted[256];
    fixture_pairs("faces");
    struct ff_grid *grid = fixture_grid("", "1.0e-5", "");
    refuses(grid, "images: 18\nclasses: 2\nfingerprint: x\n", FF_EDATA,
            "lfw.bin: 18 images are too few for 10 folds");
    refuses(grid, "images: 640\nclasses: 2\nheight: 96\nfingerprint: x\n", FF_EUSAGE,
            "image_size is 112, but the images of");
    snprintf(path, sizeof path, "%s/lfw.bin", fixture_dir);
    unlink(path);
    snprintf(wanted, sizeof wanted, "small.yaml:9: eval pairs: %s: No such file", path);
    refuses(grid, FIXTURE_INFO, FF_EUSAGE, wanted);
    ff_grid_destroy(grid);
    fixture_pairs("faces");
    grid = fixture_grid("  validate: [/no/such/v.bin]\n", "1.0e-5", "");
    refuses(grid, FIXTURE_INFO, FF_EUSAGE,
            "small.yaml:5: validate: /no/such/v.bin: No such file");
    ff_grid_destroy(grid);
}

Test(plan, names_the_line_of_a_path_that_is_not_there)
{
    static const struct {
        const char *text, *set, *wanted;
    } cases[] = {
        {"name: a\ntrain:\n  batch: 4\n", NULL, "g.yaml:2: train: data is missing"},
        {"name: a\n", NULL, "g.yaml: train: data is missing"},
        {"name: a\ntrain:\n  data: /no/such\n", NULL,
         "g.yaml:3: data: /no/such: No such"},
        {"name: a\ntrain: {batch: 4}\nsweep:\n  data: [/no/such, /no/other]\n", NULL,
         "g.yaml:4: data: /no/such: No such"},
        {"name: a\n", "data=/no/such", "--set: data: /no/such: No such"},
        {"name: a\ntrain:\n  data: /tmp\n  init: /no.h5\n", NULL,
         "g.yaml:4: init: /no.h5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct ff_grid *grid;
        struct ff_err err = FF_ERR_INIT;
        int rc = ff_grid_parse(&grid, "g.yaml", cases[i].text, &cases[i].set,
                               cases[i].set ? 1 : 0, &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        refuses(grid, FIXTURE_INFO, i == 5 ? FF_EFAIL : FF_EUSAGE, cases[i].wanted);
        ff_grid_destroy(grid);
    }
}

Test(plan, files_of_pairs_keep_no_features)
{
    struct ff_plan_needs needs[2];
    char *text = NULL;
    size_t bytes;
    for (int i = 0; i < 2; i++) {
        if (i)
            fixture_pairs("faces");
        struct ff_grid *grid = fixture_grid("  epochs: 50\n", "1.0e-5", "");
        grid->keep_features = true;
        struct ff_plan *plan = make_plan(grid);
        ff_plan_needs(&needs[i], plan);
        if (i) { /* and accuracy has no FAR to warn of */
            FILE *f = open_memstream(&text, &bytes);
            ff_plan_warnings(plan, f);
            fclose(f);
        }
        ff_plan_destroy(plan);
        ff_grid_destroy(grid);
    }
    cr_assert(eq(i64, needs[0].cell_bytes - needs[1].cell_bytes, 2 * 2 * 4 * 512));
    cr_assert(lt(i64, 0, needs[1].eval_bytes));
    cr_assert(eq(ptr, strstr(text, "1/FAR"), NULL), "%s", text);
    free(text);
}

Test(plan, names_a_missing_training_set)
{
    struct ff_grid *grid = fixture_grid("", "1.0e-5", "");
    for (int i = 0; i < grid->cell_count; i++)
        strcpy(grid->cells[i].params.data, "/no/such/faces");
    refuses(grid, FIXTURE_INFO, FF_EUSAGE, "/no/such/faces");
    ff_grid_destroy(grid);
}

Test(plan, hash_counts_lines_with_and_without_a_last_feed)
{
    char hash[FF_SHA256_HEX], path[128];
    int64_t lines;
    fixture_file("x", "a\nb\nc");
    snprintf(path, sizeof path, "%s/x", fixture_dir);
    cr_assert(eq(int, ff_plan_hash_lines(hash, &lines, path, NULL), 0));
    cr_assert(eq(i64, lines, 3));
    fixture_file("x", "abc");
    cr_assert(eq(int, ff_plan_hash_lines(hash, &lines, path, NULL), 0));
    cr_assert(eq(str, hash,
                 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}
