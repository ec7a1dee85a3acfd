/* SPDX-License-Identifier: MIT */
/* Training steps: input, capture, replay, and what comes back.
 *
 * A step's pixels, labels and LR go into one block: copied to pinned memory, from there
 * by the copy stream to one of two places on the device, and from that place, at the
 * start of the step, to the one block that the ops read. So the upload of step t+1 runs
 * beside the backward pass of t, and a replayed graph always reads the same addresses.
 *
 * The first step runs op by op (libraries load their kernels then), the second is
 * captured, all others are replays. The loss is known to the host by an event behind
 * the kernel that writes it; the result of a step is read once a later loss is known,
 * or the stream has run dry. A capture and the launch of its graph begin with nothing
 * under way on the side stream, and end so. */
#include <math.h>
#include <string.h>

#include "cuda_priv.h"

/* -- the input block: head, labels, flip, pixels -- */

static size_t labels_at(void)
{
    return (sizeof(struct cuda_step_head) + 15) / 16 * 16;
}

static size_t flip_at(int N)
{
    return labels_at() + (size_t)N * sizeof(int64_t);
}

static size_t pixels_at(int N)
{
    return (flip_at(N) + (size_t)N + 15) / 16 * 16;
}

const int64_t *cuda_step_labels(const struct cuda_ctx *cu)
{
    return (const int64_t *)(const void *)(cu->input.current + labels_at());
}

const uint8_t *cuda_step_flip(const struct cuda_ctx *cu)
{
    return cu->input.current + flip_at(cu->input.N);
}

const uint8_t *cuda_step_pixels(const struct cuda_ctx *cu)
{
    return cu->input.current + pixels_at(cu->input.N);
}

static void release(struct cuda_ctx *cu)
{
    for (int i = 0; i < 2; i++) {
        cudaFreeHost(cu->input.host[i]);
        cudaFree(cu->input.device[i]);
        cu->input.host[i] = cu->input.device[i] = NULL;
        cu->input.used[i] = false;
    }
    cudaFree(cu->input.current);
    cu->input.current = NULL;
}

void cuda_step_forget(struct cuda_ctx *cu)
{
    if (cu->graph)
        cudaGraphExecDestroy(cu->graph);
    cu->graph = NULL;
    cu->runs = 0;
}

bool cuda_step_reserve(struct cuda_ctx *cu, int N, int64_t image_bytes)
{
    size_t bytes = pixels_at(N) + (size_t)N * (size_t)image_bytes;
    if (cu->input.current && N == cu->input.N && image_bytes == cu->input.image_bytes)
        return true;
    if (cu->input.current && N == 0) /* values alone: any block holds them */
        return true;
    cudaStreamSynchronize(cu->stream);
    cuda_step_forget(cu);
    release(cu);
    for (int i = 0; i < 2; i++)
        if (!FF_TRY_CUDA(cu, cudaHostAlloc((void **)&cu->input.host[i], bytes,
                                           cudaHostAllocDefault)) ||
            !FF_TRY_CUDA(cu, cudaMalloc((void **)&cu->input.device[i], bytes)))
            return false;
    if (!FF_TRY_CUDA(cu, cudaMalloc((void **)&cu->input.current, bytes)))
        return false;
    cu->input.bytes = bytes;
    cu->input.N = N;
    cu->input.image_bytes = image_bytes;
    return true;
}

bool cuda_step_stage(struct cuda_ctx *cu, const struct ff_step *step)
{
    int N = cu->input.N, slot = cu->input.turn ^= 1;
    uint8_t *block = cu->input.host[slot];
    struct cuda_step_head head = {cu->lr, cu->step};
    size_t bytes = step->pixels ? cu->input.bytes : sizeof head;
    /* The place's last upload, two turns ago, has long ended. */
    if (cu->input.used[slot] &&
        !FF_TRY_CUDA(cu, cudaEventSynchronize(cu->input.uploaded[slot])))
        return false;
    memcpy(block, &head, sizeof head);
    if (step->label)
        memcpy(block + labels_at(), step->label, (size_t)N * sizeof *step->label);
    if (step->pixels) {
        if (step->flip)
            memcpy(block + flip_at(N), step->flip, (size_t)N);
        else
            memset(block + flip_at(N), 0, (size_t)N);
        memcpy(block + pixels_at(N), step->pixels,
               (size_t)N * (size_t)cu->input.image_bytes);
    }
    if (cu->input.used[slot] &&
        !FF_TRY_CUDA(cu,
                     cudaStreamWaitEvent(cu->copy_stream, cu->input.taken[slot], 0)))
        return false;
    cu->input.used[slot] = true;
    return FF_TRY_CUDA(cu, cudaMemcpyAsync(cu->input.device[slot], block, bytes,
                                           cudaMemcpyHostToDevice, cu->copy_stream)) &&
           FF_TRY_CUDA(cu,
                       cudaEventRecord(cu->input.uploaded[slot], cu->copy_stream)) &&
           FF_TRY_CUDA(cu,
                       cudaStreamWaitEvent(cu->stream, cu->input.uploaded[slot], 0)) &&
           FF_TRY_CUDA(cu,
                       cudaMemcpyAsync(cu->input.current, cu->input.device[slot], bytes,
                                       cudaMemcpyDeviceToDevice, cu->stream)) &&
           FF_TRY_CUDA(cu, cudaEventRecord(cu->input.taken[slot], cu->stream));
}

int cuda_step_open(struct cuda_ctx *cu, struct ff_err *err)
{
    for (int i = 0; i < 2; i++)
        if (!FF_TRY_CUDA(cu, cudaEventCreateWithFlags(&cu->input.uploaded[i],
                                                      cudaEventDisableTiming)) ||
            !FF_TRY_CUDA(cu, cudaEventCreateWithFlags(&cu->input.taken[i],
                                                      cudaEventDisableTiming)))
            break;
    /* The host sleeps until the loss is there: decoders want its core. */
    FF_TRY_CUDA(cu,
                cudaEventCreateWithFlags(&cu->loss_known, cudaEventDisableTiming |
                                                              cudaEventBlockingSync));
    if (FF_TRY_CUDA(cu, cudaHostAlloc((void **)&cu->report, sizeof *cu->report,
                                      cudaHostAllocMapped))) {
        memset((void *)cu->report, 0, sizeof *cu->report);
        FF_TRY_CUDA(cu, cudaHostGetDevicePointer((void **)&cu->device_report,
                                                 (void *)cu->report, 0));
    }
    const struct ff_step nothing = {0}; /* ops called one by one find step 0 */
    if (!cu->error.code && cuda_step_reserve(cu, 0, 0))
        cuda_step_stage(cu, &nothing);
    if (cu->error.code && err)
        *err = cu->error;
    return cu->error.code;
}

void cuda_step_close(struct cuda_ctx *cu)
{
    cuda_step_forget(cu);
    release(cu);
    for (int i = 0; i < 2; i++) {
        if (cu->input.uploaded[i])
            cudaEventDestroy(cu->input.uploaded[i]);
        if (cu->input.taken[i])
            cudaEventDestroy(cu->input.taken[i]);
    }
    if (cu->loss_known)
        cudaEventDestroy(cu->loss_known);
    cudaFreeHost((void *)cu->report);
}

/* -- running -- */

/* Queues the step's ops and what they left noted. */
static void queue_all(struct cuda_ctx *cu, void (*queue)(void *arg), void *arg)
{
    queue(arg);
    cuda_cast_flush(cu, true);
    cuda_bn_flush(cu, NULL);
}

static bool capture(struct cuda_ctx *cu, void (*queue)(void *arg), void *arg)
{
    cudaGraph_t graph = NULL;
    /* Kernels are captured with the priorities of their streams. */
    unsigned long long flags =
        cu->side.stream ? cudaGraphInstantiateFlagUseNodePriority : 0;
    /* Relaxed: other threads of the process may call the runtime meanwhile. */
    if (!FF_TRY_CUDA(cu,
                     cudaStreamBeginCapture(cu->stream, cudaStreamCaptureModeRelaxed)))
        return false;
    cu->capturing = true;
    queue_all(cu, queue, arg);
    cuda_side_join(cu);
    cu->capturing = false;
    bool ended = FF_TRY_CUDA(cu, cudaStreamEndCapture(cu->stream, &graph));
    if (ended)
        FF_TRY_CUDA(cu, cudaGraphInstantiate(&cu->graph, graph, flags));
    if (graph)
        cudaGraphDestroy(graph);
    return cu->graph != NULL;
}

void cuda_step(struct ff_ops_ctx *ctx, const struct ff_step *step,
               void (*queue)(void *arg), void *arg)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    cu->step++;
    cu->lr = step->lr;
    if (cu->error.code || !cuda_step_reserve(cu, step->N, step->image_bytes) ||
        !cuda_step_stage(cu, step) || !queue)
        return;
    cuda_bn_flush(cu, NULL); /* not of this step: a replay would do it again */
    cuda_side_join(cu);
    if (cu->runs == 0) {
        queue_all(cu, queue, arg);
        cu->runs = 1;
        return;
    }
    if (cu->graph || capture(cu, queue, arg))
        FF_TRY_CUDA(cu, cudaGraphLaunch(cu->graph, cu->stream));
    cu->runs = 2;
}

void cuda_step_loss_queued(struct cuda_ctx *cu)
{
    FF_TRY_CUDA(cu, cudaEventRecordWithFlags(cu->loss_known, cu->stream,
                                             cu->capturing ? cudaEventRecordExternal
                                                           : cudaEventRecordDefault));
}

float cuda_step_loss(struct ff_ops_ctx *ctx)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    int slot = (int)(cu->step % CUDA_RING);
    if (cu->error.code || !FF_TRY_CUDA(cu, cudaEventSynchronize(cu->loss_known)))
        return NAN;
    /* The kernel's stores to host memory are visible with the event; a graph's event
     * that was not yet waiting would show here, and then the stream is waited for. */
    if (cu->report->loss[slot].step != cu->step) {
        cu->late_losses++;
        if (!FF_TRY_CUDA(cu, cudaStreamSynchronize(cu->stream)))
            return NAN;
    }
    cu->loss_step = cu->step;
    return cu->report->loss[slot].step == cu->step ? cu->report->loss[slot].loss : NAN;
}

int64_t cuda_step_late_losses(struct ff_ops_ctx *ctx)
{
    return cuda_of(ctx)->late_losses;
}

void cuda_step_result(struct ff_ops_ctx *ctx, struct ff_step_result *result)
{
    struct cuda_ctx *cu = cuda_of(ctx);
    /* The oldest one not asked for, of those that the ring still holds. */
    int64_t wanted = cu->told + 1 > cu->step - 1 ? cu->told + 1 : cu->step - 1;
    wanted = wanted > cu->step ? cu->step : wanted < 1 ? 1 : wanted;
    int slot = (int)(wanted % CUDA_RING);
    *result = (struct ff_step_result){.grad_norm = NAN, .loss_scale = NAN};
    cu->told = wanted;
    if (cu->loss_step <= wanted && !FF_TRY_CUDA(cu, cudaStreamSynchronize(cu->stream)))
        return;
    if (cu->report->result[slot].step != wanted)
        return;
    result->grad_norm = cu->report->result[slot].norm;
    result->loss_scale = cu->report->result[slot].loss_scale;
    result->finite = cu->report->result[slot].finite != 0;
}
