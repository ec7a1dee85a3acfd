/* SPDX-License-Identifier: MIT */
/* Accuracy on pair files while a run trains: `validate`.
 *
 * The network of the run is used as it is, in eval mode: the pass reads weights and
 * running statistics and writes activations, which the next training step overwrites.
 * So the run's result does not depend on whether or when it is validated. Files are
 * read and their images decoded once before the first step, so that a bad one is found
 * then and not at the end of an epoch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "pair_score.h"
#include "process.h"
#include "train_priv.h"

struct ff_validation {
    struct ff_embedder *embedder;
    int count;
    struct validation_set {
        char name[FF_PAIR_NAME];
        struct ff_bin_pairs *pairs;
    } * sets; /* (count) */
};

static int add_set(struct ff_validation *v, const struct ff_train *run,
                   const char *path, struct ff_err *err)
{
    struct validation_set *grown =
        realloc(v->sets, (size_t)(v->count + 1) * sizeof *grown);
    if (!grown)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    v->sets = grown;
    struct validation_set *set = &grown[v->count];
    if (!ff_pair_name(set->name, path))
        return ff_err_set(err, FF_EUSAGE,
                          "validate: %s: the file's name must be of letters, digits, "
                          "_, - and points",
                          path);
    for (int i = 0; i < v->count; i++)
        if (!strcmp(grown[i].name, set->name))
            return ff_err_set(err, FF_EUSAGE, "validate: two files are named %s",
                              set->name);
    int rc = ff_bin_pairs_open(&set->pairs, path, err);
    if (rc)
        return rc;
    v->count++;
    return ff_pair_check(set->pairs, (int)run->params->image_size, run->threads, err);
}

int ff_validation_create(struct ff_validation **out, const struct ff_train *run,
                         struct ff_err *err)
{
    char path[FF_PARAM_TEXT];
    const char *list = run->params->validate;
    *out = NULL;
    if (!*list)
        return 0;
    struct ff_validation *v = calloc(1, sizeof *v);
    if (!v)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    int rc = ff_embedder_borrow(&v->embedder, run->model, err);
    while (!rc && ff_paths_next(path, &list))
        rc = add_set(v, run, path, err);
    if (rc)
        ff_validation_destroy(v);
    else
        *out = v;
    return rc;
}

void ff_validation_destroy(struct ff_validation *v)
{
    if (!v)
        return;
    for (int i = 0; i < v->count; i++)
        ff_bin_pairs_close(v->sets[i].pairs);
    ff_embedder_destroy(v->embedder);
    free(v->sets);
    free(v);
}

bool ff_validation_due(const struct ff_train *run)
{
    int64_t every = run->params->validate_every_iterations;
    if (!every)
        every = run->iterations_epoch;
    return run->validation && run->iteration > 0 &&
           (run->iteration % every == 0 || run->iteration == run->iterations);
}

int ff_validation_run(struct ff_train *run, struct ff_err *err)
{
    struct ff_validation *v = run->validation;
    double start = ff_now();
    for (int i = 0; i < v->count; i++) {
        struct ff_pair_accuracy found = {.mean = NAN, .std = NAN};
        struct ff_err inner = FF_ERR_INIT;
        int rc = ff_pair_score(&found, v->embedder, v->sets[i].pairs, run->threads,
                               NULL, &inner);
        if (rc == FF_EDATA) /* no finite numbers: for the loss to judge */
            ff_warn("iteration %lld: %s", (long long)run->iteration, inner.text);
        else if (rc)
            return ff_err_set(err, rc, "%s", inner.text);
        else
            ff_info("iteration %lld: %s accuracy %.3f +- %.3f %%",
                    (long long)run->iteration, v->sets[i].name, found.mean, found.std);
        rc =
            ff_train_write_validation(run, v->sets[i].name, found.mean, found.std, err);
        if (rc)
            return rc;
    }
    run->started += ff_now() - start; /* the speed is that of training */
    return 0;
}
