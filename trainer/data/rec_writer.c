/* SPDX-License-Identifier: MIT */
/* Writer of RecordIO sets in the insightface layout.
 *
 * Record 0 has a fixed size and is written first with zeros; its two keys are known
 * only at the end and are patched in then. All three files grow under temporary names
 * and are renamed last, train.rec after the others: a folder with a train.rec holds a
 * whole set.
 *
 * A resumable writer's temporary names are fixed, and a journal stands beside them:
 *   ff-pack/1 KEY
 *   class FIRST_KEY                     an identity begins
 *   at IMAGES REC_BYTES IDX_BYTES       what is on disk
 * An `at` line is written after the bytes it speaks of are synced; all that stands
 * behind the last whole one, in any of the three files, is cut off when the work goes
 * on. Whoever holds the flock on the part of train.rec owns all of them.
 *
 * Messages name the file that was asked for; its part only where that cannot be opened.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "recordio.h"

struct ff_rec_writer {
    struct ff_atomic_file rec, idx, property;
    char property_path[FF_PATH_MAX];
    int width, height;
    uint64_t offset;     /* bytes of train.rec so far */
    int64_t key;         /* of the next record */
    int64_t *first_keys; /* (classes) i64: key of each identity's first image */
    int64_t classes, capacity;
    FILE *journal; /* NULL: not resumable */
    char journal_path[FF_PATH_MAX];
    int64_t classes_noted; /* in the journal */
    bool keep;             /* destroy leaves the parts for the next process */
};

#define JOURNAL_SCHEMA "ff-pack/1"

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
    int rc = ff_path(writer->property_path, err, "%s/property", dir);
    if (!rc)
        rc = ff_path(path, err, "%s/train.rec", dir);
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

static int note_class(struct ff_rec_writer *writer, int64_t key, struct ff_err *err)
{
    if (writer->classes == writer->capacity) {
        int64_t capacity = writer->capacity ? 2 * writer->capacity : 1024;
        int64_t *grown = realloc(writer->first_keys, (size_t)capacity * sizeof *grown);
        if (!grown)
            return ff_err_set(err, FF_ENOMEM, "out of memory for %lld identities",
                              (long long)capacity);
        writer->first_keys = grown;
        writer->capacity = capacity;
    }
    writer->first_keys[writer->classes++] = key;
    return 0;
}

/* ---- resuming ---- */

/* Opens <dir>/<name>.part for reading and writing, made if need be. */
static int open_part(struct ff_atomic_file *file, const char *dir, const char *name,
                     struct ff_err *err)
{
    int rc = ff_path(file->path, err, "%s/%s", dir, name);
    if (!rc)
        rc = ff_path(file->temporary, err, "%s/%s.part", dir, name);
    if (rc)
        return rc;
    int fd = open(file->temporary, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    file->stream = fd >= 0 ? fdopen(fd, "r+") : NULL;
    if (file->stream)
        return 0;
    rc = ff_err_errno(err, FF_EFAIL, "%s: cannot write %s.part beside it", file->path,
                      name);
    if (fd >= 0)
        close(fd);
    return rc;
}

/* Cuts a stream to `bytes` and stands at its end. */
static int cut(FILE *stream, const char *path, uint64_t bytes, struct ff_err *err)
{
    if (fflush(stream) != 0 || ftruncate(fileno(stream), (off_t)bytes) != 0 ||
        fseeko(stream, (off_t)bytes, SEEK_SET) != 0)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot cut", path);
    return 0;
}

static bool holds(FILE *stream, uint64_t bytes)
{
    return fseeko(stream, 0, SEEK_END) == 0 && (uint64_t)ftello(stream) >= bytes;
}

/* Whether the name still belongs to the open file: between opening and locking it, its
 * holder may have taken it away. */
static bool is_still(const struct ff_atomic_file *file)
{
    struct stat named, held;
    return stat(file->temporary, &named) == 0 &&
           fstat(fileno(file->stream), &held) == 0 && named.st_dev == held.st_dev &&
           named.st_ino == held.st_ino;
}

/* State of the last whole `at` line; *journal_bytes is where it ends, 0 if the journal
 * is another set's, damaged, or speaks of bytes that are not there. */
static int replay(struct ff_rec_writer *writer, int64_t *images, uint64_t *idx_bytes,
                  uint64_t *journal_bytes, const char *key, struct ff_err *err)
{
    char line[256];
    uint64_t end = 0, rec_bytes = 0;
    int64_t classes = 0;
    *journal_bytes = 0;
    *images = 0;
    rewind(writer->journal);
    bool good = fgets(line, sizeof line, writer->journal) &&
                strncmp(line, JOURNAL_SCHEMA " ", sizeof JOURNAL_SCHEMA) == 0 &&
                strlen(key) + 1 == strlen(line + sizeof JOURNAL_SCHEMA) &&
                strncmp(line + sizeof JOURNAL_SCHEMA, key, strlen(key)) == 0;
    while (good && fgets(line, sizeof line, writer->journal) && strchr(line, '\n')) {
        int64_t value;
        uint64_t rec, idx;
        char stop;
        if (sscanf(line, "class %" SCNd64 "%c", &value, &stop) == 2 && value > 0) {
            int rc = note_class(writer, value, err);
            if (rc)
                return rc;
        } else if (sscanf(line, "at %" SCNd64 " %" SCNu64 " %" SCNu64 "%c", &value,
                          &rec, &idx, &stop) == 4 &&
                   value > 0 && stop == '\n') {
            *images = value;
            rec_bytes = rec;
            *idx_bytes = idx;
            classes = writer->classes;
            end = (uint64_t)ftello(writer->journal);
        } else {
            break;
        }
    }
    if (!holds(writer->rec.stream, rec_bytes) || !holds(writer->idx.stream, *idx_bytes))
        end = 0;
    writer->classes = writer->classes_noted = end ? classes : 0;
    writer->offset = end ? rec_bytes : 0;
    *images = end ? *images : 0;
    *idx_bytes = end ? *idx_bytes : 0;
    *journal_bytes = end;
    return 0;
}

int ff_rec_writer_resume(struct ff_rec_writer **out, int64_t *images, const char *dir,
                         int width, int height, const char *key, struct ff_err *err)
{
    uint8_t header[FF_REC_IMAGE_HEADER_BYTES + 8];
    uint64_t idx_bytes = 0, journal_bytes = 0;
    struct ff_rec_writer *writer = calloc(1, sizeof *writer);
    if (!writer)
        return ff_err_set(err, FF_ENOMEM, "out of memory for a RecordIO writer");
    writer->width = width;
    writer->height = height;
    writer->keep = true;
    int rc = ff_path(writer->property_path, err, "%s/property", dir);
    if (!rc)
        rc = ff_mkdirs(dir, err);
    if (!rc)
        rc = open_part(&writer->rec, dir, "train.rec", err);
    if (!rc && flock(fileno(writer->rec.stream), LOCK_EX | LOCK_NB) != 0) {
        rc = errno == EWOULDBLOCK
                 ? ff_err_set(err, FF_EBUSY, "%s: another process is writing it",
                              writer->rec.path)
                 : ff_err_errno(err, FF_EFAIL, "%s: cannot lock", writer->rec.path);
    }
    if (!rc && access(writer->rec.path, F_OK) != 0 && !is_still(&writer->rec))
        rc = ff_err_set(err, FF_EBUSY, "%s: another process has just given it up",
                        writer->rec.path);
    /* Looked for under the lock: its last holder may just have given it its name. */
    if (!rc && access(writer->rec.path, F_OK) == 0) {
        rc = ff_err_set(err, FF_EUSAGE, "%s exists already; give another folder",
                        writer->rec.path);
        if (!holds(writer->rec.stream, 1))
            unlink(writer->rec.temporary);
    }
    if (!rc)
        rc = open_part(&writer->idx, dir, "train.idx", err);
    if (!rc)
        rc = ff_path(writer->journal_path, err, "%s/train.journal", dir);
    if (!rc) {
        int fd = open(writer->journal_path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        writer->journal = fd >= 0 ? fdopen(fd, "r+") : NULL;
        if (!writer->journal)
            rc = ff_err_errno(err, FF_EFAIL, "%s: cannot write", writer->journal_path);
    }
    if (!rc)
        rc = replay(writer, images, &idx_bytes, &journal_bytes, key, err);
    if (!rc)
        rc = cut(writer->journal, writer->journal_path, journal_bytes, err);
    if (!rc)
        rc = cut(writer->rec.stream, writer->rec.path, writer->offset, err);
    if (!rc)
        rc = cut(writer->idx.stream, writer->idx.path, idx_bytes, err);
    if (!rc && *images == 0) {
        fprintf(writer->journal, "%s %s\n", JOURNAL_SCHEMA, key);
        key_pair(header, 0, 0, 0);
        rc = put_record(writer, header, sizeof header, err);
    }
    writer->key = *images + 1;
    if (rc) {
        ff_rec_writer_destroy(writer);
        return rc;
    }
    *out = writer;
    return 0;
}

/* Everything written to a stream, on disk. */
static int sync_stream(FILE *stream, const char *path, struct ff_err *err)
{
    if (fflush(stream) != 0 || fdatasync(fileno(stream)) != 0)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot write", path);
    return 0;
}

int ff_rec_writer_checkpoint(struct ff_rec_writer *writer, struct ff_err *err)
{
    if (writer->key == 1)
        return 0;
    int rc = sync_stream(writer->rec.stream, writer->rec.path, err);
    if (!rc)
        rc = sync_stream(writer->idx.stream, writer->idx.path, err);
    if (rc)
        return rc;
    for (; writer->classes_noted < writer->classes; writer->classes_noted++)
        fprintf(writer->journal, "class %" PRId64 "\n",
                writer->first_keys[writer->classes_noted]);
    fprintf(writer->journal, "at %" PRId64 " %" PRIu64 " %" PRIu64 "\n",
            writer->key - 1, writer->offset, (uint64_t)ftello(writer->idx.stream));
    return sync_stream(writer->journal, writer->journal_path, err);
}

void ff_rec_writer_discard(struct ff_rec_writer *writer)
{
    writer->keep = false;
}

/* ---- images ---- */

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
        int rc = note_class(writer, writer->key, err);
        if (rc)
            return rc;
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
        int put_rc = put_record(writer, pair, sizeof pair, err);
        if (put_rc)
            return put_rc;
    }
    key_pair(pair, 0, images_end, writer->key);
    if (fseeko(writer->rec.stream, 8, SEEK_SET) != 0 ||
        fwrite(pair, 1, sizeof pair, writer->rec.stream) != sizeof pair)
        return ff_err_errno(err, FF_EFAIL, "cannot write %s", writer->rec.path);
    int rc = ff_atomic_begin(&writer->property, writer->property_path, err);
    if (rc)
        return rc;
    if (fprintf(writer->property.stream, "%lld,%d,%d\n", (long long)writer->classes,
                writer->height, writer->width) < 0)
        return ff_err_errno(err, FF_EFAIL, "cannot write %s", writer->property.path);
    rc = ff_atomic_commit(&writer->property, err);
    if (!rc)
        rc = ff_atomic_commit(&writer->idx, err);
    if (!rc)
        rc = ff_atomic_commit(&writer->rec, err);
    if (!rc && writer->journal)
        unlink(writer->journal_path);
    return rc;
}

/* Leaves a part that another process may go on with. */
static void leave_part(struct ff_atomic_file *file)
{
    if (file->stream)
        fclose(file->stream);
    file->stream = NULL;
    file->temporary[0] = 0;
}

void ff_rec_writer_destroy(struct ff_rec_writer *writer)
{
    if (!writer)
        return;
    if (writer->journal && !writer->keep)
        unlink(writer->journal_path);
    if (writer->journal)
        fclose(writer->journal);
    /* The part of train.rec last: its lock guards the others. */
    ff_atomic_abort(&writer->property);
    if (writer->keep) {
        leave_part(&writer->idx);
        leave_part(&writer->rec);
    } else {
        ff_atomic_abort(&writer->idx);
        ff_atomic_abort(&writer->rec);
    }
    free(writer->first_keys);
    free(writer);
}
