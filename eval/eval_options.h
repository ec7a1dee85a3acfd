/* SPDX-License-Identifier: MIT */
/* What several verbs of ff-eval ask for: where features come from, the switches of the
 * protocol, lists of rates. */
#ifndef FF_EVAL_OPTIONS_H
#define FF_EVAL_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "cli.h"
#include "err.h"
#include "eval_yaml.h"
#include "ops.h"
#include "pool.h"

struct ff_source_options {
    const char *root, *protocol, *model, *features, *backend_name, *save_features;
    const char *device; /* as the parameter of that name */
    const char *beside; /* the result file, or NULL */
    bool allow_missing;
    int64_t batch, threads;
    struct ff_pool_switches switches;
    int backend; /* enum ff_backend */
};

#define FF_SOURCE_INIT                                                                 \
    {                                                                                  \
        .protocol = "ijbc", .backend_name = "auto", .batch = 64,                       \
        .switches = {true, true, true},                                                \
    }

/* Rows of an option table that fill a struct ff_source_options. */
/* clang-format off */
#define FF_SOURCE_SET(o)                                                               \
    {NULL, NULL, FF_OPT_HEADING, NULL, "What to score", 0, 0},                         \
    {"--root", "DIR", FF_OPT_TEXT, &(o)->root,                                         \
     "evaluation set: meta/ and loose_crop/ below it", 0, 0},                          \
    {"--protocol", "NAME", FF_OPT_TEXT, &(o)->protocol,                                \
     "ijbc (default) or ijbb", 0, 0},                                                  \
    {"--model", "FILE", FF_OPT_TEXT, &(o)->model,                                      \
     "model.h5, or a state_dict as safetensors", 0, 0},                                \
    {"--features", "FILE.h5", FF_OPT_TEXT, &(o)->features,                             \
     "stored features instead of a model", 0, 0},                                      \
    {"--allow-missing", NULL, FF_OPT_FLAG, &(o)->allow_missing,                        \
     "leave out missing and corrupt pictures and say how many", 0, 0}
#define FF_SOURCE_SWITCHES(o)                                                          \
    {NULL, NULL, FF_OPT_HEADING, NULL, "Switches of the protocol", 0, 0},              \
    {"--flip", "on|off", FF_OPT_ONOFF, &(o)->switches.flip,                            \
     "add the mirror image's embedding (on)", 0, 0},                                   \
    {"--norm", "on|off", FF_OPT_ONOFF, &(o)->switches.norm,                            \
     "keep an embedding's length as quality weight (on)", 0, 0},                       \
    {"--det", "on|off", FF_OPT_ONOFF, &(o)->switches.det,                              \
     "weigh by the detector's score (on)", 0, 0}
#define FF_SOURCE_SAVE(o)                                                              \
    {"--save-features", "FILE.h5", FF_OPT_TEXT, &(o)->save_features,                   \
     "keep the features; an unfinished file of the same model is continued", 0, 0}
#define FF_SOURCE_MACHINE(o)                                                           \
    {NULL, NULL, FF_OPT_HEADING, NULL, "Machine", 0, 0},                               \
    {"--backend", "NAME", FF_OPT_TEXT, &(o)->backend_name,                             \
     "auto (default), cuda, onednn or ref", 0, 0},                                     \
    {"--device", "GPU", FF_OPT_TEXT, &(o)->device,                                     \
     "its number or UUID (0)", 0, 0},                                                  \
    {"--batch", "N", FF_OPT_I64, &(o)->batch,                                          \
     "images a pass of the network (64)", 1, 65536},                                   \
    {"--threads", "N", FF_OPT_I64, &(o)->threads,                                      \
     "CPU threads (all that may be used)", 1, 1024}
/* clang-format on */

/* Parses a command line that has options alone, no words. As ff_cli_parse. */
int ff_parse_no_words(const struct ff_cli *cli, int argc, char **argv,
                      struct ff_err *err);

/* After parsing: what is missing or contradicts itself, FF_EUSAGE; fills backend and
 * threads. */
int ff_source_check(struct ff_source_options *o, struct ff_err *err);

/* enum ff_backend of --backend's word. FF_EUSAGE. */
int ff_parse_backend(int *backend, const char *word, struct ff_err *err);

/* "1e-6,1e-5,...": rate (at most FF_EVAL_MAX_FAR) rising, each in (0, 1], none twice.
 * `option` stands in messages. FF_EUSAGE. */
int ff_parse_rates(double *rate, int *count, const char *text, const char *option,
                   struct ff_err *err);

/* Whether a file can be made at path, the value of `option` (NULL: not given), before
 * any work: FF_EFAIL where its folder is missing or closed or path is a folder,
 * FF_EUSAGE where ff_atomic_names refuses it. */
int ff_check_output(const char *option, const char *path, struct ff_err *err);

/* A verb's main: parse fills `options` (1 = help was asked for and shown), run works.
 * Says what is wrong; returns the exit code. */
struct ff_eval_verb {
    int (*parse)(void *options, int argc, char **argv, struct ff_err *err);
    int (*run)(const void *options, struct ff_err *err);
};
int ff_eval_main(const struct ff_eval_verb *verb, void *options, int argc, char **argv);

#endif
