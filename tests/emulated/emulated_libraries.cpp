/* SPDX-License-Identifier: MIT */
/* In the place of cuDNN and cuBLASLt beside the emulated kernels: the interfaces of
 * cuda_dnn.h and cuda_gemm.h by plain loops with sums in f64, queued on the stream as
 * the libraries would. Values are rounded where the libraries round. */
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vector>

#include "emulator.h"

extern "C" {
#include "cuda_dnn.h"
#include "cuda_gemm.h"
#include "cuda_priv.h"
}

static double value(enum cuda_type type, const void *at, int64_t i)
{
    switch (type) {
    case CUDA_F32: return (double)((const float *)at)[i];
    case CUDA_F16: return (double)__half2float(((const __half *)at)[i]);
    case CUDA_BF16: break;
    }
    return (double)__bfloat162float(((const __nv_bfloat16 *)at)[i]);
}

static void put(enum cuda_type type, void *at, int64_t i, double x)
{
    switch (type) {
    case CUDA_F32: ((float *)at)[i] = (float)x; return;
    case CUDA_F16: ((__half *)at)[i] = __float2half_rn((float)x); return;
    case CUDA_BF16: break;
    }
    ((__nv_bfloat16 *)at)[i] = __float2bfloat16_rn((float)x);
}

/* -- cuBLASLt -- */

struct cuda_gemm {
    struct cuda_gemm_shape shape;
};

int cuda_gemm_open(struct cuda_ctx *cu, struct ff_err *err)
{
    (void)cu;
    (void)err;
    return 0;
}

void cuda_gemm_close(struct cuda_ctx *cu)
{
    (void)cu;
}

int cuda_gemm_create(struct cuda_gemm **out, struct cuda_ctx *cu,
                     const struct cuda_gemm_shape *shape, struct ff_err *err)
{
    (void)cu;
    (void)err;
    *out = new cuda_gemm{*shape};
    return 0;
}

void cuda_gemm_destroy(struct cuda_gemm *gemm)
{
    delete gemm;
}

void cuda_gemm_run(struct cuda_ctx *cu, const struct cuda_gemm *gemm, float alpha,
                   void *dst, const void *a, const void *b)
{
    const struct cuda_gemm_shape s = gemm->shape;
    emulator_queue(cu->stream, [=] {
        for (int64_t m = 0; m < s.M; m++)
            for (int64_t n = 0; n < s.N; n++) {
                double sum = 0;
                for (int64_t k = 0; k < s.K; k++)
                    sum +=
                        value(s.in, a,
                              s.transpose_a ? k * s.ld_a + m : m * s.ld_a + k) *
                        value(s.in, b, s.transpose_b ? n * s.ld_b + k : k * s.ld_b + n);
                put(s.out, dst, m * s.ld_dst + n, alpha * sum);
            }
    });
}

void cuda_gemm_version(char *out, size_t capacity)
{
    snprintf(out, capacity, "emulated");
}

/* -- cuDNN -- */

struct cudnnContext {
    cudaStream_t stream;
};

struct dnn_plan {
    struct dnn_problem problem;
};

extern "C" {

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = new cudnnContext();
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle)
{
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

size_t cudnnGetVersion(void)
{
    return CUDNN_VERSION;
}

const char *cudnnGetErrorString(cudnnStatus_t status)
{
    (void)status;
    return "an emulated error";
}
}

void dnn_target_open(struct dnn_target *target, cudnnHandle_t handle)
{
    *target = {};
    target->handle = handle;
}

void dnn_target_close(struct dnn_target *target)
{
    (void)target;
}

char *dnn_problem_text(char out[DNN_PROBLEM_TEXT], const struct dnn_problem *p)
{
    static const char *const kinds[] = {"forward", "forward sums", "backward data",
                                        "backward weights"};
    const struct ff_conv_shape *s = &p->shape;
    snprintf(out, DNN_PROBLEM_TEXT, "conv %d->%d %dx%d s%d p%d g%d %dx%d N%d %s %s",
             s->C, s->K, s->R, s->S, s->stride, s->pad, s->groups, s->H, s->W, s->N,
             cuda_type_name(p->type), kinds[p->kind]);
    return out;
}

/* As cuDNN: halves alone have an engine with channel sums. */
static bool has_engine(const struct dnn_problem *problem)
{
    return problem->kind != DNN_FWD_STATS || problem->type == CUDA_F16;
}

/* What a call takes, by enum dnn_kind; what follows it takes no time. */
double emulated_dnn_ms[4] = {2, 1, 1, 1};
double emulated_other_ms = 3; /* of the first that is not cuDNN's, if there is one */

int dnn_tune(struct dnn_tuned *tuned, const struct dnn_target *target,
             cudnnHandle_t handle, const struct dnn_problem *problem,
             const struct dnn_tuning *tuning, struct ff_err *err)
{
    (void)target;
    (void)handle;
    memset(tuned, 0, sizeof *tuned);
    if (!has_engine(problem))
        return ff_err_set(err, FF_EUSAGE, "no engine");
    strcpy(tuned->choice, tuning->search ? "eng7 k2=2" : "eng7 k2=1");
    tuned->ms = emulated_dnn_ms[problem->kind];
    tuned->timed = 1;
    if (tuning->other_count && emulated_other_ms < tuned->ms) {
        strcpy(tuned->choice, tuning->others[0].name);
        tuned->ms = emulated_other_ms;
        tuned->workspace_bytes = tuning->others[0].workspace_bytes;
    }
    if (tuning->follow) {
        const struct ff_conv_shape &s = problem->shape;
        int64_t rows = (int64_t)s.N * ff_conv_out(s.H, s.R, s.stride, s.pad) *
                       ff_conv_out(s.W, s.S, s.stride, s.pad);
        cudaStream_t stream;
        void *y;
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking);
        cudaMalloc(&y, (size_t)(rows * s.K * cuda_type_bytes(problem->type)));
        tuning->follow(tuning->arg, stream, y);
        cudaStreamDestroy(stream);
        cudaFree(y);
    }
    return 0;
}

int dnn_plan_create(struct dnn_plan **plan, const struct dnn_target *target,
                    const struct dnn_problem *problem, const char *choice,
                    struct ff_err *err)
{
    (void)target;
    *plan = NULL;
    if ((strcmp(choice, "eng7 k2=1") != 0 && strcmp(choice, "eng7 k2=2") != 0) ||
        !has_engine(problem))
        return ff_err_set(err, FF_EDATA, "\"%s\" is no choice", choice);
    *plan = new dnn_plan{*problem};
    return 0;
}

void dnn_plan_destroy(struct dnn_plan *plan)
{
    delete plan;
}

int64_t dnn_plan_workspace_bytes(const struct dnn_plan *plan)
{
    return plan->problem.kind == DNN_BWD_WEIGHTS ? 8192 : 4096;
}

/* Calls fn(x, w, y) with the indices of every product of the convolution. */
template <class F> static void for_products(const struct ff_conv_shape &s, F fn)
{
    int P = ff_conv_out(s.H, s.R, s.stride, s.pad);
    int Q = ff_conv_out(s.W, s.S, s.stride, s.pad);
    int share = s.C / s.groups, outputs = s.K / s.groups;
    for (int64_t n = 0; n < s.N; n++)
        for (int p = 0; p < P; p++)
            for (int q = 0; q < Q; q++)
                for (int r = 0; r < s.R; r++)
                    for (int t = 0; t < s.S; t++) {
                        int h = p * s.stride + r - s.pad, u = q * s.stride + t - s.pad;
                        if (h < 0 || h >= s.H || u < 0 || u >= s.W)
                            continue;
                        for (int k = 0; k < s.K; k++)
                            for (int c = 0; c < share; c++)
                                fn(((n * s.H + h) * s.W + u) * s.C +
                                       k / outputs * share + c,
                                   (((int64_t)k * s.R + r) * s.S + t) * share + c,
                                   ((n * P + p) * Q + q) * s.K + k);
                    }
}

static void convolve(const struct dnn_problem &p, void *x, void *w, void *y, float *sum,
                     float *sum_sq)
{
    const struct ff_conv_shape &s = p.shape;
    int64_t P = ff_conv_out(s.H, s.R, s.stride, s.pad);
    int64_t Q = ff_conv_out(s.W, s.S, s.stride, s.pad);
    int64_t count_x = (int64_t)s.N * s.H * s.W * s.C, count_y = s.N * P * Q * s.K;
    int64_t count_w = (int64_t)s.K * s.R * s.S * (s.C / s.groups);
    void *dst = p.kind == DNN_BWD_DATA ? x : p.kind == DNN_BWD_WEIGHTS ? w : y;
    int64_t count = dst == x ? count_x : dst == w ? count_w : count_y;
    /* Operands once as f32: a conversion a product would take most of the time. */
    std::vector<float> vx((size_t)count_x), vw((size_t)count_w), vy((size_t)count_y);
    std::vector<double> out((size_t)count);
    for (int64_t i = 0; i < count_x && dst != x; i++)
        vx[(size_t)i] = (float)value(p.type, x, i);
    for (int64_t i = 0; i < count_w && dst != w; i++)
        vw[(size_t)i] = (float)value(p.type, w, i);
    for (int64_t i = 0; i < count_y && dst != y; i++)
        vy[(size_t)i] = (float)value(p.type, y, i);
    double *o = out.data();
    const float *a = vx.data(), *b = vw.data(), *c = vy.data();
    if (dst == y)
        for_products(s, [&](int64_t i, int64_t j, int64_t k) {
            o[k] += (double)a[i] * (double)b[j];
        });
    else if (dst == x)
        for_products(s, [&](int64_t i, int64_t j, int64_t k) {
            o[i] += (double)c[k] * (double)b[j];
        });
    else
        for_products(s, [&](int64_t i, int64_t j, int64_t k) {
            o[j] += (double)a[i] * (double)c[k];
        });
    for (int64_t i = 0; i < count; i++)
        put(p.type, dst, i, out[(size_t)i]);
    if (p.kind != DNN_FWD_STATS)
        return;
    for (int k = 0; k < s.K; k++) {
        double one = 0, two = 0;
        for (int64_t i = k; i < count; i += s.K) {
            one += out[(size_t)i];
            two += out[(size_t)i] * out[(size_t)i];
        }
        sum[k] = (float)one;
        sum_sq[k] = (float)two;
    }
}

int dnn_plan_execute(struct dnn_plan *plan, cudnnHandle_t handle, void *workspace,
                     void *x, void *w, void *y, void *sum, void *sum_sq,
                     struct ff_err *err)
{
    static uint64_t calls;
    const struct dnn_problem p = plan->problem;
    uint64_t number = ++calls, *words = (uint64_t *)workspace;
    int64_t count = dnn_plan_workspace_bytes(plan) / (int64_t)sizeof *words;
    if (!workspace)
        return ff_err_set(err, FF_EFAIL, "no workspace");
    /* Two kernels, as those of a split: what the first leaves, the second reads. */
    emulator_queue(handle->stream, [=] {
        for (int64_t i = 0; i < count; i++)
            words[i] = number;
    });
    emulator_queue(handle->stream, [=] {
        for (int64_t i = 0; i < count; i++)
            if (words[i] != number) {
                fprintf(stderr, "cuDNN: two calls in one workspace\n");
                abort();
            }
        convolve(p, x, w, y, (float *)sum, (float *)sum_sq);
    });
    emulator_queued--; /* that count as one */
    return 0;
}
