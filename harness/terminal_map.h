/* SPDX-License-Identifier: MIT */
/* A sheet as a table of text. */
#ifndef FF_TERMINAL_MAP_H
#define FF_TERMINAL_MAP_H

#include <stdbool.h>
#include <stdio.h>

#include "sheet.h"

/* Prints name, metric, one table a panel and a line that explains the marks in use.
 * `colour`: 256-colour backgrounds. */
void ff_terminal_map_print(FILE *f, const struct ff_sheet *sheet, bool colour);

#endif
