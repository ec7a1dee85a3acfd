/* SPDX-License-Identifier: MIT */
/* Landmark lists joined with a folder of identities. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include "data_fixture.h"
#include "landmarks.h"

static struct scratch scratch;
static struct ff_dataset *dataset;

static void setup(void)
{
    scratch_init(&scratch);
    write_file(at(&scratch, "set/ann/1 a.jpg"), "x", 1);
    write_file(at(&scratch, "set/bob/2.jpg"), "x", 1);
    cr_assert(eq(int, ff_dataset_open(&dataset, at(&scratch, "set"), NULL), 0));
}

static void teardown(void)
{
    ff_dataset_close(dataset);
    scratch_fini(&scratch);
}

TestSuite(landmarks, .init = setup, .fini = teardown, .timeout = 20);

static void expect_fails(const char *text, const char *message)
{
    struct ff_landmarks *landmarks = NULL;
    struct ff_err err = FF_ERR_INIT;
    write_file(at(&scratch, "list"), text, strlen(text));
    cr_assert(eq(int,
                 ff_landmarks_load(&landmarks, at(&scratch, "list"), dataset, &err),
                 FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, message), NULL), "\"%s\" lacks \"%s\"", err.text,
              message);
}

Test(landmarks, any_order_tabs_and_spaces_in_a_path)
{
    struct ff_landmarks *landmarks = NULL;
    struct ff_err err = FF_ERR_INIT;
    const char text[] = "./bob/2.jpg\t1 2\t3 4 5 6 7 8 9 10.5\r\n\n"
                        "ann/1 a.jpg -1 2e1 3 4 5 6 7 8 9 0";
    write_file(at(&scratch, "list"), text, strlen(text));
    int rc = ff_landmarks_load(&landmarks, at(&scratch, "list"), dataset, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(flt, landmarks[0].point[0][0], -1.0f));
    cr_assert(eq(flt, landmarks[0].point[0][1], 20.0f));
    cr_assert(eq(flt, landmarks[1].point[4][1], 10.5f));
    free(landmarks);
}

Test(landmarks, bad_lines_are_named)
{
    expect_fails("ann/1 a.jpg 1 2 3 4 5 6 7 8 9 10\nbob/2.jpg 1 2 3 4 5 6 7 8 9\n",
                 "list:2: expected a path and ten numbers; found \"bob/2.jpg 1 2");
    expect_fails("ann/1 a.jpg 1 2 3 4 5 6 7 8 9 x\n", "list:1: expected a path");
    expect_fails("ann/1 a.jpg 1 2 3 4 5 6 7 8 9 nan\n", "list:1: expected a path");
    expect_fails("1 2 3 4 5 6 7 8 9 10\n", "list:1: expected a path");
    expect_fails("ann/1 a.jpg 1 2 3 4 5 6 7 8 9 0\nbob/2.jpg 1 2 3 4 5 6 7 8 9 0\n"
                 "ann/1 a.jpg 1 2 3 4 5 6 7 8 9 0\n",
                 "list:3: ann/1 a.jpg stands in line 1 too");
    expect_fails("ann/1 a.jpg 1 2 3 4 5 6 7 8 9 0\n",
                 "no line for the image bob/2.jpg");
    expect_fails("", "no line for the image ann/1 a.jpg");
    expect_fails("ann/1 a.jpg 1 2 3 4 5 6 7 8 9 0\nbob/3.jpg 1 2 3 4 5 6 7 8 9 0\n"
                 "bob/2.jpg 1 2 3 4 5 6 7 8 9 0\n",
                 "list:2: the folder has no image bob/3.jpg");
}
