/* SPDX-License-Identifier: MIT */
/* Writes a network's tensors as safetensors, as the format's own library would. */
#ifndef FF_SAFETENSORS_FIXTURE_H
#define FF_SAFETENSORS_FIXTURE_H

#include "net_fixture.h"

/* A file of this header and data. */
static inline void put_safetensors(const char *path, const char *header,
                                   const void *data, size_t bytes)
{
    uint64_t length = strlen(header);
    FILE *f = fopen(path, "wb");
    cr_assert(ne(ptr, f, NULL));
    fwrite(&length, sizeof length, 1, f);
    fwrite(header, 1, length, f);
    fwrite(data, 1, bytes, f);
    fclose(f);
}

/* bf16: values are cut to their upper 16 bits, dtype BF16. */
static inline void save_safetensors(const char *path, const struct ff_model *m,
                                    bool bf16)
{
    size_t capacity = 512 * (size_t)m->named_count, used = 0, bytes = 0;
    int64_t total = 0;
    char *header = malloc(capacity);
    for (int i = 0; i < m->named_count; i++)
        total += ff_named_size(&m->named[i]);
    uint8_t *data = malloc((size_t)total * 4);
    used += (size_t)snprintf(header, capacity, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (int i = 0; i < m->named_count; i++) {
        const struct ff_named *n = &m->named[i];
        float *values;
        size_t begin = bytes;
        cr_assert(
            eq(int,
               ff_model_get(&values, m, n, n->trained ? &m->weight : &m->buffer, NULL),
               0));
        for (int64_t k = 0; k < ff_named_size(n); k++) {
            size_t width = bf16 ? 2 : 4;
            memcpy(data + bytes, (uint8_t *)&values[k] + 4 - width, width);
            bytes += width;
        }
        free(values);
        used += (size_t)snprintf(header + used, capacity - used,
                                 ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", n->name,
                                 bf16 ? "BF16" : "F32");
        for (int k = 0; k < n->ndim; k++)
            used += (size_t)snprintf(header + used, capacity - used, "%s%d",
                                     k ? "," : "", n->dims[k]);
        used += (size_t)snprintf(header + used, capacity - used,
                                 "],\"data_offsets\":[%zu,%zu]}", begin, bytes);
    }
    snprintf(header + used, capacity - used, "}  ");
    put_safetensors(path, header, data, bytes);
    free(header);
    free(data);
}

#endif
