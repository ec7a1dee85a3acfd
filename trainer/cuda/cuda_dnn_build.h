/* SPDX-License-Identifier: MIT */
/* What the files of cuda_dnn.h share: cuDNN's descriptors, and an engine with its
 * knobs.
 *
 * Tensors, operations, the operation graph, engine, knob choices, engine configuration
 * and plan are all cuDNN descriptors, made in this order. A `struct dnn_build` owns
 * what was made and keeps the first failure; after that its calls do nothing, so a
 * sequence is written without a check a line. */
#ifndef FF_CUDA_DNN_BUILD_H
#define FF_CUDA_DNN_BUILD_H

#include "cuda_dnn.h"

enum { DNN_OWNED_MAX = 20 + CUDNN_KNOB_TYPE_COUNTS }; /* descriptors of one plan */
/* The tensors' numbers in a graph. */
enum { UID_X = 1, UID_W, UID_Y, UID_SUM, UID_SUM_SQ, UID_COUNT = UID_SUM_SQ };

struct dnn_build {
    cudnnBackendDescriptor_t owned[DNN_OWNED_MAX];
    int count;
    cudnnStatus_t status; /* first failure */
    char text[640];       /* what it was */
};

/* A choice: an engine with its knobs, by rising type. */
struct dnn_engine {
    int64_t engine;
    int knob_count;
    struct {
        int64_t type, value;
    } knobs[CUDNN_KNOB_TYPE_COUNTS];
};

/* -- descriptors: `what` stands in the failure -- */

/* Keeps a failure; true while there is none. */
bool dnn_ok(struct dnn_build *b, cudnnStatus_t status, const char *what);
/* Owned by the build; NULL after a failure. */
cudnnBackendDescriptor_t dnn_make(struct dnn_build *b,
                                  cudnnBackendDescriptorType_t type, const char *what);
void dnn_set(struct dnn_build *b, cudnnBackendDescriptor_t d,
             cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
             int64_t count, const void *values);
void dnn_set_descriptor(struct dnn_build *b, cudnnBackendDescriptor_t d,
                        cudnnBackendAttributeName_t name,
                        cudnnBackendDescriptor_t value);
/* The target's properties, where it has some. */
void dnn_set_properties(struct dnn_build *b, cudnnBackendDescriptor_t d,
                        cudnnBackendAttributeName_t name,
                        const struct dnn_target *target);
/* One value of an attribute into *value, of what `type` says. */
bool dnn_get(struct dnn_build *b, cudnnBackendDescriptor_t d,
             cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
             void *value, const char *what);
bool dnn_get_i64(struct dnn_build *b, cudnnBackendDescriptor_t d,
                 cudnnBackendAttributeName_t name, int64_t *value, const char *what);
bool dnn_finalize(struct dnn_build *b, cudnnBackendDescriptor_t d, const char *what);
/* Destroys all but the first `keep`. */
void dnn_shrink(struct dnn_build *b, int keep);
/* The failure as an error of the problem. */
int dnn_fail(struct ff_err *err, const struct dnn_build *b,
             const struct dnn_problem *problem);
/* Texts from outside may hold line breaks; ours are one line. */
void dnn_one_line(char *text);

/* -- from the problem to a plan -- */

cudnnBackendDescriptor_t dnn_graph(struct dnn_build *b, const struct dnn_target *target,
                                   const struct dnn_problem *problem);
cudnnBackendDescriptor_t dnn_make_engine(struct dnn_build *b,
                                         cudnnBackendDescriptor_t graph,
                                         const struct dnn_target *target,
                                         int64_t index);
cudnnBackendDescriptor_t dnn_make_config(struct dnn_build *b,
                                         cudnnBackendDescriptor_t engine,
                                         const struct dnn_engine *choice);
cudnnBackendDescriptor_t dnn_make_plan(struct dnn_build *b,
                                       cudnnBackendDescriptor_t config,
                                       const struct dnn_target *target);

/* Numerical notes as bits. */
unsigned dnn_notes(cudnnBackendDescriptor_t engine);
/* Not what the problem's `deterministic` and `tf32` forbid, nor what computes in less
 * than f32. */
bool dnn_admitted(const struct dnn_problem *problem, cudnnBackendDescriptor_t engine);
bool dnn_is_runtime_compiled(cudnnBackendDescriptor_t engine);

/* -- choices and their text -- */

void dnn_choice_text(char out[DNN_CHOICE_TEXT], const struct dnn_engine *c);
/* Nothing but what dnn_choice_text writes. */
bool dnn_choice_parse(struct dnn_engine *c, const char *text);
void dnn_add_knob(struct dnn_engine *c, int64_t type, int64_t value);
/* The knobs of an engine configuration, its engine being known. */
void dnn_read_knobs(struct dnn_build *b, struct dnn_engine *c,
                    cudnnBackendDescriptor_t config);

#endif
