/* SPDX-License-Identifier: MIT */
/* Optimizer: gradient norm and finiteness, the verdict of a step, SGD.
 *
 * grad_check is one pass over the backbone's gradient; its last block draws the
 * conclusions for the whole step: norm, clip factor, whether anything is updated, the
 * next loss scale, the report to the host. The updates read them in device memory, so
 * that nothing here waits for the host. */
#include "cuda_launch.h"

enum { THREADS = 256 };

struct check_args {
    const float *gradient;
    int64_t count;
    double *partial; /* (blocks, 2): sum of squares, elements that are not finite */
    struct cuda_state *state;
    const struct cuda_step_head *head;
    struct cuda_report *report;
    bool has_head, scales;
};

static __device__ void conclude(const check_args &a, double sum_sq, double bad)
{
    struct cuda_state *s = a.state;
    int slot = (int)(a.head->step % CUDA_RING);
    s->norm = sqrt(sum_sq) / s->loss_scale;
    s->finite = bad == 0 && !(a.has_head && s->head_bad);
    s->used_scale = s->loss_scale;
    s->head_bad = 0;
    a.report->result[slot].norm = s->norm;
    a.report->result[slot].loss_scale = s->loss_scale;
    a.report->result[slot].finite = s->finite;
    if (a.scales)
        cuda_move_scale(&s->loss_scale, &s->good_steps, s->finite,
                        FF_SCALE_GROWTH_STEPS);
    __threadfence_system();
    a.report->result[slot].step = a.head->step;
}

static __global__ void check_kernel(check_args a)
{
    int64_t body = a.count / LANES * LANES;
    int64_t step = (int64_t)gridDim.x * blockDim.x * LANES;
    int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
    double sum = 0, bad = 0;
    for (int64_t i = first; i < body; i += step) {
        float x[LANES];
        get8(x, a.gradient + i);
        FF_UNROLL
        for (int k = 0; k < LANES; k++) {
            sum += (double)x[k] * (double)x[k];
            bad += isfinite(x[k]) ? 0 : 1;
        }
    }
    if (first == 0)
        for (int64_t i = body; i < a.count; i++) {
            sum += (double)a.gradient[i] * (double)a.gradient[i];
            bad += isfinite(a.gradient[i]) ? 0 : 1;
        }
    sum = block_sum(sum);
    bad = block_sum(bad);
    if (threadIdx.x == 0) {
        a.partial[2 * blockIdx.x] = sum;
        a.partial[2 * blockIdx.x + 1] = bad;
    }
    if (!last_block(a.state->tickets, gridDim.x))
        return;
    sum = bad = 0;
    for (unsigned int b = threadIdx.x; b < gridDim.x; b += blockDim.x) {
        sum += __ldcg(&a.partial[2 * b]);
        bad += __ldcg(&a.partial[2 * b + 1]);
    }
    sum = block_sum(sum);
    bad = block_sum(bad);
    if (threadIdx.x == 0)
        conclude(a, sum, bad);
}

struct sgd_args {
    float *weight, *velocity;
    const float *gradient;
    int64_t count;
    const struct cuda_state *state;
    const struct cuda_step_head *head;
    double clip_norm;
    float momentum, decay;
};

static __global__ void sgd_kernel(sgd_args a)
{
    if (!a.state->finite)
        return;
    float lr = (float)a.head->lr;
    float factor = (float)(cuda_clip(a.state->norm, a.clip_norm) / a.state->used_scale);
    int64_t body = a.count / LANES * LANES;
    int64_t step = (int64_t)gridDim.x * blockDim.x * LANES;
    int64_t first = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * LANES;
    for (int64_t i = first; i < body; i += step) {
        float w[LANES], v[LANES], g[LANES];
        get8(w, a.weight + i);
        get8(v, a.velocity + i);
        get8(g, a.gradient + i);
        FF_UNROLL
        for (int k = 0; k < LANES; k++)
            cuda_sgd(&w[k], &v[k], factor * g[k], a.momentum, a.decay, lr);
        put8(a.weight + i, w);
        put8(a.velocity + i, v);
    }
    if (first == 0)
        for (int64_t i = body; i < a.count; i++)
            cuda_sgd(&a.weight[i], &a.velocity[i], factor * a.gradient[i], a.momentum,
                     a.decay, lr);
}

void cuda_grad_check(struct ff_ops_ctx *ctx, const struct ff_tensor *dbackbone,
                     const struct ff_head_plan *head)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    cuda_cast_flush(cu, false);
    check_args a = {
        as<const float>(dbackbone), dbackbone->count,  cu->partial,  cu->state,
        cuda_step_values(cu),       cu->device_report, head != NULL, cu->scales};
    launch(cu, "grad_check", check_kernel,
           dim3(blocks_for(dbackbone->count, THREADS * LANES, 4 * cu->multiprocessors)),
           dim3(THREADS), a);
}

void cuda_sgd_op(struct ff_ops_ctx *ctx, struct ff_tensor *weight,
                 struct ff_tensor *velocity, const struct ff_tensor *dweight,
                 const struct ff_sgd *sgd)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    cuda_cast_flush(cu, false);
    cuda_bn_flush(cu, NULL);
    sgd_args a = {as<float>(weight),
                  as<float>(velocity),
                  as<const float>(dweight),
                  weight->count,
                  cu->state,
                  cuda_step_values(cu),
                  sgd->clip_norm,
                  (float)sgd->momentum,
                  (float)sgd->weight_decay};
    launch(cu, "sgd", sgd_kernel,
           dim3(blocks_for(weight->count, THREADS * LANES, 8 * cu->multiprocessors)),
           dim3(THREADS), a);
}
