/* SPDX-License-Identifier: MIT */
/* Our own 3x3 convolutions for sm_90 (H100, H200), beside cuDNN's: all three passes,
 * stride 1, padding 1, in fp16 and bf16.
 *
 * Tiles of 128 x 256 leave a quarter of an H100's 132 multiprocessors idle on
 * 14 x 14 x 256 at batch 128: 196 tiles are one turn and a half. Of 192 x 256 there are
 * 131, one turn; of the weights' gradient 132. They are chosen by the clock, as an
 * engine is: "conv90 192x256". */
#ifndef FF_CUDA_CONV90_H
#define FF_CUDA_CONV90_H

#include <cudnn.h>

#ifdef __cplusplus
extern "C" {
#endif
#include "cuda_dnn.h"

#define CONV90 "conv90 " /* how the names of all begin, of other versions too */

/* Name of tile shape `index`, "conv90 192x256": rows (pixels) x columns (channels of
 * the result); NULL past the last. */
const char *conv90_name(int index);
/* Index of a name, -1 where it is none. */
int conv90_find(const char *name);
/* Whether that tile can do the problem on a device of this sm (10 major + minor). */
bool conv90_fits(int index, const struct dnn_problem *problem, int sm);
/* Of a call. */
int64_t conv90_workspace_bytes(const struct dnn_problem *problem, int multiprocessors);
/* Queues the pass on the stream, as dnn_plan_execute: tensors as in dnn_problem, on 16
 * bytes, the workspace too. The same bits every time. May be captured, after one call
 * outside. FF_EFAIL with what failed. */
int conv90_run(int index, const struct dnn_problem *problem, int multiprocessors,
               cudaStream_t stream, void *workspace, void *x, void *w, void *y,
               struct ff_err *err);

#ifdef __cplusplus
}
#endif
#endif
