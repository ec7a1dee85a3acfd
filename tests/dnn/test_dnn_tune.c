/* SPDX-License-Identifier: MIT */
/* Tuning against a device that is played: the program's own cuda* functions and
 * cudnnBackendExecute stand in front of the libraries', and time is a number that each
 * call moves on by what its plan is said to take. */
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include "dnn_fixture.h"

enum { PLANS_MAX = 512 };

static struct {
    double now_ms;
    bool capturing, failed_in_capture;
    double captured_ms;
    int plans;                        /* seen, in order */
    cudnnBackendDescriptor_t current; /* the last one */
    int calls, allocations, frees;
    size_t largest_bytes;
    cudaStream_t stream;  /* cuDNN's */
    cudaError_t sticky;   /* the device is lost */
    int result;           /* what the last call wrote: each byte that is read back */
    double ms[PLANS_MAX]; /* of the n-th plan, 0 = 1 ms */
    enum { RUNS_WELL, NOT_AT_ALL, NOT_CAPTURED, LOSES_DEVICE } fate[PLANS_MAX];
} device;

struct CUevent_st {
    double ms;
};
static char stream_own, stream_before;
static cudnnHandle_t handle = (cudnnHandle_t)(void *)&device;

/* So that a plan whose address comes back counts as another. */
cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t d)
{
    static cudnnStatus_t (*real)(cudnnBackendDescriptor_t);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "cudnnBackendDestroyDescriptor");
    if (d == device.current)
        device.current = NULL;
    return real(d);
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t h, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t pack)
{
    (void)h;
    (void)pack;
    if (plan != device.current)
        device.plans++;
    device.current = plan;
    device.calls++;
    device.result = 0x3c;
    int n = device.plans - 1;
    cr_assert(lt(int, n, PLANS_MAX));
    double ms = device.ms[n] > 0 ? device.ms[n] : 1;
    if (device.fate[n] == NOT_AT_ALL)
        return CUDNN_STATUS_EXECUTION_FAILED;
    if (device.fate[n] == LOSES_DEVICE)
        device.sticky = cudaErrorIllegalAddress;
    if (device.capturing && device.fate[n] == NOT_CAPTURED)
        device.failed_in_capture = true;
    *(device.capturing ? &device.captured_ms : &device.now_ms) += ms;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t h, cudaStream_t *stream)
{
    (void)h;
    *stream = device.stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t h, cudaStream_t stream)
{
    (void)h;
    device.stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudaError_t cudaMalloc(void **p, size_t bytes)
{
    *p = malloc(64);
    device.allocations++;
    if (bytes > device.largest_bytes)
        device.largest_bytes = bytes;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    free(p);
    device.frees++;
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes,
                            enum cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)src;
    (void)stream;
    if (kind == cudaMemcpyDeviceToHost)
        memset(dst, device.result, bytes);
    return device.sticky;
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream)
{
    (void)at;
    (void)bytes;
    (void)stream;
    device.result = value;
    return device.sticky;
}

cudaError_t cudaGetLastError(void)
{
    return device.sticky;
}

const char *cudaGetErrorString(cudaError_t status)
{
    return status == cudaErrorIllegalAddress ? "illegal address" : "other";
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    *stream = (cudaStream_t)(void *)&stream_own;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    cr_assert(eq(int, device.capturing, 0));
    return device.sticky;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    *event = calloc(1, sizeof **event);
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    free(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)stream;
    event->ms = device.now_ms;
    return device.sticky;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return device.sticky;
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t begin, cudaEvent_t end)
{
    *ms = (float)(end->ms - begin->ms);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)stream;
    (void)mode;
    device.capturing = true;
    device.failed_in_capture = false;
    device.captured_ms = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    (void)stream;
    device.capturing = false;
    *graph = device.failed_in_capture ? NULL : (cudaGraph_t)malloc(1);
    return device.failed_in_capture ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph,
                                 unsigned long long flags)
{
    (void)graph;
    (void)flags;
    double *ms = malloc(sizeof *ms);
    *ms = device.captured_ms;
    *exec = (cudaGraphExec_t)(void *)ms;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    free(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    (void)stream;
    device.now_ms += *(double *)(void *)exec;
    return device.sticky;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    free(exec);
    return cudaSuccess;
}

/* -- the tests -- */

static struct dnn_target target;
static struct dnn_problem problem;
static char choices[PLANS_MAX][DNN_CHOICE_TEXT]; /* that make a plan, in order */
static int64_t workspaces[PLANS_MAX];
static int made, listed;

static void setup(void)
{
    struct dnn_candidates list;
    target = target_named("h200_sm90");
    problem = square_problem(64, 64, 56, CUDA_F16, DNN_BWD_WEIGHTS);
    device.stream = (cudaStream_t)(void *)&stream_before;
    cr_assert(eq(int, dnn_list(&list, &target, &problem, false, NULL), 0));
    listed = list.count;
    for (int i = 0; i < list.count; i++) {
        struct dnn_plan *plan;
        if (dnn_plan_create(&plan, &target, &problem, list.items[i].choice, NULL))
            continue;
        strcpy(choices[made], dnn_plan_choice(plan));
        workspaces[made++] = dnn_plan_workspace_bytes(plan);
        dnn_plan_destroy(plan);
    }
    dnn_candidates_free(&list);
    cr_assert(lt(int, 8, made));
}

static void teardown(void)
{
    dnn_target_close(&target);
    cr_assert(eq(int, device.allocations, device.frees));
    cr_assert(eq(ptr, device.stream, (void *)&stream_before));
}

TestSuite(dnn_tune, .init = setup, .fini = teardown, .timeout = 60);

#define PLENTY 0

static int tune(struct dnn_tuned *tuned, int64_t limit_bytes, struct ff_err *err)
{
    const struct dnn_tuning tuning = {.workspace_limit_bytes = limit_bytes};
    *err = (struct ff_err)FF_ERR_INIT;
    return dnn_tune(tuned, &target, handle, &problem, &tuning, err);
}

Test(dnn_tune, the_fastest_wins)
{
    struct dnn_tuned tuned;
    struct ff_err err;
    device.ms[5] = 0.4;
    device.ms[7] = 0.5;
    cr_assert(eq(int, tune(&tuned, PLENTY, &err), 0), "%s", err.text);
    cr_assert(eq(str, tuned.choice, choices[5]));
    cr_assert(epsilon_eq(dbl, tuned.ms, 0.4, 1e-6));
    cr_assert(eq(int, tuned.timed, made));
    cr_assert(eq(int, tuned.skipped, listed - made));
    cr_assert(eq(i64, tuned.workspace_bytes, workspaces[5]));
    cr_assert(eq(sz, device.largest_bytes, 64 * 56 * 56 * 64 * 2)); /* x */
}

Test(dnn_tune, what_does_not_run_is_skipped)
{
    struct dnn_tuned tuned;
    struct ff_err err;
    device.ms[0] = device.ms[3] = 0.1;
    device.fate[0] = NOT_AT_ALL;
    device.fate[3] = NOT_CAPTURED;
    device.ms[6] = 0.7;
    cr_assert(eq(int, tune(&tuned, PLENTY, &err), 0), "%s", err.text);
    cr_assert(eq(str, tuned.choice, choices[6]));
    cr_assert(eq(int, tuned.skipped, listed - made + 2));
}

Test(dnn_tune, nothing_that_runs_is_an_error)
{
    struct dnn_tuned tuned;
    struct ff_err err;
    for (int i = 0; i < PLANS_MAX; i++)
        device.fate[i] = NOT_AT_ALL;
    cr_assert(eq(int, tune(&tuned, PLENTY, &err), FF_EUSAGE), "%s", err.text);
    cr_assert(strstr(err.text, "candidates ran; the last: ") != NULL, "%s", err.text);
}

Test(dnn_tune, a_lost_device_ends_it)
{
    struct dnn_tuned tuned;
    struct ff_err err;
    device.fate[2] = LOSES_DEVICE;
    cr_assert(eq(int, tune(&tuned, PLENTY, &err), FF_EFAIL), "%s", err.text);
    cr_assert(strstr(err.text, choices[2]) && strstr(err.text, "illegal address"), "%s",
              err.text);
    cr_assert(eq(int, device.plans, 3));
}

Test(dnn_tune, the_workspace_stays_in_its_limit)
{
    struct dnn_tuned tuned;
    struct ff_err err;
    int small = 0;
    for (int i = 0; i < made; i++)
        small += workspaces[i] == 0;
    cr_assert(small > 0 && small < made, "%d of %d", small, made);
    cr_assert(eq(int, tune(&tuned, 1, &err), 0), "%s", err.text);
    cr_assert(eq(int, tuned.timed, small));
    cr_assert(eq(i64, tuned.workspace_bytes, 0));
}

Test(dnn_tune, the_far_behind_are_not_run_on)
{
    struct dnn_tuned tuned;
    struct ff_err err;
    cr_assert(eq(int, tune(&tuned, PLENTY, &err), 0), "%s", err.text);
    int calls = device.calls;
    device.plans = device.calls = 0;
    for (int i = 1; i < made; i++)
        device.ms[i] = 50;
    cr_assert(eq(int, tune(&tuned, PLENTY, &err), 0), "%s", err.text);
    cr_assert(eq(str, tuned.choice, choices[0]));
    cr_assert(eq(int, tuned.timed, made));
    cr_assert(lt(int, device.calls, calls));
}

static void follow(void *arg, cudaStream_t stream, void *y)
{
    cr_assert(eq(ptr, stream, (void *)&stream_own));
    cr_assert(ne(ptr, y, NULL));
    *(device.capturing ? &device.captured_ms : &device.now_ms) += *(double *)arg;
}

Test(dnn_tune, what_follows_a_call_is_timed_with_it)
{
    struct dnn_tuned tuned;
    struct ff_err err = FF_ERR_INIT;
    double ms = 0.3;
    const struct dnn_tuning tuning = {.follow = follow, .arg = &ms};
    device.ms[5] = 0.4;
    cr_assert(eq(int, dnn_tune(&tuned, &target, handle, &problem, &tuning, &err), 0),
              "%s", err.text);
    cr_assert(eq(str, tuned.choice, choices[5]));
    cr_assert(epsilon_eq(dbl, tuned.ms, 0.7, 1e-6));
}

/* A pass of our own that takes so long and writes that. */
struct other {
    double ms;
    int result;
};

static int run_other(void *arg, cudaStream_t stream, void *workspace, void *x, void *w,
                     void *y, struct ff_err *err)
{
    const struct other *o = arg;
    cr_assert(eq(ptr, stream, (void *)&stream_own));
    cr_assert(x && w && y && workspace);
    if (o->result < 0)
        return ff_err_set(err, FF_EFAIL, "does not run");
    device.result = o->result;
    *(device.capturing ? &device.captured_ms : &device.now_ms) += o->ms;
    return 0;
}

static void tune_with(struct dnn_tuned *tuned, struct other *slow, struct other *fast)
{
    struct ff_err err = FF_ERR_INIT;
    const struct dnn_other others[] = {{"slow", 16, run_other, slow},
                                       {"fast", 48, run_other, fast}};
    const struct dnn_tuning tuning = {.others = others, .other_count = 2};
    cr_assert(eq(int, dnn_tune(tuned, &target, handle, &problem, &tuning, &err), 0),
              "%s", err.text);
}

Test(dnn_tune, a_pass_that_is_not_of_cudnn_is_taken_if_it_is_right_and_faster)
{
    struct dnn_tuned tuned;
    struct other slow = {2, 0x3c}, fast = {0.2, 0x3c};
    device.ms[5] = 0.4;
    tune_with(&tuned, &slow, &fast);
    cr_assert(eq(str, tuned.choice, "fast"));
    cr_assert(epsilon_eq(dbl, tuned.ms, 0.2, 1e-6));
    cr_assert(eq(i64, tuned.workspace_bytes, 48));
    cr_assert(eq(int, tuned.timed, made + 2));
    fast.result = 0x3d; /* another value */
    device.plans = 0;
    tune_with(&tuned, &slow, &fast);
    cr_assert(eq(str, tuned.choice, choices[5]));
    fast.result = 0xff; /* NaN: nothing written */
    device.plans = 0;
    tune_with(&tuned, &slow, &fast);
    cr_assert(eq(str, tuned.choice, choices[5]));
    fast.result = -1;
    device.plans = 0;
    tune_with(&tuned, &slow, &fast);
    cr_assert(eq(str, tuned.choice, choices[5]));
    cr_assert(eq(int, tuned.timed, made + 1));
}

/* Choices that make a plan, in the order in which a search takes them: those of the
 * heuristics and every engine, then the neighbours of `from`. */
static int searched(char out[PLANS_MAX][DNN_CHOICE_TEXT], const char *const *from,
                    int n)
{
    struct dnn_candidates list;
    int count = 0, at = 0;
    cr_assert(eq(int, dnn_list(&list, &target, &problem, true, NULL), 0));
    for (int i = 0; i <= n; i++) {
        for (; at < list.count; at++) {
            struct dnn_plan *plan;
            if (list.items[at].runtime_compiled ||
                dnn_plan_create(&plan, &target, &problem, list.items[at].choice, NULL))
                continue;
            cr_assert(lt(int, count, PLANS_MAX));
            strcpy(out[count++], dnn_plan_choice(plan));
            dnn_plan_destroy(plan);
        }
        if (i < n)
            cr_assert(
                eq(int, dnn_neighbours(&list, &target, &problem, from[i], NULL), 0));
    }
    dnn_candidates_free(&list);
    return count;
}

/* The fastest on offer, a faster one beside it, the fastest beside that. */
Test(dnn_tune, a_search_goes_on_while_neighbours_are_faster)
{
    static char order[PLANS_MAX][DNN_CHOICE_TEXT];
    const char *from[2] = {order[0]};
    struct dnn_tuned tuned, plain;
    struct ff_err err = FF_ERR_INIT;
    const struct dnn_tuning tuning = {.search = true};
    int offered = searched(order, from, 0);
    int first = searched(order, from, 1);
    from[1] = order[offered + 2];
    int second = searched(order, from, 2);
    cr_assert(second > first && first > offered + 3 && offered >= made);
    device.ms[0] = 0.9;
    device.ms[offered + 2] = 0.8;
    device.ms[second - 1] = 0.7;
    device.ms[second] = 0.75; /* beside the fastest, and slower */
    cr_assert(eq(int, dnn_tune(&tuned, &target, handle, &problem, &tuning, &err), 0),
              "%s", err.text);
    cr_assert(eq(str, tuned.choice, order[second - 1]));
    cr_assert(epsilon_eq(dbl, tuned.ms, 0.7, 1e-6));
    cr_assert(ge(int, tuned.timed, second));
    device.plans = 0;
    cr_assert(eq(int, tune(&plain, PLENTY, &err), 0), "%s", err.text);
    cr_assert(eq(str, plain.choice, order[0]));
}

Test(dnn_tune, no_engine_needs_no_memory)
{
    struct dnn_tuned tuned;
    struct ff_err err;
    problem.type = CUDA_F32;
    problem.kind = DNN_FWD_STATS;
    cr_assert(eq(int, tune(&tuned, PLENTY, &err), FF_EUSAGE), "%s", err.text);
    cr_assert(eq(int, device.allocations, 0));
}
