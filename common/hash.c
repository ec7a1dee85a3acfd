/* SPDX-License-Identifier: MIT */
/* SHA-256 in hex; see hash.h. */
#include "hash.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <sha256.h>

static void finish(char out[FF_SHA256_HEX], SHA256_CTX *context)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256Final(digest, context);
    for (int i = 0; i < SHA256_DIGEST_LENGTH; i++) {
        out[2 * i] = digits[digest[i] >> 4];
        out[2 * i + 1] = digits[digest[i] & 15];
    }
    out[2 * SHA256_DIGEST_LENGTH] = 0;
}

void ff_sha256(char out[FF_SHA256_HEX], const void *data, size_t bytes)
{
    SHA256_CTX context;
    SHA256Init(&context);
    if (bytes)
        SHA256Update(&context, data, bytes);
    finish(out, &context);
}

int ff_sha256_file(char out[FF_SHA256_HEX], const char *path, struct ff_err *err)
{
    FILE *f = fopen(path, "re");
    if (!f)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot read", path);
    SHA256_CTX context;
    SHA256Init(&context);
    unsigned char buffer[1 << 16];
    size_t n;
    while ((n = fread(buffer, 1, sizeof buffer, f)) > 0)
        SHA256Update(&context, buffer, n);
    int rc = 0;
    if (ferror(f))
        rc = ff_err_errno(err, FF_EFAIL, "%s: cannot read", path);
    fclose(f);
    finish(out, &context);
    return rc;
}
