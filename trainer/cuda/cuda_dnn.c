/* SPDX-License-Identifier: MIT */
/* Plans of convolutions by cuDNN's backend graph API; see cuda_dnn.h. A plan keeps its
 * build: everything that cuDNN may still refer to lives as long as the plan. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_dnn_build.h"

struct dnn_plan {
    struct dnn_problem problem;
    struct dnn_build build;
    struct dnn_engine chosen;
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

static int build_plan(struct dnn_plan *p, const struct dnn_target *target,
                      struct ff_err *err)
{
    struct dnn_build *b = &p->build;
    char text[DNN_PROBLEM_TEXT];
    cudnnBackendDescriptor_t engine, cfg, graph;
    graph = dnn_graph(b, target, &p->problem);
    if (b->status)
        return dnn_fail(err, b, &p->problem);
    engine = dnn_make_engine(b, graph, target, p->chosen.engine);
    if (!b->status && !dnn_admitted(&p->problem, engine))
        return ff_err_set(
            err, FF_EDATA, "%s: \"%s\" is ruled out by its numerical notes (%#x)",
            dnn_problem_text(text, &p->problem), p->choice, dnn_notes(engine));
    cfg = dnn_make_config(b, engine, &p->chosen);
    p->plan = dnn_make_plan(b, cfg, target);
    dnn_get_i64(b, p->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE,
                &p->workspace_bytes, "workspace size");
    if (b->status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED)
        return dnn_fail(err, b, &p->problem);
    if (b->status)
        return ff_err_set(err, FF_EDATA, "%s: \"%s\": %s",
                          dnn_problem_text(text, &p->problem), p->choice, b->text);
    p->runtime_compiled = dnn_is_runtime_compiled(engine);
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
    dnn_one_line(p->choice);
    int rc = dnn_choice_parse(&p->chosen, choice)
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
    dnn_shrink(&plan->build, 0);
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
static void make_pack(struct dnn_build *b, struct dnn_plan *plan,
                      void *pointers[UID_COUNT], void *workspace)
{
    static const int64_t uids[UID_COUNT] = {UID_X, UID_W, UID_Y, UID_SUM, UID_SUM_SQ};
    int count = plan->problem.kind == DNN_FWD_STATS ? UID_COUNT : UID_Y;
    if (plan->pack)
        cudnnBackendDestroyDescriptor(plan->pack);
    plan->pack = NULL;
    cudnnBackendDescriptor_t d =
        dnn_make(b, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR, "variant pack");
    dnn_set(b, d, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, count, uids);
    dnn_set(b, d, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, count,
            pointers);
    dnn_set(b, d, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1,
            &workspace);
    if (!dnn_finalize(b, d, "variant pack")) {
        dnn_shrink(b, 0);
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
    struct dnn_build b = {.count = 0};
    char text[DNN_PROBLEM_TEXT];
    void *pointers[UID_COUNT] = {x, w, y, sum, sum_sq};
    if (!plan->pack || memcmp(pointers, plan->pointers, sizeof pointers) != 0 ||
        workspace != plan->workspace)
        make_pack(&b, plan, pointers, workspace);
    if (!b.status)
        dnn_ok(&b, cudnnBackendExecute(handle, plan->plan, plan->pack), plan->choice);
    if (!b.status)
        return 0;
    return ff_err_set(err, FF_EFAIL, "%s: %s", dnn_problem_text(text, &plan->problem),
                      b.text);
}
