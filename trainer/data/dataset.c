/* SPDX-License-Identifier: MIT */
/* One view of the two kinds of training set: exactly one of the two pointers is set. */
#include "dataset.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "dataset_priv.h"

int ff_dataset_open(struct ff_dataset **out, const char *path, struct ff_err *err)
{
    char rec[FF_PATH_MAX];
    struct stat st;
    int rc = ff_path(rec, err, "%s/train.rec", path);
    if (rc)
        return rc;
    if (stat(path, &st) != 0)
        return ff_err_errno(err, FF_EUSAGE, "cannot open training set %s", path);
    if (!S_ISDIR(st.st_mode))
        return ff_err_set(err, FF_EUSAGE, "%s: a training set is a folder", path);
    bool packed = access(rec, F_OK) == 0;
    if (!packed && !ff_folder_is_one(path))
        return ff_err_set(err, FF_EUSAGE,
                          "%s: neither train.rec nor folders of identities", path);
    struct ff_dataset *dataset = calloc(1, sizeof *dataset);
    if (!dataset)
        return ff_err_set(err, FF_ENOMEM, "out of memory to open %s", path);
    rc = packed ? ff_recordio_open(&dataset->rec, path, err)
                : ff_folder_open(&dataset->folder, path, err);
    if (rc) {
        free(dataset);
        return rc;
    }
    *out = dataset;
    return 0;
}

void ff_dataset_close(struct ff_dataset *dataset)
{
    if (!dataset)
        return;
    ff_recordio_close(dataset->rec);
    ff_folder_close(dataset->folder);
    free(dataset);
}

int64_t ff_dataset_count(const struct ff_dataset *dataset)
{
    return dataset->rec ? ff_recordio_count(dataset->rec)
                        : ff_folder_count(dataset->folder);
}

int64_t ff_dataset_classes(const struct ff_dataset *dataset)
{
    return dataset->rec ? ff_recordio_classes(dataset->rec)
                        : ff_folder_classes(dataset->folder);
}

bool ff_dataset_applies_exif(const struct ff_dataset *dataset)
{
    return dataset->rec != NULL;
}

int ff_dataset_read(const uint8_t **bytes, size_t *size, int64_t *label,
                    struct ff_dataset *dataset, int64_t index,
                    struct ff_read_buffer *buffer, struct ff_err *err)
{
    return dataset->rec
               ? ff_recordio_read(bytes, size, label, dataset->rec, index, buffer, err)
               : ff_folder_read(bytes, size, label, dataset->folder, index, buffer,
                                err);
}

void ff_dataset_will_read(const struct ff_dataset *dataset, int64_t first,
                          int64_t count)
{
    if (dataset->rec) /* files of a folder would have to be opened for it */
        ff_recordio_will_read(dataset->rec, first, count);
}

void ff_dataset_describe(char *out, size_t capacity, const struct ff_dataset *dataset,
                         int64_t index)
{
    if (dataset->rec)
        ff_recordio_describe(out, capacity, dataset->rec, index);
    else
        ff_folder_describe(out, capacity, dataset->folder, index);
}

int ff_dataset_fingerprint(char out[65], struct ff_dataset *dataset, struct ff_err *err)
{
    return dataset->rec ? ff_recordio_fingerprint(out, dataset->rec, err)
                        : ff_folder_fingerprint(out, dataset->folder, err);
}
