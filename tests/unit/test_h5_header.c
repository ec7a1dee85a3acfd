/* SPDX-License-Identifier: MIT */
/* Object headers of HDF5 files: what the library writes is sound, in both formats; a
 * byte that is wrong is named before the library sees it. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <hdf5.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "h5_header.h"

enum { ROWS = 3, COLUMNS = 4 };
static char folder[64], path[FF_PATH_MAX];

static void setup(void)
{
    strcpy(folder, "/tmp/ff_h5_header_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    ff_path(path, NULL, "%s/a.h5", folder);
}

static void teardown(void)
{
    ff_remove_tree(folder, NULL);
}

TestSuite(h5_header, .init = setup, .fini = teardown);

struct sample {
    uint8_t *bytes;
    size_t size;
    uint64_t address; /* of the dataset's header */
    bool newer;
};

static uint64_t address_of(hid_t object)
{
#if H5_VERSION_GE(1, 12, 0)
    H5O_info1_t info;
    H5Oget_info1(object, &info);
#else
    H5O_info_t info;
    H5Oget_info(object, &info);
#endif
    return info.addr;
}

/* A file with one dataset (ROWS, COLUMNS), all 1. */
static struct sample make_type(hid_t type, H5D_layout_t layout, bool newer)
{
    struct sample s = {.newer = newer};
    hsize_t dims[2] = {ROWS, COLUMNS}, chunk[2] = {2, 2};
    int ones[ROWS][COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++)
        ones[i / COLUMNS][i % COLUMNS] = 1;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), plist = H5Pcreate(H5P_DATASET_CREATE);
    if (newer)
        H5Pset_libver_bounds(access, H5F_LIBVER_LATEST, H5F_LIBVER_LATEST);
    H5Pset_layout(plist, layout);
    if (layout == H5D_CHUNKED)
        H5Pset_chunk(plist, 2, chunk);
    hid_t file = H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, access);
    hid_t space = H5Screate_simple(2, dims, NULL);
    hid_t set = H5Dcreate2(file, "set", type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    if (H5Tget_class(type) == H5T_INTEGER || H5Tget_class(type) == H5T_FLOAT)
        H5Dwrite(set, H5T_NATIVE_INT, H5S_ALL, H5S_ALL, H5P_DEFAULT, ones);
    s.address = address_of(set);
    H5Dclose(set);
    H5Sclose(space);
    H5Fclose(file);
    H5Pclose(plist);
    H5Pclose(access);
    char *bytes;
    cr_assert(eq(int, ff_read_file(&bytes, &s.size, path, NULL), 0));
    s.bytes = (uint8_t *)bytes;
    return s;
}

static const char *fault(const struct sample *s)
{
    return ff_h5_header_fault(s->bytes, s->size, s->address, false);
}

/* The dataset's first message of a kind, its own header left out. */
static uint8_t *message(const struct sample *s, unsigned kind)
{
    uint8_t *at = s->bytes + s->address;
    at += s->newer ? 6 + (at[5] & 0x20 ? 16 : 0) + (1 << (at[5] & 3)) : 16;
    for (int i = 0; i < 20; i++) {
        unsigned found = s->newer ? at[0] : (unsigned)ff_h5_number(at, 2);
        size_t bytes = (size_t)ff_h5_number(at + (s->newer ? 1 : 2), 2);
        at += s->newer ? 4 : 8;
        if (found == kind)
            return at;
        at += bytes;
    }
    cr_assert(0, "no message of kind %u", kind);
    return NULL;
}

static void expect(const struct sample *s, const char *start)
{
    const char *found = fault(s);
    cr_assert(start ? found && !strncmp(found, start, strlen(start)) : !found,
              "\"%s\" where \"%s\" is expected", found ? found : "no fault",
              start ? start : "no fault");
}

enum { SPACE = 1, TYPE = 3, FILL = 5, LAYOUT = 8 };

Test(h5_header, what_the_library_writes_is_sound)
{
    hid_t text = H5Tcopy(H5T_C_S1), fixed = H5Tcopy(H5T_C_S1);
    H5Tset_size(text, H5T_VARIABLE);
    H5Tset_size(fixed, 7);
    const hid_t types[] = {H5T_STD_I8LE,   H5T_STD_U8BE,   H5T_STD_I32BE, H5T_STD_U64LE,
                           H5T_IEEE_F32LE, H5T_IEEE_F64BE, text,          fixed};
    for (int newer = 0; newer < 2; newer++) {
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            for (int layout = 0; layout < 2; layout++) {
                bool never_written = i >= 6 && layout;
                struct sample s =
                    make_type(types[i], layout ? H5D_CONTIGUOUS : H5D_COMPACT, newer);
                expect(&s, never_written ? "damaged: its values" : NULL);
                free(s.bytes);
            }
        }
    }
    H5Tclose(text);
    H5Tclose(fixed);
}

Test(h5_header, what_we_do_not_read_is_named)
{
    hid_t list = H5Tvlen_create(H5T_STD_I8LE), odd = H5Tcopy(H5T_IEEE_F32LE);
    hid_t pair = H5Tcreate(H5T_COMPOUND, 4);
    H5Tinsert(pair, "a", 0, H5T_STD_I32LE);
    H5Tset_fields(odd, 31, 22, 9, 0, 22);
    const hid_t types[] = {H5T_STD_REF_OBJ, H5T_NATIVE_LDOUBLE, list, odd, pair};
    for (int newer = 0; newer < 2; newer++) {
        for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
            struct sample s = make_type(types[i], H5D_CONTIGUOUS, newer);
            expect(&s, "of another type");
            free(s.bytes);
        }
        struct sample s = make_type(H5T_IEEE_F32LE, H5D_CHUNKED, newer);
        expect(&s, "stored in chunks");
        free(s.bytes);
    }
    H5Tclose(list);
    H5Tclose(odd);
    H5Tclose(pair);
}

/* One byte of a message of a dataset of floats. */
static const struct {
    unsigned kind;
    int at;
    uint8_t byte;
    const char *fault;
} damages[] = {
    {SPACE, 0, 3, "damaged"},                 /* version */
    {SPACE, 1, 33, "damaged"},                /* axes */
    {SPACE, 1, 5, "damaged"},                 /* more than the message holds */
    {TYPE, 0, 0x16, "of another type"},       /* a compound type */
    {TYPE, 0, 0x15, "of another type"},       /* an opaque one, its tag too long */
    {TYPE, 0, 0x10, "of another type"},       /* an integer with a float's bits */
    {TYPE, 2, 40, "of another type"},         /* sign's bit */
    {TYPE, 4, 8, "of another type"},          /* bytes */
    {TYPE, 10, 64, "of another type"},        /* bits */
    {TYPE, 12, 30, "of another type"},        /* exponent's place */
    {FILL, 0, 9, "damaged"},                  /* version */
    {LAYOUT, 0, 1, "damaged"},                /* version */
    {LAYOUT, 1, 3, "stored in another file"}, /* class: virtual */
    {LAYOUT, 1, 2, "stored in chunks"},       /* class */
};

Test(h5_header, damaged_messages)
{
    for (int newer = 0; newer < 2; newer++) {
        for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
            struct sample s = make_type(H5T_IEEE_F32LE, H5D_CONTIGUOUS, newer);
            expect(&s, NULL);
            message(&s, damages[i].kind)[damages[i].at] = damages[i].byte;
            expect(&s, damages[i].fault);
            free(s.bytes);
        }
    }
}

Test(h5_header, values_that_are_not_there)
{
    static const char gone[] = "damaged: its values are not all in the file";
    for (int newer = 0; newer < 2; newer++) {
        struct sample s = make_type(H5T_IEEE_F32LE, H5D_COMPACT, newer);
        uint8_t *axes = message(&s, SPACE) + (newer ? 4 : 8);
        expect(&s, NULL);
        axes[0]++;
        expect(&s, gone);
        axes[0] -= 2; /* fewer than stored */
        expect(&s, NULL);
        axes[7] = 0x80; /* 2^63 rows */
        expect(&s, "damaged");
        free(s.bytes);
        s = make_type(H5T_IEEE_F32LE, H5D_CONTIGUOUS, newer);
        uint8_t *layout = message(&s, LAYOUT);
        layout[10]--; /* bytes stored */
        expect(&s, gone);
        layout[10]++;
        expect(&s, NULL);
        layout[7] = 1; /* the address */
        expect(&s, gone);
        free(s.bytes);
    }
}

/* Wherever a file is cut or a header begins, no byte outside of it is read. */
Test(h5_header, every_cut_and_every_start)
{
    for (int newer = 0; newer < 2; newer++) {
        struct sample s = make_type(H5T_IEEE_F32LE, H5D_COMPACT, newer);
        int faults = 0;
        for (size_t size = 0; size < s.size; size++) {
            uint8_t *cut = malloc(size ? size : 1); /* its end is the block's */
            memcpy(cut, s.bytes, size);
            faults += ff_h5_header_fault(cut, size, s.address, false) != NULL;
            for (uint64_t at = size < 64 ? 0 : size - 64; at <= size; at++)
                ff_h5_header_fault(cut, size, at, at % 2);
            free(cut);
        }
        cr_assert(lt(int, (int)s.address, faults));
        const char *found = ff_h5_header_fault(s.bytes, s.size, UINT64_MAX, false);
        cr_assert(found && !strcmp(found, "damaged"));
        free(s.bytes);
    }
}
