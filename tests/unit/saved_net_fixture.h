/* SPDX-License-Identifier: MIT */
/* A small r18 filled from the formula of net_fixture.h, in a model.h5 of its own
 * folder. */
#ifndef FF_SAVED_NET_FIXTURE_H
#define FF_SAVED_NET_FIXTURE_H

#include "atomic_file.h"
#include "embedder.h"
#include "log.h"
#include "model_file.h"
#include "net_fixture.h"

static char saved_dir[64], saved_path[FF_PATH_MAX];

/* The network stays open for the caller, who ends it with net_close. */
static inline void save_net(struct net *net, int side, int dim, int batch)
{
    struct ff_model_config config = {FF_BACKBONE_R18, 0.125, side, dim};
    struct ff_params params;
    struct ff_model_stamp stamp = {FF_MODEL_SCHEMA, "0123", 1, &params};
    char settings[4][32] = {"backbone=r18", "width=0.125"};
    ff_log_set_level(FF_LOG_QUIET);
    strcpy(saved_dir, "/tmp/ff-saved-net-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(saved_dir), NULL));
    ff_path(saved_path, NULL, "%s/model.h5", saved_dir);
    snprintf(settings[2], sizeof settings[2], "image_size=%d", side);
    snprintf(settings[3], sizeof settings[3], "embedding=%d", dim);
    ff_params_defaults(&params);
    for (int i = 0; i < 4; i++)
        cr_assert(eq(int, ff_params_set_arg(&params, settings[i], NULL), 0));
    net_open(net, FF_BACKEND_REF, 1, &config, batch, false);
    net_fill(net);
    cr_assert(eq(int, ff_model_save(saved_path, net->model, &stamp, NULL), 0));
}

static inline void remove_saved(void)
{
    ff_remove_tree(saved_dir, NULL);
}

static inline struct ff_embedder *open_saved(int batch)
{
    struct ff_embedder *e = NULL;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_embedder_create(
        &e, saved_path, batch,
        &(struct ff_ops_options){.backend = FF_BACKEND_ONEDNN, .threads = 1}, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return e;
}

#endif
