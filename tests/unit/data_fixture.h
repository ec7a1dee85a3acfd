/* SPDX-License-Identifier: MIT */
/* Scratch folders, pictures and hand-made records for the tests of training data. */
#ifndef FF_DATA_FIXTURE_H
#define FF_DATA_FIXTURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "err.h"
#include "image.h"
#include "log.h"
#include "recordio.h"

/* Path of the scratch folder's `name`, in a ring of static buffers. */
struct scratch {
    char dir[64];
    char paths[4][FF_PATH_MAX];
    int next;
};

static inline void scratch_init(struct scratch *scratch)
{
    ff_log_set_level(FF_LOG_QUIET);
    scratch->next = 0;
    strcpy(scratch->dir, "/tmp/ff-data-test-XXXXXX");
    if (!mkdtemp(scratch->dir))
        abort();
}

static inline void scratch_fini(struct scratch *scratch)
{
    ff_remove_tree(scratch->dir, NULL);
}

static inline const char *at(struct scratch *scratch, const char *name)
{
    char *path = scratch->paths[scratch->next++ % 4];
    ff_path(path, NULL, "%s/%s", scratch->dir, name);
    return path;
}

/* Writes a file, making its folder. */
static inline void write_file(const char *path, const void *bytes, size_t count)
{
    char folder[FF_PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = 0;
    ff_mkdirs(folder, NULL);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, count, f) != count || fclose(f) != 0)
        abort();
}

/* A smooth picture that differs by `number`. */
static inline struct ff_image picture(int width, int height, int number)
{
    struct ff_image image = {width, height, malloc((size_t)width * height * 3)};
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            uint8_t *p = image.rgb + ((size_t)y * width + x) * 3;
            p[0] = (uint8_t)(x * 255 / width);
            p[1] = (uint8_t)(y * 255 / height);
            p[2] = (uint8_t)(number * 8);
        }
    }
    return image;
}

static inline uint8_t *picture_jpeg(size_t *bytes, int width, int height, int number)
{
    struct ff_image image = picture(width, height, number);
    uint8_t *jpeg = NULL;
    if (ff_encode_jpeg(&jpeg, bytes, &image, 95, false, NULL))
        abort();
    ff_image_fini(&image);
    return jpeg;
}

/* RecordIO by hand: a growing file and its offsets. */
struct hand_pack {
    uint8_t bytes[1 << 16];
    size_t size;
    size_t offsets[64];
    int records;
};

static inline void hand_part(struct hand_pack *pack, uint32_t cflag,
                             const void *payload, size_t bytes)
{
    uint32_t header[2] = {FF_REC_MAGIC, cflag << FF_REC_LENGTH_BITS | (uint32_t)bytes};
    if (cflag < 2)
        pack->offsets[pack->records++] = pack->size;
    memcpy(pack->bytes + pack->size, header, sizeof header);
    memcpy(pack->bytes + pack->size + 8, payload, bytes);
    pack->size += 8 + (bytes + 3) / 4 * 4;
}

/* Payload with `flag` labels (value, value + 100, ..), or the one of the header. */
static inline size_t hand_payload(uint8_t *payload, uint32_t flag, float value,
                                  const void *image, size_t bytes)
{
    memset(payload, 0, FF_REC_IMAGE_HEADER_BYTES);
    memcpy(payload, &flag, sizeof flag);
    if (!flag)
        memcpy(payload + 4, &value, sizeof value);
    size_t at_byte = FF_REC_IMAGE_HEADER_BYTES;
    for (uint32_t i = 0; i < flag; i++, at_byte += sizeof value) {
        float label = value + 100.0f * (float)i;
        memcpy(payload + at_byte, &label, sizeof label);
    }
    if (bytes)
        memcpy(payload + at_byte, image, bytes);
    return at_byte + bytes;
}

static inline void hand_record(struct hand_pack *pack, uint32_t flag, float value,
                               const char *image)
{
    uint8_t payload[1024];
    hand_part(pack, 0, payload,
              hand_payload(payload, flag, value, image, strlen(image)));
}

/* train.rec and, with `index`, train.idx with the keys 0, 1, .. in file order. */
static inline void hand_write(struct hand_pack *pack, struct scratch *scratch,
                              bool index)
{
    write_file(at(scratch, "set/train.rec"), pack->bytes, pack->size);
    if (!index)
        return;
    char text[2048];
    int length = 0;
    for (int i = 0; i < pack->records; i++)
        length += snprintf(text + length, sizeof text - (size_t)length, "%d\t%zu\n", i,
                           pack->offsets[i]);
    write_file(at(scratch, "set/train.idx"), text, (size_t)length);
}

/* A set of `identities` x `each` pictures of side px, written by the writer. Record k
 * of `bad` (0 = none) holds a cut JPEG. */
static inline int make_set(const char *dir, int identities, int each, int side, int bad)
{
    struct ff_rec_writer *writer = NULL;
    int rc = ff_rec_writer_create(&writer, dir, side, side, NULL);
    for (int i = 0; i < identities * each && !rc; i++) {
        size_t bytes;
        uint8_t *jpeg = picture_jpeg(&bytes, side, side, i);
        rc = ff_rec_writer_add(writer, i / each, jpeg, i + 1 == bad ? bytes / 2 : bytes,
                               NULL);
        free(jpeg);
    }
    if (!rc)
        rc = ff_rec_writer_finish(writer, NULL);
    ff_rec_writer_destroy(writer);
    return rc;
}

#endif
