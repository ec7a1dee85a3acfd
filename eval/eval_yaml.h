/* SPDX-License-Identifier: MIT */
/* The result of one evaluation: the table for people and eval-<name>.yaml. */
#ifndef FF_EVAL_YAML_H
#define FF_EVAL_YAML_H

#include <stdint.h>
#include <stdio.h>

#include "bootstrap.h"
#include "err.h"
#include "pair_accuracy.h"
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

/* Of `ff-eval pairs`. */
#define FF_EVAL_MAX_PAIRS 64
struct ff_eval_pairs {
    const char *name, *eval_key, *model_sha256, *backend; /* as above */
    double seconds;
    int count; /* files */
    struct ff_eval_pair_file {
        char name[FF_PAIR_NAME];
        int64_t pairs, same;
        struct ff_pair_accuracy accuracy;
    } file[FF_EVAL_MAX_PAIRS];
};
void ff_eval_print_pairs(FILE *f, const struct ff_eval_pairs *result);
int ff_eval_write_pairs_yaml(const char *path, const struct ff_eval_pairs *result,
                             struct ff_err *err);

/* The table, TAR in percent. */
void ff_eval_print(FILE *f, const struct ff_eval_result *result);

/* Writes path whole or not at all. FF_EFAIL. */
int ff_eval_write_yaml(const char *path, const struct ff_eval_result *result,
                       struct ff_err *err);

#endif
