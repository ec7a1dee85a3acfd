/* SPDX-License-Identifier: MIT */
/* Results as a table and as YAML; see eval_yaml.h. */
#include "eval_yaml.h"

#include <string.h>

#include "atomic_file.h"
#include "cli.h"
#include "yaml_doc.h"

static const char *on_off(bool value)
{
    return value ? "on" : "off";
}

/* "IJB-C 1:1" */
static const char *title(const char *protocol)
{
    return protocol[3] == 'b' ? "IJB-B 1:1" : "IJB-C 1:1";
}

void ff_eval_print(FILE *f, const struct ff_eval_result *r)
{
    fprintf(f, "%s: %lld images, %lld templates, %lld pairs (%lld genuine)\n",
            title(r->protocol), (long long)r->images, (long long)r->templates,
            (long long)r->pairs, (long long)r->genuine);
    fprintf(f, "flip %s, norm %s, det %s", on_off(r->switches.flip),
            on_off(r->switches.norm), on_off(r->switches.det));
    if (r->missing)
        fprintf(f, "; %lld images MISSING", (long long)r->missing);
    fprintf(f, "\n\n%8s | %8s %10s %9s %10s%s | %8s %9s %10s\n", "FAR", "TAR %",
            "threshold", "accepts", "actual FAR",
            r->replicates ? "   95 % interval  " : "", "compat %", "accepts",
            "actual FAR");
    int64_t impostors = r->pairs - r->genuine;
    bool few = false;
    for (int k = 0; k < r->far_count; k++) {
        const struct ff_roc_point *t = &r->tar[k], *c = &r->compat[k];
        bool zero = ff_roc_allowed(t->far, impostors) == 0;
        few |= zero;
        fprintf(f, "%8.3g%c| %8.4f %10.6f %9lld %10.3g", t->far, zero ? '*' : ' ',
                100 * t->tar, t->threshold, (long long)t->false_accepts, t->actual_far);
        if (r->replicates)
            fprintf(f, "  %7.3f .. %-6.3f", 100 * r->interval[k].low,
                    100 * r->interval[k].high);
        fprintf(f, " | %8.4f %9lld %10.3g\n", 100 * c->tar, (long long)c->false_accepts,
                c->actual_far);
    }
    fprintf(
        f,
        "\n'accepts' are impostor pairs accepted: never more than FAR allows for TAR; "
        "compat is\nthe nearest point of the curve, as published tables have it.\n");
    if (few)
        fprintf(
            f, "* fewer than 1/FAR impostor pairs (%lld): TAR at zero false accepts.\n",
            (long long)impostors);
    if (r->replicates)
        fprintf(f, "Interval: %d bootstrap replicates over %d identities.\n",
                r->replicates, r->identities);
}

static void write_number(FILE *f, const char *key, double value)
{
    fprintf(f, "%s: ", key);
    ff_yaml_write_f64(f, value);
}

static void write_points(FILE *f, const char *key, const struct ff_roc_point *point,
                         int n)
{
    fprintf(f, "%s:\n", key);
    for (int k = 0; k < n; k++) {
        write_number(f, "- {far", point[k].far);
        fprintf(f, ", tar: %.6f", 100 * point[k].tar);
        write_number(f, ", threshold", point[k].threshold);
        fprintf(f, ", false_accepts: %lld", (long long)point[k].false_accepts);
        write_number(f, ", actual_far", point[k].actual_far);
        fprintf(f, "}\n");
    }
}

static void write_text(FILE *f, const char *key, const char *text)
{
    fprintf(f, "%s: ", key);
    ff_yaml_write_string(f, text);
    fputc('\n', f);
}

static void write_all(FILE *f, const struct ff_eval_result *r)
{
    write_text(f, "name", r->name);
    fprintf(f, "protocol: %s\n", r->protocol);
    fprintf(f, "flip: %s\nnorm: %s\ndet: %s\n", r->switches.flip ? "true" : "false",
            r->switches.norm ? "true" : "false", r->switches.det ? "true" : "false");
    fprintf(
        f, "images: %lld\ntemplates: %lld\npairs: %lld\ngenuine: %lld\nmissing: %lld\n",
        (long long)r->images, (long long)r->templates, (long long)r->pairs,
        (long long)r->genuine, (long long)r->missing);
    write_text(f, "model_sha256", r->model_sha256);
    if (r->eval_key)
        write_text(f, "eval_key", r->eval_key);
    write_points(f, "tar", r->tar, r->far_count);
    write_points(f, "compat", r->compat, r->far_count);
    if (r->replicates) {
        fprintf(f, "bootstrap: {replicates: %d, identities: %d}\ninterval:\n",
                r->replicates, r->identities);
        for (int k = 0; k < r->far_count; k++) {
            const struct ff_bootstrap_interval *v = &r->interval[k];
            write_number(f, "- {far", v->far);
            fprintf(f, ", low: %.6f, high: %.6f, std: %.6f}\n", 100 * v->low,
                    100 * v->high, 100 * v->std);
        }
    }
    write_text(f, "backend", r->backend);
    fprintf(f, "seconds: %.3f\n", r->seconds);
    write_text(f, "version", FF_VERSION);
    write_text(f, "commit", ff_git_commit());
}

int ff_eval_write_yaml(const char *path, const struct ff_eval_result *r,
                       struct ff_err *err)
{
    struct ff_atomic_file file;
    int rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    write_all(file.stream, r);
    rc = ff_atomic_commit(&file, err);
    if (rc)
        ff_atomic_abort(&file);
    return rc;
}

void ff_eval_print_pairs(FILE *f, const struct ff_eval_pairs *r)
{
    int width = 4;
    for (int i = 0; i < r->count; i++)
        if ((int)strlen(r->file[i].name) > width)
            width = (int)strlen(r->file[i].name);
    fprintf(f, "%-*s | %8s %8s | %10s %8s %9s\n", width, "file", "pairs", "same",
            "accuracy %", "std", "threshold");
    for (int i = 0; i < r->count; i++) {
        const struct ff_pair_accuracy *a = &r->file[i].accuracy;
        double threshold = 0;
        for (int k = 0; k < FF_PAIR_FOLDS; k++)
            threshold += a->threshold[k] / FF_PAIR_FOLDS;
        fprintf(f, "%-*s | %8lld %8lld | %10.3f %8.3f %9.3f\n", width, r->file[i].name,
                (long long)r->file[i].pairs, (long long)r->file[i].same, a->mean,
                a->std, threshold);
    }
    fprintf(f,
            "\nMean and standard deviation over %d folds; the threshold is the mean of "
            "theirs.\n",
            FF_PAIR_FOLDS);
}

static void write_pairs(FILE *f, const struct ff_eval_pairs *r)
{
    write_text(f, "name", r->name);
    fprintf(f, "protocol: pairs\n");
    write_text(f, "model_sha256", r->model_sha256);
    if (r->eval_key)
        write_text(f, "eval_key", r->eval_key);
    fprintf(f, "accuracy:\n");
    for (int i = 0; i < r->count; i++) {
        fprintf(f, "- {name: ");
        ff_yaml_write_string(f, r->file[i].name);
        fprintf(f, ", accuracy: %.6f, std: %.6f, pairs: %lld, same: %lld}\n",
                r->file[i].accuracy.mean, r->file[i].accuracy.std,
                (long long)r->file[i].pairs, (long long)r->file[i].same);
    }
    write_text(f, "backend", r->backend);
    fprintf(f, "seconds: %.3f\n", r->seconds);
    write_text(f, "version", FF_VERSION);
    write_text(f, "commit", ff_git_commit());
}

int ff_eval_write_pairs_yaml(const char *path, const struct ff_eval_pairs *r,
                             struct ff_err *err)
{
    struct ff_atomic_file file;
    int rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    write_pairs(file.stream, r);
    rc = ff_atomic_commit(&file, err);
    if (rc)
        ff_atomic_abort(&file);
    return rc;
}
