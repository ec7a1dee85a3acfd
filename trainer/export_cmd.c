/* SPDX-License-Identifier: MIT */
/* ff-train export; see export_cmd.h. */
#include "export_cmd.h"

#include "cli.h"
#include "log.h"
#include "model_file.h"
#include "onnx_file.h"

static int export_onnx(const char *path, const char *model_path, struct ff_err *err)
{
    struct ff_model_config config;
    const struct ff_ops *ops;
    struct ff_ops_ctx *ctx;
    struct ff_model *model;
    const struct ff_ops_options plain = {.backend = FF_BACKEND_REF, .threads = 1};
    int rc = ff_model_read_config(&config, model_path, err);
    if (!rc) /* nothing is computed: the plain backend only holds the weights */
        rc = ff_ops_open(&ops, &ctx, NULL, &plain, err);
    if (rc)
        return rc;
    rc = ff_model_create(&model, ops, ctx, &config, 1, false, err);
    if (!rc) {
        rc = ff_model_load(model, model_path, err);
        if (!rc)
            rc = ff_onnx_write(path, model, err);
        ff_model_destroy(model);
    }
    ops->destroy(ctx);
    return rc;
}

int ff_export_cmd(int argc, char **argv, struct ff_err *err)
{
    static const char *onnx;
    static const struct ff_opt options[] = {
        {"--onnx", "FILE.onnx", FF_OPT_TEXT, &onnx,
         "opset 13; input (N, 3, H, W) f32 RGB, (x/255 - 0.5)/0.5", 0, 0},
    };
    static const struct ff_cli cli = {
        .program = "ff-train export",
        .synopsis = "MODEL --onnx FILE.onnx",
        .summary = "Writes a trained network for other programs. MODEL: model.h5, "
                   "checkpoint.h5 or a state_dict as safetensors.",
        .examples = "  ff-train export results/r18/model.h5 --onnx r18.onnx",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    int words;
    int rc = ff_cli_parse(&words, &cli, argc, argv, err);
    if (rc)
        return rc;
    if (words != 1 || !onnx)
        return ff_err_set(err, FF_EUSAGE, "%s (see ff-train export --help)",
                          words != 1 ? "one MODEL is needed" : "--onnx FILE is needed");
    const struct ff_cli_file files[] = {{"MODEL", argv[1], false},
                                        {"--onnx", onnx, true}};
    rc = ff_cli_check_input(NULL, argv[1], err);
    if (!rc)
        rc = ff_cli_check_apart(files, 2, err);
    if (!rc)
        rc = export_onnx(onnx, argv[1], err);
    if (!rc)
        ff_info("%s written", onnx);
    return rc;
}
