/* SPDX-License-Identifier: MIT */
/* features.h5, reading by mapping and writing row by row; see feature_file.h.
 *
 * The dataset is allocated when the file is made and never filled by the library, so
 * its offset is fixed and rows are plain writes. rows_done is written after the rows'
 * flush: a process killed between the two repeats one block when it goes on. */
#include "feature_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "h5io.h"
#include "name_table.h"

static int shape_of(hsize_t dims[2], hid_t dataset)
{
    int ndim = -1;
    hid_t space = H5Dget_space(dataset);
    if (space >= 0) {
        ndim = H5Sget_simple_extent_ndims(space);
        if (ndim == 2)
            H5Sget_simple_extent_dims(space, dims, NULL);
        H5Sclose(space);
    }
    return ndim;
}

static bool is_mappable(hid_t dataset)
{
    hid_t type = H5Dget_type(dataset), plist = H5Dget_create_plist(dataset);
    bool ok = type >= 0 && plist >= 0 && H5Tequal(type, H5T_IEEE_F32LE) > 0 &&
              H5Tequal(H5T_NATIVE_FLOAT, H5T_IEEE_F32LE) > 0 &&
              H5Pget_layout(plist) == H5D_CONTIGUOUS;
    if (plist >= 0)
        H5Pclose(plist);
    if (type >= 0)
        H5Tclose(type);
    return ok;
}

/* Leaves features->map NULL where the rows cannot be mapped. */
static void map_rows(struct ff_features *features, hid_t dataset, const char *path)
{
    haddr_t offset = H5Dget_offset(dataset);
    size_t bytes = (size_t)features->rows * 2 * (size_t)features->dim * sizeof(float);
    if (!is_mappable(dataset) || offset == HADDR_UNDEF || offset % sizeof(float))
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    struct stat st;
    size_t end = (size_t)offset + bytes;
    if (!fstat(fd, &st) && (size_t)st.st_size >= end) {
        void *map = mmap(NULL, end, PROT_READ, MAP_PRIVATE, fd, 0);
        if (map != MAP_FAILED) {
            features->map = map;
            features->map_bytes = end;
            features->data = (const float *)(const void *)((const char *)map + offset);
        }
    }
    close(fd);
}

static int read_rows(struct ff_features *features, hid_t file, struct ff_err *err)
{
    hsize_t dims[2] = {(hsize_t)features->rows, 2 * (hsize_t)features->dim};
    void *data;
    int rc = ff_h5_read(&data, file, "features", H5T_NATIVE_FLOAT, 2, dims, err);
    if (rc)
        return rc;
    features->owned = data;
    features->data = data;
    return 0;
}

static int check_done(const struct ff_features *features, hid_t file, const char *path,
                      struct ff_err *err)
{
    if (!ff_h5_has_attribute(file, "rows_done"))
        return 0;
    int64_t done;
    int rc = ff_h5_get_i64(&done, file, "rows_done", err);
    if (!rc && done != features->rows) {
        rc = ff_err_set(err, FF_EDATA, "%s: unfinished: rows_done is %lld of %lld",
                        path, (long long)done, (long long)features->rows);
    }
    return rc;
}

int ff_features_open(struct ff_features **out, const char *path, struct ff_err *err)
{
    *out = NULL;
    hid_t file = -1, dataset = -1;
    hsize_t dims[2] = {0, 0};
    size_t names = 0;
    struct ff_features *f = calloc(1, sizeof *f);
    if (!f)
        return ff_err_set(err, FF_ENOMEM, "no memory for %s", path);
    int rc = ff_h5_open(&file, path, false, err);
    if (rc) {
        file = -1;
        goto done;
    }
    if (!ff_h5_exists(file, "features") || !ff_h5_exists(file, "name")) {
        rc = ff_err_set(err, FF_EDATA, "%s: needs the datasets 'features' and 'name'",
                        path);
        goto done;
    }
    rc = ff_h5_open_dataset(&dataset, file, "features", err);
    if (rc)
        goto done;
    int ndim = shape_of(dims, dataset);
    if (ndim != 2 || dims[0] == 0 || dims[1] == 0 || dims[1] % 2 || dims[1] > 1 << 20 ||
        dims[0] > INT32_MAX) {
        rc = ff_err_set(err, FF_EDATA,
                        "%s: 'features' is not (images, 2 * embedding), found %d axes "
                        "of %llu x %llu",
                        path, ndim, (unsigned long long)dims[0],
                        (unsigned long long)dims[1]);
        goto done;
    }
    f->rows = (int64_t)dims[0];
    f->dim = (int)(dims[1] / 2);
    rc = check_done(f, file, path, err);
    if (rc)
        goto done;
    map_rows(f, dataset, path);
    if (!f->map) {
        rc = read_rows(f, file, err);
        if (rc)
            goto done;
    }
    rc = ff_h5_read_strings(&f->name, file, "name", &names, err);
    if (rc)
        goto done;
    if (names != dims[0]) {
        ff_h5_free_strings(f->name, names);
        f->name = NULL;
        rc = ff_err_set(err, FF_EDATA, "%s: %zu names for %lld rows", path, names,
                        (long long)f->rows);
        goto done;
    }
    if (ff_h5_has_attribute(file, "model_sha256"))
        rc = ff_h5_get_text(&f->model_sha256, file, "model_sha256", err);
    else if (!(f->model_sha256 = strdup("")))
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %s", path);
done:
    if (dataset >= 0)
        H5Dclose(dataset);
    if (file >= 0)
        H5Fclose(file);
    if (rc) {
        ff_features_close(f);
        return rc;
    }
    *out = f;
    return 0;
}

void ff_features_close(struct ff_features *f)
{
    if (!f)
        return;
    if (f->name)
        ff_h5_free_strings(f->name, (size_t)f->rows);
    if (f->map)
        munmap(f->map, f->map_bytes);
    free(f->owned);
    free(f->model_sha256);
    free(f);
}

int ff_features_join(int64_t *order, bool *reordered,
                     const struct ff_features *features, const char *path,
                     const char *const *names, int64_t count, struct ff_err *err)
{
    struct ff_name_table table;
    *reordered = false;
    /* The usual case: names, which are all different, in the same order. */
    int64_t equal = 0;
    while (equal < count && equal < features->rows &&
           !strcmp(features->name[equal], names[equal])) {
        order[equal] = equal;
        equal++;
    }
    if (equal == count && equal == features->rows)
        return 0;
    if (ff_name_table_init(&table, (size_t)features->rows))
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld names",
                          (long long)features->rows);
    int rc = 0;
    for (int64_t row = 0; row < features->rows && !rc; row++) {
        int64_t first = ff_name_table_add(&table, features->name[row], row);
        if (first >= 0) {
            rc = ff_err_set(err, FF_EDATA,
                            "%s: row %lld: name '%.60s' is row %lld already", path,
                            (long long)row, features->name[row], (long long)first);
        }
    }
    for (int64_t i = 0; i < count && !rc; i++) {
        order[i] = ff_name_table_find(&table, names[i]);
        *reordered |= order[i] != i;
        if (order[i] < 0) {
            rc =
                ff_err_set(err, FF_EDATA, "%s: no row for image '%.60s' (%lld of %lld)",
                           path, names[i], (long long)i + 1, (long long)count);
        }
    }
    if (!rc && features->rows > count) {
        /* Every image has its row; name the first row without an image. */
        bool *used = calloc((size_t)features->rows, sizeof *used);
        if (!used) {
            rc = ff_err_set(err, FF_ENOMEM, "no memory for names");
        } else {
            int64_t row = 0;
            for (int64_t i = 0; i < count; i++)
                used[order[i]] = true;
            while (used[row])
                row++;
            rc = ff_err_set(err, FF_EDATA,
                            "%s: row %lld: image '%.60s' is not in the evaluation set",
                            path, (long long)row, features->name[row]);
            free(used);
        }
    }
    ff_name_table_fini(&table);
    return rc;
}

struct ff_features_writer {
    char *path;
    hid_t file, dataset, rows_done;
    int64_t rows, done;
    int dim;
};

static bool same_text(hid_t file, const char *name, const char *text)
{
    char *found = NULL;
    bool same = ff_h5_has_attribute(file, name) &&
                !ff_h5_get_text(&found, file, name, NULL) && !strcmp(found, text);
    free(found);
    return same;
}

static bool same_names(hid_t file, const char *const *names, int64_t rows)
{
    char **found;
    size_t count;
    if (!ff_h5_exists(file, "name") ||
        ff_h5_read_strings(&found, file, "name", &count, NULL))
        return false;
    bool same = count == (size_t)rows;
    for (int64_t i = 0; same && i < rows; i++)
        same = !strcmp(found[i], names[i]);
    ff_h5_free_strings(found, count);
    return same;
}

/* Opens an unfinished file of the same content; false if there is none. */
static bool try_continue(struct ff_features_writer *w, int64_t *rows_done,
                         const char *const *names, const char *model_sha256)
{
    hsize_t dims[2];
    if (access(w->path, W_OK) || ff_h5_open(&w->file, w->path, true, NULL))
        return false;
    bool same =
        ff_h5_has_attribute(w->file, "rows_done") &&
        !ff_h5_get_i64(rows_done, w->file, "rows_done", NULL) && *rows_done >= 0 &&
        *rows_done < w->rows && same_text(w->file, "model_sha256", model_sha256) &&
        ff_h5_exists(w->file, "features") && same_names(w->file, names, w->rows);
    if (same) {
        ff_h5_open_dataset(&w->dataset, w->file, "features", NULL);
        w->rows_done = H5Aopen(w->file, "rows_done", H5P_DEFAULT);
        same = w->dataset >= 0 && w->rows_done >= 0 && is_mappable(w->dataset) &&
               shape_of(dims, w->dataset) == 2 && dims[0] == (hsize_t)w->rows &&
               dims[1] == 2 * (hsize_t)w->dim;
    }
    if (same)
        return true;
    if (w->dataset >= 0)
        H5Dclose(w->dataset);
    if (w->rows_done >= 0)
        H5Aclose(w->rows_done);
    H5Fclose(w->file);
    w->file = w->dataset = w->rows_done = -1;
    return false;
}

static int in_use(const char *path, struct ff_err *err)
{
    return ff_err_set(err, FF_EBUSY, "%s: is in use by another program", path);
}

/* Removes what is there, unless another program has it open: HDF5 locks its files, but
 * would truncate one that it is to create before it finds it locked. */
static int make_way(const char *path, struct ff_err *err)
{
    struct stat ours, there;
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return 0;
    if (fd < 0)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot replace it", path);
    int rc = 0;
    if (flock(fd, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        rc = in_use(path, err);
    else if (fstat(fd, &ours) || stat(path, &there) || ours.st_ino != there.st_ino)
        rc = in_use(path, err); /* replaced just now */
    else if (unlink(path))
        rc = ff_err_errno(err, FF_EFAIL, "%s: cannot replace it", path);
    close(fd);
    return rc;
}

/* An empty file, its lock held, that takes nobody's place. */
static int create_locked(struct ff_features_writer *w, const char *temporary,
                         struct ff_err *err)
{
    int rc = make_way(w->path, err);
    if (!rc)
        rc = ff_h5_create(&w->file, temporary, err);
    if (rc) {
        w->file = -1;
        return rc;
    }
    if (renameat2(AT_FDCWD, temporary, AT_FDCWD, w->path, RENAME_NOREPLACE) &&
        (errno == EEXIST || rename(temporary, w->path)))
        rc = errno == EEXIST
                 ? in_use(w->path, err)
                 : ff_err_errno(err, FF_EFAIL, "%s: cannot create", w->path);
    if (rc)
        unlink(temporary);
    return rc;
}

static int create_new(struct ff_features_writer *w, const char *temporary,
                      const char *const *names, const char *model_sha256,
                      struct ff_err *err)
{
    int rc = create_locked(w, temporary, err);
    if (rc)
        return rc;
    hsize_t dims[2] = {(hsize_t)w->rows, 2 * (hsize_t)w->dim};
    hid_t space = H5Screate_simple(2, dims, NULL),
          plist = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_layout(plist, H5D_CONTIGUOUS);
    H5Pset_alloc_time(plist, H5D_ALLOC_TIME_EARLY);
    H5Pset_fill_time(plist, H5D_FILL_TIME_NEVER);
    H5Pset_obj_track_times(plist, 0);
    errno = EIO;
    w->dataset = H5Dcreate2(w->file, "features", H5T_IEEE_F32LE, space, H5P_DEFAULT,
                            plist, H5P_DEFAULT);
    H5Pclose(plist);
    H5Sclose(space);
    if (w->dataset < 0) {
        return ff_err_errno(err, FF_EFAIL, "%s: cannot make 'features' (%lld x %d)",
                            w->path, (long long)w->rows, 2 * w->dim);
    }
    rc = ff_h5_write_strings(w->file, "name", 1, dims, names, err);
    if (!rc && *model_sha256)
        rc = ff_h5_set_text(w->file, "model_sha256", model_sha256, err);
    if (!rc)
        rc = ff_h5_set_i64(w->file, "rows_done", 0, err);
    if (rc)
        return rc;
    w->rows_done = H5Aopen(w->file, "rows_done", H5P_DEFAULT);
    errno = EIO;
    if (w->rows_done < 0 || H5Fflush(w->file, H5F_SCOPE_GLOBAL) < 0)
        return ff_err_errno(err, FF_EFAIL, "%s: cannot write", w->path);
    return 0;
}

int ff_features_create(struct ff_features_writer **out, int64_t *rows_done,
                       const char *path, const char *const *names, int64_t rows,
                       int dim, const char *model_sha256, struct ff_err *err)
{
    *out = NULL;
    *rows_done = 0;
    char target[FF_PATH_MAX], temporary[FF_PATH_MAX];
    int rc = ff_atomic_names(target, temporary, path, err);
    if (rc)
        return rc;
    struct ff_features_writer *w = calloc(1, sizeof *w);
    if (!w || !(w->path = strdup(target))) {
        free(w);
        return ff_err_set(err, FF_ENOMEM, "no memory for %s", path);
    }
    w->file = w->dataset = w->rows_done = -1;
    w->rows = rows;
    w->dim = dim;
    if (!try_continue(w, rows_done, names, model_sha256)) {
        *rows_done = 0;
        rc = create_new(w, temporary, names, model_sha256, err);
    }
    if (rc) {
        ff_features_writer_close(w);
        return rc;
    }
    w->done = *rows_done;
    *out = w;
    return 0;
}

static herr_t write_rows(struct ff_features_writer *w, const float *data, int64_t first,
                         int64_t count)
{
    hsize_t start[2] = {(hsize_t)first, 0};
    hsize_t size[2] = {(hsize_t)count, 2 * (hsize_t)w->dim};
    hid_t in_file = H5Dget_space(w->dataset),
          in_memory = H5Screate_simple(2, size, NULL);
    herr_t rc = H5Sselect_hyperslab(in_file, H5S_SELECT_SET, start, NULL, size, NULL);
    if (rc >= 0)
        rc = H5Dwrite(w->dataset, H5T_NATIVE_FLOAT, in_memory, in_file, H5P_DEFAULT,
                      data);
    H5Sclose(in_memory);
    H5Sclose(in_file);
    return rc;
}

int ff_features_append(struct ff_features_writer *w, const float *data, int64_t first,
                       int64_t count, struct ff_err *err)
{
    int64_t done = first + count;
    errno = EIO;
    if (write_rows(w, data, first, count) < 0 ||
        H5Fflush(w->file, H5F_SCOPE_GLOBAL) < 0 ||
        H5Awrite(w->rows_done, H5T_NATIVE_INT64, &done) < 0 ||
        H5Fflush(w->file, H5F_SCOPE_GLOBAL) < 0) {
        return ff_err_errno(err, FF_EFAIL, "%s: cannot write rows %lld to %lld",
                            w->path, (long long)first, (long long)done - 1);
    }
    w->done = done;
    return 0;
}

int64_t ff_features_rows_done(const struct ff_features_writer *w)
{
    return w->done;
}

void ff_features_writer_close(struct ff_features_writer *w)
{
    if (!w)
        return;
    if (w->rows_done >= 0)
        H5Aclose(w->rows_done);
    if (w->dataset >= 0)
        H5Dclose(w->dataset);
    if (w->file >= 0)
        H5Fclose(w->file);
    free(w->path);
    free(w);
}
