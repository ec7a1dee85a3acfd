/* SPDX-License-Identifier: MIT */
/* HDF5 helpers; see h5io.h.
 *
 * Every id opened here is closed on every path through `close_ids`; ids start at -1.
 * The first text of the library's own error stack ends a message, the stack is not
 * printed. */
#include "h5io.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "h5_raw.h"

#define SEAL "crc32"

struct ids {
    hid_t object, space, type, plist;
};
#define IDS_INIT                                                                       \
    {                                                                                  \
        -1, -1, -1, -1                                                                 \
    }

static void close_ids(struct ids *ids)
{
    if (ids->plist >= 0)
        H5Pclose(ids->plist);
    if (ids->type >= 0)
        H5Tclose(ids->type);
    if (ids->space >= 0)
        H5Sclose(ids->space);
    if (ids->object >= 0)
        H5Oclose(ids->object);
}

static void quiet(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

/* At exit the library would write once more what it could not write, and crashes. Every
 * file is closed without it. */
__attribute__((constructor)) static void leave_exit_alone(void)
{
    H5dont_atexit();
}

#define REASON_MAX 128

/* The system's own text where the library has its errno: the rest is several lines. */
static herr_t first_text(unsigned n, const H5E_error2_t *entry, void *out)
{
    static const char mark[] = "errno = ";
    if (n != 0 || !entry->desc)
        return 0;
    const char *number = strstr(entry->desc, mark);
    const char *text = number ? strerror(atoi(number + sizeof mark - 1)) : entry->desc;
    snprintf(out, REASON_MAX, " (%.*s)", (int)strcspn(text, "\n"), text);
    return 0;
}

/* Of a file being written: the name that it will have. */
static void cut_temporary(char *file)
{
    char tail[32];
    size_t n = (size_t)snprintf(tail, sizeof tail, ".tmp.%ld", (long)getpid());
    size_t length = strlen(file);
    if (length > n && !strcmp(file + length - n, tail))
        file[length - n] = 0;
}

/* "file: name: what (library's reason)" */
static int fail(struct ff_err *err, int code, hid_t loc, const char *name,
                const char *what)
{
    char reason[REASON_MAX] = "", file[512] = "HDF5", object[256] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_text, reason);
    if (H5Fget_name(loc, file, sizeof file) < 0)
        snprintf(file, sizeof file, "HDF5");
    cut_temporary(file);
    if (H5Iget_type(loc) != H5I_FILE && H5Iget_name(loc, object, sizeof object) <= 0)
        object[0] = 0;
    const char *under = object[0] == '/' ? object + 1 : object;
    return ff_err_set(err, code, "%s: %s%s%s: %s%s", file, under, *under ? "/" : "",
                      name, what, reason);
}

/* `shown` is the name in the message. */
static int create(hid_t *file, const char *path, const char *shown, struct ff_err *err)
{
    quiet();
    *file = -1;
    hid_t plist = H5Pcreate(H5P_FILE_CREATE);
    if (plist >= 0 && H5Pset_obj_track_times(plist, false) >= 0) {
        errno = 0;
        *file = H5Fcreate(path, H5F_ACC_TRUNC, plist, H5P_DEFAULT);
    }
    int saved = errno;
    if (plist >= 0)
        H5Pclose(plist);
    if (*file >= 0)
        return 0;
    errno = saved;
    return saved ? ff_err_errno(err, FF_EFAIL, "%s: cannot create", shown)
                 : ff_err_set(err, FF_EFAIL, "%s: cannot create", shown);
}

int ff_h5_create(hid_t *file, const char *path, struct ff_err *err)
{
    return create(file, path, path, err);
}

static int check_seal(hid_t file, struct ff_err *err);

int ff_h5_open(hid_t *file, const char *path, bool writable, struct ff_err *err)
{
    quiet();
    *file = -1;
    if (access(path, writable ? R_OK | W_OK : R_OK))
        return ff_err_errno(err, FF_EFAIL, "%s: cannot open", path);
    int rc = ff_h5_check_start(path, err);
    if (rc)
        return rc;
    *file = H5Fopen(path, writable ? H5F_ACC_RDWR : H5F_ACC_RDONLY, H5P_DEFAULT);
    if (*file >= 0) {
        rc = check_seal(*file, err);
        if (rc)
            H5Fclose(*file);
        return rc;
    }
    char reason[REASON_MAX] = "";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_text, reason);
    return ff_err_set(err, FF_EDATA, "%s: damaged or in use%s", path, reason);
}

/* Little-endian standard type of a native memory type; -1 if it has none here. */
static hid_t stored_type(hid_t mem_type)
{
    size_t size = H5Tget_size(mem_type);
    if (H5Tget_class(mem_type) == H5T_FLOAT)
        return size == 4 ? H5T_IEEE_F32LE : size == 8 ? H5T_IEEE_F64LE : -1;
    if (H5Tget_class(mem_type) != H5T_INTEGER)
        return -1;
    bool is_signed = H5Tget_sign(mem_type) == H5T_SGN_2;
    switch (size) {
    case 1: return is_signed ? H5T_STD_I8LE : H5T_STD_U8LE;
    case 2: return is_signed ? H5T_STD_I16LE : H5T_STD_U16LE;
    case 4: return is_signed ? H5T_STD_I32LE : H5T_STD_U32LE;
    case 8: return is_signed ? H5T_STD_I64LE : H5T_STD_U64LE;
    default: return -1;
    }
}

static hid_t text_type(void)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0 &&
        (H5Tset_size(type, H5T_VARIABLE) < 0 || H5Tset_cset(type, H5T_CSET_UTF8) < 0)) {
        H5Tclose(type);
        return -1;
    }
    return type;
}

static hid_t make_space(int ndim, const hsize_t *dims)
{
    return ndim ? H5Screate_simple(ndim, dims, NULL) : H5Screate(H5S_SCALAR);
}

/* Times off on the dataset and on groups made on the way. */
static int write_dataset(hid_t loc, const char *name, hid_t file_type, hid_t mem_type,
                         int ndim, const hsize_t *dims, const void *data,
                         struct ff_err *err)
{
    struct ids ids = IDS_INIT;
    int rc = 0;
    hid_t links = H5Pcreate(H5P_LINK_CREATE);
    ids.space = make_space(ndim, dims);
    ids.plist = H5Pcreate(H5P_DATASET_CREATE);
    if (links < 0 || ids.space < 0 || ids.plist < 0 ||
        H5Pset_create_intermediate_group(links, 1) < 0 ||
        H5Pset_obj_track_times(ids.plist, false) < 0) {
        rc = fail(err, FF_EFAIL, loc, name, "cannot write");
        goto done;
    }
    ids.object =
        H5Dcreate2(loc, name, file_type, ids.space, links, ids.plist, H5P_DEFAULT);
    hssize_t points = H5Sget_simple_extent_npoints(ids.space);
    if (ids.object < 0 || (points > 0 && H5Dwrite(ids.object, mem_type, H5S_ALL,
                                                  H5S_ALL, H5P_DEFAULT, data) < 0))
        rc = fail(err, FF_EFAIL, loc, name, "cannot write");
done:
    if (links >= 0)
        H5Pclose(links);
    close_ids(&ids);
    return rc;
}

int ff_h5_begin(struct ff_h5_atomic *out, const char *path, struct ff_err *err)
{
    int rc = ff_atomic_names(out->path, out->temporary, path, err);
    if (rc)
        return rc;
    rc = create(&out->file, out->temporary, out->path, err);
    if (rc)
        unlink(out->temporary);
    return rc;
}

int ff_h5_end(struct ff_h5_atomic *out, int rc, struct ff_err *err)
{
    if (H5Fclose(out->file) < 0 && !rc) {
        char reason[REASON_MAX] = "";
        H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, first_text, reason);
        rc = ff_err_set(err, FF_EFAIL, "%s: cannot write%s", out->path, reason);
    }
    if (!rc)
        rc = ff_atomic_rename(out->temporary, out->path, err);
    if (rc)
        unlink(out->temporary);
    return rc;
}

int ff_h5_write(hid_t loc, const char *name, hid_t mem_type, int ndim,
                const hsize_t *dims, const void *data, struct ff_err *err)
{
    quiet();
    hid_t file_type = stored_type(mem_type);
    if (file_type < 0)
        return fail(err, FF_EFAIL, loc, name, "type cannot be stored");
    return write_dataset(loc, name, file_type, mem_type, ndim, dims, data, err);
}

/* Numbers are stored as they stand in memory; see stored_type. */
static int64_t seal_of(const void *data, hssize_t points, hid_t mem_type)
{
    return (int64_t)crc32_z(0, data, (size_t)points * H5Tget_size(mem_type));
}

int ff_h5_write_sealed(hid_t loc, const char *name, hid_t mem_type, int ndim,
                       const hsize_t *dims, const void *data, struct ff_err *err)
{
    hssize_t points = 1;
    for (int i = 0; i < ndim; i++)
        points *= (hssize_t)dims[i];
    int rc = ff_h5_write(loc, name, mem_type, ndim, dims, data, err);
    if (rc)
        return rc;
    hid_t dataset = H5Dopen2(loc, name, H5P_DEFAULT);
    if (dataset < 0)
        return fail(err, FF_EFAIL, loc, name, "cannot write");
    rc = ff_h5_set_i64(dataset, SEAL, seal_of(data, points, mem_type), err);
    H5Dclose(dataset);
    return rc;
}

int ff_h5_write_strings(hid_t loc, const char *name, int ndim, const hsize_t *dims,
                        const char *const *data, struct ff_err *err)
{
    quiet();
    hid_t type = text_type();
    if (type < 0)
        return fail(err, FF_EFAIL, loc, name, "cannot write");
    int rc = write_dataset(loc, name, type, type, ndim, dims, data, err);
    H5Tclose(type);
    return rc;
}

void ff_h5_shape_text(char *out, size_t capacity, int ndim, const hsize_t *dims,
                      bool zero_is_any)
{
    size_t used = (size_t)snprintf(out, capacity, "(");
    for (int i = 0; i < ndim && used < capacity; i++) {
        const char *separator = i ? ", " : "";
        if (zero_is_any && dims[i] == 0)
            used += (size_t)snprintf(out + used, capacity - used, "%s*", separator);
        else
            used += (size_t)snprintf(out + used, capacity - used, "%s%llu", separator,
                                     (unsigned long long)dims[i]);
    }
    if (used < capacity)
        snprintf(out + used, capacity - used, ")");
}

/* Compares the dataset's shape with the one asked for, fills in the open dims. */
static int check_shape(hid_t loc, const char *name, hid_t space, int ndim,
                       hsize_t *dims, struct ff_err *err)
{
    hsize_t found[H5S_MAX_RANK];
    int n = H5Sget_simple_extent_dims(space, found, NULL);
    bool fits = n == ndim;
    for (int i = 0; fits && i < n; i++)
        fits = dims[i] == 0 || dims[i] == found[i];
    if (!fits) {
        char is[160], wanted[160], text[400];
        ff_h5_shape_text(is, sizeof is, n < 0 ? 0 : n, found, false);
        ff_h5_shape_text(wanted, sizeof wanted, ndim, dims, true);
        snprintf(text, sizeof text, "shape %s where %s is expected", is, wanted);
        H5Eclear2(H5E_DEFAULT);
        return fail(err, FF_EDATA, loc, name, text);
    }
    for (int i = 0; i < n; i++)
        dims[i] = found[i];
    return 0;
}

static int open_dataset(struct ids *ids, hid_t loc, const char *name,
                        struct ff_err *err)
{
    if (!ff_h5_exists(loc, name)) {
        H5Eclear2(H5E_DEFAULT);
        return fail(err, FF_EDATA, loc, name, "not in the file");
    }
    const char *fault = ff_h5_object_fault(loc, name);
    if (fault) {
        H5Eclear2(H5E_DEFAULT);
        return fail(err, FF_EDATA, loc, name, fault);
    }
    ids->object = H5Dopen2(loc, name, H5P_DEFAULT);
    if (ids->object >= 0) {
        ids->space = H5Dget_space(ids->object);
        ids->type = H5Dget_type(ids->object);
    }
    if (ids->object < 0 || ids->space < 0 || ids->type < 0)
        return fail(err, FF_EDATA, loc, name, "cannot read");
    return 0;
}

int ff_h5_open_dataset(hid_t *dataset, hid_t loc, const char *name, struct ff_err *err)
{
    quiet();
    struct ids ids = IDS_INIT;
    int rc = open_dataset(&ids, loc, name, err);
    *dataset = -1;
    if (!rc) {
        *dataset = ids.object;
        ids.object = -1;
    }
    close_ids(&ids);
    return rc;
}

/* Refuses a damaged shape or type before memory is asked for. */
static bool is_within_file(const struct ids *ids, hid_t loc)
{
    hsize_t most = 0;
    hid_t file = H5Iget_file_id(loc);
    hssize_t points = H5Sget_simple_extent_npoints(ids->space);
    size_t size = H5Tget_size(ids->type);
    if (file < 0 || H5Fget_filesize(file, &most) < 0)
        most = 0;
    if (file >= 0)
        H5Fclose(file);
    return points == 0 ||
           (points > 0 && size && size <= most && (hsize_t)points <= most / size);
}

/* Whether the values read are those that were written; without a seal, or read as
 * another type, nothing is known. */
static bool seal_holds(const struct ids *ids, hid_t mem_type, const void *data,
                       hssize_t points)
{
    int64_t seal;
    if (!ff_h5_has_attribute(ids->object, SEAL) ||
        H5Tequal(ids->type, stored_type(mem_type)) <= 0)
        return true;
    return !ff_h5_get_i64(&seal, ids->object, SEAL, NULL) &&
           seal == seal_of(data, points, mem_type);
}

/* malloc of count * size; the dataset's own claim is checked for overflow. */
static void *allocate(hssize_t count, size_t size)
{
    if (count < 0 || (size && (size_t)count > SIZE_MAX / 2 / size))
        return NULL;
    size_t bytes = (size_t)count * size;
    return malloc(bytes ? bytes : 1);
}

int ff_h5_read(void **data, hid_t loc, const char *name, hid_t mem_type, int ndim,
               hsize_t *dims, struct ff_err *err)
{
    quiet();
    struct ids ids = IDS_INIT;
    void *buffer = NULL;
    *data = NULL;
    int rc = open_dataset(&ids, loc, name, err);
    if (!rc)
        rc = check_shape(loc, name, ids.space, ndim, dims, err);
    if (rc)
        goto done;
    H5T_class_t class = H5Tget_class(ids.type);
    if (class != H5T_INTEGER && class != H5T_FLOAT) {
        rc = fail(err, FF_EDATA, loc, name, "holds no numbers");
        goto done;
    }
    if (!is_within_file(&ids, loc)) {
        rc = fail(err, FF_EDATA, loc, name, "damaged: larger than its file");
        goto done;
    }
    hssize_t points = H5Sget_simple_extent_npoints(ids.space);
    buffer = allocate(points, H5Tget_size(mem_type));
    if (!buffer) {
        rc = fail(err, FF_ENOMEM, loc, name, "no memory for it");
        goto done;
    }
    if (points > 0 &&
        H5Dread(ids.object, mem_type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer) < 0) {
        rc = fail(err, FF_EDATA, loc, name, "cannot read");
        goto done;
    }
    if (!seal_holds(&ids, mem_type, buffer, points)) {
        H5Eclear2(H5E_DEFAULT);
        rc = fail(err, FF_EDATA, loc, name,
                  "damaged: its values are not those of its " SEAL);
        goto done;
    }
    *data = buffer;
    buffer = NULL;
done:
    free(buffer);
    close_ids(&ids);
    return rc;
}

typedef herr_t read_text(hid_t object, hid_t type, void *buffer);

static herr_t read_dataset_text(hid_t object, hid_t type, void *buffer)
{
    return H5Dread(object, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, buffer);
}

static herr_t read_attribute_text(hid_t object, hid_t type, void *buffer)
{
    return H5Aread(object, type, buffer);
}

/* Texts of an open dataset or attribute, variable or fixed length, as malloc'd copies.
 */
static int copy_texts(char ***out, size_t *count, hid_t loc, const char *name,
                      struct ids *ids, read_text *reader, struct ff_err *err)
{
    int rc = 0;
    const char *what = "no memory for it";
    hssize_t points = H5Sget_simple_extent_npoints(ids->space);
    size_t n = points > 0 ? (size_t)points : 0;
    bool variable = H5Tis_variable_str(ids->type) > 0;
    if (H5Tget_class(ids->type) != H5T_STRING)
        return fail(err, FF_EDATA, loc, name, "holds no text");
    if (!is_within_file(ids, loc))
        return fail(err, FF_EDATA, loc, name, "damaged: larger than its file");
    if (variable) {
        H5Tclose(ids->type);
        ids->type = ff_h5_text_ref_type();
        if (ids->type < 0)
            return fail(err, FF_EFAIL, loc, name, "cannot read");
    }
    size_t size = H5Tget_size(ids->type);
    char **made = allocate((hssize_t)n, sizeof *made);
    char *raw = allocate((hssize_t)n, size);
    if (!made || !raw) {
        free(made);
        free(raw);
        return fail(err, FF_ENOMEM, loc, name, what);
    }
    memset(made, 0, n * sizeof *made);
    if (n && reader(ids->object, ids->type, raw) < 0) {
        rc = FF_EDATA;
        what = "cannot read";
    } else if (variable) {
        rc = ff_h5_resolve_texts(made, &what, loc, raw, n);
        H5Eclear2(H5E_DEFAULT);
    } else {
        for (size_t i = 0; i < n && !rc; i++) {
            made[i] = strndup(raw + i * size, size);
            rc = made[i] ? 0 : FF_ENOMEM;
        }
    }
    free(raw);
    if (rc) {
        ff_h5_free_strings(made, n);
        return fail(err, rc, loc, name, what);
    }
    *out = made;
    *count = n;
    return 0;
}

int ff_h5_read_strings(char ***data, hid_t loc, const char *name, size_t *count,
                       struct ff_err *err)
{
    quiet();
    struct ids ids = IDS_INIT;
    *data = NULL;
    *count = 0;
    int rc = open_dataset(&ids, loc, name, err);
    if (!rc)
        rc = copy_texts(data, count, loc, name, &ids, read_dataset_text, err);
    close_ids(&ids);
    return rc;
}

void ff_h5_free_strings(char **data, size_t count)
{
    for (size_t i = 0; data && i < count; i++)
        free(data[i]);
    free(data);
}

/* Every part of the path is asked for, as H5Lexists wants it, in groups that are sound.
 */
bool ff_h5_exists(hid_t loc, const char *name)
{
    quiet();
    char part[1024];
    size_t length = strlen(name);
    if (!length || length >= sizeof part)
        return false;
    for (size_t i = 1; i <= length; i++) {
        if (i < length && name[i] != '/')
            continue;
        memcpy(part, name, i);
        part[i] = 0;
        if (H5Lexists(loc, part, H5P_DEFAULT) <= 0 ||
            (i < length && ff_h5_object_fault(loc, part)))
            return false;
    }
    return true;
}

bool ff_h5_has_attribute(hid_t loc, const char *name)
{
    quiet();
    return H5Aexists(loc, name) > 0;
}

static int set_attribute(hid_t loc, const char *name, hid_t file_type, hid_t mem_type,
                         const void *value, struct ff_err *err)
{
    int rc = 0;
    hid_t space = H5Screate(H5S_SCALAR), attribute = -1;
    if (H5Aexists(loc, name) > 0 && H5Adelete(loc, name) < 0)
        rc = -1;
    if (!rc && space >= 0)
        attribute = H5Acreate2(loc, name, file_type, space, H5P_DEFAULT, H5P_DEFAULT);
    if (attribute < 0 || H5Awrite(attribute, mem_type, value) < 0)
        rc = fail(err, FF_EFAIL, loc, name, "cannot write the attribute");
    if (attribute >= 0)
        H5Aclose(attribute);
    if (space >= 0)
        H5Sclose(space);
    return rc;
}

int ff_h5_set_f64(hid_t loc, const char *name, double value, struct ff_err *err)
{
    quiet();
    return set_attribute(loc, name, H5T_IEEE_F64LE, H5T_NATIVE_DOUBLE, &value, err);
}

int ff_h5_set_i64(hid_t loc, const char *name, int64_t value, struct ff_err *err)
{
    quiet();
    return set_attribute(loc, name, H5T_STD_I64LE, H5T_NATIVE_INT64, &value, err);
}

int ff_h5_set_text(hid_t loc, const char *name, const char *text, struct ff_err *err)
{
    quiet();
    hid_t type = text_type();
    if (type < 0)
        return fail(err, FF_EFAIL, loc, name, "cannot write the attribute");
    int rc = set_attribute(loc, name, type, type, &text, err);
    H5Tclose(type);
    return rc;
}

/* Opens an attribute that must hold exactly one value. */
static int open_attribute(struct ids *ids, hid_t loc, const char *name,
                          struct ff_err *err)
{
    if (H5Aexists(loc, name) <= 0) {
        H5Eclear2(H5E_DEFAULT);
        return fail(err, FF_EDATA, loc, name, "no such attribute");
    }
    ids->object = H5Aopen(loc, name, H5P_DEFAULT);
    if (ids->object >= 0) {
        ids->space = H5Aget_space(ids->object);
        ids->type = H5Aget_type(ids->object);
    }
    if (ids->object < 0 || ids->space < 0 || ids->type < 0)
        return fail(err, FF_EDATA, loc, name, "cannot read the attribute");
    if (H5Sget_simple_extent_npoints(ids->space) != 1)
        return fail(err, FF_EDATA, loc, name, "attribute is not one value");
    return 0;
}

static void close_attribute(struct ids *ids)
{
    if (ids->object >= 0)
        H5Aclose(ids->object);
    ids->object = -1;
    close_ids(ids);
}

static int get_number(void *value, hid_t loc, const char *name, hid_t mem_type,
                      struct ff_err *err)
{
    quiet();
    struct ids ids = IDS_INIT;
    int rc = open_attribute(&ids, loc, name, err);
    if (!rc) {
        H5T_class_t class = H5Tget_class(ids.type);
        if (class != H5T_INTEGER && class != H5T_FLOAT)
            rc = fail(err, FF_EDATA, loc, name, "attribute is no number");
        else if (H5Aread(ids.object, mem_type, value) < 0)
            rc = fail(err, FF_EDATA, loc, name, "cannot read the attribute");
    }
    close_attribute(&ids);
    return rc;
}

int ff_h5_get_f64(double *value, hid_t loc, const char *name, struct ff_err *err)
{
    return get_number(value, loc, name, H5T_NATIVE_DOUBLE, err);
}

int ff_h5_get_i64(int64_t *value, hid_t loc, const char *name, struct ff_err *err)
{
    return get_number(value, loc, name, H5T_NATIVE_INT64, err);
}

int ff_h5_get_text(char **text, hid_t loc, const char *name, struct ff_err *err)
{
    quiet();
    struct ids ids = IDS_INIT;
    char **texts = NULL;
    size_t count = 0;
    *text = NULL;
    int rc = open_attribute(&ids, loc, name, err);
    if (!rc)
        rc = copy_texts(&texts, &count, loc, name, &ids, read_attribute_text, err);
    if (!rc) {
        *text = texts[0];
        free(texts);
    }
    close_attribute(&ids);
    return rc;
}

/* -- the seal of a file's attributes -- */

/* Into the CRC-32 at `seal`: the name with its zero byte, and a text likewise or the
 * eight bytes of a number. */
static herr_t add_to_seal(hid_t loc, const char *name, const H5A_info_t *info,
                          void *seal)
{
    struct ids ids = IDS_INIT;
    char *text = NULL;
    uint64_t number;
    uLong *crc = seal;
    (void)info;
    if (!strcmp(name, SEAL))
        return 0;
    bool known = !open_attribute(&ids, loc, name, NULL);
    bool is_text = known && H5Tget_class(ids.type) == H5T_STRING;
    if (is_text)
        known = !ff_h5_get_text(&text, loc, name, NULL);
    else
        known = known && H5Tget_size(ids.type) == sizeof number &&
                H5Aread(ids.object, ids.type, &number) >= 0;
    close_attribute(&ids);
    if (known) {
        *crc = crc32_z(*crc, (const void *)name, strlen(name) + 1);
        *crc = crc32_z(*crc, is_text ? (const void *)text : (const void *)&number,
                       is_text ? strlen(text) + 1 : sizeof number);
    }
    free(text);
    return known ? 0 : -1;
}

static bool attributes_seal(int64_t *seal, hid_t file)
{
    uLong crc = 0;
    bool known =
        H5Aiterate2(file, H5_INDEX_NAME, H5_ITER_INC, NULL, add_to_seal, &crc) >= 0;
    *seal = (int64_t)crc;
    return known;
}

int ff_h5_seal(hid_t file, struct ff_err *err)
{
    int64_t seal;
    quiet();
    return attributes_seal(&seal, file)
               ? ff_h5_set_i64(file, SEAL, seal, err)
               : fail(err, FF_EFAIL, file, SEAL, "attributes cannot be read back");
}

static int check_seal(hid_t file, struct ff_err *err)
{
    int64_t is, was;
    if (!ff_h5_has_attribute(file, SEAL) || (!ff_h5_get_i64(&was, file, SEAL, NULL) &&
                                             attributes_seal(&is, file) && is == was))
        return 0;
    H5Eclear2(H5E_DEFAULT);
    return fail(err, FF_EDATA, file, "attributes",
                "damaged: their values are not those of their " SEAL);
}
