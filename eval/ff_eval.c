/* SPDX-License-Identifier: MIT */
/* ff-eval: scores a face recognition model; here only the verb is read. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "eval_cmd.h"
#include "exit_code.h"
#include "log.h"

static const struct verb {
    const char *name, *help;
    int (*run)(int argc, char **argv);
} verbs[] = {
    {"ijb", "IJB-B / IJB-C 1:1 verification of templates: TAR at FAR", ff_cmd_ijb},
    {"pairs", "files of pairs (LFW, CFP-FP, AgeDB-30): accuracy over ten folds",
     ff_cmd_pairs},
    {"identify", "IJB-B / IJB-C 1:N identification: TPIR at FPIR, ranks",
     ff_cmd_identify},
};

enum { VERBS = sizeof verbs / sizeof *verbs };

static void help(FILE *f)
{
    fprintf(f, "usage: ff-eval VERB ...\n\nScores a face recognition model.\n\n");
    for (int i = 0; i < VERBS; i++)
        fprintf(f, "  %-10s%s\n", verbs[i].name, verbs[i].help);
    fprintf(f, "\nff-eval VERB --help tells about one verb.\n");
}

static int program(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (!strcmp(word, "-h") || !strcmp(word, "--help")) {
        help(stdout);
        return FF_EXIT_OK;
    }
    if (!strcmp(word, "--version")) {
        printf("ff-eval %s (%s)\n", FF_VERSION, ff_git_commit());
        return FF_EXIT_OK;
    }
    for (int i = 0; i < VERBS; i++) {
        if (!strcmp(word, verbs[i].name))
            return verbs[i].run(argc - 1, argv + 1);
    }
    if (*word)
        ff_error("no verb \"%s\"; there are ijb, identify and pairs", word);
    else
        help(stderr);
    return FF_EXIT_USAGE;
}

int main(int argc, char **argv)
{
    return ff_cli_main(program, argc, argv);
}
