/* SPDX-License-Identifier: MIT */
/* What a run will need, reckoned from its parameters before anything runs. Numbers of
 * parameters are those of the network; sizes are good to some ten percent and are only
 * used to warn and to refuse what cannot fit. */
#ifndef FF_ESTIMATE_H
#define FF_ESTIMATE_H

#include <stdint.h>

#include "params.h"

/* Trained numbers of the backbone, head excluded (r100, width 1, 112 px: 65.2 M). */
int64_t ff_estimate_parameters(const struct ff_params *params);

/* Bytes of model.h5, of checkpoint.h5 (weights, head and both momenta), and of the
 * curve of T iterations. */
int64_t ff_estimate_model_bytes(const struct ff_params *params);
int64_t ff_estimate_checkpoint_bytes(const struct ff_params *params, int64_t classes);
int64_t ff_estimate_curve_bytes(int64_t iterations);

/* Bytes of a training step: weights, gradients, momenta, head with its logits, and the
 * activations of one batch that the backward pass needs. */
int64_t ff_estimate_training_bytes(const struct ff_params *params, int64_t classes);

/* Bytes of scoring: features of `images`, scores of `pairs`. */
int64_t ff_estimate_eval_bytes(const struct ff_params *params, int64_t images,
                               int64_t pairs);

/* "1.2 GB", "340 MB", "12 kB" (decimal) into buf; returns buf. */
const char *ff_bytes_text(char buf[32], double bytes);

#endif
