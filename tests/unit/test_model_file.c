/* SPDX-License-Identifier: MIT */
/* model.h5 as others see it: the names and shapes of insightface's state_dict, the same
 * bytes from the same model, no trace of padding; and the embedder that reads it. The
 * network has width 0.125 (8 channels in the first stage), so that a backend that pads
 * really does. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "embedder.h"
#include "h5io.h"
#include "hash.h"
#include "model_file.h"
#include "rng.h"

enum { SIDE = 32, D = 16, BATCH = 4, FC_SIDE = SIDE / 16 };
static const int channels[4] = {8, 16, 32, 64};

static char folder[64], path[FF_PATH_MAX];
static struct ff_params params;
static const struct ff_ops *ops;
static struct ff_ops_ctx *ctx;

static void check(int rc, const struct ff_err *err)
{
    cr_assert(eq(int, rc, 0), "%s", err->text);
}

static void setup(void)
{
    static const char *const settings[] = {"backbone=r18", "width=0.125",
                                           "image_size=32", "embedding=16"};
    const struct ff_ops_options fast = {.backend = FF_BACKEND_ONEDNN, .threads = 1};
    struct ff_err err = FF_ERR_INIT;
    strcpy(folder, "/tmp/ff_model_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    ff_path(path, NULL, "%s/model.h5", folder);
    ff_params_defaults(&params);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        check(ff_params_set_arg(&params, settings[i], &err), &err);
    check(ff_ops_open(&ops, &ctx, NULL, &fast, &err), &err);
}

static void teardown(void)
{
    ops->destroy(ctx);
    ff_remove_tree(folder, NULL);
}

TestSuite(model_file, .init = setup, .fini = teardown, .timeout = 60);

static struct ff_tensor *block_of(struct ff_model *m, const struct ff_named *n)
{
    return n->trained ? &m->weight : &m->buffer;
}

static struct ff_model *new_model(bool training)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model_config config = ff_model_config_from(&params);
    struct ff_model *m;
    check(ff_model_create(&m, ops, ctx, &config, BATCH, training, &err), &err);
    return m;
}

/* Every tensor with values of its own, variances positive. */
static struct ff_model *filled_model(bool training)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *m = new_model(training);
    check(ff_model_init(m, 1, &err), &err);
    for (int i = 0; i < m->named_count; i++) {
        const struct ff_named *n = &m->named[i];
        float *values;
        if (n->layout != FF_LAYOUT_VECTOR)
            continue;
        check(ff_model_get(&values, m, n, block_of(m, n), &err), &err);
        for (int64_t k = 0; k < ff_named_size(n); k++)
            values[k] +=
                (float)(0.2 * ff_rng_uniform(2, ff_stream(n->name), (uint64_t)k));
        check(ff_model_set(m, n, block_of(m, n), values, &err), &err);
        free(values);
    }
    m->batches_tracked = 77;
    ff_model_pack(m);
    return m;
}

static void save(const struct ff_model *m, const char *to)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model_stamp stamp = {FF_MODEL_SCHEMA, "00ff", 12, &params};
    check(ff_model_save(to, m, &stamp, &err), &err);
}

static uint8_t *make_pixels(int count)
{
    size_t size = (size_t)count * SIDE * SIDE * 3;
    uint8_t *pixels = malloc(size);
    for (size_t i = 0; i < size; i++)
        pixels[i] = (uint8_t)(ff_rng_u64(3, 0, i) >> 56);
    return pixels;
}

/* -- what the state_dict of insightface's iresnet18 lists -- */

struct entry {
    char name[64];
    int ndim, dims[4];
};

static struct entry expected[192];
static int expected_count;

static void expect(const char *prefix, const char *suffix, int ndim, int a, int b,
                   int k)
{
    cr_assert(lt(int, expected_count, (int)(sizeof expected / sizeof *expected)));
    struct entry *e = &expected[expected_count++];
    *e = (struct entry){.ndim = ndim, .dims = {a, b, k, k}};
    snprintf(e->name, sizeof e->name, "%s.%s", prefix, suffix);
}

static void expect_bn(const char *prefix, int c)
{
    expect(prefix, "weight", 1, c, 0, 0);
    expect(prefix, "bias", 1, c, 0, 0);
    expect(prefix, "running_mean", 1, c, 0, 0);
    expect(prefix, "running_var", 1, c, 0, 0);
    expect(prefix, "num_batches_tracked", 0, 0, 0, 0);
}

static void list_expected(void)
{
    int in = channels[0];
    expected_count = 0;
    expect("conv1", "weight", 4, in, 3, 3);
    expect_bn("bn1", in);
    expect("prelu", "weight", 1, in, 0, 0);
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < 2; i++) {
            int out = channels[s];
            char at[48];
#define AT(part) (snprintf(at, sizeof at, "layer%d.%d." part, s + 1, i), at)
            expect_bn(AT("bn1"), in);
            expect(AT("conv1"), "weight", 4, out, in, 3);
            expect_bn(AT("bn2"), out);
            expect(AT("prelu"), "weight", 1, out, 0, 0);
            expect(AT("conv2"), "weight", 4, out, out, 3);
            expect_bn(AT("bn3"), out);
            if (i == 0) {
                expect(AT("downsample.0"), "weight", 4, out, in, 1);
                expect_bn(AT("downsample.1"), out);
            }
#undef AT
            in = out;
        }
    expect_bn("bn2", in);
    expect("fc", "weight", 2, D, in * FC_SIDE * FC_SIDE, 0);
    expect("fc", "bias", 1, D, 0, 0);
    expect_bn("features", D);
}

Test(model_file, holds_the_state_dict_and_nothing_else)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *m = filled_model(true);
    hid_t file;
    H5G_info_t info;
    save(m, path);
    list_expected();
    check(ff_h5_open(&file, path, false, &err), &err);
    for (int i = 0; i < expected_count; i++) {
        const struct entry *e = &expected[i];
        hsize_t dims[4] = {0};
        void *values;
        bool counter = e->ndim == 0;
        for (int k = 0; k < e->ndim; k++)
            dims[k] = (hsize_t)e->dims[k];
        check(ff_h5_read(&values, file, e->name,
                         counter ? H5T_NATIVE_INT64 : H5T_NATIVE_FLOAT, e->ndim, dims,
                         &err),
              &err);
        if (counter)
            cr_expect(eq(i64, *(int64_t *)values, 77), "%s", e->name);
        free(values);
    }
    cr_assert(ge(int, H5Gget_info(file, &info), 0));
    cr_expect(eq(int, (int)info.nlinks, expected_count));
    H5Fclose(file);
    ff_model_destroy(m);
}

/* fc.weight and convolutions are written in the order of the state_dict: the network's
 * linear output, computed here from the file's columns, is the network's. */
Test(model_file, fc_columns_are_channel_height_width)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *m = new_model(false);
    int C = channels[3], F = C * FC_SIDE * FC_SIDE, column = 5 * FC_SIDE * FC_SIDE + 2;
    float *values = calloc((size_t)D * (size_t)F, sizeof *values);
    check(ff_model_init(m, 1, &err), &err);
    const struct ff_named *fc = NULL, *bn2 = NULL;
    for (int i = 0; i < m->named_count; i++) {
        if (m->named[i].layout == FF_LAYOUT_FC)
            fc = &m->named[i];
        if (strcmp(m->named[i].name, "bn2.bias") == 0)
            bn2 = &m->named[i];
    }
    cr_assert(fc && bn2);
    /* One column alone, channel 5, row 1, column 0: a shift of channel 5 in front of
     * the flatten moves the outputs by the column, a shift of another channel by
     * nothing. */
    for (int d = 0; d < D; d++)
        values[d * F + column] = (float)(1 + d);
    check(ff_model_set(m, fc, &m->weight, values, &err), &err);
    free(values);
    uint8_t *pixels = make_pixels(BATCH);
    float before[BATCH * D], after[BATCH * D], other[BATCH * D], bias[64] = {0};
    ops->download(ctx, before, ff_model_forward(m, pixels, NULL));
    bias[5] = 10;
    check(ff_model_set(m, bn2, &m->weight, bias, &err), &err);
    ops->download(ctx, after, ff_model_forward(m, pixels, NULL));
    bias[5] = 0, bias[4] = bias[6] = 10;
    check(ff_model_set(m, bn2, &m->weight, bias, &err), &err);
    ops->download(ctx, other, ff_model_forward(m, pixels, NULL));
    check(ops->sync(ctx, &err), &err);
    for (int i = 0; i < BATCH * D; i++) {
        double moved = after[i] - before[i], want = 10.0 * (1 + i % D);
        cr_expect(epsilon_eq(dbl, moved, want, 1e-3 * want), "output %d", i);
        cr_expect(eq(flt, other[i], before[i]), "output %d", i);
    }
    /* Which place of the 2 x 2: written from the file's column through the inside
     * layout, (D, H, W, C) padded. */
    float *inside = malloc((size_t)fc->count * sizeof *inside);
    struct ff_tensor view = ff_tensor_view(&m->weight, fc->offset, fc->count);
    ops->download(ctx, inside, &view);
    for (int64_t i = 0; i < fc->count; i++) {
        int64_t at = i % ((int64_t)FC_SIDE * FC_SIDE * fc->padded_c);
        bool there = at == 2 * (int64_t)fc->padded_c + 5;
        cr_assert(eq(int, inside[i] != 0, there), "element %lld", (long long)i);
    }
    free(inside);
    free(pixels);
    ff_model_destroy(m);
}

Test(model_file, comes_back_as_it_was)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *a = filled_model(true), *b = new_model(true);
    save(a, path);
    check(ff_model_load(b, path, &err), &err);
    cr_expect(eq(i64, b->batches_tracked, 77));
    for (int i = 0; i < a->named_count; i++) {
        const struct ff_named *n = &a->named[i];
        float *left, *right;
        check(ff_model_get(&left, a, n, block_of(a, n), &err), &err);
        check(ff_model_get(&right, b, &b->named[i], block_of(b, &b->named[i]), &err),
              &err);
        cr_expect(
            eq(int, memcmp(left, right, (size_t)ff_named_size(n) * sizeof *left), 0),
            "%s", n->name);
        free(left);
        free(right);
    }
    ff_model_destroy(a);
    ff_model_destroy(b);
}

Test(model_file, same_model_same_bytes)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *a = filled_model(true), *b = filled_model(false);
    char again[FF_PATH_MAX], first[FF_SHA256_HEX], second[FF_SHA256_HEX];
    ff_path(again, NULL, "%s/again.h5", folder);
    save(a, path);
    sleep(1); /* a time stamp would differ */
    save(b, again);
    check(ff_sha256_file(first, path, &err), &err);
    check(ff_sha256_file(second, again, &err), &err);
    cr_expect(eq(str, first, second));
    ff_model_destroy(a);
    ff_model_destroy(b);
}

/* A backend that pads and one that does not write the same file. */
Test(model_file, padding_never_shows)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *padded = filled_model(true), *plain;
    struct ff_model_config config = ff_model_config_from(&params);
    const struct ff_ops *ref;
    struct ff_ops_ctx *ref_ctx;
    const struct ff_ops_options plain_options = {.backend = FF_BACKEND_REF,
                                                 .threads = 1};
    char again[FF_PATH_MAX], first[FF_SHA256_HEX], second[FF_SHA256_HEX];
    ff_path(again, NULL, "%s/ref.h5", folder);
    check(ff_ops_open(&ref, &ref_ctx, NULL, &plain_options, &err), &err);
    cr_assert(ne(int, ops->channel_align, ref->channel_align));
    check(ff_model_create(&plain, ref, ref_ctx, &config, BATCH, false, &err), &err);
    save(padded, path);
    check(ff_model_load(plain, path, &err), &err);
    save(plain, again);
    check(ff_sha256_file(first, path, &err), &err);
    check(ff_sha256_file(second, again, &err), &err);
    cr_expect(eq(str, first, second));
    cr_expect(
        eq(i64, ff_model_parameter_count(padded), ff_model_parameter_count(plain)));
    ff_model_destroy(plain);
    ff_model_destroy(padded);
    ref->destroy(ref_ctx);
}

static void expect_refusal(const char *from, const char *said)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *m = new_model(false);
    cr_expect(eq(int, ff_model_load(m, from, &err), FF_EDATA), "%s", err.text);
    cr_expect(ne(ptr, strstr(err.text, said), NULL), "%s lacks %s", err.text, said);
    cr_expect(ne(ptr, strstr(err.text, from), NULL), "%s lacks the file", err.text);
    ff_model_destroy(m);
}

Test(model_file, names_a_missing_tensor)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *m = filled_model(true);
    hid_t file;
    save(m, path);
    ff_model_destroy(m);
    check(ff_h5_open(&file, path, true, &err), &err);
    cr_assert(ge(int, H5Ldelete(file, "layer2.0.prelu.weight", H5P_DEFAULT), 0));
    H5Fclose(file);
    expect_refusal(path, "layer2.0.prelu.weight");
}

Test(model_file, names_a_tensor_of_another_shape)
{
    struct ff_model *m;
    int usual = (int)params.embedding;
    params.embedding = 24;
    m = filled_model(true);
    save(m, path);
    ff_model_destroy(m);
    params.embedding = usual;
    expect_refusal(path, "fc.weight");
}

Test(model_file, gives_the_shape_of_the_network)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *m = filled_model(true);
    struct ff_model_config config = {0};
    save(m, path);
    ff_model_destroy(m);
    check(ff_model_read_config(&config, path, &err), &err);
    cr_expect(eq(int, config.backbone, FF_BACKBONE_R18));
    cr_expect(eq(dbl, config.width, 0.125));
    cr_expect(eq(int, config.image_size_px, SIDE));
    cr_expect(eq(int, config.embedding, D));
    hid_t file;
    ff_path(path, NULL, "%s/other.h5", folder);
    check(ff_h5_create(&file, path, &err), &err);
    H5Fclose(file);
    cr_expect(eq(int, ff_model_read_config(&config, path, &err), FF_EDATA));
    cr_expect(ne(ptr, strstr(err.text, "backbone"), NULL), "%s", err.text);
}

/* -- the embedder -- */

static double apart(const float *a, const float *b, int count)
{
    double square = 0, length = 0;
    for (int i = 0; i < count; i++) {
        square += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        length += (double)b[i] * b[i];
    }
    return sqrt(square / length);
}

static void embed(float *out, int batch, int backend, const uint8_t *pixels,
                  const uint8_t *flip, int count)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_embedder *e;
    check(ff_embedder_create(&e, path, batch,
                             &(struct ff_ops_options){.backend = backend, .threads = 1},
                             &err),
          &err);
    cr_assert(eq(int, ff_embedder_image_size(e), SIDE));
    cr_assert(eq(int, ff_embedder_dim(e), D));
    for (int i = 0; i < count; i += batch) {
        int part = count - i < batch ? count - i : batch;
        check(ff_embedder_run(out + i * D, e, pixels + (size_t)i * SIDE * SIDE * 3,
                              flip ? flip + i : NULL, part, &err),
              &err);
    }
    ff_embedder_destroy(e);
}

Test(model_file, embedder_is_the_saved_model)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *m = filled_model(false);
    uint8_t *pixels = make_pixels(BATCH), flip[BATCH] = {0, 1, 0, 1};
    float want[BATCH * D], got[BATCH * D];
    ops->download(ctx, want, ff_model_forward(m, pixels, flip));
    check(ops->sync(ctx, &err), &err);
    save(m, path);
    embed(got, BATCH, FF_BACKEND_ONEDNN, pixels, flip, BATCH);
    cr_expect(le(dbl, apart(got, want, BATCH * D), 1e-5));
    embed(got, BATCH, FF_BACKEND_REF, pixels, flip, BATCH);
    cr_expect(le(dbl, apart(got, want, BATCH * D), 1e-5));
    embed(got, BATCH, FF_BACKEND_ONEDNN, pixels, NULL, BATCH);
    cr_expect(lt(dbl, 1e-3, apart(got + D, want + D, D)), "flip does nothing");
    free(pixels);
    ff_model_destroy(m);
}

Test(model_file, embedder_does_not_depend_on_the_batch)
{
    enum { COUNT = 7 };
    struct ff_model *m = filled_model(false);
    uint8_t *pixels = make_pixels(COUNT), flip[COUNT] = {1, 0, 0, 1, 1, 0, 1};
    static const int batches[] = {2, 7, 16};
    float want[COUNT * D], got[COUNT * D];
    save(m, path);
    ff_model_destroy(m);
    embed(want, 1, FF_BACKEND_ONEDNN, pixels, flip, COUNT);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        embed(got, batches[i], FF_BACKEND_ONEDNN, pixels, flip, COUNT);
        cr_log_info("batch %d: %.1e", batches[i], apart(got, want, COUNT * D));
        for (int n = 0; n < COUNT; n++)
            cr_expect(le(dbl, apart(got + n * D, want + n * D, D), 1e-5), "batch %d",
                      batches[i]);
    }
    free(pixels);
}
