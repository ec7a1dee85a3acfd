/* SPDX-License-Identifier: MIT */
/* The parameters of a run: one struct, one table (params.def), and everything that is
 * derived from the table: YAML reading, --set, help, params.yaml and the train key. */
#ifndef FF_PARAMS_H
#define FF_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "err.h"
#include "yaml_doc.h"

#define FF_PARAM_TEXT 1024 /* longest path parameter */
#define FF_PARAM_LIST 64   /* longest list parameter */
#define FF_PATHS_TEXT 2048 /* longest list of paths, all together */

enum ff_param_type {
    FF_PARAM_FLOAT,
    FF_PARAM_INT,
    FF_PARAM_BOOL,
    FF_PARAM_ENUM,  /* int index into the choices */
    FF_PARAM_PATH,  /* text, ${VAR} expanded on reading */
    FF_PARAM_WORD,  /* the same, but no path */
    FF_PARAM_INTS,  /* list of int64, increasing */
    FF_PARAM_PATHS, /* list of paths, ${VAR} expanded on reading */
};

/* What a parameter can change. */
enum ff_param_class {
    FF_PARAM_TRAINING,  /* the computation of a step: part of the train key */
    FF_PARAM_SCHEDULER, /* the learning rate alone: part of the train key */
    FF_PARAM_NEITHER,   /* cannot change a result */
};

struct ff_int_list {
    int64_t count, items[FF_PARAM_LIST];
};

enum ff_schedule_kind {
    FF_SCHEDULE_FASTFACE,
    FF_SCHEDULE_HAAR,
    FF_SCHEDULE_CONSTANT,
    FF_SCHEDULE_MULTISTEP,
    FF_SCHEDULE_POLYNOMIAL,
    FF_SCHEDULE_COSINE,
    FF_SCHEDULE_PLATEAU,
};
enum ff_slope_init { FF_SLOPE_INIT_EMA, FF_SLOPE_INIT_PUBLISHED };
enum ff_smooth { FF_SMOOTH_EMA, FF_SMOOTH_BOX };
enum ff_backbone {
    FF_BACKBONE_R18,
    FF_BACKBONE_R34,
    FF_BACKBONE_R50,
    FF_BACKBONE_R100,
    FF_BACKBONE_R200,
    FF_BACKBONE_MBF
};
enum ff_head { FF_HEAD_ARCFACE, FF_HEAD_COSFACE, FF_HEAD_SOFTMAX };
enum ff_margin_grad { FF_MARGIN_GRAD_STRAIGHT_THROUGH, FF_MARGIN_GRAD_EXACT };
enum ff_precision {
    FF_PRECISION_AUTO,
    FF_PRECISION_FP32,
    FF_PRECISION_FP16,
    FF_PRECISION_BF16
};
enum ff_head_precision { FF_HEAD_PRECISION_FP32, FF_HEAD_PRECISION_FP16 };
enum ff_backend { FF_BACKEND_AUTO, FF_BACKEND_CUDA, FF_BACKEND_ONEDNN, FF_BACKEND_REF };

/* One field a parameter, named as in params.def. `auto` is NaN for a float and 0 for
 * an int whose range starts at 1; ff_params_resolve replaces what it can. */
struct ff_params {
#define FF_FIELD_FLOAT(name) double name;
#define FF_FIELD_INT(name) int64_t name;
#define FF_FIELD_BOOL(name) bool name;
#define FF_FIELD_ENUM(name) int name;
#define FF_FIELD_PATH(name) char name[FF_PARAM_TEXT];
#define FF_FIELD_WORD(name) char name[FF_PARAM_TEXT];
#define FF_FIELD_INTS(name) struct ff_int_list name;
#define FF_FIELD_PATHS(name) char name[FF_PATHS_TEXT]; /* a newline after each */
#define FF_PARAM(name, type, ...) FF_FIELD_##type(name)
#include "params.def"
#undef FF_PARAM
};

/* A row of the table. */
struct ff_param_info {
    const char *name;
    enum ff_param_type type;
    const char *default_text, *neutral_text; /* as in YAML */
    double min, max;                         /* closed; of items for FF_PARAM_INTS */
    const char *choices;                     /* enum: "a b c" in index order */
    const char *unit, *help, *source;
    enum ff_param_class param_class;
    bool has_auto; /* the word "auto" is a value */
    size_t offset; /* in struct ff_params */
};

/* The table; *count rows, sorted as in params.def. Static storage. */
const struct ff_param_info *ff_params_table(size_t *count);
/* A row by name; NULL if there is none. */
const struct ff_param_info *ff_params_find(const char *name);
/* The valid name nearest to a misspelt one (edit distance); never NULL. */
const char *ff_params_nearest(const char *name);

void ff_params_defaults(struct ff_params *params);

/* Sets one value from text, as YAML or --set would. Unknown name (with the nearest
 * valid one), wrong type or out of range (with the range): FF_EUSAGE with a message
 * that starts with `where` ("grid.yaml:7" or "--set"). */
int ff_params_set(struct ff_params *params, const char *name, const char *text,
                  const char *where, struct ff_err *err);
/* Sets every entry of a YAML map. List items of a `milestones` map entry included. */
int ff_params_set_map(struct ff_params *params, const struct ff_yaml *doc,
                      const struct ff_yaml_node *map, struct ff_err *err);
/* "name=value" of --set. */
int ff_params_set_arg(struct ff_params *params, const char *assignment,
                      struct ff_err *err);
/* Walks a list of paths: copies the next one into `out` and moves *list (the field at
 * first) behind it. False at the end. */
bool ff_paths_next(char out[FF_PARAM_TEXT], const char **list);
/* Adds a path, as it is. FF_EUSAGE if it is empty, holds a line break or is longer than
 * FF_PARAM_TEXT - 1, or the list longer than FF_PATHS_TEXT - 1. */
int ff_paths_add(char list[FF_PATHS_TEXT], const char *path, struct ff_err *err);
/* A whole YAML file of parameters on top of what stands in params. */
int ff_params_load(struct ff_params *params, const char *path, struct ff_err *err);

/* Rules over several parameters (haar_width even, image_size a multiple of 16, halves
 * need cuda ...) and `auto` values that depend on others (margin by head). An empty
 * `data` is left to the program that needs it. FF_EUSAGE. */
int ff_params_resolve(struct ff_params *params, struct ff_err *err);

/* A value as YAML text into out (capacity bytes). */
void ff_params_text(char *out, size_t capacity, const struct ff_params *params,
                    const struct ff_param_info *info);
/* The same to f, whatever its length. */
void ff_params_write_value(FILE *f, const struct ff_params *params,
                           const struct ff_param_info *info);
/* All values as a YAML map, one line each, every line starting with `indent`. */
void ff_params_write(FILE *f, const struct ff_params *params, const char *indent);
/* The table for people, with defaults, ranges, units, sources. */
void ff_params_help(FILE *f);

/* Results that change only with this number get a new train key (see run_key.c). */
#define FF_NUMERICS 1

/* Train key: SHA-256 hex of the sorted "name=value\n" lines (%.17g) of the training and
 * scheduler parameters that differ from their frozen neutral value, then
 * "data=<fingerprint>", "init=<content hash>" if any, "numerics=<FF_NUMERICS>".
 * Paths do not count; `data_fingerprint` as printed by `ff-data info`; `init_hash` NULL
 * or "" without init. */
void ff_train_key(char out[65], const struct ff_params *params,
                  const char *data_fingerprint, const char *init_hash);

/* CPUs this process may use: affinity mask and cgroup quota, at least 1. */
int ff_cpu_count(void);

#endif
