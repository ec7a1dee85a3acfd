/* SPDX-License-Identifier: MIT */
/* Candidates and plans of convolutions by cuDNN's backend graph API; see cuda_dnn.h.
 *
 * Tensors, operations, the operation graph, engine, knob choices, engine configuration
 * and plan are all cuDNN descriptors, made in this order. A `struct build` owns what
 * was made and keeps the first failure; after that its calls do nothing, so a sequence
 * is written without a check a line. A plan keeps its build: everything that cuDNN may
 * still refer to lives as long as the plan.
 *
 * What is left out, by the engine's numerical notes. cuDNN 9 has no switch for TF32 in
 * this API (the legacy math types have no counterpart; NVIDIA_TF32_OVERRIDE=0 is the
 * user's): an engine that multiplies f32 on tensor cores, that is in TF32, says
 * TENSOR_CORE, and one that halves its inputs first says DOWN_CONVERT_INPUTS. */
#include "cuda_dnn.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OWNED_MAX = 20 + CUDNN_KNOB_TYPE_COUNTS }; /* descriptors of one plan */
enum { UID_X = 1, UID_W, UID_Y, UID_SUM, UID_SUM_SQ, UID_COUNT = UID_SUM_SQ };

struct build {
    cudnnBackendDescriptor_t owned[OWNED_MAX];
    int count;
    cudnnStatus_t status; /* first failure */
    char text[640];       /* what it was */
};

/* An engine with its knobs. */
struct choice {
    int64_t engine;
    int knob_count;
    struct {
        int64_t type, value;
    } knobs[CUDNN_KNOB_TYPE_COUNTS];
};

struct dnn_plan {
    struct dnn_problem problem;
    struct build build;
    struct choice chosen;
    char choice[DNN_CHOICE_TEXT];
    bool runtime_compiled;
    int64_t workspace_bytes;
    cudnnBackendDescriptor_t plan; /* of build */
    cudnnBackendDescriptor_t pack; /* of the last execute, for `pointers` */
    void *pointers[UID_COUNT], *workspace;
};

char *dnn_problem_text(char out[DNN_PROBLEM_TEXT], const struct dnn_problem *problem)
{
    static const char *const kinds[] = {"forward", "forward with statistics",
                                        "backward data", "backward weights"};
    const struct ff_conv_shape *s = &problem->shape;
    char pad[16] = "", groups[16] = "";
    if (s->pad != s->R / 2)
        snprintf(pad, sizeof pad, " p%d", s->pad);
    if (s->groups > 1)
        snprintf(groups, sizeof groups, " g%d", s->groups);
    snprintf(out, DNN_PROBLEM_TEXT, "conv %d->%d %dx%d s%d%s%s %dx%d N%d %s %s", s->C,
             s->K, s->R, s->S, s->stride, pad, groups, s->H, s->W, s->N,
             problem->type == CUDA_F32 && problem->tf32 ? "tf32"
                                                        : cuda_type_name(problem->type),
             kinds[problem->kind]);
    return out;
}

/* -- descriptors -- */

/* Texts from outside may hold line breaks; ours are one line. */
static void one_line(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
    for (size_t n = strlen(text); n && text[n - 1] == ' ';)
        text[--n] = 0;
}

static bool ok(struct build *b, cudnnStatus_t status, const char *what)
{
    if (b->status || !status)
        return !b->status;
    char message[512];
    message[0] = 0;
    cudnnGetLastErrorString(message, sizeof message);
    one_line(message);
    b->status = status;
    snprintf(b->text, sizeof b->text, "%s: %s%s%s", what, cudnnGetErrorString(status),
             *message ? ": " : "", message);
    return false;
}

static cudnnBackendDescriptor_t make(struct build *b, cudnnBackendDescriptorType_t type,
                                     const char *what)
{
    cudnnBackendDescriptor_t d = NULL;
    assert(b->count < OWNED_MAX);
    if (b->status || !ok(b, cudnnBackendCreateDescriptor(type, &d), what))
        return NULL;
    b->owned[b->count++] = d;
    return d;
}

static void set(struct build *b, cudnnBackendDescriptor_t d,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                int64_t count, const void *values)
{
    char what[64];
    if (b->status)
        return;
    snprintf(what, sizeof what, "cuDNN attribute %d", (int)name);
    ok(b, cudnnBackendSetAttribute(d, name, type, count, values), what);
}

static void set_i64(struct build *b, cudnnBackendDescriptor_t d,
                    cudnnBackendAttributeName_t name, int64_t value)
{
    set(b, d, name, CUDNN_TYPE_INT64, 1, &value);
}

static void set_descriptor(struct build *b, cudnnBackendDescriptor_t d,
                           cudnnBackendAttributeName_t name,
                           cudnnBackendDescriptor_t value)
{
    set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

/* One value of an attribute into *value, of what `type` says. */
static bool get(struct build *b, cudnnBackendDescriptor_t d,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                void *value, const char *what)
{
    int64_t count;
    return !b->status &&
           ok(b, cudnnBackendGetAttribute(d, name, type, 1, &count, value), what);
}

static bool get_i64(struct build *b, cudnnBackendDescriptor_t d,
                    cudnnBackendAttributeName_t name, int64_t *value, const char *what)
{
    return get(b, d, name, CUDNN_TYPE_INT64, value, what);
}

static bool finalize(struct build *b, cudnnBackendDescriptor_t d, const char *what)
{
    return !b->status && ok(b, cudnnBackendFinalize(d), what);
}

/* Destroys all but the first `keep`. */
static void shrink(struct build *b, int keep)
{
    while (b->count > keep)
        cudnnBackendDestroyDescriptor(b->owned[--b->count]);
}

static int fail(struct ff_err *err, const struct build *b,
                const struct dnn_problem *problem)
{
    char text[DNN_PROBLEM_TEXT];
    int code =
        CUDNN_STATUS_CATEGORY(b->status) == CUDNN_STATUS_NOT_SUPPORTED    ? FF_EUSAGE
        : b->status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ? FF_ENOMEM
                                                                          : FF_EFAIL;
    return ff_err_set(err, code, "%s: %s", dnn_problem_text(text, problem), b->text);
}

/* -- targets -- */

/* cuDNN opens the run-time compiler for each graph that might need it and closes it
 * again, 0.1 to 0.2 s every time. Held open once, it costs a hundredth; where it is not
 * to be found, cuDNN does not find it either. */
static void hold_compiler(void)
{
    char name[32];
    snprintf(name, sizeof name, "libnvrtc.so.%d", CUDART_VERSION / 1000);
    dlopen(name, RTLD_LAZY | RTLD_NODELETE);
}

void dnn_target_open(struct dnn_target *target, cudnnHandle_t handle)
{
    *target = (struct dnn_target){.handle = handle};
    hold_compiler();
}

int dnn_target_open_json(struct dnn_target *target, const char *json,
                         struct ff_err *err)
{
    struct build b = {.count = 0};
    *target = (struct dnn_target){.handle = NULL};
    hold_compiler();
    target->properties =
        make(&b, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "device properties");
    set(&b, target->properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
        CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
    if (finalize(&b, target->properties, "device properties"))
        return 0;
    shrink(&b, 0);
    target->properties = NULL;
    return ff_err_set(err, FF_EFAIL, "cuDNN %zu: %s", cudnnGetVersion(), b.text);
}

void dnn_target_close(struct dnn_target *target)
{
    if (target->properties)
        cudnnBackendDestroyDescriptor(target->properties);
    *target = (struct dnn_target){.handle = NULL};
}

/* Graph and plan know a device by its handle; heuristics and engine take the graph's.
 * Without a handle, its properties go to all but the graph. cuDNN's header calls the
 * attributes of the handle deprecated, but a plan that is made of properties is only
 * documented as one to be written out, read with a handle, and executed then. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
static const cudnnBackendAttributeName_t graph_handle =
    CUDNN_ATTR_OPERATIONGRAPH_HANDLE;
static const cudnnBackendAttributeName_t plan_handle = CUDNN_ATTR_EXECUTION_PLAN_HANDLE;
#pragma GCC diagnostic pop

static void set_handle(struct build *b, cudnnBackendDescriptor_t d,
                       cudnnBackendAttributeName_t name,
                       const struct dnn_target *target)
{
    if (target->handle)
        set(b, d, name, CUDNN_TYPE_HANDLE, 1, &target->handle);
}

static void set_properties(struct build *b, cudnnBackendDescriptor_t d,
                           cudnnBackendAttributeName_t name,
                           const struct dnn_target *target)
{
    if (target->properties)
        set_descriptor(b, d, name, target->properties);
}

/* -- the operation graph -- */

static cudnnDataType_t data_type(enum cuda_type type)
{
    return type == CUDA_F32   ? CUDNN_DATA_FLOAT
           : type == CUDA_F16 ? CUDNN_DATA_HALF
                              : CUDNN_DATA_BFLOAT16;
}

/* Dimensions in cuDNN's order, n c h w; in memory n h w c. */
static cudnnBackendDescriptor_t tensor(struct build *b, int64_t uid,
                                       cudnnDataType_t type, int64_t n, int64_t c,
                                       int64_t h, int64_t w)
{
    int64_t dims[4] = {n, c, h, w}, strides[4] = {h * w * c, 1, w * c, c};
    cudnnBackendDescriptor_t t = make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "tensor");
    set(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    set(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    set(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set_i64(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, uid);
    set_i64(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
    finalize(b, t, "tensor");
    return t;
}

static cudnnBackendDescriptor_t convolution(struct build *b,
                                            const struct ff_conv_shape *s)
{
    int64_t pad[2] = {s->pad, s->pad}, stride[2] = {s->stride, s->stride};
    int64_t dilation[2] = {1, 1};
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnBackendDescriptor_t c =
        make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "convolution");
    set(b, c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    set(b, c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set_i64(b, c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    set(b, c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(b, c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    set(b, c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    set(b, c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    finalize(b, c, "convolution");
    return c;
}

/* What the three passes call their descriptor and its attributes. */
static const struct pass {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t x, w, y, convolution, alpha, beta;
} forward = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC,
             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA,
             CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
  backward_data = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
  backward_weights = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA};

static cudnnBackendDescriptor_t statistics(struct build *b, cudnnBackendDescriptor_t y,
                                           int64_t K)
{
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnGenStatsMode_t mode = CUDNN_GENSTATS_SUM_SQSUM;
    cudnnBackendDescriptor_t sum = tensor(b, UID_SUM, CUDNN_DATA_FLOAT, 1, K, 1, 1);
    cudnnBackendDescriptor_t sq = tensor(b, UID_SUM_SQ, CUDNN_DATA_FLOAT, 1, K, 1, 1);
    cudnnBackendDescriptor_t o =
        make(b, CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR, "statistics");
    set(b, o, CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE, 1, &mode);
    set(b, o, CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1,
        &compute);
    set_descriptor(b, o, CUDNN_ATTR_OPERATION_GENSTATS_XDESC, y);
    set_descriptor(b, o, CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, sum);
    set_descriptor(b, o, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, sq);
    finalize(b, o, "statistics");
    return o;
}

static cudnnBackendDescriptor_t operation_graph(struct build *b,
                                                const struct dnn_target *target,
                                                const struct dnn_problem *problem)
{
    const struct ff_conv_shape *s = &problem->shape;
    const struct pass *pass = problem->kind == DNN_BWD_DATA      ? &backward_data
                              : problem->kind == DNN_BWD_WEIGHTS ? &backward_weights
                                                                 : &forward;
    int64_t P = ff_conv_out(s->H, s->R, s->stride, s->pad);
    int64_t Q = ff_conv_out(s->W, s->S, s->stride, s->pad);
    cudnnDataType_t type = data_type(problem->type);
    float alpha = 1, beta = 0;
    cudnnBackendDescriptor_t operations[2], graph;
    cudnnBackendDescriptor_t x = tensor(b, UID_X, type, s->N, s->C, s->H, s->W);
    cudnnBackendDescriptor_t w =
        tensor(b, UID_W, type, s->K, s->C / s->groups, s->R, s->S);
    cudnnBackendDescriptor_t y = tensor(b, UID_Y, type, s->N, s->K, P, Q);
    cudnnBackendDescriptor_t c = convolution(b, s), o = make(b, pass->type, "pass");
    set_descriptor(b, o, pass->x, x);
    set_descriptor(b, o, pass->w, w);
    set_descriptor(b, o, pass->y, y);
    set_descriptor(b, o, pass->convolution, c);
    set(b, o, pass->alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    set(b, o, pass->beta, CUDNN_TYPE_FLOAT, 1, &beta);
    finalize(b, o, "pass");
    operations[0] = o;
    bool stats = problem->kind == DNN_FWD_STATS;
    if (stats)
        operations[1] = statistics(b, y, s->K);
    graph = make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "operation graph");
    set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
        stats ? 2 : 1, operations);
    set_handle(b, graph, graph_handle, target);
    finalize(b, graph, "operation graph");
    return graph;
}

/* -- engines -- */

enum { NOTES_MAX = 32 };

/* Numerical notes as bits. */
static unsigned numerical_notes(cudnnBackendDescriptor_t engine)
{
    cudnnBackendNumericalNote_t notes[NOTES_MAX];
    int64_t count = 0;
    unsigned bits = 0;
    if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE,
                                 CUDNN_TYPE_NUMERICAL_NOTE, NOTES_MAX, &count, notes))
        return ~0u; /* all of them: not admitted */
    for (int64_t i = 0; i < count; i++)
        bits |= 1u << notes[i];
    return bits;
}

static bool is_runtime_compiled(cudnnBackendDescriptor_t engine)
{
    cudnnBackendBehaviorNote_t notes[NOTES_MAX];
    int64_t count = 0;
    if (cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE,
                                 CUDNN_TYPE_BEHAVIOR_NOTE, NOTES_MAX, &count, notes))
        return false;
    for (int64_t i = 0; i < count; i++)
        if (notes[i] == CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION)
            return true;
    return false;
}

static bool admitted(const struct dnn_problem *problem, cudnnBackendDescriptor_t engine)
{
    unsigned banned = 1u << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION |
                      1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS;
    if (problem->deterministic)
        banned |= 1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    if (problem->type == CUDA_F32 && !problem->tf32)
        banned |= 1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE |
                  /* f32 is asked for its digits, which transforms spend */
                  1u << CUDNN_NUMERICAL_NOTE_FFT | 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD |
                  1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_4x4 |
                  1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 |
                  1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13;
    return !(numerical_notes(engine) & banned);
}

/* -- choices and their text -- */

static void choice_text(char out[DNN_CHOICE_TEXT], const struct choice *c)
{
    int n = snprintf(out, DNN_CHOICE_TEXT, "eng%lld", (long long)c->engine);
    for (int i = 0; i < c->knob_count && n < DNN_CHOICE_TEXT; i++)
        n += snprintf(out + n, (size_t)(DNN_CHOICE_TEXT - n), " k%lld=%lld",
                      (long long)c->knobs[i].type, (long long)c->knobs[i].value);
}

enum { KNOB_TYPE_MAX = 999 }; /* a later cuDNN may know more than the header */

/* Nothing but what choice_text writes. */
static bool choice_parse(struct choice *c, const char *text)
{
    char again[DNN_CHOICE_TEXT], *end;
    *c = (struct choice){0};
    if (strncmp(text, "eng", 3) != 0)
        return false;
    c->engine = strtoll(text + 3, &end, 10);
    while (!strncmp(end, " k", 2) && c->knob_count < CUDNN_KNOB_TYPE_COUNTS) {
        int64_t type = strtoll(end + 2, &end, 10);
        if (*end != '=' || type < 0 || type > KNOB_TYPE_MAX ||
            (c->knob_count && type <= c->knobs[c->knob_count - 1].type))
            return false;
        c->knobs[c->knob_count].type = type;
        c->knobs[c->knob_count++].value = strtoll(end + 1, &end, 10);
    }
    choice_text(again, c);
    return c->engine >= 0 && !strcmp(again, text);
}

static void add_knob(struct choice *c, int64_t type, int64_t value)
{
    int i = c->knob_count++;
    for (; i > 0 && c->knobs[i - 1].type > type; i--)
        c->knobs[i] = c->knobs[i - 1];
    c->knobs[i].type = type;
    c->knobs[i].value = value;
}

/* The knobs of an engine configuration, its engine being known. */
static void read_knobs(struct build *b, struct choice *c, cudnnBackendDescriptor_t cfg)
{
    cudnnBackendDescriptor_t knobs[CUDNN_KNOB_TYPE_COUNTS];
    int64_t count = 0;
    int keep = b->count;
    for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; i++)
        knobs[i] = make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, "knob choice");
    if (!b->status)
        ok(b,
           cudnnBackendGetAttribute(cfg, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                    CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                    CUDNN_KNOB_TYPE_COUNTS, &count, knobs),
           "knob choices");
    for (int64_t i = 0; i < count && !b->status; i++) {
        cudnnBackendKnobType_t type;
        int64_t value;
        if (get(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE,
                &type, "knob type") &&
            get_i64(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, &value,
                    "knob value"))
            add_knob(c, type, value);
    }
    shrink(b, keep);
}

static cudnnBackendDescriptor_t make_engine(struct build *b,
                                            cudnnBackendDescriptor_t graph,
                                            const struct dnn_target *target,
                                            int64_t index)
{
    cudnnBackendDescriptor_t e = make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "engine");
    set_descriptor(b, e, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    set_i64(b, e, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, index);
    set_properties(b, e, CUDNN_ATTR_ENGINE_DEVICEPROP, target);
    finalize(b, e, "engine");
    return e;
}

static cudnnBackendDescriptor_t
make_config(struct build *b, cudnnBackendDescriptor_t engine, const struct choice *c)
{
    cudnnBackendDescriptor_t knobs[CUDNN_KNOB_TYPE_COUNTS], cfg;
    for (int i = 0; i < c->knob_count; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)c->knobs[i].type;
        knobs[i] = make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, "knob choice");
        set(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1,
            &type);
        set_i64(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, c->knobs[i].value);
        finalize(b, knobs[i], "knob choice");
    }
    cfg = make(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "engine configuration");
    set_descriptor(b, cfg, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (c->knob_count)
        set(b, cfg, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
            c->knob_count, knobs);
    finalize(b, cfg, "engine configuration");
    return cfg;
}

/* -- candidates -- */

static int append(struct dnn_candidates *list, const char *choice,
                  bool runtime_compiled)
{
    for (int i = 0; i < list->count; i++)
        if (!strcmp(list->items[i].choice, choice))
            return 0;
    if (!(list->count & (list->count - 1))) { /* full at powers of two */
        size_t capacity = list->count ? 2 * (size_t)list->count : 1;
        void *more = realloc(list->items, capacity * sizeof *list->items);
        if (!more)
            return FF_ENOMEM;
        list->items = more;
    }
    struct dnn_candidate *item = &list->items[list->count++];
    snprintf(item->choice, sizeof item->choice, "%s", choice);
    item->runtime_compiled = runtime_compiled;
    return 0;
}

/* An engine with a configuration, if it is admitted. Failures are not kept: the
 * candidate is left out. */
static int consider(struct dnn_candidates *list, struct build *b,
                    const struct dnn_problem *problem, cudnnBackendDescriptor_t engine,
                    cudnnBackendDescriptor_t cfg)
{
    struct choice c = {0};
    char text[DNN_CHOICE_TEXT];
    if (!admitted(problem, engine)) {
        list->refused++;
        return 0;
    }
    if (!get_i64(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, &c.engine, "engine index"))
        return 0;
    read_knobs(b, &c, cfg);
    if (b->status)
        return 0;
    choice_text(text, &c);
    return append(list, text, is_runtime_compiled(engine));
}

static int list_heuristic(struct dnn_candidates *list, struct build *b,
                          cudnnBackendDescriptor_t graph,
                          const struct dnn_target *target,
                          const struct dnn_problem *problem,
                          cudnnBackendHeurMode_t mode)
{
    int keep = b->count, rc = 0;
    int64_t count = 0, got = 0;
    cudnnBackendDescriptor_t *cfgs = NULL;
    cudnnBackendDescriptor_t h =
        make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "heuristics");
    set_descriptor(b, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    set(b, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    set_properties(b, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target);
    if (!finalize(b, h, "heuristics") ||
        !ok(b,
            cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                     CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, NULL),
            "heuristics") ||
        count <= 0)
        goto done;
    cfgs = calloc((size_t)count, sizeof *cfgs);
    if (!cfgs) {
        rc = FF_ENOMEM;
        goto done;
    }
    for (int64_t i = 0; i < count && !b->status; i++)
        ok(b,
           cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &cfgs[i]),
           "engine configuration");
    if (!b->status)
        ok(b,
           cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                    CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &got, cfgs),
           "heuristics");
    for (int64_t i = 0; i < got && i < count && !rc && !b->status; i++) {
        int kept = b->count;
        cudnnBackendDescriptor_t e = make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "engine");
        if (get(b, cfgs[i], CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                &e, "engine"))
            rc = consider(list, b, problem, e, cfgs[i]);
        shrink(b, kept);
    }
done:
    for (int64_t i = 0; cfgs && i < count; i++)
        if (cfgs[i])
            cudnnBackendDestroyDescriptor(cfgs[i]);
    free(cfgs);
    shrink(b, keep);
    return rc;
}

static int list_engines(struct dnn_candidates *list, struct build *b,
                        cudnnBackendDescriptor_t graph, const struct dnn_target *target,
                        const struct dnn_problem *problem)
{
    int64_t count = 0;
    int rc = 0;
    if (!get_i64(b, graph, CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT, &count,
                 "engine count"))
        return 0;
    for (int64_t i = 0; i < count && !rc; i++) {
        static const struct choice none = {0};
        int kept = b->count;
        cudnnBackendDescriptor_t e = make_engine(b, graph, target, i);
        cudnnBackendDescriptor_t cfg = make_config(b, e, &none);
        if (!b->status)
            rc = consider(list, b, problem, e, cfg);
        b->status = CUDNN_STATUS_SUCCESS; /* most engines are not for this graph */
        shrink(b, kept);
    }
    return rc;
}

int dnn_list(struct dnn_candidates *candidates, const struct dnn_target *target,
             const struct dnn_problem *problem, bool every_engine, struct ff_err *err)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A,
                                                   CUDNN_HEUR_MODE_FALLBACK};
    struct build b = {.count = 0};
    int rc = 0;
    *candidates = (struct dnn_candidates){0};
    cudnnBackendDescriptor_t graph = operation_graph(&b, target, problem);
    if (b.status && CUDNN_STATUS_CATEGORY(b.status) != CUDNN_STATUS_NOT_SUPPORTED)
        rc = fail(err, &b, problem);
    for (int i = 0; i < 2 && !rc && graph; i++) {
        b.status = CUDNN_STATUS_SUCCESS; /* one mode may have nothing to say */
        rc = list_heuristic(candidates, &b, graph, target, problem, modes[i]);
    }
    b.status = CUDNN_STATUS_SUCCESS;
    if (every_engine && !rc && graph)
        rc = list_engines(candidates, &b, graph, target, problem);
    shrink(&b, 0);
    if (rc) {
        dnn_candidates_free(candidates);
        if (rc == FF_ENOMEM)
            ff_err_set(err, rc, "out of memory");
    }
    return rc;
}

static void set_knob(struct choice *c, int64_t type, int64_t value)
{
    for (int i = 0; i < c->knob_count; i++)
        if (c->knobs[i].type == type) {
            c->knobs[i].value = value;
            return;
        }
    if (c->knob_count < CUDNN_KNOB_TYPE_COUNTS)
        add_knob(c, type, value);
}

/* All values of one knob of an engine, the others as in `from`. */
static int list_values(struct dnn_candidates *list, struct build *b,
                       cudnnBackendDescriptor_t knob, const struct choice *from)
{
    enum { MANY = 32 };
    cudnnBackendKnobType_t type;
    int64_t low, high, stride;
    char text[DNN_CHOICE_TEXT];
    int rc = 0;
    if (!get(b, knob, CUDNN_ATTR_KNOB_INFO_TYPE, CUDNN_TYPE_KNOB_TYPE, &type,
             "knob type") ||
        !get_i64(b, knob, CUDNN_ATTR_KNOB_INFO_MINIMUM_VALUE, &low, "least value") ||
        !get_i64(b, knob, CUDNN_ATTR_KNOB_INFO_MAXIMUM_VALUE, &high, "largest value") ||
        !get_i64(b, knob, CUDNN_ATTR_KNOB_INFO_STRIDE, &stride, "step of values") ||
        stride < 1)
        return 0;
    bool many = (high - low) / stride >= MANY;
    for (int64_t v = low; v <= high && !rc; v = !many ? v + stride : v ? 2 * v : 1) {
        struct choice c = *from;
        set_knob(&c, type, v);
        choice_text(text, &c);
        rc = append(list, text, false);
    }
    return rc;
}

int dnn_neighbours(struct dnn_candidates *candidates, const struct dnn_target *target,
                   const struct dnn_problem *problem, const char *choice,
                   struct ff_err *err)
{
    struct build b = {.count = 0};
    struct choice from;
    char text[DNN_PROBLEM_TEXT];
    cudnnBackendDescriptor_t knobs[CUDNN_KNOB_TYPE_COUNTS];
    int64_t count = 0;
    int rc = 0;
    if (!choice_parse(&from, choice))
        return ff_err_set(err, FF_EDATA, "%s: \"%s\" is no choice",
                          dnn_problem_text(text, problem), choice);
    cudnnBackendDescriptor_t graph = operation_graph(&b, target, problem);
    cudnnBackendDescriptor_t engine = make_engine(&b, graph, target, from.engine);
    if (b.status)
        rc = fail(err, &b, problem);
    else if (!is_runtime_compiled(engine)) {
        for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; i++)
            knobs[i] = make(&b, CUDNN_BACKEND_KNOB_INFO_DESCRIPTOR, "knob");
        if (!b.status)
            ok(&b,
               cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_KNOB_INFO,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                        CUDNN_KNOB_TYPE_COUNTS, &count, knobs),
               "knobs");
        for (int64_t i = 0; i < count && !b.status && !rc; i++)
            rc = list_values(candidates, &b, knobs[i], &from);
        if (rc)
            ff_err_set(err, rc, "out of memory");
    }
    shrink(&b, 0);
    return rc;
}

void dnn_candidates_free(struct dnn_candidates *candidates)
{
    free(candidates->items);
    *candidates = (struct dnn_candidates){0};
}

/* -- plans -- */

static int build_plan(struct dnn_plan *p, const struct dnn_target *target,
                      struct ff_err *err)
{
    struct build *b = &p->build;
    char text[DNN_PROBLEM_TEXT];
    cudnnBackendDescriptor_t engine, cfg, graph;
    graph = operation_graph(b, target, &p->problem);
    if (b->status)
        return fail(err, b, &p->problem);
    engine = make_engine(b, graph, target, p->chosen.engine);
    if (!b->status && !admitted(&p->problem, engine))
        return ff_err_set(
            err, FF_EDATA, "%s: \"%s\" is ruled out by its numerical notes (%#x)",
            dnn_problem_text(text, &p->problem), p->choice, numerical_notes(engine));
    cfg = make_config(b, engine, &p->chosen);
    p->plan = make(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "plan");
    set_descriptor(b, p->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, cfg);
    set_handle(b, p->plan, plan_handle, target);
    set_properties(b, p->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target);
    finalize(b, p->plan, "plan");
    get_i64(b, p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, &p->workspace_bytes,
            "workspace size");
    if (b->status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED)
        return fail(err, b, &p->problem);
    if (b->status)
        return ff_err_set(err, FF_EDATA, "%s: \"%s\": %s",
                          dnn_problem_text(text, &p->problem), p->choice, b->text);
    p->runtime_compiled = is_runtime_compiled(engine);
    return 0;
}

static int create_chosen(struct dnn_plan **plan, const struct dnn_target *target,
                         const struct dnn_problem *problem, const char *choice,
                         struct ff_err *err)
{
    char text[DNN_PROBLEM_TEXT];
    struct dnn_plan *p = calloc(1, sizeof *p);
    if (!p)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    p->problem = *problem;
    snprintf(p->choice, sizeof p->choice, "%s", choice);
    one_line(p->choice);
    int rc = choice_parse(&p->chosen, choice)
                 ? build_plan(p, target, err)
                 : ff_err_set(err, FF_EDATA, "%s: \"%s\" is no choice",
                              dnn_problem_text(text, problem), p->choice);
    if (rc) {
        dnn_plan_destroy(p);
        return rc;
    }
    *plan = p;
    return 0;
}

/* One of the candidates, within the target's limit. */
static int create_candidate(struct dnn_plan **plan, const struct dnn_target *target,
                            const struct dnn_problem *problem, const char *choice,
                            struct ff_err *err)
{
    char text[DNN_PROBLEM_TEXT];
    int rc = create_chosen(plan, target, problem, choice, err);
    int64_t bytes = rc ? 0 : (*plan)->workspace_bytes;
    if (!target->workspace_limit_bytes || bytes <= target->workspace_limit_bytes)
        return rc;
    dnn_plan_destroy(*plan);
    *plan = NULL;
    return ff_err_set(err, FF_EDATA, "%s: \"%s\" needs %lld bytes of workspace",
                      dnn_problem_text(text, problem), choice, (long long)bytes);
}

int dnn_plan_create(struct dnn_plan **plan, const struct dnn_target *target,
                    const struct dnn_problem *problem, const char *choice,
                    struct ff_err *err)
{
    char text[DNN_PROBLEM_TEXT];
    struct dnn_candidates list;
    struct ff_err last = FF_ERR_INIT;
    *plan = NULL;
    if (choice)
        return create_chosen(plan, target, problem, choice, err);
    int rc = dnn_list(&list, target, problem, false, err);
    if (rc)
        return rc;
    rc = FF_EDATA;
    for (int i = 0; i < 2 * list.count && rc == FF_EDATA; i++) {
        const struct dnn_candidate *c = &list.items[i % list.count];
        if (c->runtime_compiled == (i >= list.count))
            rc = create_candidate(plan, target, problem, c->choice, &last);
    }
    if (rc == FF_EDATA)
        rc = ff_err_set(err, FF_EUSAGE, "%s: cuDNN %zu has no engine (%d refused)%s%s",
                        dnn_problem_text(text, problem), cudnnGetVersion(),
                        list.refused, *last.text ? "; the last tried: " : "",
                        *last.text ? last.text + strlen(text) + 2 : "");
    else if (rc)
        ff_err_set(err, rc, "%s", last.text);
    dnn_candidates_free(&list);
    return rc;
}

void dnn_plan_destroy(struct dnn_plan *plan)
{
    if (!plan)
        return;
    if (plan->pack)
        cudnnBackendDestroyDescriptor(plan->pack);
    shrink(&plan->build, 0);
    free(plan);
}

const char *dnn_plan_choice(const struct dnn_plan *plan)
{
    return plan->choice;
}

int64_t dnn_plan_workspace_bytes(const struct dnn_plan *plan)
{
    return plan->workspace_bytes;
}

bool dnn_plan_is_runtime_compiled(const struct dnn_plan *plan)
{
    return plan->runtime_compiled;
}

/* A finalized pack cannot be given other pointers; it is made anew when they change. */
static void make_pack(struct build *b, struct dnn_plan *plan, void *pointers[UID_COUNT],
                      void *workspace)
{
    static const int64_t uids[UID_COUNT] = {UID_X, UID_W, UID_Y, UID_SUM, UID_SUM_SQ};
    int count = plan->problem.kind == DNN_FWD_STATS ? UID_COUNT : UID_Y;
    if (plan->pack)
        cudnnBackendDestroyDescriptor(plan->pack);
    plan->pack = NULL;
    cudnnBackendDescriptor_t d =
        make(b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "variant pack");
    set(b, d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids);
    set(b, d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count,
        pointers);
    set(b, d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    if (!finalize(b, d, "variant pack")) {
        shrink(b, 0);
        return;
    }
    plan->pack = d;
    memcpy(plan->pointers, pointers, sizeof plan->pointers);
    plan->workspace = workspace;
}

int dnn_plan_execute(struct dnn_plan *plan, cudnnHandle_t handle, void *workspace,
                     void *x, void *w, void *y, void *sum, void *sum_sq,
                     struct ff_err *err)
{
    struct build b = {.count = 0};
    char text[DNN_PROBLEM_TEXT];
    void *pointers[UID_COUNT] = {x, w, y, sum, sum_sq};
    if (!plan->pack || memcmp(pointers, plan->pointers, sizeof pointers) != 0 ||
        workspace != plan->workspace)
        make_pack(&b, plan, pointers, workspace);
    if (!b.status)
        ok(&b, cudnnBackendExecute(handle, plan->plan, plan->pack), plan->choice);
    if (!b.status)
        return 0;
    return ff_err_set(err, FF_EFAIL, "%s: %s", dnn_problem_text(text, &plan->problem),
                      b.text);
}
