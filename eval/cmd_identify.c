/* SPDX-License-Identifier: MIT */
/* ff-eval identify: 1:N search of the mixed probes in both galleries. */
#include <stdlib.h>

#include "atomic_file.h"
#include "cli.h"
#include "eval_cmd.h"
#include "eval_options.h"
#include "feature_set.h"
#include "gallery.h"
#include "identify.h"
#include "ijb_meta.h"
#include "log.h"
#include "yaml_doc.h"

struct identify_options {
    struct ff_source_options source;
    const char *fpir_text, *out, *name, *key;
    double fpir[FF_EVAL_MAX_FAR];
    int fpir_count;
};

static int parse_options(void *options_out, int argc, char **argv, struct ff_err *err)
{
    struct identify_options *o = options_out;
    _Static_assert(FF_EVAL_MAX_FAR <= FF_IDENTIFY_MAX_FPIR, "as many rates as points");
    *o = (struct identify_options){.source = FF_SOURCE_INIT, .fpir_text = "0.01,0.1"};
    const struct ff_opt options[] = {
        FF_SOURCE_SET(&o->source),
        FF_SOURCE_SWITCHES(&o->source),
        {"--fpir", "LIST", FF_OPT_TEXT, &o->fpir_text,
         "false positive identification rates, comma between (0.01,0.1)", 0, 0},
        {NULL, NULL, FF_OPT_HEADING, NULL, "Output", 0, 0},
        {"--out", "FILE.yaml", FF_OPT_TEXT, &o->out, "result file", 0, 0},
        {"--name", "NAME", FF_OPT_TEXT, &o->name, "name in it (the protocol)", 0, 0},
        {"--key", "TEXT", FF_OPT_TEXT, &o->key, "eval_key in it", 0, 0},
        FF_SOURCE_SAVE(&o->source),
        FF_SOURCE_MACHINE(&o->source),
    };
    const struct ff_cli cli = {
        .program = "ff-eval identify",
        .synopsis = "--root DIR (--model model.h5 | --features features.h5) [options]",
        .summary = "1:N identification of IJB-B / IJB-C: the mixed probes in each of "
                   "two galleries;\nprints TPIR at each FPIR and rank 1, 5, 10.",
        .examples =
            "  ff-eval identify --root IJBC --model run/model.h5 --out run/1n.yaml\n"
            "  ff-eval identify --root IJBB --protocol ijbb --features features.h5\n",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    int rc = ff_parse_no_words(&cli, argc, argv, err);
    if (!rc)
        rc = ff_source_check(&o->source, err);
    if (rc)
        return rc;
    if (!o->name)
        o->name = o->source.protocol;
    o->source.beside = o->out;
    rc = ff_parse_rates(o->fpir, &o->fpir_count, o->fpir_text, "--fpir", err);
    if (!rc)
        rc = ff_check_output("--out", o->out, err);
    const struct ff_cli_file files[] = {
        {"--model", o->source.model, false},
        {"--features", o->source.features, false},
        {"--save-features", o->source.save_features, true},
        {"--out", o->out, true}};
    return rc ? rc : ff_cli_check_apart(files, sizeof files / sizeof *files, err);
}

/* Everything the table and the file say. */
struct report {
    const struct identify_options *options;
    const struct ff_feature_set *set;
    const struct ff_ijb_meta *meta;
    struct ff_identify_result result;
    int64_t missing;
    double seconds;
};

static void print_table(const struct report *report)
{
    const struct ff_identify_result *r = &report->result;
    const struct ff_pool_switches *s = &report->options->source.switches;
    printf("%s 1:N: %d probes in galleries of %d and %d templates; %lld mated and %lld "
           "non-mated searches\nflip %s, norm %s, det %s",
           report->options->source.protocol[3] == 'b' ? "IJB-B" : "IJB-C", r->probes,
           r->gallery[0], r->gallery[1], (long long)r->mated, (long long)r->nonmated,
           s->flip ? "on" : "off", s->norm ? "on" : "off", s->det ? "on" : "off");
    if (report->missing)
        printf("; %lld images MISSING", (long long)report->missing);
    printf("\n\n%8s | %8s %10s %9s %11s | %8s %10s %11s\n", "FPIR", "TPIR %",
           "threshold", "accepts", "actual FPIR", "compat %", "threshold",
           "actual FPIR");
    for (int k = 0; k < r->fpir_count; k++) {
        const struct ff_identify_point *t = &r->tpir[k], *c = &r->compat[k];
        printf("%8.3g | %8.4f %10.6f %9lld %11.3g | %8.4f %10.6f %11.3g\n", t->fpir,
               100 * t->tpir, t->threshold, (long long)t->false_accepts, t->actual_fpir,
               100 * c->tpir, c->threshold, c->actual_fpir);
    }
    for (int k = 0; k < FF_IDENTIFY_RANKS; k++)
        printf("%srank %-3d | %8.4f %32s | %8.4f\n", k ? "" : "\n", ff_identify_rank[k],
               100 * r->rank[k], "", 100 * r->compat_rank[k]);
    printf("\n'accepts' are non-mated searches with a top score above the threshold; "
           "compat joins the\ngalleries, as published tables do.\n");
}

static void write_points(FILE *f, const char *key,
                         const struct ff_identify_point *point, int n)
{
    fprintf(f, "%s:\n", key);
    for (int k = 0; k < n; k++) {
        fprintf(f, "- {fpir: ");
        ff_yaml_write_f64(f, point[k].fpir);
        fprintf(f, ", tpir: %.6f, threshold: ", 100 * point[k].tpir);
        ff_yaml_write_f64(f, point[k].threshold);
        fprintf(f, ", false_accepts: %lld, actual_fpir: ",
                (long long)point[k].false_accepts);
        ff_yaml_write_f64(f, point[k].actual_fpir);
        fprintf(f, "}\n");
    }
}

static void write_text(FILE *f, const char *key, const char *text)
{
    fprintf(f, "%s: ", key);
    ff_yaml_write_string(f, text);
    fputc('\n', f);
}

static void write_all(FILE *f, const struct report *report)
{
    const struct identify_options *o = report->options;
    const struct ff_identify_result *r = &report->result;
    const struct ff_pool_switches *s = &o->source.switches;
    write_text(f, "name", o->name);
    fprintf(f, "protocol: %s\ntest: identification\n", o->source.protocol);
    fprintf(f, "flip: %s\nnorm: %s\ndet: %s\n", s->flip ? "true" : "false",
            s->norm ? "true" : "false", s->det ? "true" : "false");
    fprintf(f, "images: %lld\ntemplates: %d\nmissing: %lld\n",
            (long long)report->meta->image_count, report->meta->template_count,
            (long long)report->missing);
    fprintf(f, "gallery: [%d, %d]\nprobes: %d\nmated: %lld\nnonmated: %lld\n",
            r->gallery[0], r->gallery[1], r->probes, (long long)r->mated,
            (long long)r->nonmated);
    write_text(f, "model_sha256", report->set->model_sha256);
    if (o->key)
        write_text(f, "eval_key", o->key);
    write_points(f, "tpir", r->tpir, r->fpir_count);
    write_points(f, "compat", r->compat, r->fpir_count);
    fprintf(f, "rank:\n");
    for (int k = 0; k < FF_IDENTIFY_RANKS; k++)
        fprintf(f, "- {rank: %d, found: %.6f, compat: %.6f}\n", ff_identify_rank[k],
                100 * r->rank[k], 100 * r->compat_rank[k]);
    write_text(f, "backend", report->set->backend);
    fprintf(f, "seconds: %.3f\n", report->seconds);
    write_text(f, "version", FF_VERSION);
    write_text(f, "commit", ff_git_commit());
}

static int write_yaml(const struct report *report, struct ff_err *err)
{
    struct ff_atomic_file file;
    int rc = ff_atomic_begin(&file, report->options->out, err);
    if (rc)
        return rc;
    write_all(file.stream, report);
    rc = ff_atomic_commit(&file, err);
    if (rc)
        ff_atomic_abort(&file);
    return rc;
}

static int run(const void *options, struct ff_err *err)
{
    const struct identify_options *o = options;
    double start = ff_now();
    const struct ff_source_options *source = &o->source;
    int threads = (int)source->threads;
    struct ff_feature_set set = {0};
    struct ff_gallery_lists lists = {.probe = {0}};
    struct report report = {.options = o, .set = &set};
    struct ff_ijb_meta *meta;
    float *templates = NULL;
    int rc =
        ff_ijb_meta_load(&meta, source->root, source->protocol, false, threads, err);
    if (rc)
        return rc;
    report.meta = meta;
    rc = ff_gallery_load(&lists, source->root, source->protocol, meta, err);
    if (!rc)
        rc = ff_feature_set_get(&set, source, meta, err);
    if (!rc)
        rc = ff_feature_set_pool(&templates, &report.missing, &set, source, meta, err);
    double searching = ff_now();
    if (!rc)
        rc = ff_identify(&report.result, templates, set.dim, &lists, o->fpir,
                         o->fpir_count, threads, err);
    report.seconds = ff_now() - start;
    ff_verbose("searched in %.2f s", ff_now() - searching);
    if (!rc && o->out)
        rc = write_yaml(&report, err);
    if (!rc)
        print_table(&report);
    free(templates);
    ff_feature_set_fini(&set);
    ff_gallery_fini(&lists);
    ff_ijb_meta_destroy(meta);
    return rc;
}

int ff_cmd_identify(int argc, char **argv)
{
    static const struct ff_eval_verb verb = {parse_options, run};
    struct identify_options options;
    return ff_eval_main(&verb, &options, argc, argv);
}
