/* SPDX-License-Identifier: MIT */
/* The verbs of ff-data. argv[0] is the verb; the result is the process's exit code. */
#ifndef FF_DATA_CMD_H
#define FF_DATA_CMD_H

int ff_cmd_synth(int argc, char **argv);
int ff_cmd_pack(int argc, char **argv);
int ff_cmd_check(int argc, char **argv);
int ff_cmd_info(int argc, char **argv);

#endif
