/* SPDX-License-Identifier: MIT */
/* The verb `ff-data synth`: options, their ranges and help. */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "log.h"
#include "process.h"
#include "synth_set.h"

enum { SHEET_ROWS = 8, SHEET_COLUMNS = 10 };

static bool names_png(const char *path)
{
    size_t length = strlen(path);
    return length > 4 && !strcmp(path + length - 4, ".png");
}

static int run(const char *out, const char *sheet, const struct ff_synth_options *o,
               struct ff_err *err)
{
    if (!out && !sheet)
        return ff_err_set(err, FF_EUSAGE,
                          "nothing to do: give --out DIR or --sheet FILE.png");
    if (sheet && !names_png(sheet))
        return ff_err_set(err, FF_EUSAGE, "--sheet: \"%s\" does not end in .png",
                          sheet);
    if (o->image_size % 16)
        return ff_err_set(err, FF_EUSAGE, "--image-size %lld: not a multiple of 16",
                          (long long)o->image_size);
    if (sheet) {
        int rows = o->identities < SHEET_ROWS ? (int)o->identities : SHEET_ROWS;
        int columns = o->images < SHEET_COLUMNS ? (int)o->images : SHEET_COLUMNS;
        int code = ff_synth_sheet(sheet, rows, columns, o, err);
        if (code)
            return code;
        ff_info("%s: %d people, %d pictures each", sheet, rows, columns);
    }
    return out ? ff_synth_write(out, o, err) : 0;
}

int ff_cmd_synth(int argc, char **argv)
{
    struct ff_synth_options o = FF_SYNTH_OPTIONS_INIT;
    const char *out = NULL, *sheet = NULL;
    bool no_check = false;
    struct ff_err err = FF_ERR_INIT;
    int words = 0;
    const struct ff_opt options[] = {
        {"--out", "DIR", FF_OPT_TEXT, &out, "folder to make: train/, ijb/, synth.yaml",
         0, 0},
        {NULL, NULL, FF_OPT_HEADING, NULL, "Training set (RecordIO, aligned)", 0, 0},
        {"--identities", "N", FF_OPT_I64, &o.identities, "people (default 200)", 1,
         1 << 24},
        {"--images", "M", FF_OPT_I64, &o.images, "pictures of each (default 40)", 1,
         1 << 20},
        {"--image-size", "S", FF_OPT_I64, &o.image_size,
         "side in pixels, a multiple of 16 (default 112)", 16, 1024},
        {NULL, NULL, FF_OPT_HEADING, NULL,
         "Evaluation set (IJB-C format, other people)", 0, 0},
        {"--eval-identities", "K", FF_OPT_I64, &o.eval_identities,
         "people (default 400)", 2, 1 << 20},
        {"--eval-images", "M", FF_OPT_I64, &o.eval_images,
         "pictures of each (default 12)", 2, 1000},
        {"--impostor-pairs", "N", FF_OPT_I64, &o.impostor_pairs,
         "pairs of different people; 0 = 20 a template, at least 100000 (default 0)", 0,
         1e9},
        {NULL, NULL, FF_OPT_HEADING, NULL, "Both", 0, 0},
        {"--seed", "S", FF_OPT_I64, &o.seed, "of everything (default 1)", 0, 0x1p52},
        {"--hardness", "H", FF_OPT_F64, &o.hardness,
         "scales pose, light, expression, blur, noise, occlusion (default 1.0)", 0, 4},
        {"--sheet", "FILE.png", FF_OPT_TEXT, &sheet,
         "contact sheet: a row a person, a column a picture", 0, 0},
        {"--threads", "N", FF_OPT_I64, &o.threads, "0 = all CPUs (default 0)", 0, 1024},
        {"--no-check", NULL, FF_OPT_FLAG, &no_check,
         "skip nearest identities and pixel matching", 0, 0},
    };
    const struct ff_cli cli = {
        .program = "ff-data synth",
        .synopsis = "--out DIR [--identities N] [--images M] [--seed S] [...]",
        .summary =
            "Makes synthetic faces: a training set in RecordIO and, of other people, "
            "an evaluation set in IJB-C format. The bytes depend on the options alone.",
        .examples =
            "  ff-data synth --out faces --identities 200 --images 40 --image-size 64\n"
            "  ff-data synth --out hard --hardness 1.6 --eval-identities 1000\n"
            "  ff-data synth --sheet faces.png --seed 7\n",
        .options = options,
        .option_count = (int)(sizeof options / sizeof *options),
    };
    int code = ff_cli_parse(&words, &cli, argc, argv, &err);
    if (code == 1)
        return FF_EXIT_OK;
    if (!code && words > 0)
        code = ff_err_set(&err, FF_EUSAGE, "unexpected word \"%s\"", argv[1]);
    o.check = !no_check;
    ff_stop_install();
    if (!code)
        code = run(out, sheet, &o, &err);
    if (code)
        ff_error("%s", err.text);
    return ff_err_exit_code(code);
}
