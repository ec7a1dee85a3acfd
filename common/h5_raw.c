/* SPDX-License-Identifier: MIT */
/* Superblock and global heap of an HDF5 file; see h5_raw.h.
 *
 * Layouts: HDF5 File Format Specification 3.0, II.A (superblock), III.E (global heap).
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

#include "h5_header.h"

enum {
    ADDRESS = FF_H5_ADDRESS,
    HEAP_HEADER = 16, /* bytes before a heap collection's objects, and before each */
};

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
    uint64_t start = ff_h5_number(block + base, ADDRESS);
    uint64_t end = ff_h5_number(block + base + 2 * (size_t)ADDRESS, ADDRESS);
    uint64_t driver = ff_h5_number(block + base + 3 * (size_t)ADDRESS, ADDRESS);
    uint64_t header = ff_h5_number(block + root, ADDRESS);
    if (start)
        return ff_err_set(err, FF_EDATA, "%s: damaged: base address %llu", path,
                          (unsigned long long)start);
    if (end > size)
        return ff_err_set(err, FF_EDATA, "%s: cut off: %llu of %llu bytes", path,
                          (unsigned long long)size, (unsigned long long)end);
    if (old && driver != UINT64_MAX)
        return ff_err_set(err, FF_EDATA, "%s: damaged: driver block at %llu", path,
                          (unsigned long long)driver);
    const char *fault = ff_h5_header_fault(block, size, header, true);
    if (fault)
        return ff_err_set(err, FF_EDATA, "%s: root group at %llu: %s", path,
                          (unsigned long long)header, fault);
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
    uint64_t bytes = ff_h5_number(start + 8, ADDRESS);
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
        unsigned found = room >= HEAP_HEADER ? (unsigned)ff_h5_number(object, 2) : 0;
        if (!found) { /* what is left is free */
            if (again)
                return NULL;
            again = true;
            h->at = first;
            continue;
        }
        uint64_t bytes = ff_h5_number(object + 8, ADDRESS);
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
        size_t length = (size_t)ff_h5_number(ref, 4), size = 0;
        const uint8_t *text = (const uint8_t *)"";
        if (length)
            text = find_object(&size, heap, ff_h5_number(ref + 4, ADDRESS),
                               (unsigned)ff_h5_number(ref + 12, 4));
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

const char *ff_h5_object_fault(hid_t loc, const char *name)
{
#if H5_VERSION_GE(1, 12, 0) /* the later one has no address */
    H5O_info1_t info;
#else
    H5O_info_t info;
#endif
    const uint8_t *bytes;
    size_t size;
    if (H5Oget_info_by_name2(loc, name, &info, H5O_INFO_BASIC, H5P_DEFAULT) < 0)
        return "damaged";
    if (info.type != H5O_TYPE_GROUP && info.type != H5O_TYPE_DATASET)
        return "neither group nor dataset";
    if (map_file(&bytes, &size, loc))
        return "cannot read";
    const char *fault =
        ff_h5_header_fault(bytes, size, info.addr, info.type == H5O_TYPE_GROUP);
    munmap((void *)bytes, size);
    return fault;
}
