/* SPDX-License-Identifier: MIT */
/* Fuzz target of the .bin reader: whatever the bytes, a clear error or pairs whose
 * images lie inside what they claim. */
#include <stdint.h>
#include <stdlib.h>

#include "bin_pairs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ff_bin_pairs *pairs;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_bin_pairs_parse(&pairs, "fuzz.bin", data, size, &err);
    if (rc) {
        if (rc != FF_EDATA || !err.text[0] || pairs)
            abort();
        return 0;
    }
    volatile uint8_t sum = 0;
    for (int64_t i = 0; i < 2 * pairs->pairs; i++) {
        if (!pairs->image[i].size || pairs->image[i].size > size)
            abort();
        for (size_t k = 0; k < pairs->image[i].size; k++)
            sum = (uint8_t)(sum + pairs->image[i].bytes[k]);
    }
    int64_t same = 0;
    for (int64_t i = 0; i < pairs->pairs; i++)
        same += pairs->same[i];
    if (same != pairs->same_count)
        abort();
    ff_bin_pairs_close(pairs);
    return 0;
}
