/* SPDX-License-Identifier: MIT */
/* The text files of a run directory. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "hash.h"
#include "log.h"
#include "model_file.h"
#include "train_priv.h"
#include "yaml_doc.h"

static const char curve_header[] =
    "iteration,epoch,loss,lr,slope,loss_scale,skipped,grad_norm\n";
static const char telemetry_header[] =
    "iteration,seconds,samples_per_second,loader_wait_seconds,power_watts,"
    "late_losses\n";
static const char validation_header[] = "iteration,name,accuracy,std\n";

double ff_train_seconds(const struct ff_train *run)
{
    return run->seconds_before + (run->started > 0 ? ff_now() - run->started : 0);
}

static double energy_now(const struct ff_train *run)
{
    return run->ops->energy_joules ? run->ops->energy_joules(run->ctx) : (double)NAN;
}

void ff_train_energy_start(struct ff_train *run)
{
    run->energy_start = run->power_energy = energy_now(run);
    run->power_since = ff_now();
}

double ff_train_energy(const struct ff_train *run)
{
    return run->energy_before + energy_now(run) - run->energy_start;
}

/* ",<W>": the mean since the last line where energy is counted, else the power now;
 * "," where neither is known. */
static void write_power(struct ff_train *run)
{
    double now = ff_now(), energy = energy_now(run);
    double watts = (energy - run->power_energy) / (now - run->power_since);
    run->power_since = now;
    run->power_energy = energy;
    if (isnan(watts) && run->ops->power_watts)
        watts = run->ops->power_watts(run->ctx);
    fputc(',', run->telemetry);
    if (isfinite(watts))
        fprintf(run->telemetry, "%.1f", watts);
}

static int write_text(const struct ff_train *run, const char *name, const char *text,
                      struct ff_err *err)
{
    char path[FF_PATH_MAX];
    struct ff_atomic_file file;
    int rc = ff_path(path, err, "%s/%s", run->options->out, name);
    if (!rc)
        rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    fputs(text, file.stream);
    return ff_atomic_commit(&file, err);
}

/* engines.txt: what the backend chose, as in the checkpoints, which may be removed. */
static int write_choices(const struct ff_train *run, struct ff_err *err)
{
    char *choices = NULL;
    if (!run->ops->choices)
        return 0;
    int rc = run->ops->choices(run->ctx, &choices, err);
    if (!rc)
        rc = write_text(run, "engines.txt", choices, err);
    free(choices);
    return rc;
}

int ff_train_write_record(const struct ff_train *run, struct ff_err *err)
{
    char path[FF_PATH_MAX], host[256] = "", when[32];
    struct ff_atomic_file file;
    struct tm tm;
    time_t now = time(NULL);
    int rc = ff_path(path, err, "%s/params.yaml", run->options->out);
    if (!rc)
        rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    ff_params_write(file.stream, run->params, "");
    rc = ff_atomic_commit(&file, err);
    if (!rc)
        rc = ff_path(path, err, "%s/record.yaml", run->options->out);
    if (!rc)
        rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    gethostname(host, sizeof host - 1);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
    fprintf(file.stream,
            "program: \"ff-train %s\"\ngit_commit: \"%s\"\ntrain_key: \"%s\"\n"
            "data_fingerprint: \"%s\"\nbackend: \"%s\"\ndevice: \"%s\"\nhost: \"%s\"\n"
            "threads: %d\nworkers: %d\nimages: %lld\nclasses: %lld\niterations: %lld\n"
            "started_at_iteration: %lld\nstarted: \"%s\"\nbit_equal: %s\n",
            FF_VERSION, ff_git_commit(), run->train_key, run->fingerprint,
            run->ops->name, run->ops->describe(run->ctx), host, run->threads,
            run->workers, (long long)ff_dataset_count(run->dataset),
            (long long)run->classes, (long long)run->iterations,
            (long long)run->iteration, when, run->bit_equal ? "true" : "false");
    if (getenv("CUDA_VISIBLE_DEVICES")) { /* what `device` counts from */
        fputs("cuda_visible_devices: ", file.stream);
        ff_yaml_write_string(file.stream, getenv("CUDA_VISIBLE_DEVICES"));
        fputc('\n', file.stream);
    }
    rc = ff_atomic_commit(&file, err);
    return rc ? rc : write_choices(run, err);
}

/* Copies the header and the lines whose first field is below `end`. A torn last line
 * goes too. Returns the bytes to keep; *next is the iteration behind the last line. */
static long kept_bytes(int64_t *next, FILE *f, int64_t end)
{
    char line[512];
    long kept = 0;
    if (!fgets(line, sizeof line, f))
        return 0;
    kept = ftell(f);
    while (fgets(line, sizeof line, f)) {
        char *stop;
        long long iteration = strtoll(line, &stop, 10);
        if (stop == line || *stop != ',' || !strchr(line, '\n') || iteration >= end)
            break;
        kept = ftell(f);
        *next = iteration + 1;
    }
    return kept;
}

static int open_csv(FILE **out, int64_t *next, const struct ff_train *run,
                    const char *name, const char *header, int64_t end,
                    struct ff_err *err)
{
    char path[FF_PATH_MAX];
    *next = 0;
    int rc = ff_path(path, err, "%s/%s", run->options->out, name);
    if (rc)
        return rc;
    FILE *f = fopen(path, "r+e");
    if (!f && errno == ENOENT)
        f = fopen(path, "w+e");
    if (!f)
        return ff_err_errno(err, FF_EFAIL, "%s", path);
    long kept = run->iteration > 0 ? kept_bytes(next, f, end) : 0;
    if (ftruncate(fileno(f), kept) != 0 || fseek(f, 0, SEEK_END) != 0) {
        rc = ff_err_errno(err, FF_EFAIL, "%s", path);
        fclose(f);
        return rc;
    }
    if (kept == 0)
        fputs(header, f);
    *out = f;
    return 0;
}

int ff_train_open_curves(struct ff_train *run, struct ff_err *err)
{
    int64_t end = run->iteration, next, ignored;
    int rc = open_csv(&run->curve, &next, run, "curve.csv", curve_header, end, err);
    /* Another directory's checkpoint comes without its curve. */
    const char *from = run->options->from;
    if (!rc && next < end && !(from && strcmp(run->checkpoint, from) == 0))
        ff_warn("%s/curve.csv: the lines of iterations %lld to %lld are lost for good; "
                "the rest follows",
                run->options->out, (long long)next, (long long)end - 1);
    if (!rc)
        rc = open_csv(&run->telemetry, &ignored, run, "telemetry.csv", telemetry_header,
                      end, err);
    /* Its lines count steps taken: those of the present weights are complete or due. */
    if (!rc && run->validation)
        rc = open_csv(&run->validation_csv, &ignored, run, "validation.csv",
                      validation_header, ff_validation_due(run) ? end : end + 1, err);
    return rc;
}

int ff_train_sync_curves(struct ff_train *run, struct ff_err *err)
{
    if (fflush(run->curve) != 0 || fsync(fileno(run->curve)) != 0)
        return ff_err_errno(err, FF_EFAIL, "%s/curve.csv", run->options->out);
    fflush(run->telemetry);
    if (run->validation_csv && fsync(fileno(run->validation_csv)) != 0)
        return ff_err_errno(err, FF_EFAIL, "%s/validation.csv", run->options->out);
    return 0;
}

int ff_train_write_curve(struct ff_train *run, int64_t t, double loss, double lr,
                         double slope, const struct ff_step_result *result,
                         struct ff_err *err)
{
    /* A NaN's sign is chance, and would print. */
    double norm = isnan(result->grad_norm) ? (double)NAN : result->grad_norm;
    fprintf(run->curve, "%lld,%lld,%.9g,%.9g,%.9g,%.9g,%d,%.9g\n", (long long)t,
            (long long)(t / run->iterations_epoch), loss, lr, slope, result->loss_scale,
            !result->finite, norm);
    if (t % 100 == 99) {
        double seconds = ff_train_seconds(run);
        double rate = (double)(t + 1 - run->first_iteration) *
                      (double)run->params->batch / (ff_now() - run->started);
        fprintf(run->telemetry, "%lld,%.3f,%.1f,%.3f", (long long)t, seconds, rate,
                ff_loader_wait_seconds(run->loader));
        write_power(run);
        fputc(',', run->telemetry);
        if (run->ops->late_losses)
            fprintf(run->telemetry, "%lld", (long long)run->ops->late_losses(run->ctx));
        fputc('\n', run->telemetry);
    }
    if (fflush(run->curve) != 0)
        return ff_err_errno(err, FF_EFAIL, "%s/curve.csv", run->options->out);
    return 0;
}

int ff_train_write_validation(struct ff_train *run, const char *name, double accuracy,
                              double std, struct ff_err *err)
{
    fprintf(run->validation_csv, "%lld,%s,%.6f,%.6f\n", (long long)run->iteration, name,
            accuracy, std);
    if (fflush(run->validation_csv) != 0)
        return ff_err_errno(err, FF_EFAIL, "%s/validation.csv", run->options->out);
    return 0;
}

bool ff_train_wait_text(char text[160], double waited, double span, int workers)
{
    if (!(waited > 0.05 * span))
        return false;
    snprintf(text, 160,
             "waited for data %.0f %% of the last %.0f s: try more workers (workers: "
             "%d) or a faster disk",
             100 * waited / span, span, workers);
    return true;
}

int ff_train_write_diverged(const struct ff_train *run, double loss, const char *reason,
                            struct ff_err *err)
{
    char text[256];
    snprintf(text, sizeof text, "iteration: %lld\nloss: \"%g\"\nreason: \"%s\"\n",
             (long long)run->iteration, loss, reason);
    return write_text(run, "DIVERGED", text, err);
}

static int write_summary(const struct ff_train *run, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    struct ff_atomic_file file;
    size_t count;
    const int64_t *changes = ff_schedule_changes(run->schedules[0], &count);
    double seconds = ff_train_seconds(run);
    int rc = ff_path(path, err, "%s/summary.yaml", run->options->out);
    if (!rc)
        rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    char number[32];
    fprintf(file.stream, "iteration: %lld\n", (long long)run->iteration);
    fprintf(file.stream, "final_loss: %s\n", ff_f64_text(number, run->last_loss));
    fprintf(file.stream, "seconds: %s\n", ff_f64_text(number, seconds));
    fprintf(file.stream, "samples_per_second: %s\n",
            ff_f64_text(number, (double)run->iteration * (double)run->params->batch /
                                    (seconds > 0 ? seconds : 1)));
    if (!isnan(ff_train_energy(run)))
        fprintf(file.stream, "energy_joules: %s\n",
                ff_f64_text(number, ff_train_energy(run)));
    fprintf(file.stream, "changes: [");
    for (size_t i = 0; i < count; i++)
        fprintf(file.stream, "%s%lld", i ? ", " : "", (long long)changes[i]);
    fprintf(file.stream,
            "]\nbit_equal: %s\nbackend: \"%s\"\ndevice: \"%s\"\nbad_samples: %lld\n",
            run->bit_equal ? "true" : "false", run->ops->name,
            run->ops->describe(run->ctx), (long long)run->bad_samples);
    return ff_atomic_commit(&file, err);
}

int ff_train_finish(struct ff_train *run, struct ff_err *err)
{
    char path[FF_PATH_MAX], sha[FF_SHA256_HEX], text[160];
    struct ff_model_stamp stamp = {FF_MODEL_SCHEMA, run->train_key, run->iteration,
                                   run->params};
    int rc = ff_path(path, err, "%s/model.h5", run->options->out);
    if (!rc)
        rc = ff_model_save(path, run->model, &stamp, err);
    if (!rc)
        rc = ff_sha256_file(sha, path, err);
    if (!rc)
        rc = write_summary(run, err);
    if (rc)
        return rc;
    snprintf(text, sizeof text, "iteration: %lld\nsha256: \"%s\"\n",
             (long long)run->iteration, sha);
    return write_text(run, "DONE", text, err);
}
