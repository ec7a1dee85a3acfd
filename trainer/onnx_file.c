/* SPDX-License-Identifier: MIT */
/* ONNX export; see onnx_file.h.
 *
 * The graph comes from ff_model_trace, a node a layer; ONNX's own schema, compiled by
 * protobuf-c, gives the bytes. Messages and arrays live until the file is written and
 * are freed together: after the first failure every helper does nothing. */
#include "onnx_file.h"

#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "cli.h"
#include "onnx.pb-c.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "raw_data is little endian");

#define IR_VERSION 7 /* goes with opset 13 */
#define OPSET 13
#define MAX_BYTES 2147483647LL /* of a protobuf message */
#define MAX_ATTRIBUTES 4

struct graph {
    const struct ff_model *model;
    Onnx__GraphProto proto;
    int values;  /* numbers given out; 0 is the input */
    void **kept; /* everything to be freed */
    size_t kept_count, kept_capacity;
    int rc;
    struct ff_err *err;
};

/* p is freed with the graph; NULL if p is NULL. */
static void *keep(struct graph *g, void *p)
{
    if (p && g->kept_count == g->kept_capacity) {
        size_t capacity = g->kept_capacity ? 2 * g->kept_capacity : 256;
        void **grown = realloc(g->kept, capacity * sizeof *grown);
        if (grown) {
            g->kept = grown;
            g->kept_capacity = capacity;
        } else {
            free(p);
            p = NULL;
        }
    }
    if (p)
        g->kept[g->kept_count++] = p;
    else if (!g->rc)
        g->rc = ff_err_set(g->err, FF_ENOMEM, "out of memory for the ONNX graph");
    return p;
}

static void *take(struct graph *g, size_t bytes)
{
    return g->rc ? NULL : keep(g, calloc(1, bytes));
}

static char *text(struct graph *g, const char *words)
{
    char *copy = take(g, strlen(words) + 1);
    return copy ? strcpy(copy, words) : NULL;
}

static char *value_name(struct graph *g, int value)
{
    char name[16] = "input";
    if (value)
        snprintf(name, sizeof name, "v%d", value);
    return text(g, name);
}

/* -- nodes -- */

/* Appends a node with `inputs` inputs; NULL after a failure. */
static Onnx__NodeProto *node(struct graph *g, const char *op, const char *name,
                             size_t inputs)
{
    Onnx__NodeProto *n = take(g, sizeof *n);
    if (!n)
        return NULL;
    onnx__node_proto__init(n);
    n->op_type = text(g, op);
    n->name = text(g, name);
    n->n_input = inputs;
    n->input = take(g, inputs * sizeof *n->input);
    n->n_output = 1;
    n->output = take(g, sizeof *n->output);
    n->attribute = take(g, MAX_ATTRIBUTES * sizeof(void *));
    if (g->rc)
        return NULL;
    n->output[0] = value_name(g, ++g->values);
    g->proto.node[g->proto.n_node++] = n;
    return n;
}

static Onnx__AttributeProto *attribute(struct graph *g, Onnx__NodeProto *n,
                                       const char *name)
{
    Onnx__AttributeProto *a = take(g, sizeof *a);
    if (!a)
        return NULL;
    onnx__attribute_proto__init(a);
    a->name = text(g, name);
    a->has_type = true;
    n->attribute[n->n_attribute++] = a;
    return a;
}

static void attribute_int(struct graph *g, Onnx__NodeProto *n, const char *name,
                          int64_t value)
{
    Onnx__AttributeProto *a = attribute(g, n, name);
    if (!a)
        return;
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT;
    a->has_i = true;
    a->i = value;
}

static void attribute_float(struct graph *g, Onnx__NodeProto *n, const char *name,
                            float value)
{
    Onnx__AttributeProto *a = attribute(g, n, name);
    if (!a)
        return;
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT;
    a->has_f = true;
    a->f = value;
}

/* `count` times the same value. */
static void attribute_ints(struct graph *g, Onnx__NodeProto *n, const char *name,
                           size_t count, int64_t value)
{
    Onnx__AttributeProto *a = attribute(g, n, name);
    int64_t *items = take(g, count * sizeof *items);
    if (!a || !items)
        return;
    a->type = ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS;
    a->n_ints = count;
    a->ints = items;
    for (size_t i = 0; i < count; i++)
        items[i] = value;
}

/* -- layers, as ff_model_trace tells them -- */

static char *tensor_name(struct graph *g, const char *prefix, const char *suffix)
{
    char name[80];
    snprintf(name, sizeof name, "%s.%s", prefix, suffix);
    return text(g, name);
}

static int conv(void *context, int x, const char *prefix, int stride, int pad,
                int groups)
{
    struct graph *g = context;
    Onnx__NodeProto *n = node(g, "Conv", prefix, 2);
    if (!n)
        return 0;
    n->input[0] = value_name(g, x);
    n->input[1] = tensor_name(g, prefix, "weight");
    attribute_ints(g, n, "strides", 2, stride);
    attribute_ints(g, n, "pads", 4, pad);
    attribute_int(g, n, "group", groups);
    return g->values;
}

static int bn(void *context, int x, const char *prefix)
{
    static const char *const suffixes[] = {"weight", "bias", "running_mean",
                                           "running_var"};
    struct graph *g = context;
    Onnx__NodeProto *n = node(g, "BatchNormalization", prefix, 5);
    if (!n)
        return 0;
    n->input[0] = value_name(g, x);
    for (int i = 0; i < 4; i++)
        n->input[1 + i] = tensor_name(g, prefix, suffixes[i]);
    attribute_float(g, n, "epsilon", FF_BN_EPS);
    return g->values;
}

static int prelu(void *context, int x, const char *prefix)
{
    struct graph *g = context;
    Onnx__NodeProto *n = node(g, "PRelu", prefix, 2);
    if (!n)
        return 0;
    n->input[0] = value_name(g, x);
    n->input[1] = tensor_name(g, prefix, "weight");
    return g->values;
}

static int add(void *context, int a, int b)
{
    struct graph *g = context;
    Onnx__NodeProto *n = node(g, "Add", "", 2);
    if (!n)
        return 0;
    n->input[0] = value_name(g, a);
    n->input[1] = value_name(g, b);
    return g->values;
}

static int linear(void *context, int x, const char *prefix, bool has_bias)
{
    struct graph *g = context;
    Onnx__NodeProto *flat = node(g, "Flatten", "", 1);
    if (!flat)
        return 0;
    flat->input[0] = value_name(g, x);
    x = g->values;
    Onnx__NodeProto *n = node(g, "Gemm", prefix, has_bias ? 3 : 2);
    if (!n)
        return 0;
    n->input[0] = value_name(g, x);
    n->input[1] = tensor_name(g, prefix, "weight");
    if (has_bias)
        n->input[2] = tensor_name(g, prefix, "bias");
    attribute_int(g, n, "transB", 1);
    return g->values;
}

/* -- tensors -- */

static bool is_prelu(const struct graph *g, const char *name)
{
    for (size_t i = 0; i < g->proto.n_node; i++) {
        const Onnx__NodeProto *n = g->proto.node[i];
        if (!strcmp(n->op_type, "PRelu") && !strcmp(n->input[1], name))
            return true;
    }
    return false;
}

/* A named tensor as an initialiser. A PReLU slope is (C, 1, 1), to meet (N, C, H, W).
 */
static void initializer(struct graph *g, const struct ff_named *named)
{
    const struct ff_model *m = g->model;
    float *values = NULL;
    Onnx__TensorProto *t = take(g, sizeof *t);
    int64_t *dims = take(g, 4 * sizeof *dims);
    if (!t || !dims)
        return;
    g->rc = ff_model_get(&values, m, named, named->trained ? &m->weight : &m->buffer,
                         g->err);
    if (g->rc || !keep(g, values))
        return;
    onnx__tensor_proto__init(t);
    t->name = text(g, named->name);
    t->n_dims = (size_t)named->ndim;
    for (int i = 0; i < named->ndim; i++)
        dims[i] = named->dims[i];
    if (is_prelu(g, named->name)) {
        t->n_dims = 3;
        dims[1] = dims[2] = 1;
    }
    t->dims = dims;
    t->has_data_type = true;
    t->data_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    t->has_raw_data = true;
    t->raw_data.data = (uint8_t *)values;
    t->raw_data.len = (size_t)ff_named_size(named) * sizeof *values;
    g->proto.initializer[g->proto.n_initializer++] = t;
}

/* An input or output of f32, shape ("N", dims...). */
static Onnx__ValueInfoProto **value_info(struct graph *g, const char *name, int ndim,
                                         const int64_t *dims)
{
    Onnx__ValueInfoProto *v = take(g, sizeof *v), **list = take(g, sizeof *list);
    Onnx__TypeProto *type = take(g, sizeof *type);
    Onnx__TypeProto__Tensor *tensor = take(g, sizeof *tensor);
    Onnx__TensorShapeProto *shape = take(g, sizeof *shape);
    Onnx__TensorShapeProto__Dimension **items =
        take(g, ((size_t)ndim + 1) * sizeof *items);
    if (!items)
        return NULL;
    onnx__value_info_proto__init(v);
    onnx__type_proto__init(type);
    onnx__type_proto__tensor__init(tensor);
    onnx__tensor_shape_proto__init(shape);
    for (int i = 0; i <= ndim; i++) {
        Onnx__TensorShapeProto__Dimension *d = items[i] = take(g, sizeof *d);
        if (!d)
            return NULL;
        onnx__tensor_shape_proto__dimension__init(d);
        if (i) {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_VALUE;
            d->dim_value = dims[i - 1];
        } else {
            d->value_case = ONNX__TENSOR_SHAPE_PROTO__DIMENSION__VALUE_DIM_PARAM;
            d->dim_param = text(g, "N");
        }
    }
    shape->n_dim = (size_t)ndim + 1;
    shape->dim = items;
    tensor->has_elem_type = true;
    tensor->elem_type = ONNX__TENSOR_PROTO__DATA_TYPE__FLOAT;
    tensor->shape = shape;
    type->value_case = ONNX__TYPE_PROTO__VALUE_TENSOR_TYPE;
    type->tensor_type = tensor;
    v->name = text(g, name);
    v->type = type;
    list[0] = v;
    return list;
}

static void build(struct graph *g)
{
    const struct ff_model *m = g->model;
    const struct ff_trace trace = {g, conv, bn, prelu, add, linear};
    const int64_t side = m->config.image_size_px, D = m->config.embedding;
    size_t tensors = (size_t)m->named_count;
    onnx__graph_proto__init(&g->proto);
    g->proto.name = text(g, "face_embedding");
    /* Each layer has a tensor of its own, but for sums and the flatten. */
    g->proto.node = take(g, 2 * tensors * sizeof *g->proto.node);
    g->proto.initializer = take(g, tensors * sizeof *g->proto.initializer);
    if (g->rc)
        return;
    ff_model_trace(m, &trace, 0);
    if (g->rc)
        return;
    g->proto.node[g->proto.n_node - 1]->output[0] = text(g, "embedding");
    for (size_t i = 0; i < tensors && !g->rc; i++)
        initializer(g, &m->named[i]);
    g->proto.n_input = g->proto.n_output = 1;
    g->proto.input = value_info(g, "input", 3, (const int64_t[]){3, side, side});
    g->proto.output = value_info(g, "embedding", 1, &D);
}

/* -- file -- */

struct file_buffer {
    ProtobufCBuffer base; /* first: protobuf-c calls append on it */
    FILE *stream;
};

static void append(ProtobufCBuffer *buffer, size_t length, const uint8_t *data)
{
    fwrite(data, 1, length, ((struct file_buffer *)buffer)->stream);
}

static int write_file(const char *path, Onnx__ModelProto *proto, struct ff_err *err)
{
    struct ff_atomic_file file;
    size_t bytes = onnx__model_proto__get_packed_size(proto);
    if ((int64_t)bytes > MAX_BYTES)
        return ff_err_set(err, FF_EUSAGE,
                          "%s: %zu bytes, an ONNX file holds at most %lld", path, bytes,
                          MAX_BYTES);
    int rc = ff_atomic_begin(&file, path, err);
    if (rc)
        return rc;
    struct file_buffer buffer = {{append}, file.stream};
    onnx__model_proto__pack_to_buffer(proto, &buffer.base);
    if (ferror(file.stream)) {
        rc = ff_err_errno(err, FF_EFAIL, "%s", path);
        ff_atomic_abort(&file);
        return rc;
    }
    return ff_atomic_commit(&file, err);
}

int ff_onnx_write(const char *path, const struct ff_model *model, struct ff_err *err)
{
    struct graph g = {.model = model, .err = err};
    Onnx__ModelProto proto = ONNX__MODEL_PROTO__INIT;
    Onnx__OperatorSetIdProto opset = ONNX__OPERATOR_SET_ID_PROTO__INIT;
    Onnx__OperatorSetIdProto *opsets[] = {&opset};
    char producer[] = "ff-train", version[] = FF_VERSION;
    char words[] = "Input: aligned RGB faces, (x/255 - 0.5)/0.5. Output: embedding, "
                   "not normalised.";
    build(&g);
    opset.has_version = true;
    opset.version = OPSET;
    proto.has_ir_version = true;
    proto.ir_version = IR_VERSION;
    proto.n_opset_import = 1;
    proto.opset_import = opsets;
    proto.producer_name = producer;
    proto.producer_version = version;
    proto.doc_string = words;
    proto.graph = &g.proto;
    int rc = g.rc ? g.rc : write_file(path, &proto, err);
    for (size_t i = 0; i < g.kept_count; i++)
        free(g.kept[i]);
    free(g.kept);
    return rc;
}
