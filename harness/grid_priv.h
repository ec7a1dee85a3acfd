/* SPDX-License-Identifier: MIT */
/* Inside of the grid reader, shared by grid.c (the file) and grid_axes.c (axes, seeds,
 * rules and the cells that they span). */
#ifndef FF_GRID_PRIV_H
#define FF_GRID_PRIV_H

#include "grid.h"
#include "yaml_doc.h"

struct ff_grid_reader {
    struct ff_grid *grid;
    const struct ff_yaml *doc;
    struct ff_err *err;
};

/* FF_EUSAGE with "<path>:<line>: " in front. */
int ff_grid_bad(const struct ff_grid_reader *r, const struct ff_yaml_node *node,
                const char *fmt, ...) __attribute__((format(printf, 3, 4)));

size_t ff_grid_table_index(const struct ff_param_info *info);
/* Puts the current directory in front of a relative path. */
int ff_grid_make_absolute(char path[FF_PARAM_TEXT], struct ff_err *err);

/* The same for every path of a list. */
int ff_grid_paths_absolute(char list[FF_PATHS_TEXT], struct ff_err *err);

/* The sections of a grid file; node NULL where seeds: is absent. */
int ff_grid_read_sweep(struct ff_grid_reader *r, const struct ff_yaml_node *node);
int ff_grid_read_seeds(struct ff_grid_reader *r, const struct ff_yaml_node *node);
int ff_grid_read_exclude(struct ff_grid_reader *r, const struct ff_yaml_node *node);
/* Makes and resolves the cells. */
int ff_grid_spread(struct ff_grid *grid, struct ff_err *err);

#endif
