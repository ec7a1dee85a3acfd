/* SPDX-License-Identifier: MIT */
/* The CUDA backend: cuDNN for convolutions, cuBLASLt for products, own kernels for the
 * rest. A shared object that ops.c loads: its one entry is ff_cuda_open. */
#include <cudnn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cuda_entry.h"
#include "cuda_lease.h"
#include "cuda_nvml.h"
#include "cuda_priv.h"
#include "log.h"

bool cuda_ok(struct cuda_ctx *cu, cudaError_t status, const char *call,
             const char *where)
{
    if (status == cudaSuccess)
        return true;
    cudaGetLastError(); /* else the next launch would report it again */
    if (!cu->error.code)
        ff_err_set(&cu->error,
                   status == cudaErrorMemoryAllocation ? FF_ENOMEM : FF_EFAIL,
                   "CUDA: %s (%s: %.120s)", cudaGetErrorString(status), where, call);
    return false;
}

void cuda_fail(struct cuda_ctx *cu, int rc, const struct ff_err *err)
{
    if (!cu->error.code) {
        cu->error = *err;
        cu->error.code = rc;
    }
}

/* -- memory -- */

/* What the context and the libraries' handles may take, at least what a start needs. */
#define CONTEXT_BYTES ((int64_t)1 << 30)

int cuda_no_memory(struct cuda_ctx *cu, size_t bytes, const char *what,
                   struct ff_err *err)
{
    size_t there = 0, total = 0;
    cudaMemGetInfo(&there, &total);
    /* With nothing here yet but the context, all else that is not free is theirs. */
    return cuda_nvml_no_memory(cu->nvml, (int64_t)bytes, (int64_t)there,
                               what ? (int64_t)(total - there) - CONTEXT_BYTES : 0,
                               what, err);
}

int cuda_alloc_bytes(struct cuda_ctx *cu, void **out, size_t bytes, struct ff_err *err)
{
    size_t rounded = (bytes + 255) / 256 * 256;
    cudaError_t status = cudaMalloc(out, rounded ? rounded : 256);
    if (status == cudaSuccess) {
        status = cudaMemsetAsync(*out, 0, rounded ? rounded : 256, cu->stream);
        if (status == cudaSuccess)
            return 0;
        cudaFree(*out);
    }
    *out = NULL;
    cudaGetLastError();
    if (status != cudaErrorMemoryAllocation)
        return ff_err_set(err, FF_EFAIL, "CUDA: %s", cudaGetErrorString(status));
    return cuda_no_memory(cu, bytes, NULL, err);
}

int cuda_workspace_grow(struct cuda_ctx *cu, struct cuda_workspace *workspace,
                        size_t bytes, struct ff_err *err)
{
    if (bytes <= workspace->bytes)
        return 0;
    cuda_side_join(cu);
    cudaStreamSynchronize(cu->stream);
    cuda_step_forget(cu);
    cudaFree(workspace->data);
    *workspace = (struct cuda_workspace){0};
    int rc = cuda_alloc_bytes(cu, &workspace->data, bytes, err);
    if (!rc)
        workspace->bytes = bytes;
    return rc;
}

static int alloc(struct ff_ops_ctx *ctx, struct ff_tensor *t, int64_t count,
                 int element_bytes, struct ff_err *err)
{
    *t = (struct ff_tensor){NULL, count, element_bytes};
    return cuda_alloc_bytes(cuda_of(ctx), &t->data,
                            (size_t)count * (size_t)element_bytes, err);
}

static void free_tensor(struct ff_ops_ctx *ctx, struct ff_tensor *t)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    if (t->data) {
        cuda_cast_flush(cu, true);
        cuda_cast_flush(cu, false);
        cuda_bn_flush(cu, NULL);
        cuda_bn_stats_are_f32(cu, t, false);
        cuda_side_join(cu);
        cudaStreamSynchronize(cu->stream);
        cuda_step_forget(cu); /* it may name this memory */
        cudaFree(t->data);
    }
    *t = (struct ff_tensor){0};
}

/* Halves go by way of an f32 copy on the device. */
static void upload(struct ff_ops_ctx *ctx, struct ff_tensor *dst, const float *src)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    size_t bytes = (size_t)dst->count * sizeof *src;
    void *to = dst->data, *wide = NULL;
    struct ff_err err = FF_ERR_INIT;
    cuda_bn_flush(cu, NULL);
    if (dst->element_bytes != 4) {
        int rc = cuda_alloc_bytes(cu, &wide, bytes, &err);
        if (rc) {
            cuda_fail(cu, rc, &err);
            return;
        }
        to = wide;
    }
    cuda_side_join(cu);
    FF_TRY_CUDA(cu,
                cudaMemcpyAsync(to, src, bytes, cudaMemcpyHostToDevice, cu->stream));
    if (wide) {
        cuda_cast_later(cu, dst->data, cu->type, wide, dst->count);
        cuda_cast_flush(cu, true);
    }
    FF_TRY_CUDA(cu, cudaStreamSynchronize(cu->stream));
    cudaFree(wide);
}

static void download(struct ff_ops_ctx *ctx, float *dst, const struct ff_tensor *src)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    size_t bytes = (size_t)src->count * sizeof *dst;
    const void *from = src->data;
    void *wide = NULL;
    struct ff_err err = FF_ERR_INIT;
    cuda_cast_flush(cu, false);
    cuda_bn_flush(cu, NULL);
    if (src->element_bytes == 2) {
        int rc = cuda_alloc_bytes(cu, &wide, bytes, &err);
        if (rc) {
            cuda_fail(cu, rc, &err);
            return;
        }
        cuda_cast_later(cu, wide, CUDA_F32, src->data, src->count);
        cuda_cast_flush(cu, false);
        from = wide;
    }
    FF_TRY_CUDA(cu,
                cudaMemcpyAsync(dst, from, bytes, cudaMemcpyDeviceToHost, cu->stream));
    FF_TRY_CUDA(cu, cudaStreamSynchronize(cu->stream));
    cudaFree(wide);
}

static int64_t memory_free(struct ff_ops_ctx *ctx)
{
    size_t there = 0, total = 0;
    FF_TRY_CUDA(cuda_of(ctx), cudaMemGetInfo(&there, &total));
    return (int64_t)there;
}

static int memory_check(struct ff_ops_ctx *ctx, int64_t bytes, const char *what,
                        struct ff_err *err)
{
    return memory_free(ctx) < bytes
               ? cuda_no_memory(cuda_of(ctx), (size_t)bytes, what, err)
               : 0;
}

static double energy_joules(struct ff_ops_ctx *ctx)
{
    return cuda_nvml_joules(cuda_of(ctx)->nvml);
}

static double power_watts(struct ff_ops_ctx *ctx)
{
    return cuda_nvml_watts(cuda_of(ctx)->nvml);
}

static int sync(struct ff_ops_ctx *ctx, struct ff_err *err)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    cuda_cast_flush(cu, true);
    cuda_cast_flush(cu, false);
    cuda_bn_flush(cu, NULL);
    FF_TRY_CUDA(cu, cudaStreamSynchronize(cu->stream));
    int code = cu->error.code;
    if (code && err)
        *err = cu->error;
    cu->error.code = 0;
    return code;
}

static const char *describe(struct ff_ops_ctx *ctx)
{
    return cuda_of(ctx)->description;
}

/* -- loss scale -- */

static struct ff_loss_scale loss_scale(struct ff_ops_ctx *ctx)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    struct cuda_state state = {.loss_scale = 1};
    FF_TRY_CUDA(cu, cudaMemcpyAsync(&state, cu->state, sizeof state,
                                    cudaMemcpyDeviceToHost, cu->stream));
    FF_TRY_CUDA(cu, cudaStreamSynchronize(cu->stream));
    return (struct ff_loss_scale){state.loss_scale, state.good_steps};
}

static void set_loss_scale(struct ff_ops_ctx *ctx, const struct ff_loss_scale *scale)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    struct cuda_state state = {.loss_scale = scale->value,
                               .good_steps = scale->good_steps,
                               .used_scale = scale->value};
    FF_TRY_CUDA(cu, cudaMemcpyAsync(cu->state, &state, sizeof state,
                                    cudaMemcpyHostToDevice, cu->stream));
    FF_TRY_CUDA(cu, cudaStreamSynchronize(cu->stream));
}

/* -- opening -- */

static void destroy(struct ff_ops_ctx *ctx)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    if (!cu)
        return;
    cuda_side_join(cu);
    if (cu->stream)
        cudaStreamSynchronize(cu->stream);
    cuda_step_close(cu);
    cuda_linear_close(cu);
    cuda_conv_close(cu);
    cuda_gemm_close(cu);
    cuda_side_close(cu);
    cudaFree(cu->workspace.data);
    cudaFree(cu->partial);
    cudaFree(cu->state);
    if (cu->copy_stream)
        cudaStreamDestroy(cu->copy_stream);
    if (cu->stream)
        cudaStreamDestroy(cu->stream);
    cuda_nvml_close(cu->nvml);
    cuda_lease_release(cu->lease);
    free(cu->casts);
    free(cu);
}

static const struct ff_ops table = {
    .name = "cuda",
    .channel_align = 8,
    .input_channels = 8,
    .overlaps = true,
    .destroy = destroy,
    .describe = describe,
    .alloc = alloc,
    .free = free_tensor,
    .upload = upload,
    .download = download,
    .memory_free = memory_free,
    .memory_check = memory_check,
    .energy_joules = energy_joules,
    .power_watts = power_watts,
    .sync = sync,
    .step = cuda_step,
    .loss = cuda_step_loss,
    .late_losses = cuda_step_late_losses,
    .step_result = cuda_step_result,
    .loss_scale = loss_scale,
    .set_loss_scale = set_loss_scale,
    .choices = cuda_conv_choices,
    .set_choices = cuda_conv_set_choices,
    .input = cuda_input,
    .conv_create = cuda_conv_create,
    .conv_destroy = cuda_conv_destroy,
    .conv_pack = cuda_conv_pack,
    .conv_fwd = cuda_conv_fwd,
    .conv_bwd_data = cuda_conv_bwd_data,
    .conv_bwd_weights = cuda_conv_bwd_weights,
    .bn_stats = cuda_bn_stats,
    .bn_finalize = cuda_bn_finalize_op,
    .bn_finalize_running = cuda_bn_finalize_running,
    .bn_apply = cuda_bn_apply,
    .bn_bwd_reduce = cuda_bn_bwd_reduce,
    .bn_bwd_apply = cuda_bn_bwd_apply,
    .linear_fwd = cuda_linear_fwd,
    .linear_bwd = cuda_linear_bwd,
    .head_create = cuda_head_create,
    .head_destroy = cuda_head_destroy,
    .head_bytes = cuda_head_bytes,
    .head_pack = cuda_head_pack,
    .head_fwd = cuda_head_fwd,
    .head_bwd = cuda_head_bwd,
    .head_update = cuda_head_update,
    .grad_check = cuda_grad_check,
    .sgd = cuda_sgd_op,
};

/* The table with what differs from context to context, one for each. */
static const struct ff_ops *table_for(const struct cuda_ctx *cu)
{
    static struct ff_ops tables[2][2];
    struct ff_ops *t = &tables[cu->type == CUDA_F32][cu->weights_beside];
    *t = table;
    t->activation_bytes = cuda_type_bytes(cu->type);
    t->weights_beside = cu->weights_beside;
    return t;
}

/* Number of the device that `name` names by number or UUID; -1 = none. */
static int device_of(const char *name, int count)
{
    struct cudaDeviceProp p;
    char uuid[CUDA_UUID_TEXT], *end;
    long number = strtol(name, &end, 10);
    if (*name && !*end)
        return number >= 0 && number < count ? (int)number : -1;
    for (int i = 0; i < count; i++) {
        if (cudaGetDeviceProperties(&p, i) != cudaSuccess)
            continue;
        cuda_uuid_text(uuid, p.uuid.bytes);
        if (strcasecmp(uuid, name) == 0)
            return i;
    }
    return -1;
}

/* No driver at all, or a library that stands for it, is no GPU; one that is too old, or
 * a card that is not ready, is one that does not work. */
static int find_device(struct cuda_ctx *cu, const char *name, struct ff_err *err)
{
    int count = 0, driver = 0;
    cudaError_t status = cudaGetDeviceCount(&count);
    cudaDriverGetVersion(&driver);
    if (status == cudaErrorNoDevice || status == cudaErrorStubLibrary ||
        (status == cudaSuccess && !count) || !driver)
        return ff_err_set(err, FF_ENODEV, "no GPU: %s",
                          !driver                 ? "no driver"
                          : status == cudaSuccess ? "the driver lists none"
                                                  : cudaGetErrorString(status));
    if (status != cudaSuccess)
        return ff_err_set(err, FF_EFAIL,
                          "the GPU cannot be used: %s (the driver is for CUDA %d.%d, "
                          "this program for %d.%d)",
                          cudaGetErrorString(status), driver / 1000, driver % 1000 / 10,
                          CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
    cu->device = device_of(name && *name ? name : "0", count);
    if (cu->device < 0)
        return ff_err_set(err, FF_EUSAGE,
                          "device: \"%s\" is none of the %d here (0 to %d, or a UUID "
                          "as nvidia-smi -L prints it)",
                          name, count, count - 1);
    return 0;
}

/* The context: half a GiB of the card. */
static int start_device(struct cuda_ctx *cu, struct ff_err *err)
{
    cudaError_t status = cudaSetDevice(cu->device);
    if (status == cudaSuccess)
        return 0;
    if (status == cudaErrorMemoryAllocation)
        return cuda_nvml_no_memory(cu->nvml, CONTEXT_BYTES, 0, CONTEXT_BYTES, "context",
                                   err);
    /* In the mode for one process, by one that takes no lease. */
    if (status == cudaErrorDevicesUnavailable)
        return ff_err_set(err, FF_EBUSY,
                          FF_SAYS_GPU_BUSY " another program has it for itself");
    return ff_err_set(err, FF_EFAIL, "CUDA: %s", cudaGetErrorString(status));
}

/* The card for this process alone, before it takes memory there, and what the driver
 * tells of it. Neither is needed to compute: a folder that cannot be used, or no
 * management library, is a warning, or not even that. */
static int take_device(struct cuda_ctx *cu, struct ff_err *err)
{
    struct cudaDeviceProp p;
    struct ff_err inner = FF_ERR_INIT;
    char uuid[CUDA_UUID_TEXT];
    if (!FF_TRY_CUDA(cu, cudaGetDeviceProperties(&p, cu->device))) {
        *err = cu->error;
        return err->code;
    }
    cuda_uuid_text(uuid, p.uuid.bytes);
    int rc = cuda_lease_take(&cu->lease, uuid, &inner);
    if (rc == FF_EBUSY)
        return ff_err_set(err, rc, "%s", inner.text);
    if (rc)
        ff_warn("%s: another run could take this GPU too", inner.text);
    if (cuda_nvml_open(&cu->nvml, uuid, &inner))
        ff_verbose("%s", inner.text);
    return 0;
}

static int describe_device(struct cuda_ctx *cu, struct ff_err *err)
{
    struct cudaDeviceProp p;
    int driver = 0, runtime = 0;
    char lt[32];
    if (!FF_TRY_CUDA(cu, cudaGetDeviceProperties(&p, cu->device)) ||
        !FF_TRY_CUDA(cu, cudaDriverGetVersion(&driver)) ||
        !FF_TRY_CUDA(cu, cudaRuntimeGetVersion(&runtime))) {
        *err = cu->error;
        return err->code;
    }
    cu->multiprocessors = p.multiProcessorCount;
    if (10 * p.major + p.minor < 75)
        return ff_err_set(err, FF_ENODEV,
                          "GPU %d is an %s, sm_%d%d: sm_75 or later is needed",
                          cu->device, p.name, p.major, p.minor);
    if (cu->type == CUDA_BF16 && p.major < 8)
        return ff_err_set(err, FF_EUSAGE,
                          "precision: bf16 needs sm_80, this is sm_%d%d", p.major,
                          p.minor);
    size_t v = cudnnGetVersion();
    cuda_gemm_version(lt, sizeof lt);
    snprintf(cu->description, sizeof cu->description,
             "cuda %d.%d, driver %d.%d, %s sm_%d%d, cuDNN %zu.%zu.%zu, cuBLASLt %s, "
             "%s%s, head %s, %s",
             runtime / 1000, runtime % 1000 / 10, driver / 1000, driver % 1000 / 10,
             p.name, p.major, p.minor, v / 10000, v / 100 % 100, v % 100, lt,
             cuda_type_name(cu->type), cu->tf32 ? " (TF32)" : "",
             cuda_type_name(cu->head_type),
             cu->deterministic ? "deterministic" : "not deterministic");
    return 0;
}

static int make_streams(struct cuda_ctx *cu, struct ff_err *err)
{
    FF_TRY_CUDA(cu, cudaStreamCreateWithFlags(&cu->copy_stream, cudaStreamNonBlocking));
    if (!cu->error.code && cu->weights_beside)
        return cuda_side_open(cu, err);
    FF_TRY_CUDA(cu, cudaStreamCreateWithFlags(&cu->stream, cudaStreamNonBlocking));
    if (cu->error.code)
        *err = cu->error;
    return cu->error.code;
}

static int make_memory(struct cuda_ctx *cu, struct ff_err *err)
{
    /* Sums for each channel and part of the rows: 3 of 2 blocks a multiprocessor, or 2
     * of 4; see cuda_bn.cu's grids. */
    const struct ff_loss_scale start = {cu->scales ? FF_SCALE_START : 1, 0};
    cu->partial_count = 3 * ((int64_t)cu->multiprocessors * 3 * 64 + 64 * CUDA_TICKETS);
    int rc = cuda_alloc_bytes(cu, (void **)&cu->partial,
                              (size_t)cu->partial_count * sizeof(double), err);
    if (!rc)
        rc = cuda_alloc_bytes(cu, (void **)&cu->state, sizeof *cu->state, err);
    if (!rc)
        set_loss_scale((struct ff_ops_ctx *)cu, &start);
    return rc;
}

int ff_cuda_open(const struct ff_ops **ops, struct ff_ops_ctx **ctx,
                 const struct ff_ops_options *options, struct ff_err *err)
{
    struct cuda_ctx *cu = calloc(1, sizeof *cu);
    if (!cu)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    switch ((enum ff_precision)options->precision) {
    case FF_PRECISION_FP32: cu->type = CUDA_F32; break;
    case FF_PRECISION_BF16: cu->type = CUDA_BF16; break;
    case FF_PRECISION_FP16:
    case FF_PRECISION_AUTO: cu->type = CUDA_F16; break;
    }
    cu->head_type =
        options->head_precision == FF_HEAD_PRECISION_FP16 ? CUDA_F16 : CUDA_F32;
    cu->scales = cu->type == CUDA_F16;
    cu->deterministic = !options->nondeterministic;
    cu->tf32 = options->tf32;
    cu->engine_search = options->engine_search;
    cu->weights_beside = options->weights_beside;
    int rc = find_device(cu, options->device, err);
    if (!rc)
        rc = take_device(cu, err);
    if (!rc)
        rc = start_device(cu, err);
    if (!rc)
        rc = describe_device(cu, err);
    if (!rc)
        rc = make_streams(cu, err);
    if (!rc)
        rc = make_memory(cu, err);
    if (!rc)
        rc = cuda_step_open(cu, err);
    if (!rc)
        rc = cuda_gemm_open(cu, err);
    if (!rc)
        rc = cuda_conv_open(cu, err);
    if (!rc)
        rc = sync((struct ff_ops_ctx *)cu, err);
    if (rc) {
        destroy((struct ff_ops_ctx *)cu);
        return rc;
    }
    *ops = table_for(cu);
    *ctx = (struct ff_ops_ctx *)cu;
    return 0;
}
