/* SPDX-License-Identifier: MIT */
/* Features of an evaluation set and its templates; see feature_set.h. */
#include "feature_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "atomic_file.h"
#include "embed.h"
#include "embedder.h"
#include "log.h"

static const char **image_names(const struct ff_ijb_meta *meta)
{
    const char **names = malloc((size_t)meta->image_count * sizeof *names);
    for (int64_t i = 0; names && i < meta->image_count; i++)
        names[i] = meta->image[i].name;
    return names;
}

void ff_feature_set_fini(struct ff_feature_set *set)
{
    ff_features_close(set->file);
    if (set->scratch)
        munmap(set->scratch, set->scratch_bytes);
    free(set->row);
}

/* Opens a features file and joins it to the images. */
static int use_file(struct ff_feature_set *set, const char *path, const char **names,
                    const struct ff_ijb_meta *meta, struct ff_err *err)
{
    bool reordered;
    int rc = ff_features_open(&set->file, path, err);
    if (!rc)
        rc = ff_features_join(set->row, &reordered, set->file, path, names,
                              meta->image_count, err);
    if (rc)
        return rc;
    if (reordered)
        ff_info("%s: rows in another order than the image list; joined by name", path);
    set->data = set->file->data;
    set->dim = set->file->dim;
    return 0;
}

static int scratch_path(char path[FF_PATH_MAX], const char *beside, struct ff_err *err)
{
    const char *folder = getenv("TMPDIR"),
               *slash = beside ? strrchr(beside, '/') : NULL;
    if (folder && *folder)
        return ff_path(path, err, "%s/ff-eval-XXXXXX", folder);
    if (slash)
        return ff_path(path, err, "%.*s/ff-eval-XXXXXX", (int)(slash - beside), beside);
    return ff_path(path, err, "%sff-eval-XXXXXX", beside ? "" : "/var/tmp/");
}

/* Maps a new file of zero rows whose disk space is reserved and whose name is gone: the
 * system writes pages out as it needs memory, and nothing is left when we end. */
static int map_scratch(struct ff_feature_set *set, int64_t images, const char *beside,
                       struct ff_err *err)
{
    char path[FF_PATH_MAX];
    size_t bytes = (size_t)images * 2 * (size_t)set->dim * sizeof *set->scratch;
    int rc = scratch_path(path, beside, err);
    int fd = rc ? -1 : mkostemp(path, O_CLOEXEC);
    if (rc)
        return rc;
    if (fd < 0)
        return ff_err_errno(err, FF_EFAIL, "%s: no file for features (see TMPDIR)",
                            path);
    unlink(path);
    void *map = MAP_FAILED;
    errno = posix_fallocate(fd, 0, (off_t)bytes);
    if (!errno)
        map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED)
        rc = ff_err_errno(err, FF_EFAIL, "%s: no %zu bytes for features (see TMPDIR)",
                          path, bytes);
    close(fd);
    if (rc)
        return rc;
    set->data = set->scratch = map;
    set->scratch_bytes = bytes;
    return 0;
}

/* Runs the network over all images, into scratch or through --save-features. */
static int use_model(struct ff_feature_set *set, struct ff_embedder *embedder,
                     const struct ff_source_options *o, const char **names,
                     const struct ff_ijb_meta *meta, struct ff_err *err)
{
    struct ff_embed_options embed = {
        .root = o->root,
        .batch = (int)o->batch,
        .threads = (int)o->threads,
        .flip = o->switches.flip || o->save_features,
        .allow_missing = o->allow_missing,
    };
    int64_t missing, first = 0;
    set->dim = ff_embedder_dim(embedder);
    if (!o->save_features) {
        int rc = map_scratch(set, meta->image_count, o->beside, err);
        return rc ? rc
                  : ff_embed_images(set->scratch, NULL, &missing, embedder, 0, meta,
                                    &embed, err);
    }
    struct ff_features_writer *writer;
    int rc = ff_features_create(&writer, &first, o->save_features, names,
                                meta->image_count, set->dim, set->model_sha256, err);
    if (rc)
        return rc;
    if (first)
        ff_info("%s: going on after %lld images", o->save_features, (long long)first);
    rc = ff_embed_images(NULL, writer, &missing, embedder, first, meta, &embed, err);
    int64_t done = ff_features_rows_done(writer);
    ff_features_writer_close(writer);
    if (rc && !done)
        unlink(o->save_features);
    return rc ? rc : use_file(set, o->save_features, names, meta, err);
}

static int open_network(struct ff_embedder **embedder,
                        const struct ff_source_options *o, struct ff_err *err)
{
    const struct ff_ops_options options = {
        .backend = o->backend, .device = o->device, .threads = (int)o->threads};
    int rc = ff_embedder_create(embedder, o->model, (int)o->batch, &options, err);
    if (!rc)
        ff_verbose("backend: %s", ff_embedder_backend(*embedder));
    return rc;
}

int ff_feature_set_get(struct ff_feature_set *set, const struct ff_source_options *o,
                       const struct ff_ijb_meta *meta, struct ff_err *err)
{
    *set = (struct ff_feature_set){.backend = "none"};
    struct ff_embedder *embedder = NULL;
    const char **names = image_names(meta);
    int rc = 0;
    set->row = malloc((size_t)meta->image_count * sizeof *set->row);
    if (!names || !set->row) {
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %lld names",
                        (long long)meta->image_count);
        goto done;
    }
    for (int64_t i = 0; i < meta->image_count; i++)
        set->row[i] = i;
    if (o->features) {
        rc = use_file(set, o->features, names, meta, err);
        if (!rc)
            snprintf(set->model_sha256, sizeof set->model_sha256, "%s",
                     set->file->model_sha256);
        goto done;
    }
    rc = ff_sha256_file(set->model_sha256, o->model, err);
    if (!rc)
        rc = open_network(&embedder, o, err);
    if (rc)
        goto done;
    snprintf(set->backend, sizeof set->backend, "%s", ff_embedder_backend(embedder));
    rc = use_model(set, embedder, o, names, meta, err);
done:
    ff_embedder_destroy(embedder);
    free(names);
    return rc;
}

int ff_feature_set_time(const struct ff_source_options *o, int64_t images,
                        struct ff_ijb_meta *meta, struct ff_err *err)
{
    struct ff_embed_options embed = {
        .root = o->root,
        .batch = (int)o->batch,
        .threads = (int)o->threads,
        .flip = o->switches.flip,
        .allow_missing = o->allow_missing,
    };
    struct ff_embedder *embedder;
    struct ff_feature_set set = {0};
    int64_t missing, all = meta->image_count;
    int rc = open_network(&embedder, o, err);
    if (rc)
        return rc;
    if (images < all)
        meta->image_count = images;
    set.dim = ff_embedder_dim(embedder);
    rc = map_scratch(&set, meta->image_count, o->beside, err);
    double start = ff_now();
    if (!rc)
        rc = ff_embed_images(set.scratch, NULL, &missing, embedder, 0, meta, &embed,
                             err);
    double seconds = ff_now() - start;
    if (!rc)
        printf("%lld of %lld images embedded in %.2f s: %.1f images/s\n",
               (long long)meta->image_count, (long long)all, seconds,
               (double)meta->image_count / seconds);
    ff_feature_set_fini(&set);
    ff_embedder_destroy(embedder);
    return rc;
}

int ff_feature_set_pool(float **templates, int64_t *missing,
                        const struct ff_feature_set *set,
                        const struct ff_source_options *o,
                        const struct ff_ijb_meta *meta, struct ff_err *err)
{
    size_t values = (size_t)meta->template_count * (size_t)set->dim;
    *templates = malloc(values * sizeof **templates);
    if (!*templates)
        return ff_err_set(err, FF_ENOMEM, "no memory for %d templates",
                          meta->template_count);
    int rc = ff_pool_templates(*templates, missing, set->data, set->dim, set->row, meta,
                               o->switches, (int)o->threads, err);
    if (!rc && *missing && !o->allow_missing)
        rc = ff_err_set(err, FF_EDATA,
                        "%lld of %lld images have a zero feature (no picture); "
                        "--allow-missing leaves them out",
                        (long long)*missing, (long long)meta->image_count);
    if (!rc && *missing == meta->image_count)
        rc = ff_err_set(err, FF_EDATA, "none of the %lld images has a picture",
                        (long long)meta->image_count);
    if (rc) {
        free(*templates);
        *templates = NULL;
    }
    return rc;
}
