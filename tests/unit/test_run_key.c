/* SPDX-License-Identifier: MIT */
/* Train key: frozen values, what enters and what does not. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#include "hash.h"
#include "params.h"

static void key_of(char out[65], const char *const *assignments)
{
    struct ff_params p;
    struct ff_err err = FF_ERR_INIT;
    ff_params_defaults(&p);
    for (; *assignments; assignments++)
        cr_assert(eq(int, ff_params_set_arg(&p, *assignments, &err), 0), "%s",
                  err.text);
    ff_train_key(out, &p, "f00d", NULL);
}

#define KEY(out, ...) key_of(out, (const char *const[]){__VA_ARGS__, NULL})

static const char plain[] = "tau=0.05";

Test(run_key, is_the_hash_of_the_sorted_lines)
{
    static const char lines[] = "backbone=r18\ngamma0=0.10000000000000001\n"
                                "milestones=[10,20]\nseed=1\ndata=f00d\nnumerics=1\n";
    char key[65], expected[65];
    ff_sha256(expected, lines, strlen(lines));
    KEY(key, "seed=1", "milestones=[10, 20]", "gamma0=0.1", "backbone=r18");
    cr_assert(eq(str, key, expected));
}

Test(run_key, is_frozen)
{
    /* These values are in users' sweeps: a change here makes every finished cell stale.
     * Change them only together with FF_NUMERICS. */
    char key[65];
    KEY(key, plain);
    cr_assert(eq(str, key,
                 "1a730007777d65de45bfa904bc093c1a6c8742c7f3e148a2ab824305643bd807"));
    KEY(key, "lambda=1.0e-4", "tau=0.03", "backbone=r18", "width=0.25", "epochs=15",
        "head=cosface", "schedule=haar", "smooth=box", "smooth_width=4000",
        "haar_width=4000");
    cr_assert(eq(str, key,
                 "8b5ec8d1e11d5df3853b074b4062e86f8970afc96985c37b0bfc0e2c90968bd6"));
}

Test(run_key, order_does_not_matter)
{
    char a[65], b[65];
    KEY(a, "lambda=1.0e-4", "tau=0.1", "seed=2");
    KEY(b, "seed=2", "tau=0.10", "lambda=0.0001");
    cr_assert(eq(str, a, b));
}

Test(run_key, neutral_parameters_do_not_enter)
{
    char a[65], b[65];
    KEY(a, plain);
    KEY(b, "backend=ref", "device=1", "threads=2", "workers=3", "deterministic=false",
        "data=/x", "init=/y", "max_bad_samples=1", "checkpoint_minutes=1",
        "checkpoint_every_iterations=5", "validate=/z.bin",
        "validate_every_iterations=3", "engine_search=true", "weights_beside=true");
    cr_assert(eq(str, a, b));
}

Test(run_key, every_other_parameter_enters)
{
    size_t count;
    const struct ff_param_info *table = ff_params_table(&count);
    char base[65];
    KEY(base, plain);
    for (size_t i = 0; i < count; i++) {
        const struct ff_param_info *info = &table[i];
        struct ff_params p;
        char key[65];
        ff_params_defaults(&p);
        void *field = (char *)&p + info->offset;
        if (info->param_class == FF_PARAM_NEITHER)
            continue;
        if (info->type == FF_PARAM_FLOAT)
            *(double *)field = 0.123;
        else if (info->type == FF_PARAM_INTS)
            *(struct ff_int_list *)field = (struct ff_int_list){1, {5}};
        else if (info->type == FF_PARAM_INT)
            *(int64_t *)field += 1;
        else
            *(int *)field = 1;
        ff_train_key(key, &p, "f00d", NULL);
        cr_assert(ne(str, key, base), "%s", info->name);
    }
}

Test(run_key, resolved_margin_is_the_automatic_one)
{
    static const char *const heads[] = {"arcface", "cosface", "softmax"};
    for (int i = 0; i < 3; i++) {
        struct ff_params p;
        char before[65], after[65];
        ff_params_defaults(&p);
        ff_params_set(&p, "head", heads[i], "t", NULL);
        ff_train_key(before, &p, "f", NULL);
        ff_params_resolve(&p, NULL);
        ff_train_key(after, &p, "f", NULL);
        cr_assert(eq(str, before, after), "%s", heads[i]);
    }
    char a[65], b[65];
    KEY(a, "margin=0.4");
    KEY(b, "margin=0.5");
    cr_assert(ne(str, a, b));
}

Test(run_key, data_and_init_enter_by_content)
{
    struct ff_params p;
    char a[65], b[65], c[65], d[65];
    ff_params_defaults(&p);
    ff_train_key(a, &p, "one", NULL);
    ff_train_key(b, &p, "two", NULL);
    ff_train_key(c, &p, "one", "hash");
    ff_train_key(d, &p, "one", "");
    cr_assert(ne(str, a, b));
    cr_assert(ne(str, a, c));
    cr_assert(eq(str, a, d));
}
