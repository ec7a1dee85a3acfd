/* SPDX-License-Identifier: MIT */
/* Reader of RecordIO training sets, over a read-only mapping of train.rec.
 *
 * Opening makes the list of (key, offset) sorted by key, from train.idx or from a scan,
 * cuts the images out of it, and checks the furthest record against the file's size: a
 * file cut short is found before any training. A record is looked at in full only when
 * it is read; nothing in it is trusted before it is checked against the mapping. */
#include "recordio.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "hash.h"
#include "log.h"

enum { FINGERPRINT_BLOCKS = 64, FINGERPRINT_BLOCK_BYTES = 4096 };

struct entry {
    int64_t key;
    uint64_t offset;
};

struct ff_recordio {
    char path[FF_PATH_MAX]; /* of train.rec */
    const uint8_t *map;
    uint64_t bytes;
    struct entry *entries; /* (entry_count), by key */
    int64_t entry_count;
    int64_t first, count;               /* the images among them */
    int64_t identity_first, identities; /* the identity records among them */
    int64_t classes;
    int width, height; /* px by property, or 0 */
    char index_hash[FF_SHA256_HEX], property_hash[FF_SHA256_HEX];
};

static uint32_t get32(const uint8_t *p)
{
    uint32_t value;
    memcpy(&value, p, sizeof value);
    return value;
}

static float get_f32(const uint8_t *p)
{
    float value;
    memcpy(&value, p, sizeof value);
    return value;
}

/* "<path>: record K (offset O): <text>" */
static int damaged(struct ff_err *err, const struct ff_recordio *rec,
                   const struct entry *entry, const char *text)
{
    return ff_err_set(err, FF_EDATA, "%s: record %" PRId64 " (offset %" PRIu64 "): %s",
                      rec->path, entry->key, entry->offset, text);
}

/* A record as it lies in the file. */
struct extent {
    size_t payload_bytes;
    int parts;
    uint64_t end; /* offset behind the padding */
};

/* Walks the parts of the record at entry->offset. Where `out` is given, the payload is
 * put together there, the magic back between the parts. */
static int walk(struct extent *extent, uint8_t *out, const struct ff_recordio *rec,
                const struct entry *entry, struct ff_err *err)
{
    char text[128];
    uint64_t at = entry->offset;
    *extent = (struct extent){0};
    for (bool more = true; more;) {
        if (at > rec->bytes || rec->bytes - at < 8) {
            snprintf(text, sizeof text,
                     "the file ends at %" PRIu64 " bytes: it is cut short", rec->bytes);
            return damaged(err, rec, entry, text);
        }
        uint32_t magic = get32(rec->map + at), word = get32(rec->map + at + 4);
        uint32_t cflag = word >> FF_REC_LENGTH_BITS;
        uint32_t length = word & ((1u << FF_REC_LENGTH_BITS) - 1);
        if (magic != FF_REC_MAGIC) {
            snprintf(text, sizeof text,
                     "no record here: 0x%08x instead of the magic 0x%08x", magic,
                     FF_REC_MAGIC);
            return damaged(err, rec, entry, text);
        }
        if (extent->parts == 0 ? cflag > 1 : cflag != 2 && cflag != 3) {
            snprintf(text, sizeof text, "part flag %u where part %d begins", cflag,
                     extent->parts + 1);
            return damaged(err, rec, entry, text);
        }
        at += 8;
        if (rec->bytes - at < length) {
            snprintf(text, sizeof text,
                     "%u bytes announced, %" PRIu64 " there: the file is cut short",
                     length, rec->bytes - at);
            return damaged(err, rec, entry, text);
        }
        if (extent->parts > 0) {
            if (out)
                memcpy(out + extent->payload_bytes, &magic, sizeof magic);
            extent->payload_bytes += sizeof magic;
        }
        if (out)
            memcpy(out + extent->payload_bytes, rec->map + at, length);
        extent->payload_bytes += length;
        extent->parts++;
        at += ((uint64_t)length + 3) & ~(uint64_t)3;
        more = cflag == 1 || cflag == 2;
    }
    extent->end = at < rec->bytes ? at : rec->bytes;
    return 0;
}

static int reserve(struct ff_read_buffer *buffer, size_t bytes, struct ff_err *err)
{
    if (bytes <= buffer->capacity)
        return 0;
    uint8_t *grown = realloc(buffer->data, bytes);
    if (!grown)
        return ff_err_set(err, FF_ENOMEM, "out of memory for a record of %zu bytes",
                          bytes);
    buffer->data = grown;
    buffer->capacity = bytes;
    return 0;
}

/* Payload of a record: in the mapping, or put together in *buffer if it is split. */
static int read_payload(const uint8_t **payload, size_t *bytes,
                        const struct ff_recordio *rec, const struct entry *entry,
                        struct ff_read_buffer *buffer, struct ff_err *err)
{
    struct extent extent;
    int rc = walk(&extent, NULL, rec, entry, err);
    if (rc)
        return rc;
    *bytes = extent.payload_bytes;
    if (extent.parts == 1) {
        *payload = rec->map + entry->offset + 8;
        return 0;
    }
    rc = reserve(buffer, extent.payload_bytes, err);
    if (!rc)
        rc = walk(&extent, buffer->data, rec, entry, err);
    *payload = buffer->data;
    return rc;
}

/* The two labels of a record that is a header: flag 2 and nothing behind the labels. */
static bool key_pair(float pair[2], const struct ff_recordio *rec,
                     const struct entry *entry)
{
    const size_t need = FF_REC_IMAGE_HEADER_BYTES + 2 * sizeof(float);
    struct extent extent;
    if (walk(&extent, NULL, rec, entry, NULL) || extent.parts != 1 ||
        extent.payload_bytes != need)
        return false;
    const uint8_t *payload = rec->map + entry->offset + 8;
    if (get32(payload) != 2)
        return false;
    pair[0] = get_f32(payload + FF_REC_IMAGE_HEADER_BYTES);
    pair[1] = get_f32(payload + FF_REC_IMAGE_HEADER_BYTES + sizeof(float));
    return true;
}

static int read_entry(const uint8_t **image, size_t *size, int64_t *label,
                      const struct ff_recordio *rec, const struct entry *entry,
                      struct ff_read_buffer *buffer, struct ff_err *err)
{
    char text[128];
    const uint8_t *payload;
    size_t bytes;
    int rc = read_payload(&payload, &bytes, rec, entry, buffer, err);
    if (rc)
        return rc;
    if (bytes < FF_REC_IMAGE_HEADER_BYTES) {
        snprintf(text, sizeof text, "payload of %zu bytes, less than its header of %d",
                 bytes, FF_REC_IMAGE_HEADER_BYTES);
        return damaged(err, rec, entry, text);
    }
    uint32_t flag = get32(payload);
    size_t room = bytes - FF_REC_IMAGE_HEADER_BYTES;
    if (flag > room / sizeof(float)) {
        snprintf(text, sizeof text, "%u labels announced in a payload of %zu bytes",
                 flag, bytes);
        return damaged(err, rec, entry, text);
    }
    float value = get_f32(payload + (flag ? FF_REC_IMAGE_HEADER_BYTES : 4));
    if (!(value >= 0 && value < 2147483648.0f) || value != floorf(value)) {
        snprintf(text, sizeof text, "label %g is no identity number", value);
        return damaged(err, rec, entry, text);
    }
    if (rec->classes && (int64_t)value >= rec->classes) {
        snprintf(text, sizeof text, "label %.0f, but there are %" PRId64 " identities",
                 value, rec->classes);
        return damaged(err, rec, entry, text);
    }
    *label = (int64_t)value;
    *size = room - flag * sizeof(float);
    *image = payload + FF_REC_IMAGE_HEADER_BYTES + flag * sizeof(float);
    if (*size == 0)
        return damaged(err, rec, entry, "holds no image");
    return 0;
}

/* ---- opening ---- */

static int by_key(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return (x->key > y->key) - (x->key < y->key);
}

static int append(struct ff_recordio *rec, size_t *capacity, struct entry entry,
                  struct ff_err *err)
{
    if ((size_t)rec->entry_count == *capacity) {
        *capacity = *capacity ? 2 * *capacity : 4096;
        struct entry *grown = realloc(rec->entries, *capacity * sizeof *grown);
        if (!grown)
            return ff_err_set(err, FF_ENOMEM, "out of memory for %zu records of %s",
                              *capacity, rec->path);
        rec->entries = grown;
    }
    rec->entries[rec->entry_count++] = entry;
    return 0;
}

/* Digits at *text up to `stop`; false if there are none or too many. */
static bool take_number(uint64_t *value, const char **text, const char *stop)
{
    const char *p = *text;
    for (*value = 0; p < stop && *p >= '0' && *p <= '9'; p++) {
        if (p - *text == 18)
            return false;
        *value = *value * 10 + (uint64_t)(*p - '0');
    }
    bool found = p > *text;
    *text = p;
    return found;
}

static int parse_index(struct ff_recordio *rec, const char *path, const char *text,
                       size_t bytes, struct ff_err *err)
{
    size_t capacity = 0, line = 0;
    bool sorted = true;
    for (const char *p = text, *end = text + bytes; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        const char *next = stop ? stop + 1 : end, *q = p;
        if (!stop)
            stop = end;
        if (stop > p && stop[-1] == '\r')
            stop--;
        line++;
        if (stop > p) {
            uint64_t key, offset;
            bool good = take_number(&key, &q, stop) && q < stop &&
                        (*q == '\t' || *q == ' ') && (q++, true) &&
                        take_number(&offset, &q, stop) && q == stop;
            if (!good)
                return ff_err_set(err, FF_EDATA,
                                  "%s:%zu: expected key, tab, offset; found \"%.*s\"",
                                  path, line, (int)(stop - p < 40 ? stop - p : 40), p);
            if (offset % 4)
                return ff_err_set(err, FF_EDATA,
                                  "%s:%zu: offset %" PRIu64 " is no multiple of 4",
                                  path, line, offset);
            if (rec->entry_count &&
                (int64_t)key <= rec->entries[rec->entry_count - 1].key)
                sorted = false;
            int rc = append(rec, &capacity, (struct entry){(int64_t)key, offset}, err);
            if (rc)
                return rc;
        }
        p = next;
    }
    if (!sorted)
        qsort(rec->entries, (size_t)rec->entry_count, sizeof *rec->entries, by_key);
    for (int64_t i = 1; i < rec->entry_count; i++) {
        if (rec->entries[i].key == rec->entries[i - 1].key)
            return ff_err_set(err, FF_EDATA, "%s: key %" PRId64 " stands there twice",
                              path, rec->entries[i].key);
    }
    return 0;
}

static int scan(struct ff_recordio *rec, struct ff_err *err)
{
    size_t capacity = 0;
    struct entry entry = {0, 0};
    while (entry.offset < rec->bytes) {
        struct extent extent;
        int rc = walk(&extent, NULL, rec, &entry, err);
        if (!rc)
            rc = append(rec, &capacity, entry, err);
        if (rc)
            return rc;
        entry.key++;
        entry.offset = extent.end;
    }
    return 0;
}

/* Finds a file cut short: names the first record, by offset, that it lacks. */
static int check_end(const struct ff_recordio *rec, struct ff_err *err)
{
    const struct entry *inside = NULL, *beyond = NULL;
    for (int64_t i = 0; i < rec->entry_count; i++) {
        const struct entry *entry = &rec->entries[i];
        if (entry->offset >= rec->bytes) {
            if (!beyond || entry->offset < beyond->offset)
                beyond = entry;
        } else if (!inside || entry->offset > inside->offset) {
            inside = entry;
        }
    }
    struct extent extent = {0};
    int rc = inside ? walk(&extent, NULL, rec, inside, err) : 0;
    if (!rc && beyond)
        rc = walk(&extent, NULL, rec, beyond, err);
    if (!rc && extent.end < rec->bytes)
        ff_warn("%s: %" PRIu64 " bytes behind the last record that train.idx names",
                rec->path, rec->bytes - extent.end);
    return rc;
}

/* Position of the first entry with a key >= key. */
static int64_t lower_bound(const struct ff_recordio *rec, int64_t key)
{
    int64_t low = 0, high = rec->entry_count;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (rec->entries[middle].key < key)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Cuts entries into images and identity records. A key above 2^24 is rounded in its f32
 * label: the first header record near it is the boundary. */
static int find_layout(struct ff_recordio *rec, struct ff_err *err)
{
    float pair[2], unused[2];
    rec->count = rec->entry_count;
    if (rec->entry_count == 0)
        return ff_err_set(err, FF_EDATA, "%s: holds no record", rec->path);
    if (rec->entries[0].key != 0 || !key_pair(pair, rec, &rec->entries[0]))
        return 0;
    if (!(pair[0] >= 1 && pair[1] >= pair[0] && pair[1] < 9e15f)) {
        char text[128];
        snprintf(text, sizeof text, "header with the keys %g and %g", pair[0], pair[1]);
        return damaged(err, rec, &rec->entries[0], text);
    }
    int64_t boundary = (int64_t)pair[0], end = (int64_t)pair[1];
    int64_t at = lower_bound(rec, boundary);
    if (boundary >= FF_REC_EXACT_KEYS) {
        int64_t slack = (int64_t)(nextafterf(pair[0], INFINITY) - pair[0]);
        at = lower_bound(rec, boundary - slack);
        while (at < rec->entry_count && rec->entries[at].key < boundary + slack &&
               !key_pair(unused, rec, &rec->entries[at]))
            at++;
    }
    rec->first = 1;
    rec->count = at - 1;
    rec->identity_first = at;
    rec->identities =
        (end >= FF_REC_EXACT_KEYS ? rec->entry_count : lower_bound(rec, end)) - at;
    bool complete = boundary >= FF_REC_EXACT_KEYS || rec->count == boundary - 1;
    if (!complete || rec->count == 0)
        return ff_err_set(err, FF_EDATA,
                          "%s: record 0 announces the images 1 .. %" PRId64 ", %" PRId64
                          " are there",
                          rec->path, boundary - 1, rec->count);
    if (end < FF_REC_EXACT_KEYS && rec->identities != end - boundary)
        return ff_err_set(err, FF_EDATA,
                          "%s: record 0 announces %" PRId64
                          " identity records, %" PRId64 " are there",
                          rec->path, end - boundary, rec->identities);
    return 0;
}

/* "classes,height,width"; trailing fields are left alone. */
static int read_property(struct ff_recordio *rec, const char *dir, struct ff_err *err)
{
    char path[FF_PATH_MAX], *text = NULL;
    size_t bytes;
    int rc = ff_path(path, err, "%s/property", dir);
    if (rc || access(path, F_OK) != 0)
        return rc;
    rc = ff_read_file(&text, &bytes, path, err);
    if (rc)
        return rc;
    ff_sha256(rec->property_hash, text, bytes);
    long long classes = 0;
    int height = 0, width = 0;
    int fields = sscanf(text, "%18lld,%9d,%9d", &classes, &height, &width);
    if ((fields != 1 && fields != 3) || classes < 1 || classes > INT32_MAX ||
        height < 0 || width < 0) {
        text[strcspn(text, "\r\n")] = 0;
        rc = ff_err_set(err, FF_EDATA,
                        "%s:1: expected classes,height,width; found \"%.40s\"", path,
                        text);
    }
    rec->classes = classes;
    rec->height = height;
    rec->width = width;
    free(text);
    return rc;
}

/* Classes of a plain pack without property: the largest label + 1. */
static int scan_labels(struct ff_recordio *rec, struct ff_err *err)
{
    struct ff_read_buffer buffer = {0};
    int64_t largest = -1;
    for (int64_t i = 0; i < rec->count; i++) {
        const uint8_t *image;
        size_t size;
        int64_t label;
        struct ff_err skipped;
        int rc =
            read_entry(&image, &size, &label, rec, &rec->entries[i], &buffer, &skipped);
        if (!rc && label > largest)
            largest = label;
    }
    free(buffer.data);
    if (largest < 0)
        return ff_err_set(err, FF_EDATA, "%s: no record holds an image and a label",
                          rec->path);
    rec->classes = largest + 1;
    return 0;
}

static int map_file(struct ff_recordio *rec, struct ff_err *err)
{
    struct stat st;
    int fd = open(rec->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ff_err_errno(err, FF_EUSAGE, "cannot open %s", rec->path);
    int rc = 0;
    if (fstat(fd, &st) != 0)
        rc = ff_err_errno(err, FF_EFAIL, "cannot stat %s", rec->path);
    else if (st.st_size < 8)
        rc = ff_err_set(err, FF_EDATA, "%s: %lld bytes hold no record", rec->path,
                        (long long)st.st_size);
    if (!rc) {
        rec->bytes = (uint64_t)st.st_size;
        void *map = mmap(NULL, rec->bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED)
            rc = ff_err_errno(err, FF_EFAIL, "cannot map %s", rec->path);
        else
            rec->map = map;
    }
    close(fd);
    return rc;
}

int ff_recordio_open(struct ff_recordio **out, const char *dir, struct ff_err *err)
{
    char path[FF_PATH_MAX], *index = NULL;
    size_t index_bytes;
    struct ff_recordio *rec = calloc(1, sizeof *rec);
    if (!rec)
        return ff_err_set(err, FF_ENOMEM, "out of memory to open %s", dir);
    strcpy(rec->index_hash, "none");
    strcpy(rec->property_hash, "none");
    int rc = ff_path(rec->path, err, "%s/train.rec", dir);
    if (!rc)
        rc = ff_path(path, err, "%s/train.idx", dir);
    if (!rc)
        rc = map_file(rec, err);
    if (rc)
        goto fail;
    if (access(path, F_OK) == 0) {
        rc = ff_read_file(&index, &index_bytes, path, err);
        if (!rc) {
            ff_sha256(rec->index_hash, index, index_bytes);
            rc = parse_index(rec, path, index, index_bytes, err);
        }
        if (!rc)
            rc = check_end(rec, err);
    } else {
        ff_info("%s is missing: numbering the records by a scan", path);
        rc = scan(rec, err);
    }
    if (!rc)
        rc = find_layout(rec, err);
    if (!rc)
        rc = read_property(rec, dir, err);
    if (!rc && rec->classes && rec->identities && rec->classes != rec->identities)
        ff_warn("%s/property:1: %" PRId64 " identities, but %" PRId64
                " identity records are in train.rec",
                dir, rec->classes, rec->identities);
    if (!rc && rec->classes == 0)
        rc = rec->identities ? (rec->classes = rec->identities, 0)
                             : scan_labels(rec, err);
    if (rc)
        goto fail;
    /* Read-ahead pays as long as the file stays in memory, and costs many times the
     * bytes of a record where it does not. */
    uint64_t memory =
        (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    if (rec->bytes > memory / 2)
        madvise((void *)rec->map, rec->bytes, MADV_RANDOM);
    free(index);
    *out = rec;
    return 0;
fail:
    free(index);
    ff_recordio_close(rec);
    return rc;
}

void ff_recordio_close(struct ff_recordio *rec)
{
    if (!rec)
        return;
    if (rec->map)
        munmap((void *)rec->map, rec->bytes);
    free(rec->entries);
    free(rec);
}

/* ---- the open set ---- */

int64_t ff_recordio_count(const struct ff_recordio *rec)
{
    return rec->count;
}

int64_t ff_recordio_classes(const struct ff_recordio *rec)
{
    return rec->classes;
}

uint64_t ff_recordio_bytes(const struct ff_recordio *rec)
{
    return rec->bytes;
}

void ff_recordio_image_size(int *width, int *height, const struct ff_recordio *rec)
{
    *width = rec->width;
    *height = rec->height;
}

int64_t ff_recordio_key(const struct ff_recordio *rec, int64_t index)
{
    return rec->entries[rec->first + index].key;
}

int ff_recordio_read(const uint8_t **bytes, size_t *size, int64_t *label,
                     const struct ff_recordio *rec, int64_t index,
                     struct ff_read_buffer *buffer, struct ff_err *err)
{
    return read_entry(bytes, size, label, rec, &rec->entries[rec->first + index],
                      buffer, err);
}

void ff_recordio_will_read(const struct ff_recordio *rec, int64_t first, int64_t count)
{
    int64_t end = first + count < rec->count ? first + count : rec->count;
    if (first >= end)
        return;
    int64_t behind = rec->first + end; /* entry behind the last one */
    uint64_t from = rec->entries[rec->first + first].offset;
    uint64_t to = behind < rec->entry_count ? rec->entries[behind].offset : rec->bytes;
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    from -= from % page;
    /* Records need not lie in the order of their keys: then nothing is gained. */
    if (from < to && to <= rec->bytes)
        madvise((void *)(rec->map + from), to - from, MADV_WILLNEED);
}

void ff_recordio_describe(char *out, size_t capacity, const struct ff_recordio *rec,
                          int64_t index)
{
    const struct entry *entry = &rec->entries[rec->first + index];
    snprintf(out, capacity, "train.rec: record %" PRId64 " (offset %" PRIu64 ")",
             entry->key, entry->offset);
}

int64_t ff_recordio_identities(const struct ff_recordio *rec)
{
    return rec->identities;
}

int ff_recordio_identity(int64_t *first, int64_t *last, const struct ff_recordio *rec,
                         int64_t i, struct ff_err *err)
{
    float pair[2];
    const struct entry *entry = &rec->entries[rec->identity_first + i];
    if (!key_pair(pair, rec, entry))
        return damaged(err, rec, entry, "is no identity record");
    if (!(pair[0] >= 1 && pair[1] >= pair[0] && pair[1] < 9e15f)) {
        char text[128];
        snprintf(text, sizeof text, "identity record with the keys %g .. %g", pair[0],
                 pair[1]);
        return damaged(err, rec, entry, text);
    }
    *first = (int64_t)pair[0];
    *last = (int64_t)pair[1];
    return 0;
}

int ff_recordio_fingerprint(char out[65], const struct ff_recordio *rec,
                            struct ff_err *err)
{
    const size_t block = FINGERPRINT_BLOCK_BYTES;
    uint8_t *sample = malloc(FINGERPRINT_BLOCKS * block);
    if (!sample)
        return ff_err_set(err, FF_ENOMEM, "out of memory for the fingerprint of %s",
                          rec->path);
    size_t bytes = 0;
    for (uint64_t i = 0; i < FINGERPRINT_BLOCKS; i++) {
        uint64_t at = rec->bytes > block
                          ? (rec->bytes - block) / (FINGERPRINT_BLOCKS - 1) * i
                          : 0;
        size_t n = rec->bytes - at < block ? (size_t)(rec->bytes - at) : block;
        memcpy(sample + bytes, rec->map + at, n);
        bytes += n;
    }
    char blocks_hash[FF_SHA256_HEX], text[512];
    ff_sha256(blocks_hash, sample, bytes);
    free(sample);
    int length =
        snprintf(text, sizeof text,
                 "recordio\nbytes %" PRIu64 "\nidx %s\nproperty %s\nblocks %s\n",
                 rec->bytes, rec->index_hash, rec->property_hash, blocks_hash);
    ff_sha256(out, text, (size_t)length);
    return 0;
}
