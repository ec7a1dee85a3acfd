/* SPDX-License-Identifier: MIT */
/* Sizes of runs; see estimate.h. One walk over the layers counts both the weights and
 * the elements of the stage outputs. */
#include "estimate.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>

#define STAGES 4
#define CURVE_LINE_BYTES 90 /* a line of curve.csv and one of telemetry.csv's share */
#define PROGRAM_BYTES 200000000LL /* libraries, decoders, file buffers */

static const int64_t blocks[][STAGES] = {
    [FF_BACKBONE_R18] = {2, 2, 2, 2},    [FF_BACKBONE_R34] = {3, 4, 6, 3},
    [FF_BACKBONE_R50] = {3, 4, 14, 3},   [FF_BACKBONE_R100] = {3, 13, 30, 3},
    [FF_BACKBONE_R200] = {6, 26, 60, 6},
};

struct size {
    int64_t weights, activations; /* numbers; numbers an image */
};

/* Channels as trainer/iresnet.c and trainer/mbf.c round them: each stage for itself. */
static int64_t iresnet_channels(const struct ff_params *params, int stage)
{
    int64_t channels = lround((64 << stage) * params->width);
    return channels < 1 ? 1 : channels;
}

static int64_t mbf_channels(const struct ff_params *params, int at_width_1)
{
    int64_t channels = 2 * lround(at_width_1 * params->width / 2);
    return channels < 2 ? 2 : channels;
}

static struct size walk_iresnet(const struct ff_params *params)
{
    int64_t base = iresnet_channels(params, 0);
    int64_t side = params->image_size, in = base;
    struct size size = {3 * 9 * base + 3 * base, 2 * base * side * side};
    for (int stage = 0; stage < STAGES; stage++) {
        int64_t out = iresnet_channels(params, stage);
        for (int64_t b = 0; b < blocks[params->backbone][stage]; b++) {
            int64_t before = side * side;
            size.weights +=
                2 * in + 9 * in * out + 2 * out + out + 9 * out * out + 2 * out;
            if (b == 0) {
                size.weights += in * out + 2 * out;
                side /= 2;
            }
            /* BN output, conv output, PReLU output, conv output, sum */
            size.activations += in * before + 2 * out * before + 2 * out * side * side;
            in = out;
        }
    }
    int64_t flat = in * side * side;
    size.weights += 2 * in + flat * params->embedding + 2 * params->embedding;
    size.activations += flat + 2 * params->embedding;
    return size;
}

/* A convolution of `inputs` numbers an output, with BN and PReLU if `prelu`. */
static void add_unit(struct size *size, int64_t inputs, int64_t out, int64_t side,
                     bool prelu)
{
    size->weights += inputs * out + 2 * out + (prelu ? out : 0);
    size->activations += 2 * out * side * side; /* convolution, BN */
}

static struct size walk_mbf(const struct ff_params *params)
{
    /* channels of a stage, inside its first bottleneck and the others; how many */
    static const int stages[3][4] = {
        {128, 128, 128, 4}, {256, 256, 256, 6}, {256, 512, 256, 2}};
    int64_t in = mbf_channels(params, 128), side = params->image_size / 2;
    int64_t last = mbf_channels(params, 512);
    struct size size = {0, 0};
    add_unit(&size, 27, in, side, true);
    add_unit(&size, 18, in, side, true);
    for (int s = 0; s < 3; s++) {
        int64_t out = mbf_channels(params, stages[s][0]);
        for (int i = 0; i <= stages[s][3]; i++) {
            int64_t inner = mbf_channels(params, stages[s][i ? 2 : 1]);
            add_unit(&size, in, inner, side, true);
            side /= i ? 1 : 2;
            add_unit(&size, 9, inner, side, true);
            add_unit(&size, inner, out, side, false);
            in = out;
        }
    }
    add_unit(&size, in, last, side, true);
    add_unit(&size, side * side, last, 1, false);
    size.weights += last * params->embedding + 2 * params->embedding;
    size.activations += 2 * params->embedding;
    return size;
}

static struct size walk(const struct ff_params *params)
{
    return params->backbone == FF_BACKBONE_MBF ? walk_mbf(params)
                                               : walk_iresnet(params);
}

int64_t ff_estimate_parameters(const struct ff_params *params)
{
    return walk(params).weights;
}

int64_t ff_estimate_model_bytes(const struct ff_params *params)
{
    return 4 * walk(params).weights + 400000;
}

int64_t ff_estimate_checkpoint_bytes(const struct ff_params *params, int64_t classes)
{
    return 2 * ff_estimate_model_bytes(params) + 2 * 4 * classes * params->embedding;
}

int64_t ff_estimate_curve_bytes(int64_t iterations)
{
    return CURVE_LINE_BYTES * iterations;
}

int64_t ff_estimate_training_bytes(const struct ff_params *params, int64_t classes)
{
    struct size size = walk(params);
    int half = params->precision == FF_PRECISION_FP16 ||
               params->precision == FF_PRECISION_BF16;
    return 3 * 4 * size.weights + 3 * 4 * classes * params->embedding +
           2 * 4 * classes * params->batch +
           (half ? 2 : 4) * size.activations * params->batch + PROGRAM_BYTES;
}

int64_t ff_estimate_eval_bytes(const struct ff_params *params, int64_t images,
                               int64_t pairs)
{
    return 4 * ff_estimate_parameters(params) + images * (2 * 4 * params->embedding) +
           pairs * 24 + PROGRAM_BYTES;
}

const char *ff_bytes_text(char buf[32], double bytes)
{
    const char *const units[] = {"B", "kB", "MB", "GB", "TB"};
    int unit = 0;
    while (bytes >= 999.5 && unit < 4) {
        bytes /= 1000;
        unit++;
    }
    snprintf(buf, 32, bytes < 9.95 && unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return buf;
}
