/* SPDX-License-Identifier: MIT */
/* Messages: one line, whatever stands in the names and values they tell. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <errno.h>
#include <string.h>

#include "err.h"

Test(err, control_characters_are_shown)
{
    struct ff_err err;
    cr_assert(
        eq(int, ff_err_set(&err, FF_EDATA, "%s", "a\033[2Jb\r\n\x7f\t"), FF_EDATA));
    cr_assert(eq(str, err.text, "a\\x1b[2Jb\\x0d\\x0a\\x7f\\x09"));
    errno = ENOENT;
    ff_err_errno(&err, FF_EFAIL, "x\n.yaml");
    cr_assert(eq(str, err.text, "x\\x0a.yaml: No such file or directory"));
}

Test(err, the_middle_of_a_long_text_goes)
{
    struct ff_err err;
    char path[4096], out[16];
    memset(path, 'p', sizeof path);
    path[sizeof path - 1] = 0;
    errno = ENOSPC;
    ff_err_errno(&err, FF_EFAIL, "%s: cannot write", path);
    cr_assert(eq(sz, strlen(err.text), sizeof err.text - 1));
    cr_assert(ne(ptr, strstr(err.text, "pp...pp"), NULL));
    cr_assert(
        ne(ptr, strstr(err.text, "p: cannot write: No space left on device"), NULL),
        "%s", err.text);
    ff_err_set(&err, FF_EFAIL, "%s: is no map", path);
    cr_assert(ne(ptr, strstr(err.text, "p: is no map"), NULL), "%s", err.text);
    ff_shorten(out, sizeof out, "0123456789abcde");
    cr_assert(eq(str, out, "0123456789abcde"));
    ff_shorten(out, sizeof out, "0123456789abcdef");
    cr_assert(eq(str, out, "012345...abcdef"));
    ff_shorten(out, sizeof out,
               "0123\xe2\x82\xac"
               "56789a\xe2\x82\xac"
               "cdef");
    cr_assert(eq(str, out, "0123...cdef"));
}

Test(err, other_text_is_left_alone)
{
    struct ff_err err;
    char text[2000];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 0;
    ff_err_set(&err, FF_EFAIL, "%s", "\xc3\xa9t\xc3\xa9 \xe2\x82\xac \\x0a");
    cr_assert(eq(str, err.text, "\xc3\xa9t\xc3\xa9 \xe2\x82\xac \\x0a"));
    ff_err_set(&err, FF_EFAIL, "%s", text);
    cr_assert(eq(sz, strlen(err.text), sizeof err.text - 1));
    memset(text, '\n', sizeof text - 1);
    ff_err_set(&err, FF_EFAIL, "%s", text);
    cr_assert(eq(sz, strlen(err.text), 4 * ((sizeof err.text - 1) / 4)));
}
