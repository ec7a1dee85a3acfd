/* SPDX-License-Identifier: MIT */
/* A whole RecordIO set out of one input: train.rec, train.idx and property.
 *
 * Input: u16 property bytes, u16 index bytes (little endian; 0xffff = no such file),
 * then property, index, and the rest is train.rec. Everything that a program asks of a
 * set is asked, up to the headers of its images. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "exif.h"
#include "image_header.h"
#include "log.h"
#include "recordio.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ABSENT = 0xffff };

static char folder[64];

static void remove_folder(void)
{
    ff_remove_tree(folder, NULL);
}

/* Writes dir/name, or removes it. */
static void put(const char *name, const uint8_t *bytes, size_t count, bool absent)
{
    char path[FF_PATH_MAX];
    ff_path(path, NULL, "%s/%s", folder, name);
    if (absent) {
        unlink(path);
        return;
    }
    FILE *f = fopen(path, "w");
    if (!f || fwrite(bytes, 1, count, f) != count || fclose(f) != 0)
        abort();
}

static void read_all(struct ff_recordio *rec)
{
    struct ff_read_buffer buffer = {0};
    char where[256], print[65];
    int width, height;
    for (int64_t i = 0; i < ff_recordio_count(rec); i++) {
        const uint8_t *bytes;
        size_t image_bytes;
        int64_t label = -1;
        struct ff_err err = FF_ERR_INIT;
        struct ff_image_header header;
        ff_recordio_describe(where, sizeof where, rec, i);
        ff_recordio_will_read(rec, i, 3);
        if (ff_recordio_key(rec, i) < 0)
            abort();
        if (ff_recordio_read(&bytes, &image_bytes, &label, rec, i, &buffer, &err))
            continue;
        if (label < 0 || label >= ff_recordio_classes(rec) || image_bytes == 0)
            abort();
        /* An exact copy, so that an overread is seen behind the mapping's record. */
        uint8_t *copy = malloc(image_bytes);
        if (!copy)
            continue;
        memcpy(copy, bytes, image_bytes);
        ff_image_header(&header, copy, image_bytes, &err);
        ff_exif_reset_orientation(copy, image_bytes);
        ff_exif_orientation(copy, image_bytes);
        free(copy);
    }
    for (int64_t i = 0; i < ff_recordio_identities(rec); i++) {
        int64_t first, last;
        if (ff_recordio_identity(&first, &last, rec, i, NULL) == 0 && first > last)
            abort();
    }
    ff_recordio_image_size(&width, &height, rec);
    if (width < 0 || height < 0 || ff_recordio_classes(rec) < 1)
        abort();
    ff_recordio_fingerprint(print, rec, NULL);
    free(buffer.data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    if (!*folder) {
        ff_log_set_level(FF_LOG_QUIET);
        const char *base = getenv("TMPDIR");
        snprintf(folder, sizeof folder, "%.30s/ff-fuzz-recordio-XXXXXX",
                 base && *base ? base : "/tmp");
        if (!mkdtemp(folder))
            abort();
        atexit(remove_folder);
    }
    size_t property = (size_t)data[0] | (size_t)data[1] << 8;
    size_t index = (size_t)data[2] | (size_t)data[3] << 8;
    bool no_property = property == ABSENT, no_index = index == ABSENT;
    data += 4;
    size -= 4;
    property = no_property ? 0 : property < size ? property : size;
    put("property", data, property, no_property);
    data += property;
    size -= property;
    index = no_index ? 0 : index < size ? index : size;
    put("train.idx", data, index, no_index);
    put("train.rec", data + index, size - index, false);
    struct ff_recordio *rec = NULL;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_recordio_open(&rec, folder, &err);
    if (rc == 0)
        read_all(rec);
    else if (!*err.text || strchr(err.text, '\n'))
        abort(); /* a message is one line */
    ff_recordio_close(rec);
    return 0;
}
