/* SPDX-License-Identifier: MIT */
/* Shared by the cuDNN tests: devices by their properties, the networks' convolutions.
 */
#ifndef FF_DNN_FIXTURE_H
#define FF_DNN_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "cuda_dnn.h"

/* tests/fixtures/deviceprop/<name>.json */
static inline struct dnn_target target_named(const char *name)
{
    char path[FF_PATH_MAX], *json;
    size_t bytes;
    struct dnn_target target;
    struct ff_err err = FF_ERR_INIT;
    const char *tests = getenv("FF_TESTS");
    ff_path(path, NULL, "%s/fixtures/deviceprop/%s.json", tests ? tests : "tests",
            name);
    int rc = ff_read_file(&json, &bytes, path, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    rc = dnn_target_open_json(&target, json, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    free(json);
    return target;
}

/* 3 x 3, stride 1, as many channels out as in. */
static inline struct dnn_problem square_problem(int N, int channels, int side,
                                                enum cuda_type type, enum dnn_kind kind)
{
    return (struct dnn_problem){.shape = {.N = N,
                                          .C = channels,
                                          .H = side,
                                          .W = side,
                                          .K = channels,
                                          .R = 3,
                                          .S = 3,
                                          .stride = 1,
                                          .pad = 1,
                                          .groups = 1},
                                .type = type,
                                .kind = kind};
}

/* Distinct shapes at N = 1. */
#define SHAPES_MAX 64
struct shapes {
    int count;
    struct ff_conv_shape items[SHAPES_MAX];
};

static inline void add_shape(struct shapes *list, int in, int out, int kernel,
                             int stride, int pad, int side, int groups)
{
    const struct ff_conv_shape s = {.N = 1,
                                    .C = in,
                                    .H = side,
                                    .W = side,
                                    .K = out,
                                    .R = kernel,
                                    .S = kernel,
                                    .stride = stride,
                                    .pad = pad,
                                    .groups = groups};
    for (int i = 0; i < list->count; i++)
        if (!memcmp(&list->items[i], &s, sizeof s))
            return;
    cr_assert(lt(int, list->count, SHAPES_MAX));
    list->items[list->count++] = s;
}

/* The pixels' channels, padded as the CUDA backend pads them. */
#define PIXEL_CHANNELS 8
static inline bool reads_pixels(const struct ff_conv_shape *s)
{
    return s->C == PIXEL_CHANNELS;
}

/* trainer/iresnet.c at width 1 and 112 x 112 pixels. */
static inline void add_iresnet(struct shapes *list, const int blocks[4])
{
    int side = 112, in = 64;
    add_shape(list, PIXEL_CHANNELS, 64, 3, 1, 1, side, 1);
    for (int s = 0; s < 4; s++)
        for (int i = 0; i < blocks[s]; i++) {
            int out = 64 << s, stride = i == 0 ? 2 : 1;
            add_shape(list, in, out, 3, 1, 1, side, 1);
            add_shape(list, out, out, 3, stride, 1, side, 1);
            if (stride != 1)
                add_shape(list, in, out, 1, stride, 0, side, 1);
            in = out;
            side /= stride;
        }
}

static inline struct shapes iresnet_shapes(void)
{
    static const int blocks[][4] = {{2, 2, 2, 2},   /* r18 */
                                    {3, 4, 6, 3},   /* r34 */
                                    {3, 4, 14, 3},  /* r50 */
                                    {3, 13, 30, 3}, /* r100 */
                                    {6, 26, 60, 6} /* r200 */};
    struct shapes list = {0};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        add_iresnet(&list, blocks[i]);
    return list;
}

/* trainer/mbf.c at width 1: two channels a group, depthwise, pointwise. */
static inline struct shapes mbf_shapes(void)
{
    static const struct {
        int out, first, inner, residuals;
    } stages[3] = {{128, 128, 128, 4}, {256, 256, 256, 6}, {256, 512, 256, 2}};
    struct shapes list = {0};
    int side = 56, in = 128;
    add_shape(&list, PIXEL_CHANNELS, 128, 3, 2, 1, 112, 1);
    add_shape(&list, 128, 128, 3, 1, 1, side, 64);
    for (int s = 0; s < 3; s++)
        for (int i = 0; i <= stages[s].residuals; i++) {
            int inner = i ? stages[s].inner : stages[s].first, stride = i ? 1 : 2;
            add_shape(&list, in, inner, 1, 1, 0, side, 1);
            add_shape(&list, inner, inner, 3, stride, 1, side, inner);
            side /= stride;
            add_shape(&list, inner, stages[s].out, 1, 1, 0, side, 1);
            in = stages[s].out;
        }
    add_shape(&list, in, 512, 1, 1, 0, side, 1);
    add_shape(&list, 512, 512, 7, 1, 0, side, 512);
    return list;
}

#endif
