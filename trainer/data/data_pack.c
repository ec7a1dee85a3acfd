/* SPDX-License-Identifier: MIT */
/* ff-data pack: a folder of identities into RecordIO, each file's bytes as they are.
 *
 * Every image is decoded once, so that nothing damaged or of another size goes in.
 * Folders ignore EXIF orientation and RecordIO follows it: a stored orientation is set
 * to 1, so that both show the same pixels. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "data_cmd.h"
#include "dataset_priv.h"
#include "exif.h"
#include "image.h"
#include "log.h"

struct pack {
    struct ff_dataset *dataset;
    struct ff_decoder *decoder;
    struct ff_rec_writer *writer;
    struct ff_image image;
    struct ff_read_buffer buffer;
    int width, height; /* px that every image must have */
};

static int pack_image(struct pack *pack, const char *root, const char *out,
                      int64_t index, struct ff_err *err)
{
    const uint8_t *bytes;
    size_t size;
    int64_t label;
    char where[512];
    struct ff_err cause = FF_ERR_INIT;
    int rc = ff_dataset_read(&bytes, &size, &label, pack->dataset, index, &pack->buffer,
                             err);
    if (rc)
        return rc;
    ff_dataset_describe(where, sizeof where, pack->dataset, index);
    ff_exif_reset_orientation(pack->buffer.data, size);
    rc = ff_decode(&pack->image, pack->decoder, bytes, size, false, &cause);
    if (rc)
        return ff_err_set(err, rc, "%s/%s: %.500s", root, where, cause.text);
    if (!pack->width) {
        pack->width = pack->image.width_px;
        pack->height = pack->image.height_px;
    }
    if (pack->image.width_px != pack->width || pack->image.height_px != pack->height)
        return ff_err_set(err, index == 0 ? FF_EUSAGE : FF_EDATA,
                          "%s/%s: %d x %d px, %d x %d expected", root, where,
                          pack->image.width_px, pack->image.height_px, pack->width,
                          pack->height);
    if (!pack->writer)
        rc = ff_rec_writer_create(&pack->writer, out, pack->width, pack->height, err);
    if (!rc)
        rc = ff_rec_writer_add(pack->writer, label, bytes, size, err);
    return rc;
}

static int pack_folder(const char *root, const char *out, int64_t size_px,
                       struct ff_err *err)
{
    struct pack pack = {.width = (int)size_px, .height = (int)size_px};
    int rc = ff_dataset_open(&pack.dataset, root, err);
    if (!rc && pack.dataset->rec)
        rc = ff_err_set(err, FF_EUSAGE, "%s holds a train.rec already", root);
    if (!rc)
        rc = ff_decoder_create(&pack.decoder, err);
    int64_t count = rc ? 0 : ff_dataset_count(pack.dataset);
    for (int64_t i = 0; i < count && !rc; i++) {
        rc = pack_image(&pack, root, out, i, err);
        if (!rc && (i % 256 == 255 || i + 1 == count))
            ff_progress(i + 1 == count, "packed %" PRId64 " of %" PRId64 " images",
                        i + 1, count);
    }
    if (!rc)
        rc = ff_rec_writer_finish(pack.writer, err);
    if (!rc)
        printf("images: %" PRId64 "\nclasses: %" PRId64 "\n", count,
               ff_dataset_classes(pack.dataset));
    ff_rec_writer_destroy(pack.writer);
    ff_image_fini(&pack.image);
    free(pack.buffer.data);
    ff_decoder_destroy(pack.decoder);
    ff_dataset_close(pack.dataset);
    return rc;
}

int ff_cmd_pack(int argc, char **argv)
{
    const char *out = NULL;
    int64_t size_px = 0;
    const struct ff_opt options[] = {
        {"--out", "DIR", FF_OPT_TEXT, &out,
         "folder for train.rec, train.idx and property", 0, 0},
        {"--size", "N", FF_OPT_I64, &size_px,
         "side in pixels that every image must have; default: the first image's size",
         1, 65535},
    };
    const struct ff_cli cli = {
        .program = "ff-data pack",
        .synopsis = "DIR --out DIR [--size N]",
        .summary =
            "Packs a folder of identities into RecordIO in the insightface layout, "
            "without re-encoding.",
        .examples = "ff-data pack faces --out data/train --size 112",
        .options = options,
        .option_count = sizeof options / sizeof *options,
    };
    struct ff_err err = FF_ERR_INIT;
    int words;
    int rc = ff_cli_parse(&words, &cli, argc, argv, &err);
    if (rc > 0)
        return 0;
    if (!rc && words != 1)
        rc = ff_err_set(&err, FF_EUSAGE, "pack takes one folder, %d given", words);
    if (!rc && !out)
        rc = ff_err_set(&err, FF_EUSAGE, "pack needs --out DIR");
    if (!rc)
        rc = pack_folder(argv[1], out, size_px, &err);
    if (rc)
        ff_error("%s", err.text);
    return ff_err_exit_code(rc);
}
