/* SPDX-License-Identifier: MIT */
/* HDF5 helpers: round trips, refusals with file and dataset named, equal bytes. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
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
    starts(&err, "cut off: 1500 of 10240 bytes");
    cr_assert(eq(int, ff_h5_create(&file, "/nonexistent/a.h5", &err), FF_EFAIL));
    cr_assert(eq(int, strncmp(err.text, "/nonexistent/a.h5: cannot create", 32), 0));
}

/* The sample with `count` bytes at `at`, or at `at` behind the first `mark`, replaced.
 */
static void damage(const char *mark, size_t at, const void *bytes, size_t count)
{
    char *text;
    size_t size;
    write_sample(path);
    cr_assert(eq(int, ff_read_file(&text, &size, path, NULL), 0));
    char *start = mark ? memmem(text, size, mark, strlen(mark)) : text;
    cr_assert(ne(ptr, start, NULL));
    memcpy(start + at, bytes, count);
    FILE *f = fopen(path, "w");
    fwrite(text, 1, size, f);
    fclose(f);
    free(text);
}

static void open_fails(const char *message)
{
    hid_t file;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_h5_open(&file, path, false, &err), FF_EDATA));
    starts(&err, message);
}

Test(h5io, damaged_starts_are_refused)
{
    damage(NULL, 8, "\4", 1);
    open_fails("damaged: superblock version 4");
    damage(NULL, 13, "\4", 1);
    open_fails("damaged: addresses of 4 and 8 bytes");
    damage(NULL, 24, "\1", 1);
    open_fails("damaged: base address 1");
    damage(NULL, 45, "\x7f", 1);
    open_fails("cut off: 10240 of 139637976737792 bytes");
    damage(NULL, 48, "\0\1\0\0\0\0\0\0", 8);
    open_fails("damaged: driver block at 256");
    damage(NULL, 64, "\xff\xff\xff", 3);
    open_fails("root group at 16777215: damaged");
    /* the attribute lambda: class and size of its type */
    damage("lambda", 8, "\x16", 1);
    open_fails("root group at 96: an attribute is damaged");
    damage("lambda", 13, "\1", 1);
    open_fails("root group at 96: an attribute is damaged");
    /* the attribute grid: bytes of a reference to a text */
    damage("grid", 12, "\x0c", 1);
    open_fails("root group at 96: an attribute is damaged");
}

/* The second group's heap of names. */
Test(h5io, damaged_groups_hold_nothing)
{
    static const char sound[] = "HEAP\0\0\0\0\x58\0\0\0\0\0\0\0\x10";
    for (int k = 0; k < 4; k++) {
        char *bytes;
        size_t size;
        hid_t file;
        write_sample(path);
        cr_assert(eq(int, ff_read_file(&bytes, &size, path, NULL), 0));
        char *heap = memmem(bytes, size, sound, sizeof sound);
        cr_assert(ne(ptr, heap, NULL));
        if (k == 1)
            heap[13] = 1; /* bytes of the names */
        else if (k == 2)
            heap[32 + 0x10] = 0x10; /* the free room follows itself */
        else if (k == 3)
            heap[16] = 0x50; /* the free room begins at the end */
        FILE *f = fopen(path, "w");
        fwrite(bytes, 1, size, f);
        fclose(f);
        free(bytes);
        cr_assert(eq(int, ff_h5_open(&file, path, false, NULL), 0));
        cr_assert(eq(int, ff_h5_exists(file, "momentum/bn1"), k == 0), "%d", k);
        cr_assert(ff_h5_exists(file, "momentum"));
        H5Fclose(file);
    }
}

static void names_fail(const char *message)
{
    hid_t file;
    char **names;
    size_t count;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_h5_open(&file, path, false, &err), 0), "%s", err.text);
    cr_assert(
        eq(int, ff_h5_read_strings(&names, file, "names", &count, &err), FF_EDATA));
    starts(&err, message);
    H5Fclose(file);
}

Test(h5io, damaged_texts_are_refused)
{
    damage("GCOL", 0, "X", 1);
    names_fail("names: damaged: its text is not there");
    damage("GCOL", 13, "\1", 1); /* bytes of the collection */
    names_fail("names: damaged: its text is not there");
    damage("GCOL", 16, "\xff", 1); /* index of the first text */
    names_fail("names: damaged: its text is not there");
    damage("GCOL", 24, "\0\0\0\0\0\0\0\x80", 8); /* bytes of the first text */
    names_fail("names: damaged: its text is not there");
}

Test(h5io, a_flipped_bit_breaks_the_seal)
{
    struct ff_err err = FF_ERR_INIT;
    hid_t file;
    hsize_t dims[2] = {0, 0};
    void *data;
    cr_assert(eq(int, ff_h5_create(&file, path, &err), 0), "%s", err.text);
    cr_assert(eq(int,
                 ff_h5_write_sealed(file, "momentum/bn1", H5T_NATIVE_FLOAT, 2, shape,
                                    weight, &err),
                 0),
              "%s", err.text);
    H5Fclose(file);
    for (int broken = 0; broken < 2; broken++) {
        if (broken) {
            char *bytes, *at;
            size_t count;
            cr_assert(eq(int, ff_read_file(&bytes, &count, path, NULL), 0));
            at = memmem(bytes, count, weight, sizeof weight);
            cr_assert(ne(ptr, at, NULL));
            at[13] ^= 1;
            FILE *f = fopen(path, "w");
            cr_assert(eq(sz, fwrite(bytes, 1, count, f), count));
            fclose(f);
            free(bytes);
        }
        cr_assert(eq(int, ff_h5_open(&file, path, false, &err), 0), "%s", err.text);
        cr_assert(
            eq(int,
               ff_h5_read(&data, file, "momentum/bn1", H5T_NATIVE_FLOAT, 2, dims, &err),
               broken ? FF_EDATA : 0));
        if (broken)
            starts(&err,
                   "momentum/bn1: damaged: its values are not those of its crc32");
        free(data);
        H5Fclose(file);
    }
}

Test(h5io, a_seal_holds_for_the_attributes_it_saw)
{
    struct ff_err err = FF_ERR_INIT;
    hid_t file;
    write_sample(path);
    cr_assert(eq(int, ff_h5_open(&file, path, true, &err), 0), "%s", err.text);
    cr_assert(eq(int, ff_h5_seal(file, &err), 0), "%s", err.text);
    H5Fclose(file);
    for (int change = 0; change < 4; change++) {
        cr_assert(eq(int, ff_h5_open(&file, path, true, &err), 0), "%s", err.text);
        switch (change) {
        case 0: break;
        case 1: ff_h5_set_i64(file, "iteration", 2, &err); break;
        case 2: ff_h5_set_text(file, "grid", "name: y\n# \xc3\xa9\n", &err); break;
        case 3: H5Adelete(file, "lambda"); break;
        }
        H5Fclose(file);
        cr_assert(eq(int, ff_h5_open(&file, path, true, &err), change ? FF_EDATA : 0));
        if (!change) {
            H5Fclose(file);
            continue;
        }
        starts(&err, "attributes: damaged: their values are not those of their crc32");
        write_sample(path);
        cr_assert(eq(int, ff_h5_open(&file, path, true, &err), 0), "%s", err.text);
        cr_assert(eq(int, ff_h5_seal(file, &err), 0), "%s", err.text);
        H5Fclose(file);
    }
}

Test(h5io, many_texts_in_any_order)
{
    enum { COUNT = 5000 };
    static char store[COUNT][24];
    static const char *sent[COUNT];
    hid_t file;
    struct ff_err err = FF_ERR_INIT;
    hsize_t dims = COUNT, tail = COUNT - 10;
    char **names;
    size_t count;
    for (int i = 0; i < COUNT; i++) {
        snprintf(store[i], sizeof store[i], "%.*s%d", i % 9, "abcdefghi", i);
        sent[i] = store[i];
    }
    cr_assert(eq(int, ff_h5_create(&file, path, &err), 0));
    cr_assert(eq(int, ff_h5_write_strings(file, "names", 1, &dims, sent, &err), 0));
    /* Read from the file that is being written, and after it was closed. */
    for (int k = 0; k < 2; k++) {
        cr_assert(eq(int, ff_h5_read_strings(&names, file, "names", &count, &err), 0),
                  "%s", err.text);
        cr_assert(eq(sz, count, COUNT));
        for (int i = 0; i < COUNT; i++)
            cr_assert(eq(str, names[i], store[i]));
        ff_h5_free_strings(names, count);
        H5Fclose(file);
        cr_assert(eq(int, ff_h5_open(&file, path, false, &err), 0), "%s", err.text);
    }
    /* References exchanged in the file: texts are found before and behind the last. */
    hid_t set = H5Dopen2(file, "names", H5P_DEFAULT);
    size_t at = (size_t)H5Dget_offset(set);
    H5Dclose(set);
    H5Fclose(file);
    char *bytes, swap[16];
    size_t size;
    cr_assert(eq(int, ff_read_file(&bytes, &size, path, NULL), 0));
    for (size_t i = 0; i < 10; i++) {
        char *a = bytes + at + 16 * i, *b = bytes + at + 16 * (tail + i);
        memcpy(swap, a, 16);
        memcpy(a, b, 16);
        memcpy(b, swap, 16);
    }
    FILE *f = fopen(path, "w");
    fwrite(bytes, 1, size, f);
    fclose(f);
    free(bytes);
    cr_assert(eq(int, ff_h5_open(&file, path, false, &err), 0));
    cr_assert(eq(int, ff_h5_read_strings(&names, file, "names", &count, &err), 0), "%s",
              err.text);
    for (size_t i = 0; i < COUNT; i++) {
        size_t from = i < 10 ? tail + i : i < tail ? i : i - tail;
        cr_assert(eq(str, names[i], store[from]));
    }
    ff_h5_free_strings(names, count);
    H5Fclose(file);
}

Test(h5io, shapes_larger_than_the_file_are_refused)
{
    hid_t file;
    struct ff_err err = FF_ERR_INIT;
    hsize_t huge = (hsize_t)1 << 40, zero = 0;
    void *data;
    char **names;
    size_t count;
    hid_t text = H5Tcopy(H5T_C_S1), space = H5Screate_simple(1, &huge, NULL);
    H5Tset_size(text, H5T_VARIABLE);
    cr_assert(eq(int, ff_h5_create(&file, path, &err), 0));
    H5Dclose(H5Dcreate2(file, "none", H5T_IEEE_F64LE, space, H5P_DEFAULT, H5P_DEFAULT,
                        H5P_DEFAULT));
    H5Dclose(H5Dcreate2(file, "no_names", text, space, H5P_DEFAULT, H5P_DEFAULT,
                        H5P_DEFAULT));
    H5Sclose(space);
    H5Tclose(text);
    cr_assert(eq(int,
                 ff_h5_read(&data, file, "none", H5T_NATIVE_DOUBLE, 1, &zero, &err),
                 FF_EDATA));
    starts(&err, "none: damaged: its values are not all in the file");
    cr_assert(
        eq(int, ff_h5_read_strings(&names, file, "no_names", &count, &err), FF_EDATA));
    starts(&err, "no_names: damaged: its values are not all in the file");
    H5Fclose(file);
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

/* A process whose files may not grow further stands for a full disk; at its end the
 * library must not try once more. */
Test(h5io, full_disk_is_one_line_and_leaves_nothing)
{
    static const rlim_t sizes[] = {0, 100, 1000, 2000, 20000, 66000};
    static float values[64][256];
    static const hsize_t dims[2] = {64, 256};
    char start[FF_PATH_MAX + 8];
    snprintf(start, sizeof start, "%s: ", path);
    signal(SIGXFSZ, SIG_IGN);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct ff_h5_atomic out;
        struct ff_err err = FF_ERR_INIT;
        struct rlimit limit = {sizes[i], RLIM_INFINITY};
        cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
        int rc = ff_h5_begin(&out, path, &err);
        if (!rc) {
            rc = ff_h5_write(out.file, "weight", H5T_NATIVE_FLOAT, 2, dims, values,
                             &err);
            rc = ff_h5_end(&out, rc, &err);
        }
        cr_assert(eq(int, rc, FF_EFAIL), "%d", (int)sizes[i]);
        cr_assert(eq(int, strncmp(err.text, start, strlen(start)), 0), "%s", err.text);
        cr_assert(strstr(err.text, "File too large") != NULL, "%s", err.text);
        cr_assert(eq(ptr, strchr(err.text, '\n'), NULL), "%s", err.text);
        cr_assert(eq(int, rmdir(folder), 0)); /* empty: no temporary is left */
        cr_assert(eq(int, mkdir(folder, 0777), 0));
    }
}
