/* SPDX-License-Identifier: MIT */
/* Pixels to network input: (x/255 - 0.5)/0.5, mirrored where asked. */
#include "ref_priv.h"

void ff_ref_input(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const uint8_t *pixels,
                  const uint8_t *flip, int N, int H, int W)
{
    if (!pixels) {
        pixels = ctx->step.pixels;
        flip = ctx->step.flip;
    }
    float *y = ff_f32(dst);
    for (int n = 0; n < N; n++)
        for (int h = 0; h < H; h++)
            for (int w = 0; w < W; w++) {
                int from = flip && flip[n] ? W - 1 - w : w;
                const uint8_t *px = pixels + (((int64_t)n * H + h) * W + from) * 3;
                float *out = y + (((int64_t)n * H + h) * W + w) * 3;
                for (int c = 0; c < 3; c++)
                    out[c] = (float)(((double)px[c] / 255.0 - 0.5) / 0.5);
            }
}
