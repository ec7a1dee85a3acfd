/* SPDX-License-Identifier: MIT */
/* Whole training steps against PyTorch, and the ref backend's loss curve against
 * itself.
 *
 * fixtures/torch_steps.txt (made by tools/make_torch_fixture.py) holds results alone:
 * both sides fill weights, pixels and labels from the formula in that script's header.
 * fixtures/ref_curve.txt guards FF_NUMERICS: results may change only together with it.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "model.h"
#include "rng.h"
#include "schedule.h"

enum { STEPS = 10, SHOWN = 3, MAX_EMBEDDING = 64, MAX_CHANGES = 32 };

struct change {
    char name[64];
    double norm, probe;
};

struct torch_case {
    char name[32];
    struct ff_model_config config;
    struct ff_head_shape head;
    double lr;
    double loss[STEPS], grad_norm[STEPS];
    struct change changes[MAX_CHANGES];
    int change_count;
    double embedding[SHOWN][MAX_EMBEDDING];
};

/* Largest deviations seen: relative, but for the change (share of its norm). */
struct deviation {
    double loss, grad_norm, change, embedding;
};

/* -- the formula -- */

static uint64_t bits(const char *name, uint64_t index)
{
    uint64_t z = ff_stream(name) + index + 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double u(const char *name, int64_t i)
{
    return 2.0 * ((double)(bits(name, (uint64_t)i) >> 11) / 0x1p53) - 1.0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), k = strlen(end);
    return n >= k && strcmp(text + n - k, end) == 0;
}

static float head_value(int64_t i)
{
    return (float)(0.01 * sqrt(3.0) * u("head.weight", i));
}

static float start_value(const struct ff_named *n, int fan_in, int64_t i)
{
    double x = u(n->name, i);
    if (strcmp(n->name, "features.weight") == 0)
        return 1;
    if (n->ndim == 4)
        return (float)(0.1 * sqrt(3.0) * x);
    if (n->ndim == 2 || strcmp(n->name, "fc.bias") == 0)
        return (float)(x / sqrt(fan_in));
    if (n->init.kind == FF_INIT_CONSTANT && n->init.scale == 0.25) /* PReLU */
        return (float)(0.25 + 0.05 * x);
    if (ends_with(n->name, "running_mean"))
        return (float)(0.05 * x);
    if (ends_with(n->name, "running_var"))
        return (float)(1 + 0.2 * x);
    return (float)(ends_with(n->name, "bias") ? 0.1 * x : 1 + 0.1 * x);
}

static void fill_batch(uint8_t *pixels, uint8_t *flip, int64_t *label, int first, int N,
                       int side, int64_t classes)
{
    int64_t size = (int64_t)side * side * 3;
    for (int n = 0; n < N; n++) {
        int64_t s = (first + n) % (3 * N);
        for (int64_t i = 0; i < size; i++)
            pixels[n * size + i] =
                (uint8_t)(bits("pixels", ((uint64_t)s << 32) + (uint64_t)i) >> 56);
        flip[n] = s % 3 == 0;
        label[n] = 7 * s % classes;
    }
}

/* -- a network with its head -- */

struct net {
    const struct ff_ops *ops;
    struct ff_ops_ctx *ctx;
    struct ff_model *model;
    struct ff_head_plan *head;
    struct ff_head_shape shape;
    struct ff_tensor weight, velocity, dembedding;
    uint8_t *pixels, *flip;
    int64_t *label;
};

static void check(int rc, const struct ff_err *err)
{
    cr_assert(eq(int, rc, 0), "%s", err->text);
}

static void open_net(struct net *net, int backend, int threads,
                     const struct ff_model_config *config,
                     const struct ff_head_shape *shape)
{
    struct ff_err err = FF_ERR_INIT;
    size_t side = (size_t)config->image_size_px, N = (size_t)shape->N;
    int64_t count = shape->CLS * shape->D;
    memset(net, 0, sizeof *net);
    net->shape = *shape;
    const struct ff_ops_options options = {.backend = backend, .threads = threads};
    check(ff_ops_open(&net->ops, &net->ctx, NULL, &options, &err), &err);
    check(
        ff_model_create(&net->model, net->ops, net->ctx, config, shape->N, true, &err),
        &err);
    check(net->ops->alloc(net->ctx, &net->weight, count, 4, &err), &err);
    check(net->ops->alloc(net->ctx, &net->velocity, count, 4, &err), &err);
    check(net->ops->alloc(net->ctx, &net->dembedding, (int64_t)shape->N * shape->D, 4,
                          &err),
          &err);
    check(net->ops->head_create(net->ctx, &net->head, shape, &err), &err);
    net->pixels = malloc(N * side * side * 3);
    net->flip = malloc(N);
    net->label = malloc(N * sizeof *net->label);
}

static void close_net(struct net *net)
{
    net->ops->head_destroy(net->ctx, net->head);
    net->ops->free(net->ctx, &net->weight);
    net->ops->free(net->ctx, &net->velocity);
    net->ops->free(net->ctx, &net->dembedding);
    ff_model_destroy(net->model);
    net->ops->destroy(net->ctx);
    free(net->pixels);
    free(net->flip);
    free(net->label);
}

static struct ff_tensor *block_of(struct ff_model *m, const struct ff_named *n)
{
    return n->trained ? &m->weight : &m->buffer;
}

/* Inputs of the linear layer. */
static int fan_in_of(const struct ff_model *m)
{
    for (int i = 0; i < m->named_count; i++)
        if (m->named[i].layout == FF_LAYOUT_FC)
            return m->named[i].dims[1];
    return 0;
}

static void fill_weights(struct net *net)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *m = net->model;
    int fan_in = fan_in_of(m);
    for (int i = 0; i < m->named_count; i++) {
        const struct ff_named *n = &m->named[i];
        int64_t size = ff_named_size(n);
        float *values = malloc((size_t)size * sizeof *values);
        for (int64_t k = 0; k < size; k++)
            values[k] = start_value(n, fan_in, k);
        check(ff_model_set(m, n, block_of(m, n), values, &err), &err);
        free(values);
    }
    float *centres = malloc((size_t)net->weight.count * sizeof *centres);
    for (int64_t k = 0; k < net->weight.count; k++)
        centres[k] = head_value(k);
    net->ops->upload(net->ctx, &net->weight, centres);
    free(centres);
    ff_model_pack(m);
}

static void queue_step(void *arg)
{
    const struct net *net = arg;
    const struct ff_ops *ops = net->ops;
    struct ff_model *m = net->model;
    struct net *n = arg;
    const struct ff_sgd sgd = {.momentum = 0.9, .weight_decay = 5e-4, .clip_norm = 5};
    const struct ff_tensor *embedding = ff_model_forward(m, NULL, NULL);
    ops->head_fwd(net->ctx, net->head, embedding, &net->weight, NULL);
    ops->head_bwd(net->ctx, net->head, &n->dembedding, embedding, &net->weight);
    ff_model_backward(m, &net->dembedding);
    ops->grad_check(net->ctx, &m->dweight, net->head);
    ops->sgd(net->ctx, &m->weight, &m->velocity, &m->dweight, &sgd);
    ops->head_update(net->ctx, net->head, &n->weight, &n->velocity, &sgd);
    ff_model_pack(m);
}

/* Iteration t; the published recipe's optimizer. */
static float step(struct net *net, struct ff_step_result *result, int t, double lr)
{
    struct ff_err err = FF_ERR_INIT;
    const struct ff_ops *ops = net->ops;
    struct ff_model *m = net->model;
    fill_batch(net->pixels, net->flip, net->label, t * net->shape.N, net->shape.N,
               m->config.image_size_px, net->shape.CLS);
    const int64_t side = m->config.image_size_px;
    const struct ff_step values = {.N = net->shape.N,
                                   .image_bytes = side * side * 3,
                                   .pixels = net->pixels,
                                   .flip = net->flip,
                                   .label = net->label,
                                   .lr = lr};
    ops->step(net->ctx, &values, queue_step, net);
    float loss = ops->loss(net->ctx);
    ops->step_result(net->ctx, result);
    check(ops->sync(net->ctx, &err), &err);
    cr_assert(result->finite);
    return loss;
}

/* -- fixtures -- */

static char *read_fixture(const char *name)
{
    struct ff_err err = FF_ERR_INIT;
    const char *tests = getenv("FF_TESTS");
    char path[FF_PATH_MAX], *text;
    size_t bytes;
    check(ff_path(path, &err, "%s/fixtures/%s", tests ? tests : "tests", name), &err);
    check(ff_read_file(&text, &bytes, path, &err), &err);
    return text;
}

static int index_of(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    cr_fatal("fixture: unknown word %s", name);
    return -1;
}

static void read_case(struct torch_case *c, const char *name)
{
    static const char *const backbones[] = {"r18", "r34", "r50", "r100", "r200", "mbf"};
    static const char *const heads[] = {"arcface", "cosface", "softmax"};
    char *text = read_fixture("torch_steps.txt"), *rest, *line;
    bool inside = false;
    int steps = 0, shown = 0;
    memset(c, 0, sizeof *c);
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char backbone[16], head[16];
        int used = 0;
        if (strncmp(line, "case ", 5) == 0) {
            struct torch_case r = {0};
            long long classes;
            int fields = sscanf(line, "case %31s %15s %lf %d %d %lld %d %15s %f %f %lf",
                                r.name, backbone, &r.config.width,
                                &r.config.image_size_px, &r.config.embedding, &classes,
                                &r.head.N, head, &r.head.margin, &r.head.scale, &r.lr);
            cr_assert(eq(int, fields, 11));
            inside = strcmp(r.name, name) == 0;
            if (!inside)
                continue;
            r.config.backbone = index_of(backbones, 6, backbone);
            r.head.kind = index_of(heads, 3, head);
            r.head.margin_grad = FF_MARGIN_GRAD_STRAIGHT_THROUGH;
            r.head.CLS = classes;
            r.head.D = r.config.embedding;
            *c = r;
        } else if (inside && strncmp(line, "step ", 5) == 0) {
            cr_assert(lt(int, steps, STEPS));
            sscanf(line, "step %lf %lf", &c->loss[steps], &c->grad_norm[steps]);
            steps++;
        } else if (inside && strncmp(line, "change ", 7) == 0) {
            struct change *change = &c->changes[c->change_count++];
            cr_assert(le(int, c->change_count, MAX_CHANGES));
            sscanf(line, "change %63s %lf %lf", change->name, &change->norm,
                   &change->probe);
        } else if (inside && strncmp(line, "embedding", 9) == 0) {
            char *at = line + 9;
            cr_assert(lt(int, shown, SHOWN));
            for (int d = 0; d < c->config.embedding; d++, at += used)
                cr_assert(
                    eq(int, sscanf(at, "%lf%n", &c->embedding[shown][d], &used), 1));
            shown++;
        }
    }
    free(text);
    cr_assert(eq(int, steps, STEPS), "%s", name);
    cr_assert(eq(int, shown, SHOWN), "%s", name);
    cr_assert(lt(int, 10, c->change_count), "%s", name);
}

/* -- comparison -- */

static void keep_largest(double *largest, double value)
{
    if (!(value <= *largest)) /* a NaN stays */
        *largest = value;
}

/* What the steps did to one tensor: norm and probe of the change. A float's last place
 * a step is rounding that a small change cannot be told from. */
static void compare_change(struct deviation *dev, struct net *net,
                           const struct change *c)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *m = net->model;
    float *values = NULL;
    int64_t size = net->weight.count;
    int fan_in = fan_in_of(m);
    const struct ff_named *named = NULL;
    char probe_name[80];
    if (strcmp(c->name, "head.weight") == 0) {
        values = malloc((size_t)size * sizeof *values);
        net->ops->download(net->ctx, values, &net->weight);
    }
    for (int i = 0; i < m->named_count; i++) {
        const struct ff_named *n = &m->named[i];
        if (strcmp(n->name, c->name) != 0)
            continue;
        check(ff_model_get(&values, m, n, block_of(m, n), &err), &err);
        size = ff_named_size(n);
        named = n;
    }
    cr_assert(ne(ptr, values, NULL), "no tensor %s", c->name);
    snprintf(probe_name, sizeof probe_name, "probe:%s", c->name);
    double square = 0, probe = 0, length = 0;
    for (int64_t i = 0; i < size; i++) {
        double start = named ? start_value(named, fan_in, i) : head_value(i);
        double change = (double)values[i] - start;
        square += change * change;
        probe += change * u(probe_name, i);
        length += (double)values[i] * values[i];
    }
    free(values);
    double rounding = STEPS * 0x1p-24 * sqrt(length);
    double apart = fmax(fabs(sqrt(square) - c->norm), fabs(probe - c->probe));
    double share = fmax(0, apart - rounding) / c->norm;
    keep_largest(&dev->change, isnan(apart) ? NAN : share);
}

/* Eval-mode embeddings of the first samples with the trained weights. */
static void compare_embedding(struct deviation *dev, struct net *net,
                              const struct torch_case *c)
{
    struct ff_err err = FF_ERR_INIT;
    struct ff_model *eval, *m = net->model;
    int N = c->head.N, D = c->config.embedding;
    float *got = malloc((size_t)N * (size_t)D * sizeof *got);
    check(ff_model_create(&eval, net->ops, net->ctx, &c->config, N, false, &err), &err);
    for (int i = 0; i < m->named_count; i++) {
        const struct ff_named *n = &m->named[i];
        float *values;
        check(ff_model_get(&values, m, n, block_of(m, n), &err), &err);
        check(ff_model_set(eval, &eval->named[i], block_of(eval, n), values, &err),
              &err);
        free(values);
    }
    ff_model_pack(eval);
    fill_batch(net->pixels, net->flip, net->label, 0, N, c->config.image_size_px,
               c->head.CLS);
    net->ops->download(net->ctx, got, ff_model_forward(eval, net->pixels, NULL));
    check(net->ops->sync(net->ctx, &err), &err);
    for (int n = 0; n < SHOWN; n++) {
        double apart = 0, length = 0;
        for (int d = 0; d < D; d++) {
            double e = c->embedding[n][d];
            apart += (got[n * D + d] - e) * (got[n * D + d] - e);
            length += e * e;
        }
        keep_largest(&dev->embedding, sqrt(apart / length));
    }
    free(got);
    ff_model_destroy(eval);
}

/* Limits: the losses reach down to 1e-4, so theirs is relative above 1 and absolute
 * below. */
static void compare(const char *name, int backend, int threads, int steps)
{
    struct torch_case c;
    struct deviation dev = {0};
    struct net net;
    read_case(&c, name);
    open_net(&net, backend, threads, &c.config, &c.head);
    fill_weights(&net);
    for (int t = 0; t < steps; t++) {
        struct ff_step_result result;
        double lr = c.lr / (t >= STEPS / 2 ? 2 : 1);
        float loss = step(&net, &result, t, lr);
        keep_largest(&dev.loss, fabs(loss - c.loss[t]) / fmax(c.loss[t], 1));
        keep_largest(&dev.grad_norm, fabs(result.grad_norm / c.grad_norm[t] - 1));
    }
    for (int i = 0; steps == STEPS && i < c.change_count; i++)
        compare_change(&dev, &net, &c.changes[i]);
    if (steps == STEPS)
        compare_embedding(&dev, &net, &c);
    cr_log_info("%s on %s, %d threads: loss %.1e, gradient norm %.1e, change %.1e, "
                "embedding %.1e",
                name, net.ops->name, threads, dev.loss, dev.grad_norm, dev.change,
                dev.embedding);
    close_net(&net);
    cr_expect(le(dbl, dev.loss, 1e-4), "%s", name);
    cr_expect(le(dbl, dev.grad_norm, 1e-3), "%s", name);
    cr_expect(le(dbl, dev.change, 1e-3), "%s", name);
    cr_expect(le(dbl, dev.embedding, 1e-4), "%s", name);
}

TestSuite(parity, .timeout = 60);

Test(parity, onednn_r18_arcface_as_pytorch)
{
    compare("r18_arcface", FF_BACKEND_ONEDNN, 1, STEPS);
}

Test(parity, onednn_r18_padded_cosface_as_pytorch)
{
    compare("r18_narrow_cosface", FF_BACKEND_ONEDNN, 1, STEPS);
}

Test(parity, onednn_r50_softmax_as_pytorch)
{
    compare("r50_softmax", FF_BACKEND_ONEDNN, 1, STEPS);
}

Test(parity, onednn_mbf_cosface_as_pytorch)
{
    compare("mbf_cosface", FF_BACKEND_ONEDNN, 1, STEPS);
}

Test(parity, ref_mbf_cosface_as_pytorch)
{
    compare("mbf_cosface", FF_BACKEND_REF, 1, 2);
}

Test(parity, onednn_two_threads_as_pytorch)
{
    compare("r18_narrow_cosface", FF_BACKEND_ONEDNN, 2, 3);
}

Test(parity, ref_r18_cosface_as_pytorch)
{
    compare("r18_narrow_cosface", FF_BACKEND_REF, 1, 3);
}

/* -- the guard of FF_NUMERICS -- */

enum { CURVE = 12 };

Test(parity, ref_curve_changes_only_with_numerics)
{
    static const char *const settings[] = {
        "backbone=r18", "width=0.1",  "image_size=16", "embedding=32", "batch=4",
        "gamma0=0.002", "lambda=3.0", "tau=0.1",       "alpha=0.5",    "beta=0.5",
    };
    struct ff_err err = FF_ERR_INIT;
    struct ff_params p;
    struct ff_schedule *schedule;
    struct net net;
    char now[4096], *text = read_fixture("ref_curve.txt"), *rest, *line;
    int numerics = 0, at = 0, wrong = 0, length;
    ff_params_defaults(&p);
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        check(ff_params_set_arg(&p, settings[i], &err), &err);
    check(ff_params_resolve(&p, &err), &err);
    struct ff_model_config config = ff_model_config_from(&p);
    struct ff_head_shape head = {.N = (int)p.batch,
                                 .D = (int)p.embedding,
                                 .CLS = 10,
                                 .kind = p.head,
                                 .margin_grad = p.margin_grad,
                                 .scale = (float)p.scale,
                                 .margin = (float)p.margin};
    check(ff_schedule_create(&schedule, &p, CURVE, &err), &err);
    open_net(&net, FF_BACKEND_REF, 1, &config, &head);
    fill_weights(&net);
    check(ff_model_init(net.model, (uint64_t)p.seed, &err), &err);

    line = strtok_r(text, "\n", &rest); /* the heading */
    line = strtok_r(NULL, "\n", &rest);
    cr_assert(line && sscanf(line, "numerics %d", &numerics) == 1);
    length = snprintf(now, sizeof now, "numerics %d\n", FF_NUMERICS);
    for (int t = 0; t < CURVE; t++) {
        struct ff_step_result result;
        double lr = ff_schedule_lr(schedule), want_loss = NAN, want_lr = NAN;
        double loss = (double)step(&net, &result, t, lr);
        ff_schedule_observe(schedule, loss);
        line = line ? strtok_r(NULL, "\n", &rest) : NULL;
        if (line)
            sscanf(line, "%d %lf %lf", &at, &want_loss, &want_lr);
        wrong +=
            !(fabs(loss / want_loss - 1) <= 1e-6 && fabs(lr / want_lr - 1) <= 1e-6);
        length += snprintf(now + length, sizeof now - (size_t)length, "%d %.9g %.9g\n",
                           t, loss, lr);
    }
    wrong += numerics != FF_NUMERICS;
    cr_expect(
        eq(int, wrong, 0),
        "the ref backend's results changed (%d of %d lines). If that was meant, raise "
        "FF_NUMERICS in common/params.h, so that old results are not taken for new "
        "ones, and put these lines into tests/fixtures/ref_curve.txt:\n%s",
        wrong, CURVE + 1, now);
    close_net(&net);
    ff_schedule_destroy(schedule);
    free(text);
}
