/* SPDX-License-Identifier: MIT */
/* See emulator.h: fibres for threads, deferred streams, and the runtime calls that
 * trainer/cuda/ makes. One host thread. */
#include "emulator.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <deque>
#include <map>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#define FIBRES_AND_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FIBRES_AND_ASAN 1
#endif
#endif
#ifdef FIBRES_AND_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

uint3 emulator_thread, emulator_block;
dim3 emulator_block_dim, emulator_grid_dim;

enum { STACK_BYTES = 128 << 10, MOST_THREADS = 1024, MULTIPROCESSORS = 4 };

[[noreturn]] static void stop(const char *what)
{
    fprintf(stderr, "emulator: %s\n", what);
    abort();
}

/* -- fibres -- */

enum fibre_state { READY, AT_BARRIER, AT_WARP, DONE };

/* A fibre starts by setcontext, once, and then changes hands by the compiler's own
 * setjmp, which asks nothing of the kernel. It runs one thread of a block after the
 * other. */
struct fibre {
    ucontext_t context;
    void *jump[5];
    bool started;
    fibre_state state;
    uint3 index;
    std::unique_ptr<char[]> stack;
    void *fake_stack;
};

static fibre fibres[MOST_THREADS];
static unsigned int fibre_count, current;
static void *scheduler[5];
static const std::function<void()> *body;
#ifdef FIBRES_AND_ASAN
static void *scheduler_fake;
static const void *scheduler_stack;
static size_t scheduler_bytes;
#endif

[[gnu::noinline, noreturn]] static void jump(void **to)
{
    __builtin_longjmp(to, 1);
}

/* From a fibre back to the scheduler. */
[[gnu::noinline]] static void leave(fibre_state state)
{
    fibres[current].state = state;
#ifdef FIBRES_AND_ASAN
    __sanitizer_start_switch_fiber(&fibres[current].fake_stack, scheduler_stack,
                                   scheduler_bytes);
#endif
    if (__builtin_setjmp(fibres[current].jump) == 0)
        jump(scheduler);
#ifdef FIBRES_AND_ASAN
    __sanitizer_finish_switch_fiber(fibres[current].fake_stack, &scheduler_stack,
                                    &scheduler_bytes);
#endif
}

static void fibre_main()
{
#ifdef FIBRES_AND_ASAN
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_bytes);
#endif
    for (;;) {
        (*body)();
        leave(DONE);
    }
}

[[gnu::noinline]] static void resume(unsigned int i)
{
    current = i;
    emulator_thread = fibres[i].index;
#ifdef FIBRES_AND_ASAN
    __sanitizer_start_switch_fiber(&scheduler_fake, fibres[i].stack.get(), STACK_BYTES);
#endif
    if (__builtin_setjmp(scheduler) == 0) {
        if (fibres[current].started)
            jump(fibres[current].jump);
        fibres[current].started = true;
        setcontext(&fibres[current].context);
    }
#ifdef FIBRES_AND_ASAN
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#endif
}

void emulator_barrier()
{
    leave(AT_BARRIER);
}

void emulator_warp_barrier()
{
    leave(AT_WARP);
}

unsigned int emulator_lane()
{
    return current;
}

static void start_block(dim3 block)
{
    fibre_count = block.x * block.y * block.z;
    if (fibre_count == 0 || fibre_count > MOST_THREADS)
        stop("a block of no threads or too many");
    for (unsigned int i = 0; i < fibre_count; i++) {
        fibre &f = fibres[i];
        f.state = READY;
        f.index.x = i % block.x;
        f.index.y = i / block.x % block.y;
        f.index.z = i / block.x / block.y;
        if (f.stack)
            continue;
        f.stack.reset(new char[STACK_BYTES]);
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get();
        f.context.uc_stack.ss_size = STACK_BYTES;
        f.context.uc_link = nullptr;
        makecontext(&f.context, fibre_main, 0);
    }
}

/* Frees the warps whose threads all wait; true if there was one. */
static bool release_warps()
{
    bool any = false;
    for (unsigned int w = 0; w < fibre_count; w += 32) {
        unsigned int end = w + 32 < fibre_count ? w + 32 : fibre_count, waiting = 0;
        for (unsigned int i = w; i < end; i++)
            waiting += fibres[i].state == AT_WARP;
        if (waiting == 0)
            continue;
        if (waiting != end - w)
            stop("a shuffle that not all threads of a warp reach");
        for (unsigned int i = w; i < end; i++)
            fibres[i].state = READY;
        any = true;
    }
    return any;
}

static void run_block(dim3 block)
{
    static unsigned int turn; /* varies the order */
    start_block(block);
    for (;;) {
        unsigned int done = 0, waiting = 0;
        turn++;
        for (unsigned int k = 0; k < fibre_count; k++) {
            unsigned int i = turn % 2 ? k : fibre_count - 1 - k;
            i = (i + turn / 2 * 37) % fibre_count;
            if (fibres[i].state == READY)
                resume(i);
        }
        for (unsigned int i = 0; i < fibre_count; i++) {
            done += fibres[i].state == DONE;
            waiting += fibres[i].state == AT_BARRIER;
        }
        if (done == fibre_count)
            return;
        if (release_warps())
            continue;
        if (waiting != fibre_count)
            stop("a barrier that not all threads of a block reach");
        for (unsigned int i = 0; i < fibre_count; i++)
            fibres[i].state = READY;
    }
}

static void run_grid(dim3 grid, dim3 block, const std::function<void()> &thread)
{
    static unsigned int turn;
    uint64_t count = (uint64_t)grid.x * grid.y * grid.z;
    body = &thread;
    emulator_grid_dim = grid;
    emulator_block_dim = block;
    turn++;
    for (uint64_t k = 0; k < count; k++) {
        uint64_t b = (turn % 2 ? k : count - 1 - k);
        emulator_block.x = (unsigned int)(b % grid.x);
        emulator_block.y = (unsigned int)(b / grid.x % grid.y);
        emulator_block.z = (unsigned int)(b / grid.x / grid.y);
        run_block(block);
    }
}

/* -- streams, events, graphs -- */

struct CUevent_st {
    uint64_t recorded, done;
    CUstream_st *stream;
};

struct item {
    std::function<void()> work;
    CUevent_st *record; /* of an event that the graph records for the host */
};

struct CUstream_st {
    std::deque<std::function<void()>> queue;
    bool capturing;
    std::vector<item> captured;
};

struct CUgraph_st {
    std::vector<item> items;
};
struct CUgraphExec_st {
    std::vector<item> items;
};

static cudaError_t sticky;
bool emulator_events_lag;
int64_t emulator_queued;

void emulator_queue(cudaStream_t s, std::function<void()> work)
{
    emulator_queued++;
    if (s->capturing)
        s->captured.push_back({work, nullptr});
    else
        s->queue.push_back(work);
}

void emulator_launch(cudaStream_t s, dim3 grid, dim3 block,
                     std::function<void()> thread)
{
    if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || grid.z > 65535 ||
        block.x * block.y * block.z > MOST_THREADS) {
        sticky = cudaErrorInvalidConfiguration;
        return;
    }
    emulator_queue(s, [=] { run_grid(grid, block, thread); });
}

static void run_one(cudaStream_t s)
{
    std::function<void()> work = s->queue.front();
    s->queue.pop_front();
    work();
}

static void drain(cudaStream_t s)
{
    while (!s->queue.empty())
        run_one(s);
}

static void run_until(CUevent_st *e, uint64_t wanted)
{
    while (e->done < wanted && e->stream && !e->stream->queue.empty())
        run_one(e->stream);
    if (e->done < wanted)
        stop("waits for an event that no stream will record");
}

extern "C" {

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? cudaSuccess : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    memset((void *)p, 0, sizeof *p);
    strcpy(p->name, "emulated");
    p->major = 9;
    pid_t pid = getpid(); /* a card for each process: tests run side by side */
    memcpy((void *)p->uuid.bytes, &pid, sizeof pid);
    p->multiProcessorCount = MULTIPROCESSORS;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t last = sticky;
    sticky = cudaSuccess;
    return last;
}

const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorInvalidConfiguration ? "invalid configuration argument"
                                                  : "an emulated error";
}

/* -- memory -- */

static std::map<const char *, size_t> pinned;

/* From this size on, memory is mapped and its zeros cost no pages: for indices that do
 * not fit 32 bits. */
static const size_t huge = (size_t)1 << 30;
static std::map<void *, size_t> mapped;

/* New memory is full of NaN: what reads it before it is written shows. */
static cudaError_t take(void **out, size_t bytes)
{
    if (bytes >= huge) {
        *out = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (*out == MAP_FAILED)
            return cudaErrorMemoryAllocation;
        mapped[*out] = bytes;
        return cudaSuccess;
    }
    *out = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*out)
        return cudaErrorMemoryAllocation;
    memset(*out, 0xff, bytes);
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    return take(out, bytes);
}

cudaError_t cudaFree(void *at)
{
    auto found = mapped.find(at);
    if (found != mapped.end()) {
        munmap(at, found->second);
        mapped.erase(found);
        return cudaSuccess;
    }
    free(at);
    return cudaSuccess;
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned int)
{
    cudaError_t status = take(out, bytes);
    if (status == cudaSuccess)
        pinned[(const char *)*out] = bytes;
    return status;
}

cudaError_t cudaFreeHost(void *at)
{
    pinned.erase((const char *)at);
    free(at);
    return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **out, void *at, unsigned int)
{
    *out = at;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *there, size_t *total)
{
    *there = (size_t)8 << 30;
    *total = (size_t)8 << 30;
    return cudaSuccess;
}

static bool is_pinned(const void *at)
{
    auto next = pinned.upper_bound((const char *)at);
    if (next == pinned.begin())
        return false;
    --next;
    return (const char *)at < next->first + next->second;
}

/* Pinned memory is read when the copy runs; other host memory now, and written only
 * once the copy has run, for which the call waits. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes,
                            cudaMemcpyKind kind, cudaStream_t s)
{
    if (kind == cudaMemcpyHostToDevice && !is_pinned(from)) {
        auto copy = std::make_shared<std::vector<char>>((const char *)from,
                                                        (const char *)from + bytes);
        emulator_queue(s, [=] { memcpy(to, copy->data(), bytes); });
        return cudaSuccess;
    }
    if (s->capturing && kind != cudaMemcpyDeviceToDevice && !is_pinned(from) &&
        !is_pinned(to))
        return cudaErrorStreamCaptureUnsupported;
    emulator_queue(s, [=] { memcpy(to, from, bytes); });
    if (kind == cudaMemcpyDeviceToHost && !is_pinned(to))
        drain(s);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t s)
{
    if (value == 0 && mapped.count(at))
        emulator_queue(s, [=] { madvise(at, bytes, MADV_DONTNEED); });
    else
        emulator_queue(s, [=] { memset(at, value, bytes); });
    return cudaSuccess;
}

/* -- streams and events -- */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned int)
{
    *out = new CUstream_st();
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    drain(s);
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (s->capturing)
        return cudaErrorStreamCaptureUnsupported;
    drain(s);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned int)
{
    *out = new CUevent_st();
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned int flags)
{
    if (s->capturing) {
        if (flags != cudaEventRecordExternal)
            stop("an event recorded in a capture, but not for the host");
        s->captured.push_back({nullptr, e});
        return cudaSuccess;
    }
    uint64_t number = ++e->recorded;
    e->stream = s;
    s->queue.push_back([=] { e->done = number; });
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    return cudaEventRecordWithFlags(e, s, cudaEventRecordDefault);
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned int)
{
    uint64_t wanted = e->recorded;
    if (s->capturing)
        stop("waits for an event inside a capture");
    s->queue.push_back([=] { run_until(e, wanted); });
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    run_until(e, e->recorded);
    return cudaSuccess;
}

/* -- graphs -- */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    if (s->capturing)
        return cudaErrorIllegalState;
    s->capturing = true;
    s->captured.clear();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    s->capturing = false;
    *graph = new CUgraph_st{s->captured};
    s->captured.clear();
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                 unsigned long long)
{
    *out = new CUgraphExec_st{graph->items};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    for (const item &i : exec->items) {
        if (!i.record) {
            s->queue.push_back(i.work);
            continue;
        }
        CUevent_st *e = i.record;
        if (emulator_events_lag) {
            s->queue.push_back([=] { e->done = ++e->recorded; });
            continue;
        }
        uint64_t number = ++e->recorded;
        e->stream = s;
        s->queue.push_back([=] { e->done = number; });
    }
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}
}
