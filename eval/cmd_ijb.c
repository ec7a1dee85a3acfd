/* SPDX-License-Identifier: MIT */
/* ff-eval ijb: from photographs or stored features to the TAR table.
 *
 * meta files -> features (network, or features.h5) -> templates -> pair scores ->
 * sorted once -> both TAR definitions, bootstrap -> table, eval yaml, scores. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "bootstrap.h"
#include "cli.h"
#include "embed.h"
#include "eval_cmd.h"
#include "eval_yaml.h"
#include "feature_file.h"
#include "hash.h"
#include "ijb_meta.h"
#include "log.h"
#include "params.h"
#include "pool.h"
#include "roc.h"
#include "score.h"
#include "yaml_doc.h"

struct ijb_options {
    const char *root, *protocol, *model, *features, *backend_name, *far_text;
    const char *save_features, *save_scores, *out, *name, *key;
    bool allow_missing;
    int64_t batch, threads, replicates, limit_images;
    struct ff_pool_switches switches;
    enum ff_backend backend;
    double far[FF_EVAL_MAX_FAR];
    int far_count;
};

/* Features in the order of the meta file's images or joined by `row`. */
struct feature_set {
    const float *data; /* (rows, 2 * D) f32, borrowed from file or owned */
    int dim;
    int64_t *row; /* (N) row of image i */
    struct ff_features *file;
    float *owned;
};

static int parse_backend(struct ijb_options *o, struct ff_err *err)
{
    static const char *const names[] = {"auto", "cuda", "onednn", "ref"};
    for (int i = 0; i < 4; i++) {
        if (!strcmp(o->backend_name, names[i])) {
            o->backend = (enum ff_backend)i;
            return 0;
        }
    }
    return ff_err_set(err, FF_EUSAGE,
                      "--backend: \"%s\" is none of auto, cuda, onednn, ref",
                      o->backend_name);
}

static int compare_far(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* "1e-6,1e-5,...": rising, each in (0, 1]. */
static int parse_far(struct ijb_options *o, struct ff_err *err)
{
    const char *p = o->far_text;
    for (;;) {
        char item[64];
        size_t length = strcspn(p, ",");
        snprintf(item, sizeof item, "%.*s", (int)length, p);
        double far;
        if (length >= sizeof item || ff_parse_f64(&far, item) || !(far > 0 && far <= 1))
            return ff_err_set(err, FF_EUSAGE,
                              "--far: \"%s\" is not a rate above 0 and at most 1",
                              item);
        if (o->far_count == FF_EVAL_MAX_FAR)
            return ff_err_set(err, FF_EUSAGE, "--far: more than %d rates",
                              FF_EVAL_MAX_FAR);
        o->far[o->far_count++] = far;
        if (!p[length])
            break;
        p += length + 1;
    }
    qsort(o->far, (size_t)o->far_count, sizeof *o->far, compare_far);
    for (int k = 1; k < o->far_count; k++) {
        if (o->far[k] == o->far[k - 1])
            return ff_err_set(err, FF_EUSAGE, "--far: %g is given twice", o->far[k]);
    }
    return 0;
}

static int check_options(struct ijb_options *o, struct ff_err *err)
{
    if (!o->root)
        return ff_err_set(err, FF_EUSAGE, "--root DIR is needed");
    if (!o->model == !o->features)
        return ff_err_set(err, FF_EUSAGE, "one of --model and --features is needed");
    if (strcmp(o->protocol, "ijbc") && strcmp(o->protocol, "ijbb"))
        return ff_err_set(err, FF_EUSAGE, "--protocol: \"%s\" is neither ijbc nor ijbb",
                          o->protocol);
    if (o->features && o->save_features)
        return ff_err_set(err, FF_EUSAGE, "--save-features needs --model");
    if (o->features && o->limit_images)
        return ff_err_set(err, FF_EUSAGE, "--limit-images needs --model");
    if (o->limit_images && o->save_features)
        return ff_err_set(err, FF_EUSAGE,
                          "--limit-images times the network and saves no features");
    if (o->replicates == 1)
        return ff_err_set(err, FF_EUSAGE, "--bootstrap: 1 is too few, at least 2");
    if (!o->name)
        o->name = o->protocol;
    if (!o->threads)
        o->threads = ff_cpu_count();
    int rc = parse_backend(o, err);
    return rc ? rc : parse_far(o, err);
}

static int parse_options(struct ijb_options *o, int argc, char **argv,
                         struct ff_err *err)
{
    *o = (struct ijb_options){
        .protocol = "ijbc",
        .backend_name = "auto",
        .far_text = "1e-6,1e-5,1e-4,1e-3,1e-2,1e-1",
        .batch = 64,
        .switches = {true, true, true},
    };
    const struct ff_opt options[] = {
        {NULL, NULL, FF_OPT_HEADING, NULL, "What to score", 0, 0},
        {"--root", "DIR", FF_OPT_TEXT, &o->root,
         "evaluation set: meta/ and loose_crop/ below it", 0, 0},
        {"--protocol", "NAME", FF_OPT_TEXT, &o->protocol, "ijbc (default) or ijbb", 0,
         0},
        {"--model", "FILE.h5", FF_OPT_TEXT, &o->model, "model.h5 of a training run", 0,
         0},
        {"--features", "FILE.h5", FF_OPT_TEXT, &o->features,
         "stored features instead of a model", 0, 0},
        {"--allow-missing", NULL, FF_OPT_FLAG, &o->allow_missing,
         "leave out missing and corrupt pictures and say how many", 0, 0},
        {NULL, NULL, FF_OPT_HEADING, NULL, "Switches of the protocol", 0, 0},
        {"--flip", "on|off", FF_OPT_ONOFF, &o->switches.flip,
         "add the mirror image's embedding (on)", 0, 0},
        {"--norm", "on|off", FF_OPT_ONOFF, &o->switches.norm,
         "keep an embedding's length as quality weight (on)", 0, 0},
        {"--det", "on|off", FF_OPT_ONOFF, &o->switches.det,
         "weigh by the detector's score (on)", 0, 0},
        {"--far", "LIST", FF_OPT_TEXT, &o->far_text,
         "false accept rates, comma between (1e-6,1e-5 .. 1e-1)", 0, 0},
        {"--bootstrap", "N", FF_OPT_I64, &o->replicates,
         "95 % intervals from N draws of identities (0 = none)", 0, 1000000},
        {NULL, NULL, FF_OPT_HEADING, NULL, "Output", 0, 0},
        {"--out", "FILE.yaml", FF_OPT_TEXT, &o->out, "result file", 0, 0},
        {"--name", "NAME", FF_OPT_TEXT, &o->name, "name in it (the protocol)", 0, 0},
        {"--key", "TEXT", FF_OPT_TEXT, &o->key, "eval_key in it", 0, 0},
        {"--save-features", "FILE.h5", FF_OPT_TEXT, &o->save_features,
         "keep the features; an unfinished file of the same model is continued", 0, 0},
        {"--save-scores", "FILE.h5", FF_OPT_TEXT, &o->save_scores,
         "keep the scores, in the order of the pair file", 0, 0},
        {NULL, NULL, FF_OPT_HEADING, NULL, "Machine", 0, 0},
        {"--backend", "NAME", FF_OPT_TEXT, &o->backend_name,
         "auto (default), cuda, onednn or ref", 0, 0},
        {"--batch", "N", FF_OPT_I64, &o->batch, "images a pass of the network (64)", 1,
         65536},
        {"--threads", "N", FF_OPT_I64, &o->threads,
         "CPU threads (all that may be used)", 1, 1024},
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
    int words;
    int rc = ff_cli_parse(&words, &cli, argc, argv, err);
    if (rc)
        return rc;
    if (words)
        return ff_err_set(err, FF_EUSAGE, "unexpected word \"%s\"", argv[1]);
    return check_options(o, err);
}

static const char **image_names(const struct ff_ijb_meta *meta)
{
    const char **names = malloc((size_t)meta->image_count * sizeof *names);
    for (int64_t i = 0; names && i < meta->image_count; i++)
        names[i] = meta->image[i].name;
    return names;
}

static void feature_set_fini(struct feature_set *set)
{
    ff_features_close(set->file);
    free(set->owned);
    free(set->row);
}

/* Opens a features file and joins it to the images. */
static int use_file(struct feature_set *set, const char *path, const char **names,
                    const struct ff_ijb_meta *meta, struct ff_err *err)
{
    bool reordered;
    int rc = ff_features_open(&set->file, path, err);
    if (!rc)
        rc = ff_features_join(set->row, &reordered, set->file, path, names,
                              meta->image_count, err);
    if (rc)
        return rc;
    if (reordered)
        ff_info("%s: rows in another order than the image list; joined by name", path);
    set->data = set->file->data;
    set->dim = set->file->dim;
    return 0;
}

/* Runs the network over all images, into memory or through --save-features. */
static int use_model(struct feature_set *set, struct ff_embedder *embedder,
                     const struct ijb_options *o, const char *model_sha256,
                     const char **names, const struct ff_ijb_meta *meta,
                     struct ff_err *err)
{
    struct ff_embed_options embed = {
        .root = o->root,
        .batch = (int)o->batch,
        .threads = (int)o->threads,
        .flip = o->switches.flip || o->save_features,
        .allow_missing = o->allow_missing,
    };
    int64_t missing, first = 0;
    set->dim = ff_embedder_dim(embedder);
    if (!o->save_features) {
        size_t values = (size_t)meta->image_count * 2 * (size_t)set->dim;
        set->owned = malloc(values * sizeof *set->owned);
        if (!set->owned)
            return ff_err_set(err, FF_ENOMEM, "no memory for %lld features",
                              (long long)meta->image_count);
        set->data = set->owned;
        return ff_embed_images(set->owned, NULL, &missing, embedder, 0, meta, &embed,
                               err);
    }
    struct ff_features_writer *writer;
    int rc = ff_features_create(&writer, &first, o->save_features, names,
                                meta->image_count, set->dim, model_sha256, err);
    if (rc)
        return rc;
    if (first)
        ff_info("%s: going on after %lld images", o->save_features, (long long)first);
    rc = ff_embed_images(NULL, writer, &missing, embedder, first, meta, &embed, err);
    int64_t done = ff_features_rows_done(writer);
    ff_features_writer_close(writer);
    if (rc && !done)
        unlink(o->save_features);
    return rc ? rc : use_file(set, o->save_features, names, meta, err);
}

/* --limit-images: how fast the network runs. */
static int time_network(struct ff_embedder *embedder, const struct ijb_options *o,
                        struct ff_ijb_meta *meta, struct ff_err *err)
{
    struct ff_embed_options embed = {
        .root = o->root,
        .batch = (int)o->batch,
        .threads = (int)o->threads,
        .flip = o->switches.flip,
        .allow_missing = o->allow_missing,
    };
    int64_t missing, all = meta->image_count;
    if (o->limit_images < all)
        meta->image_count = o->limit_images;
    size_t values = (size_t)meta->image_count * 2 * (size_t)ff_embedder_dim(embedder);
    float *features = malloc(values * sizeof *features);
    if (!features)
        return ff_err_set(err, FF_ENOMEM, "no memory for features");
    double start = ff_now();
    int rc = ff_embed_images(features, NULL, &missing, embedder, 0, meta, &embed, err);
    double seconds = ff_now() - start;
    if (!rc)
        printf("%lld of %lld images embedded in %.2f s: %.1f images/s\n",
               (long long)meta->image_count, (long long)all, seconds,
               (double)meta->image_count / seconds);
    free(features);
    return rc;
}

static int get_features(struct feature_set *set, struct ff_eval_result *result,
                        char sha256[FF_SHA256_HEX], char backend[256],
                        const struct ijb_options *o, struct ff_ijb_meta *meta,
                        struct ff_err *err)
{
    struct ff_embedder *embedder = NULL;
    const char **names = image_names(meta);
    int rc = 0;
    set->row = malloc((size_t)meta->image_count * sizeof *set->row);
    if (!names || !set->row) {
        rc = ff_err_set(err, FF_ENOMEM, "no memory for %lld names",
                        (long long)meta->image_count);
        goto done;
    }
    for (int64_t i = 0; i < meta->image_count; i++)
        set->row[i] = i;
    if (o->features) {
        rc = use_file(set, o->features, names, meta, err);
        if (!rc)
            snprintf(sha256, FF_SHA256_HEX, "%s", set->file->model_sha256);
        goto done;
    }
    rc = ff_sha256_file(sha256, o->model, err);
    if (!rc)
        rc = ff_embedder_create(&embedder, o->model, (int)o->batch, (int)o->backend,
                                (int)o->threads, err);
    if (rc)
        goto done;
    snprintf(backend, 256, "%s", ff_embedder_backend(embedder));
    ff_verbose("backend: %s", backend);
    if (o->limit_images)
        rc = time_network(embedder, o, meta, err);
    else
        rc = use_model(set, embedder, o, sha256, names, meta, err);
done:
    result->backend = backend;
    result->model_sha256 = sha256;
    ff_embedder_destroy(embedder);
    free(names);
    return rc;
}

/* Pools and scores; score (pairs) f32. */
static int score_set(float *score, int64_t *missing, const struct feature_set *set,
                     const struct ijb_options *o, const struct ff_ijb_meta *meta,
                     struct ff_err *err)
{
    size_t values = (size_t)meta->template_count * (size_t)set->dim;
    float *templates = malloc(values * sizeof *templates);
    if (!templates)
        return ff_err_set(err, FF_ENOMEM, "no memory for %d templates",
                          meta->template_count);
    int rc = ff_pool_templates(templates, missing, set->data, set->dim, set->row, meta,
                               o->switches, (int)o->threads, err);
    if (!rc && *missing && !o->allow_missing)
        rc = ff_err_set(err, FF_EDATA,
                        "%lld of %lld images have a zero feature (no picture); "
                        "--allow-missing leaves them out",
                        (long long)*missing, (long long)meta->image_count);
    if (!rc)
        rc = ff_score_pairs(score, templates, set->dim, meta->pair_a, meta->pair_b,
                            meta->pair_count, (int)o->threads, err);
    free(templates);
    return rc;
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
                              o->far_count, (int)o->threads, err);
    if (!rc)
        rc = ff_bootstrap_intervals(result->interval, tar, replicates, o->far,
                                    o->far_count, err);
    result->replicates = replicates;
    free(tar);
    return rc;
}

static int evaluate(struct ff_eval_result *result, const struct feature_set *set,
                    const struct ijb_options *o, const struct ff_ijb_meta *meta,
                    struct ff_err *err)
{
    struct ff_roc *roc = NULL;
    float *score = malloc((size_t)meta->pair_count * sizeof *score);
    if (!score)
        return ff_err_set(err, FF_ENOMEM, "no memory for %lld scores",
                          (long long)meta->pair_count);
    int rc = score_set(score, &result->missing, set, o, meta, err);
    if (!rc)
        rc = ff_roc_create(&roc, score, meta->genuine, meta->pair_count,
                           (int)o->threads, err);
    if (rc)
        goto done;
    ff_roc_tar(result->tar, roc, o->far, o->far_count);
    ff_roc_compat(result->compat, roc, o->far, o->far_count);
    result->far_count = o->far_count;
    if (o->replicates)
        rc = bootstrap(result, roc, o, meta, err);
    if (!rc && o->save_scores)
        rc = ff_score_save(o->save_scores, score, meta->pair_count, err);
done:
    ff_roc_destroy(roc);
    free(score);
    return rc;
}

static int run(const struct ijb_options *o, struct ff_err *err)
{
    double start = ff_now();
    char sha256[FF_SHA256_HEX] = "", backend[256] = "none";
    struct feature_set set = {0};
    struct ff_ijb_meta *meta;
    int rc = ff_ijb_meta_load(&meta, o->root, o->protocol, true, (int)o->threads, err);
    if (rc)
        return rc;
    ff_verbose("meta files read in %.2f s", ff_now() - start);
    if (meta->reordered)
        ff_info(
            "the lists of points and templates have different row orders; joined by "
            "name");
    struct ff_eval_result result = {
        .name = o->name,
        .protocol = o->protocol,
        .eval_key = o->key,
        .switches = o->switches,
        .images = meta->image_count,
        .templates = meta->template_count,
        .pairs = meta->pair_count,
        .genuine = meta->genuine_count,
    };
    rc = get_features(&set, &result, sha256, backend, o, meta, err);
    if (rc || o->limit_images)
        goto done;
    rc = evaluate(&result, &set, o, meta, err);
    result.seconds = ff_now() - start;
    if (!rc && o->out)
        rc = ff_eval_write_yaml(o->out, &result, err);
    if (!rc)
        ff_eval_print(stdout, &result);
done:
    feature_set_fini(&set);
    ff_ijb_meta_destroy(meta);
    return rc;
}

int ff_cmd_ijb(int argc, char **argv)
{
    struct ff_err err = FF_ERR_INIT;
    struct ijb_options options;
    int rc = parse_options(&options, argc, argv, &err);
    if (rc == 1)
        return FF_EXIT_OK;
    if (!rc)
        rc = run(&options, &err);
    if (rc)
        ff_error("%s", err.text);
    return ff_err_exit_code(rc);
}
