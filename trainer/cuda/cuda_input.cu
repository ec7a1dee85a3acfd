/* SPDX-License-Identifier: MIT */
/* Pixels to network input: normalised, mirrored, channels padded with zeros to eight,
 * one thread a pixel. */
#include "cuda_launch.h"

enum { THREADS = 256, CHANNELS = LANES };

template <class T>
static __global__ void input_kernel(T *dst, const uint8_t *pixels, const uint8_t *flip,
                                    int64_t count, int HW, int W)
{
    int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count;
         i += step) {
        int64_t n = i / HW;
        int w = (int)(i % W);
        const uint8_t *from = pixels + 3 * (flip && flip[n] ? i + W - 1 - 2 * w : i);
        float x[LANES] = {0};
        for (int c = 0; c < 3; c++)
            x[c] = cuda_normalise(from[c]);
        put8(dst + i * CHANNELS, x);
    }
}

void cuda_input(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const uint8_t *pixels,
                const uint8_t *flip, int N, int H, int W)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    int64_t count = (int64_t)N * H * W;
    if (pixels) {
        const struct ff_step own = {N, (int64_t)H * W * 3, pixels, flip, NULL, 0};
        if (!cuda_step_reserve(cu, N, own.image_bytes) || !cuda_step_stage(cu, &own))
            return;
    }
    cuda_side_spare(cu, dst);
    with_type(cuda_type_of(cu, dst), [&](auto t) {
        using T = decltype(t);
        launch(cu, "input", input_kernel<T>, dim3(blocks_for(count, THREADS, 1 << 20)),
               dim3(THREADS), as<T>(dst), cuda_step_pixels(cu), cuda_step_flip(cu),
               count, H * W, W);
    });
}
