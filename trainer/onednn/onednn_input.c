/* SPDX-License-Identifier: MIT */
/* Pixels to network input through a table of the 256 possible values. */
#include "onednn_priv.h"

void onednn_input(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const uint8_t *pixels,
                  const uint8_t *flip, int N, int H, int W)
{
    if (!pixels) {
        pixels = ctx->step.pixels;
        flip = ctx->step.flip;
    }
    float value[256];
    for (int i = 0; i < 256; i++)
        value[i] = (float)((i / 255.0 - 0.5) / 0.5);
    float *y = ff_f32(dst);
#pragma omp parallel for schedule(static) num_threads(ctx->threads)
    for (int64_t row = 0; row < (int64_t)N * H; row++) {
        const uint8_t *px = pixels + row * W * 3;
        float *out = y + row * W * 3;
        if (flip && flip[row / H])
            for (int w = 0; w < W; w++)
                for (int c = 0; c < 3; c++)
                    out[w * 3 + c] = value[px[(W - 1 - w) * 3 + c]];
        else
            for (int i = 0; i < W * 3; i++)
                out[i] = value[px[i]];
    }
}
