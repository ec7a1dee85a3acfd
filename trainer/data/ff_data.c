/* SPDX-License-Identifier: MIT */
/* ff-data: makes training data, packs it, checks it; here only the verb is read. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "data_cmd.h"
#include "exit_code.h"
#include "log.h"

static const struct verb {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} verbs[] = {
    {"synth", "synthetic faces: a training set and an IJB-C style evaluation set",
     ff_cmd_synth},
    {"pack", "a folder of identities into RecordIO, as it is or aligned", ff_cmd_pack},
    {"check", "decode everything; list damage, wrong labels and duplicates",
     ff_cmd_check},
    {"info", "what a training set holds, as YAML", ff_cmd_info},
};

enum { VERBS = sizeof verbs / sizeof *verbs };

static void help(FILE *f)
{
    fprintf(f,
            "usage: ff-data VERB ...\n\nMakes training data, packs it, checks it.\n\n");
    for (int i = 0; i < VERBS; i++)
        fprintf(f, "  %-8s%s\n", verbs[i].name, verbs[i].help);
    fprintf(f, "\nff-data VERB --help tells about one verb.\n");
}

static int program(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "-h") == 0 || strcmp(word, "--help") == 0) {
        help(stdout);
        return FF_EXIT_OK;
    }
    if (strcmp(word, "--version") == 0) {
        printf("ff-data %s (%s)\n", FF_VERSION, ff_git_commit());
        return FF_EXIT_OK;
    }
    for (int i = 0; i < VERBS; i++) {
        if (strcmp(word, verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    }
    if (*word)
        ff_error("no verb \"%s\"; there are synth, pack, check and info", word);
    else
        help(stderr);
    return FF_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    return ff_cli_main(program, argc, argv);
}
