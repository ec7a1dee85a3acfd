/* SPDX-License-Identifier: MIT */
/* The verbs of ff-eval: argv[0] is the verb; the result is the exit code. */
#ifndef FF_EVAL_CMD_H
#define FF_EVAL_CMD_H

int ff_cmd_ijb(int argc, char **argv);
int ff_cmd_pairs(int argc, char **argv);
int ff_cmd_identify(int argc, char **argv);

#endif
