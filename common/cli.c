/* SPDX-License-Identifier: MIT */
/* Command lines from a table of options; see cli.h.
 *
 * Words are read from left to right; positional ones are collected at the front of
 * argv, which never overtakes the reading position. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "yaml_doc.h"

#ifndef FF_GIT_COMMIT
#define FF_GIT_COMMIT "unknown"
#endif

#define HELP_COLUMN 26
#define WORD_MAX 64

static const char *const common_names[] = {"--help", "--version"};

const char *ff_git_commit(void)
{
    return FF_GIT_COMMIT;
}

int ff_edit_distance(const char *a, const char *b)
{
    int row[WORD_MAX];
    int m = (int)strnlen(a, WORD_MAX - 1), n = (int)strnlen(b, WORD_MAX - 1);
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; i <= m; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = row[j];
            row[j] = best;
        }
    }
    return row[n];
}

/* Text wrapped to 88 columns, continued at `column`; the cursor stands at column. */
static void write_wrapped(FILE *f, const char *text, int column)
{
    int at = column;
    while (*text) {
        int n = (int)strcspn(text, " \n");
        if (at > column && at + 1 + n > 88) {
            fprintf(f, "\n%*s", column, "");
            at = column;
        } else if (at > column) {
            fputc(' ', f);
            at++;
        }
        fwrite(text, 1, (size_t)n, f);
        at += n;
        text += n;
        if (*text == '\n') {
            fprintf(f, "\n%*s", text[1] ? column : 0, "");
            at = column;
        }
        text += *text != 0;
    }
    fputc('\n', f);
}

static void write_option(FILE *f, const char *name, const char *value, const char *help)
{
    char left[128];
    int n = snprintf(left, sizeof left, "  %s%s%s", name, value ? " " : "",
                     value ? value : "");
    fprintf(f, "%-*s", HELP_COLUMN, left);
    if (n >= HELP_COLUMN)
        fprintf(f, "\n%*s", HELP_COLUMN, "");
    write_wrapped(f, help ? help : "", HELP_COLUMN);
}

void ff_cli_help(FILE *f, const struct ff_cli *cli)
{
    fprintf(f, "usage: %s %s\n\n", cli->program, cli->synopsis ? cli->synopsis : "");
    if (cli->summary) {
        write_wrapped(f, cli->summary, 0);
        fputc('\n', f);
    }
    fputs("options:\n", f);
    for (int i = 0; i < cli->option_count; i++) {
        const struct ff_opt *opt = &cli->options[i];
        if (opt->kind == FF_OPT_HEADING)
            fprintf(f, "\n%s\n", opt->help);
        else
            write_option(f, opt->name,
                         opt->value || opt->kind != FF_OPT_ONOFF ? opt->value
                                                                 : "on|off",
                         opt->help);
    }
    write_option(f, "-v, -q", NULL, "more messages; warnings and errors alone");
    write_option(f, "-h, --help", NULL, "this text");
    write_option(f, "--version", NULL, "version and git commit");
    if (cli->examples)
        fprintf(f, "\nexamples:\n%s%s", cli->examples,
                cli->examples[strlen(cli->examples) - 1] == '\n' ? "" : "\n");
}

static int unknown_option(const struct ff_cli *cli, const char *word, size_t length,
                          struct ff_err *err)
{
    char name[WORD_MAX];
    snprintf(name, sizeof name, "%.*s", (int)length, word);
    for (size_t i = 0; i < sizeof common_names / sizeof *common_names; i++)
        if (!strcmp(name, common_names[i]))
            return ff_err_set(err, FF_EUSAGE, "%s takes no value, but \"%s\" was given",
                              name, word + length + 1);
    const char *best = common_names[0];
    int best_distance = ff_edit_distance(name, best);
    for (int i = 0; i < cli->option_count + 1; i++) {
        const char *other =
            i < cli->option_count ? cli->options[i].name : common_names[1];
        if (i < cli->option_count && cli->options[i].kind == FF_OPT_HEADING)
            continue;
        int distance = ff_edit_distance(name, other);
        if (distance < best_distance) {
            best_distance = distance;
            best = other;
        }
    }
    return ff_err_set(err, FF_EUSAGE,
                      "unknown option \"%s\" (nearest: %s; %s --help lists all)", name,
                      best, cli->program);
}

static const struct ff_opt *find_option(const struct ff_cli *cli, const char *word,
                                        size_t length)
{
    for (int i = 0; i < cli->option_count; i++) {
        const struct ff_opt *opt = &cli->options[i];
        if (opt->kind != FF_OPT_HEADING && strlen(opt->name) == length &&
            !memcmp(opt->name, word, length))
            return opt;
    }
    return NULL;
}

static int check_range(const struct ff_opt *opt, const char *text, double value,
                       struct ff_err *err)
{
    if ((opt->min != 0 || opt->max != 0) && !(value >= opt->min && value <= opt->max))
        return ff_err_set(err, FF_EUSAGE, "%s: %s is out of range [%.10g, %.10g]",
                          opt->name, text, opt->min, opt->max);
    return 0;
}

/* Values that name a file or a folder, by their name in the help. */
static bool is_path(const char *value)
{
    static const char *const starts[] = {"DIR", "FILE", "CHECKPOINT", "GRID"};
    for (size_t i = 0; value && i < sizeof starts / sizeof *starts; i++)
        if (!strncmp(value, starts[i], strlen(starts[i])))
            return true;
    return false;
}

static int store(const struct ff_opt *opt, const char *text, struct ff_err *err)
{
    if ((opt->kind == FF_OPT_TEXT || opt->kind == FF_OPT_REPEAT) && !*text)
        return ff_err_set(err, FF_EUSAGE, "%s: an empty %s", opt->name,
                          is_path(opt->value) ? "path" : "value");
    switch (opt->kind) {
    case FF_OPT_FLAG: *(bool *)opt->target = true; return 0;
    case FF_OPT_TEXT: *(const char **)opt->target = text; return 0;
    case FF_OPT_I64:
        if (ff_parse_i64(opt->target, text))
            return ff_err_set(err, FF_EUSAGE, "%s: \"%s\" is not an integer", opt->name,
                              text);
        return check_range(opt, text, (double)*(int64_t *)opt->target, err);
    case FF_OPT_F64:
        if (ff_parse_f64(opt->target, text))
            return ff_err_set(err, FF_EUSAGE, "%s: \"%s\" is not a number", opt->name,
                              text);
        return check_range(opt, text, *(double *)opt->target, err);
    case FF_OPT_ONOFF:
        if (strcmp(text, "on") && strcmp(text, "off"))
            return ff_err_set(err, FF_EUSAGE, "%s: \"%s\" is neither on nor off",
                              opt->name, text);
        *(bool *)opt->target = !strcmp(text, "on");
        return 0;
    case FF_OPT_REPEAT: {
        struct ff_opt_list *list = opt->target;
        if (list->count == FF_OPT_REPEAT_MAX)
            return ff_err_set(err, FF_EUSAGE, "%s: given more than %d times", opt->name,
                              FF_OPT_REPEAT_MAX);
        list->items[list->count++] = text;
        return 0;
    }
    case FF_OPT_HEADING: break;
    }
    return 0;
}

/* Handles the option argv[*i], moving *i to its last word. */
static int parse_option(const struct ff_cli *cli, int argc, char **argv, int *i,
                        struct ff_err *err)
{
    const char *word = argv[*i], *value = NULL;
    size_t length = word[1] == '-' ? strcspn(word, "=") : strlen(word);
    const struct ff_opt *opt = find_option(cli, word, length);
    if (!opt)
        return unknown_option(cli, word, length, err);
    if (word[length])
        value = word + length + 1;
    if (opt->kind == FF_OPT_FLAG) {
        if (value)
            return ff_err_set(err, FF_EUSAGE, "%s takes no value, but \"%s\" was given",
                              opt->name, value);
    } else if (!value) {
        if (*i + 1 >= argc || !strncmp(argv[*i + 1], "--", 2))
            return ff_err_set(err, FF_EUSAGE, "%s needs a value: %s", opt->name,
                              opt->value ? opt->value : "on|off");
        value = argv[++*i];
    }
    return store(opt, value, err);
}

int ff_cli_parse(int *positional_count, const struct ff_cli *cli, int argc, char **argv,
                 struct ff_err *err)
{
    int positional = 0;
    bool options_end = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (!*word)
            return ff_err_set(err, FF_EUSAGE, "an empty path (usage: %s %s)",
                              cli->program, cli->synopsis);
        if (options_end || word[0] != '-' || !word[1]) {
            argv[1 + positional++] = argv[i];
        } else if (!strcmp(word, "--")) {
            options_end = true;
        } else if (!strcmp(word, "-h") || !strcmp(word, "--help")) {
            ff_cli_help(stdout, cli);
            return 1;
        } else if (!strcmp(word, "--version")) {
            printf("%.*s %s (%s)\n", (int)strcspn(cli->program, " "), cli->program,
                   FF_VERSION, ff_git_commit());
            return 1;
        } else if (!strcmp(word, "-v")) {
            ff_log_set_level(FF_LOG_VERBOSE);
        } else if (!strcmp(word, "-q")) {
            ff_log_set_level(FF_LOG_QUIET);
        } else {
            int rc = parse_option(cli, argc, argv, &i, err);
            if (rc)
                return rc;
        }
    }
    *positional_count = positional;
    return 0;
}

int ff_cli_check_input(const char *name, const char *path, struct ff_err *err)
{
    if (!path || !access(path, R_OK))
        return 0;
    return ff_err_errno(err, FF_EUSAGE, "%s%s%s: cannot read", name ? name : "",
                        name ? " " : "", path);
}

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !strcmp(a, b) || (!stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev &&
                             x.st_ino == y.st_ino);
}

int ff_cli_check_apart(const struct ff_cli_file *files, int count, struct ff_err *err)
{
    for (int i = 0; i < count; i++)
        for (int k = 0; k < count; k++)
            if (i != k && files[i].written && files[i].path && files[k].path &&
                same_file(files[i].path, files[k].path))
                return ff_err_set(err, FF_EUSAGE, "%s %s: is the file of %s too",
                                  files[i].option, files[i].path, files[k].option);
    return 0;
}

/* stdout's last bytes; where they are lost, a program that did well has failed. */
static int close_stdout(int exit_code)
{
    bool lost = ferror(stdout) != 0;
    errno = 0;
    if (!fclose(stdout) && !lost)
        return exit_code;
    ff_error("stdout: cannot write%s%s", errno ? ": " : "",
             errno ? strerror(errno) : "");
    return exit_code == FF_EXIT_OK ? FF_EXIT_FAILED : exit_code;
}

int ff_cli_main(int (*program)(int argc, char **argv), int argc, char **argv)
{
    int fd;
    do
        fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0)
        close(fd);
    signal(SIGXFSZ, SIG_IGN); /* a limit of file sizes is an error of the write */
    return close_stdout(program(argc, argv));
}
