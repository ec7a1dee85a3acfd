/* SPDX-License-Identifier: MIT */
/* safetensors: the shape of a network out of names and shapes, its weights, every dtype
 * of floats, and what is wrong with a damaged file. */
#include "atomic_file.h"
#include "embedder.h"
#include "log.h"
#include "model_file.h"
#include "safetensors.h"
#include "safetensors_fixture.h"

static char dir[64], path[FF_PATH_MAX];

static void setup(void)
{
    ff_log_set_level(FF_LOG_QUIET);
    strcpy(dir, "/tmp/ff-safetensors-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(dir), NULL));
    ff_path(path, NULL, "%s/model.safetensors", dir);
}

static void teardown(void)
{
    ff_remove_tree(dir, NULL);
}

TestSuite(safetensors, .init = setup, .fini = teardown, .timeout = 30);

/* A network written as safetensors is recognised and embeds as the one in memory. */
static void round_trip(int backbone, double width, int side, int D, bool bf16)
{
    enum { N = 2 };
    struct ff_model_config config = {backbone, width, side, D}, found;
    struct ff_err err = FF_ERR_INIT;
    struct ff_embedder *e;
    struct net net;
    int64_t label[N];
    size_t image = (size_t)side * (size_t)side * 3, values = N * (size_t)D;
    uint8_t *pixels = malloc(N * image), flip[N];
    float *want = malloc(values * sizeof *want), *got = malloc(values * sizeof *got);
    net_open(&net, FF_BACKEND_ONEDNN, 1, &config, N, false);
    net_fill(&net);
    save_safetensors(path, net.model, bf16);
    net_batch(pixels, flip, label, 0, N, side, 5);
    net.ops->download(net.ctx, want, ff_model_forward(net.model, pixels, flip));
    net_close(&net);

    cr_assert(eq(int, ff_model_read_config(&found, path, &err), 0), "%s", err.text);
    cr_assert(eq(int, found.backbone, backbone));
    cr_assert(epsilon_eq(dbl, found.width, width, 1.0 / 512)); /* the same channels */
    cr_assert(eq(int, found.image_size_px, side));
    cr_assert(eq(int, found.embedding, D));
    int rc = ff_embedder_create(
        &e, path, N,
        &(struct ff_ops_options){.backend = FF_BACKEND_ONEDNN, .threads = 1}, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(int, ff_embedder_run(got, e, pixels, flip, N, &err), 0));
    double apart = 0, length = 0;
    for (size_t i = 0; i < values; i++) {
        apart += pow((double)got[i] - want[i], 2);
        length += pow(want[i], 2);
    }
    /* the same weights to the bit, or cut to 8 bits of mantissa */
    cr_assert(bf16 ? apart > 0 && apart < 0.01 * length : apart == 0);
    ff_embedder_destroy(e);
    free(pixels);
    free(want);
    free(got);
}

Test(safetensors, r18_is_recognised_and_embeds_the_same)
{
    round_trip(FF_BACKBONE_R18, 0.25, 32, 24, false);
}
Test(safetensors, r50_is_recognised_and_embeds_the_same)
{
    round_trip(FF_BACKBONE_R50, 0.125, 16, 16, false);
}
Test(safetensors, mbf_is_recognised_and_embeds_the_same)
{
    round_trip(FF_BACKBONE_MBF, 0.25, 48, 32, false);
}
/* Channels are rounded: 6, 13, 26, 51 and 38, 76, 154 are no plain multiples. */
Test(safetensors, widths_that_round_are_recognised)
{
    round_trip(FF_BACKBONE_R18, 0.1, 16, 16, false);
    round_trip(FF_BACKBONE_R18, 0.01, 16, 16, false);
    round_trip(FF_BACKBONE_MBF, 0.3, 16, 16, false);
}
Test(safetensors, channels_of_no_width_are_named)
{
    static const int channels[4] = {8, 16, 30, 64};
    struct ff_model_config config;
    struct ff_err err = FF_ERR_INIT;
    char header[4096];
    size_t used = 0;
    static const float data[64 * 16];
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < 2; i++)
            used += (size_t)snprintf(
                header + used, sizeof header - used,
                "%c\"layer%d.%d.conv1.weight\":{\"dtype\":\"F32\",\"shape\":[%d,1,1,1],"
                "\"data_offsets\":[0,%d]}",
                used ? ',' : '{', s + 1, i, channels[s], 4 * channels[s]);
    snprintf(
        header + used, sizeof header - used,
        ",\"bn2.weight\":{\"dtype\":\"F32\",\"shape\":[64],\"data_offsets\":[0,256]},"
        "\"fc.weight\":{\"dtype\":\"F32\",\"shape\":[16,64],"
        "\"data_offsets\":[0,4096]}}");
    put_safetensors(path, header, data, sizeof data);
    cr_assert(eq(int, ff_model_read_config(&config, path, &err), FF_EDATA));
    cr_assert(strstr(err.text, "no width gives its stages") != NULL, "%s", err.text);
}
Test(safetensors, tensors_of_no_use_are_told)
{
    struct ff_model_config config = {FF_BACKBONE_R34, 0.125, 16, 16};
    struct ff_err err = FF_ERR_INIT;
    struct net large, small;
    char log[FF_PATH_MAX], *text;
    size_t bytes;
    net_open(&large, FF_BACKEND_REF, 1, &config, 1, false);
    save_safetensors(path, large.model, false);
    config.backbone = FF_BACKBONE_R18;
    net_open(&small, FF_BACKEND_REF, 1, &config, 1, false);
    ff_path(log, NULL, "%s/log", dir);
    ff_log_open(log);
    cr_assert(eq(int, ff_model_load(large.model, path, &err), 0), "%s", err.text);
    cr_assert(eq(int, ff_read_file(&text, &bytes, log, NULL), 0));
    cr_assert(eq(str, text, ""));
    free(text);
    cr_assert(eq(int, ff_model_load(small.model, path, &err), 0), "%s", err.text);
    ff_log_open(NULL);
    cr_assert(eq(int, ff_read_file(&text, &bytes, log, NULL), 0));
    cr_assert(strstr(text, "tensors are not of the network and not read: layer1.2.") !=
                  NULL,
              "%s", text);
    free(text);
    net_close(&large);
    net_close(&small);
}
Test(safetensors, bf16_is_read)
{
    round_trip(FF_BACKBONE_R18, 0.25, 32, 24, true);
}

Test(safetensors, every_float_dtype)
{
    static const struct {
        const char *dtype;
        uint8_t bytes[8];
        int size;
        double value;
    } cases[] = {
        {"F64", {0, 0, 0, 0, 0, 0, 0xf8, 0x3f}, 8, 1.5},
        {"F32", {0, 0, 0xc0, 0xbf}, 4, -1.5},
        {"F16", {0x00, 0x3e}, 2, 1.5},
        {"F16", {0x01, 0x80}, 2, -0x1p-24}, /* subnormal */
        {"F16", {0xff, 0x7b}, 2, 65504},
        {"BF16", {0xc0, 0x3f}, 2, 1.5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ff_safetensors *file;
        struct ff_safetensor t;
        char header[128];
        float *values;
        snprintf(header, sizeof header,
                 "{\"x\":{\"dtype\":\"%s\",\"shape\":[],\"data_offsets\":[0,%d]}}",
                 cases[i].dtype, cases[i].size);
        put_safetensors(path, header, cases[i].bytes, (size_t)cases[i].size);
        cr_assert(eq(int, ff_safetensors_open(&file, path, NULL), 0));
        cr_assert(ff_safetensors_find(&t, file, "x"));
        cr_assert(not(ff_safetensors_find(&t, file, "y")));
        cr_assert(ff_safetensors_find(&t, file, "x"));
        cr_assert(eq(int, ff_safetensors_f32(&values, file, &t, NULL), 0));
        cr_assert(ieee_ulp_eq(dbl, (double)values[0], cases[i].value, 0));
        free(values);
        ff_safetensors_close(file);
    }
}

/* Opening fails as bad data, with these words. */
static void refused(const char *words)
{
    struct ff_safetensors *file;
    struct ff_err err = FF_ERR_INIT;
    cr_expect(eq(int, ff_safetensors_open(&file, path, &err), FF_EDATA));
    cr_expect(strstr(err.text, words) != NULL, "\"%s\" is not in \"%s\"", words,
              err.text);
}

static void refused_header(const char *header, const char *words)
{
    put_safetensors(path, header, "12345678", 8);
    refused(words);
}

Test(safetensors, damage_is_named)
{
    static const uint8_t huge[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f};
    FILE *f = fopen(path, "wb");
    fclose(f);
    refused("no safetensors file");
    f = fopen(path, "wb");
    fwrite(huge, sizeof huge, 1, f);
    fclose(f);
    refused("no safetensors file");
    refused_header("[1]", "no JSON object");
    refused_header("{\"x\":", "no JSON object");
    refused_header("{\"x\":{}}", "x: no known dtype");
    refused_header("{\"x\":{\"dtype\":\"F31\"}}", "x: no known dtype");
    refused_header("{\"x\":{\"dtype\":\"F32\"}}", "x: no shape");
    refused_header("{\"x\":{\"dtype\":\"F32\",\"shape\":[-1]}}", "x: bad shape");
    refused_header("{\"x\":{\"dtype\":\"F32\",\"shape\":[1e15,1e15]}}", "x: bad shape");
    refused_header("{\"x\":{\"dtype\":\"F32\",\"shape\":[2]}}", "x: no data_offsets");
    refused_header("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]}}",
                   "x: data_offsets outside");
    refused_header("{\"x\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[1,9]}}",
                   "x: data_offsets outside");
    refused_header("{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,8]}}",
                   "x: data_offsets do not fit");
}

Test(safetensors, an_unknown_network_is_named)
{
    struct ff_model_config config;
    struct ff_err err = FF_ERR_INIT;
    put_safetensors(path,
                    "{\"conv1.weight\":{\"dtype\":\"F32\",\"shape\":[2],"
                    "\"data_offsets\":[0,8]}}",
                    "12345678", 8);
    cr_assert(eq(int, ff_model_read_config(&config, path, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "no known backbone"), NULL), "%s", err.text);
}

Test(safetensors, a_missing_tensor_and_another_shape_are_named)
{
    struct ff_model_config config = {FF_BACKBONE_R18, 0.125, 16, 16};
    struct ff_err err = FF_ERR_INIT;
    struct net small, large;
    net_open(&small, FF_BACKEND_REF, 1, &config, 1, false);
    save_safetensors(path, small.model, false);
    config.embedding = 24;
    net_open(&large, FF_BACKEND_REF, 1, &config, 1, false);
    cr_assert(eq(int, ff_model_load(large.model, path, &err), FF_EDATA));
    cr_assert(strstr(err.text,
                     "fc.weight: shape (16, 64) where (24, 64) is expected") != NULL,
              "%s", err.text);
    net_close(&small);
    net_close(&large);
}
