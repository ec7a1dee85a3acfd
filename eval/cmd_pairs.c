/* SPDX-License-Identifier: MIT */
/* ff-eval pairs: accuracy on insightface's .bin files.
 *
 * All files are read and their images decoded before the network runs, so that a bad
 * one ends the program in seconds and leaves nothing behind. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "eval_cmd.h"
#include "eval_options.h"
#include "eval_yaml.h"
#include "hash.h"
#include "log.h"
#include "pair_score.h"
#include "params.h"

struct pairs_options {
    struct ff_opt_list bin;
    const char *model, *backend_name, *device, *out, *name, *key;
    int64_t batch, threads, limit_images;
    int backend; /* enum ff_backend */
};

/* Words that are no option are files too: --bin a.bin b.bin. */
static int take_words(struct pairs_options *o, int words, char **argv,
                      struct ff_err *err)
{
    for (int i = 1; i <= words; i++) {
        if (!o->bin.count)
            return ff_err_set(err, FF_EUSAGE, "unexpected word \"%s\"", argv[i]);
        if (o->bin.count == FF_EVAL_MAX_PAIRS)
            return ff_err_set(err, FF_EUSAGE, "--bin: more than %d files",
                              FF_EVAL_MAX_PAIRS);
        o->bin.items[o->bin.count++] = argv[i];
    }
    return 0;
}

static int parse_options(void *options_out, int argc, char **argv, struct ff_err *err)
{
    struct pairs_options *o = options_out;
    _Static_assert(FF_EVAL_MAX_PAIRS == FF_OPT_REPEAT_MAX, "one entry an occurrence");
    *o = (struct pairs_options){.backend_name = "auto", .name = "pairs", .batch = 64};
    const struct ff_opt options[] = {
        {NULL, NULL, FF_OPT_HEADING, NULL, "What to score", 0, 0},
        {"--bin", "FILE...", FF_OPT_REPEAT, &o->bin,
         "files of pairs in insightface's format; words that follow are more of them",
         0, 0},
        {"--model", "FILE", FF_OPT_TEXT, &o->model,
         "model.h5, or a state_dict as safetensors", 0, 0},
        {NULL, NULL, FF_OPT_HEADING, NULL, "Output", 0, 0},
        {"--out", "FILE.yaml", FF_OPT_TEXT, &o->out, "result file", 0, 0},
        {"--name", "NAME", FF_OPT_TEXT, &o->name, "name in it (pairs)", 0, 0},
        {"--key", "TEXT", FF_OPT_TEXT, &o->key, "eval_key in it", 0, 0},
        {NULL, NULL, FF_OPT_HEADING, NULL, "Machine", 0, 0},
        {"--backend", "NAME", FF_OPT_TEXT, &o->backend_name,
         "auto (default), cuda, onednn or ref", 0, 0},
        {"--device", "GPU", FF_OPT_TEXT, &o->device, "its number or UUID (0)", 0, 0},
        {"--batch", "N", FF_OPT_I64, &o->batch, "images a pass of the network (64)", 2,
         65536},
        {"--threads", "N", FF_OPT_I64, &o->threads,
         "CPU threads (all that may be used)", 1, 1024},
        {"--limit-images", "N", FF_OPT_I64, &o->limit_images,
         "embed the first N images, print the speed and stop: no result", 1, INT32_MAX},
    };
    const struct ff_cli cli = {
        .program = "ff-eval pairs",
        .synopsis = "--bin FILE... --model model.h5 [options]",
        .summary = "Verification of labelled pairs (LFW, CFP-FP, AgeDB-30): prints the "
                   "accuracy over ten folds. Images must have the network's size.",
        .examples =
            "  ff-eval pairs --bin lfw.bin cfp_fp.bin agedb_30.bin --model model.h5\n"
            "  ff-eval pairs --bin lfw.bin --model model.h5 --out eval-pairs.yaml\n",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    int words;
    int rc = ff_cli_parse(&words, &cli, argc, argv, err);
    if (!rc)
        rc = take_words(o, words, argv, err);
    if (rc)
        return rc;
    if (!o->bin.count)
        return ff_err_set(err, FF_EUSAGE, "--bin FILE is needed");
    if (!o->model)
        return ff_err_set(err, FF_EUSAGE, "--model FILE.h5 is needed");
    if (!o->threads)
        o->threads = ff_cpu_count();
    rc = ff_parse_backend(&o->backend, o->backend_name, err);
    if (!rc)
        rc = ff_cli_check_input("--model", o->model, err);
    if (!rc)
        rc = ff_check_output("--out", o->out, err);
    struct ff_cli_file files[FF_OPT_REPEAT_MAX + 2] = {{"--model", o->model, false},
                                                       {"--out", o->out, true}};
    for (int k = 0; k < o->bin.count; k++)
        files[2 + k] = (struct ff_cli_file){"--bin", o->bin.items[k], false};
    return rc ? rc : ff_cli_check_apart(files, 2 + o->bin.count, err);
}

/* Opens all files and names them. */
static int open_files(struct ff_bin_pairs *pairs[FF_EVAL_MAX_PAIRS],
                      struct ff_eval_pairs *result, const struct pairs_options *o,
                      int side_px, struct ff_err *err)
{
    for (int i = 0; i < o->bin.count; i++) {
        struct ff_eval_pair_file *file = &result->file[i];
        if (!ff_pair_name(file->name, o->bin.items[i]))
            return ff_err_set(err, FF_EUSAGE,
                              "--bin: %s: the file's name must be of letters, digits, "
                              "_, - and points",
                              o->bin.items[i]);
        for (int k = 0; k < i; k++)
            if (!strcmp(result->file[k].name, file->name))
                return ff_err_set(err, FF_EUSAGE, "--bin: two files are named %s",
                                  file->name);
        int rc = ff_bin_pairs_open(&pairs[i], o->bin.items[i], err);
        if (!rc)
            rc = ff_pair_check(pairs[i], side_px, (int)o->threads, err);
        if (rc)
            return rc;
        file->pairs = pairs[i]->pairs;
        file->same = pairs[i]->same_count;
        result->count++;
    }
    return 0;
}

/* --limit-images: how fast the network runs. */
static int time_network(struct ff_embedder *embedder, const struct pairs_options *o,
                        struct ff_bin_pairs *const pairs[], struct ff_err *err)
{
    int64_t all = 0, done = 0, limit = (o->limit_images + 1) / 2;
    double start = ff_now();
    int rc = 0;
    for (int i = 0; i < o->bin.count; i++)
        all += pairs[i]->pairs;
    for (int i = 0; !rc && i < o->bin.count && done < limit; i++) {
        int64_t left = limit - done;
        int64_t count = left < pairs[i]->pairs ? left : pairs[i]->pairs;
        double *distance = malloc((size_t)count * sizeof *distance);
        if (!distance)
            return ff_err_set(err, FF_ENOMEM, "no memory for distances");
        rc = ff_pair_distances(distance, embedder, pairs[i], count, (int)o->threads,
                               NULL, err);
        free(distance);
        done += count;
    }
    double seconds = ff_now() - start;
    if (!rc)
        printf("%lld of %lld images embedded in %.2f s: %.1f images/s\n",
               2 * (long long)done, 2 * (long long)all, seconds,
               2 * (double)done / seconds);
    return rc;
}

static int run(const void *options, struct ff_err *err)
{
    const struct pairs_options *o = options;
    double start = ff_now();
    char sha256[FF_SHA256_HEX];
    struct ff_embedder *embedder = NULL;
    struct ff_bin_pairs *pairs[FF_EVAL_MAX_PAIRS] = {NULL};
    struct ff_eval_pairs *result = calloc(1, sizeof *result);
    if (!result)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    int rc = ff_sha256_file(sha256, o->model, err);
    if (!rc)
        rc = ff_embedder_create(&embedder, o->model, (int)o->batch,
                                &(struct ff_ops_options){.backend = o->backend,
                                                         .device = o->device,
                                                         .threads = (int)o->threads},
                                err);
    if (!rc)
        rc = open_files(pairs, result, o, ff_embedder_image_size(embedder), err);
    if (rc)
        goto done;
    ff_verbose("backend: %s", ff_embedder_backend(embedder));
    if (o->limit_images) {
        rc = time_network(embedder, o, pairs, err);
        goto done;
    }
    for (int i = 0; !rc && i < result->count; i++)
        rc = ff_pair_score(&result->file[i].accuracy, embedder, pairs[i],
                           (int)o->threads, result->file[i].name, err);
    result->name = o->name;
    result->eval_key = o->key;
    result->model_sha256 = sha256;
    result->backend = ff_embedder_backend(embedder);
    result->seconds = ff_now() - start;
    if (!rc && o->out)
        rc = ff_eval_write_pairs_yaml(o->out, result, err);
    if (!rc)
        ff_eval_print_pairs(stdout, result);
done:
    for (int i = 0; i < FF_EVAL_MAX_PAIRS; i++)
        ff_bin_pairs_close(pairs[i]);
    ff_embedder_destroy(embedder);
    free(result);
    return rc;
}

int ff_cmd_pairs(int argc, char **argv)
{
    static const struct ff_eval_verb verb = {parse_options, run};
    struct pairs_options options;
    return ff_eval_main(&verb, &options, argc, argv);
}
