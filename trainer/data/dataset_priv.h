/* SPDX-License-Identifier: MIT */
/* What is behind struct ff_dataset, for ff-data, which reports on either kind. */
#ifndef FF_DATASET_PRIV_H
#define FF_DATASET_PRIV_H

#include "folder.h"
#include "recordio.h"

struct ff_dataset {
    struct ff_recordio *rec; /* NULL: a folder */
    struct ff_folder *folder;
};

#endif
