/* SPDX-License-Identifier: MIT */
/* Candidates: what cuDNN's heuristics offer, every engine, and the neighbours of a
 * choice; see cuda_dnn.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_dnn_build.h"

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
static int consider(struct dnn_candidates *list, struct dnn_build *b,
                    const struct dnn_problem *problem, cudnnBackendDescriptor_t engine,
                    cudnnBackendDescriptor_t cfg)
{
    struct dnn_engine c = {0};
    char text[DNN_CHOICE_TEXT];
    if (!dnn_admitted(problem, engine)) {
        list->refused++;
        return 0;
    }
    if (!dnn_get_i64(b, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, &c.engine,
                     "engine index"))
        return 0;
    dnn_read_knobs(b, &c, cfg);
    if (b->status)
        return 0;
    dnn_choice_text(text, &c);
    return append(list, text, dnn_is_runtime_compiled(engine));
}

static int list_heuristic(struct dnn_candidates *list, struct dnn_build *b,
                          cudnnBackendDescriptor_t graph,
                          const struct dnn_target *target,
                          const struct dnn_problem *problem,
                          cudnnBackendHeurMode_t mode)
{
    int keep = b->count, rc = 0;
    int64_t count = 0, got = 0;
    cudnnBackendDescriptor_t *cfgs = NULL;
    cudnnBackendDescriptor_t h =
        dnn_make(b, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR, "heuristics");
    dnn_set_descriptor(b, h, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph);
    dnn_set(b, h, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    dnn_set_properties(b, h, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, target);
    if (!dnn_finalize(b, h, "heuristics") ||
        !dnn_ok(b,
                cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                         CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                                         NULL),
                "heuristics") ||
        count <= 0)
        goto done;
    cfgs = calloc((size_t)count, sizeof *cfgs);
    if (!cfgs) {
        rc = FF_ENOMEM;
        goto done;
    }
    for (int64_t i = 0; i < count && !b->status; i++)
        dnn_ok(
            b,
            cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, &cfgs[i]),
            "engine configuration");
    if (!b->status)
        dnn_ok(b,
               cudnnBackendGetAttribute(h, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                        CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &got,
                                        cfgs),
               "heuristics");
    for (int64_t i = 0; i < got && i < count && !rc && !b->status; i++) {
        int kept = b->count;
        cudnnBackendDescriptor_t e =
            dnn_make(b, CUDNN_BACKEND_ENGINE_DESCRIPTOR, "engine");
        if (dnn_get(b, cfgs[i], CUDNN_ATTR_ENGINECFG_ENGINE,
                    CUDNN_TYPE_BACKEND_DESCRIPTOR, &e, "engine"))
            rc = consider(list, b, problem, e, cfgs[i]);
        dnn_shrink(b, kept);
    }
done:
    for (int64_t i = 0; cfgs && i < count; i++)
        if (cfgs[i])
            cudnnBackendDestroyDescriptor(cfgs[i]);
    free(cfgs);
    dnn_shrink(b, keep);
    return rc;
}

static int list_engines(struct dnn_candidates *list, struct dnn_build *b,
                        cudnnBackendDescriptor_t graph, const struct dnn_target *target,
                        const struct dnn_problem *problem)
{
    int64_t count = 0;
    int rc = 0;
    if (!dnn_get_i64(b, graph, CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT, &count,
                     "engine count"))
        return 0;
    for (int64_t i = 0; i < count && !rc; i++) {
        static const struct dnn_engine none = {0};
        int kept = b->count;
        cudnnBackendDescriptor_t e = dnn_make_engine(b, graph, target, i);
        cudnnBackendDescriptor_t cfg = dnn_make_config(b, e, &none);
        if (!b->status)
            rc = consider(list, b, problem, e, cfg);
        b->status = CUDNN_STATUS_SUCCESS; /* most engines are not for this graph */
        dnn_shrink(b, kept);
    }
    return rc;
}

int dnn_list(struct dnn_candidates *candidates, const struct dnn_target *target,
             const struct dnn_problem *problem, bool every_engine, struct ff_err *err)
{
    static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A,
                                                   CUDNN_HEUR_MODE_FALLBACK};
    struct dnn_build b = {.count = 0};
    int rc = 0;
    *candidates = (struct dnn_candidates){0};
    cudnnBackendDescriptor_t graph = dnn_graph(&b, target, problem);
    if (b.status && CUDNN_STATUS_CATEGORY(b.status) != CUDNN_STATUS_NOT_SUPPORTED)
        rc = dnn_fail(err, &b, problem);
    for (int i = 0; i < 2 && !rc && graph; i++) {
        b.status = CUDNN_STATUS_SUCCESS; /* one mode may have nothing to say */
        rc = list_heuristic(candidates, &b, graph, target, problem, modes[i]);
    }
    b.status = CUDNN_STATUS_SUCCESS;
    if (every_engine && !rc && graph)
        rc = list_engines(candidates, &b, graph, target, problem);
    dnn_shrink(&b, 0);
    if (rc) {
        dnn_candidates_free(candidates);
        if (rc == FF_ENOMEM)
            ff_err_set(err, rc, "out of memory");
    }
    return rc;
}

static void set_knob(struct dnn_engine *c, int64_t type, int64_t value)
{
    for (int i = 0; i < c->knob_count; i++)
        if (c->knobs[i].type == type) {
            c->knobs[i].value = value;
            return;
        }
    if (c->knob_count < CUDNN_KNOB_TYPE_COUNTS)
        dnn_add_knob(c, type, value);
}

/* All values of one knob of an engine, the others as in `from`. */
static int list_values(struct dnn_candidates *list, struct dnn_build *b,
                       cudnnBackendDescriptor_t knob, const struct dnn_engine *from)
{
    enum { MANY = 32 };
    cudnnBackendKnobType_t type;
    int64_t low, high, stride;
    char text[DNN_CHOICE_TEXT];
    int rc = 0;
    if (!dnn_get(b, knob, CUDNN_ATTR_KNOB_INFO_TYPE, CUDNN_TYPE_KNOB_TYPE, &type,
                 "knob type") ||
        !dnn_get_i64(b, knob, CUDNN_ATTR_KNOB_INFO_MINIMUM_VALUE, &low,
                     "least value") ||
        !dnn_get_i64(b, knob, CUDNN_ATTR_KNOB_INFO_MAXIMUM_VALUE, &high,
                     "largest value") ||
        !dnn_get_i64(b, knob, CUDNN_ATTR_KNOB_INFO_STRIDE, &stride, "step of values") ||
        stride < 1)
        return 0;
    bool many = (high - low) / stride >= MANY;
    for (int64_t v = low; v <= high && !rc; v = !many ? v + stride : v ? 2 * v : 1) {
        struct dnn_engine c = *from;
        set_knob(&c, type, v);
        dnn_choice_text(text, &c);
        rc = append(list, text, false);
    }
    return rc;
}

int dnn_neighbours(struct dnn_candidates *candidates, const struct dnn_target *target,
                   const struct dnn_problem *problem, const char *choice,
                   struct ff_err *err)
{
    struct dnn_build b = {.count = 0};
    struct dnn_engine from;
    char text[DNN_PROBLEM_TEXT];
    cudnnBackendDescriptor_t knobs[CUDNN_KNOB_TYPE_COUNTS];
    int64_t count = 0;
    int rc = 0;
    if (!dnn_choice_parse(&from, choice))
        return ff_err_set(err, FF_EDATA, "%s: \"%s\" is no choice",
                          dnn_problem_text(text, problem), choice);
    cudnnBackendDescriptor_t graph = dnn_graph(&b, target, problem);
    cudnnBackendDescriptor_t engine = dnn_make_engine(&b, graph, target, from.engine);
    if (b.status)
        rc = dnn_fail(err, &b, problem);
    else if (!dnn_is_runtime_compiled(engine)) {
        for (int i = 0; i < CUDNN_KNOB_TYPE_COUNTS; i++)
            knobs[i] = dnn_make(&b, CUDNN_BACKEND_KNOB_INFO_DESCRIPTOR, "knob");
        if (!b.status)
            dnn_ok(&b,
                   cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_KNOB_INFO,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR,
                                            CUDNN_KNOB_TYPE_COUNTS, &count, knobs),
                   "knobs");
        for (int64_t i = 0; i < count && !b.status && !rc; i++)
            rc = list_values(candidates, &b, knobs[i], &from);
        if (rc)
            ff_err_set(err, rc, "out of memory");
    }
    dnn_shrink(&b, 0);
    return rc;
}

void dnn_candidates_free(struct dnn_candidates *candidates)
{
    free(candidates->items);
    *candidates = (struct dnn_candidates){0};
}
