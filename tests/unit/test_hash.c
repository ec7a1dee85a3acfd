/* SPDX-License-Identifier: MIT */
/* SHA-256 against the published vectors of FIPS 180. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hash.h"

Test(hash, known_answers)
{
    char hex[FF_SHA256_HEX];
    ff_sha256(hex, "", 0);
    cr_assert(eq(str, hex,
                 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"));
    ff_sha256(hex, "abc", 3);
    cr_assert(eq(str, hex,
                 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"));
}

Test(hash, file_of_a_million_a)
{
    char path[] = "/tmp/ff_hash_XXXXXX", hex[FF_SHA256_HEX];
    struct ff_err err = FF_ERR_INIT;
    FILE *f = fdopen(mkstemp(path), "w");
    for (int i = 0; i < 1000000; i++)
        fputc('a', f);
    fclose(f);
    cr_assert(eq(int, ff_sha256_file(hex, path, &err), 0));
    cr_assert(eq(str, hex,
                 "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"));
    unlink(path);
    cr_assert(eq(int, ff_sha256_file(hex, path, &err), FF_EFAIL));
    cr_assert(eq(int, strncmp(err.text, path, strlen(path)), 0));
}
