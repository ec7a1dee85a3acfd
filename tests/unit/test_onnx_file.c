/* SPDX-License-Identifier: MIT */
/* ONNX export: the file, unpacked and computed node by node in double as the ONNX
 * operator documents say, gives our embeddings; and ONNX Runtime agrees where a Python
 * with it is named by FF_PYTHON. */
#include <unistd.h>

#include "atomic_file.h"
#include "embedder.h"
#include "log.h"
#include "net_fixture.h"
#include "onnx.pb-c.h"
#include "onnx_file.h"
#include "process.h"

enum { MAX_VALUES = 1024, N = 2 };

/* A value of the graph. */
struct array {
    char name[64];
    int ndim;
    int64_t dims[4], count;
    double *data;
};

struct evaluation {
    const Onnx__GraphProto *graph;
    struct array values[MAX_VALUES];
    int count;
};

static char dir[64], path[FF_PATH_MAX];

static void setup(void)
{
    ff_log_set_level(FF_LOG_QUIET);
    strcpy(dir, "/tmp/ff-onnx-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(dir), NULL));
    ff_path(path, NULL, "%s/model.onnx", dir);
}

static void teardown(void)
{
    ff_remove_tree(dir, NULL);
}

TestSuite(onnx_file, .init = setup, .fini = teardown, .timeout = 120);

static struct array *value(struct evaluation *e, const char *name)
{
    for (int i = 0; i < e->count; i++)
        if (!strcmp(e->values[i].name, name))
            return &e->values[i];
    cr_fatal("the graph has no value %s", name);
    return NULL;
}

static struct array *new_value(struct evaluation *e, const char *name, int ndim,
                               const int64_t *dims)
{
    cr_assert(lt(int, e->count, MAX_VALUES));
    struct array *a = &e->values[e->count++];
    snprintf(a->name, sizeof a->name, "%s", name);
    a->ndim = ndim;
    a->count = 1;
    for (int i = 0; i < ndim; i++)
        a->count *= a->dims[i] = dims[i];
    a->data = calloc((size_t)a->count, sizeof *a->data);
    return a;
}

static const Onnx__AttributeProto *attribute(const Onnx__NodeProto *n, const char *name)
{
    for (size_t i = 0; i < n->n_attribute; i++)
        if (!strcmp(n->attribute[i]->name, name))
            return n->attribute[i];
    cr_fatal("%s has no attribute %s", n->op_type, name);
    return NULL;
}

static void conv(struct evaluation *e, const Onnx__NodeProto *n)
{
    const struct array *x = value(e, n->input[0]), *w = value(e, n->input[1]);
    int64_t stride = attribute(n, "strides")->ints[0],
            pad = attribute(n, "pads")->ints[0];
    int64_t group = attribute(n, "group")->i, C = w->dims[1], R = w->dims[2];
    int64_t K = w->dims[0], H = x->dims[2], P = (H + 2 * pad - R) / stride + 1;
    cr_assert(eq(i64, C * group, x->dims[1]));
    struct array *y = new_value(e, n->output[0], 4, (int64_t[]){N, K, P, P});
    x = value(e, n->input[0]);
    for (int64_t i = 0; i < y->count; i++) {
        int64_t q = i % P, p = i / P % P, k = i / P / P % K, s = i / P / P / K;
        int64_t first = k / (K / group) * C;
        for (int64_t j = 0; j < C * R * R; j++) {
            int64_t t = j % R, r = j / R % R, c = j / R / R;
            int64_t h = p * stride + r - pad, u = q * stride + t - pad;
            if (h >= 0 && h < H && u >= 0 && u < H)
                y->data[i] += w->data[k * C * R * R + j] *
                              x->data[((s * x->dims[1] + first + c) * H + h) * H + u];
        }
    }
}

static void batch_normalization(struct evaluation *e, const Onnx__NodeProto *n)
{
    const struct array *p[5];
    double epsilon = (double)attribute(n, "epsilon")->f;
    for (int i = 0; i < 5; i++)
        p[i] = value(e, n->input[i]);
    struct array *y = new_value(e, n->output[0], p[0]->ndim, p[0]->dims);
    int64_t C = y->dims[1], area = y->count / N / C;
    for (int64_t i = 0; i < y->count; i++) {
        int64_t c = i / area % C;
        y->data[i] = (p[0]->data[i] - p[3]->data[c]) / sqrt(p[4]->data[c] + epsilon) *
                         p[1]->data[c] +
                     p[2]->data[c];
    }
}

static void prelu(struct evaluation *e, const Onnx__NodeProto *n)
{
    const struct array *x = value(e, n->input[0]), *slope = value(e, n->input[1]);
    /* (C, 1, 1) against (N, C, H, W) */
    cr_assert(slope->ndim == 3 && slope->dims[1] == 1 && slope->dims[2] == 1);
    cr_assert(eq(i64, slope->dims[0], x->dims[1]));
    struct array *y = new_value(e, n->output[0], 4, x->dims);
    int64_t C = y->dims[1], area = y->count / N / C;
    for (int64_t i = 0; i < y->count; i++)
        y->data[i] = x->data[i] * (x->data[i] < 0 ? slope->data[i / area % C] : 1);
}

static void add(struct evaluation *e, const Onnx__NodeProto *n)
{
    const struct array *a = value(e, n->input[0]), *b = value(e, n->input[1]);
    cr_assert(eq(i64, a->count, b->count));
    struct array *y = new_value(e, n->output[0], a->ndim, a->dims);
    for (int64_t i = 0; i < y->count; i++)
        y->data[i] = a->data[i] + b->data[i];
}

static void flatten(struct evaluation *e, const Onnx__NodeProto *n)
{
    const struct array *x = value(e, n->input[0]);
    struct array *y = new_value(e, n->output[0], 2, (int64_t[]){N, x->count / N});
    memcpy(y->data, x->data, (size_t)y->count * sizeof *y->data);
}

static void gemm(struct evaluation *e, const Onnx__NodeProto *n)
{
    const struct array *x = value(e, n->input[0]), *w = value(e, n->input[1]);
    const struct array *b = n->n_input > 2 ? value(e, n->input[2]) : NULL;
    int64_t D = w->dims[0], F = w->dims[1];
    cr_assert(eq(i64, attribute(n, "transB")->i, 1));
    cr_assert(eq(i64, F, x->dims[1]));
    struct array *y = new_value(e, n->output[0], 2, (int64_t[]){N, D});
    for (int64_t i = 0; i < y->count; i++) {
        y->data[i] = b ? b->data[i % D] : 0;
        for (int64_t f = 0; f < F; f++)
            y->data[i] += x->data[i / D * F + f] * w->data[i % D * F + f];
    }
}

static void run_node(struct evaluation *e, const Onnx__NodeProto *n)
{
    static const struct {
        const char *op;
        void (*run)(struct evaluation *e, const Onnx__NodeProto *n);
    } ops[] = {{"Conv", conv},       {"BatchNormalization", batch_normalization},
               {"PRelu", prelu},     {"Add", add},
               {"Flatten", flatten}, {"Gemm", gemm}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        if (!strcmp(n->op_type, ops[i].op)) {
            ops[i].run(e, n);
            return;
        }
    cr_fatal("operator %s", n->op_type);
}

/* The network, its input (N, 3, side, side) normalised, and its embeddings. */
struct sample {
    struct net net;
    float *input, *embedding;
    int64_t input_count, embedding_count;
};

static void make_sample(struct sample *s, int backbone, double width, int side, int D)
{
    struct ff_model_config config = {backbone, width, side, D};
    struct ff_err err = FF_ERR_INIT;
    int64_t label[N], area = (int64_t)side * side;
    uint8_t *pixels = malloc((size_t)(N * area * 3)), flip[N];
    net_open(&s->net, FF_BACKEND_REF, 1, &config, N, false);
    net_fill(&s->net);
    net_batch(pixels, flip, label, 0, N, side, 5);
    s->input_count = N * 3 * area;
    s->embedding_count = N * D;
    s->input = malloc((size_t)s->input_count * sizeof *s->input);
    s->embedding = malloc((size_t)s->embedding_count * sizeof *s->embedding);
    for (int64_t i = 0; i < s->input_count; i++) {
        int64_t at = i % area, c = i / area % 3, n = i / area / 3;
        s->input[i] = (float)((pixels[(n * area + at) * 3 + c] / 255.0 - 0.5) / 0.5);
    }
    s->net.ops->download(s->net.ctx, s->embedding,
                         ff_model_forward(s->net.model, pixels, NULL));
    free(pixels);
    int rc = ff_onnx_write(path, s->net.model, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
}

static void free_sample(struct sample *s)
{
    net_close(&s->net);
    free(s->input);
    free(s->embedding);
}

static void evaluate(int backbone, double width, int side, int D)
{
    static struct evaluation e;
    struct sample s;
    char *bytes;
    size_t size;
    make_sample(&s, backbone, width, side, D);
    cr_assert(eq(int, ff_read_file(&bytes, &size, path, NULL), 0));
    Onnx__ModelProto *model =
        onnx__model_proto__unpack(NULL, size, (const uint8_t *)bytes);
    free(bytes);
    cr_assert(ne(ptr, model, NULL));
    cr_assert(eq(i64, model->opset_import[0]->version, 13));
    e.graph = model->graph;
    e.count = 0;
    struct array *x = new_value(&e, "input", 4, (int64_t[]){N, 3, side, side});
    for (int64_t i = 0; i < x->count; i++)
        x->data[i] = (double)s.input[i];
    for (size_t i = 0; i < e.graph->n_initializer; i++) {
        const Onnx__TensorProto *t = e.graph->initializer[i];
        struct array *a = new_value(&e, t->name, (int)t->n_dims, t->dims);
        cr_assert(eq(sz, t->raw_data.len, (size_t)a->count * 4));
        for (int64_t k = 0; k < a->count; k++) {
            float v;
            memcpy(&v, t->raw_data.data + 4 * k, 4);
            a->data[k] = (double)v;
        }
    }
    for (size_t i = 0; i < e.graph->n_node; i++)
        run_node(&e, e.graph->node[i]);
    const struct array *y = value(&e, e.graph->output[0]->name);
    cr_assert(eq(i64, y->count, s.embedding_count));
    double apart = 0, length = 0;
    for (int64_t i = 0; i < y->count; i++) {
        apart += pow(y->data[i] - (double)s.embedding[i], 2);
        length += pow(y->data[i], 2);
    }
    cr_assert(le(dbl, sqrt(apart / length), 1e-5));
    for (int i = 0; i < e.count; i++)
        free(e.values[i].data);
    onnx__model_proto__free_unpacked(model, NULL);
    free_sample(&s);
}

Test(onnx_file, r18_computes_our_embeddings)
{
    evaluate(FF_BACKBONE_R18, 0.125, 32, 16);
}
Test(onnx_file, mbf_computes_our_embeddings)
{
    evaluate(FF_BACKBONE_MBF, 0.0625, 32, 16);
}

static void save_floats(const char *name, const float *values, int64_t count)
{
    char to[FF_PATH_MAX];
    ff_path(to, NULL, "%s/%s", dir, name);
    FILE *f = fopen(to, "wb");
    cr_assert(ne(ptr, f, NULL));
    fwrite(values, sizeof *values, (size_t)count, f);
    fclose(f);
}

/* tests/tools/onnx_check.py: exit 0 = ONNX Runtime's embeddings are within 1e-5. */
static void runtime_agrees(int backbone, double width, int side, int D)
{
    const char *python = getenv("FF_PYTHON"), *tests = getenv("FF_TESTS");
    char script[FF_PATH_MAX], *out;
    struct ff_child_result result;
    struct ff_err err = FF_ERR_INIT;
    struct sample s;
    if (!python || !*python)
        cr_skip_test("FF_PYTHON names no Python with onnxruntime");
    make_sample(&s, backbone, width, side, D);
    save_floats("input.f32", s.input, s.input_count);
    save_floats("embedding.f32", s.embedding, s.embedding_count);
    ff_path(script, NULL, "%s/tools/onnx_check.py", tests ? tests : "tests");
    const char *argv[] = {python, script, dir, NULL};
    cr_assert(eq(int, ff_child_capture(&out, &result, argv, &err), 0), "%s", err.text);
    cr_assert(result.state == FF_CHILD_EXITED && result.value == 0, "%s", out);
    free(out);
    free_sample(&s);
}

Test(onnx_file, onnx_runtime_agrees_on_r18)
{
    runtime_agrees(FF_BACKBONE_R18, 0.25, 112, 64);
}
Test(onnx_file, onnx_runtime_agrees_on_r50)
{
    runtime_agrees(FF_BACKBONE_R50, 0.125, 48, 32);
}
Test(onnx_file, onnx_runtime_agrees_on_mbf)
{
    runtime_agrees(FF_BACKBONE_MBF, 0.25, 112, 64);
}

Test(onnx_file, a_folder_that_is_not_there_is_an_error)
{
    struct ff_model_config config = {FF_BACKBONE_R18, 0.125, 16, 16};
    struct ff_err err = FF_ERR_INIT;
    struct net net;
    net_open(&net, FF_BACKEND_REF, 1, &config, 1, false);
    cr_assert(lt(int, ff_onnx_write("/nowhere/model.onnx", net.model, &err), 0));
    cr_assert(ne(ptr, strstr(err.text, "/nowhere/model.onnx"), NULL), "%s", err.text);
    net_close(&net);
}
