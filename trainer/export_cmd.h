/* SPDX-License-Identifier: MIT */
/* ff-train export: a trained model in other programs' formats. */
#ifndef FF_EXPORT_CMD_H
#define FF_EXPORT_CMD_H

#include "err.h"

/* argv[0] is the verb. Returns 0, 1 after help or version, or an error. */
int ff_export_cmd(int argc, char **argv, struct ff_err *err);

#endif
