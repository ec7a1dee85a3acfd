/* SPDX-License-Identifier: MIT */
/* Superblock, attributes and global heap of an HDF5 file; see h5_raw.h.
 *
 * Layouts: HDF5 File Format Specification 3.0, II.A (superblock), III.E (global heap),
 * IV.A (object header, and its messages for dataspace, datatype and attribute).
 * A text of variable length is stored as u32 bytes, u64 address of a heap collection,
 * u32 index in it. The library gives us these 16 bytes through a conversion that we
 * register, from variable length to opaque, which changes nothing. */
#include "h5_raw.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ADDRESS = 8,      /* bytes of an address or a length in the file */
    HEAP_HEADER = 16, /* bytes before a heap collection's objects, and before each */
};

static uint64_t number(const uint8_t *bytes, int count)
{
    uint64_t value = 0;
    for (int i = count - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

/* -- object header -- */

/* Whether a type made of another one says the size that this makes: the library counts
 * it again, and reads by it, after it has taken as many bytes as stand here. */
static bool size_agrees(const uint8_t *type, const uint8_t *base)
{
    uint64_t size = number(type + 4, 4), made = number(base + 4, 4);
    unsigned class = type[0] & 15, version = type[0] >> 4;
    if (class == 9)
        made = FF_H5_TEXT_REF;
    const uint8_t *side = type + (version > 2 ? 9 : 12);
    for (int i = 0; class == 10 && i < type[8]; i++, side += 4)
        if (__builtin_mul_overflow(made, number(side, 4), &made))
            return false;
    return size == made;
}

/* Bytes that the datatype at `type` takes, 0 if it does not fit into `room`. A compound
 * type is none of ours. `depth` bounds types of types. */
static size_t datatype_bytes(const uint8_t *type, size_t room, int depth)
{
    /* Of the class's properties; without the base type of classes 8 to 10. */
    static const uint8_t fixed[16] = {4, 12, 2, 0, 4, 0, 0, 0, 0, 0, 4};
    size_t used = 8;
    if (room < used || depth > 8)
        return 0;
    unsigned class = type[0] & 15, version = type[0] >> 4;
    if (class > 10 || class == 6)
        return 0;
    used += class == 5 ? type[1] : class == 10 && version > 2 ? 1 : fixed[class];
    if (class == 10 && room > 8)
        used += type[8] * (size_t)(version > 2 ? 4 : 8);
    if (class < 8)
        return used <= room ? used : 0;
    const uint8_t *base = type + used;
    size_t bytes = used < room ? datatype_bytes(base, room - used, depth + 1) : 0;
    if (!bytes || !size_agrees(type, base))
        return 0;
    used += bytes;
    size_t members = class == 8 ? (size_t)number(type + 1, 2) : 0;
    for (size_t i = 0; i < members && used < room; i++) {
        size_t name = strnlen((const char *)type + used, room - used) + 1;
        used += version > 2 ? name : (name + 7) / 8 * 8;
    }
    used += members * (size_t)number(base + 4, 4);
    return used <= room ? used : 0;
}

/* Points of the dataspace at `space`; false if it does not fit into `room`. */
static bool dataspace_points(uint64_t *points, const uint8_t *space, size_t room)
{
    if (room < 4 || space[0] < 1 || space[0] > 2)
        return false;
    size_t header = space[0] == 1 ? 8 : 4, rank = space[1];
    size_t axes = rank * ADDRESS * (1 + (space[2] & 1));
    *points = space[0] == 2 && space[3] == 2 ? 0 : 1; /* 2: no points */
    if (rank > H5S_MAX_RANK || room < header + axes)
        return false;
    for (size_t i = 0; i < rank; i++)
        if (__builtin_mul_overflow(
                *points, number(space + header + i * ADDRESS, ADDRESS), points))
            return false;
    return true;
}

/* Name, type, shape and value of an attribute lie inside its message. */
static bool attribute_fits(const uint8_t *message, size_t room)
{
    size_t header = room && message[0] == 3 ? 9 : 8;
    size_t pad = room && message[0] == 1 ? 7 : 0;
    uint64_t points, bytes;
    if (room < header || message[0] < 1 || message[0] > 3 || (pad ? 0 : message[1]))
        return false;
    size_t name = (size_t)number(message + 2, 2), type = (size_t)number(message + 4, 2);
    size_t space = (size_t)number(message + 6, 2);
    size_t type_at = header + (name + pad) / (pad + 1) * (pad + 1);
    size_t space_at = type_at + (type + pad) / (pad + 1) * (pad + 1);
    size_t value_at = space_at + (space + pad) / (pad + 1) * (pad + 1);
    return value_at <= room && memchr(message + header, 0, name) &&
           datatype_bytes(message + type_at, type, 0) &&
           dataspace_points(&points, message + space_at, space) &&
           !__builtin_mul_overflow(points, number(message + type_at + 4, 4), &bytes) &&
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
    uint64_t bytes = number(file + address + 8, ADDRESS);
    uint64_t next = number(file + address + 16, ADDRESS);
    uint64_t data = number(file + address + 24, ADDRESS);
    if (data > size || bytes > size - data)
        return false;
    for (uint64_t left = bytes / FREE_HEADER; next != LAST; left--) {
        if (!left || next > bytes || bytes - next < FREE_HEADER)
            return false;
        next = number(file + data + next, ADDRESS);
    }
    return true;
}

/* All attributes of the object with a header at `address` fit, and if it is a group of
 * the older format, its names. Headers of the newer format have a checksum, which the
 * library looks at. */
static bool object_fits(const uint8_t *file, uint64_t size, uint64_t address)
{
    enum { PREFIX = 16, MESSAGE = 8, CHUNKS = 256 };
    enum { ATTRIBUTE = 0xc, CONTINUATION = 0x10, SYMBOL_TABLE = 0x11 };
    struct {
        uint64_t at, bytes;
    } chunk[CHUNKS];
    int chunks = 1;
    if (address > size || size - address < PREFIX)
        return false;
    if (!memcmp(file + address, "OHDR", 4))
        return true;
    chunk[0].at = address + PREFIX;
    chunk[0].bytes = number(file + address + 8, 4);
    for (int k = 0; k < chunks; k++) {
        if (chunk[k].at > size || chunk[k].bytes > size - chunk[k].at)
            return false;
        const uint8_t *at = file + chunk[k].at;
        size_t room = (size_t)chunk[k].bytes;
        while (room >= MESSAGE) {
            unsigned kind = (unsigned)number(at, 2);
            size_t bytes = (size_t)number(at + 2, 2);
            at += MESSAGE;
            room -= MESSAGE;
            if (bytes > room || (kind == ATTRIBUTE && !attribute_fits(at, bytes)))
                return false;
            if (kind == SYMBOL_TABLE &&
                (bytes < 2 * ADDRESS ||
                 !names_fit(file, size, number(at + ADDRESS, ADDRESS))))
                return false;
            if (kind == CONTINUATION) {
                if (bytes < 2 * ADDRESS || chunks == CHUNKS)
                    return false;
                chunk[chunks].at = number(at, ADDRESS);
                chunk[chunks++].bytes = number(at + ADDRESS, ADDRESS);
            }
            at += bytes;
            room -= bytes;
        }
    }
    return true;
}

/* -- superblock -- */

static int check_superblock(const char *path, const uint8_t *block, uint64_t size,
                            struct ff_err *err)
{
    unsigned version = size > 8 ? block[8] : UINT8_MAX;
    if (version > 3)
        return ff_err_set(err, FF_EDATA, "%s: damaged: superblock version %u", path,
                          version);
    bool old = version < 2;
    size_t sizes = old ? 13 : 9, base = version == 0 ? 24 : version == 1 ? 28 : 12;
    size_t root = base + (old ? 5 : 3) * (size_t)ADDRESS;
    if (size < root + 4 * (size_t)ADDRESS)
        return ff_err_set(err, FF_EDATA, "%s: cut off after %llu bytes", path,
                          (unsigned long long)size);
    if (block[sizes] != ADDRESS || block[sizes + 1] != ADDRESS)
        return ff_err_set(err, FF_EDATA, "%s: damaged: addresses of %u and %u bytes",
                          path, block[sizes], block[sizes + 1]);
    uint64_t start = number(block + base, ADDRESS);
    uint64_t end = number(block + base + 2 * (size_t)ADDRESS, ADDRESS);
    uint64_t driver = number(block + base + 3 * (size_t)ADDRESS, ADDRESS);
    uint64_t header = number(block + root, ADDRESS);
    if (start)
        return ff_err_set(err, FF_EDATA, "%s: damaged: base address %llu", path,
                          (unsigned long long)start);
    if (end > size)
        return ff_err_set(err, FF_EDATA, "%s: cut off: %llu of %llu bytes", path,
                          (unsigned long long)size, (unsigned long long)end);
    if (old && driver != UINT64_MAX)
        return ff_err_set(err, FF_EDATA, "%s: damaged: driver block at %llu", path,
                          (unsigned long long)driver);
    if (!object_fits(block, size, header))
        return ff_err_set(err, FF_EDATA,
                          "%s: root group at %llu: damaged, or has an attribute of "
                          "compound type",
                          path, (unsigned long long)header);
    return 0;
}

int ff_h5_check_start(const char *path, struct ff_err *err)
{
    static const uint8_t signature[8] = "\x89HDF\r\n\x1a\n";
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot open", path);
    void *map = MAP_FAILED;
    int rc = fstat(fd, &st);
    if (!rc && st.st_size)
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (rc || (st.st_size && map == MAP_FAILED))
        rc = ff_err_errno(err, FF_EFAIL, "%s: cannot read", path);
    else if ((size_t)st.st_size < sizeof signature ||
             memcmp(map, signature, sizeof signature))
        rc = ff_err_set(err, FF_EDATA, "%s: not an HDF5 file", path);
    else
        rc = check_superblock(path, map, (uint64_t)st.st_size, err);
    if (map != MAP_FAILED)
        munmap(map, (size_t)st.st_size);
    close(fd);
    return rc;
}

/* -- global heap -- */

static herr_t keep_bytes(hid_t src, hid_t dst, H5T_cdata_t *data, size_t count,
                         size_t stride, size_t background_stride, void *buffer,
                         void *background, hid_t plist)
{
    (void)count, (void)stride, (void)background_stride, (void)buffer, (void)background;
    (void)plist;
    data->need_bkg = H5T_BKG_NO;
    if (data->command != H5T_CONV_INIT)
        return 0;
    return H5Tis_variable_str(src) > 0 && H5Tget_size(dst) == FF_H5_TEXT_REF ? 0 : -1;
}

hid_t ff_h5_text_ref_type(void)
{
    static bool registered;
    hid_t type = H5Tcreate(H5T_OPAQUE, FF_H5_TEXT_REF), text = H5Tcopy(H5T_C_S1);
    if (type >= 0 && text >= 0 && !registered)
        registered =
            H5Tset_size(text, H5T_VARIABLE) >= 0 &&
            H5Tregister(H5T_PERS_SOFT, "ff_text_ref", text, type, keep_bytes) >= 0;
    if (text >= 0)
        H5Tclose(text);
    if (type >= 0 && !registered) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

/* The file's bytes, and where the last text was found: the next one is behind it. */
struct heap {
    const uint8_t *bytes;
    size_t size, at, collection, end;
};

static bool enter(struct heap *h, uint64_t address)
{
    if (address >= h->size || h->size - address < HEAP_HEADER)
        return false;
    const uint8_t *start = h->bytes + address;
    uint64_t bytes = number(start + 8, ADDRESS);
    if (memcmp(start, "GCOL\1", 5) || bytes < HEAP_HEADER || bytes > h->size - address)
        return false;
    h->collection = address;
    h->at = address + HEAP_HEADER;
    h->end = address + bytes;
    return true;
}

/* The object with that index, looked for from where h stands, then from the first. */
static const uint8_t *find_object(size_t *size, struct heap *h, uint64_t address,
                                  unsigned index)
{
    if ((!h->end || h->collection != address) && !enter(h, address))
        return NULL;
    size_t first = h->collection + HEAP_HEADER;
    bool again = h->at == first;
    for (;;) {
        const uint8_t *object = h->bytes + h->at;
        size_t room = h->end - h->at;
        unsigned found = room >= HEAP_HEADER ? (unsigned)number(object, 2) : 0;
        if (!found) { /* what is left is free */
            if (again)
                return NULL;
            again = true;
            h->at = first;
            continue;
        }
        uint64_t bytes = number(object + 8, ADDRESS);
        room -= HEAP_HEADER;
        if (bytes > room)
            return NULL;
        size_t whole = ((size_t)bytes + 7) / 8 * 8;
        h->at += HEAP_HEADER + (whole < room ? whole : room);
        if (found == index) {
            *size = (size_t)bytes;
            return object + HEAP_HEADER;
        }
    }
}

static int resolve(char **texts, struct heap *heap, const uint8_t *ref, size_t count)
{
    for (size_t i = 0; i < count; i++, ref += FF_H5_TEXT_REF) {
        size_t length = (size_t)number(ref, 4), size = 0;
        const uint8_t *text = (const uint8_t *)"";
        if (length)
            text = find_object(&size, heap, number(ref + 4, ADDRESS),
                               (unsigned)number(ref + 12, 4));
        if (!text || size < length)
            return FF_EDATA;
        texts[i] = strndup((const char *)text, length);
        if (!texts[i])
            return FF_ENOMEM;
    }
    return 0;
}

/* Maps the file of `loc` as it is on disk; what is still in memory is written first. */
static int map_file(const uint8_t **bytes, size_t *size, hid_t loc)
{
    void *driver = NULL, *map = MAP_FAILED;
    unsigned intent;
    struct stat st;
    hid_t file = H5Iget_file_id(loc);
    if (file >= 0 && H5Fget_intent(file, &intent) >= 0 &&
        (!(intent & H5F_ACC_RDWR) || H5Fflush(file, H5F_SCOPE_LOCAL) >= 0) &&
        H5Fget_vfd_handle(file, H5P_DEFAULT, &driver) >= 0 &&
        !fstat(*(int *)driver, &st) && st.st_size)
        map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, *(int *)driver, 0);
    if (file >= 0)
        H5Fclose(file);
    if (map == MAP_FAILED)
        return FF_EFAIL;
    *bytes = map;
    *size = (size_t)st.st_size;
    return 0;
}

int ff_h5_resolve_texts(char **texts, const char **what, hid_t loc, const void *ref,
                        size_t count)
{
    struct heap heap = {0};
    *what = "cannot read";
    if (map_file(&heap.bytes, &heap.size, loc))
        return FF_EFAIL;
    int rc = resolve(texts, &heap, ref, count);
    *what = rc == FF_ENOMEM ? "no memory for it" : "damaged: its text is not there";
    munmap((void *)heap.bytes, heap.size);
    return rc;
}

bool ff_h5_group_fits(hid_t loc, const char *name)
{
#if H5_VERSION_GE(1, 12, 0) /* the later one has no address */
    H5O_info1_t info;
#else
    H5O_info_t info;
#endif
    const uint8_t *bytes;
    size_t size;
    if (H5Oget_info_by_name2(loc, name, &info, H5O_INFO_BASIC, H5P_DEFAULT) < 0 ||
        map_file(&bytes, &size, loc))
        return false;
    bool fits = object_fits(bytes, size, info.addr);
    munmap((void *)bytes, size);
    return fits;
}
