/* SPDX-License-Identifier: MIT */
/* Writer of RecordIO sets in the insightface layout.
 *
 * Record 0 has a fixed size and is written first with zeros; its two keys are known
 * only at the end and are patched in then. All three files grow under temporary names
 * and are renamed last, train.rec after the others: a folder with a train.rec holds a
 * whole set. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "recordio.h"

struct ff_rec_writer {
    struct ff_atomic_file rec, idx, property;
    int width, height;
    uint64_t offset;     /* bytes of train.rec so far */
    int64_t key;         /* of the next record */
    int64_t *first_keys; /* (classes) i64: key of each identity's first image */
    int64_t classes, capacity;
};

static void put32(uint8_t *p, uint32_t value)
{
    memcpy(p, &value, sizeof value);
}

static void put_f32(uint8_t *p, float value)
{
    memcpy(p, &value, sizeof value);
}

static int put(struct ff_rec_writer *writer, const void *bytes, size_t count,
               struct ff_err *err)
{
    if (fwrite(bytes, 1, count, writer->rec.stream) != count)
        return ff_err_errno(err, FF_EFAIL, "cannot write %s", writer->rec.path);
    writer->offset += count;
    return 0;
}

/* One part: its header, the bytes, padding. */
static int put_part(struct ff_rec_writer *writer, uint32_t cflag,
                    const uint8_t *payload, size_t bytes, struct ff_err *err)
{
    static const uint8_t zeros[4];
    uint8_t header[8];
    put32(header, FF_REC_MAGIC);
    put32(header + 4, cflag << FF_REC_LENGTH_BITS | (uint32_t)bytes);
    int rc = put(writer, header, sizeof header, err);
    if (!rc)
        rc = put(writer, payload, bytes, err);
    if (!rc && bytes % 4)
        rc = put(writer, zeros, 4 - bytes % 4, err);
    return rc;
}

/* A record, split where its payload holds the magic at a multiple of 4 bytes. */
static int put_record(struct ff_rec_writer *writer, const uint8_t *payload,
                      size_t bytes, struct ff_err *err)
{
    if (fprintf(writer->idx.stream, "%lld\t%llu\n", (long long)writer->key,
                (unsigned long long)writer->offset) < 0)
        return ff_err_errno(err, FF_EFAIL, "cannot write %s", writer->idx.path);
    writer->key++;
    size_t start = 0;
    for (size_t i = 0; i + 4 <= bytes; i += 4) {
        uint32_t word;
        memcpy(&word, payload + i, sizeof word);
        if (word != FF_REC_MAGIC)
            continue;
        int rc = put_part(writer, start ? 2 : 1, payload + start, i - start, err);
        if (rc)
            return rc;
        start = i + 4;
    }
    return put_part(writer, start ? 3 : 0, payload + start, bytes - start, err);
}

/* Payload without an image: flag 2 and two labels. */
static void key_pair(uint8_t payload[FF_REC_IMAGE_HEADER_BYTES + 8], int64_t id,
                     int64_t first, int64_t last)
{
    uint64_t id_bits = (uint64_t)id;
    memset(payload, 0, FF_REC_IMAGE_HEADER_BYTES);
    put32(payload, 2);
    memcpy(payload + 8, &id_bits, sizeof id_bits);
    put_f32(payload + FF_REC_IMAGE_HEADER_BYTES, (float)first);
    put_f32(payload + FF_REC_IMAGE_HEADER_BYTES + 4, (float)last);
}

int ff_rec_writer_create(struct ff_rec_writer **out, const char *dir, int width,
                         int height, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    uint8_t header[FF_REC_IMAGE_HEADER_BYTES + 8];
    struct ff_rec_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return ff_err_set(err, FF_ENOMEM, "out of memory for a RecordIO writer");
    writer->width = width;
    writer->height = height;
    int rc = ff_path(path, err, "%s/train.rec", dir);
    if (!rc && access(path, F_OK) == 0)
        rc = ff_err_set(err, FF_EUSAGE, "%s exists already; give another folder", path);
    if (!rc)
        rc = ff_mkdirs(dir, err);
    if (!rc)
        rc = ff_atomic_begin(&writer->rec, path, err);
    if (!rc)
        rc = ff_path(path, err, "%s/train.idx", dir);
    if (!rc)
        rc = ff_atomic_begin(&writer->idx, path, err);
    if (!rc)
        rc = ff_path(path, err, "%s/property", dir);
    if (!rc)
        rc = ff_atomic_begin(&writer->property, path, err);
    if (!rc) {
        key_pair(header, 0, 0, 0);
        rc = put_record(writer, header, sizeof header, err);
    }
    if (rc) {
        ff_rec_writer_destroy(writer);
        return rc;
    }
    *out = writer;
    return 0;
}

int ff_rec_writer_add(struct ff_rec_writer *writer, int64_t label, const void *image,
                      size_t bytes, struct ff_err *err)
{
    const size_t limit = ((size_t)1 << FF_REC_LENGTH_BITS) - FF_REC_IMAGE_HEADER_BYTES;
    if (bytes == 0 || bytes >= limit)
        return ff_err_set(err, FF_EUSAGE,
                          "%s: image of %zu bytes; 1 .. %zu are possible",
                          writer->rec.path, bytes, limit - 1);
    if (label != writer->classes && label != writer->classes - 1)
        return ff_err_set(
            err, FF_EUSAGE, "%s: label %lld after %lld; labels come as 0, 1, 2",
            writer->rec.path, (long long)label, (long long)writer->classes - 1);
    if (label == writer->classes) {
        if (writer->classes == writer->capacity) {
            int64_t capacity = writer->capacity ? 2 * writer->capacity : 1024;
            int64_t *grown =
                realloc(writer->first_keys, (size_t)capacity * sizeof *grown);
            if (!grown)
                return ff_err_set(err, FF_ENOMEM, "out of memory for %lld identities",
                                  (long long)capacity);
            writer->first_keys = grown;
            writer->capacity = capacity;
        }
        writer->first_keys[writer->classes++] = writer->key;
    }
    uint8_t *payload = malloc(FF_REC_IMAGE_HEADER_BYTES + bytes);
    if (!payload)
        return ff_err_set(err, FF_ENOMEM, "out of memory for a record of %zu bytes",
                          bytes);
    uint64_t id = (uint64_t)writer->key;
    memset(payload, 0, FF_REC_IMAGE_HEADER_BYTES);
    put_f32(payload + 4, (float)label);
    memcpy(payload + 8, &id, sizeof id);
    memcpy(payload + FF_REC_IMAGE_HEADER_BYTES, image, bytes);
    int rc = put_record(writer, payload, FF_REC_IMAGE_HEADER_BYTES + bytes, err);
    free(payload);
    return rc;
}

int ff_rec_writer_finish(struct ff_rec_writer *writer, struct ff_err *err)
{
    uint8_t pair[FF_REC_IMAGE_HEADER_BYTES + 8];
    int64_t images_end = writer->key;
    if (writer->classes == 0)
        return ff_err_set(err, FF_EUSAGE, "%s: a set needs at least one image",
                          writer->rec.path);
    for (int64_t i = 0; i < writer->classes; i++) {
        int64_t last = i + 1 < writer->classes ? writer->first_keys[i + 1] : images_end;
        key_pair(pair, writer->key, writer->first_keys[i], last);
        int rc = put_record(writer, pair, sizeof pair, err);
        if (rc)
            return rc;
    }
    key_pair(pair, 0, images_end, writer->key);
    if (fseeko(writer->rec.stream, 8, SEEK_SET) != 0 ||
        fwrite(pair, 1, sizeof pair, writer->rec.stream) != sizeof pair)
        return ff_err_errno(err, FF_EFAIL, "cannot write %s", writer->rec.path);
    if (fprintf(writer->property.stream, "%lld,%d,%d\n", (long long)writer->classes,
                writer->height, writer->width) < 0)
        return ff_err_errno(err, FF_EFAIL, "cannot write %s", writer->property.path);
    int rc = ff_atomic_commit(&writer->property, err);
    if (!rc)
        rc = ff_atomic_commit(&writer->idx, err);
    if (!rc)
        rc = ff_atomic_commit(&writer->rec, err);
    return rc;
}

void ff_rec_writer_destroy(struct ff_rec_writer *writer)
{
    if (!writer)
        return;
    ff_atomic_abort(&writer->rec);
    ff_atomic_abort(&writer->idx);
    ff_atomic_abort(&writer->property);
    free(writer->first_keys);
    free(writer);
}
