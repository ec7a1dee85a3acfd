/* SPDX-License-Identifier: MIT */
/* cuDNN's descriptors from tensors to plans; see cuda_dnn_build.h.
 *
 * What is left out, by the engine's numerical notes. cuDNN 9 has no switch for TF32 in
 * this API (the legacy math types have no counterpart; NVIDIA_TF32_OVERRIDE=0 is the
 * user's): an engine that multiplies f32 on tensor cores, that is in TF32, says
 * TENSOR_CORE, and one that halves its inputs first says DOWN_CONVERT_INPUTS. */
#include "cuda_dnn_build.h"

#include <assert.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* -- descriptors -- */

void dnn_one_line(char *text)
{
    for (char *p = text; *p; p++)
        if ((unsigned char)*p < ' ')
            *p = ' ';
    for (size_t n = strlen(text); n && text[n - 1] == ' ';)
        text[--n] = 0;
}

bool dnn_ok(struct dnn_build *b, cudnnStatus_t status, const char *what)
{
    if (b->status || !status)
        return !b->status;
    char message[512];
    message[0] = 0;
    cudnnGetLastErrorString(message, sizeof message);
    dnn_one_line(message);
    b->status = status;
    snprintf(b->text, sizeof b->text, "%s: %s%s%s", what, cudnnGetErrorString(status),
             *message ? ": " : "", message);
    return false;
}

cudnnBackendDescriptor_t dnn_make(struct dnn_build *b,
                                  cudnnBackendDescriptorType_t type, const char *what)
{
    cudnnBackendDescriptor_t d = NULL;
    assert(b->count < DNN_OWNED_MAX);
    if (b->status || !dnn_ok(b, cudnnBackendCreateDescriptor(type, &d), what))
        return NULL;
    b->owned[b->count++] = d;
    return d;
}

void dnn_set(struct dnn_build *b, cudnnBackendDescriptor_t d,
             cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
             int64_t count, const void *values)
{
    char what[64];
    if (b->status)
        return;
    snprintf(what, sizeof what, "cuDNN attribute %d", (int)name);
    dnn_ok(b, cudnnBackendSetAttribute(d, name, type, count, values), what);
}

static void set_i64(struct dnn_build *b, cudnnBackendDescriptor_t d,
                    cudnnBackendAttributeName_t name, int64_t value)
{
    dnn_set(b, d, name, CUDNN_TYPE_INT64, 1, &value);
}

void dnn_set_descriptor(struct dnn_build *b, cudnnBackendDescriptor_t d,
                        cudnnBackendAttributeName_t name,
                        cudnnBackendDescriptor_t value)
{
    dnn_set(b, d, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

bool dnn_get(struct dnn_build *b, cudnnBackendDescriptor_t d,
             cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
             void *value, const char *what)
{
    int64_t count;
    return !b->status &&
           dnn_ok(b, cudnnBackendGetAttribute(d, name, type, 1, &count, value), what);
}

bool dnn_get_i64(struct dnn_build *b, cudnnBackendDescriptor_t d,
                 cudnnBackendAttributeName_t name, int64_t *value, const char *what)
{
    return dnn_get(b, d, name, CUDNN_TYPE_INT64, value, what);
}

bool dnn_finalize(struct dnn_build *b, cudnnBackendDescriptor_t d, const char *what)
{
    return !b->status && dnn_ok(b, cudnnBackendFinalize(d), what);
}

void dnn_shrink(struct dnn_build *b, int keep)
{
    while (b->count > keep)
        cudnnBackendDestroyDescriptor(b->owned[--b->count]);
}

int dnn_fail(struct ff_err *err, const struct dnn_build *b,
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
    struct dnn_build b = {.count = 0};
    *target = (struct dnn_target){.handle = NULL};
    hold_compiler();
    target->properties =
        dnn_make(&b, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, "device properties");
    dnn_set(&b, target->properties, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION,
            CUDNN_TYPE_CHAR, (int64_t)strlen(json), json);
    if (dnn_finalize(&b, target->properties, "device properties"))
        return 0;
    dnn_shrink(&b, 0);
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

static void set_handle(struct dnn_build *b, cudnnBackendDescriptor_t d,
                       cudnnBackendAttributeName_t name,
                       const struct dnn_target *target)
{
    if (target->handle)
        dnn_set(b, d, name, CUDNN_TYPE_HANDLE, 1, &target->handle);
}

void dnn_set_properties(struct dnn_build *b, cudnnBackendDescriptor_t d,
                        cudnnBackendAttributeName_t name,
                        const struct dnn_target *target)
{
    if (target->properties)
        dnn_set_descriptor(b, d, name, target->properties);
}

/* -- the operation graph -- */

static cudnnDataType_t data_type(enum cuda_type type)
{
    return type == CUDA_F32   ? CUDNN_DATA_FLOAT
           : type == CUDA_F16 ? CUDNN_DATA_HALF
                              : CUDNN_DATA_BFLOAT16;
}

/* Dimensions in cuDNN's order, n c h w; in memory n h w c. */
static cudnnBackendDescriptor_t tensor(struct dnn_build *b, int64_t uid,
                                       cudnnDataType_t type, int64_t n, int64_t c,
                                       int64_t h, int64_t w)
{
    int64_t dims[4] = {n, c, h, w}, strides[4] = {h * w * c, 1, w * c, c};
    cudnnBackendDescriptor_t t = dnn_make(b, CUDNN_BACKEND_TENSOR_DESCRIPTOR, "tensor");
    dnn_set(b, t, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    dnn_set(b, t, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    dnn_set(b, t, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    set_i64(b, t, CUDNN_ATTR_TENSOR_UNIQUE_ID, uid);
    set_i64(b, t, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
    dnn_finalize(b, t, "tensor");
    return t;
}

static cudnnBackendDescriptor_t convolution(struct dnn_build *b,
                                            const struct ff_conv_shape *s)
{
    int64_t pad[2] = {s->pad, s->pad}, stride[2] = {s->stride, s->stride};
    int64_t dilation[2] = {1, 1};
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    cudnnBackendDescriptor_t c =
        dnn_make(b, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR, "convolution");
    dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1,
            &mode);
    set_i64(b, c, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, pad);
    dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    dnn_set(b, c, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    dnn_finalize(b, c, "convolution");
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

static cudnnBackendDescriptor_t statistics(struct dnn_build *b,
                                           cudnnBackendDescriptor_t y, int64_t K)
{
    cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnGenStatsMode_t mode = CUDNN_GENSTATS_SUM_SQSUM;
    cudnnBackendDescriptor_t sum = tensor(b, UID_SUM, CUDNN_DATA_FLOAT, 1, K, 1, 1);
    cudnnBackendDescriptor_t sq = tensor(b, UID_SUM_SQ, CUDNN_DATA_FLOAT, 1, K, 1, 1);
    cudnnBackendDescriptor_t o =
        dnn_make(b, CUDNN_BACKEND_OPERATION_GEN_STATS_DESCRIPTOR, "statistics");
    dnn_set(b, o, CUDNN_ATTR_OPERATION_GENSTATS_MODE, CUDNN_TYPE_GENSTATS_MODE, 1,
            &mode);
    dnn_set(b, o, CUDNN_ATTR_OPERATION_GENSTATS_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1,
            &compute);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_GENSTATS_XDESC, y);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_GENSTATS_SUMDESC, sum);
    dnn_set_descriptor(b, o, CUDNN_ATTR_OPERATION_GENSTATS_SQSUMDESC, sq);
    dnn_finalize(b, o, "statistics");
    return o;
}

cudnnBackendDescriptor_t dnn_graph(struct dnn_build *b, const struct dnn_target *target,
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
    cudnnBackendDescriptor_t c = convolution(b, s), o = dnn_make(b, pass->type, "pass");
    dnn_set_descriptor(b, o, pass->x, x);
    dnn_set_descriptor(b, o, pass->w, w);
    dnn_set_descriptor(b, o, pass->y, y);
    dnn_set_descriptor(b, o, pass->convolution, c);
    dnn_set(b, o, pass->alpha, CUDNN_TYPE_FLOAT, 1, &alpha);
    dnn_set(b, o, pass->beta, CUDNN_TYPE_FLOAT, 1, &beta);
    dnn_finalize(b, o, "pass");
    operations[0] = o;
    bool stats = problem->kind == DNN_FWD_STATS;
    if (stats)
        operations[1] = statistics(b, y, s->K);
    graph = dnn_make(b, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR, "operation graph");
    dnn_set(b, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
            stats ? 2 : 1, operations);
    set_handle(b, graph, graph_handle, target);
    dnn_finalize(b, graph, "operation graph");
    return graph;
}

/* -- engines -- */

enum { NOTES_MAX = 32 };

unsigned dnn_notes(cudnnBackendDescriptor_t engine)
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

bool dnn_is_runtime_compiled(cudnnBackendDescriptor_t engine)
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

bool dnn_admitted(const struct dnn_problem *problem, cudnnBackendDescriptor_t engine)
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
    return !(dnn_notes(engine) & banned);
}

/* -- choices and their text -- */

void dnn_choice_text(char out[DNN_CHOICE_TEXT], const struct dnn_engine *c)
{
    int n = snprintf(out, DNN_CHOICE_TEXT, "eng%lld", (long long)c->engine);
    for (int i = 0; i < c->knob_count && n < DNN_CHOICE_TEXT; i++)
        n += snprintf(out + n, (size_t)(DNN_CHOICE_TEXT - n), " k%lld=%lld",
                      (long long)c->knobs[i].type, (long long)c->knobs[i].value);
}

enum { KNOB_TYPE_MAX = 999 }; /* a later cuDNN may know more than the header */

bool dnn_choice_parse(struct dnn_engine *c, const char *text)
{
    char again[DNN_CHOICE_TEXT], *end;
    *c = (struct dnn_engine){0};
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
    dnn_choice_text(again, c);
    return c->engine >= 0 && !strcmp(again, text);
}

void dnn_add_knob(struct dnn_engine *c, int64_t type, int64_t value)
{
    int i = c->knob_count++;
    for (; i > 0 && c->knobs[i - 1].type > type; i--)
        c->knobs[i] = c->knobs[i - 1];
    c->knobs[i].type = type;
    c->knobs[i].value = value;
}

void dnn_read_knobs(struct dnn_build *b, struct dnn_engine *c,
                    cudnnBackendDescriptor_t cfg)
{
    cudnnBackendDescriptor_t knobs[CUDNN_KNOB_TYPE_COUNTS];
    int64_t count = 0;
    int keep = b->count;
    for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; i++)
        knobs[i] = dnn_make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, "knob choice");
    if (!b->status)
        dnn_ok(b,
               cudnnBackendGetAttribute(cfg, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                        CUDNN_KNOB_TYPE_COUNTS, &count, knobs),
               "knob choices");
    for (int64_t i = 0; i < count && !b->status; i++) {
        cudnnBackendKnobType_t type;
        int64_t value;
        if (dnn_get(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE,
                    &type, "knob type") &&
            dnn_get_i64(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, &value,
                        "knob value"))
            dnn_add_knob(c, type, value);
    }
    dnn_shrink(b, keep);
}

cudnnBackendDescriptor_t dnn_make_engine(struct dnn_build *b,
                                         cudnnBackendDescriptor_t graph,
                                         const struct dnn_target *target, int64_t index)
{
    cudnnBackendDescriptor_t e = dnn_make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "engine");
    dnn_set_descriptor(b, e, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph);
    set_i64(b, e, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, index);
    dnn_set_properties(b, e, CUDNN_ATTR_ENGINE_DEVICEPROP, target);
    dnn_finalize(b, e, "engine");
    return e;
}

cudnnBackendDescriptor_t dnn_make_config(struct dnn_build *b,
                                         cudnnBackendDescriptor_t engine,
                                         const struct dnn_engine *c)
{
    cudnnBackendDescriptor_t knobs[CUDNN_KNOB_TYPE_COUNTS], cfg;
    for (int i = 0; i < c->knob_count; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)c->knobs[i].type;
        knobs[i] = dnn_make(b, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, "knob choice");
        dnn_set(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1,
                &type);
        set_i64(b, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, c->knobs[i].value);
        dnn_finalize(b, knobs[i], "knob choice");
    }
    cfg = dnn_make(b, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, "engine configuration");
    dnn_set_descriptor(b, cfg, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (c->knob_count)
        dnn_set(b, cfg, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                CUDNN_TYPE_BACKEND_DESCRIPTOR, c->knob_count, knobs);
    dnn_finalize(b, cfg, "engine configuration");
    return cfg;
}

cudnnBackendDescriptor_t dnn_make_plan(struct dnn_build *b,
                                       cudnnBackendDescriptor_t config,
                                       const struct dnn_target *target)
{
    cudnnBackendDescriptor_t plan =
        dnn_make(b, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, "plan");
    dnn_set_descriptor(b, plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
    set_handle(b, plan, plan_handle, target);
    dnn_set_properties(b, plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, target);
    dnn_finalize(b, plan, "plan");
    return plan;
}
