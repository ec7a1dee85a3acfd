/* SPDX-License-Identifier: MIT */
/* The result of one evaluation: the table for people and eval-<name>.yaml. */
#ifndef FF_EVAL_YAML_H
#define FF_EVAL_YAML_H

#include <stdint.h>
#include <stdio.h>

#include "bootstrap.h"
#include "err.h"
#include "pool.h"
#include "roc.h"

#define FF_EVAL_MAX_FAR 64

struct ff_eval_result {
    const char *name, *protocol; /* "ijbc" */
    const char *eval_key;        /* NULL = not given */
    const char *model_sha256;    /* "" = unknown */
    const char *backend;         /* of the network; "none" when scored from features */
    struct ff_pool_switches switches;
    int64_t images, templates, pairs, genuine, missing;
    double seconds;
    int far_count;
    struct ff_roc_point tar[FF_EVAL_MAX_FAR], compat[FF_EVAL_MAX_FAR];
    int replicates; /* 0 = no bootstrap */
    int32_t identities;
    struct ff_bootstrap_interval interval[FF_EVAL_MAX_FAR];
};

/* The table, TAR in percent. */
void ff_eval_print(FILE *f, const struct ff_eval_result *result);

/* Writes path whole or not at all. FF_EFAIL. */
int ff_eval_write_yaml(const char *path, const struct ff_eval_result *result,
                       struct ff_err *err);

#endif
