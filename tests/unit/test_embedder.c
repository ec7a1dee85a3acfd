/* SPDX-License-Identifier: MIT */
/* The embedder: the same numbers as the network in eval mode, for whole and partial
 * batches, and clear errors. */
#include "saved_net_fixture.h"

enum { SIDE = 32, D = 24, BATCH = 4, IMAGE = SIDE * SIDE * 3 };

static uint8_t pixels[BATCH * IMAGE], flip[BATCH];
static float expected[BATCH * D];

/* A model file, and what the network makes of one batch. */
static void setup(void)
{
    struct net net;
    int64_t label[BATCH];
    save_net(&net, SIDE, D, BATCH);
    net_batch(pixels, flip, label, 0, BATCH, SIDE, 5);
    flip[0] = 1;
    flip[1] = 0;
    net.ops->download(net.ctx, expected, ff_model_forward(net.model, pixels, flip));
    net_close(&net);
}

TestSuite(embedder, .init = setup, .fini = remove_saved, .timeout = 30);

static void check(const float *found, const float *reference, int images)
{
    for (int i = 0; i < images; i++) {
        double difference = 0, size = 0;
        for (int d = i * D; d < (i + 1) * D; d++) {
            difference += pow((double)found[d] - reference[d], 2);
            size += pow((double)reference[d], 2);
        }
        cr_assert(lt(dbl, sqrt(difference / size), 1e-5), "image %d", i);
    }
}

Test(embedder, gives_the_networks_embeddings)
{
    float found[BATCH * D];
    struct ff_embedder *e = open_saved(BATCH);
    cr_assert(eq(int, ff_embedder_image_size(e), SIDE));
    cr_assert(eq(int, ff_embedder_dim(e), D));
    cr_assert(ne(ptr, strstr(ff_embedder_backend(e), "onednn"), NULL));
    cr_assert(eq(int, ff_embedder_run(found, e, pixels, flip, BATCH, NULL), 0));
    check(found, expected, BATCH);
    ff_embedder_destroy(e);
}

Test(embedder, a_partial_batch_gives_the_same_and_no_more)
{
    struct ff_embedder *e = open_saved(BATCH);
    for (int count = 1; count <= BATCH; count++) {
        float found[BATCH * D];
        for (int i = 0; i < BATCH * D; i++)
            found[i] = -7;
        cr_assert(eq(int, ff_embedder_run(found, e, pixels, flip, count, NULL), 0));
        check(found, expected, count);
        for (int i = count * D; i < BATCH * D; i++)
            cr_assert(eq(flt, found[i], -7));
    }
    ff_embedder_destroy(e);
}

Test(embedder, no_flip_means_none)
{
    float found[BATCH * D];
    uint8_t none[BATCH] = {0};
    float by_zeros[BATCH * D];
    struct ff_embedder *e = open_saved(BATCH);
    ff_embedder_run(found, e, pixels, NULL, BATCH, NULL);
    ff_embedder_run(by_zeros, e, pixels, none, BATCH, NULL);
    cr_assert(eq(int, memcmp(found, by_zeros, sizeof found), 0));
    check(found + D, expected + D, 1); /* image 1 was not flipped either */
    cr_assert(ne(int, memcmp(found, expected, D * sizeof(float)), 0));
    ff_embedder_destroy(e);
}

Test(embedder, a_missing_model_is_named)
{
    struct ff_embedder *e = NULL;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(lt(
        int,
        ff_embedder_create(
            &e, "/no/model.h5", 1,
            &(struct ff_ops_options){.backend = FF_BACKEND_ONEDNN, .threads = 1}, &err),
        0));
    cr_assert(ne(ptr, strstr(err.text, "/no/model.h5"), NULL), "%s", err.text);
    cr_assert(eq(ptr, e, NULL));
}

Test(embedder, an_absent_backend_is_a_usage_error)
{
    struct ff_embedder *e = NULL;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int,
                 ff_embedder_create(
                     &e, saved_path, 1,
                     &(struct ff_ops_options){.backend = FF_BACKEND_CUDA, .threads = 1},
                     &err),
                 FF_ENODEV));
    cr_assert(eq(ptr, e, NULL));
}
