/* SPDX-License-Identifier: MIT */
/* The scripted executor; see exec_fake.h. A good training leaves model.h5, DONE,
 * summary.yaml and curve.csv, a good evaluation its YAML file; their numbers are drawn
 * from the hash of the train key, so that equal cells have equal outcomes. */
#include "exec_fake.h"

#include <stdlib.h>
#include <string.h>

#include "hash.h"
#include "pair_accuracy.h"

static FILE *create(const struct ff_fake *fake, const char *name)
{
    char path[2 * FF_PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", fake->dir, name);
    return fopen(path, "we");
}

static void leave_curve(const struct ff_fake *fake, int iterations)
{
    FILE *f = create(fake, "curve.csv");
    if (!f)
        return;
    fprintf(f, "iteration,epoch,loss,lr,slope,loss_scale,skipped,grad_norm\n");
    for (int i = 0; i < iterations; i++)
        fprintf(f, "%d,0,%.9g,0.02,0.001,1,0,1.5\n", i, 10.0 / (1 + i));
    fclose(f);
}

static void leave_run(const struct ff_fake *fake)
{
    char sha[FF_SHA256_HEX];
    const char *key = strrchr(fake->dir, '/') + 1;
    FILE *f = create(fake, "model.h5");
    if (!f)
        return;
    fprintf(f, "model of %s", key);
    fclose(f);
    f = create(fake, "checkpoint.h5");
    if (f)
        fclose(f);
    leave_curve(fake, 10);
    f = create(fake, "summary.yaml");
    if (f) {
        fprintf(f, "iteration: 10\nfinal_loss: 1.25\nseconds: 20.0\n"
                   "samples_per_second: 64.0\nchanges: [3, 7]\nbit_equal: true\n"
                   "backend: fake\ndevice: none\n");
        fclose(f);
    }
    ff_sha256(sha, key, strlen(key));
    f = create(fake, "DONE");
    if (f) {
        fprintf(f, "iteration: 10\nsha256: %s\n", sha);
        fclose(f);
    }
}

static void leave_score(const struct ff_fake *fake)
{
    char sha[FF_SHA256_HEX];
    const char *key = strrchr(fake->dir, '/') + 1;
    ff_sha256(sha, key, strlen(key));
    double tar = (double)strtoul((char[]){sha[0], sha[1], sha[2], 0}, NULL, 16) / 40.96;
    FILE *f = fopen(fake->out, "we");
    if (!f)
        return;
    fprintf(f, "protocol: %s\nmodel_sha256: %s\neval_key: %s\n",
            fake->bins[0] ? "pairs" : "ijbc", sha, fake->key);
    if (fake->bins[0])
        fprintf(f, "accuracy:\n");
    char name[FF_PAIR_NAME], bin[FF_PARAM_TEXT];
    const char *list = fake->bins;
    for (int k = 0; ff_paths_next(bin, &list); k++) {
        ff_pair_name(name, bin);
        fprintf(f, "  - {name: %s, accuracy: %.6f, std: 1.0, pairs: 320, same: 160}\n",
                name, tar / (1 + k));
    }
    if (fake->bins[0]) {
        fclose(f);
        return;
    }
    for (int kind = 0; kind < 2; kind++) {
        fprintf(f, kind ? "compat:\n" : "tar:\n");
        for (int k = -6; k < 0; k++)
            fprintf(f,
                    "  - {far: 1.0e%d, tar: %.6f, threshold: 0.5, false_accepts: 1, "
                    "actual_far: 1.0e%d}\n",
                    k, tar, k);
    }
    fclose(f);
}

static const char *after(const char *const *argv, const char *option)
{
    for (int i = 1; argv[i] && argv[i + 1]; i++)
        if (!strcmp(argv[i], option))
            return argv[i + 1];
    return "";
}

static int fake_start(void *context, pid_t *pid, const char *const *argv,
                      const char *log_path, struct ff_err *err)
{
    struct ff_fake *fake = context;
    bool train = strstr(argv[0], "ff-train") != NULL;
    if (fake->running)
        return ff_err_set(err, FF_EFAIL, "a second child while one runs");
    fake->now = (struct ff_fake_step){NULL, FF_FAKE_SUCCEED, 0, 0};
    if (fake->started < fake->step_count)
        fake->now = fake->steps[fake->started];
    const char *words = "last words";
    if (fake->words && fake->started < fake->step_count && fake->words[fake->started])
        words = fake->words[fake->started];
    if (fake->now.program && !strstr(argv[0], fake->now.program))
        fake->surprises++;
    fake->started++;
    *(train ? &fake->trained : &fake->scored) += 1;
    fake->last_argv[0] = 0;
    for (int i = 0; argv[i]; i++)
        if (strlen(fake->last_argv) + strlen(argv[i]) + 2 < sizeof fake->last_argv)
            strcat(strcat(fake->last_argv, i ? " " : ""), argv[i]);
    snprintf(fake->out, sizeof fake->out, "%s", after(argv, "--out"));
    snprintf(fake->dir, sizeof fake->dir, "%s", fake->out);
    if (!train && strrchr(fake->dir, '/'))
        *strrchr(fake->dir, '/') = 0;
    snprintf(fake->name, sizeof fake->name, "%s", train ? "" : after(argv, "--name"));
    snprintf(fake->key, sizeof fake->key, "%s", train ? "" : after(argv, "--key"));
    fake->bins[0] = 0;
    for (int i = 1; argv[i] && argv[i + 1]; i++)
        if (!strcmp(argv[i], "--bin"))
            ff_paths_add(fake->bins, argv[i + 1], NULL);
    /* ff-eval makes the file at once and fills it. */
    FILE *features = *after(argv, "--save-features")
                         ? fopen(after(argv, "--save-features"), "we")
                         : NULL;
    if (features)
        fclose(features);
    FILE *log = fopen(log_path, "ae");
    if (log) {
        fprintf(log, "playing %s\n%s\n", argv[0], words);
        fclose(log);
    }
    fake->running = true;
    *pid = 0;
    return 0;
}

static struct ff_child_result end_by(struct ff_fake *fake)
{
    bool train = !fake->name[0];
    struct ff_child_result result = {FF_CHILD_EXITED, FF_EXIT_OK};
    fake->running = false;
    switch (fake->now.act) {
    case FF_FAKE_SUCCEED:
        if (train)
            leave_run(fake);
        else
            leave_score(fake);
        break;
    case FF_FAKE_EMPTY: break;
    case FF_FAKE_HANG:
    case FF_FAKE_EXIT:
        result.value =
            fake->now.act == FF_FAKE_HANG ? FF_EXIT_STOPPED : fake->now.value;
        if (train && result.value == FF_EXIT_STOPPED)
            leave_curve(fake, fake->now.iterations);
        if (train && result.value == FF_EXIT_DIVERGED) {
            FILE *f = create(fake, "DIVERGED");
            if (f) {
                fprintf(f, "iteration: 5\nloss: .nan\nreason: loss is NaN\n");
                fclose(f);
            }
        }
        break;
    case FF_FAKE_SIGNAL:
        result = (struct ff_child_result){FF_CHILD_SIGNALED, fake->now.value};
        break;
    case FF_FAKE_GARBAGE: {
        FILE *f = create(fake, "DONE");
        if (f) {
            fputs("iteration: [", f);
            fclose(f);
        }
        result.value = FF_EXIT_FAILED;
        break;
    }
    }
    return result;
}

static struct ff_child_result fake_wait(void *context, int timeout_ms)
{
    struct ff_fake *fake = context;
    (void)timeout_ms;
    int over = fake->on_wait ? fake->on_wait(fake->on_wait_context) : 0;
    if (fake->now.act == FF_FAKE_HANG && !over)
        return (struct ff_child_result){FF_CHILD_RUNNING, 0};
    return end_by(fake);
}

static struct ff_child_result fake_stop(void *context, int grace_ms)
{
    struct ff_fake *fake = context;
    (void)grace_ms;
    if (fake->now.act == FF_FAKE_SUCCEED)
        fake->now = (struct ff_fake_step){NULL, FF_FAKE_HANG, 0, 1};
    return end_by(fake);
}

static int fake_capture(void *context, char **out, struct ff_child_result *result,
                        const char *const *argv, struct ff_err *err)
{
    struct ff_fake *fake = context;
    (void)argv;
    *result = (struct ff_child_result){FF_CHILD_EXITED, FF_EXIT_OK};
    *out = strdup(fake->info);
    return *out ? 0 : ff_err_set(err, FF_ENOMEM, "out of memory");
}

void ff_exec_fake(struct ff_exec *exec, struct ff_fake *fake)
{
    *exec =
        (struct ff_exec){fake, fake_start, fake_wait, fake_stop, fake_capture, NULL};
}
