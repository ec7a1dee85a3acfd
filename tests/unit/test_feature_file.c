/* SPDX-License-Identifier: MIT */
/* features.h5: round trip by mapping, going on after a cut, joining, refusals. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "feature_file.h"
#include "h5io.h"

enum { ROWS = 5, D = 3 };
static const char *const names[ROWS] = {"b.jpg", "a.jpg", "x/c.png", "d", "e"};
static float data[ROWS][2 * D];
static char folder[64], path[FF_PATH_MAX];

static void setup(void)
{
    strcpy(folder, "/tmp/ff_features_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    ff_path(path, NULL, "%s/f.h5", folder);
    for (int i = 0; i < ROWS * 2 * D; i++)
        data[i / (2 * D)][i % (2 * D)] = (float)i - 7.25f;
}

static void teardown(void)
{
    ff_remove_tree(folder, NULL);
}

TestSuite(feature_file, .init = setup, .fini = teardown);

static void write_rows(int64_t expect_done, int64_t until, const char *model)
{
    struct ff_features_writer *writer;
    struct ff_err err = FF_ERR_INIT;
    int64_t done;
    int rc = ff_features_create(&writer, &done, path, names, ROWS, D, model, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(i64, done, expect_done));
    rc = ff_features_append(writer, data[done], done, until - done, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(i64, ff_features_rows_done(writer), until));
    ff_features_writer_close(writer);
}

static void check_whole(void)
{
    struct ff_features *f;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_features_open(&f, path, &err), 0), "%s", err.text);
    cr_assert(eq(i64, f->rows, ROWS));
    cr_assert(eq(int, f->dim, D));
    cr_assert(eq(int, memcmp(f->data, data, sizeof data), 0));
    cr_assert(eq(str, f->name[2], "x/c.png"));
    cr_assert(eq(str, f->model_sha256, "abc"));
    ff_features_close(f);
}

Test(feature_file, rows_written_are_mapped_back)
{
    write_rows(0, ROWS, "abc");
    check_whole();
    struct ff_features *f;
    cr_assert(eq(int, ff_features_open(&f, path, NULL), 0));
    cr_assert(ne(ptr, f->map, NULL));
    cr_assert(eq(ptr, f->owned, NULL));
    ff_features_close(f);
}

/* As another program may write it: rows of doubles, or stored in pieces. */
static void write_double_rows(bool chunked)
{
    hid_t file;
    hsize_t dims[2] = {ROWS, 2 * D}, chunk[2] = {2, D};
    double wide[ROWS][2 * D];
    for (int i = 0; i < ROWS * 2 * D; i++)
        wide[i / (2 * D)][i % (2 * D)] = (double)data[i / (2 * D)][i % (2 * D)];
    cr_assert(eq(int, ff_h5_create(&file, path, NULL), 0));
    hid_t space = H5Screate_simple(2, dims, NULL),
          plist = H5Pcreate(H5P_DATASET_CREATE);
    if (chunked)
        H5Pset_chunk(plist, 2, chunk);
    hid_t set = H5Dcreate2(file, "features", H5T_IEEE_F64LE, space, H5P_DEFAULT, plist,
                           H5P_DEFAULT);
    H5Dwrite(set, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, wide);
    ff_h5_write_strings(file, "name", 1, dims, names, NULL);
    ff_h5_set_text(file, "model_sha256", "abc", NULL);
    H5Dclose(set);
    H5Pclose(plist);
    H5Sclose(space);
    H5Fclose(file);
}

Test(feature_file, double_rows_are_read)
{
    write_double_rows(false);
    check_whole();
}

Test(feature_file, rows_in_chunks_are_refused_with_the_remedy)
{
    struct ff_features *f;
    struct ff_err err = FF_ERR_INIT;
    write_double_rows(true);
    cr_assert(eq(int, ff_features_open(&f, path, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "h5repack -l CONTI"), NULL), "%s", err.text);
}

Test(feature_file, unfinished_is_refused_and_continued)
{
    struct ff_features *f;
    struct ff_err err = FF_ERR_INIT;
    write_rows(0, 2, "abc");
    cr_assert(eq(int, ff_features_open(&f, path, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "rows_done is 2 of 5"), NULL), "%s", err.text);
    write_rows(2, 3, "abc");
    write_rows(3, ROWS, "abc");
    check_whole();
}

Test(feature_file, another_model_or_a_finished_file_starts_anew)
{
    write_rows(0, 2, "other");
    write_rows(0, ROWS, "abc");
    write_rows(0, ROWS, "abc");
    check_whole();
}

Test(feature_file, join_finds_rows_by_name)
{
    static const char *const wanted[ROWS] = {"a.jpg", "b.jpg", "x/c.png", "e", "d"};
    static const int64_t want[ROWS] = {1, 0, 2, 4, 3};
    int64_t order[ROWS];
    bool reordered;
    struct ff_features *f;
    write_rows(0, ROWS, "abc");
    cr_assert(eq(int, ff_features_open(&f, path, NULL), 0));
    cr_assert(
        eq(int, ff_features_join(order, &reordered, f, path, names, ROWS, NULL), 0));
    cr_assert(not(reordered));
    cr_assert(
        eq(int, ff_features_join(order, &reordered, f, path, wanted, ROWS, NULL), 0));
    cr_assert(reordered);
    cr_assert(eq(int, memcmp(order, want, sizeof want), 0));
    ff_features_close(f);
}

Test(feature_file, one_sided_and_double_names_are_refused)
{
    static const char *const strange[ROWS] = {"a.jpg", "b.jpg", "x/c.png", "e", "zz"};
    int64_t order[ROWS];
    bool reordered;
    struct ff_err err = FF_ERR_INIT;
    struct ff_features *f;
    write_rows(0, ROWS, "abc");
    cr_assert(eq(int, ff_features_open(&f, path, NULL), 0));
    cr_assert(eq(int, ff_features_join(order, &reordered, f, path, strange, ROWS, &err),
                 FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "no row for image 'zz'"), NULL), "%s", err.text);
    cr_assert(eq(int, ff_features_join(order, &reordered, f, path, names, 3, &err),
                 FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "row 3: image 'd' is not in"), NULL), "%s",
              err.text);
    strcpy(f->name[3], "e");
    cr_assert(eq(int, ff_features_join(order, &reordered, f, path, names, ROWS, &err),
                 FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "row 4: name 'e' is row 3 already"), NULL), "%s",
              err.text);
    ff_features_close(f);
}

Test(feature_file, other_shapes_and_files_are_refused)
{
    struct ff_features *f;
    struct ff_err err = FF_ERR_INIT;
    hid_t file;
    hsize_t odd[2] = {ROWS, 5};
    cr_assert(eq(int, ff_h5_create(&file, path, NULL), 0));
    ff_h5_write_strings(file, "name", 1, odd, names, NULL);
    H5Fclose(file);
    cr_assert(eq(int, ff_features_open(&f, path, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "needs the datasets"), NULL), "%s", err.text);
    cr_assert(eq(int, ff_h5_open(&file, path, true, NULL), 0));
    ff_h5_write(file, "features", H5T_NATIVE_FLOAT, 2, odd, data, NULL);
    H5Fclose(file);
    cr_assert(eq(int, ff_features_open(&f, path, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "5 x 5"), NULL), "%s", err.text);
    FILE *text = fopen(path, "w");
    fputs("not HDF5", text);
    fclose(text);
    cr_assert(eq(int, ff_features_open(&f, path, &err), FF_EDATA));
}
