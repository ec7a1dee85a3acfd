/* SPDX-License-Identifier: MIT */
/* safetensors; see safetensors.h. cJSON reads the header, once; a tensor's entry is
 * checked as a whole when the file is opened, so that find cannot meet a bad one. */
#include "safetensors.h"

#include <cjson/cJSON.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "tensors are little endian");

#define MAX_HEADER_BYTES 100000000 /* as the format's own library */
#define METADATA "__metadata__"    /* an entry that is no tensor */

struct ff_safetensors {
    char *path;
    uint8_t *map;
    size_t bytes;
    const uint8_t *data; /* end of the header */
    int64_t data_bytes;
    cJSON *header;
};

static int element_bytes(const char *dtype)
{
    static const struct {
        const char *name;
        int bytes;
    } types[] = {{"F64", 8}, {"F32", 4}, {"F16", 2}, {"BF16", 2}, {"I64", 8},
                 {"I32", 4}, {"I16", 2}, {"I8", 1},  {"U8", 1},   {"BOOL", 1},
                 {"U16", 2}, {"U32", 4}, {"U64", 8}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (!strcmp(dtype, types[i].name))
            return types[i].bytes;
    return 0;
}

/* A JSON number as a whole number of 0 .. 2^53. */
static bool whole(int64_t *out, const cJSON *item)
{
    double v = cJSON_IsNumber(item) ? item->valuedouble : -1;
    if (!(v >= 0 && v <= 0x1p53) || v != floor(v))
        return false;
    *out = (int64_t)v;
    return true;
}

/* Fills t from an entry of the header; what is wrong with it, or NULL. */
static const char *entry(struct ff_safetensor *t, const struct ff_safetensors *file,
                         const cJSON *item)
{
    const cJSON *dtype = cJSON_GetObjectItemCaseSensitive(item, "dtype");
    const cJSON *shape = cJSON_GetObjectItemCaseSensitive(item, "shape");
    const cJSON *offsets = cJSON_GetObjectItemCaseSensitive(item, "data_offsets");
    const cJSON *dim;
    int64_t begin, end;
    if (!cJSON_IsString(dtype) || !element_bytes(dtype->valuestring))
        return "no known dtype";
    snprintf(t->dtype, sizeof t->dtype, "%s", dtype->valuestring);
    if (!cJSON_IsArray(shape))
        return "no shape";
    t->ndim = 0;
    t->count = 1;
    cJSON_ArrayForEach(dim, shape)
    {
        if (t->ndim == FF_SAFETENSORS_MAX_DIMS || !whole(&t->dims[t->ndim], dim) ||
            __builtin_mul_overflow(t->count, t->dims[t->ndim], &t->count))
            return "bad shape";
        t->ndim++;
    }
    if (cJSON_GetArraySize(offsets) != 2 ||
        !whole(&begin, cJSON_GetArrayItem(offsets, 0)) ||
        !whole(&end, cJSON_GetArrayItem(offsets, 1)))
        return "no data_offsets";
    if (begin > end || end > file->data_bytes)
        return "data_offsets outside the file";
    if (__builtin_mul_overflow(t->count, element_bytes(t->dtype), &t->bytes) ||
        t->bytes != end - begin)
        return "data_offsets do not fit dtype and shape";
    t->data = file->data + begin;
    return NULL;
}

static int check_header(struct ff_safetensors *file, struct ff_err *err)
{
    uint64_t length = 0;
    if (file->bytes >= sizeof length)
        memcpy(&length, file->map, sizeof length);
    if (file->bytes < sizeof length || length > MAX_HEADER_BYTES ||
        length > file->bytes - sizeof length)
        return ff_err_set(err, FF_EDATA,
                          "%s: no safetensors file (header of %llu bytes in %zu)",
                          file->path, (unsigned long long)length, file->bytes);
    file->data = file->map + sizeof length + length;
    file->data_bytes = (int64_t)(file->bytes - sizeof length - length);
    file->header =
        cJSON_ParseWithLength((const char *)file->map + sizeof length, length);
    if (!cJSON_IsObject(file->header))
        return ff_err_set(err, FF_EDATA, "%s: the header is no JSON object",
                          file->path);
    const cJSON *item;
    cJSON_ArrayForEach(item, file->header)
    {
        struct ff_safetensor t;
        if (!strcmp(item->string, METADATA))
            continue;
        const char *wrong = entry(&t, file, item);
        if (wrong)
            return ff_err_set(err, FF_EDATA, "%s: %.100s: %s", file->path, item->string,
                              wrong);
    }
    return 0;
}

int ff_safetensors_open(struct ff_safetensors **out, const char *path,
                        struct ff_err *err)
{
    struct stat st;
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ff_err_errno(err, FF_EDATA, "%s", path);
    struct ff_safetensors *file = calloc(1, sizeof *file);
    int rc = 0;
    if (!file || !(file->path = strdup(path)))
        rc = ff_err_set(err, FF_ENOMEM, "out of memory");
    else if (fstat(fd, &st))
        rc = ff_err_errno(err, FF_EFAIL, "%s", path);
    else
        file->bytes = (size_t)st.st_size;
    if (!rc && file->bytes) {
        void *map = mmap(NULL, file->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map == MAP_FAILED)
            rc = ff_err_errno(err, FF_EFAIL, "%s", path);
        else
            file->map = map;
    }
    close(fd);
    if (!rc)
        rc = check_header(file, err);
    if (rc) {
        ff_safetensors_close(file);
        return rc;
    }
    *out = file;
    return 0;
}

void ff_safetensors_close(struct ff_safetensors *file)
{
    if (!file)
        return;
    cJSON_Delete(file->header);
    if (file->map)
        munmap(file->map, file->bytes);
    free(file->path);
    free(file);
}

bool ff_safetensors_find(struct ff_safetensor *tensor,
                         const struct ff_safetensors *file, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(file->header, name);
    return item && !entry(tensor, file, item);
}

const char *ff_safetensors_name(const struct ff_safetensors *file, int i)
{
    const cJSON *item;
    cJSON_ArrayForEach(item, file->header)
    {
        if (strcmp(item->string, METADATA) && i-- == 0)
            return item->string;
    }
    return NULL;
}

/* IEEE half to float, exact. */
static float half(uint16_t h)
{
    int exponent = h >> 10 & 31;
    double mantissa = h & 1023;
    double value = exponent == 31  ? (mantissa > 0 ? NAN : INFINITY)
                   : exponent == 0 ? ldexp(mantissa, -24)
                                   : ldexp(1024 + mantissa, exponent - 25);
    return (float)(h >> 15 ? -value : value);
}

static float number(const char *dtype, const uint8_t *at)
{
    uint16_t half_bits;
    uint32_t bits;
    float value;
    double wide;
    if (!strcmp(dtype, "F64")) {
        memcpy(&wide, at, sizeof wide);
        return (float)wide;
    }
    if (!strcmp(dtype, "F32")) {
        memcpy(&value, at, sizeof value);
        return value;
    }
    memcpy(&half_bits, at, sizeof half_bits);
    if (!strcmp(dtype, "F16"))
        return half(half_bits);
    bits = (uint32_t)half_bits << 16; /* BF16 */
    memcpy(&value, &bits, sizeof value);
    return value;
}

int ff_safetensors_f32(float **values, const struct ff_safetensors *file,
                       const struct ff_safetensor *tensor, struct ff_err *err)
{
    const char *dtype = tensor->dtype;
    *values = NULL;
    if (dtype[0] != 'F' && strcmp(dtype, "BF16"))
        return ff_err_set(err, FF_EDATA, "%s: dtype %s where floats are expected",
                          file->path, dtype);
    size_t count = (size_t)tensor->count, bytes = (size_t)element_bytes(dtype);
    float *out = malloc((count + 1) * sizeof *out);
    if (!out)
        return ff_err_set(err, FF_ENOMEM, "out of memory for %zu numbers", count);
    for (size_t i = 0; i < count; i++)
        out[i] = number(dtype, tensor->data + i * bytes);
    *values = out;
    return 0;
}
