/* SPDX-License-Identifier: MIT */
/* SHA-256 by libmd, as 64 lower-case hex digits. */
#ifndef FF_HASH_H
#define FF_HASH_H

#include <stddef.h>

#include "err.h"

#define FF_SHA256_HEX 65 /* 64 digits and the terminating zero */

void ff_sha256(char out[FF_SHA256_HEX], const void *data, size_t bytes);
/* Whole file. FF_EFAIL with the path if it cannot be read. */
int ff_sha256_file(char out[FF_SHA256_HEX], const char *path, struct ff_err *err);

#endif
