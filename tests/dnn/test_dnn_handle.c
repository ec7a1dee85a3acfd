/* SPDX-License-Identifier: MIT */
/* Plans for a device that is here: its handle goes to graph and plan, and all else
 * takes the device from the graph. The handle is played: the program's own
 * cudnnBackendSetAttribute stands in front of the library's, keeps it, and gives
 * described properties to what is made of a graph with a handle. */
#include <dlfcn.h>

#include "dnn_fixture.h"

static char device;
static const cudnnHandle_t handle = (cudnnHandle_t)(void *)&device;
static struct dnn_target described;
static cudnnBackendDescriptor_t graph; /* the last one that was given the handle */
static int graphs, plans;              /* that were */

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t d,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void *values)
{
    static cudnnStatus_t (*real)(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t,
                                 cudnnBackendAttributeType_t, int64_t, const void *);
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "cudnnBackendSetAttribute");
    if (type == CUDNN_TYPE_HANDLE) {
        cr_assert(eq(ptr, *(void *const *)values, &device));
        if (name == CUDNN_ATTR_OPERATIONGRAPH_HANDLE) {
            graph = d;
            graphs++;
        } else {
            cr_assert(eq(int, name, CUDNN_ATTR_EXECUTION_PLAN_HANDLE));
            plans++;
        }
        return CUDNN_STATUS_SUCCESS;
    }
    bool heuristics = name == CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH;
    if ((heuristics || name == CUDNN_ATTR_ENGINE_OPERATION_GRAPH) && graph &&
        *(void *const *)values == graph)
        real(d,
             heuristics ? CUDNN_ATTR_ENGINEHEUR_DEVICEPROP
                        : CUDNN_ATTR_ENGINE_DEVICEPROP,
             CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &described.properties);
    return real(d, name, type, count, values);
}

/* The plan's own choice, and each choice made again. */
static void check(const struct dnn_target *target, const struct dnn_problem *problem,
                  const char *choice, int64_t workspace_bytes)
{
    struct dnn_plan *plan;
    struct ff_err err = FF_ERR_INIT;
    for (int given = 0; given < 2; given++) {
        int rc = dnn_plan_create(&plan, target, problem, given ? choice : NULL, &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        cr_assert(eq(str, (char *)dnn_plan_choice(plan), (char *)choice));
        cr_assert(eq(i64, dnn_plan_workspace_bytes(plan), workspace_bytes));
        dnn_plan_destroy(plan);
    }
}

Test(dnn_handle, it_makes_the_plans_that_the_devices_properties_make, .timeout = 60)
{
    struct dnn_target here;
    described = target_named("h200_sm90");
    dnn_target_open(&here, handle);
    for (int kind = DNN_FWD; kind <= DNN_BWD_WEIGHTS; kind++) {
        struct dnn_problem problem =
            square_problem(64, 64, 56, CUDA_F16, (enum dnn_kind)kind);
        problem.deterministic = true;
        char choice[DNN_CHOICE_TEXT];
        struct dnn_plan *plan;
        graphs = plans = 0;
        cr_assert(eq(int, dnn_plan_create(&plan, &described, &problem, NULL, NULL), 0));
        strcpy(choice, dnn_plan_choice(plan));
        int64_t workspace_bytes = dnn_plan_workspace_bytes(plan);
        dnn_plan_destroy(plan);
        cr_assert(eq(int, graphs + plans, 0));
        check(&here, &problem, choice, workspace_bytes);
        cr_assert(ge(int, graphs, 3)); /* of the list and of each plan */
        cr_assert(ge(int, plans, 2));
        graph = NULL;
    }
    dnn_target_close(&here);
    dnn_target_close(&described);
}
