/* SPDX-License-Identifier: MIT */
/* HDF5 files as the programs read them: a network's shape, features, and what a
 * checkpoint and a heatmap are read with, datasets and attributes by name. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "feature_file.h"
#include "h5io.h"
#include "model_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads every value, so that a sanitizer sees what lies outside. */
static void read_features(const char *path)
{
    struct ff_features *f;
    struct ff_err err = FF_ERR_INIT;
    if (ff_features_open(&f, path, &err)) {
        if (!*err.text || strchr(err.text, '\n') || f)
            abort();
        return;
    }
    volatile float sum = 0;
    for (int64_t i = 0; i < f->rows * 2 * f->dim; i++)
        sum = sum + f->data[i];
    volatile size_t length = strlen(f->model_sha256);
    for (int64_t i = 0; i < f->rows; i++)
        length = length + strlen(f->name[i]);
    ff_features_close(f);
}

static void read_values(const char *path)
{
    static const hid_t no_file = -1;
    hid_t file = no_file;
    void *values = NULL;
    char **texts = NULL, *text = NULL;
    double number;
    hsize_t dims[2] = {0, 0}, state[1] = {0};
    size_t count;
    if (ff_h5_open(&file, path, false, NULL))
        return;
    ff_h5_get_i64(&(int64_t){0}, file, "iteration", NULL);
    ff_h5_get_f64(&number, file, "seconds", NULL);
    if (!ff_h5_get_text(&text, file, "schema", NULL))
        free(text);
    if (!ff_h5_read(&values, file, "head.weight", H5T_NATIVE_FLOAT, 2, dims, NULL))
        free(values);
    if (!ff_h5_read(&values, file, "momentum/head.weight", H5T_NATIVE_FLOAT, 2, dims,
                    NULL))
        free(values);
    if (!ff_h5_read(&values, file, "scheduler/0", H5T_NATIVE_DOUBLE, 1, state, NULL))
        free(values);
    if (!ff_h5_read_strings(&texts, file, "train_key", &count, NULL))
        ff_h5_free_strings(texts, count);
    H5Fclose(file);
}

/* Goes on with an unfinished file, or makes a new one where that cannot be. */
static void go_on(const char *path)
{
    static const char *const names[2] = {"a.jpg", "b.jpg"};
    static const float rows[2 * 4] = {0};
    struct ff_features_writer *writer;
    struct ff_err err = FF_ERR_INIT;
    int64_t done;
    if (ff_features_create(&writer, &done, path, names, 2, 2, "ab", &err)) {
        if (!*err.text)
            abort();
        return;
    }
    if (done < 0 || done > 1)
        abort();
    ff_features_append(writer, rows, done, 2 - done, NULL);
    ff_features_writer_close(writer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ff_model_config config;
    struct ff_err err = FF_ERR_INIT;
    const char *base = getenv("TMPDIR");
    char path[64]; /* a file with a name: the library opens no memfd */
    snprintf(path, sizeof path, "%.40s/ff_fuzz_h5_XXXXXX",
             base && *base ? base : "/tmp");
    int fd = mkstemp(path);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size || close(fd))
        abort();
    if (ff_model_is_h5(path) && ff_model_read_config(&config, path, &err) &&
        (!*err.text || strchr(err.text, '\n')))
        abort();
    read_features(path);
    read_values(path);
    go_on(path);
    unlink(path);
    return 0;
}
