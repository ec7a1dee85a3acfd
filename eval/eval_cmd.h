/* SPDX-License-Identifier: MIT */
/* The verbs of ff-eval: argv[0] is the verb; the result is the exit code. */
#ifndef FF_EVAL_CMD_H
#define FF_EVAL_CMD_H

#include "err.h"

int ff_cmd_ijb(int argc, char **argv);
int ff_cmd_pairs(int argc, char **argv);

/* enum ff_backend of --backend's word. FF_EUSAGE. */
int ff_eval_backend(int *backend, const char *word, struct ff_err *err);

#endif
