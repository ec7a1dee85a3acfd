/* SPDX-License-Identifier: MIT */
/* The two kinds of training set behind one view: order, labels, fingerprints. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "data_fixture.h"
#include "dataset.h"
#include "dataset_priv.h"

static struct scratch scratch;

static void setup(void)
{
    scratch_init(&scratch);
}

static void teardown(void)
{
    scratch_fini(&scratch);
}

TestSuite(dataset, .init = setup, .fini = teardown, .timeout = 20);

static struct ff_dataset *open_set(const char *name)
{
    struct ff_dataset *dataset = NULL;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_dataset_open(&dataset, at(&scratch, name), &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return dataset;
}

static void expect_open_fails(const char *name, int code, const char *text)
{
    struct ff_dataset *dataset = NULL;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_dataset_open(&dataset, at(&scratch, name), &err), code));
    cr_assert(ne(ptr, strstr(err.text, text), NULL), "\"%s\" lacks \"%s\"", err.text,
              text);
}

static void put(const char *name, const char *text)
{
    write_file(at(&scratch, name), text, strlen(text));
}

Test(dataset, folder_order_is_that_of_image_folder)
{
    /* Identities by bytes: capitals first. Below one, folders by whole path. */
    put("set/bob/z.jpg", "0");
    put("set/Zoe/b.png", "1");
    put("set/Zoe/B.JPG", "2");
    put("set/bob/a/c/1.jpeg", "3");
    put("set/bob/a-b/1.jpg", "4");
    put("set/bob/a/.10.jpg", "5");
    put("set/bob/notes.txt", "6");
    put("set/readme.jpg", "7");
    const char *const names[] = {"Zoe/B.JPG",     "Zoe/b.png",     "bob/z.jpg",
                                 "bob/a/.10.jpg", "bob/a-b/1.jpg", "bob/a/c/1.jpeg"};
    const char content[] = "210543";
    const int64_t labels[] = {0, 0, 1, 1, 1, 1};
    struct ff_dataset *dataset = open_set("set");
    cr_assert(eq(i64, ff_dataset_count(dataset), 6));
    cr_assert(eq(i64, ff_dataset_classes(dataset), 2));
    cr_assert(not(ff_dataset_applies_exif(dataset)));
    struct ff_read_buffer buffer = {0};
    for (int64_t i = 0; i < 6; i++) {
        char where[256];
        const uint8_t *bytes;
        size_t size;
        int64_t label;
        ff_dataset_describe(where, sizeof where, dataset, i);
        cr_assert(eq(str, where, (char *)names[i]));
        cr_assert(eq(
            int, ff_dataset_read(&bytes, &size, &label, dataset, i, &buffer, NULL), 0));
        cr_assert(eq(sz, size, 1));
        cr_assert(eq(chr, (char)bytes[0], content[i]));
        cr_assert(eq(i64, label, labels[i]));
    }
    free(buffer.data);
    ff_dataset_close(dataset);
}

Test(dataset, folder_refuses_an_empty_identity)
{
    put("set/ann/1.jpg", "x");
    put("set/bob/notes.txt", "x");
    expect_open_fails("set", FF_EDATA, "set/bob: an identity without images");
}

Test(dataset, folder_names_a_picture_that_is_not_decoded)
{
    put("set/ann/1.jpg", "x");
    put("set/ann/2.WebP", "x");
    expect_open_fails("set", FF_EDATA, "set/ann/2.WebP: .WebP images are not decoded");
}

Test(dataset, folder_ends_a_loop_of_links)
{
    put("set/ann/1.jpg", "x");
    cr_assert(eq(int, symlink(".", at(&scratch, "set/ann/loop")), 0));
    expect_open_fails("set", FF_EDATA, "folders deep");
}

Test(dataset, folder_reports_a_file_that_went_away)
{
    put("set/ann/1.jpg", "x");
    struct ff_dataset *dataset = open_set("set");
    cr_assert(eq(int, unlink(at(&scratch, "set/ann/1.jpg")), 0));
    struct ff_read_buffer buffer = {0};
    struct ff_err err = FF_ERR_INIT;
    const uint8_t *bytes;
    size_t size;
    int64_t label;
    cr_assert(eq(int, ff_dataset_read(&bytes, &size, &label, dataset, 0, &buffer, &err),
                 FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "set/ann/1.jpg"), NULL));
    free(buffer.data);
    ff_dataset_close(dataset);
}

Test(dataset, refuses_what_is_no_training_set)
{
    put("set/notes.txt", "x");
    expect_open_fails("absent", FF_EUSAGE, "absent");
    expect_open_fails("set", FF_EUSAGE, "neither train.rec nor folders of identities");
    expect_open_fails("set/notes.txt", FF_EUSAGE, "a training set is a folder");
}

Test(dataset, record_is_described_by_key_and_offset)
{
    cr_assert(eq(int, make_set(at(&scratch, "set"), 2, 2, 16, 0), 0));
    struct ff_dataset *dataset = open_set("set");
    char where[256];
    ff_dataset_describe(where, sizeof where, dataset, 0);
    cr_assert(eq(str, where, "train.rec: record 1 (offset 40)"));
    cr_assert(ff_dataset_applies_exif(dataset));
    ff_dataset_close(dataset);
}

static void fingerprint(char out[65], const char *name)
{
    struct ff_dataset *dataset = open_set(name);
    cr_assert(eq(int, ff_dataset_fingerprint(out, dataset, NULL), 0));
    cr_assert(eq(sz, strlen(out), 64));
    ff_dataset_close(dataset);
}

Test(dataset, fingerprint_follows_content_not_place)
{
    char a[65], b[65], c[65];
    cr_assert(eq(int, make_set(at(&scratch, "one"), 2, 3, 16, 0), 0));
    cr_assert(eq(int, make_set(at(&scratch, "two"), 2, 3, 16, 0), 0));
    cr_assert(eq(int, make_set(at(&scratch, "three"), 3, 2, 16, 0), 0));
    fingerprint(a, "one");
    fingerprint(b, "two");
    fingerprint(c, "three");
    cr_assert(eq(str, a, b));
    cr_assert(ne(str, a, c));
    char *bytes = NULL;
    size_t size;
    cr_assert(
        eq(int, ff_read_file(&bytes, &size, at(&scratch, "two/train.rec"), NULL), 0));
    bytes[size / 2] ^= 1;
    write_file(at(&scratch, "two/train.rec"), bytes, size);
    free(bytes);
    fingerprint(b, "two");
    cr_assert(ne(str, a, b));
}

Test(dataset, folder_fingerprint_sees_names_and_content)
{
    char a[65], b[65];
    put("set/ann/1.jpg", "x");
    put("set/bob/1.jpg", "yy");
    fingerprint(a, "set");
    fingerprint(b, "set");
    cr_assert(eq(str, a, b));
    put("set/bob/1.jpg", "yz");
    fingerprint(b, "set");
    cr_assert(ne(str, a, b));
    put("set/bob/1.jpg", "yy");
    cr_assert(eq(
        int, rename(at(&scratch, "set/ann/1.jpg"), at(&scratch, "set/ann/2.jpg")), 0));
    fingerprint(b, "set");
    cr_assert(ne(str, a, b));
}

/* ---- the manifest of a folder ---- */

/* Sets a folder's mtime to the past, when nothing else changed it. */
static void settle(const char *name, time_t when)
{
    const struct timespec times[2] = {{when, 0}, {when, 0}};
    cr_assert(eq(int, utimensat(AT_FDCWD, at(&scratch, name), times, 0), 0));
}

static void put_folders(void)
{
    put("set/ann/1.jpg", "x");
    put("set/ann/sub/2.jpg", "yy");
    put("set/ann-b/3.png", "zzz");
    settle("set/ann/sub", 1000);
    settle("set/ann", 1000);
    settle("set/ann-b", 1000);
}

/* Opens the set; how many folders were read, and a fingerprint. */
static int64_t scanned(char print[65], int64_t *count)
{
    struct ff_dataset *dataset = open_set("set");
    int64_t result = ff_folder_scanned(dataset->folder);
    cr_assert(eq(int, ff_dataset_fingerprint(print, dataset, NULL), 0));
    *count = ff_dataset_count(dataset);
    ff_dataset_close(dataset);
    return result;
}

Test(dataset, manifest_spares_reading_unchanged_folders)
{
    char first[65], second[65];
    int64_t count;
    put_folders();
    cr_assert(eq(i64, scanned(first, &count), 3));
    cr_assert(eq(i64, count, 3));
    cr_assert(eq(i64, scanned(second, &count), 0));
    cr_assert(eq(i64, count, 3));
    cr_assert(eq(str, first, second));
    cr_assert(eq(int, unlink(at(&scratch, "set/.ff-manifest")), 0));
    cr_assert(eq(i64, scanned(second, &count), 3));
    cr_assert(eq(str, first, second));
}

Test(dataset, manifest_gives_way_to_a_changed_folder)
{
    char first[65], second[65];
    int64_t count;
    put_folders();
    scanned(first, &count);
    put("set/ann/sub/4.jpg", "w");
    settle("set/ann/sub", 2000);
    cr_assert(eq(i64, scanned(second, &count), 1));
    cr_assert(eq(i64, count, 4));
    cr_assert(ne(str, first, second));
    cr_assert(eq(i64, scanned(first, &count), 0));
    cr_assert(eq(str, first, second));
    /* A new identity, then one that goes. */
    put("set/bob/5.jpg", "v");
    settle("set/bob", 1000);
    cr_assert(eq(i64, scanned(first, &count), 1));
    cr_assert(eq(i64, count, 5));
    cr_assert(eq(int, ff_remove_tree(at(&scratch, "set/ann-b"), NULL), 0));
    cr_assert(eq(i64, scanned(first, &count), 0));
    cr_assert(eq(i64, count, 4));
    cr_assert(eq(i64, scanned(second, &count), 0));
    cr_assert(eq(str, first, second));
}

Test(dataset, manifest_does_not_trust_a_folder_that_just_changed)
{
    char print[65];
    int64_t count;
    put_folders();
    settle("set/ann-b", time(NULL) + 100);
    cr_assert(eq(i64, scanned(print, &count), 3));
    cr_assert(eq(i64, scanned(print, &count), 1));
}

Test(dataset, listed_file_that_changed_is_noticed_when_it_is_read)
{
    char print[65];
    int64_t count, label;
    put_folders();
    put("set/ann-b/4.jpg", "four");
    settle("set/ann-b", 1000);
    scanned(print, &count);
    cr_assert(eq(int, unlink(at(&scratch, "set/ann-b/3.png")), 0));
    settle("set/ann-b", 1000);
    put("set/ann-b/4.jpg", "four and more");
    put("set/ann/1.jpg", "");
    struct ff_dataset *dataset = open_set("set");
    cr_assert(eq(i64, ff_folder_scanned(dataset->folder), 0));
    cr_assert(eq(i64, ff_dataset_count(dataset), 4));
    static const char *const expected[] = {
        "set/ann/1.jpg: 0 bytes, 1 when the folder was listed", NULL,
        "set/ann-b/3.png: No such file",
        "set/ann-b/4.jpg: at least 5 bytes, 4 when the folder was listed"};
    struct ff_read_buffer buffer = {0};
    for (int64_t i = 0; i < 4; i++) {
        struct ff_err err = FF_ERR_INIT;
        const uint8_t *bytes;
        size_t size;
        int rc = ff_dataset_read(&bytes, &size, &label, dataset, i, &buffer, &err);
        cr_assert(eq(int, rc, expected[i] ? FF_EDATA : 0));
        cr_assert(ne(ptr, strstr(err.text, expected[i] ? expected[i] : ""), NULL),
                  "\"%s\" lacks \"%s\"", err.text, expected[i]);
    }
    free(buffer.data);
    cr_assert(eq(int, ff_folder_refresh(dataset->folder, NULL), FF_EDATA));
    put("set/ann-b/3.png", "back");
    settle("set/ann-b", 1000);
    cr_assert(eq(int, ff_folder_refresh(dataset->folder, NULL), 0));
    ff_dataset_close(dataset);
    dataset = open_set("set");
    cr_assert(eq(i64, ff_folder_scanned(dataset->folder), 0));
    cr_assert(eq(u64, ff_folder_bytes(dataset->folder), 0 + 2 + 4 + 13));
    ff_dataset_close(dataset);
}

Test(dataset, damaged_manifest_is_passed_over)
{
    char first[65], second[65], *text = NULL;
    size_t bytes;
    int64_t count;
    put_folders();
    scanned(first, &count);
    cr_assert(eq(
        int, ff_read_file(&text, &bytes, at(&scratch, "set/.ff-manifest"), NULL), 0));
    for (size_t at_byte = 0; at_byte < bytes; at_byte += 7) {
        char *copy = malloc(bytes);
        memcpy(copy, text, bytes);
        copy[at_byte] ^= 1;
        write_file(at(&scratch, "set/.ff-manifest"), copy, bytes);
        cr_assert(eq(i64, scanned(second, &count), 3), "byte %zu", at_byte);
        cr_assert(eq(str, first, second));
        write_file(at(&scratch, "set/.ff-manifest"), text, at_byte);
        cr_assert(eq(i64, scanned(second, &count), 3), "cut to %zu", at_byte);
        cr_assert(eq(str, first, second));
        free(copy);
    }
    cr_assert(eq(i64, scanned(second, &count), 0));
    free(text);
}

Test(dataset, read_only_folder_opens_without_a_manifest)
{
    char first[65], second[65];
    int64_t count;
    put_folders();
    cr_assert(eq(int, chmod(scratch.dir, 0777), 0));
    cr_assert(eq(int, chmod(at(&scratch, "set"), 0555), 0));
    /* Root may write anywhere; this test is a process of its own. */
    uid_t user = geteuid();
    cr_assert(eq(int, user == 0 ? seteuid(65534) : 0, 0));
    cr_assert(eq(i64, scanned(first, &count), 3));
    cr_assert(eq(i64, scanned(second, &count), 3));
    cr_assert(eq(str, first, second));
    cr_assert(eq(int, user == 0 ? seteuid(user) : 0, 0));
    cr_assert(ne(int, access(at(&scratch, "set/.ff-manifest"), F_OK), 0));
    cr_assert(eq(int, chmod(at(&scratch, "set"), 0755), 0));
}
