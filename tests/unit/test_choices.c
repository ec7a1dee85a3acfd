/* SPDX-License-Identifier: MIT */
/* Tuned choices: the table, its text, and a cache file that several write and that may
 * be damaged. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cuda_choices.h"

static char folder[64];
static const struct cuda_choices_device h200 = {"NVIDIA H200", 90, 13000, 91900, false};
#define HEADER "# fastface choices 1: NVIDIA H200, sm_90, driver 13000, cuDNN 91900\n"
#define CONV_A "conv 64->64 3x3 s1 112x112 N128 fp16 forward"
#define CONV_B "conv 64->64 3x3 s2 112x112 N128 fp16 backward data"

static void setup(void)
{
    strcpy(folder, "/tmp/ff_choices_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    setenv("XDG_CACHE_HOME", folder, 1);
}

static void teardown(void)
{
    ff_remove_tree(folder, NULL);
}

TestSuite(choices, .init = setup, .fini = teardown, .timeout = 60);

static void put(struct cuda_choices *t, const char *problem, const char *choice)
{
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, cuda_choices_set(t, problem, choice, &err), 0), "%s", err.text);
}

static void check(const struct cuda_choices *t, const char *problem, const char *choice)
{
    const char *got = cuda_choices_get(t, problem);
    cr_assert(got && !strcmp(got, choice), "%s: %s instead of %s", problem,
              got ? got : "nothing", choice);
}

static void cache_path(char path[FF_PATH_MAX])
{
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, cuda_choices_path(path, &h200, &err), 0), "%s", err.text);
}

static void write_cache(const char *text, size_t bytes)
{
    char path[FF_PATH_MAX], parent[FF_PATH_MAX];
    cache_path(path);
    ff_path(parent, NULL, "%s/fastface", folder);
    cr_assert(eq(int, ff_mkdirs(parent, NULL), 0));
    FILE *f = fopen(path, "w");
    fwrite(text, 1, bytes, f);
    fclose(f);
}

static void check_cache(const char *want)
{
    char path[FF_PATH_MAX], *text;
    size_t bytes;
    cache_path(path);
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, NULL), 0));
    cr_assert(eq(str, text, (char *)want));
    free(text);
}

Test(choices, the_table_is_sorted_and_replaces)
{
    struct cuda_choices t = CUDA_CHOICES_INIT;
    cr_assert(eq(ptr, (void *)cuda_choices_get(&t, "a"), NULL));
    for (int i = 0; i < 1000; i++) {
        char problem[16], choice[16];
        snprintf(problem, sizeof problem, "p%03d", i * 7 % 1000);
        snprintf(choice, sizeof choice, "eng%d", i);
        put(&t, problem, choice);
    }
    cr_assert(eq(int, t.count, 1000));
    for (int i = 0; i + 1 < t.count; i++)
        cr_assert(lt(int, strcmp(t.items[i].problem, t.items[i + 1].problem), 0));
    check(&t, "p007", "eng1");
    put(&t, "p007", "eng99 k2=1");
    check(&t, "p007", "eng99 k2=1");
    cr_assert(eq(int, t.count, 1000));
    cuda_choices_fini(&t);
    cr_assert(eq(int, t.count, 0));
    cuda_choices_fini(&t);
}

Test(choices, merge_keeps_or_replaces)
{
    struct cuda_choices t = CUDA_CHOICES_INIT, more = CUDA_CHOICES_INIT;
    put(&t, "a", "1");
    put(&t, "b", "1");
    put(&more, "b", "2");
    put(&more, "c", "2");
    cr_assert(eq(int, cuda_choices_merge(&t, &more, false, NULL), 0));
    check(&t, "a", "1");
    check(&t, "b", "1");
    check(&t, "c", "2");
    cr_assert(eq(int, cuda_choices_merge(&t, &more, true, NULL), 0));
    check(&t, "b", "2");
    cr_assert(eq(int, t.count, 3));
    cuda_choices_fini(&more);
    cuda_choices_fini(&t);
}

Test(choices, what_cannot_be_a_line_is_refused)
{
    static const char *const bad[] = {"",     " a",   "a ",      "a\nb",
                                      "a: b", "a\tb", "\xc3\xa4"};
    struct cuda_choices t = CUDA_CHOICES_INIT;
    char longest[CUDA_CHOICES_TEXT + 1];
    struct ff_err err = FF_ERR_INIT;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        cr_assert(eq(int, cuda_choices_set(&t, bad[i], "x", &err), FF_EUSAGE));
        cr_assert(eq(int, cuda_choices_set(&t, "x", bad[i], &err), FF_EUSAGE));
    }
    memset(longest, 'a', sizeof longest);
    longest[CUDA_CHOICES_TEXT] = 0;
    cr_assert(eq(int, cuda_choices_set(&t, longest, "x", &err), FF_EUSAGE));
    longest[CUDA_CHOICES_TEXT - 1] = 0;
    cr_assert(eq(int, cuda_choices_set(&t, longest, longest, &err), 0));
    char *text = cuda_choices_text(&t, "# fastface choices 1: x");
    struct cuda_choices again = CUDA_CHOICES_INIT;
    cr_assert(eq(int, cuda_choices_parse(&again, text, "t", NULL, &err), 0), "%s",
              err.text);
    check(&again, longest, longest);
    free(text);
    cuda_choices_fini(&again);
    cuda_choices_fini(&t);
}

Test(choices, a_text_comes_back)
{
    char header[CUDA_CHOICES_HEADER];
    struct cuda_choices t = CUDA_CHOICES_INIT, again = CUDA_CHOICES_INIT;
    struct ff_err err = FF_ERR_INIT;
    put(&t, CONV_B, "eng73 k2=0 k13=1");
    put(&t, CONV_A, "eng62 k2=0");
    char *text = cuda_choices_text(&t, cuda_choices_header(header, &h200));
    cr_assert(
        eq(str, text, HEADER CONV_A ": eng62 k2=0\n" CONV_B ": eng73 k2=0 k13=1\n"));
    put(&again, CONV_A, "eng0");
    put(&again, "other", "eng0");
    int rc = cuda_choices_parse(&again, text, "checkpoint", header, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    check(&again, CONV_A, "eng62 k2=0");
    check(&again, CONV_B, "eng73 k2=0 k13=1");
    check(&again, "other", "eng0");
    free(text);
    cuda_choices_fini(&again);
    cuda_choices_fini(&t);
    text = cuda_choices_text(&t, header); /* of nothing */
    cr_assert(eq(int, cuda_choices_parse(&again, text, "t", header, &err), 0));
    cr_assert(eq(int, again.count, 0));
    free(text);
}

Test(choices, headers_tell_devices_apart)
{
    struct cuda_choices_device d = h200;
    char a[CUDA_CHOICES_HEADER], b[CUDA_CHOICES_HEADER];
    char pa[FF_PATH_MAX], pb[FF_PATH_MAX];
    cuda_choices_header(a, &h200);
    cache_path(pa);
    for (int i = 0; i < 5; i++) {
        d = h200;
        d.name = i == 0 ? "NVIDIA H100" : d.name;
        d.sm += i == 1;
        d.driver += i == 2;
        d.cudnn += i == 3;
        d.deterministic = i == 4;
        cr_assert(ne(str, a, cuda_choices_header(b, &d)));
        cr_assert(eq(int, cuda_choices_path(pb, &d, NULL), 0));
        cr_assert(ne(str, pa, pb));
    }
    d.name = "a\n\xff name that is longer than any GPU's: "
             "0123456789012345678901234567890123456789012345678901234567890123456789"
             "0123456789012345678901234567890123456789012345678901234567890123456789";
    cuda_choices_header(a, &d);
    cr_assert(eq(ptr, strchr(a, '\n'), NULL));
    cr_assert(strstr(a, ", sm_90, driver 13000, cuDNN 91900, deterministic") != NULL);
    cr_assert(eq(int, cuda_choices_path(pa, &d, NULL), 0));
    cr_assert(lt(sz, strlen(strrchr(pa, '/')), 200));
}

Test(choices, a_damaged_text_is_refused_whole)
{
    static const struct {
        const char *text, *error;
    } bad[] = {{"", "ckpt:1: does not begin with \"# fastface choices 1: \""},
               {"# fastface choices 2: x\n", "ckpt:1: does not begin"},
               {"# fastface choices 1: x", "ckpt:1: does not begin"},
               {HEADER "a: 1\nb 2\n", "ckpt:3: no \"problem: choice\""},
               {HEADER "a: 1\nb: 2", "ckpt:3: the line has no end"},
               {HEADER "a: 1\na: 2\n", "ckpt:3: a problem that was there already"},
               {HEADER "a: 1\n\nb: 2\n", "ckpt:3: no \"problem: choice\""},
               {HEADER "a: 1\nb: 2 \n", "ckpt:3: no \"problem: choice\""},
               {HEADER "a:1\n", "ckpt:2: no \"problem: choice\""},
               {HEADER "a:\n", "ckpt:2: no \"problem: choice\""},
               {HEADER "a: \n", "ckpt:2: no \"problem: choice\""},
               {HEADER ": 1\n", "ckpt:2: no \"problem: choice\""},
               {HEADER "a: b: 1\n", "ckpt:2: no \"problem: choice\""},
               {HEADER "a: 1\r\n", "ckpt:2: no \"problem: choice\""}};
    struct cuda_choices t = CUDA_CHOICES_INIT;
    put(&t, "z", "1");
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ff_err err = FF_ERR_INIT;
        int rc = cuda_choices_parse(&t, bad[i].text, "ckpt", NULL, &err);
        cr_assert(eq(int, rc, FF_EDATA), "%s", bad[i].text);
        cr_assert(strncmp(err.text, bad[i].error, strlen(bad[i].error)) == 0, "%s",
                  err.text);
        cr_assert(eq(int, t.count, 1));
    }
    cuda_choices_fini(&t);
}

Test(choices, a_text_of_another_device_is_told_by_its_code)
{
    struct cuda_choices t = CUDA_CHOICES_INIT;
    struct ff_err err = FF_ERR_INIT;
    int rc = cuda_choices_parse(&t, "# fastface choices 1: T4\na: 1\n", "ckpt",
                                "# fastface choices 1: H200", &err);
    cr_assert(eq(int, rc, FF_EUSAGE));
    cr_assert(eq(str, err.text,
                 "ckpt:1: \"# fastface choices 1: T4\" instead of \"# fastface choices "
                 "1: H200\""));
    cr_assert(eq(int, t.count, 0));
}

Test(choices, the_cache_folder_is_the_users)
{
    char path[FF_PATH_MAX];
    struct ff_err err = FF_ERR_INIT;
    setenv("XDG_CACHE_HOME", "/x", 1);
    cache_path(path);
    cr_assert(
        eq(str, path, "/x/fastface/nvidia-h200-sm90-driver13000-cudnn91900.choices"));
    setenv("HOME", "/home/a", 1);
    setenv("XDG_CACHE_HOME", "relative", 1);
    cache_path(path);
    cr_assert(strncmp(path, "/home/a/.cache/fastface/nvidia", 30) == 0);
    unsetenv("XDG_CACHE_HOME");
    cache_path(path);
    cr_assert(strncmp(path, "/home/a/.cache/fastface/nvidia", 30) == 0);
    unsetenv("HOME");
    cr_assert(eq(int, cuda_choices_path(path, &h200, &err), FF_EUSAGE));
    cr_assert(strstr(err.text, "XDG_CACHE_HOME") != NULL, "%s", err.text);
}

Test(choices, the_cache_grows_from_run_to_run)
{
    struct cuda_choices t = CUDA_CHOICES_INIT, other = CUDA_CHOICES_INIT;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, cuda_choices_load(&t, &h200, &err), 0), "%s", err.text);
    cr_assert(eq(int, t.count, 0)); /* no file yet */
    put(&t, "b", "1");
    put(&t, "a", "1");
    cr_assert(eq(int, cuda_choices_save(&t, &h200, &err), 0), "%s", err.text);
    check_cache(HEADER "a: 1\nb: 1\n");
    put(&other, "b", "2");
    put(&other, "c", "2");
    cr_assert(eq(int, cuda_choices_save(&other, &h200, &err), 0), "%s", err.text);
    check_cache(HEADER "a: 1\nb: 2\nc: 2\n");
    cr_assert(eq(int, other.count, 2));
    cr_assert(eq(int, cuda_choices_load(&t, &h200, &err), 0), "%s", err.text);
    check(&t, "b", "2");
    cr_assert(eq(int, t.count, 3));
    cuda_choices_fini(&other);
    cuda_choices_fini(&t);
}

Test(choices, a_cache_with_another_header_is_ignored_then_replaced)
{
    struct cuda_choices t = CUDA_CHOICES_INIT;
    struct ff_err err = FF_ERR_INIT;
    const char other[] =
        "# fastface choices 1: NVIDIA H200, sm_90, driver 12000, cuDNN "
        "91900\na: 1\n";
    write_cache(other, strlen(other));
    cr_assert(eq(int, cuda_choices_load(&t, &h200, &err), 0), "%s", err.text);
    cr_assert(eq(int, t.count, 0));
    put(&t, "b", "2");
    cr_assert(eq(int, cuda_choices_save(&t, &h200, &err), 0), "%s", err.text);
    check_cache(HEADER "b: 2\n");
    cuda_choices_fini(&t);
}

/* Loads, and gives what was printed to stderr. */
static char *load_with_warnings(struct cuda_choices *t)
{
    char path[FF_PATH_MAX], *text;
    size_t bytes;
    struct ff_err err = FF_ERR_INIT;
    ff_path(path, NULL, "%s/stderr", folder);
    fflush(stderr);
    int kept = dup(STDERR_FILENO), fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    dup2(fd, STDERR_FILENO);
    close(fd);
    int rc = cuda_choices_load(t, &h200, &err);
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(int, ff_read_file(&text, &bytes, path, NULL), 0));
    return text;
}

static int lines_of(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

Test(choices, damaged_lines_of_the_cache_are_left_out)
{
    static const struct {
        const char *text;
        size_t bytes; /* 0 = all */
        int entries;
        const char *warning;
    } bad[] = {
        {HEADER "a: 1\nb 2\nc: 3\n", 0, 2, ":3: no \"problem: choice\"; the line is"},
        {HEADER "b: 1\n??\n\na: 3\n", 0, 2, ":3: no \"problem: choice\"; 2 such lines"},
        {HEADER "a: 1\nb: 2\nc: 3", 0, 2, ":4: the line has no end; the line is"},
        {HEADER "a: 1\na: 2\n", 0, 1, ":3: a problem that was there already"},
        {HEADER "a: 1\n\0: 2\n", sizeof HEADER - 1 + 10, 1, "zero byte"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct cuda_choices t = CUDA_CHOICES_INIT;
        struct ff_err err = FF_ERR_INIT;
        write_cache(bad[i].text, bad[i].bytes ? bad[i].bytes : strlen(bad[i].text));
        char *warnings = load_with_warnings(&t);
        cr_assert(eq(int, t.count, bad[i].entries), "%zu", i);
        check(&t, "a", strstr(bad[i].text, "a: 3") ? "3" : "1");
        cr_assert(eq(int, lines_of(warnings), 1), "%s", warnings);
        cr_assert(strstr(warnings, bad[i].warning) != NULL, "%s", warnings);
        free(warnings);
        /* Saved again, it is whole. */
        cr_assert(eq(int, cuda_choices_save(&t, &h200, &err), 0), "%s", err.text);
        warnings = load_with_warnings(&t);
        cr_assert(eq(str, warnings, ""));
        free(warnings);
        cuda_choices_fini(&t);
    }
}

Test(choices, writers_at_once_lose_nothing)
{
    enum { WRITERS = 8, ENTRIES = 12 };
    pid_t pids[WRITERS];
    for (int w = 0; w < WRITERS; w++) {
        pids[w] = fork();
        if (pids[w])
            continue;
        for (int i = 0; i < ENTRIES; i++) {
            char problem[32];
            struct cuda_choices t = CUDA_CHOICES_INIT;
            snprintf(problem, sizeof problem, "w%d p%02d", w, i);
            if (cuda_choices_set(&t, problem, "eng1", NULL) ||
                cuda_choices_set(&t, "shared", "eng2", NULL) ||
                cuda_choices_save(&t, &h200, NULL))
                _exit(1);
            cuda_choices_fini(&t);
        }
        _exit(0);
    }
    /* A reader needs no lock and never sees half a file. */
    for (int i = 0; i < 50; i++) {
        struct cuda_choices t = CUDA_CHOICES_INIT;
        char *warnings = load_with_warnings(&t);
        cr_assert(eq(str, warnings, ""));
        free(warnings);
        cuda_choices_fini(&t);
    }
    for (int w = 0; w < WRITERS; w++) {
        int status;
        waitpid(pids[w], &status, 0);
        cr_assert(eq(int, status, 0));
    }
    struct cuda_choices t = CUDA_CHOICES_INIT;
    cr_assert(eq(int, cuda_choices_load(&t, &h200, NULL), 0));
    cr_assert(eq(int, t.count, WRITERS *ENTRIES + 1));
    cuda_choices_fini(&t);
}

Test(choices, a_folder_that_cannot_be_written_is_an_error)
{
    struct cuda_choices t = CUDA_CHOICES_INIT;
    struct ff_err err = FF_ERR_INIT;
    char path[FF_PATH_MAX];
    ff_path(path, NULL, "%s/fastface", folder);
    fclose(fopen(path, "w")); /* a file stands where the folder goes */
    put(&t, "a", "1");
    cr_assert(eq(int, cuda_choices_save(&t, &h200, &err), FF_EFAIL), "%s", err.text);
    cr_assert(strstr(err.text, path) != NULL, "%s", err.text);
    cuda_choices_fini(&t);
}
