/* SPDX-License-Identifier: MIT */
/* Options that several verbs of ff-eval share; see eval_options.h. */
#include "eval_options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "exit_code.h"
#include "log.h"
#include "params.h"
#include "yaml_doc.h"

int ff_parse_backend(int *backend, const char *word, struct ff_err *err)
{
    static const char *const names[] = {"auto", "cuda", "onednn", "ref"};
    for (*backend = 0; *backend < 4; ++*backend)
        if (!strcmp(word, names[*backend]))
            return 0;
    return ff_err_set(err, FF_EUSAGE,
                      "--backend: \"%s\" is none of auto, cuda, onednn, ref", word);
}

static int compare_rates(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int ff_parse_rates(double *rate, int *count, const char *text, const char *option,
                   struct ff_err *err)
{
    const char *p = text;
    *count = 0;
    for (;;) {
        char item[64];
        size_t length = strcspn(p, ",");
        snprintf(item, sizeof item, "%.*s", (int)length, p);
        double value;
        if (length >= sizeof item || ff_parse_f64(&value, item) ||
            !(value > 0 && value <= 1))
            return ff_err_set(err, FF_EUSAGE,
                              "%s: \"%s\" is not a rate above 0 and at most 1", option,
                              item);
        if (*count == FF_EVAL_MAX_FAR)
            return ff_err_set(err, FF_EUSAGE, "%s: more than %d rates", option,
                              FF_EVAL_MAX_FAR);
        rate[(*count)++] = value;
        if (!p[length])
            break;
        p += length + 1;
    }
    qsort(rate, (size_t)*count, sizeof *rate, compare_rates);
    for (int k = 1; k < *count; k++) {
        if (rate[k] == rate[k - 1])
            return ff_err_set(err, FF_EUSAGE, "%s: %g is given twice", option, rate[k]);
    }
    return 0;
}

int ff_parse_no_words(const struct ff_cli *cli, int argc, char **argv,
                      struct ff_err *err)
{
    int words;
    int rc = ff_cli_parse(&words, cli, argc, argv, err);
    return rc || !words ? rc
                        : ff_err_set(err, FF_EUSAGE, "unexpected word \"%s\"", argv[1]);
}

int ff_check_output(const char *option, const char *path, struct ff_err *err)
{
    char folder[FF_PATH_MAX], temporary[FF_PATH_MAX];
    struct stat st;
    if (!path)
        return 0;
    int rc = ff_atomic_names(folder, temporary, path, err);
    if (rc)
        return rc;
    char *slash = strrchr(folder, '/');
    if (slash)
        slash[1] = 0;
    bool is_folder = !stat(path, &st) && S_ISDIR(st.st_mode);
    errno = EISDIR;
    if (is_folder || access(slash ? folder : ".", W_OK | X_OK))
        return ff_err_errno(err, FF_EFAIL, "%s %s: cannot write", option, path);
    return 0;
}

int ff_eval_main(const struct ff_eval_verb *verb, void *options, int argc, char **argv)
{
    struct ff_err err = FF_ERR_INIT;
    int rc = verb->parse(options, argc, argv, &err);
    if (rc == 1)
        return FF_EXIT_OK;
    if (!rc)
        rc = verb->run(options, &err);
    if (rc)
        ff_error("%s", err.text);
    return ff_err_exit_code(rc);
}

int ff_source_check(struct ff_source_options *o, struct ff_err *err)
{
    if (!o->root)
        return ff_err_set(err, FF_EUSAGE, "--root DIR is needed");
    if (!o->model == !o->features)
        return ff_err_set(err, FF_EUSAGE, "one of --model and --features is needed");
    if (strcmp(o->protocol, "ijbc") && strcmp(o->protocol, "ijbb"))
        return ff_err_set(err, FF_EUSAGE, "--protocol: \"%s\" is neither ijbc nor ijbb",
                          o->protocol);
    if (o->features && o->save_features)
        return ff_err_set(err, FF_EUSAGE, "--save-features needs --model");
    if (!o->threads)
        o->threads = ff_cpu_count();
    int rc = ff_parse_backend(&o->backend, o->backend_name, err);
    if (!rc)
        rc = ff_cli_check_input("--root", o->root, err);
    if (!rc)
        rc = ff_cli_check_input("--model", o->model, err);
    if (!rc)
        rc = ff_cli_check_input("--features", o->features, err);
    return rc ? rc : ff_check_output("--save-features", o->save_features, err);
}
