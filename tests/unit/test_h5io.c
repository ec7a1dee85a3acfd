/* SPDX-License-Identifier: MIT */
/* HDF5 helpers: round trips, refusals with file and dataset named, equal bytes. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "h5io.h"
#include "hash.h"

static char folder[64], path[FF_PATH_MAX];

static void setup(void)
{
    strcpy(folder, "/tmp/ff_h5io_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    ff_path(path, NULL, "%s/a.h5", folder);
}

static void teardown(void)
{
    ff_remove_tree(folder, NULL);
}

TestSuite(h5io, .init = setup, .fini = teardown);

static const float weight[2][3] = {{1, -2, 3.5f}, {4, 5, 1e-30f}};
static const hsize_t shape[2] = {2, 3};

static void write_sample(const char *to)
{
    hid_t file;
    int64_t number = -7;
    static const char *const names[3] = {"a", "", "\xc3\xa9 long name of a parameter"};
    hsize_t three = 3;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_h5_create(&file, to, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    rc |= ff_h5_write(file, "layer1.0.conv1.weight", H5T_NATIVE_FLOAT, 2, shape, weight,
                      &err);
    rc |= ff_h5_write(file, "momentum/bn1", H5T_NATIVE_INT64, 0, NULL, &number, &err);
    rc |= ff_h5_write_strings(file, "names", 1, &three, names, &err);
    rc |= ff_h5_set_f64(file, "lambda", 5e-5, &err);
    rc |= ff_h5_set_i64(file, "iteration", 1, &err);
    rc |= ff_h5_set_i64(file, "iteration", INT64_MAX, &err);
    rc |= ff_h5_set_text(file, "grid", "first", &err);
    rc |= ff_h5_set_text(file, "grid", "name: x\n# \xc3\xa9\n", &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    H5Fclose(file);
}

static hid_t open_sample(void)
{
    hid_t file;
    struct ff_err err = FF_ERR_INIT;
    write_sample(path);
    cr_assert(eq(int, ff_h5_open(&file, path, false, &err), 0), "%s", err.text);
    return file;
}

Test(h5io, datasets_and_attributes_read_back)
{
    hid_t file = open_sample();
    struct ff_err err = FF_ERR_INIT;
    hsize_t dims[2] = {0, 3};
    void *data;
    cr_assert(eq(int,
                 ff_h5_read(&data, file, "layer1.0.conv1.weight", H5T_NATIVE_FLOAT, 2,
                            dims, &err),
                 0),
              "%s", err.text);
    cr_assert(eq(int, (int)dims[0], 2));
    cr_assert(eq(int, memcmp(data, weight, sizeof weight), 0));
    free(data);
    cr_assert(
        eq(int,
           ff_h5_read(&data, file, "momentum/bn1", H5T_NATIVE_INT64, 0, NULL, &err), 0),
        "%s", err.text);
    cr_assert(eq(i64, *(int64_t *)data, -7));
    free(data);
    char **names;
    size_t count;
    cr_assert(eq(int, ff_h5_read_strings(&names, file, "names", &count, &err), 0));
    cr_assert(eq(sz, count, 3));
    cr_assert(eq(str, names[1], ""));
    cr_assert(eq(str, names[2], "\xc3\xa9 long name of a parameter"));
    ff_h5_free_strings(names, count);
    double value;
    int64_t iteration;
    char *text;
    cr_assert(eq(int, ff_h5_get_f64(&value, file, "lambda", &err), 0));
    cr_assert(eq(dbl, value, 5e-5));
    cr_assert(eq(int, ff_h5_get_i64(&iteration, file, "iteration", &err), 0));
    cr_assert(eq(i64, iteration, INT64_MAX));
    cr_assert(eq(int, ff_h5_get_text(&text, file, "grid", &err), 0));
    cr_assert(eq(str, text, "name: x\n# \xc3\xa9\n"));
    free(text);
    H5Fclose(file);
}

Test(h5io, existence)
{
    hid_t file = open_sample();
    cr_assert(ff_h5_exists(file, "momentum/bn1"));
    cr_assert(ff_h5_exists(file, "momentum"));
    cr_assert(not(ff_h5_exists(file, "momentum/bn2")));
    cr_assert(not(ff_h5_exists(file, "none/bn1")));
    cr_assert(not(ff_h5_exists(file, "")));
    cr_assert(ff_h5_has_attribute(file, "lambda"));
    cr_assert(not(ff_h5_has_attribute(file, "tau")));
    H5Fclose(file);
}

Test(h5io, equal_content_gives_equal_bytes)
{
    char other[FF_PATH_MAX], a[65], b[65];
    ff_path(other, NULL, "%s/b.h5", folder);
    write_sample(path);
    sleep(1); /* a time stamp would differ now */
    write_sample(other);
    cr_assert(eq(int, ff_sha256_file(a, path, NULL), 0));
    cr_assert(eq(int, ff_sha256_file(b, other, NULL), 0));
    cr_assert(eq(str, a, b));
}

static void starts(const struct ff_err *err, const char *rest)
{
    char expected[FF_PATH_MAX + 200];
    snprintf(expected, sizeof expected, "%s: %s", path, rest);
    cr_assert(strncmp(err->text, expected, strlen(expected)) == 0, "got \"%s\"",
              err->text);
    cr_assert(eq(ptr, strchr(err->text, '\n'), NULL));
}

Test(h5io, refusals_name_file_and_dataset)
{
    hid_t file = open_sample();
    struct ff_err err = FF_ERR_INIT;
    hsize_t dims[2] = {3, 0}, one = 0;
    void *data;
    cr_assert(eq(int,
                 ff_h5_read(&data, file, "layer1.0.conv1.weight", H5T_NATIVE_FLOAT, 2,
                            dims, &err),
                 FF_EDATA));
    starts(&err, "layer1.0.conv1.weight: shape (2, 3) where (3, *) is expected");
    cr_assert(eq(ptr, data, NULL));
    cr_assert(eq(
        int, ff_h5_read(&data, file, "momentum/bn1", H5T_NATIVE_FLOAT, 1, &one, &err),
        FF_EDATA));
    starts(&err, "momentum/bn1: shape () where (*) is expected");
    cr_assert(eq(int,
                 ff_h5_read(&data, file, "fc.bias", H5T_NATIVE_FLOAT, 1, &one, &err),
                 FF_EDATA));
    starts(&err, "fc.bias: not in the file");
    cr_assert(eq(int, ff_h5_read(&data, file, "names", H5T_NATIVE_FLOAT, 1, &one, &err),
                 FF_EDATA));
    starts(&err, "names: holds no numbers");
    char **names;
    size_t count;
    cr_assert(
        eq(int, ff_h5_read_strings(&names, file, "layer1.0.conv1.weight", &count, &err),
           FF_EDATA));
    starts(&err, "layer1.0.conv1.weight: holds no text");
    double value;
    cr_assert(eq(int, ff_h5_get_f64(&value, file, "tau", &err), FF_EDATA));
    starts(&err, "tau: no such attribute");
    cr_assert(eq(int, ff_h5_get_f64(&value, file, "grid", &err), FF_EDATA));
    starts(&err, "grid: attribute is no number");
    cr_assert(eq(int,
                 ff_h5_write(file, "new", H5T_NATIVE_FLOAT, 2, shape, weight, &err),
                 FF_EFAIL));
    starts(&err, "new: cannot write");
    H5Fclose(file);
}

Test(h5io, unreadable_files)
{
    hid_t file;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_h5_open(&file, path, false, &err), FF_EFAIL));
    starts(&err, "cannot open: No such file or directory");
    FILE *f = fopen(path, "w");
    fputs("no HDF5 at all", f);
    fclose(f);
    cr_assert(eq(int, ff_h5_open(&file, path, false, &err), FF_EDATA));
    starts(&err, "not an HDF5 file");
    write_sample(path);
    cr_assert(eq(int, truncate(path, 1500), 0));
    cr_assert(eq(int, ff_h5_open(&file, path, false, &err), FF_EDATA));
    starts(&err, "damaged or in use");
    cr_assert(eq(int, ff_h5_create(&file, "/nonexistent/a.h5", &err), FF_EFAIL));
    cr_assert(eq(int, strncmp(err.text, "/nonexistent/a.h5: cannot create", 32), 0));
}

Test(h5io, empty_and_foreign_fixed_length_texts)
{
    hid_t file;
    struct ff_err err = FF_ERR_INIT;
    hsize_t zero = 0, two = 2;
    void *data;
    char **names;
    size_t count;
    cr_assert(eq(int, ff_h5_create(&file, path, &err), 0));
    cr_assert(
        eq(int, ff_h5_write(file, "none", H5T_NATIVE_DOUBLE, 1, &zero, NULL, &err), 0));
    cr_assert(
        eq(int, ff_h5_read(&data, file, "none", H5T_NATIVE_DOUBLE, 1, &zero, &err), 0));
    free(data);
    cr_assert(eq(int, ff_h5_write_strings(file, "no_names", 1, &zero, NULL, &err), 0));
    cr_assert(eq(int, ff_h5_read_strings(&names, file, "no_names", &count, &err), 0));
    cr_assert(eq(sz, count, 0));
    ff_h5_free_strings(names, count);
    hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &two, NULL);
    H5Tset_size(type, 4);
    hid_t set =
        H5Dcreate2(file, "fixed", type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, "abcdx\0\0\0");
    H5Dclose(set);
    H5Sclose(space);
    H5Tclose(type);
    cr_assert(eq(int, ff_h5_read_strings(&names, file, "fixed", &count, &err), 0), "%s",
              err.text);
    cr_assert(eq(str, names[0], "abcd"));
    cr_assert(eq(str, names[1], "x"));
    ff_h5_free_strings(names, count);
    H5Fclose(file);
}
