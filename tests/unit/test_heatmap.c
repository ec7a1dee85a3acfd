/* SPDX-License-Identifier: MIT */
/* heatmap.h5: schema, shapes, values, scales and attributes; pictures and report beside
 * it. */
#include "heatmap_fixture.h"

#include <fcntl.h>
#include <hdf5_hl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "h5io.h"
#include "report.h"

static hid_t write_and_open(const struct fixture *fx, const char *name)
{
    char path[128];
    struct ff_err err = FF_ERR_INIT;
    hid_t file;
    snprintf(path, sizeof path, "%s/%s", fx->dir, name);
    int rc = ff_heatmap_write(path, fx->grid, fx->results, fx->count, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    rc = ff_h5_open(&file, path, false, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return file;
}

static void *read_all(hid_t file, const char *name, hid_t type, int ndim,
                      const hsize_t *shape)
{
    struct ff_err err = FF_ERR_INIT;
    hsize_t dims[6];
    void *data;
    memcpy(dims, shape, (size_t)ndim * sizeof *dims);
    int rc = ff_h5_read(&data, file, name, type, ndim, dims, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return data;
}

Test(heatmap, writes_mean_and_sample_std_over_seeds)
{
    struct fixture fx;
    fixture_open(&fx);
    hid_t file = write_and_open(&fx, "heatmap.h5");
    const hsize_t shape[] = {2, 3};
    double *mean = read_all(file, "heatmap", H5T_NATIVE_DOUBLE, 2, shape);
    double *std = read_all(file, "heatmap_std", H5T_NATIVE_DOUBLE, 2, shape);
    cr_assert(epsilon_eq(dbl, mean[0], 81.5, 1e-12));
    cr_assert(epsilon_eq(dbl, std[0], sqrt(4.5), 1e-12));
    cr_assert(epsilon_eq(dbl, mean[1], 90, 1e-12));
    cr_assert(isnan(std[1]));
    for (int i = 2; i < 6; i++)
        cr_assert(isnan(mean[i]) && isnan(std[i]), "place %d", i);
    free(mean);
    free(std);
    H5Fclose(file);
    fixture_close(&fx);
}

Test(heatmap, writes_rates_of_every_eval_entry)
{
    struct fixture fx;
    fixture_open(&fx);
    hid_t file = write_and_open(&fx, "heatmap.h5");
    const hsize_t shape[] = {2, 3, 2, FF_FAR_COUNT};
    static const char *const names[] = {"tar",       "tar_compat",
                                        "tar_ijbc",  "tar_compat_ijbc",
                                        "tar_plain", "tar_compat_plain"};
    static const double at_1e2[] = {80, 80.5, 4, 4.5, 80, 80.5};
    for (int i = 0; i < 6; i++) {
        double *tar = read_all(file, names[i], H5T_NATIVE_DOUBLE, 4, shape);
        cr_assert(epsilon_eq(dbl, tar[4], at_1e2[i], 1e-12), "%s", names[i]);
        for (int k = 0; k < FF_FAR_COUNT; k++)
            cr_assert(isnan(tar[3 * FF_FAR_COUNT + k]), "%s: diverged cell", names[i]);
        free(tar);
    }
    H5Fclose(file);
    fixture_close(&fx);
}

Test(heatmap, writes_the_accuracy_on_every_file_of_pairs)
{
    static const char text[] =
        "name: small\ntrain: {data: /nowhere}\nsweep: {tau: [0.1, 0.2]}\n"
        "eval:\n  - {protocol: ijbc, root: /c}\n"
        "  - {protocol: pairs, bin: [/x/lfw.bin, /x/cfp_fp.bin]}\n"
        "metric: accuracy@cfp_fp\n";
    struct ff_err err = FF_ERR_INIT;
    struct fixture fx;
    fixture_open(&fx); /* for the folder */
    struct ff_grid *grid;
    cr_assert(eq(int, ff_grid_parse(&grid, "g", text, NULL, 0, &err), 0), "%s",
              err.text);
    struct ff_cell_result results[2];
    for (int c = 0; c < 2; c++)
        ff_cell_result_init(&results[c]);
    results[0].status = FF_CELL_DONE;
    results[0].evals[1].present = true;
    results[0].evals[1].accuracy[0] = 99.5;
    results[0].evals[1].accuracy[1] = 96.25;
    struct fixture other = {.grid = grid, .results = results, .count = 2};
    strcpy(other.dir, fx.dir);
    hid_t file = write_and_open(&other, "pairs.h5");
    const hsize_t places[] = {2}, cells[] = {2, 1}, rates[] = {2, 1, FF_FAR_COUNT};
    static const char *const names[] = {"heatmap", "accuracy_lfw", "accuracy_cfp_fp"};
    static const double wanted[] = {96.25, 99.5, 96.25};
    for (int i = 0; i < 3; i++) {
        double *found =
            read_all(file, names[i], H5T_NATIVE_DOUBLE, i ? 2 : 1, i ? cells : places);
        cr_assert(eq(dbl, found[0], wanted[i]), "%s", names[i]);
        cr_assert(isnan(found[1]), "%s", names[i]);
        free(found);
    }
    double *tar = read_all(file, "tar", H5T_NATIVE_DOUBLE, 3, rates);
    cr_assert(isnan(tar[0]));
    free(tar);
    cr_assert(ff_h5_exists(file, "eval_key_pairs"));
    cr_assert(ff_h5_exists(file, "tar_ijbc"));
    cr_assert(not(ff_h5_exists(file, "tar_pairs")));
    char *label = NULL;
    hid_t id = H5Dopen2(file, "heatmap", H5P_DEFAULT);
    cr_assert(eq(int, ff_h5_get_text(&label, id, "long_name", &err), 0), "%s",
              err.text);
    cr_assert(eq(str, label, "accuracy on cfp_fp (%)"));
    free(label);
    H5Dclose(id);
    H5Fclose(file);

    char path[160], *html;
    size_t bytes;
    snprintf(path, sizeof path, "%s/report.html", fx.dir);
    cr_assert(eq(int, ff_report_write(path, NULL, grid, results, 2, &err), 0), "%s",
              err.text);
    cr_assert(eq(int, ff_read_file(&html, &bytes, path, &err), 0));
    cr_assert(ne(ptr, strstr(html, "<th>lfw</th><th>cfp_fp</th><th>final loss"), NULL));
    cr_assert(
        ne(ptr, strstr(html, "<td>96.25</td><td>99.50</td><td>96.25</td>"), NULL));
    cr_assert(ne(ptr, strstr(html, "Accuracy in percent on each file of pairs"), NULL));
    free(html);
    ff_grid_destroy(grid);
    fixture_close(&fx);
}

/* A sweep on a CPU has no such dataset; one cell on a GPU is enough for it. */
Test(heatmap, writes_energy_where_a_cell_has_it)
{
    struct ff_err err = FF_ERR_INIT;
    struct fixture fx;
    fixture_open(&fx);
    hid_t file = write_and_open(&fx, "cpu.h5");
    cr_assert(not(ff_h5_exists(file, "energy")));
    H5Fclose(file);
    fx.results[2].energy_joules = 2.5e7;
    file = write_and_open(&fx, "gpu.h5");
    const hsize_t shape[] = {2, 3, 2};
    double *energy = read_all(file, "energy", H5T_NATIVE_DOUBLE, 3, shape);
    for (int i = 0; i < 12; i++)
        cr_assert(i == 2 ? energy[i] == 2.5e7 : isnan(energy[i]), "cell %d", i);
    free(energy);
    char *units = NULL;
    hid_t id = H5Dopen2(file, "energy", H5P_DEFAULT);
    cr_assert(eq(int, ff_h5_get_text(&units, id, "units", &err), 0), "%s", err.text);
    cr_assert(eq(str, units, "J"));
    hid_t seed = H5Dopen2(file, "seed", H5P_DEFAULT);
    cr_assert(eq(int, H5DSis_attached(id, seed, 2), 1));
    H5Dclose(seed);
    free(units);
    H5Dclose(id);
    H5Fclose(file);
    fixture_close(&fx);
}

Test(heatmap, pads_drops_with_minus_one)
{
    struct fixture fx;
    fixture_open(&fx);
    hid_t file = write_and_open(&fx, "heatmap.h5");
    const hsize_t shape[] = {2, 3, 2, 3}, one[] = {2, 3, 2, 1}, length[] = {3};
    int64_t *drops = read_all(file, "drop_iteration", H5T_NATIVE_INT64, 4, shape);
    int64_t *ordinal = read_all(file, "drop", H5T_NATIVE_INT64, 1, length);
    for (int i = 0; i < 36; i++)
        cr_assert(eq(i64, drops[i], i / 3 == 2 ? 100 * (i % 3 + 1) : -1));
    cr_assert(eq(i64, ordinal[0], 1));
    cr_assert(eq(i64, ordinal[2], 3));
    free(drops);
    free(ordinal);
    H5Fclose(file);
    fx.results[2].drop_count = 0; /* no drop anywhere: the dimension keeps length 1 */
    file = write_and_open(&fx, "none.h5");
    drops = read_all(file, "drop_iteration", H5T_NATIVE_INT64, 4, one);
    cr_assert(eq(i64, drops[5], -1));
    free(drops);
    H5Fclose(file);
    fixture_close(&fx);
}

Test(heatmap, writes_status_with_flag_attributes)
{
    struct fixture fx;
    fixture_open(&fx);
    hid_t file = write_and_open(&fx, "heatmap.h5");
    const hsize_t shape[] = {2, 3, 2};
    static const uint8_t expected[] = {2, 2, 2, 4, 0, 0, 3, 4, 1, 6, 5, 5};
    uint8_t *status = read_all(file, "status", H5T_NATIVE_UINT8, 3, shape);
    uint8_t *equal = read_all(file, "bit_equal", H5T_NATIVE_UINT8, 3, shape);
    for (int i = 0; i < 12; i++) {
        cr_assert(eq(u8, status[i], expected[i]), "cell %d", i);
        cr_assert(eq(u8, equal[i], i != 1), "cell %d", i);
    }
    free(status);
    free(equal);
    unsigned char flags[FF_CELL_STATUS_COUNT];
    char *meanings;
    struct ff_err err = FF_ERR_INIT;
    herr_t got = H5LTget_attribute_uchar(file, "status", "flag_values", flags);
    cr_assert(ge(int, got, 0));
    for (int k = 0; k < FF_CELL_STATUS_COUNT; k++)
        cr_assert(eq(u8, flags[k], k));
    hid_t id = H5Dopen2(file, "status", H5P_DEFAULT);
    int rc = ff_h5_get_text(&meanings, id, "flag_meanings", &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(str, meanings, "planned running done failed diverged excluded stale"));
    free(meanings);
    H5Dclose(id);
    H5Fclose(file);
    fixture_close(&fx);
}

Test(heatmap, writes_axes_keys_and_cost)
{
    struct fixture fx;
    fixture_open(&fx);
    hid_t file = write_and_open(&fx, "heatmap.h5");
    struct ff_err err = FF_ERR_INIT;
    const hsize_t three[] = {3}, two[] = {2}, six[] = {6}, cells[] = {2, 3, 2};
    double *lambda = read_all(file, "lambda", H5T_NATIVE_DOUBLE, 1, three);
    double *far = read_all(file, "far", H5T_NATIVE_DOUBLE, 1, six);
    double *seconds = read_all(file, "seconds", H5T_NATIVE_DOUBLE, 3, cells);
    double *loss = read_all(file, "final_loss", H5T_NATIVE_DOUBLE, 3, cells);
    int64_t *seed = read_all(file, "seed", H5T_NATIVE_INT64, 1, two);
    cr_assert(eq(dbl, lambda[0], 2.5e-5));
    cr_assert(eq(dbl, far[2], 1e-4));
    cr_assert(eq(i64, seed[1], 12));
    cr_assert(eq(dbl, seconds[2], 62));
    cr_assert(isnan(seconds[4]));
    cr_assert(eq(dbl, loss[0], 1.5));
    free(lambda);
    free(far);
    free(seconds);
    free(loss);
    free(seed);
    char **texts;
    size_t count;
    int rc = ff_h5_read_strings(&texts, file, "backbone", &count, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(sz, count, 2));
    cr_assert(eq(str, texts[1], "r50"));
    ff_h5_free_strings(texts, count);
    rc = ff_h5_read_strings(&texts, file, "train_key", &count, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(sz, count, 12));
    cr_assert(eq(str, texts[2], "key2"));
    ff_h5_free_strings(texts, count);
    rc = ff_h5_read_strings(&texts, file, "eval_key_plain", &count, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(str, texts[1], "eval1-1"));
    cr_assert(eq(str, texts[4], ""));
    ff_h5_free_strings(texts, count);
    H5Fclose(file);
    fixture_close(&fx);
}

struct walk {
    int scales, arrays;
    char bad[64];
};

/* Every dataset is a scale or has exactly one scale, of its own length, an axis. */
static herr_t check_scales(hid_t group, const char *name, const H5L_info_t *info,
                           void *data)
{
    struct walk *walk = data;
    (void)info;
    hid_t id = H5Dopen2(group, name, H5P_DEFAULT);
    if (H5DSis_scale(id) > 0) {
        walk->scales++;
    } else {
        hid_t space = H5Dget_space(id);
        int ndim = H5Sget_simple_extent_ndims(space);
        for (int d = 0; d < ndim; d++)
            if (H5DSget_num_scales(id, (unsigned)d) != 1)
                snprintf(walk->bad, sizeof walk->bad, "%s", name);
        walk->arrays++;
        H5Sclose(space);
    }
    H5Dclose(id);
    return 0;
}

Test(heatmap, gives_every_axis_a_dimension_scale)
{
    struct fixture fx;
    fixture_open(&fx);
    hid_t file = write_and_open(&fx, "heatmap.h5");
    struct walk walk = {0, 0, ""};
    H5Literate(file, H5_INDEX_NAME, H5_ITER_INC, NULL, check_scales, &walk);
    cr_assert(eq(int, walk.scales, 5)); /* backbone lambda seed far drop */
    cr_assert(eq(int, walk.arrays, 18));
    cr_assert(eq(str, walk.bad, ""));
    static const char *const names[] = {"backbone", "lambda", "seed", "far"};
    hid_t tar = H5Dopen2(file, "tar", H5P_DEFAULT);
    for (unsigned d = 0; d < 4; d++) {
        hid_t scale = H5Dopen2(file, names[d], H5P_DEFAULT);
        htri_t attached = H5DSis_attached(tar, scale, d);
        cr_assert(lt(int, 0, attached), "%s", names[d]);
        H5Dclose(scale);
    }
    H5Dclose(tar);
    H5Fclose(file);
    fixture_close(&fx);
}

Test(heatmap, writes_root_attributes)
{
    struct fixture fx;
    fixture_open(&fx);
    hid_t file = write_and_open(&fx, "heatmap.h5");
    static const char *const pairs[][2] = {
        {"schema", "ff-heatmap/1"}, {"Conventions", "CF-1.10"},
        {"name", "small"},          {"metric", "tar@1e-2:plain"},
        {"device", "cpu0"},         {"grid", NULL},
        {"created", NULL},          {"program_version", NULL},
        {"git_commit", NULL},       {"host", NULL},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        char *text;
        struct ff_err err = FF_ERR_INIT;
        int rc = ff_h5_get_text(&text, file, pairs[i][0], &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        if (pairs[i][1])
            cr_assert(eq(str, text, (char *)pairs[i][1]));
        else
            cr_assert(lt(sz, 0, strlen(text)), "%s", pairs[i][0]);
        free(text);
    }
    H5Fclose(file);
    fixture_close(&fx);
}

/* The whole file as bytes, with the text of `created` blanked. */
static char *bytes_of(const struct fixture *fx, const char *name, size_t *bytes)
{
    char path[128], *data;
    struct ff_err err = FF_ERR_INIT;
    snprintf(path, sizeof path, "%s/%s", fx->dir, name);
    int rc = ff_heatmap_write(path, fx->grid, fx->results, fx->count, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    rc = ff_read_file(&data, bytes, path, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    for (size_t i = 0; i + 20 < *bytes; i++)
        if (data[i] == '2' && data[i + 10] == 'T' && data[i + 13] == ':' &&
            data[i + 19] == 'Z')
            memset(data + i, ' ', 20);
    return data;
}

Test(heatmap, equal_results_give_equal_bytes)
{
    struct fixture fx;
    fixture_open(&fx);
    size_t first_bytes, second_bytes;
    char *first = bytes_of(&fx, "a.h5", &first_bytes);
    char *second = bytes_of(&fx, "b.h5", &second_bytes);
    cr_assert(eq(sz, first_bytes, second_bytes));
    cr_assert(eq(int, memcmp(first, second, first_bytes), 0));
    free(first);
    free(second);
    fixture_close(&fx);
}

Test(heatmap, leaves_no_temporary_where_it_cannot_write)
{
    struct fixture fx;
    fixture_open(&fx);
    char path[128];
    struct ff_err err = FF_ERR_INIT;
    snprintf(path, sizeof path, "%s/absent/heatmap.h5", fx.dir);
    int rc = ff_heatmap_write(path, fx.grid, fx.results, fx.count, &err);
    cr_assert(eq(int, rc, FF_EFAIL));
    cr_assert(ne(ptr, strstr(err.text, "absent/heatmap.h5"), NULL));
    snprintf(path, sizeof path, "%s/folder", fx.dir);
    cr_assert(eq(int, mkdir(path, 0700), 0));
    rc = ff_heatmap_write(path, fx.grid, fx.results, fx.count, &err);
    cr_assert(lt(int, rc, 0)); /* a folder has the name */
    cr_assert(eq(int, rmdir(path), 0));
    cr_assert(eq(int, rmdir(fx.dir), 0)); /* nothing else lies there */
    fixture_close(&fx);
}

Test(heatmap, sheet_takes_the_most_telling_state)
{
    struct fixture fx;
    fixture_open(&fx);
    struct ff_sheet sheet;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_heatmap_sheet(&sheet, fx.grid, fx.results, fx.count, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    static const enum ff_sheet_state expected[] = {FF_SHEET_VALUE,   FF_SHEET_VALUE,
                                                   FF_SHEET_HOLE,    FF_SHEET_DIVERGED,
                                                   FF_SHEET_RUNNING, FF_SHEET_EXCLUDED};
    cr_assert(eq(sz, sheet.cell_count, 6));
    for (int i = 0; i < 6; i++)
        cr_assert(eq(int, sheet.cells[i].state, expected[i]), "place %d", i);
    cr_assert(eq(int, sheet.cells[0].values, 2));
    cr_assert(eq(int, sheet.cells[1].values, 1));
    cr_assert(eq(int, sheet.cells[1].lost, 1));
    cr_assert(eq(str, sheet.metric, "TAR@FAR=1e-2, plain (%)"));
    cr_assert(eq(str, sheet.axes[0].texts[0], "r18"));
    cr_assert(eq(str, sheet.axes[1].texts[0], "2.5e-5"));
    ff_sheet_fini(&sheet);
    fixture_close(&fx);
}

Test(heatmap, without_eval_entries_nothing_is_scored)
{
    struct ff_grid *grid;
    struct ff_err err = FF_ERR_INIT;
    const char *text =
        "name: plain\ntrain: {data: /nowhere}\nsweep: {tau: [0.1, 0.2]}\n";
    int rc = ff_grid_parse(&grid, "plain.yaml", text, NULL, 0, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(str, grid->metric.text, "none"));
    struct ff_cell_result results[2];
    for (int i = 0; i < 2; i++)
        ff_cell_result_init(&results[i]);
    results[0].status = FF_CELL_DONE;
    char *shown;
    size_t bytes;
    FILE *f = open_memstream(&shown, &bytes);
    ff_heatmap_print(f, grid, results, 2);
    fclose(f);
    cr_assert(eq(str, shown,
                 "plain: nothing is scored (no eval:), one seed\n\n"
                 "τ │  0.1   0.2 \n"
                 "──┼────────────\n"
                 "  │ done     · \n\n"
                 "· = no value yet, done = trained\n"));
    free(shown);
    ff_grid_destroy(grid);
}

Test(heatmap, draws_pictures_and_reports)
{
    struct fixture fx;
    fixture_open(&fx);
    char png[128], svg[128], html[128], *page;
    struct ff_err err = FF_ERR_INIT;
    size_t bytes;
    snprintf(png, sizeof png, "%s/heatmap.png", fx.dir);
    snprintf(svg, sizeof svg, "%s/heatmap.svg", fx.dir);
    snprintf(html, sizeof html, "%s/report.html", fx.dir);
    int rc = ff_heatmap_draw(png, svg, fx.grid, fx.results, fx.count, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(int, access(png, R_OK), 0));
    rc = ff_report_write(html, svg, fx.grid, fx.results, fx.count, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    rc = ff_read_file(&page, &bytes, html, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    static const char *const parts[] = {"<title>small</title>",
                                        "<svg",
                                        "killed &lt;9&gt; &amp; gone",
                                        "100, 200, 300",
                                        "metric: tar@1e-2:plain",
                                        "not bit-equal",
                                        "compute in fp32",
                                        "</html>"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        cr_assert(ne(ptr, strstr(page, parts[i]), NULL), "%s", parts[i]);
    cr_assert(eq(ptr, strstr(page, "<?xml"), NULL));
    free(page);
    fixture_close(&fx);
}

Test(heatmap, without_axes_writes_scalars)
{
    struct fixture fx = {.count = 0};
    struct ff_err err = FF_ERR_INIT;
    strcpy(fx.dir, "/tmp/ff-heatmap-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(fx.dir), NULL));
    int rc = ff_grid_parse(&fx.grid, "one.yaml",
                           "name: one\ntrain:\n  data: /nowhere\neval:\n"
                           "  - {protocol: ijbc, root: /nowhere/c}\n",
                           NULL, 0, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    fx.count = 1;
    fx.results = calloc(1, sizeof *fx.results);
    cr_assert(ne(ptr, fx.results, NULL));
    ff_cell_result_init(&fx.results[0]);
    fixture_done(&fx, 0, 1);
    const hsize_t none[] = {0};
    hid_t file = write_and_open(&fx, "heatmap.h5");
    double *mean = read_all(file, "heatmap", H5T_NATIVE_DOUBLE, 0, none);
    cr_assert(epsilon_eq(dbl, *mean, 2, 1e-12)); /* entry 0 at FAR 1e-4 */
    free(mean);
    H5Fclose(file);
    fixture_close(&fx);
}

/* Is the heatmap coloured on a terminal of this kind? */
static bool coloured(const struct fixture *fx, const char *term, const char *no_colour)
{
    char text[8192] = "";
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    cr_assert(eq(int, grantpt(master) | unlockpt(master), 0));
    FILE *slave = fopen(ptsname(master), "w");
    cr_assert(ne(ptr, slave, NULL));
    setenv("TERM", term, 1);
    setenv("NO_COLOR", no_colour, 1);
    ff_heatmap_print(slave, fx->grid, fx->results, fx->count);
    fflush(slave);
    for (size_t used = 0; !strstr(text, "highest");) {
        ssize_t bytes = read(master, text + used, sizeof text - 1 - used);
        cr_assert(lt(long, 0, bytes));
        used += (size_t)bytes;
    }
    fclose(slave);
    close(master);
    return strchr(text, '\033') != NULL;
}

Test(heatmap, colours_are_for_terminals_that_want_them, .timeout = 20)
{
    struct fixture fx;
    fixture_open(&fx);
    cr_assert(coloured(&fx, "xterm", ""));
    cr_assert(not(coloured(&fx, "xterm", "1")));
    cr_assert(not(coloured(&fx, "dumb", "")));
    fixture_close(&fx);
}
