/* SPDX-License-Identifier: MIT */
/* Object headers of HDF5 files; see h5_header.h.
 *
 * Layouts: HDF5 File Format Specification 3.0, III.D (local heap), IV.A.1 (object
 * header of both versions), IV.A.2 (messages). A header is a list of messages in one or
 * more chunks; each message is noted first, then a dataset's are looked at together.
 * What is not a header's own is left to the library: trees of names, which it checks,
 * and dense storage of the newer format, which has checksums. */
#include "h5_header.h"

#include <hdf5.h>
#include <string.h>

static const char damaged[] = "damaged";
static const char missing[] = "damaged: its values are not all in the file";
static const char chunked[] =
    "stored in chunks or compressed (h5repack -l CONTI -f NONE makes it plain)";
static const char elsewhere[] = "stored in another file or shared";
static const char strange[] = "of another type than numbers and text";
static const char attribute[] = "an attribute is damaged or of a compound or rare type";

uint64_t ff_h5_number(const uint8_t *bytes, int count)
{
    uint64_t value = 0;
    for (int i = count - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

static uint64_t address_at(const uint8_t *bytes)
{
    return ff_h5_number(bytes, FF_H5_ADDRESS);
}

static size_t u16(const uint8_t *bytes)
{
    return (size_t)ff_h5_number(bytes, 2);
}

static size_t u32(const uint8_t *bytes)
{
    return (size_t)ff_h5_number(bytes, 4);
}

/* -- types and shapes -- */

enum type_class {
    INTEGER = 0,
    FLOAT = 1,
    TEXT = 3,
    OPAQUE = 5,
    COMPOUND = 6,
    ENUM = 8,
    VARIABLE = 9,
    ARRAY = 10
};
enum { TYPE_HEADER = 8, REFERENCE_BYTES = 16 /* of a text of variable length */ };

static unsigned class_of(const uint8_t *type)
{
    return type[0] & 15;
}

/* Whether the bits of a number lie where they do in the processor's own types: the
 * library moves bits by these fields and does not look whether they are there. */
static bool is_standard_number(const uint8_t *type)
{
    /* offset, precision; of floats sign, exponent's place and bits, mantissa's, bias */
    static const struct {
        uint8_t bytes, bits, sign, fields[4];
        uint16_t bias;
    } ieee[] = {{2, 16, 15, {10, 5, 0, 10}, 15},
                {4, 32, 31, {23, 8, 0, 23}, 127},
                {8, 64, 63, {52, 11, 0, 52}, 1023}};
    size_t bytes = u32(type + 4);
    const uint8_t *fields = type + TYPE_HEADER;
    if (u16(fields) != 0 || u16(fields + 2) != 8 * bytes)
        return false;
    if (class_of(type) == INTEGER)
        return !(type[1] & ~9) &&
               (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8);
    for (size_t i = 0; i < sizeof ieee / sizeof *ieee; i++) {
        if (ieee[i].bytes == bytes)
            return (type[1] & ~1) == 0x20 && type[2] == ieee[i].sign &&
                   !memcmp(fields + 4, ieee[i].fields, sizeof ieee[i].fields) &&
                   u32(fields + 8) == ieee[i].bias;
    }
    return false;
}

/* Whether a type made of another one says the size that this makes: the library counts
 * it again, and reads by it, after it has taken as many bytes as stand here. */
static bool size_agrees(const uint8_t *type, const uint8_t *base)
{
    uint64_t size = u32(type + 4), made = u32(base + 4);
    unsigned version = type[0] >> 4;
    if (class_of(type) == VARIABLE)
        made = REFERENCE_BYTES;
    const uint8_t *side = type + (version > 2 ? 9 : 12);
    for (int i = 0; class_of(type) == ARRAY && i < type[8]; i++, side += 4)
        if (__builtin_mul_overflow(made, (uint64_t)u32(side), &made))
            return false;
    return size == made;
}

/* Bytes that the datatype at `type` takes, 0 if it does not fit into `room`. A compound
 * type is none of ours. `depth` bounds types of types. */
static size_t datatype_bytes(const uint8_t *type, size_t room, int depth)
{
    /* Of the class's properties; without the base type of the last three. */
    static const uint8_t fixed[16] = {4, 12, 2, 0, 4, 0, 0, 0, 0, 0, 4};
    size_t used = TYPE_HEADER;
    if (room < used || depth > 8)
        return 0;
    unsigned class = class_of(type), version = type[0] >> 4;
    if (class > ARRAY || class == COMPOUND)
        return 0;
    used += class == OPAQUE                 ? type[1]
            : class == ARRAY && version > 2 ? 1
                                            : fixed[class];
    if (class == ARRAY && room > 8)
        used += type[8] * (size_t)(version > 2 ? 4 : 8);
    if (class == INTEGER || class == FLOAT)
        return used <= room && is_standard_number(type) ? used : 0;
    if (class < ENUM)
        return used <= room ? used : 0;
    const uint8_t *base = type + used;
    size_t bytes = used < room ? datatype_bytes(base, room - used, depth + 1) : 0;
    if (!bytes || !size_agrees(type, base))
        return 0;
    used += bytes;
    size_t members = class == ENUM ? u16(type + 1) : 0;
    for (size_t i = 0; i < members && used < room; i++) {
        size_t name = strnlen((const char *)type + used, room - used) + 1;
        used += version > 2 ? name : (name + 7) / 8 * 8;
    }
    used += members * u32(base + 4);
    return used <= room ? used : 0;
}

static bool is_number_or_text(const uint8_t *type)
{
    switch (class_of(type)) {
    case INTEGER:
    case FLOAT: return true;
    case TEXT: return u32(type + 4) > 0;
    case VARIABLE: return (type[1] & 15) == 1 && u32(type + TYPE_HEADER + 4) == 1;
    default: return false;
    }
}

/* Points of the dataspace at `space`; false if it does not fit into `room`. */
static bool dataspace_points(uint64_t *points, const uint8_t *space, size_t room)
{
    if (room < 4 || space[0] < 1 || space[0] > 2)
        return false;
    size_t header = space[0] == 1 ? 8 : 4, rank = space[1];
    size_t axes = rank * FF_H5_ADDRESS * (1 + (space[2] & 1));
    *points = space[0] == 2 && space[3] == 2 ? 0 : 1; /* 2: no points */
    if (rank > H5S_MAX_RANK || room < header + axes)
        return false;
    for (size_t i = 0; i < rank; i++)
        if (__builtin_mul_overflow(
                *points, address_at(space + header + i * FF_H5_ADDRESS), points))
            return false;
    return true;
}

/* -- messages -- */

enum message_kind {
    NIL = 0,
    DATASPACE = 1,
    DATATYPE = 3,
    FILL_OLD = 4,
    FILL = 5,
    EXTERNAL_FILES = 7,
    LAYOUT = 8,
    FILTERS = 0xb,
    ATTRIBUTE = 0xc,
    CONTINUATION = 0x10,
    SYMBOL_TABLE = 0x11,
    KINDS = 0x18
};

struct header {
    const uint8_t *file;
    uint64_t size;
    bool is_group, newer; /* newer: version 2 */
    int message_header;   /* bytes */
    int chunks;
    struct {
        uint64_t at, bytes;
    } chunk[256];
    struct {
        const uint8_t *at; /* NULL: there is none */
        size_t bytes;
    } part[KINDS];
};

/* Name, type, shape and value of an attribute lie inside its message. */
static bool attribute_fits(const uint8_t *message, size_t room)
{
    size_t header = room && message[0] == 3 ? 9 : 8;
    size_t pad = room && message[0] == 1 ? 7 : 0;
    uint64_t points, bytes;
    if (room < header || message[0] < 1 || message[0] > 3 || (pad ? 0 : message[1]))
        return false;
    size_t name = u16(message + 2), type = u16(message + 4), space = u16(message + 6);
    size_t type_at = header + (name + pad) / (pad + 1) * (pad + 1);
    size_t space_at = type_at + (type + pad) / (pad + 1) * (pad + 1);
    size_t value_at = space_at + (space + pad) / (pad + 1) * (pad + 1);
    return value_at <= room && memchr(message + header, 0, name) &&
           datatype_bytes(message + type_at, type, 0) &&
           dataspace_points(&points, message + space_at, space) &&
           !__builtin_mul_overflow(points, (uint64_t)u32(message + type_at + 4),
                                   &bytes) &&
           bytes <= room - value_at;
}

/* The names of a group, at `address`, and the chain of their free room lie inside the
 * file; the library follows the chain as long as it goes. */
static bool names_fit(const uint8_t *file, uint64_t size, uint64_t address)
{
    enum { HEADER = 32, LAST = 1, FREE_HEADER = 16 };
    if (address > size || size - address < HEADER ||
        memcmp(file + address, "HEAP", 5) != 0)
        return false;
    uint64_t bytes = address_at(file + address + 8);
    uint64_t next = address_at(file + address + 16);
    uint64_t data = address_at(file + address + 24);
    if (data > size || bytes > size - data)
        return false;
    for (uint64_t left = bytes / FREE_HEADER; next != LAST; left--) {
        if (!left || next > bytes || bytes - next < FREE_HEADER)
            return false;
        next = address_at(file + data + next);
    }
    return true;
}

/* Bytes of the value that stands for what was never written; false if they are not all
 * there. */
static bool fill_bytes(size_t *bytes, const struct header *h)
{
    const uint8_t *old = h->part[FILL_OLD].at, *fill = h->part[FILL].at;
    size_t room = h->part[FILL].bytes, at;
    *bytes = 0;
    if (old && (h->part[FILL_OLD].bytes < 4 || u32(old) > h->part[FILL_OLD].bytes - 4))
        return false;
    if (!fill)
        return true;
    if (room < 2 || fill[0] < 1 || fill[0] > 3)
        return false;
    if (fill[0] == 3) {
        at = 2;
        if (!(fill[1] & 0x20))
            return true;
    } else {
        at = 4;
        if (room < at || (fill[0] == 2 && !fill[3]))
            return room >= at;
    }
    if (room < at + 4)
        return false;
    *bytes = u32(fill + at);
    return *bytes <= room - at - 4;
}

/* NULL if `bytes` bytes of values lie in the message or in the file. */
static const char *storage_fault(const struct header *h, uint64_t bytes)
{
    enum { COMPACT, CONTIGUOUS, CHUNKED };
    const uint8_t *layout = h->part[LAYOUT].at;
    size_t room = h->part[LAYOUT].bytes;
    if (room < 4 || layout[0] < 3 || layout[0] > 4)
        return damaged;
    if (layout[1] == COMPACT)
        return u16(layout + 2) <= room - 4 && bytes <= u16(layout + 2) ? NULL : missing;
    if (layout[1] == CHUNKED)
        return chunked;
    if (layout[1] != CONTIGUOUS)
        return elsewhere;
    if (room < 2 + 2 * FF_H5_ADDRESS)
        return damaged;
    uint64_t at = address_at(layout + 2), stored = address_at(layout + 10);
    if (at == UINT64_MAX) /* never written */
        return bytes ? missing : NULL;
    return at <= h->size && stored <= h->size - at && bytes <= stored ? NULL : missing;
}

static const char *dataset_fault(const struct header *h)
{
    const uint8_t *type = h->part[DATATYPE].at;
    uint64_t points, bytes;
    size_t fill;
    if (h->part[EXTERNAL_FILES].at)
        return elsewhere;
    if (!type || !h->part[DATASPACE].at || !h->part[LAYOUT].at)
        return damaged;
    if (!datatype_bytes(type, h->part[DATATYPE].bytes, 0) || !is_number_or_text(type))
        return strange;
    if (!dataspace_points(&points, h->part[DATASPACE].at, h->part[DATASPACE].bytes) ||
        __builtin_mul_overflow(points, (uint64_t)u32(type + 4), &bytes) ||
        !fill_bytes(&fill, h) || (fill && fill != u32(type + 4)))
        return damaged;
    const char *fault = storage_fault(h, bytes);
    return fault || !h->part[FILTERS].at ? fault : damaged;
}

static const char *note_message(struct header *h, unsigned kind, unsigned flags,
                                const uint8_t *message, size_t bytes)
{
    enum { SHARED = 2, CHUNKS = sizeof h->chunk / sizeof *h->chunk };
    if (kind == ATTRIBUTE) /* of a dataset we ask for none */
        return h->is_group && !attribute_fits(message, bytes) ? attribute : NULL;
    if (kind == CONTINUATION) {
        if (bytes < 2 * FF_H5_ADDRESS || h->chunks == CHUNKS)
            return damaged;
        h->chunk[h->chunks].at = address_at(message);
        h->chunk[h->chunks++].bytes = address_at(message + FF_H5_ADDRESS);
        return NULL;
    }
    if (kind == NIL || kind >= KINDS)
        return NULL;
    if (flags & SHARED)
        return elsewhere;
    bool repeats = kind == 6; /* a link of the newer format */
    if (h->part[kind].at && !repeats)
        return damaged;
    h->part[kind].at = message;
    h->part[kind].bytes = bytes;
    return NULL;
}

static const char *chunk_fault(struct header *h, int k)
{
    uint64_t start = h->chunk[k].at, bytes = h->chunk[k].bytes;
    if (start > h->size || bytes > h->size - start)
        return damaged;
    const uint8_t *at = h->file + start, *end = at + bytes;
    if (h->newer && k > 0) { /* a signature before, a checksum behind */
        if (bytes < 8 || memcmp(at, "OCHK", 4) != 0)
            return damaged;
        at += 4;
        end -= 4;
    }
    while (end - at >= h->message_header) {
        unsigned kind = h->newer ? at[0] : (unsigned)u16(at);
        size_t length = u16(at + (h->newer ? 1 : 2));
        unsigned flags = at[h->newer ? 3 : 4];
        at += h->message_header;
        if (length > (size_t)(end - at))
            return damaged;
        const char *fault = note_message(h, kind, flags, at, length);
        if (fault)
            return fault;
        at += length;
    }
    return NULL;
}

/* The first chunk and what both versions differ in; false if it is cut off. */
static bool start_header(struct header *h, uint64_t address)
{
    enum { PREFIX = 16, NEWER_PREFIX = 6, TIMES = 0x20, PHASE = 0x10, ORDER = 4 };
    if (address > h->size || h->size - address < PREFIX)
        return false;
    const uint8_t *start = h->file + address;
    h->chunks = 1;
    h->newer = !memcmp(start, "OHDR", 4);
    if (!h->newer) {
        h->message_header = 8;
        h->chunk[0].at = address + PREFIX;
        h->chunk[0].bytes = u32(start + 8);
        return true;
    }
    unsigned flags = start[5];
    int width = 1 << (flags & 3);
    uint64_t at = NEWER_PREFIX + (flags & TIMES ? 16 : 0) + (flags & PHASE ? 4 : 0);
    if (h->size - address < at + (uint64_t)width)
        return false;
    h->message_header = flags & ORDER ? 6 : 4;
    h->chunk[0].at = address + at + (uint64_t)width;
    h->chunk[0].bytes = ff_h5_number(start + at, width);
    return true;
}

const char *ff_h5_header_fault(const uint8_t *file, uint64_t size, uint64_t address,
                               bool is_group)
{
    struct header h = {.file = file, .size = size, .is_group = is_group};
    if (!start_header(&h, address))
        return damaged;
    for (int k = 0; k < h.chunks; k++) {
        const char *fault = chunk_fault(&h, k);
        if (fault)
            return fault;
    }
    if (!is_group)
        return dataset_fault(&h);
    const uint8_t *names = h.part[SYMBOL_TABLE].at;
    if (names && (h.part[SYMBOL_TABLE].bytes < 2 * FF_H5_ADDRESS ||
                  !names_fit(file, size, address_at(names + FF_H5_ADDRESS))))
        return damaged;
    return NULL;
}
