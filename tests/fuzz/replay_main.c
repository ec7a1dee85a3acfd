/* SPDX-License-Identifier: MIT */
/* Runs a fuzz target once over every file of the folders (or files) given: a corpus as
 * a test, without libFuzzer. Exit code 0 if there was at least one file. */
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int files;

static int replay(const char *path, const struct stat *st, int type, struct FTW *at)
{
    char *text;
    size_t bytes;
    struct ff_err err = FF_ERR_INIT;
    (void)st;
    (void)at;
    if (type != FTW_F)
        return 0;
    if (ff_read_file(&text, &bytes, path, &err)) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    /* A copy of exactly that length, so that a sanitizer sees a read past the end. */
    uint8_t *copy = malloc(bytes ? bytes : 1);
    if (!copy)
        return 1;
    memcpy(copy, text, bytes);
    free(text);
    fprintf(stderr, "%s\n", path); /* the last line names the input that crashed */
    LLVMFuzzerTestOneInput(copy, bytes);
    free(copy);
    files++;
    return 0;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (nftw(argv[i], replay, 16, 0))
            return 1;
    printf("%d inputs\n", files);
    return files ? 0 : 1;
}
