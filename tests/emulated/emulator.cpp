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

#include <algorithm>
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

enum { STACK_BYTES = 128 << 10, MOST_THREADS = 1024 };
extern "C" {
int emulated_multiprocessors = 4;
}

[[noreturn]] static void stop(const char *what)
{
    fprintf(stderr, "emulator: %s\n", what);
    abort();
}

/* -- fibres -- */

enum fibre_state { READY, AT_BARRIER, AT_WARP, DONE };

/* A fibre starts by setcontext, once, and then changes hands by the compiler's own
 * setjmp, which asks nothing of the kernel. It runs one thread of a block after the
 * other. Blocks of a pair run at once, each with a half of the fibres. */
struct fibre {
    ucontext_t context;
    void *jump[5];
    bool started;
    fibre_state state;
    uint3 index, block;
    std::unique_ptr<char[]> stack;
    void *fake_stack;
};

static fibre fibres[MOST_THREADS];
static unsigned int fibre_count, block_threads, current;
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
    emulator_block = fibres[i].block;
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

void emulator_yield()
{
    leave(READY);
}

unsigned int emulator_lane()
{
    return current;
}

unsigned int emulator_rank()
{
    return current / block_threads;
}

/* The blocks first and following of the grid, at once. */
static void start_blocks(uint64_t first, unsigned int count, dim3 grid, dim3 block)
{
    block_threads = block.x * block.y * block.z;
    fibre_count = count * block_threads;
    if (fibre_count == 0 || fibre_count > MOST_THREADS)
        stop("a block of no threads or too many");
    for (unsigned int i = 0; i < fibre_count; i++) {
        fibre &f = fibres[i];
        uint64_t b = first + i / block_threads;
        unsigned int t = i % block_threads;
        f.state = READY;
        f.index.x = t % block.x;
        f.index.y = t / block.x % block.y;
        f.index.z = t / block.x / block.y;
        f.block.x = (unsigned int)(b % grid.x);
        f.block.y = (unsigned int)(b / grid.x % grid.y);
        f.block.z = (unsigned int)(b / grid.x / grid.y);
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

/* Frees the warps whose threads all wait for a shuffle; true if there was one. */
static bool release_warps()
{
    bool any = false;
    for (unsigned int w = 0; w < fibre_count; w += 32) {
        unsigned int end = w + 32 < fibre_count ? w + 32 : fibre_count, waiting = 0;
        for (unsigned int i = w; i < end; i++)
            waiting += fibres[i].state == AT_WARP;
        if (waiting != end - w)
            continue;
        for (unsigned int i = w; i < end; i++)
            fibres[i].state = READY;
        any = true;
    }
    return any;
}

/* Frees the blocks whose threads all wait. */
static bool release_blocks()
{
    bool any = false;
    for (unsigned int b = 0; b < fibre_count; b += block_threads) {
        unsigned int waiting = 0;
        for (unsigned int i = b; i < b + block_threads; i++)
            waiting += fibres[i].state == AT_BARRIER;
        for (unsigned int i = b; i < b + block_threads && waiting == block_threads; i++)
            fibres[i].state = READY;
        any = any || waiting == block_threads;
    }
    return any;
}

/* What start_blocks made ready. */
static void run_blocks()
{
    static unsigned int turn; /* varies the order */
    for (;;) {
        unsigned int done = 0, ready = 0;
        turn++;
        for (unsigned int k = 0; k < fibre_count; k++) {
            unsigned int i = turn % 2 ? k : fibre_count - 1 - k;
            i = (i + turn / 2 * 37) % fibre_count;
            if (fibres[i].state == READY)
                resume(i);
        }
        for (unsigned int i = 0; i < fibre_count; i++) {
            done += fibres[i].state == DONE;
            ready += fibres[i].state == READY;
        }
        if (done == fibre_count)
            return;
        if (!release_warps() && !release_blocks() && ready == 0)
            stop("a barrier or shuffle that not all threads of a block or warp reach");
    }
}

static void run_grid(dim3 grid, dim3 block, unsigned int at_once,
                     const std::function<void()> &thread)
{
    static unsigned int turn;
    uint64_t count = (uint64_t)grid.x * grid.y * grid.z / at_once;
    body = &thread;
    emulator_grid_dim = grid;
    emulator_block_dim = block;
    turn++;
    for (uint64_t k = 0; k < count; k++) {
        start_blocks((turn % 2 ? k : count - 1 - k) * at_once, at_once, grid, block);
        run_blocks();
    }
}

/* -- streams, events, graphs -- */

struct CUevent_st {
    uint64_t recorded, done; /* numbers of records: queued, reached */
    CUstream_st *stream;
    uint64_t capture; /* of the last record, or 0; the node that it stands behind */
    int node;
};

/* Something in a stream's queue: work, or a wait for a record of an event. */
struct item {
    std::function<void()> work;
    CUevent_st *wait;
    uint64_t number;
};

/* A node of a graph: work, an event that it records for the host, or neither. */
struct node {
    std::function<void()> work;
    CUevent_st *record;
    std::vector<int> after; /* earlier nodes */
    bool forked;            /* from a stream that joined the capture */
    bool low;               /* from one of lower priority than the captured one */
};

struct capture {
    uint64_t number;
    CUstream_st *origin;
    std::vector<node> nodes;
};

struct CUstream_st {
    std::deque<item> queue;
    std::shared_ptr<capture> captured; /* the capture that it takes part in */
    int last;                          /* its last node there, -1 none yet */
    int priority;                      /* a lower number goes first */
};

struct CUgraph_st {
    std::vector<node> nodes;
};
struct CUgraphExec_st {
    std::vector<node> nodes;
};

static cudaError_t sticky;
static std::vector<CUstream_st *> streams;
bool emulator_events_lag;
int64_t emulator_queued;
int emulator_forked_nodes, emulator_low_nodes;

static unsigned int draw(unsigned int below)
{
    static uint32_t state = 1;
    state = state * 1664525u + 1013904223u;
    return (state >> 16) % below;
}

/* What may run beside what is waited for: nothing before it must, all as soon as it
 * can, or now this, now that. */
enum order { LATE, EARLY, MIXED, ORDERS };

static void add_node(CUstream_st *s, std::function<void()> work, CUevent_st *record,
                     int also_after)
{
    std::vector<node> &nodes = s->captured->nodes;
    const CUstream_st *origin = s->captured->origin;
    node n = {work, record, {}, s != origin, s->priority > origin->priority};
    for (int i : {s->last, also_after})
        if (i >= 0)
            n.after.push_back(i);
    s->last = (int)nodes.size();
    nodes.push_back(n);
}

void emulator_queue(cudaStream_t s, std::function<void()> work)
{
    emulator_queued++;
    if (s->captured)
        add_node(s, work, nullptr, -1);
    else
        s->queue.push_back({work, nullptr, 0});
}

void emulator_launch(cudaStream_t s, dim3 grid, dim3 block,
                     std::function<void()> thread)
{
    if (grid.x == 0 || grid.y == 0 || grid.y > 65535 || grid.z > 65535 ||
        block.x * block.y * block.z > MOST_THREADS) {
        sticky = cudaErrorInvalidConfiguration;
        return;
    }
    emulator_queue(s, [=] { run_grid(grid, block, 1, thread); });
}

void emulator_launch_pairs(cudaStream_t s, dim3 grid, dim3 block,
                           std::function<void()> thread)
{
    if (grid.x % 2 || 2 * block.x > MOST_THREADS) {
        sticky = cudaErrorInvalidConfiguration;
        return;
    }
    emulator_queue(s, [=] { run_grid(grid, block, 2, thread); });
}

/* Runs the first thing in the queue; false where there is none or it has to wait. */
static bool run_one(cudaStream_t s)
{
    if (s->queue.empty() || (s->queue.front().wait &&
                             s->queue.front().wait->done < s->queue.front().number))
        return false;
    item first = s->queue.front();
    s->queue.pop_front();
    if (first.work)
        first.work();
    return true;
}

static void run_until(CUevent_st *e, uint64_t wanted);

/* Runs the first thing in the queue, and before it what it waits for. */
static void advance(cudaStream_t s)
{
    const item &first = s->queue.front();
    if (first.wait)
        run_until(first.wait, first.number);
    run_one(s);
}

static void run_until(CUevent_st *e, uint64_t wanted)
{
    while (e->done < wanted && e->stream && !e->stream->queue.empty())
        advance(e->stream);
    if (e->done < wanted)
        stop("waits for an event that no stream will record");
}

/* Other streams, as the order has it, before s goes on. */
static void run_beside(cudaStream_t s, order o)
{
    if (o == LATE)
        return;
    for (CUstream_st *other : streams)
        if (other != s)
            while ((o == EARLY || draw(2)) && run_one(other))
                ;
}

/* The host waits: for an event, or (NULL) for all of s. */
static void host_waits(cudaStream_t s, const CUevent_st *e, uint64_t wanted)
{
    static const order orders[] = {LATE, LATE, EARLY, MIXED};
    order o = orders[draw(4)];
    while (!s->queue.empty() && (!e || e->done < wanted)) {
        run_beside(s, o);
        advance(s);
    }
}

static void drain(cudaStream_t s)
{
    host_waits(s, nullptr, 0);
}

/* An order of the nodes that their edges allow. */
static std::vector<int> sorted(const std::vector<node> &nodes, order o)
{
    std::vector<int> out;
    std::vector<bool> done(nodes.size());
    while (out.size() < nodes.size()) {
        int first[2] = {-1, -1}; /* that could be next, of origin and forked */
        for (int i = 0; i < (int)nodes.size() && (first[0] < 0 || first[1] < 0); i++) {
            bool ready = !done[(size_t)i] && first[nodes[(size_t)i].forked] < 0;
            for (int k : nodes[(size_t)i].after)
                ready = ready && done[(size_t)k];
            if (ready)
                first[nodes[(size_t)i].forked] = i;
        }
        bool forked = o == MIXED ? draw(2) == 1 : o == EARLY;
        int next = first[forked] >= 0 ? first[forked] : first[!forked];
        done[(size_t)next] = true;
        out.push_back(next);
    }
    return out;
}

extern "C" {

/* What a test makes of driver and card. */
cudaError_t emulated_count_status = cudaSuccess, emulated_set_status = cudaSuccess;
int emulated_driver = CUDART_VERSION;

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = emulated_count_status == cudaSuccess;
    return emulated_count_status;
}

cudaError_t cudaSetDevice(int device)
{
    return device == 0 ? emulated_set_status : cudaErrorInvalidDevice;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int)
{
    memset((void *)p, 0, sizeof *p);
    strcpy(p->name, "emulated");
    p->major = 9;
    /* A card for each process, as tests run side by side, but where one is named. */
    const char *card = getenv("FF_EMULATED_CARD");
    pid_t pid = card ? atoi(card) : getpid();
    memcpy((void *)p->uuid.bytes, &pid, sizeof pid);
    p->multiProcessorCount = emulated_multiprocessors;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = emulated_driver;
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
    switch (error) {
    case cudaErrorInvalidConfiguration: return "invalid configuration argument";
    case cudaErrorStreamCaptureUnjoined: return "a stream was not joined";
    case cudaErrorStreamCaptureIsolation: return "an event from outside the capture";
    case cudaErrorCapturedEvent: return "an event from inside a capture";
    default: return "an emulated error";
    }
}

/* -- memory -- */

static std::map<const char *, size_t> pinned;

/* Of the device: all of it, what other programs have (tests set both), what was given
 * out here. */
size_t emulated_memory_bytes = (size_t)64 << 30;
size_t emulated_others_bytes;
size_t emulated_taken_bytes;
static std::map<void *, size_t> taken;

/* From this size on, memory is mapped and its zeros cost no pages: for indices that do
 * not fit 32 bits. */
static const size_t huge = (size_t)1 << 30;

/* New memory is full of NaN: what reads it before it is written shows. */
static cudaError_t take(void **out, size_t bytes)
{
    if (bytes >= huge) {
        *out = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        return *out == MAP_FAILED ? cudaErrorMemoryAllocation : cudaSuccess;
    }
    *out = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*out)
        return cudaErrorMemoryAllocation;
    memset(*out, 0xff, bytes);
    return cudaSuccess;
}

static size_t memory_free()
{
    return emulated_memory_bytes - emulated_others_bytes - emulated_taken_bytes;
}

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    cudaError_t status =
        bytes > memory_free() ? cudaErrorMemoryAllocation : take(out, bytes);
    if (status == cudaSuccess) {
        taken[*out] = bytes;
        emulated_taken_bytes += bytes;
    }
    return status;
}

cudaError_t cudaFree(void *at)
{
    auto found = taken.find(at);
    if (found == taken.end())
        return at ? cudaErrorInvalidValue : cudaSuccess;
    emulated_taken_bytes -= found->second;
    if (found->second >= huge)
        munmap(at, found->second);
    else
        free(at);
    taken.erase(found);
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
    *there = memory_free();
    *total = emulated_memory_bytes;
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
    if (s->captured && kind != cudaMemcpyDeviceToDevice && !is_pinned(from) &&
        !is_pinned(to))
        return cudaErrorStreamCaptureUnsupported;
    emulator_queue(s, [=] { memcpy(to, from, bytes); });
    if (kind == cudaMemcpyDeviceToHost && !is_pinned(to))
        drain(s);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t s)
{
    auto found = taken.find(at);
    if (value == 0 && found != taken.end() && found->second >= huge)
        emulator_queue(s, [=] { madvise(at, bytes, MADV_DONTNEED); });
    else
        emulator_queue(s, [=] { memset(at, value, bytes); });
    return cudaSuccess;
}

/* -- streams and events -- */

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned int, int priority)
{
    *out = new CUstream_st();
    (*out)->priority = priority;
    streams.push_back(*out);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned int flags)
{
    return cudaStreamCreateWithPriority(out, flags, 0);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    drain(s);
    streams.erase(std::find(streams.begin(), streams.end(), s));
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    if (s->captured)
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

/* In a capture: for the host at every replay, or as an edge to what waits for it. */
cudaError_t cudaEventRecordWithFlags(cudaEvent_t e, cudaStream_t s, unsigned int flags)
{
    if (s->captured && flags == cudaEventRecordExternal) {
        add_node(s, nullptr, e, -1);
        return cudaSuccess;
    }
    e->capture = s->captured ? s->captured->number : 0;
    e->node = s->last;
    if (s->captured)
        return cudaSuccess;
    uint64_t number = ++e->recorded;
    e->stream = s;
    s->queue.push_back({[=] { e->done = number; }, nullptr, 0});
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    return cudaEventRecordWithFlags(e, s, cudaEventRecordDefault);
}

/* A wait in a capture is a node of its own: so a stream that joined and did nothing has
 * to be joined too. */
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned int)
{
    if (!e->capture && s->captured)
        return cudaErrorStreamCaptureIsolation;
    if (!e->capture) {
        if (e->recorded)
            s->queue.push_back({nullptr, e, e->recorded});
        return cudaSuccess;
    }
    if (s->captured && s->captured->number != e->capture)
        return cudaErrorStreamCaptureMerge;
    for (CUstream_st *other : streams)
        if (!s->captured && other->captured && other->captured->number == e->capture) {
            s->captured = other->captured;
            s->last = -1;
        }
    if (!s->captured)
        return cudaErrorCapturedEvent;
    add_node(s, nullptr, nullptr, e->node);
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    if (e->capture)
        return cudaErrorCapturedEvent;
    if (e->done < e->recorded && e->stream)
        host_waits(e->stream, e, e->recorded);
    if (e->done < e->recorded)
        stop("waits for an event that no stream will record");
    return cudaSuccess;
}

/* -- graphs -- */

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode)
{
    static uint64_t number;
    if (s->captured)
        return cudaErrorIllegalState;
    s->captured = std::make_shared<capture>(capture{++number, s, {}});
    s->last = -1;
    return cudaSuccess;
}

/* Every node has to lie before the origin's last one, or to be it. */
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *graph)
{
    std::shared_ptr<capture> c = s->captured;
    *graph = nullptr;
    if (!c || c->origin != s)
        return cudaErrorStreamCaptureUnmatched;
    int last = s->last;
    for (CUstream_st *other : streams)
        if (other->captured == c)
            other->captured = nullptr;
    std::vector<bool> before(c->nodes.size());
    for (int i = last; i >= 0; i--) {
        before[(size_t)i] = before[(size_t)i] || i == last;
        for (int k : c->nodes[(size_t)i].after)
            before[(size_t)k] = before[(size_t)k] || before[(size_t)i];
    }
    for (size_t i = 0; i < before.size(); i++)
        if (!before[i])
            return cudaErrorStreamCaptureUnjoined;
    *graph = new CUgraph_st{c->nodes};
    return cudaSuccess;
}

/* Without the flag all nodes have the priority of the stream that the graph runs in. */
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                 unsigned long long flags)
{
    bool own = flags & cudaGraphInstantiateFlagUseNodePriority;
    emulator_forked_nodes = emulator_low_nodes = 0;
    for (const node &n : graph->nodes) {
        emulator_forked_nodes += n.forked && n.work;
        emulator_low_nodes += own && n.low && n.work;
    }
    *out = new CUgraphExec_st{graph->nodes};
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s)
{
    static int turn;
    for (int i : sorted(exec->nodes, (order)(turn++ % ORDERS))) {
        const node &n = exec->nodes[(size_t)i];
        CUevent_st *e = n.record;
        if (!e) {
            s->queue.push_back({n.work, nullptr, 0});
            continue;
        }
        if (emulator_events_lag) {
            s->queue.push_back({[=] { e->done = ++e->recorded; }, nullptr, 0});
            continue;
        }
        uint64_t number = ++e->recorded;
        e->stream = s;
        s->queue.push_back({[=] { e->done = number; }, nullptr, 0});
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
