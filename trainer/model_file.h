/* SPDX-License-Identifier: MIT */
/* Models in files. model.h5: one dataset a tensor, named and shaped as insightface's
 * IResNet state_dict, with the CRC-32 of its bytes in the attribute "crc32".
 *
 * Root attributes: schema "ff-model/1", train_key, iteration, and every result
 * parameter as text, crc32 of all these. Equal runs give equal bytes. */
#ifndef FF_MODEL_FILE_H
#define FF_MODEL_FILE_H

#include <hdf5.h>

#include "model.h"

#define FF_MODEL_SCHEMA "ff-model/1"

/* What identifies a model or checkpoint beside its tensors. */
struct ff_model_stamp {
    const char *schema;
    const char *train_key; /* 64 hex digits */
    int64_t iteration;     /* steps taken */
    const struct ff_params *params;
};

/* Writes path through a temporary file. */
int ff_model_save(const char *path, const struct ff_model *model,
                  const struct ff_model_stamp *stamp, struct ff_err *err);

/* Shape of the network in a file: a model.h5 or checkpoint.h5 says it in its
 * attributes; in a safetensors file of a state_dict names and shapes tell. FF_EDATA. */
int ff_model_read_config(struct ff_model_config *config, const char *path,
                         struct ff_err *err);
/* Whether the file is HDF5, by its first bytes; safetensors otherwise. */
bool ff_model_is_h5(const char *path);
/* Every tensor of such a file into `model`; a missing one or another shape is FF_EDATA
 * with name and sizes. Weights are packed. */
int ff_model_load(struct ff_model *model, const char *path, struct ff_err *err);

/* Parts shared with the checkpoint: tensors of one block under `group` ("" = root), the
 * stamp as attributes. */
int ff_model_write_block(hid_t file, const char *group, const struct ff_model *model,
                         const struct ff_tensor *block, bool trained,
                         struct ff_err *err);
int ff_model_read_block(struct ff_model *model, hid_t file, const char *group,
                        struct ff_tensor *block, bool trained, struct ff_err *err);
int ff_model_write_counters(hid_t file, const struct ff_model *model,
                            struct ff_err *err);
int ff_model_read_counters(struct ff_model *model, hid_t file, struct ff_err *err);
int ff_model_write_stamp(hid_t file, const struct ff_model_stamp *stamp,
                         struct ff_err *err);

#endif
