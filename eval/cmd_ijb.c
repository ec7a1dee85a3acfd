/* SPDX-License-Identifier: MIT */
/* ff-eval ijb: from photographs or stored features to the TAR table.
 *
 * meta files -> features (network, or features.h5) -> templates -> pair scores ->
 * sorted once -> both TAR definitions, bootstrap -> table, eval yaml, scores. */
#include <stdlib.h>
#include <string.h>

#include "bootstrap.h"
#include "cli.h"
#include "eval_cmd.h"
#include "eval_options.h"
#include "eval_yaml.h"
#include "feature_set.h"
#include "ijb_meta.h"
#include "log.h"
#include "roc.h"
#include "roc_curve.h"
#include "score.h"

struct ijb_options {
    struct ff_source_options source;
    const char *far_text, *save_scores, *out, *name, *key;
    struct ff_opt_list roc;
    int64_t replicates, limit_images;
    double far[FF_EVAL_MAX_FAR];
    int far_count;
};

static int check_options(struct ijb_options *o, struct ff_err *err)
{
    int rc = ff_source_check(&o->source, err);
    if (rc)
        return rc;
    if (o->source.features && o->limit_images)
        return ff_err_set(err, FF_EUSAGE, "--limit-images needs --model");
    if (o->limit_images && o->source.save_features)
        return ff_err_set(err, FF_EUSAGE,
                          "--limit-images times the network and saves no features");
    for (int k = 0; k < o->roc.count && !rc; k++)
        rc = ff_roc_check_path(o->roc.items[k], err);
    if (rc)
        return rc;
    if (o->replicates == 1)
        return ff_err_set(err, FF_EUSAGE, "--bootstrap: 1 is too few, at least 2");
    if (!o->name)
        o->name = o->source.protocol;
    o->source.beside = o->out;
    rc = ff_parse_rates(o->far, &o->far_count, o->far_text, "--far", err);
    for (int k = 0; k < o->roc.count && !rc; k++)
        rc = ff_check_output("--roc", o->roc.items[k], err);
    if (!rc)
        rc = ff_check_output("--save-scores", o->save_scores, err);
    if (!rc)
        rc = ff_check_output("--out", o->out, err);
    struct ff_cli_file files[FF_OPT_REPEAT_MAX + 5] = {
        {"--model", o->source.model, false},
        {"--features", o->source.features, false},
        {"--save-features", o->source.save_features, true},
        {"--save-scores", o->save_scores, true},
        {"--out", o->out, true}};
    for (int k = 0; k < o->roc.count; k++)
        files[5 + k] = (struct ff_cli_file){"--roc", o->roc.items[k], true};
    return rc ? rc : ff_cli_check_apart(files, 5 + o->roc.count, err);
}

static int parse_options(void *options_out, int argc, char **argv, struct ff_err *err)
{
    struct ijb_options *o = options_out;
    *o = (struct ijb_options){
        .source = FF_SOURCE_INIT,
        .far_text = "1e-6,1e-5,1e-4,1e-3,1e-2,1e-1",
    };
    const struct ff_opt options[] = {
        FF_SOURCE_SET(&o->source),
        FF_SOURCE_SWITCHES(&o->source),
        {"--far", "LIST", FF_OPT_TEXT, &o->far_text,
         "false accept rates, comma between (1e-6,1e-5 .. 1e-1)", 0, 0},
        {"--bootstrap", "N", FF_OPT_I64, &o->replicates,
         "95 % intervals from N draws of identities (0 = none)", 0, 1000000},
        {NULL, NULL, FF_OPT_HEADING, NULL, "Output", 0, 0},
        {"--out", "FILE.yaml", FF_OPT_TEXT, &o->out, "result file", 0, 0},
        {"--name", "NAME", FF_OPT_TEXT, &o->name, "name in it (the protocol)", 0, 0},
        {"--key", "TEXT", FF_OPT_TEXT, &o->key, "eval_key in it", 0, 0},
        FF_SOURCE_SAVE(&o->source),
        {"--roc", "FILE", FF_OPT_REPEAT, &o->roc,
         "the whole curve as FILE.csv, FILE.png or FILE.svg; may be repeated", 0, 0},
        {"--save-scores", "FILE.h5", FF_OPT_TEXT, &o->save_scores,
         "keep the scores, in the order of the pair file", 0, 0},
        FF_SOURCE_MACHINE(&o->source),
        {"--limit-images", "N", FF_OPT_I64, &o->limit_images,
         "embed the first N images, print the speed and stop: no result", 1, INT32_MAX},
    };
    const struct ff_cli cli = {
        .program = "ff-eval ijb",
        .synopsis = "--root DIR (--model model.h5 | --features features.h5) [options]",
        .summary =
            "1:1 verification of IJB-B / IJB-C templates: prints TAR at each FAR.",
        .examples =
            "  ff-eval ijb --root IJBC --model run/model.h5 --out run/eval-ijbc.yaml\n"
            "  ff-eval ijb --root IJBB --protocol ijbb --model model.h5 "
            "--save-features features.h5\n"
            "  ff-eval ijb --root IJBC --features features.h5 --flip off "
            "--bootstrap 1000\n",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    int rc = ff_parse_no_words(&cli, argc, argv, err);
    return rc ? rc : check_options(o, err);
}

static int bootstrap(struct ff_eval_result *result, const struct ff_roc *roc,
                     const struct ijb_options *o, const struct ff_ijb_meta *meta,
                     struct ff_err *err)
{
    int replicates = (int)o->replicates;
    size_t values = (size_t)replicates * (size_t)o->far_count;
    double *tar = malloc(values * sizeof *tar);
    if (!tar)
        return ff_err_set(err, FF_ENOMEM, "no memory for %d replicates", replicates);
    int rc = ff_bootstrap_run(tar, &result->identities, replicates, roc, meta, o->far,
                              o->far_count, (int)o->source.threads, err);
    if (!rc)
        rc = ff_bootstrap_intervals(result->interval, tar, replicates, o->far,
                                    o->far_count, err);
    result->replicates = replicates;
    free(tar);
    return rc;
}

static int evaluate(struct ff_eval_result *result, const struct ff_feature_set *set,
                    const struct ijb_options *o, const struct ff_ijb_meta *meta,
                    struct ff_err *err)
{
    struct ff_roc *roc = NULL;
    float *templates = NULL, *score = NULL;
    int threads = (int)o->source.threads;
    double start = ff_now();
    int rc =
        ff_feature_set_pool(&templates, &result->missing, set, &o->source, meta, err);
    if (rc)
        goto done;
    ff_verbose("templates pooled in %.2f s", ff_now() - start);
    score = malloc((size_t)meta->pair_count * sizeof *score);
    if (!score) {
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %lld scores",
                        (long long)meta->pair_count);
        goto done;
    }
    start = ff_now();
    rc = ff_score_pairs(score, templates, set->dim, meta->pair_a, meta->pair_b,
                        meta->pair_count, threads, err);
    ff_verbose("pairs scored in %.2f s", ff_now() - start);
    start = ff_now();
    if (!rc)
        rc = ff_roc_create(&roc, score, meta->genuine, meta->pair_count, threads, err);
    if (rc)
        goto done;
    ff_roc_tar(result->tar, roc, o->far, o->far_count);
    ff_roc_compat(result->compat, roc, o->far, o->far_count);
    ff_verbose("scores sorted and read in %.2f s", ff_now() - start);
    result->far_count = o->far_count;
    if (o->replicates)
        rc = bootstrap(result, roc, o, meta, err);
    for (int k = 0; k < o->roc.count && !rc; k++)
        rc =
            ff_roc_write(o->roc.items[k], roc, o->name, result->tar, o->far_count, err);
    if (!rc && o->save_scores)
        rc = ff_score_save(o->save_scores, score, meta->pair_count, err);
done:
    ff_roc_destroy(roc);
    free(score);
    free(templates);
    return rc;
}

static int run(const void *options, struct ff_err *err)
{
    const struct ijb_options *o = options;
    double start = ff_now();
    const struct ff_source_options *source = &o->source;
    struct ff_feature_set set = {0};
    struct ff_ijb_meta *meta;
    int rc = ff_ijb_meta_load(&meta, source->root, source->protocol, true,
                              (int)source->threads, err);
    if (rc)
        return rc;
    ff_verbose("meta files read in %.2f s", ff_now() - start);
    if (meta->reordered)
        ff_info(
            "the lists of points and templates have different row orders; joined by "
            "name");
    if (o->limit_images) {
        rc = ff_feature_set_time(source, o->limit_images, meta, err);
        goto done;
    }
    double read = ff_now();
    rc = ff_feature_set_get(&set, source, meta, err);
    if (rc)
        goto done;
    ff_verbose("features there in %.2f s", ff_now() - read);
    struct ff_eval_result result = {
        .name = o->name,
        .protocol = source->protocol,
        .eval_key = o->key,
        .model_sha256 = set.model_sha256,
        .backend = set.backend,
        .switches = source->switches,
        .images = meta->image_count,
        .templates = meta->template_count,
        .pairs = meta->pair_count,
        .genuine = meta->genuine_count,
    };
    rc = evaluate(&result, &set, o, meta, err);
    result.seconds = ff_now() - start;
    if (!rc && o->out)
        rc = ff_eval_write_yaml(o->out, &result, err);
    if (!rc)
        ff_eval_print(stdout, &result);
done:
    ff_feature_set_fini(&set);
    ff_ijb_meta_destroy(meta);
    return rc;
}

int ff_cmd_ijb(int argc, char **argv)
{
    static const struct ff_eval_verb verb = {parse_options, run};
    struct ijb_options options;
    return ff_eval_main(&verb, &options, argc, argv);
}
