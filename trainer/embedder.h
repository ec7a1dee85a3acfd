/* SPDX-License-Identifier: MIT */
/* A trained network as a function from aligned faces to embeddings. */
#ifndef FF_EMBEDDER_H
#define FF_EMBEDDER_H

#include <stdint.h>

#include "err.h"
#include "ops.h"

struct ff_embedder;
struct ff_model;

/* Opens model.h5, checkpoint.h5 or a safetensors state_dict for batches of `batch`. Of
 * the options backend, device and threads count: it computes in fp32 everywhere. Errors
 * as of ff_ops_open, and FF_EDATA. */
int ff_embedder_create(struct ff_embedder **out, const char *model_path, int batch,
                       const struct ff_ops_options *options, struct ff_err *err);
/* The network of a training run, as it is at every later call: borrowed, and in eval
 * mode only while ff_embedder_run works, so that training goes on as if nothing had
 * been. The batch is the network's. FF_ENOMEM. */
int ff_embedder_borrow(struct ff_embedder **out, struct ff_model *model,
                       struct ff_err *err);
void ff_embedder_destroy(struct ff_embedder *embedder);

int ff_embedder_image_size(const struct ff_embedder *embedder); /* side, pixels */
int ff_embedder_batch(const struct ff_embedder *embedder);      /* images a pass */
int ff_embedder_dim(const struct ff_embedder *embedder);        /* D */
/* One line on backend, library and instruction set. Borrowed. */
const char *ff_embedder_backend(const struct ff_embedder *embedder);

/* embedding (count, D) f32, not normalised, of pixels (count, H, W, 3) u8 RGB with
 * flip (count) 1 = mirror horizontally, NULL = none; BN in eval mode, fp32.
 * 1 <= count <= batch. */
int ff_embedder_run(float *embedding, struct ff_embedder *embedder,
                    const uint8_t *pixels, const uint8_t *flip, int count,
                    struct ff_err *err);

#endif
