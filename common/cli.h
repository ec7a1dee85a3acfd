/* SPDX-License-Identifier: MIT */
/* Command lines: long options from a static table that also prints the help. */
#ifndef FF_CLI_H
#define FF_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "err.h"

#define FF_VERSION "0.1.0"

enum ff_opt_kind {
    FF_OPT_FLAG,   /* bool * : set to true */
    FF_OPT_TEXT,   /* const char ** : borrowed from argv */
    FF_OPT_I64,    /* int64_t *, strict */
    FF_OPT_F64,    /* double *, strict */
    FF_OPT_ONOFF,  /* bool * from "on" | "off" */
    FF_OPT_REPEAT, /* struct ff_opt_list * : every occurrence */
    FF_OPT_HEADING /* a line of help, no option */
};

#define FF_OPT_REPEAT_MAX 64
struct ff_opt_list {
    int count;
    const char *items[FF_OPT_REPEAT_MAX];
};

struct ff_opt {
    const char *name;  /* "--out" */
    const char *value; /* name of the value in help, NULL for a flag */
    enum ff_opt_kind kind;
    void *target;
    const char *help;
    double min, max; /* of numbers; both 0 = any */
};

struct ff_cli {
    const char *program;  /* "ff-grid run" */
    const char *synopsis; /* after the program's name in the usage line */
    const char *summary;  /* a sentence or paragraph */
    const char *examples; /* ready-made lines, NULL = none */
    const struct ff_opt *options;
    int option_count;
};

/* Parses "--name value", "--name=value", -h/--help, --version, -v, -q (log level),
 * "--". Positional words are moved to the front of argv[1..]; *positional_count says
 * how many. Returns 0; 1 if help or version was printed (exit 0); FF_EUSAGE otherwise.
 * An unknown option names the nearest valid one; an empty text or word is refused. */
int ff_cli_parse(int *positional_count, const struct ff_cli *cli, int argc, char **argv,
                 struct ff_err *err);
void ff_cli_help(FILE *f, const struct ff_cli *cli);

/* What main returns: program's exit code, or FF_EXIT_FAILED where that is 0 and stdout
 * cannot be written. Descriptors 0 to 2 that the caller closed become /dev/null, so
 * that no file gets their number. SIGXFSZ is ignored: a write tells EFBIG. */
int ff_cli_main(int (*program)(int argc, char **argv), int argc, char **argv);

/* Whether the file or folder `path` that the user names can be read (NULL: names none);
 * else FF_EUSAGE. `name` is the option or parameter, NULL for a plain word. */
int ff_cli_check_input(const char *name, const char *path, struct ff_err *err);

/* The files of a command line, by the option or the word of the help: FF_EUSAGE where
 * one that is written is also another of them, which would be lost. NULL paths are
 * passed over. */
struct ff_cli_file {
    const char *option, *path;
    bool written;
};
int ff_cli_check_apart(const struct ff_cli_file *files, int count, struct ff_err *err);

/* Edit distance of two words (inserted, deleted, replaced characters; words over 63
 * characters compare by their start), to name the nearest valid one. */
int ff_edit_distance(const char *a, const char *b);

/* Git commit the program was built from ("unknown" outside a checkout). */
const char *ff_git_commit(void);

#endif
