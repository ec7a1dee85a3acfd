/* SPDX-License-Identifier: MIT */
/* Scores of a real network on a file of pairs: the same whatever the batch, as by hand,
 * and the same from a network that is borrowed from training. */
#include "image.h"
#include "pair_score.h"
#include "saved_net_fixture.h"

#define FOLDER "tests/fixtures/pairs/"

enum { SIDE = 16, D = 16, PAIRS = 13, IMAGE = SIDE * SIDE * 3 };

static const struct ff_model_config config = {FF_BACKBONE_R18, 0.125, SIDE, D};

static void setup(void)
{
    struct net net;
    save_net(&net, SIDE, D, 2);
    net_close(&net);
}

TestSuite(pair_score, .init = setup, .fini = remove_saved, .timeout = 60);

static struct ff_bin_pairs *open_pairs(const char *name)
{
    struct ff_bin_pairs *pairs;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_bin_pairs_open(&pairs, name, &err), 0), "%s", err.text);
    return pairs;
}

/* One image at a time, the mirror image turned here, normalised and subtracted. */
static void by_hand(double distance[PAIRS], const struct ff_bin_pairs *pairs)
{
    struct ff_embedder *e = open_saved(1);
    struct ff_decoder *decoder;
    double sum[2][D];
    cr_assert(eq(int, ff_decoder_create(&decoder, NULL), 0));
    for (int i = 0; i < 2 * PAIRS; i++) {
        uint8_t rgb[IMAGE], turned[IMAGE];
        float plain[D], flipped[D];
        double length = 0;
        cr_assert(eq(int,
                     ff_decode_square(rgb, SIDE, decoder, pairs->image[i].bytes,
                                      pairs->image[i].size, false, NULL),
                     0));
        for (int p = 0; p < SIDE * SIDE; p++)
            memcpy(turned + 3 * (p / SIDE * SIDE + SIDE - 1 - p % SIDE), rgb + 3 * p,
                   3);
        ff_embedder_run(plain, e, rgb, NULL, 1, NULL);
        ff_embedder_run(flipped, e, turned, NULL, 1, NULL);
        for (int d = 0; d < D; d++) {
            sum[i % 2][d] = (double)plain[d] + flipped[d];
            length += sum[i % 2][d] * sum[i % 2][d];
        }
        for (int d = 0; d < D; d++)
            sum[i % 2][d] /= sqrt(length);
        if (i % 2)
            distance[i / 2] = 0;
        for (int d = 0; i % 2 && d < D; d++)
            distance[i / 2] += pow(sum[0][d] - sum[1][d], 2);
    }
    ff_decoder_destroy(decoder);
    ff_embedder_destroy(e);
}

Test(pair_score, distances_are_those_by_hand_in_every_batch)
{
    struct ff_bin_pairs *pairs = open_pairs(FOLDER "bytes_p4.bin");
    const int batches[] = {2, 5, 8, 64};
    double expected[PAIRS], found[PAIRS];
    struct ff_err err = FF_ERR_INIT;
    by_hand(expected, pairs);
    for (int k = 0; k < 4; k++) {
        struct ff_embedder *e = open_saved(batches[k]);
        cr_assert(eq(int, ff_embedder_batch(e), batches[k]));
        cr_assert(eq(int, ff_pair_distances(found, e, pairs, 0, 2, NULL, &err), 0),
                  "%s", err.text);
        for (int i = 0; i < PAIRS; i++) {
            cr_assert(epsilon_eq(dbl, found[i], expected[i], 1e-4 * expected[i] + 1e-9),
                      "batch %d, pair %d", batches[k], i);
            cr_assert(lt(dbl, 0, found[i]));
        }
        ff_embedder_destroy(e);
    }
    ff_bin_pairs_close(pairs);
}

Test(pair_score, a_limit_leaves_the_rest_alone)
{
    struct ff_bin_pairs *pairs = open_pairs(FOLDER "bytes_p4.bin");
    struct ff_embedder *e = open_saved(4);
    double whole[PAIRS], found[PAIRS];
    for (int i = 0; i < PAIRS; i++)
        found[i] = -7;
    cr_assert(eq(int, ff_pair_distances(whole, e, pairs, 0, 1, NULL, NULL), 0));
    cr_assert(eq(int, ff_pair_distances(found, e, pairs, 3, 1, NULL, NULL), 0));
    for (int i = 0; i < PAIRS; i++)
        cr_assert(eq(dbl, found[i], i < 3 ? whole[i] : -7), "pair %d", i);
    ff_embedder_destroy(e);
    ff_bin_pairs_close(pairs);
}

Test(pair_score, a_borrowed_network_scores_alike_and_stays_as_it_was)
{
    struct ff_bin_pairs *pairs = open_pairs(FOLDER "numpy_p3.bin");
    struct ff_embedder *own = open_saved(6), *borrowed;
    struct ff_pair_accuracy a, b;
    struct ff_err err = FF_ERR_INIT;
    struct net net;
    net_open(&net, FF_BACKEND_ONEDNN, 1, &config, 6, true);
    net_fill(&net);
    int64_t tracked = net.model->batches_tracked, count = net.model->buffer.count;
    float *before = malloc((size_t)count * sizeof *before);
    float *after = malloc((size_t)count * sizeof *after);
    net.ops->download(net.ctx, before, &net.model->buffer);
    cr_assert(eq(int, ff_embedder_borrow(&borrowed, net.model, &err), 0), "%s",
              err.text);
    cr_assert(eq(int, ff_pair_score(&a, own, pairs, 1, NULL, &err), 0), "%s", err.text);
    cr_assert(eq(int, ff_pair_score(&b, borrowed, pairs, 1, NULL, &err), 0), "%s",
              err.text);
    cr_assert(eq(dbl, a.mean, b.mean));
    cr_assert(eq(dbl, a.std, b.std));
    cr_assert(lt(dbl, 0, a.mean));
    net.ops->download(net.ctx, after, &net.model->buffer);
    cr_assert(eq(int, memcmp(before, after, (size_t)count * sizeof *before), 0));
    cr_assert(eq(i64, net.model->batches_tracked, tracked));
    cr_assert(net.model->training);
    ff_embedder_destroy(borrowed);
    net_close(&net);
    free(before);
    free(after);
    ff_embedder_destroy(own);
    ff_bin_pairs_close(pairs);
}

Test(pair_score, bad_images_are_named)
{
    static const struct {
        const char *file, *message;
    } cases[] = {{FOLDER "damaged.bin", FOLDER "damaged.bin: image 5: PNG: cut short"},
                 {FOLDER "side20.bin",
                  FOLDER "side20.bin: image 7: image is 20 x 20 px, 16 x 16 expected"}};
    struct ff_embedder *e = open_saved(4);
    struct ff_pair_accuracy out;
    for (int i = 0; i < 2; i++) {
        struct ff_bin_pairs *pairs = open_pairs(cases[i].file);
        struct ff_err err = FF_ERR_INIT;
        cr_assert(eq(int, ff_pair_check(pairs, SIDE, 2, &err), FF_EDATA));
        cr_assert(eq(str, err.text, (char *)cases[i].message));
        err.text[0] = 0;
        cr_assert(eq(int, ff_pair_score(&out, e, pairs, 1, NULL, &err), FF_EDATA));
        cr_assert(eq(str, err.text, (char *)cases[i].message));
        ff_bin_pairs_close(pairs);
    }
    struct ff_bin_pairs *few = open_pairs(FOLDER "few.bin");
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_pair_check(few, SIDE, 1, &err), FF_EDATA));
    cr_assert(eq(str, err.text, FOLDER "few.bin: 9 pairs are too few for 10 folds"));
    ff_bin_pairs_close(few);
    ff_embedder_destroy(e);
}

Test(pair_score, a_network_of_nan_has_no_accuracy)
{
    struct ff_bin_pairs *pairs = open_pairs(FOLDER "bytes_p4.bin");
    struct ff_embedder *e;
    struct ff_pair_accuracy out;
    struct ff_err err = FF_ERR_INIT;
    struct net net;
    net_open(&net, FF_BACKEND_ONEDNN, 1, &config, 4, true);
    net_fill(&net);
    float *values = malloc((size_t)net.model->weight.count * sizeof *values);
    for (int64_t i = 0; i < net.model->weight.count; i++)
        values[i] = NAN;
    net.ops->upload(net.ctx, &net.model->weight, values);
    ff_model_pack(net.model);
    free(values);
    cr_assert(eq(int, ff_embedder_borrow(&e, net.model, &err), 0));
    cr_assert(eq(int, ff_pair_score(&out, e, pairs, 1, NULL, &err), FF_EDATA));
    cr_assert(
        ne(ptr, strstr(err.text, "bytes_p4.bin: the distance of pair 0 is"), NULL),
        "%s", err.text);
    ff_embedder_destroy(e);
    net_close(&net);
    ff_bin_pairs_close(pairs);
}
