/* SPDX-License-Identifier: MIT */
/* Small runs of ff_train_run, for the tests of the cuda backend: a suite that does them
 * has setup and teardown, which make a set of pictures, params and a scratch folder. */
#ifndef FF_CUDA_TRAIN_FIXTURE_H
#define FF_CUDA_TRAIN_FIXTURE_H

#include "cuda_fixture.h"
#include "data_fixture.h"
#include "hash.h"
#include "train.h"

#ifdef __SANITIZE_ADDRESS__ /* ten times slower there */
enum { EACH = 4, T = 4 };
#else
enum { EACH = 8, T = 10 };
#endif
enum { SIDE = 32, IDENTITIES = 5, BATCH = 8, EPOCHS = 2, STOP = 3 };
_Static_assert(T == EPOCHS * (IDENTITIES * EACH / BATCH), "the iterations of a run");

static struct scratch scratch;
static struct ff_params params;

static inline void set(const char *assignment)
{
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_params_set_arg(&params, assignment, &err), 0), "%s", err.text);
}

static inline void setup(void)
{
    static const char *const settings[] = {
        "backbone=r18", "width=0.05",  "image_size=32", "embedding=16",
        "batch=8",      "epochs=2",    "backend=cuda",  "threads=1",
        "workers=1",    "gamma0=0.01", "scale=16.0",    "checkpoint_minutes=0.0",
        "head=cosface",
    };
    scratch_init(&scratch);
    cr_assert(eq(int, make_set(at(&scratch, "set"), IDENTITIES, EACH, SIDE, 0), 0));
#ifdef FF_CUDA_EMULATED /* choices of a card are kept from test to test */
    setenv("XDG_CACHE_HOME", at(&scratch, "cache"), 1);
#endif
    ff_params_defaults(&params);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        set(settings[i]);
    snprintf(params.data, sizeof params.data, "%s/set", scratch.dir);
    cr_assert(eq(int, ff_params_resolve(&params, NULL), 0));
    struct side s = cuda_open_side(FF_PRECISION_FP32, 0); /* or skips the test */
    side_close(&s);
}

static inline void teardown(void)
{
    scratch_fini(&scratch);
}

static inline int train(const char *name, int64_t stop_after, struct ff_err *err)
{
    struct ff_train_options options = {.out = at(&scratch, name),
                                       .stop_after = stop_after};
    return ff_train_run(&params, &options, err);
}

static inline void train_ok(const char *name)
{
    struct ff_err err = FF_ERR_INIT;
    int rc = train(name, 0, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
}

struct curve {
    int lines, skipped;
    double loss[64], norm[64], scale[64];
};

static inline struct curve read_curve(const char *name)
{
    struct curve c = {0};
    char line[512], path[64];
    snprintf(path, sizeof path, "%s/curve.csv", name);
    FILE *f = fopen(at(&scratch, path), "r");
    cr_assert(ne(ptr, f, NULL));
    cr_assert(ne(ptr, fgets(line, sizeof line, f), NULL));
    while (c.lines < 64 && fgets(line, sizeof line, f)) {
        int iteration, skipped;
        cr_assert(
            eq(int,
               sscanf(line, "%d,%*d,%lf,%*f,%*f,%lf,%d,%lf", &iteration,
                      &c.loss[c.lines], &c.scale[c.lines], &skipped, &c.norm[c.lines]),
               5));
        cr_assert(eq(int, iteration, c.lines));
        c.skipped += skipped;
        c.lines++;
    }
    fclose(f);
    return c;
}

static inline void same_file(const char *a, const char *b, const char *name)
{
    char x[FF_SHA256_HEX], y[FF_SHA256_HEX], path[2][64];
    snprintf(path[0], sizeof path[0], "%s/%s", a, name);
    snprintf(path[1], sizeof path[1], "%s/%s", b, name);
    cr_assert(eq(int, ff_sha256_file(x, at(&scratch, path[0]), NULL), 0));
    cr_assert(eq(int, ff_sha256_file(y, at(&scratch, path[1]), NULL), 0));
    cr_assert(eq(str, x, y), "%s differs from %s", path[0], path[1]);
}

#endif
