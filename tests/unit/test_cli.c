/* SPDX-License-Identifier: MIT */
/* Command lines: every kind of option, positional words, refusals, help. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <criterion/redirect.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static bool dry, flip;
static const char *out_path;
static int64_t cells;
static double hours;
static struct ff_opt_list sets;

static const struct ff_opt options[] = {
    {"--out", "DIR", FF_OPT_TEXT, &out_path, "where the results go", 0, 0},
    {NULL, NULL, FF_OPT_HEADING, NULL, "limits:", 0, 0},
    {"--max-cells", "N", FF_OPT_I64, &cells, "stop after N cells", 1, 100},
    {"--max-hours", "H", FF_OPT_F64, &hours, "stop after H hours", 0, 0},
    {"--flip", NULL, FF_OPT_ONOFF, &flip, "flip test", 0, 0},
    {"--set", "NAME=VALUE", FF_OPT_REPEAT, &sets, "a parameter", 0, 0},
    {"-n", NULL, FF_OPT_FLAG, &dry, "show, do nothing", 0, 0},
};
static const struct ff_cli cli = {"ff-grid run",  "GRID.yaml [options]",
                                  "Runs a grid.", "  ff-grid run a.yaml",
                                  options,        sizeof options / sizeof options[0]};

static int parse(int *positional, char **argv, struct ff_err *err)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    dry = flip = false;
    out_path = NULL;
    cells = 0;
    hours = 0;
    sets.count = 0;
    return ff_cli_parse(positional, &cli, argc, argv, err);
}

#define ARGV(...)                                                                      \
    (char *[])                                                                         \
    {                                                                                  \
        "ff-grid", __VA_ARGS__, NULL                                                   \
    }

static void refused(char **argv, const char *message)
{
    int n;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, parse(&n, argv, &err), FF_EUSAGE), "accepted");
    cr_assert(eq(str, err.text, (char *)message));
}

Test(cli, every_kind_and_positional_words)
{
    int n;
    struct ff_err err = FF_ERR_INIT;
    char **argv =
        ARGV("a.yaml", "--out", "d", "--max-cells=3", "--max-hours", "-2.5", "-n", "b",
             "--flip", "on", "--set", "x=1", "--set=y=2", "-", "--", "--c");
    cr_assert(eq(int, parse(&n, argv, &err), 0), "%s", err.text);
    cr_assert(eq(int, n, 4));
    cr_assert(eq(str, argv[1], "a.yaml"));
    cr_assert(eq(str, argv[2], "b"));
    cr_assert(eq(str, argv[3], "-"));
    cr_assert(eq(str, argv[4], "--c"));
    cr_assert(eq(str, (char *)out_path, "d"));
    cr_assert(eq(i64, cells, 3));
    cr_assert(eq(dbl, hours, -2.5));
    cr_assert(dry && flip);
    cr_assert(eq(int, sets.count, 2));
    cr_assert(eq(str, (char *)sets.items[1], "y=2"));
}

Test(cli, refusals)
{
    refused(
        ARGV("--max-cell", "3"),
        "unknown option \"--max-cell\" (nearest: --max-cells; ff-grid run --help lists "
        "all)");
    refused(ARGV("-x"),
            "unknown option \"-x\" (nearest: -n; ff-grid run --help lists all)");
    refused(ARGV("--max-cells", "3x"), "--max-cells: \"3x\" is not an integer");
    refused(ARGV("--max-cells", "101"), "--max-cells: 101 is out of range [1, 100]");
    refused(ARGV("--max-hours", "1,5"), "--max-hours: \"1,5\" is not a number");
    refused(ARGV("--flip", "yes"), "--flip: \"yes\" is neither on nor off");
    refused(ARGV("--out"), "--out needs a value: DIR");
    refused(ARGV("--out", "--flip", "on"), "--out needs a value: DIR");
    refused(ARGV("--flip"), "--flip needs a value: on|off");
    refused(ARGV("--help=3"), "--help takes no value, but \"3\" was given");
    refused(ARGV("--version="), "--version takes no value, but \"\" was given");
    refused(ARGV("-n=3"),
            "unknown option \"-n=3\" (nearest: -n; ff-grid run --help lists all)");
}

Test(cli, empty_paths_and_values)
{
    refused(ARGV("a.yaml", "--out", ""), "--out: an empty path");
    refused(ARGV("a.yaml", "--out="), "--out: an empty path");
    refused(ARGV("--set", ""), "--set: an empty value");
    refused(ARGV(""), "an empty path (usage: ff-grid run GRID.yaml [options])");
    refused(ARGV("--", ""), "an empty path (usage: ff-grid run GRID.yaml [options])");
}

Test(cli, too_many_repeats)
{
    char *argv[2 * 65 + 2] = {"ff-grid"};
    for (int i = 0; i < 65; i++) {
        argv[1 + 2 * i] = "--set";
        argv[2 + 2 * i] = "a=1";
    }
    refused(argv, "--set: given more than 64 times");
}

Test(cli, help_lists_every_option)
{
    char *text;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    ff_cli_help(f, &cli);
    fclose(f);
    cr_assert(
        eq(int, strncmp(text, "usage: ff-grid run GRID.yaml [options]\n", 39), 0));
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        if (options[i].name)
            cr_assert(strstr(text, options[i].name) != NULL, "%s", options[i].name);
        cr_assert(strstr(text, options[i].help) != NULL, "%s", options[i].help);
    }
    cr_assert(strstr(text, "--flip on|off") && strstr(text, "--version"));
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        cr_assert(le(sz, strlen(line), 88));
    free(text);
}

Test(cli, help_and_version_end_the_program_well)
{
    int n;
    cr_redirect_stdout();
    cr_assert(eq(int, parse(&n, ARGV("--help"), NULL), 1));
    cr_assert(eq(int, parse(&n, ARGV("x", "-h"), NULL), 1));
    cr_assert(eq(int, parse(&n, ARGV("--version"), NULL), 1));
}

Test(cli, edit_distance)
{
    cr_assert(eq(int, ff_edit_distance("lamda", "lambda"), 1));
    cr_assert(eq(int, ff_edit_distance("", "abc"), 3));
    cr_assert(eq(int, ff_edit_distance("kitten", "sitting"), 3));
    cr_assert(eq(int, ff_edit_distance("same", "same"), 0));
}
