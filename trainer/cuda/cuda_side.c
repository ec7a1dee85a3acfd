/* SPDX-License-Identifier: MIT */
/* The side stream: weights' gradients of convolutions, which nothing waits for until
 * the end of the backward pass, beside the chain of data gradients and BN passes on the
 * main stream. It has the lower priority, a workspace and a cuDNN handle of its own.
 *
 * A pass begins behind what the main stream has queued by then (fork) and ends with an
 * event. The main stream waits for it where it would write what the pass reads, or read
 * what it writes (join). The side stream runs in order, so one wait also counts for all
 * earlier passes. No event is recorded again while its last record is still to be
 * waited for: `forked` is waited for at once, and a place in the ring is used again
 * only after the main stream has been told to wait for the pass that had it.
 *
 * In a capture fork and join become edges of the graph. It may wait for no event from
 * outside, and must end joined: cuda_step.c joins before it and at its end. */
#include <assert.h>

#include "cuda_priv.h"

int cuda_side_open(struct cuda_ctx *cu, struct ff_err *err)
{
    struct cuda_side *s = &cu->side;
    int least = 0, greatest = 0;
    FF_TRY_CUDA(cu, cudaDeviceGetStreamPriorityRange(&least, &greatest));
    FF_TRY_CUDA(
        cu, cudaStreamCreateWithPriority(&cu->stream, cudaStreamNonBlocking, greatest));
    FF_TRY_CUDA(cu,
                cudaStreamCreateWithPriority(&s->stream, cudaStreamNonBlocking, least));
    FF_TRY_CUDA(cu, cudaEventCreateWithFlags(&s->forked, cudaEventDisableTiming));
    for (int i = 0; i < CUDA_SIDE_PASSES; i++)
        FF_TRY_CUDA(
            cu, cudaEventCreateWithFlags(&s->passes[i].done, cudaEventDisableTiming));
    if (cu->error.code)
        *err = cu->error;
    return cu->error.code;
}

void cuda_side_close(struct cuda_ctx *cu)
{
    struct cuda_side *s = &cu->side;
    cudaFree(s->workspace.data);
    for (int i = 0; i < CUDA_SIDE_PASSES; i++)
        if (s->passes[i].done)
            cudaEventDestroy(s->passes[i].done);
    if (s->forked)
        cudaEventDestroy(s->forked);
    if (s->stream)
        cudaStreamDestroy(s->stream);
    *s = (struct cuda_side){0};
}

/* The main stream waits for this pass, and so for all before it. */
static void wait_for(struct cuda_ctx *cu, int64_t pass)
{
    struct cuda_side *s = &cu->side;
    assert(pass >= s->first && pass < s->next);
    FF_TRY_CUDA(cu, cudaStreamWaitEvent(cu->stream,
                                        s->passes[pass % CUDA_SIDE_PASSES].done, 0));
    s->first = pass + 1;
}

void cuda_side_begin(struct cuda_ctx *cu)
{
    struct cuda_side *s = &cu->side;
    if (!s->stream)
        return;
    if (s->next - s->first == CUDA_SIDE_PASSES)
        wait_for(cu, s->first);
    if (FF_TRY_CUDA(cu, cudaEventRecord(s->forked, cu->stream)))
        FF_TRY_CUDA(cu, cudaStreamWaitEvent(s->stream, s->forked, 0));
}

void cuda_side_end(struct cuda_ctx *cu, const struct ff_tensor *src,
                   const struct ff_tensor *ddst)
{
    struct cuda_side *s = &cu->side;
    struct cuda_side_pass *pass = &s->passes[s->next % CUDA_SIDE_PASSES];
    if (!s->stream || !FF_TRY_CUDA(cu, cudaEventRecord(pass->done, s->stream)))
        return;
    pass->src = *src;
    pass->ddst = *ddst;
    s->next++;
}

static bool overlap(const struct ff_tensor *a, const struct ff_tensor *b)
{
    const uint8_t *from_a = a->data, *from_b = b->data;
    return from_a < from_b + b->count * b->element_bytes &&
           from_b < from_a + a->count * a->element_bytes;
}

void cuda_side_spare(struct cuda_ctx *cu, const struct ff_tensor *dst)
{
    struct cuda_side *s = &cu->side;
    for (int64_t i = s->next - 1; i >= s->first; i--) {
        const struct cuda_side_pass *pass = &s->passes[i % CUDA_SIDE_PASSES];
        if (overlap(dst, &pass->src) || overlap(dst, &pass->ddst))
            wait_for(cu, i); /* and the loop ends: no earlier one is under way */
    }
}

void cuda_side_join(struct cuda_ctx *cu)
{
    if (cu->side.next > cu->side.first)
        wait_for(cu, cu->side.next - 1);
}
