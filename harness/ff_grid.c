/* SPDX-License-Identifier: MIT */
/* ff-grid: one FastFace run a cell of a grid, scored, as a heatmap.
 *
 * `ff-grid GRID.yaml` runs; other work is a verb in front. Each verb is a cmd_<verb>.c.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "log.h"

static const struct verb {
    const char *name, *words, *help;
    int (*run)(int argc, char **argv);
} verbs[] = {
    {"run", "GRID.yaml", "train and score the cells; goes on where it stopped",
     ff_cmd_run},
    {"plan", "GRID.yaml", "cells, order, time, disk, warnings; --measure", ff_cmd_plan},
    {"check", "GRID.yaml", "paths, counts, memory and disk before any work",
     ff_cmd_check},
    {"status", "DIR", "every cell, the time left, the heatmap; also while it runs",
     ff_cmd_status},
    {"eval", "DIR", "score finished cells again without training", ff_cmd_eval},
    {"plot", "DIR", "rebuild heatmap.h5, .png, .svg and report.html", ff_cmd_plot},
    {"export", "DIR", "the cells as CSV", ff_cmd_export},
};
#define VERB_COUNT (sizeof verbs / sizeof *verbs)

static void help(FILE *f)
{
    fprintf(
        f, "usage: ff-grid [run] GRID.yaml [options]\n"
           "       ff-grid VERB ... [options]     (ff-grid VERB --help tells more)\n\n"
           "Trains one FastFace run a cell of a grid over any parameters, one after "
           "the other,\nscores each, and writes the heatmap. An interrupted sweep goes "
           "on where it stopped.\n\nverbs:\n");
    for (size_t i = 0; i < VERB_COUNT; i++)
        fprintf(f, "  %-6s %-10s %s\n", verbs[i].name, verbs[i].words, verbs[i].help);
    fprintf(f, "\n  -h --help, --version, -v more, -q less, -n plan only (run)\n\n"
               "examples:\n"
               "  ff-grid check grids/lambda_tau.yaml\n"
               "  ff-grid grids/lambda_tau.yaml\n"
               "  ff-grid status results/lambda_tau\n");
}

static bool looks_like_file(const char *word)
{
    size_t length = strlen(word);
    return !access(word, F_OK) || strchr(word, '/') ||
           (length > 5 && !strcmp(word + length - 5, ".yaml")) ||
           (length > 4 && !strcmp(word + length - 4, ".yml"));
}

static int program(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return FF_EXIT_USAGE;
    }
    const char *word = argv[1];
    if (!strcmp(word, "-h") || !strcmp(word, "--help") || !strcmp(word, "help")) {
        help(stdout);
        return FF_EXIT_OK;
    }
    for (size_t i = 0; i < VERB_COUNT; i++)
        if (!strcmp(word, verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    if (word[0] == '-' || looks_like_file(word))
        return ff_cmd_run(argc, argv);
    ff_error("%s: neither a verb nor a grid file; ff-grid --help lists the verbs",
             word);
    return FF_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    return ff_cli_main(program, argc, argv);
}
