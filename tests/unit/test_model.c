/* SPDX-License-Identifier: MIT */
/* The network as a whole: shape, initialisation, padding, and onednn against ref. */
#include "log.h"
#include "net_fixture.h"

static void quiet(void)
{
    ff_log_set_level(FF_LOG_QUIET);
}

TestSuite(model, .init = quiet, .timeout = 60);

/* -- shape -- */

static void count_parameters(int backbone, int64_t expected)
{
    struct net net;
    struct ff_model_config config = {backbone, 1.0, 112, 512};
    net_open(&net, FF_BACKEND_REF, 1, &config, 1, false);
    cr_assert(eq(i64, ff_model_parameter_count(net.model), expected));
    net_close(&net);
}

/* torch: sum of p.numel() over the parameters of insightface's networks with
 * requires_grad, at 112 px and 512 dimensions. */
Test(model, r18_has_24_0_million_parameters)
{
    count_parameters(FF_BACKBONE_R18, 24025088);
}
Test(model, r50_has_43_6_million_parameters)
{
    count_parameters(FF_BACKBONE_R50, 43590336);
}
Test(model, r100_has_65_2_million_parameters)
{
    count_parameters(FF_BACKBONE_R100, 65155648);
}
Test(model, mbf_has_2_06_million_parameters)
{
    count_parameters(FF_BACKBONE_MBF, 2059520);
}

/* -- initialisation -- */

static float *values_of(const struct net *net, const char *name, int64_t *count)
{
    float *values;
    const struct ff_named *n = net_named(net, name);
    cr_assert(ne(ptr, (void *)n, NULL), "no tensor %s", name);
    const struct ff_model *m = net->model;
    cr_assert(
        eq(int, ff_model_get(&values, m, n, n->trained ? &m->weight : &m->buffer, NULL),
           0));
    *count = ff_named_size(n);
    return values;
}

static void check_values(const struct net *net, const char *name, double mean,
                         double std, double bound)
{
    int64_t count;
    float *v = values_of(net, name, &count);
    double sum = 0, square = 0, most = 0;
    for (int64_t i = 0; i < count; i++) {
        sum += v[i];
        square += pow(v[i] - mean, 2);
        most = fmax(most, fabs(v[i]));
    }
    double n = (double)count, tolerance = 5 * std / sqrt(n);
    cr_assert(epsilon_eq(dbl, sum / n, mean, tolerance + 1e-9), "%s: mean", name);
    cr_assert(epsilon_eq(dbl, sqrt(square / n), std, tolerance + 1e-9), "%s: std",
              name);
    cr_assert(le(dbl, most, bound), "%s: largest", name);
    free(v);
}

Test(model, mbf_starts_as_insightface)
{
    struct net net;
    struct ff_model_config config = {FF_BACKBONE_MBF, 0.5, 32, 64};
    net_open(&net, FF_BACKEND_ONEDNN, 1, &config, 4, true);
    cr_assert(eq(int, ff_model_init(net.model, 7, NULL), 0));
    check_values(&net, "layers.0.layers.0.weight", 0, sqrt(2.0 / (64 * 9)), 1);
    check_values(&net, "layers.1.layers.0.weight", 0, sqrt(2.0 / (64 * 9)), 1);
    check_values(&net, "layers.2.layers.0.layers.0.weight", 0, sqrt(2.0 / 64), 1);
    check_values(&net, "features.layers.2.weight", 0, sqrt(2.0 / 64), 1);
    check_values(&net, "layers.0.layers.2.weight", 0.25, 0, 0.25);
    check_values(&net, "features.layers.3.weight", 1, 0, 1);
    net_close(&net);
}

Test(model, starts_as_published)
{
    struct net net;
    struct ff_model_config config = {FF_BACKBONE_R18, 0.25, 32, 64};
    net_open(&net, FF_BACKEND_ONEDNN, 1, &config, 2, false);
    cr_assert(eq(int, ff_model_init(net.model, 7, NULL), 0));
    double bound = 1 / sqrt(128.0 * 2 * 2);
    check_values(&net, "conv1.weight", 0, 0.1, 0.6);
    check_values(&net, "layer4.1.conv2.weight", 0, 0.1, 0.6);
    check_values(&net, "layer3.0.downsample.0.weight", 0, 0.1, 0.6);
    check_values(&net, "fc.weight", 0, bound / sqrt(3), bound * 1.000001);
    check_values(&net, "fc.bias", 0, bound / sqrt(3), bound * 1.000001);
    check_values(&net, "layer2.1.prelu.weight", 0.25, 0, 0.25);
    check_values(&net, "layer1.0.bn2.weight", 1, 0, 1);
    check_values(&net, "layer1.0.bn2.bias", 0, 0, 0);
    check_values(&net, "bn2.running_mean", 0, 0, 0);
    check_values(&net, "bn2.running_var", 1, 0, 1);
    check_values(&net, "features.weight", 1, 0, 1);
    net_close(&net);
}

Test(model, initialisation_depends_on_seed_and_name_alone)
{
    struct net a, b, c;
    struct ff_model_config config = {FF_BACKBONE_R18, 0.125, 32, 16};
    int64_t count;
    net_open(&a, FF_BACKEND_ONEDNN, 1, &config, 4, true);
    net_open(&b, FF_BACKEND_REF, 1, &config, 1, false);
    net_open(&c, FF_BACKEND_REF, 1, &config, 1, false);
    ff_model_init(a.model, 3407, NULL);
    ff_model_init(b.model, 3407, NULL);
    ff_model_init(c.model, 3408, NULL);
    for (int i = 0; i < a.model->named_count; i++) {
        const char *name = a.model->named[i].name;
        float *va = values_of(&a, name, &count), *vb = values_of(&b, name, &count);
        cr_assert(eq(int, memcmp(va, vb, (size_t)count * 4), 0), "%s", name);
        free(va);
        free(vb);
    }
    float *va = values_of(&a, "layer1.0.conv1.weight", &count);
    float *vc = values_of(&c, "layer1.0.conv1.weight", &count);
    float *other = values_of(&a, "layer1.1.conv1.weight", &count);
    cr_assert(ne(flt, va[0], vc[0]));
    cr_assert(ne(flt, va[0], other[0]));
    free(va);
    free(vc);
    free(other);
    net_close(&a);
    net_close(&b);
    net_close(&c);
}

/* -- onednn against ref -- */

static double relative(const float *a, const float *b, int64_t count)
{
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += pow((double)a[i] - b[i], 2);
        size += pow((double)b[i], 2);
    }
    return size > 0 ? sqrt(difference / size) : sqrt(difference);
}

static double norm_of(const float *a, int64_t count)
{
    double size = 0;
    for (int64_t i = 0; i < count; i++)
        size += pow((double)a[i], 2);
    return sqrt(size);
}

struct batch {
    uint8_t *pixels, flip[16];
    int64_t label[16];
};

static void compare_block(const struct net *a, const struct net *ref, bool gradient,
                          double whole)
{
    for (int i = 0; i < a->model->named_count; i++) {
        const struct ff_named *n = &a->model->named[i], *r = &ref->model->named[i];
        float *x, *y;
        if (gradient != n->trained)
            continue;
        cr_assert(eq(str, (char *)n->name, (char *)r->name));
        ff_model_get(&x, a->model, n, gradient ? &a->model->dweight : &a->model->buffer,
                     NULL);
        ff_model_get(&y, ref->model, r,
                     gradient ? &ref->model->dweight : &ref->model->buffer, NULL);
        int64_t count = ff_named_size(n);
        /* A bias in front of a BN has the gradient 0: measured against the whole. */
        double off = relative(x, y, count) * norm_of(y, count);
        cr_assert(le(dbl, off, 5e-4 * norm_of(y, count) + 1e-6 * whole), "%s of %s",
                  gradient ? "gradient" : "value", n->name);
        free(x);
        free(y);
    }
}

/* Sum of squares of a whole block, and of its tensors without padding. */
static void check_padding(const struct net *net, const struct ff_tensor *block,
                          bool trained, const char *what)
{
    float *all = malloc((size_t)block->count * sizeof *all);
    net->ops->download(net->ctx, all, block);
    int64_t inside = 0, outside = 0;
    for (int64_t i = 0; i < block->count; i++)
        inside += all[i] != 0;
    for (int i = 0; i < net->model->named_count; i++) {
        const struct ff_named *n = &net->model->named[i];
        float *values;
        if (n->trained != trained)
            continue;
        ff_model_get(&values, net->model, n, block, NULL);
        for (int64_t k = 0; k < ff_named_size(n); k++)
            outside += values[k] != 0;
        free(values);
    }
    cr_assert(lt(i64, 0, outside));
    cr_assert(eq(i64, inside, outside), "padding of %s is not zero", what);
    free(all);
}

static void compare(int backbone, double width, int side, int D, int N, int threads)
{
    struct net a, ref;
    struct batch batch;
    struct ff_model_config config = {backbone, width, side, D};
    struct ff_head_shape head = {N,  D,   11, FF_HEAD_ARCFACE, FF_MARGIN_GRAD_EXACT,
                                 16, 0.5f};
    batch.pixels = malloc((size_t)N * side * side * 3);
    net_open(&a, FF_BACKEND_ONEDNN, threads, &config, N, true);
    net_open(&ref, FF_BACKEND_REF, 1, &config, N, true);
    net_open_head(&a, &head);
    net_open_head(&ref, &head);
    net_fill(&a);
    net_fill(&ref);
    for (int step = 0; step < 2; step++) {
        net_batch(batch.pixels, batch.flip, batch.label, step, N, side, 11);
        float x = net_gradients(&a, batch.pixels, batch.flip, batch.label);
        float y = net_gradients(&ref, batch.pixels, batch.flip, batch.label);
        cr_assert(epsilon_eq(dbl, (double)x, (double)y, 1e-5 * y), "loss of step %d",
                  step);
        net_update(&a, 0.01);
        net_update(&ref, 0.01);
        compare_block(&a, &ref, true, ref.result.grad_norm);
        compare_block(&a, &ref, false, 1);
    }
    check_padding(&a, &a.model->weight, true, "weights");
    check_padding(&a, &a.model->dweight, true, "gradients");
    check_padding(&a, &a.model->velocity, true, "momentum");
    free(batch.pixels);
    net_close(&a);
    net_close(&ref);
}

Test(model, onednn_trains_as_ref_with_padded_channels)
{
    compare(FF_BACKBONE_R18, 0.125, 48, 24, 3, 1);
}
Test(model, onednn_trains_as_ref_with_two_threads)
{
    compare(FF_BACKBONE_R18, 0.25, 16, 32, 6, 2);
}
/* As many as pixels have, but padded like any other. */
Test(model, three_channels_are_not_taken_for_pixels)
{
    compare(FF_BACKBONE_R18, 0.05, 16, 16, 8, 1);
}
Test(model, one_channel_is_enough)
{
    compare(FF_BACKBONE_R18, 0.01, 16, 8, 8, 1);
}
Test(model, onednn_trains_as_ref_in_r50)
{
    compare(FF_BACKBONE_R50, 0.0625, 16, 16, 8, 1);
}
Test(model, onednn_trains_as_ref_in_mbf)
{
    compare(FF_BACKBONE_MBF, 0.125, 32, 16, 8, 1);
}
Test(model, onednn_trains_as_ref_in_mbf_with_two_threads)
{
    compare(FF_BACKBONE_MBF, 0.1, 16, 16, 8, 2);
}

/* -- passes -- */

static void embed(float *out, const struct ff_model_config *config, int N,
                  const uint8_t *pixels, const uint8_t *flip)
{
    struct net net;
    net_open(&net, FF_BACKEND_ONEDNN, 1, config, N, false);
    net_fill(&net);
    net.ops->download(net.ctx, out, ff_model_forward(net.model, pixels, flip));
    cr_assert(eq(int, net.ops->sync(net.ctx, NULL), 0));
    net_close(&net);
}

Test(model, an_embedding_does_not_depend_on_its_batch)
{
    struct ff_model_config config = {FF_BACKBONE_R18, 0.125, 32, 16};
    static uint8_t pixels[3 * 32 * 32 * 3], flip[3];
    int64_t label[3];
    float three[48], one[16];
    net_batch(pixels, flip, label, 0, 3, 32, 5);
    embed(three, &config, 3, pixels, NULL);
    for (int i = 0; i < 3; i++) {
        embed(one, &config, 1, pixels + (size_t)i * 32 * 32 * 3, NULL);
        cr_assert(lt(dbl, relative(one, three + 16 * i, 16), 1e-5), "image %d", i);
    }
    cr_assert(lt(dbl, 1e-3, relative(three, three + 16, 16)), "two images alike");
}

Test(model, a_flip_is_a_mirrored_image)
{
    struct ff_model_config config = {FF_BACKBONE_R18, 0.125, 16, 16};
    static uint8_t pixels[2 * 16 * 16 * 3], mirrored[2 * 16 * 16 * 3];
    uint8_t flip[2] = {1, 0};
    int64_t label[2];
    float by_flag[32], by_hand[32], plain[32];
    net_batch(pixels, mirrored, label, 0, 2, 16, 5); /* flips not wanted: overwritten */
    memcpy(mirrored, pixels, sizeof pixels);
    for (int y = 0; y < 16; y++)
        for (int x = 0; x < 16; x++)
            memcpy(mirrored + (y * 16 + x) * 3, pixels + (y * 16 + 15 - x) * 3, 3);
    embed(by_flag, &config, 2, pixels, flip);
    embed(by_hand, &config, 2, mirrored, NULL);
    embed(plain, &config, 2, pixels, NULL);
    cr_assert(eq(int, memcmp(by_flag, by_hand, sizeof by_hand), 0));
    cr_assert(lt(dbl, 1e-3, relative(by_flag, plain, 16)));
    cr_assert(eq(int, memcmp(by_flag + 16, plain + 16, 64), 0));
}

static void nan_reaches_the_loss(int backend)
{
    struct net net;
    struct ff_model_config config = {FF_BACKBONE_R18, 0.05, 16, 16};
    struct ff_head_shape head = {2, 16, 5, FF_HEAD_ARCFACE, 0, 16, 0.5f};
    static uint8_t pixels[2 * 16 * 16 * 3], flip[2];
    int64_t label[2];
    net_open(&net, backend, 1, &config, 2, true);
    net_open_head(&net, &head);
    net_fill(&net);
    net_batch(pixels, flip, label, 0, 2, 16, 5);
    const struct ff_named *n = net_named(&net, "layer1.0.conv1.weight");
    float *values;
    ff_model_get(&values, net.model, n, &net.model->weight, NULL);
    values[4] = NAN;
    ff_model_set(net.model, n, &net.model->weight, values, NULL);
    free(values);
    ff_model_pack(net.model);
    net.ops->head_fwd(net.ctx, net.head, ff_model_forward(net.model, pixels, flip),
                      &net.weight, label);
    cr_assert(isnan(net.ops->loss(net.ctx)));
    net_close(&net);
}

Test(model, a_nan_weight_reaches_the_loss_on_onednn)
{
    nan_reaches_the_loss(FF_BACKEND_ONEDNN);
}
Test(model, a_nan_weight_reaches_the_loss_on_ref)
{
    nan_reaches_the_loss(FF_BACKEND_REF);
}
