/* SPDX-License-Identifier: MIT */
/* The fastest candidate of a convolution, by the clock; see cuda_dnn.h.
 *
 * A candidate runs twice outside the clock (kernels are loaded, the device speeds up),
 * then a few calls are captured in a CUDA graph, which is what the training step does
 * with them: a candidate that cannot be captured is of no use, and the time is the
 * device's alone, without that of queueing. Five launches of the graph are timed by
 * events; their median counts. A candidate that is already far behind after the
 * warm-up is not timed further.
 *
 * The values are random, every bit of the mantissas: the power that a GPU draws, and
 * with it its clock, depends on the data, and zeros would flatter.
 *
 * What is not cuDNN's is compared with the fastest engine's result before it is timed.
 */
#include <cuda_runtime_api.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_dnn.h"
#include "log.h"
#include "rng.h"

enum { WARM_UP = 2, RUNS = 5, CALLS_MIN = 2, CALLS_MAX = 20, COMPILED_MOST = 3 };
#define RUN_MS 1.0    /* a run has calls enough to last this long */
#define FAR_BEHIND 2. /* times the best: not timed further */
#define LAUNCH_MS 0.1 /* what queueing may add to the estimate */

enum { X, W, Y, SUM, SUM_SQ, WORKSPACE, BUFFERS };

/* What all candidates of a problem share. */
struct rig {
    cudnnHandle_t handle;
    const struct dnn_tuning *tuning;
    cudaStream_t stream;
    cudaEvent_t begin, end;
    void *data[BUFFERS];
    size_t bytes[3]; /* of X, W, Y */
    size_t workspace_bytes;
    const char *what; /* of `status` */
    cudaError_t status;
    bool short_of_memory; /* at some time */
};

enum verdict { TIMED, BEHIND, SKIPPED };

static bool cuda_ok(struct rig *r, cudaError_t status, const char *what)
{
    if (!status)
        return true;
    r->status = status;
    r->what = what;
    r->short_of_memory |= status == cudaErrorMemoryAllocation;
    cudaGetLastError(); /* is kept here; a later call must not find it */
    return false;
}
#define TRY(r, call) cuda_ok(r, call, #call)

/* Uniform in sign and mantissa, |x| in [1/8, 1/2). */
static void random_block(void *block, size_t bytes, enum cuda_type type, int seed)
{
    struct ff_rng rng = {.seed = (uint64_t)seed, .stream = ff_stream("tune")};
    uint16_t *h = block;
    uint32_t *f = block;
    for (size_t i = 0; i < bytes / 4; i++) {
        uint64_t u = ff_rng_next_u64(&rng);
        if (type == CUDA_F32)
            f[i] = (uint32_t)(u & 0x80ffffff) | 0x3e000000;
        else if (type == CUDA_F16)
            for (int k = 0; k < 2; k++, u >>= 32)
                h[2 * i + (size_t)k] = (uint16_t)((u & 0x87ff) | 0x3000);
        else
            for (int k = 0; k < 2; k++, u >>= 32)
                h[2 * i + (size_t)k] = (uint16_t)((u & 0x80ff) | 0x3e00);
    }
}

/* A buffer of random values, a block of them again and again. */
static bool fill(struct rig *r, int which, enum cuda_type type, void *block,
                 size_t block_bytes)
{
    char *to = NULL;
    size_t bytes = r->bytes[which];
    random_block(block, block_bytes, type, which);
    if (!TRY(r, cudaMalloc(&r->data[which], bytes)))
        return false;
    to = r->data[which];
    size_t done = bytes < block_bytes ? bytes : block_bytes;
    if (!TRY(r, cudaMemcpyAsync(to, block, done, cudaMemcpyHostToDevice, r->stream)))
        return false;
    while (done < bytes) {
        size_t more = bytes - done < done ? bytes - done : done;
        if (!TRY(r, cudaMemcpyAsync(to + done, to, more, cudaMemcpyDeviceToDevice,
                                    r->stream)))
            return false;
        done += more;
    }
    return TRY(r, cudaStreamSynchronize(r->stream));
}

static bool rig_open(struct rig *r, cudnnHandle_t handle,
                     const struct dnn_problem *problem, const struct dnn_tuning *tuning)
{
    const struct ff_conv_shape *s = &problem->shape;
    enum { BLOCK_BYTES = 1 << 20 };
    *r = (struct rig){.handle = handle, .tuning = tuning};
    dnn_tensor_bytes(r->bytes, problem);
    void *block = malloc(BLOCK_BYTES);
    if (!block) {
        r->status = cudaErrorMemoryAllocation;
        r->what = "malloc";
        return false;
    }
    bool good = TRY(r, cudaStreamCreateWithFlags(&r->stream, cudaStreamNonBlocking)) &&
                TRY(r, cudaEventCreate(&r->begin)) &&
                TRY(r, cudaEventCreate(&r->end)) &&
                fill(r, X, problem->type, block, BLOCK_BYTES) &&
                fill(r, W, problem->type, block, BLOCK_BYTES) &&
                fill(r, Y, problem->type, block, BLOCK_BYTES) &&
                TRY(r, cudaMalloc(&r->data[SUM], (size_t)s->K * sizeof(float))) &&
                TRY(r, cudaMalloc(&r->data[SUM_SQ], (size_t)s->K * sizeof(float)));
    free(block);
    return good;
}

static void rig_close(struct rig *r)
{
    if (r->stream)
        cudaStreamSynchronize(r->stream);
    for (int i = 0; i < BUFFERS; i++)
        if (r->data[i])
            cudaFree(r->data[i]);
    if (r->end)
        cudaEventDestroy(r->end);
    if (r->begin)
        cudaEventDestroy(r->begin);
    if (r->stream)
        cudaStreamDestroy(r->stream);
    cudaGetLastError();
}

static bool grow_workspace(struct rig *r, size_t bytes)
{
    if (bytes <= r->workspace_bytes)
        return true;
    if (r->data[WORKSPACE])
        cudaFree(r->data[WORKSPACE]);
    r->data[WORKSPACE] = NULL;
    r->workspace_bytes = 0;
    if (!TRY(r, cudaMalloc(&r->data[WORKSPACE], bytes)))
        return false;
    r->workspace_bytes = bytes;
    return true;
}

/* One of the two. */
struct candidate {
    struct dnn_plan *plan;
    const struct dnn_other *other;
};

static int64_t workspace_of(const struct candidate *c)
{
    return c->plan ? dnn_plan_workspace_bytes(c->plan) : c->other->workspace_bytes;
}

static bool queue(struct rig *r, const struct candidate *c, int calls,
                  struct ff_err *err)
{
    void *workspace = workspace_of(c) ? r->data[WORKSPACE] : NULL;
    for (int i = 0; i < calls; i++) {
        if (c->plan ? dnn_plan_execute(c->plan, r->handle, workspace, r->data[X],
                                       r->data[W], r->data[Y], r->data[SUM],
                                       r->data[SUM_SQ], err)
                    : c->other->run(c->other->arg, r->stream, workspace, r->data[X],
                                    r->data[W], r->data[Y], err))
            return false;
        if (r->tuning->follow)
            r->tuning->follow(r->tuning->arg, r->stream, r->data[Y]);
    }
    return true;
}

static bool elapsed(struct rig *r, double *ms)
{
    float time = 0;
    bool good = TRY(r, cudaEventRecord(r->end, r->stream)) &&
                TRY(r, cudaEventSynchronize(r->end)) &&
                TRY(r, cudaEventElapsedTime(&time, r->begin, r->end));
    *ms = time;
    return good;
}

static bool capture(struct rig *r, cudaGraphExec_t *exec, const struct candidate *c,
                    int calls, struct ff_err *err)
{
    cudaGraph_t graph = NULL;
    *exec = NULL;
    if (!TRY(r, cudaStreamBeginCapture(r->stream, cudaStreamCaptureModeThreadLocal)))
        return false;
    bool good = queue(r, c, calls, err);
    /* Ends the capture in any case. */
    good = TRY(r, cudaStreamEndCapture(r->stream, &graph)) && good && graph &&
           TRY(r, cudaGraphInstantiate(exec, graph, 0));
    if (graph)
        cudaGraphDestroy(graph);
    return good;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Median of the runs, of one call. */
static bool time_graph(struct rig *r, const struct candidate *c, int calls, double *ms,
                       struct ff_err *err)
{
    cudaGraphExec_t exec;
    double run_ms[RUNS];
    bool good = capture(r, &exec, c, calls, err) &&
                TRY(r, cudaGraphLaunch(exec, r->stream)) &&
                TRY(r, cudaStreamSynchronize(r->stream));
    for (int i = 0; i < RUNS && good; i++)
        good = TRY(r, cudaEventRecord(r->begin, r->stream)) &&
               TRY(r, cudaGraphLaunch(exec, r->stream)) && elapsed(r, &run_ms[i]);
    if (exec)
        cudaGraphExecDestroy(exec);
    if (!good)
        return false;
    qsort(run_ms, RUNS, sizeof *run_ms, by_value);
    *ms = run_ms[RUNS / 2] / calls;
    return true;
}

/* best_ms: of the candidates before it, 0 = none. */
static enum verdict try_candidate(struct rig *r, const struct candidate *c,
                                  double best_ms, double *ms, struct ff_err *err)
{
    double once_ms = 0;
    if (!grow_workspace(r, (size_t)workspace_of(c)) || !queue(r, c, WARM_UP, err) ||
        !TRY(r, cudaStreamSynchronize(r->stream)) ||
        !TRY(r, cudaEventRecord(r->begin, r->stream)) || !queue(r, c, CALLS_MIN, err) ||
        !elapsed(r, &once_ms))
        return SKIPPED;
    once_ms /= CALLS_MIN;
    if (best_ms > 0 && once_ms > FAR_BEHIND * best_ms + LAUNCH_MS)
        return BEHIND;
    int calls = once_ms > 0 && RUN_MS / once_ms < CALLS_MAX ? (int)(RUN_MS / once_ms)
                                                            : CALLS_MAX;
    return time_graph(r, c, calls < CALLS_MIN ? CALLS_MIN : calls, ms, err) ? TIMED
                                                                            : SKIPPED;
}

/* Of the list those from `from` on; of those that are compiled at run time, seconds
 * each, the first alone. */
static int tune_all(struct dnn_tuned *tuned, struct rig *r,
                    const struct dnn_target *target, const struct dnn_problem *problem,
                    const struct dnn_candidates *list, int from, bool runtime_compiled,
                    struct ff_err *last)
{
    const struct dnn_tuning *tuning = r->tuning;
    int64_t limit_bytes =
        tuning->workspace_limit_bytes ? tuning->workspace_limit_bytes : INT64_MAX;
    int made = 0, most = runtime_compiled ? COMPILED_MOST : INT_MAX;
    for (int i = from; i < list->count && made < most; i++) {
        struct dnn_plan *plan;
        double ms = 0;
        if (list->items[i].runtime_compiled != runtime_compiled)
            continue;
        int rc = dnn_plan_create(&plan, target, problem, list->items[i].choice, last);
        if (rc == FF_ENOMEM)
            return rc;
        made += !rc;
        enum verdict verdict = SKIPPED;
        r->status = cudaSuccess;
        if (!rc && dnn_plan_workspace_bytes(plan) <= limit_bytes)
            verdict = try_candidate(r, &(struct candidate){.plan = plan}, tuned->ms,
                                    &ms, last);
        if (verdict == SKIPPED)
            tuned->skipped++;
        else
            tuned->timed++;
        if (verdict == TIMED && (tuned->ms <= 0 || ms < tuned->ms)) {
            tuned->ms = ms;
            memcpy(tuned->choice, dnn_plan_choice(plan), sizeof tuned->choice);
            tuned->workspace_bytes = dnn_plan_workspace_bytes(plan);
        }
        /* Nothing may run on the plan's descriptors when it goes; and a fault of the
         * device stays and would skip every candidate from here on. */
        cudaError_t lost = cudaStreamSynchronize(r->stream);
        dnn_plan_destroy(plan);
        if (lost)
            return ff_err_set(last, FF_EFAIL, "\"%s\" lost the device: %s",
                              list->items[i].choice, cudaGetErrorString(lost));
        if (r->status)
            ff_err_set(last, FF_EFAIL, "\"%s\": %s: %s", list->items[i].choice, r->what,
                       cudaGetErrorString(r->status));
    }
    return 0;
}

/* Downhill from the fastest, which its neighbours are timed against. */
static int search(struct dnn_tuned *tuned, struct rig *r,
                  const struct dnn_target *target, const struct dnn_problem *problem,
                  struct dnn_candidates *list, struct ff_err *last)
{
    char from[DNN_CHOICE_TEXT] = "";
    int rc = 0;
    while (!rc && strcmp(from, tuned->choice) != 0) {
        int timed = list->count;
        memcpy(from, tuned->choice, sizeof from);
        rc = dnn_neighbours(list, target, problem, from, last);
        if (!rc)
            rc = tune_all(tuned, r, target, problem, list, timed, false, last);
    }
    return rc;
}

/* -- passes that are not cuDNN's -- */

/* NaN for what is not finite. fp16's exponent is f32's, less 112. */
static float half_value(uint16_t h, enum cuda_type type)
{
    const uint16_t exponent = type == CUDA_F16 ? 0x7c00 : 0x7f80;
    uint32_t bits = (uint32_t)h << 16;
    float f;
    if ((h & exponent) == exponent)
        return NAN;
    if (type == CUDA_F16)
        bits = (bits & 0x80000000) | (uint32_t)(h & 0x7fff) << 13;
    memcpy(&f, &bits, sizeof f);
    return type == CUDA_F16 ? f * 0x1p112f : f;
}

/* By how much of b, in one rounding of the type, a differs from it: as a whole, and at
 * its worst element, which may be off by the rounding of its size or of the usual size.
 * NaN where one has a NaN. */
struct distance {
    double whole, worst;
};
static struct distance distance(const uint16_t *a, const uint16_t *b, size_t count,
                                enum cuda_type type)
{
    const double rounding = type == CUDA_F16 ? 0x1p-11 : 0x1p-8;
    double off = 0, all = 0, worst = 0;
    for (size_t i = 0; i < count; i++) {
        double x = (double)half_value(a[i], type), y = (double)half_value(b[i], type);
        off += (x - y) * (x - y);
        all += y * y;
    }
    double usual = sqrt(all / (double)count);
    for (size_t i = 0; i < count; i++) {
        double x = (double)half_value(a[i], type), y = (double)half_value(b[i], type);
        double here = fabs(x - y) / (fabs(y) + usual);
        worst = here > worst ? here : worst;
    }
    return (struct distance){sqrt(off / all) / rounding, worst / rounding};
}

/* What one call makes of `result`, full of NaN before, as the workspace is. */
static bool result_of(struct rig *r, const struct candidate *c, int result, void *out,
                      struct ff_err *err)
{
    size_t workspace_bytes = (size_t)workspace_of(c);
    return grow_workspace(r, workspace_bytes) &&
           (!workspace_bytes || TRY(r, cudaMemsetAsync(r->data[WORKSPACE], 0xff,
                                                       workspace_bytes, r->stream))) &&
           TRY(r,
               cudaMemsetAsync(r->data[result], 0xff, r->bytes[result], r->stream)) &&
           queue(r, c, 1, err) &&
           TRY(r, cudaMemcpyAsync(out, r->data[result], r->bytes[result],
                                  cudaMemcpyDeviceToHost, r->stream)) &&
           TRY(r, cudaStreamSynchronize(r->stream));
}

/* Compares with what the engine gives, times, and compares again: the same bits after
 * hundreds of calls. What is wrong with one that is skipped is said. */
static enum verdict try_other(struct rig *r, const struct candidate *c,
                              const struct dnn_problem *problem,
                              const struct dnn_tuned *tuned, int result,
                              const uint16_t *expected, uint16_t *got[2], double *ms,
                              struct ff_err *last)
{
    const size_t bytes = r->bytes[result];
    char text[DNN_PROBLEM_TEXT];
    enum verdict verdict = SKIPPED;
    *last = (struct ff_err)FF_ERR_INIT;
    r->status = cudaSuccess;
    dnn_problem_text(text, problem);
    if (result_of(r, c, result, got[0], last)) {
        struct distance off = distance(got[0], expected, bytes / 2, problem->type);
        if (!(off.whole < 2 && off.worst < 4)) {
            ff_warn(
                "%s: %s differs from \"%s\" by %.2g roundings, %.2g at worst, and is "
                "left out",
                text, c->other->name, tuned->choice, off.whole, off.worst);
            return SKIPPED;
        }
        verdict = try_candidate(r, c, tuned->ms, ms, last);
    }
    if (verdict == SKIPPED) {
        ff_warn("%s: %s does not run: %s", text, c->other->name,
                r->status ? cudaGetErrorString(r->status) : last->text);
    } else if (verdict == TIMED && (!result_of(r, c, result, got[1], last) ||
                                    memcmp(got[0], got[1], bytes) != 0)) {
        ff_warn("%s: %s does not give the same bits twice, and is left out", text,
                c->other->name);
        verdict = SKIPPED;
    }
    return verdict;
}

/* The fastest so far is an engine. */
static int tune_others(struct dnn_tuned *tuned, struct rig *r,
                       const struct dnn_target *target,
                       const struct dnn_problem *problem, struct ff_err *last)
{
    static const int result_by_kind[] = {
        [DNN_FWD] = Y, [DNN_FWD_STATS] = Y, [DNN_BWD_DATA] = X, [DNN_BWD_WEIGHTS] = W};
    const struct dnn_tuning *tuning = r->tuning;
    const int result = result_by_kind[problem->kind];
    const size_t bytes = r->bytes[result];
    const struct dnn_tuned engine = *tuned;
    struct dnn_plan *plan = NULL;
    char text[DNN_PROBLEM_TEXT];
    uint16_t *expected = malloc(bytes), *got[2] = {malloc(bytes), malloc(bytes)};
    int rc = 0;
    /* The engine is there in any case. */
    bool can = expected && got[0] && got[1] &&
               !dnn_plan_create(&plan, target, problem, engine.choice, last) &&
               result_of(r, &(struct candidate){.plan = plan}, result, expected, last);
    if (!can)
        ff_warn("%s: nothing to compare our own passes with: %s",
                dnn_problem_text(text, problem),
                *last->text ? last->text : "no memory");
    for (int i = 0; i < tuning->other_count && can && !rc; i++) {
        const struct candidate c = {.other = &tuning->others[i]};
        double ms = 0;
        if (tuning->workspace_limit_bytes &&
            c.other->workspace_bytes > tuning->workspace_limit_bytes)
            continue;
        enum verdict verdict =
            try_other(r, &c, problem, &engine, result, expected, got, &ms, last);
        tuned->skipped += verdict == SKIPPED;
        tuned->timed += verdict != SKIPPED;
        if (verdict == TIMED && ms < tuned->ms) {
            tuned->ms = ms;
            snprintf(tuned->choice, sizeof tuned->choice, "%s", c.other->name);
            tuned->workspace_bytes = c.other->workspace_bytes;
        }
        cudaError_t lost = cudaStreamSynchronize(r->stream);
        if (lost)
            rc = ff_err_set(last, FF_EFAIL, "\"%s\" lost the device: %s", c.other->name,
                            cudaGetErrorString(lost));
    }
    dnn_plan_destroy(plan);
    free(expected);
    free(got[0]);
    free(got[1]);
    return rc;
}

int dnn_tune(struct dnn_tuned *tuned, const struct dnn_target *target,
             cudnnHandle_t handle, const struct dnn_problem *problem,
             const struct dnn_tuning *tuning, struct ff_err *err)
{
    char text[DNN_PROBLEM_TEXT];
    struct dnn_candidates list;
    struct rig rig = {.status = cudaSuccess};
    struct ff_err last = FF_ERR_INIT;
    cudaStream_t before = NULL;
    *tuned = (struct dnn_tuned){.ms = 0};
    dnn_problem_text(text, problem);
    int rc = dnn_list(&list, target, problem, tuning->search, err);
    if (rc)
        return rc;
    if (!list.count) {
        rc = ff_err_set(err, FF_EUSAGE, "%s: cuDNN %zu has no engine (%d refused)",
                        text, cudnnGetVersion(), list.refused);
        goto done;
    }
    if (!rig_open(&rig, handle, problem, tuning)) {
        rc = ff_err_set(err,
                        rig.status == cudaErrorMemoryAllocation ? FF_ENOMEM : FF_EFAIL,
                        "%s: %s: %s", text, rig.what, cudaGetErrorString(rig.status));
        goto done;
    }
    if (cudnnGetStream(handle, &before) || cudnnSetStream(handle, rig.stream)) {
        rc = ff_err_set(err, FF_EFAIL, "%s: cuDNN does not take a stream", text);
        goto done;
    }
    rc = tune_all(tuned, &rig, target, problem, &list, 0, false, &last);
    if (!rc && (tuning->runtime_compiled || !tuned->timed))
        rc = tune_all(tuned, &rig, target, problem, &list, 0, true, &last);
    if (!rc && tuning->search)
        rc = search(tuned, &rig, target, problem, &list, &last);
    if (!rc && tuning->other_count && *tuned->choice)
        rc = tune_others(tuned, &rig, target, problem, &last);
    tuned->short_of_memory = rig.short_of_memory;
    if (cudnnSetStream(handle, before) && !rc)
        rc = ff_err_set(&last, FF_EFAIL, "cuDNN does not take its stream back");
    if (rc)
        ff_err_set(err, rc, "%s: %s", text, last.text);
    else if (!*tuned->choice)
        rc = ff_err_set(err, FF_EUSAGE, "%s: none of %d candidates ran%s%s", text,
                        list.count, *last.text ? "; the last: " : "", last.text);
done:
    rig_close(&rig);
    dnn_candidates_free(&list);
    return rc;
}
