/* SPDX-License-Identifier: MIT */
/* What ff-grid's children are told: the machine of the run is the machine of its
 * scoring. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "child_argv.h"

TestSuite(child_argv, .timeout = 60);

static const struct ff_programs programs = {.eval = "ff-eval"};
static const struct ff_grid_eval entry = {
    .root = "set", .protocol = "ijbc", .name = "held_out", .flip = true};

/* The word behind an option; NULL where it is not given. */
static const char *given(const struct ff_child_argv *argv, const char *option)
{
    cr_assert(eq(ptr, (void *)argv->items[argv->count], NULL));
    for (int i = 0; i < argv->count; i++)
        if (!strcmp(argv->items[i], option))
            return argv->items[i + 1];
    return NULL;
}

Test(child_argv, scoring_runs_where_the_run_did)
{
    struct ff_child_argv argv;
    struct ff_params params;
    struct ff_err err = FF_ERR_INIT;
    ff_params_defaults(&params);
    ff_child_argv_eval(&argv, &programs, &entry, &params, "m.h5", "e.yaml");
    cr_assert(eq(str, (char *)given(&argv, "--model"), "m.h5"));
    cr_assert(eq(str, (char *)given(&argv, "--flip"), "on"));
    cr_assert(eq(ptr, (void *)given(&argv, "--backend"), NULL));
    cr_assert(eq(ptr, (void *)given(&argv, "--device"), NULL));
    cr_assert(eq(ptr, (void *)given(&argv, "--threads"), NULL));
    static const char *const set[] = {"backend=cuda", "device=GPU-8d6fa5c2",
                                      "threads=3"};
    for (int i = 0; i < 3; i++)
        cr_assert(eq(int, ff_params_set_arg(&params, set[i], &err), 0), "%s", err.text);
    ff_child_argv_eval(&argv, &programs, &entry, &params, "m.h5", "e.yaml");
    cr_assert(eq(str, (char *)given(&argv, "--backend"), "cuda"));
    cr_assert(eq(str, (char *)given(&argv, "--device"), "GPU-8d6fa5c2"));
    cr_assert(eq(str, (char *)given(&argv, "--threads"), "3"));
}
