/* SPDX-License-Identifier: MIT */
/* Files of record: nothing under the final name before commit, nothing left behind. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "figure.h"
#include "h5io.h"

static char folder[64];

static void setup(void)
{
    strcpy(folder, "/tmp/ff_atomic_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
}

static void teardown(void)
{
    ff_remove_tree(folder, NULL);
    cr_assert(eq(int, access(folder, F_OK), -1));
}

TestSuite(atomic_file, .init = setup, .fini = teardown);

static int entries(void)
{
    int n = 0;
    DIR *dir = opendir(folder);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

Test(atomic_file, old_content_until_commit)
{
    char path[FF_PATH_MAX];
    char *text;
    size_t bytes;
    struct ff_atomic_file file;
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/x.yaml", folder);
    cr_assert(eq(int, ff_atomic_begin(&file, path, &err), 0));
    fputs("first", file.stream);
    cr_assert(eq(int, access(path, F_OK), -1));
    cr_assert(eq(int, ff_atomic_commit(&file, &err), 0));
    ff_atomic_abort(&file);
    cr_assert(eq(int, ff_atomic_begin(&file, path, &err), 0));
    fputs("second", file.stream);
    fflush(file.stream);
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, &err), 0));
    cr_assert(eq(str, text, "first"));
    cr_assert(eq(sz, bytes, 5));
    free(text);
    cr_assert(eq(int, ff_atomic_commit(&file, &err), 0));
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, &err), 0));
    cr_assert(eq(str, text, "second"));
    free(text);
    cr_assert(eq(int, entries(), 1));
}

Test(atomic_file, abort_leaves_nothing)
{
    char path[FF_PATH_MAX];
    struct ff_atomic_file file;
    ff_path(path, NULL, "%s/x", folder);
    cr_assert(eq(int, ff_atomic_begin(&file, path, NULL), 0));
    fputs("half", file.stream);
    ff_atomic_abort(&file);
    ff_atomic_abort(&file);
    cr_assert(eq(int, entries(), 0));
}

Test(atomic_file, failed_commit_removes_the_temporary)
{
    char path[FF_PATH_MAX];
    struct ff_atomic_file file;
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/x", folder);
    cr_assert(eq(int, mkdir(path, 0777), 0)); /* a folder stands where the file goes */
    cr_assert(eq(int, ff_atomic_begin(&file, path, &err), 0));
    cr_assert(eq(int, ff_atomic_commit(&file, &err), FF_EFAIL));
    cr_assert(ne(ptr, strstr(err.text, path), NULL));
    cr_assert(eq(int, entries(), 1));
}

/* A process that may write no more stands for a full disk. */
Test(atomic_file, full_disk_is_told_with_the_name_asked_for)
{
    char path[FF_PATH_MAX], want[FF_PATH_MAX + 64];
    struct ff_atomic_file file;
    struct ff_err err = FF_ERR_INIT;
    struct rlimit limit = {1000, 1000};
    static const int sizes[] = {2000, 200000}; /* found at the end; before */
    ff_path(path, NULL, "%s/x", folder);
    snprintf(want, sizeof want, "%s: cannot write: File too large", path);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &limit), 0));
    for (int i = 0; i < 2; i++) {
        cr_assert(eq(int, ff_atomic_begin(&file, path, &err), 0));
        for (int k = 0; k < sizes[i]; k++)
            fputc('x', file.stream);
        cr_assert(eq(int, ff_atomic_commit(&file, &err), FF_EFAIL));
        cr_assert(eq(str, err.text, want));
        cr_assert(eq(int, entries(), 0));
    }
}

/* As root, /dev/null would become a file. */
Test(atomic_file, a_pipe_is_refused_and_stays)
{
    char path[FF_PATH_MAX];
    struct stat st;
    struct ff_atomic_file file;
    struct ff_h5_atomic h5;
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/pipe", folder);
    cr_assert(eq(int, mkfifo(path, 0600), 0));
    cr_assert(eq(int, ff_atomic_begin(&file, path, &err), FF_EUSAGE));
    cr_assert(
        ne(ptr, strstr(err.text, "/pipe: cannot write: not a regular file"), NULL),
        "%s", err.text);
    cr_assert(eq(int, ff_h5_begin(&h5, path, &err), FF_EUSAGE));
    cr_assert(
        eq(int, ff_figure_write(path, true, 8, 8, 1, NULL, NULL, &err), FF_EUSAGE));
    cr_assert(eq(int, stat(path, &st), 0));
    cr_assert(eq(int, S_ISFIFO(st.st_mode) != 0, 1));
    cr_assert(eq(int, entries(), 1));
}

static void put(const char *path, const char *text)
{
    struct ff_atomic_file file;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_atomic_begin(&file, path, &err), 0), "%s", err.text);
    fputs(text, file.stream);
    cr_assert(eq(int, ff_atomic_commit(&file, &err), 0), "%s", err.text);
}

Test(atomic_file, a_link_stays_and_its_file_is_written)
{
    char path[FF_PATH_MAX], link[FF_PATH_MAX], *text;
    size_t bytes;
    struct stat st;
    ff_path(path, NULL, "%s/x.yaml", folder);
    ff_path(link, NULL, "%s/link", folder);
    put(path, "first");
    cr_assert(eq(int, symlink("x.yaml", link), 0));
    put(link, "second");
    cr_assert(eq(int, lstat(link, &st), 0));
    cr_assert(eq(int, S_ISLNK(st.st_mode) != 0, 1));
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, NULL), 0));
    cr_assert(eq(str, text, "second"));
    free(text);
    cr_assert(eq(int, entries(), 2));
    cr_assert(eq(int, unlink(path), 0)); /* leads nowhere now: a file in its place */
    put(link, "third");
    cr_assert(eq(int, entries(), 1));
}

Test(atomic_file, library_file_is_renamed)
{
    char path[FF_PATH_MAX], temporary[FF_PATH_MAX];
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/x.h5", folder);
    ff_path(temporary, NULL, "%s/x.h5.tmp", folder);
    FILE *f = fopen(temporary, "w");
    fputs("data", f);
    fclose(f);
    cr_assert(eq(int, ff_atomic_rename(temporary, path, &err), 0));
    cr_assert(eq(int, access(path, F_OK), 0));
    cr_assert(eq(int, entries(), 1));
    cr_assert(eq(int, ff_atomic_rename(temporary, path, &err), FF_EFAIL));
    cr_assert(eq(ptr, strstr(err.text, temporary), NULL));
    cr_assert(ne(ptr, strstr(err.text, path), NULL));
}

Test(atomic_file, folders_are_made_and_removed)
{
    char path[FF_PATH_MAX], file[FF_PATH_MAX], other[FF_PATH_MAX];
    struct stat st;
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/a/b//c/", folder);
    cr_assert(eq(int, ff_mkdirs(path, &err), 0), "%s", err.text);
    cr_assert(eq(int, ff_mkdirs(path, &err), 0), "%s", err.text);
    cr_assert(stat(path, &st) == 0 && S_ISDIR(st.st_mode));
    ff_path(file, NULL, "%s/a/b/file", folder);
    fclose(fopen(file, "w"));
    cr_assert(eq(int, ff_mkdirs(file, &err), FF_EFAIL));
    cr_assert(ne(ptr, strstr(err.text, "no folder"), NULL), "%s", err.text);
    ff_path(other, NULL, "%s/c", folder);
    cr_assert(eq(int, ff_mkdirs(other, &err), 0));
    ff_path(other, NULL, "%s/c/link", folder);
    ff_path(path, NULL, "%s/a", folder);
    cr_assert(eq(int, symlink(path, other), 0));
    ff_path(other, NULL, "%s/c", folder);
    cr_assert(eq(int, ff_remove_tree(other, &err), 0), "%s", err.text);
    cr_assert(eq(int, access(file, F_OK), 0)); /* the link went, not what it names */
    cr_assert(eq(int, ff_remove_tree(path, &err), 0));
    cr_assert(eq(int, entries(), 0));
    cr_assert(eq(int, ff_remove_tree(path, &err), 0));
}

Test(atomic_file, long_files_and_paths)
{
    char path[FF_PATH_MAX];
    char *data;
    size_t bytes;
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/long", folder);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 100000; i++)
        fputc(i * 7 & 255, f);
    fclose(f);
    cr_assert(eq(int, ff_read_file(&data, &bytes, path, &err), 0));
    cr_assert(eq(sz, bytes, 100000));
    for (int i = 0; i < 100000; i += 991)
        cr_assert(eq(int, (unsigned char)data[i], i * 7 & 255));
    free(data);
    cr_assert(eq(int, ff_read_file(&data, &bytes, "/nonexistent/x", &err), FF_EFAIL));
    cr_assert(
        eq(str, err.text, "/nonexistent/x: cannot read: No such file or directory"));
    cr_assert(eq(int, ff_read_file(&data, &bytes, folder, &err), FF_EFAIL));
    cr_assert(eq(int, ff_path(path, &err, "%5000d", 1), FF_EUSAGE));
}
