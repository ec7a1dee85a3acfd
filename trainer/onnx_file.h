/* SPDX-License-Identifier: MIT */
/* A trained network as an ONNX model. */
#ifndef FF_ONNX_FILE_H
#define FF_ONNX_FILE_H

#include "model.h"

/* Writes path (through a temporary file): opset 13, input "input" (N, 3, H, W) f32 RGB
 * normalised as (x/255 - 0.5)/0.5, output "embedding" (N, D) f32, BN in eval mode, N
 * free; initialisers named as in the state_dict. FF_ENOMEM, FF_EFAIL, and FF_EUSAGE
 * where the model passes the 2 GB of a protobuf file. */
int ff_onnx_write(const char *path, const struct ff_model *model, struct ff_err *err);

#endif
