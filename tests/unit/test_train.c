/* SPDX-License-Identifier: MIT */
/* Whole runs of the trainer: what a run directory holds, stopping, kills, resume to the
 * same bytes, divergence, locks. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "data_fixture.h"
#include "h5io.h"
#include "hash.h"
#include "model_file.h"
#include "process.h"
#include "safetensors_fixture.h"
#include "train.h"
#include "train_priv.h"

enum { SIDE = 16, IDENTITIES = 6, EACH = 4, BATCH = 4, PER_EPOCH = 6, T = 24 };

static struct scratch scratch;
static struct ff_params params;

static void set(const char *assignment)
{
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_params_set_arg(&params, assignment, &err), 0), "%s", err.text);
}

static void setup(void)
{
    static const char *const settings[] = {
        "backbone=r18", "width=0.05",  "image_size=16",  "embedding=16",
        "batch=4",      "epochs=4",    "backend=onednn", "threads=1",
        "workers=1",    "gamma0=0.01", "lambda=10.0",    "tau=0.1",
        "alpha=0.2",    "beta=0.2",    "scale=16.0",     "checkpoint_minutes=0.0",
    };
    scratch_init(&scratch);
    cr_assert(eq(int, make_set(at(&scratch, "set"), IDENTITIES, EACH, SIDE, 0), 0));
    ff_params_defaults(&params);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        set(settings[i]);
    snprintf(params.data, sizeof params.data, "%s/set", scratch.dir);
    cr_assert(eq(int, ff_params_resolve(&params, NULL), 0));
}

static void teardown(void)
{
    scratch_fini(&scratch);
}

TestSuite(train, .init = setup, .fini = teardown, .timeout = 60);

/* One ff_train_run in `name` under the scratch folder. */
static int train(const char *name, int64_t stop_after, struct ff_err *err)
{
    struct ff_train_options options = {.out = at(&scratch, name),
                                       .stop_after = stop_after};
    return ff_train_run(&params, &options, err);
}

static void train_ok(const char *name)
{
    struct ff_err err = FF_ERR_INIT;
    int rc = train(name, 0, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
}

static bool exists(const char *name)
{
    return access(at(&scratch, name), F_OK) == 0;
}

static void same_file(const char *a, const char *b)
{
    char x[FF_SHA256_HEX], y[FF_SHA256_HEX];
    cr_assert(eq(int, ff_sha256_file(x, at(&scratch, a), NULL), 0), "%s", a);
    cr_assert(eq(int, ff_sha256_file(y, at(&scratch, b), NULL), 0), "%s", b);
    cr_assert(eq(str, x, y), "%s differs from %s", a, b);
}

static void same_run(const char *a, const char *b)
{
    static const char *const names[] = {"model.h5", "curve.csv", "DONE"};
    for (int i = 0; i < 3; i++) {
        char x[128], y[128];
        snprintf(x, sizeof x, "%s/%s", a, names[i]);
        snprintf(y, sizeof y, "%s/%s", b, names[i]);
        same_file(x, y);
    }
}

Test(train, a_run_leaves_its_files_and_a_curve)
{
    train_ok("run");
    static const char *const files[] = {"params.yaml", "record.yaml",   "curve.csv",
                                        "model.h5",    "checkpoint.h5", "telemetry.csv",
                                        "log.txt",     "summary.yaml",  "DONE"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char name[64];
        snprintf(name, sizeof name, "run/%s", files[i]);
        cr_assert(exists(name), "%s", name);
    }
    char line[512];
    FILE *f = fopen(at(&scratch, "run/curve.csv"), "r");
    cr_assert(ne(ptr, fgets(line, sizeof line, f), NULL));
    cr_assert(
        eq(str, line, "iteration,epoch,loss,lr,slope,loss_scale,skipped,grad_norm\n"));
    double first_lr = 0, last_lr = 0;
    int lines = 0;
    while (fgets(line, sizeof line, f)) {
        int iteration, epoch, skipped;
        double loss, lr, slope, loss_scale, grad_norm;
        cr_assert(eq(int,
                     sscanf(line, "%d,%d,%lf,%lf,%lf,%lf,%d,%lf", &iteration, &epoch,
                            &loss, &lr, &slope, &loss_scale, &skipped, &grad_norm),
                     8));
        cr_assert(eq(int, iteration, lines));
        cr_assert(eq(int, epoch, lines / PER_EPOCH));
        cr_assert(eq(int, skipped, 0));
        cr_assert(eq(dbl, loss_scale, 1));
        cr_assert(lt(dbl, 0, loss));
        cr_assert(lt(dbl, 0, grad_norm));
        if (!lines)
            first_lr = lr;
        last_lr = lr;
        lines++;
    }
    fclose(f);
    cr_assert(eq(int, lines, T));
    cr_assert(eq(dbl, first_lr, 0.01));
    cr_assert(lt(dbl, last_lr, 0.01)); /* lambda 10 is above every slope */
}

Test(train, telemetry_has_a_line_for_every_hundred_iterations)
{
    char line[512];
    set("epochs=17");
    train_ok("run");
    FILE *f = fopen(at(&scratch, "run/telemetry.csv"), "r");
    cr_assert(ne(ptr, fgets(line, sizeof line, f), NULL));
    cr_assert(eq(str, line,
                 "iteration,seconds,samples_per_second,loader_wait_seconds,power_watts,"
                 "late_losses\n"));
    cr_assert(ne(ptr, fgets(line, sizeof line, f), NULL));
    double seconds, rate, waited;
    int end = 0;
    cr_assert(
        eq(int, sscanf(line, "99,%lf,%lf,%lf%n", &seconds, &rate, &waited, &end), 3));
    cr_assert(eq(str, line + end, ",,\n")); /* neither is known of a CPU */
    cr_assert(eq(ptr, fgets(line, sizeof line, f), NULL));
    fclose(f);
}

Test(train, equal_runs_give_equal_bytes)
{
    train_ok("a");
    params.workers = 3;
    train_ok("b");
    same_run("a", "b");
}

Test(train, another_seed_gives_another_model)
{
    char x[FF_SHA256_HEX], y[FF_SHA256_HEX];
    train_ok("a");
    set("seed=5");
    train_ok("b");
    ff_sha256_file(x, at(&scratch, "a/curve.csv"), NULL);
    ff_sha256_file(y, at(&scratch, "b/curve.csv"), NULL);
    cr_assert(ne(str, x, y));
}

Test(train, stopped_and_resumed_equals_undisturbed)
{
    struct ff_err err = FF_ERR_INIT;
    train_ok("whole");
    for (int64_t done = 0; done < T - 7; done += 7) {
        cr_assert(eq(int, train("parts", 7, &err), FF_ESTOPPED), "%s", err.text);
        cr_assert(not(exists("parts/DONE")));
        cr_assert(exists("parts/checkpoint.h5"));
    }
    train_ok("parts");
    same_run("whole", "parts");
}

Test(train, killed_at_any_moment_and_resumed_equals_undisturbed)
{
    train_ok("whole");
    set("checkpoint_every_iterations=2");
    int killed = 0;
    for (int attempt = 0; attempt < 12 && !exists("killed/DONE"); attempt++) {
        fflush(NULL);
        pid_t pid = fork();
        cr_assert(ge(int, pid, 0));
        if (pid == 0)
            _exit(train("killed", 0, NULL) == 0 ? 0 : 1);
        /* 20, 27, 34, .. ms: set-up, first steps, checkpoints and the end are all hit.
         */
        struct timespec wait = {0, (20 + 7 * attempt) * 1000000L};
        nanosleep(&wait, NULL);
        kill(pid, SIGKILL);
        int status;
        waitpid(pid, &status, 0);
        bool by_signal = WIFSIGNALED(status);
        killed += by_signal;
        cr_assert(eq(int, by_signal ? 0 : WEXITSTATUS(status), 0));
    }
    cr_assert(lt(int, 0, killed));
    train_ok("killed");
    same_run("whole", "killed");
}

Test(train, lines_after_the_checkpoint_are_cut_on_resume)
{
    train_ok("whole");
    cr_assert(eq(int, train("torn", 9, NULL), FF_ESTOPPED));
    FILE *f = fopen(at(&scratch, "torn/curve.csv"), "a");
    fputs("9,1,123,1,0,1,0,1\n10,1,0.4", f);
    fclose(f);
    train_ok("torn");
    same_run("whole", "torn");
}

Test(train, done_again_is_done_and_changes_nothing)
{
    char x[FF_SHA256_HEX], y[FF_SHA256_HEX];
    train_ok("run");
    ff_sha256_file(x, at(&scratch, "run/checkpoint.h5"), NULL);
    train_ok("run");
    ff_sha256_file(y, at(&scratch, "run/checkpoint.h5"), NULL);
    cr_assert(eq(str, x, y));
}

Test(train, a_run_that_blows_up_is_diverged)
{
    struct ff_err err = FF_ERR_INIT;
    set("gamma0=100.0");
    set("weight_decay=10.0");
    set("epochs=20");
    cr_assert(eq(int, train("run", 0, &err), FF_EDIVERGED), "%s", err.text);
    cr_assert(eq(int, ff_err_exit_code(err.code), FF_EXIT_DIVERGED));
    cr_assert(exists("run/DIVERGED"));
    cr_assert(not(exists("run/DONE")));
    cr_assert(not(exists("run/model.h5")));
}

Test(train, a_held_directory_is_busy)
{
    struct ff_err err = FF_ERR_INIT;
    int lock;
    ff_mkdirs(at(&scratch, "run"), NULL);
    cr_assert(eq(int, ff_lock(&lock, at(&scratch, "run/lock"), NULL), 0));
    cr_assert(eq(int, train("run", 0, &err), FF_EBUSY), "%s", err.text);
    cr_assert(not(exists("run/curve.csv")));
    close(lock);
    train_ok("run");
}

Test(train, a_checkpoint_of_another_run_is_refused)
{
    struct ff_err err = FF_ERR_INIT;
    char before[FF_SHA256_HEX], after[FF_SHA256_HEX];
    cr_assert(eq(int, train("run", 5, NULL), FF_ESTOPPED));
    ff_sha256_file(before, at(&scratch, "run/curve.csv"), NULL);
    set("delta=3.0");
    cr_assert(eq(int, train("run", 0, &err), FF_EUSAGE), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, "train key"), NULL), "%s", err.text);
    ff_sha256_file(after, at(&scratch, "run/curve.csv"), NULL);
    cr_assert(eq(str, before, after));
}

static void flip_a_bit(const char *file_name, const char *dataset)
{
    hid_t file, object;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_h5_open(&file, at(&scratch, file_name), false, &err), 0), "%s",
              err.text);
    cr_assert(eq(int, ff_h5_open_dataset(&object, file, dataset, &err), 0), "%s",
              err.text);
    haddr_t offset = H5Dget_offset(object);
    H5Dclose(object);
    H5Fclose(file);
    FILE *f = fopen(at(&scratch, file_name), "r+");
    fseek(f, (long)offset, SEEK_SET);
    int byte = fgetc(f);
    fseek(f, (long)offset, SEEK_SET);
    fputc(byte ^ 1, f);
    cr_assert(eq(int, fclose(f), 0));
}

Test(train, a_flipped_bit_in_a_checkpoint_is_found)
{
    static const char *const datasets[] = {"conv1.weight",          "bn1.running_var",
                                           "momentum/conv1.weight", "head.weight",
                                           "momentum/head.weight",  "scheduler/0"};
    struct ff_err err = FF_ERR_INIT;
    train_ok("whole");
    cr_assert(eq(int, train("run", 5, NULL), FF_ESTOPPED));
    for (size_t i = 0; i < sizeof datasets / sizeof *datasets; i++) {
        flip_a_bit("run/checkpoint.h5", datasets[i]);
        cr_assert(eq(int, train("run", 0, &err), FF_EDATA), "%s", datasets[i]);
        cr_assert(ne(ptr, strstr(err.text, datasets[i]), NULL), "%s", err.text);
        cr_assert(ne(ptr, strstr(err.text, "crc32"), NULL), "%s", err.text);
        flip_a_bit("run/checkpoint.h5", datasets[i]); /* as it was */
    }
    train_ok("run");
    same_run("whole", "run");
}

Test(train, a_changed_position_in_a_checkpoint_is_found)
{
    struct ff_err err = FF_ERR_INIT;
    hid_t file;
    cr_assert(eq(int, train("run", 5, NULL), FF_ESTOPPED));
    cr_assert(
        eq(int, ff_h5_open(&file, at(&scratch, "run/checkpoint.h5"), true, &err), 0));
    cr_assert(eq(int, ff_h5_set_i64(file, "iteration", 4, &err), 0));
    H5Fclose(file);
    cr_assert(eq(int, train("run", 0, &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "run/checkpoint.h5: attributes: damaged"), NULL),
              "%s", err.text);
}

Test(train, too_few_images_for_a_batch_is_a_usage_error)
{
    struct ff_err err = FF_ERR_INIT;
    set("batch=25");
    cr_assert(eq(int, train("run", 0, &err), FF_EUSAGE));
    cr_assert(ne(ptr, strstr(err.text, "24 images"), NULL), "%s", err.text);
}

Test(train, a_missing_set_is_an_error_before_any_output)
{
    struct ff_err err = FF_ERR_INIT;
    set("data=/no/such/set");
    cr_assert(lt(int, train("run", 0, &err), 0));
    cr_assert(ne(ptr, strstr(err.text, "/no/such/set"), NULL), "%s", err.text);
    cr_assert(not(exists("run/curve.csv")));
}

Test(train, init_starts_from_a_models_weights)
{
    struct ff_model_config config;
    struct ff_err err = FF_ERR_INIT;
    double cold = 0, warm = 0;
    train_ok("cold");
    cr_assert(
        eq(int, ff_model_read_config(&config, at(&scratch, "cold/model.h5"), NULL), 0));
    snprintf(params.init, sizeof params.init, "%s", at(&scratch, "cold/checkpoint.h5"));
    cr_assert(eq(int, train("warm", 1, &err), FF_ESTOPPED), "%s", err.text);
    for (int i = 0; i < 2; i++) {
        FILE *f = fopen(at(&scratch, i ? "warm/curve.csv" : "cold/curve.csv"), "r");
        cr_assert(eq(int, fscanf(f, "%*[^\n]\n0,0,%lf", i ? &warm : &cold), 1));
        fclose(f);
    }
    cr_assert(ne(dbl, warm, cold));
    /* A network of another width does not fit. */
    set("width=0.1");
    cr_assert(eq(int, train("misfit", 1, &err), FF_EDATA), "%s", err.text);
}

Test(train, init_from_safetensors_starts_as_from_model_h5)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model_config config;
    struct net net;
    train_ok("cold");
    ff_model_read_config(&config, at(&scratch, "cold/model.h5"), NULL);
    net_open(&net, FF_BACKEND_REF, 1, &config, 1, false);
    cr_assert(
        eq(int, ff_model_load(net.model, at(&scratch, "cold/model.h5"), NULL), 0));
    save_safetensors(at(&scratch, "model.safetensors"), net.model, false);
    net_close(&net);
    static const char *const starts[] = {"cold/model.h5", "model.safetensors"};
    char hash[2][FF_SHA256_HEX];
    for (int i = 0; i < 2; i++) {
        const char *name = i ? "tensors" : "h5";
        snprintf(params.init, sizeof params.init, "%s", at(&scratch, starts[i]));
        cr_assert(eq(int, train(name, 3, &err), FF_ESTOPPED), "%s", err.text);
        char curve[64];
        snprintf(curve, sizeof curve, "%s/curve.csv", name);
        ff_sha256_file(hash[i], at(&scratch, curve), NULL);
    }
    cr_assert(eq(str, hash[0], hash[1]));
}

/* Two steps: the pictures are so alike that BN over four of them magnifies rounding
 * about tenfold a step. */
Test(train, ref_and_onednn_start_alike)
{
    enum { STEPS = 2 };
    double loss[2][STEPS];
    for (int backend = 0; backend < 2; backend++) {
        const char *name = backend ? "ref" : "onednn";
        char curve[64];
        params.backend = backend ? FF_BACKEND_REF : FF_BACKEND_ONEDNN;
        cr_assert(eq(int, train(name, STEPS, NULL), FF_ESTOPPED));
        snprintf(curve, sizeof curve, "%s/curve.csv", name);
        FILE *f = fopen(at(&scratch, curve), "r");
        cr_assert(eq(int, fscanf(f, "%*[^\n]"), 0));
        for (int i = 0; i < STEPS; i++)
            cr_assert(eq(int, fscanf(f, "%*d,%*d,%lf%*[^\n]", &loss[backend][i]), 1));
        fclose(f);
    }
    for (int i = 0; i < STEPS; i++)
        cr_assert(epsilon_eq(dbl, loss[0][i], loss[1][i], 1e-4 * loss[1][i]), "step %d",
                  i);
}

#define PAIRS "tests/fixtures/pairs/"

static char *text_of(const char *name)
{
    char *text;
    size_t bytes;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_read_file(&text, &bytes, at(&scratch, name), &err), 0), "%s",
              err.text);
    return text;
}

Test(train, validation_changes_no_bit_of_the_run)
{
    train_ok("plain");
    cr_assert(not(exists("plain/validation.csv")));
    set("validate=[" PAIRS "bytes_p4.bin, " PAIRS "numpy_p2.bin]");
    set("validate_every_iterations=5");
    train_ok("validated");
    same_run("plain", "validated");
    char *text = text_of("validated/validation.csv"), *line = text;
    cr_assert(eq(int, strncmp(text, "iteration,name,accuracy,std\n", 28), 0));
    static const int steps[] = {5, 10, 15, 20, 24};
    for (int i = 0; i < 10; i++) {
        int iteration;
        double accuracy, std;
        char name[64];
        line = strchr(line, '\n') + 1;
        cr_assert(
            eq(int,
               sscanf(line, "%d,%63[^,],%lf,%lf\n", &iteration, name, &accuracy, &std),
               4),
            "%s", line);
        cr_assert(eq(int, iteration, steps[i / 2]));
        cr_assert(eq(str, name, i % 2 ? "numpy_p2" : "bytes_p4"));
        cr_assert(le(dbl, 0, accuracy));
        cr_assert(le(dbl, accuracy, 100));
    }
    cr_assert(eq(str, strchr(line, '\n'), "\n"));
    free(text);
}

Test(train, validation_is_at_the_end_of_every_epoch)
{
    set("validate=" PAIRS "bytes_p4.bin");
    train_ok("run");
    char *text = text_of("run/validation.csv"), *line = text;
    for (int i = 1; i <= T / PER_EPOCH; i++) {
        line = strchr(line, '\n') + 1;
        cr_assert(eq(int, atoi(line), i *PER_EPOCH), "%s", line);
    }
    cr_assert(eq(str, strchr(line, '\n'), "\n"));
    free(text);
}

/* Stops between validations, at one, and at one whose lines are torn or doubled. */
Test(train, validation_is_cut_back_on_resume)
{
    set("validate=[" PAIRS "bytes_p4.bin, " PAIRS "numpy_p2.bin]");
    set("validate_every_iterations=5");
    train_ok("whole");
    static const int stops[] = {7, 3, 6};
    for (int i = 0; i < 3; i++) {
        cr_assert(eq(int, train("parts", stops[i], NULL), FF_ESTOPPED));
        FILE *f = fopen(at(&scratch, "parts/validation.csv"), "a");
        fputs("20,bytes_p4,1.0,1.0\n20,num", f);
        fclose(f);
    }
    train_ok("parts");
    same_run("whole", "parts");
    same_file("whole/validation.csv", "parts/validation.csv");
}

Test(train, a_bad_file_of_pairs_stops_the_run_before_any_work)
{
    static const struct {
        const char *file, *message;
        int code;
    } cases[] = {
        {PAIRS "none.bin", "none.bin: No such file", FF_EUSAGE},
        {PAIRS "odd.bin", "odd.bin: 5 images and 3 labels", FF_EDATA},
        {PAIRS "side20.bin", "side20.bin: image 7: image is 20 x 20 px", FF_EDATA},
        {PAIRS "damaged.bin", "damaged.bin: image 5: ", FF_EDATA},
        {PAIRS "few.bin", "few.bin: 9 pairs are too few for 10 folds", FF_EDATA},
        {"[" PAIRS "bytes_p4.bin, ./" PAIRS "bytes_p4.bin]", "named bytes_p4",
         FF_EUSAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ff_err err = FF_ERR_INIT;
        cr_assert(eq(
            int, ff_params_set(&params, "validate", cases[i].file, "test", &err), 0));
        cr_assert(eq(int, train("run", 0, &err), cases[i].code), "%s", err.text);
        cr_assert(ne(ptr, strstr(err.text, cases[i].message), NULL), "%s", err.text);
        cr_assert(not(exists("run/curve.csv")), "%s", cases[i].file);
        cr_assert(not(exists("run/validation.csv")), "%s", cases[i].file);
    }
}

Test(train, waiting_for_data_is_said_above_five_percent)
{
    char text[160] = "";
    cr_assert(not(ff_train_wait_text(text, 3.0, 60.0, 2)));
    cr_assert(not(ff_train_wait_text(text, 0.0, 0.0, 2)));
    cr_assert(ff_train_wait_text(text, 15.0, 60.0, 2));
    cr_assert(eq(str, text,
                 "waited for data 25 % of the last 60 s: try more workers (workers: 2) "
                 "or a faster disk"));
}
