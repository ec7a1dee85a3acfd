/* SPDX-License-Identifier: MIT */
/* ff-train: one training run. Start reading in train.c. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "export_cmd.h"
#include "log.h"
#include "process.h"
#include "train.h"

static int run(int argc, char **argv, struct ff_err *err)
{
    static const char *out, *from;
    static struct ff_opt_list set;
    static int64_t stop_after;
    static bool dry;
    static const struct ff_opt options[] = {
        {"--out", "DIR", FF_OPT_TEXT, &out, "run directory (made if missing)", 0, 0},
        {"--set", "name=value", FF_OPT_REPEAT, &set,
         "overrides a parameter; repeatable", 0, 0},
        {"--from", "CHECKPOINT", FF_OPT_TEXT, &from,
         "starts from this checkpoint where DIR holds none", 0, 0},
        {"--stop-after", "N", FF_OPT_I64, &stop_after,
         "stops with a checkpoint after N iterations (exit code 4)", 1, 1e15},
        {"-n", NULL, FF_OPT_FLAG, &dry, "prints the resolved parameters and stops", 0,
         0},
    };
    static const struct ff_cli cli = {
        .program = "ff-train",
        .synopsis =
            "PARAMS.yaml --out DIR [--set name=value]... | params | export MODEL ...",
        .summary = "Trains one face-recognition network. Goes on where DIR holds a "
                   "checkpoint; `ff-train params` prints every parameter, `ff-train "
                   "export` writes a model as ONNX.\n"
                   "Exit codes: 0 done, 2 bad parameters, 3 diverged, 4 stopped with a "
                   "checkpoint, 5 out of memory, 6 bad data, 7 DIR is in use.",
        .examples = "  ff-train params\n"
                    "  ff-train r18.yaml --out results/r18 --set batch=64 --set "
                    "data=faces/train\n"
                    "  ff-train r18.yaml --out results/r18          # again: resumes",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    struct ff_params params;
    int words;
    int rc = ff_cli_parse(&words, &cli, argc, argv, err);
    if (rc)
        return rc;
    if (words == 1 && strcmp(argv[1], "params") == 0) {
        ff_params_help(stdout);
        return 0;
    }
    if (words != 1 || (!out && !dry))
        return ff_err_set(err, FF_EUSAGE, "%s (see ff-train --help)",
                          words != 1 ? "one PARAMS.yaml is needed"
                                     : "--out DIR is needed");
    ff_params_defaults(&params);
    rc = ff_cli_check_input(NULL, argv[1], err);
    if (!rc)
        rc = ff_params_load(&params, argv[1], err);
    for (int i = 0; !rc && i < set.count; i++)
        rc = ff_params_set_arg(&params, set.items[i], err);
    if (!rc)
        rc = ff_params_resolve(&params, err);
    if (rc)
        return rc;
    ff_params_write(stdout, &params, "");
    fflush(stdout);
    if (dry)
        return 0;
    ff_stop_install();
    ff_stop_with_parent();
    struct ff_train_options train = {
        .out = out, .from = from, .stop_after = stop_after};
    return ff_train_run(&params, &train, err);
}

static int program(int argc, char **argv)
{
    struct ff_err err = FF_ERR_INIT;
    bool exports = argc > 1 && strcmp(argv[1], "export") == 0;
    int rc = exports ? ff_export_cmd(argc - 1, argv + 1, &err) : run(argc, argv, &err);
    if (rc > 0)
        return FF_EXIT_OK;
    if (rc < 0)
        ff_error("%s", err.text);
    return ff_err_exit_code(rc);
}

int main(int argc, char **argv)
{
    return ff_cli_main(program, argc, argv);
}
