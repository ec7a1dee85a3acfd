/* SPDX-License-Identifier: MIT */
/* Reader of insightface's .bin files; see bin_pairs.h.
 *
 * A small stack machine for the opcodes that picklers write for such a value. Values
 * are small structs: data are views of the file, lists and tuples are objects in a
 * chain that is freed at the end, whatever refers to them through the memo. What is
 * called or built is one of a fixed list of names and has its arguments checked; the
 * result is data again, so there is nothing to execute.
 *
 * Counts are bounded below, lengths by the file, and the texts decoded in all by the
 * file's size, so that no file makes the reader use more than its own size and some
 * 200 MB, or more than linear time. */
#include "bin_pairs.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Picklers write lists in parts of 1000, and the largest known file has 14,000 images,
 * of at most 5 objects each. */
#define MAX_STACK (1u << 16)
#define MAX_MARKS 64
#define MAX_OBJECTS (1u << 19)
#define MAX_ITEMS (1u << 20) /* of all lists and tuples */
#define MAX_MEMO (1u << 20)

enum kind {
    UNSET,
    NONE,
    BOOL,
    INT,
    BYTES, /* bytes, bytearray, Python 2 str */
    TEXT,  /* UTF-8 */
    NAME,  /* a global: integer is an enum name */
    LIST,
    TUPLE,
    ARRAY, /* numpy array; object->data is UNSET before BUILD */
    DTYPE, /* integer: 1 bool, 0 uint8 */
};

enum name {
    ENCODE,
    BYTES_TYPE,
    BYTEARRAY,
    RECONSTRUCT,
    NDARRAY,
    DTYPE_TYPE,
    FROMBUFFER,
    SCALAR
};

static const struct {
    const char *module, *name;
    enum name id;
} names[] = {
    {"_codecs", "encode", ENCODE},
    {"__builtin__", "bytes", BYTES_TYPE},
    {"builtins", "bytes", BYTES_TYPE},
    {"__builtin__", "bytearray", BYTEARRAY},
    {"builtins", "bytearray", BYTEARRAY},
    {"numpy.core.multiarray", "_reconstruct", RECONSTRUCT},
    {"numpy._core.multiarray", "_reconstruct", RECONSTRUCT},
    {"numpy.core.numeric", "_frombuffer", FROMBUFFER},
    {"numpy._core.numeric", "_frombuffer", FROMBUFFER},
    {"numpy.core.multiarray", "scalar", SCALAR},
    {"numpy._core.multiarray", "scalar", SCALAR},
    {"numpy", "ndarray", NDARRAY},
    {"numpy", "dtype", DTYPE_TYPE},
};

struct value {
    enum kind kind;
    size_t size; /* of BYTES and TEXT */
    union {
        const uint8_t *bytes;
        int64_t integer;
        struct object *object;
    };
};

struct object {
    struct object *next;
    size_t count, capacity;
    struct value *items; /* (count) of LIST and TUPLE */
    struct value data;   /* BYTES of ARRAY */
};

/* A decoded text, in a chain owned by the result. */
struct ff_bin_text {
    struct ff_bin_text *next;
    uint8_t bytes[];
};

struct reader {
    const char *name;
    const uint8_t *bytes;
    size_t size, at, opcode_at; /* at: next byte; opcode_at: of the present opcode */
    struct value *stack;        /* (stack_capacity) */
    size_t depth, stack_capacity, marks[MAX_MARKS];
    int mark_count;
    struct value *memo; /* (memo_capacity) UNSET where nothing was put */
    size_t memo_count, memo_capacity;
    struct object *objects;
    size_t object_count, item_count, encoded_bytes;
    struct ff_bin_text *texts;
    struct ff_err *err;
};

static int bad(const struct reader *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* FF_EDATA: "<file>: opcode 0x52 at offset 17: ...". */
static int bad(const struct reader *r, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return ff_err_set(r->err, FF_EDATA, "%.500s: opcode 0x%02x at offset %zu: %s",
                      r->name, r->bytes[r->opcode_at], r->opcode_at, text);
}

static int no_memory(const struct reader *r)
{
    return ff_err_set(r->err, FF_ENOMEM, "%.500s: out of memory", r->name);
}

/* ---- the stack ---- */

/* Values above the last mark. */
static size_t free_values(const struct reader *r)
{
    return r->depth - (r->mark_count ? r->marks[r->mark_count - 1] : 0);
}

static int need(const struct reader *r, size_t count)
{
    return free_values(r) >= count ? 0 : bad(r, "the stack is short of values");
}

static int push(struct reader *r, struct value value)
{
    if (r->depth == MAX_STACK)
        return bad(r, "more than %u values on the stack", MAX_STACK);
    if (r->depth == r->stack_capacity) {
        size_t capacity = 2 * r->stack_capacity + 128;
        struct value *grown = realloc(r->stack, capacity * sizeof *grown);
        if (!grown)
            return no_memory(r);
        r->stack = grown;
        r->stack_capacity = capacity;
    }
    r->stack[r->depth++] = value;
    return 0;
}

static int push_number(struct reader *r, enum kind kind, int64_t integer)
{
    return push(r, (struct value){.kind = kind, .integer = integer});
}

/* The place below which the items of the last mark begin; the mark goes. */
static int pop_mark(size_t *first, struct reader *r)
{
    if (!r->mark_count)
        return bad(r, "there is no mark");
    *first = r->marks[--r->mark_count];
    return 0;
}

static int new_object(struct object **out, struct reader *r)
{
    if (r->object_count == MAX_OBJECTS)
        return bad(r, "more than %u lists, tuples and arrays", MAX_OBJECTS);
    struct object *object = calloc(1, sizeof *object);
    if (!object)
        return no_memory(r);
    object->next = r->objects;
    r->objects = object;
    r->object_count++;
    *out = object;
    return 0;
}

/* Moves the values from `first` up off the stack to the end of a list or tuple. */
static int extend(struct reader *r, struct object *object, size_t first)
{
    size_t count = r->depth - first, wanted = object->count + count;
    if (r->item_count + count > MAX_ITEMS)
        return bad(r, "more than %u items", MAX_ITEMS);
    if (wanted > object->capacity) {
        size_t capacity = object->count ? 2 * wanted : wanted;
        struct value *grown = realloc(object->items, capacity * sizeof *grown);
        if (!grown)
            return no_memory(r);
        object->items = grown;
        object->capacity = capacity;
    }
    if (count)
        memcpy(object->items + object->count, r->stack + first,
               count * sizeof *r->stack);
    object->count = wanted;
    r->item_count += count;
    r->depth = first;
    return 0;
}

static int push_container(struct reader *r, enum kind kind, size_t first)
{
    struct object *object = NULL;
    int rc = new_object(&object, r);
    if (!rc)
        rc = extend(r, object, first);
    return rc ? rc : push(r, (struct value){.kind = kind, .object = object});
}

static int append(struct reader *r, size_t first)
{
    size_t floor = r->mark_count ? r->marks[r->mark_count - 1] : 0;
    if (first <= floor || r->stack[first - 1].kind != LIST)
        return bad(r, "there is no list to append to");
    return extend(r, r->stack[first - 1].object, first);
}

/* ---- bytes of the file ---- */

static int take(const uint8_t **out, struct reader *r, uint64_t count)
{
    if (count > r->size - r->at)
        return bad(r, "wants %llu bytes, the file ends after %zu",
                   (unsigned long long)count, r->size - r->at);
    *out = r->bytes + r->at;
    r->at += (size_t)count;
    return 0;
}

/* A little-endian number of 1, 2, 4 or 8 bytes. */
static int take_number(uint64_t *out, struct reader *r, int width)
{
    const uint8_t *p = NULL;
    int rc = take(&p, r, (uint64_t)width);
    *out = 0;
    for (int i = 0; !rc && i < width; i++)
        *out |= (uint64_t)p[i] << 8 * i;
    return rc;
}

/* Data with a length of `width` bytes in front. */
static int push_data(struct reader *r, enum kind kind, int width)
{
    uint64_t length;
    struct value value = {.kind = kind};
    int rc = take_number(&length, r, width);
    if (!rc)
        rc = take(&value.bytes, r, length);
    value.size = (size_t)length;
    return rc ? rc : push(r, value);
}

static int push_long(struct reader *r)
{
    uint64_t width, bits;
    int rc = take_number(&width, r, 1);
    if (!rc && width > 8)
        return bad(r, "an integer of %d bytes", (int)width);
    if (!rc)
        rc = take_number(&bits, r, (int)width);
    if (rc)
        return rc;
    if (width && width < 8 && bits >> (8 * width - 1))
        bits |= ~UINT64_C(0) << 8 * width;
    return push_number(r, INT, (int64_t)bits);
}

static bool is_text(const struct value *value, const char *text)
{
    size_t length = strlen(text);
    return (value->kind == TEXT || value->kind == BYTES) && value->size == length &&
           !memcmp(value->bytes, text, length);
}

static int push_name(struct reader *r, const struct value *module,
                     const struct value *name)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_text(module, names[i].module) && is_text(name, names[i].name))
            return push_number(r, NAME, names[i].id);
    char shown[2][64];
    const struct value *parts[2] = {module, name};
    for (int k = 0; k < 2; k++) {
        size_t n = parts[k]->size < 63 ? parts[k]->size : 63;
        for (size_t i = 0; i < n; i++) {
            uint8_t c = parts[k]->bytes[i];
            shown[k][i] = c < 128 && isprint(c) ? (char)c : '?';
        }
        shown[k][n] = 0;
    }
    return bad(r, "the name %s.%s is refused", shown[0], shown[1]);
}

/* "module\nname\n". */
static int push_global(struct reader *r)
{
    struct value part[2];
    for (int k = 0; k < 2; k++) {
        const uint8_t *start = r->bytes + r->at;
        const uint8_t *end = memchr(start, '\n', r->size - r->at);
        if (!end)
            return bad(r, "the file ends in a name");
        part[k] = (struct value){.kind = TEXT, .size = (size_t)(end - start)};
        part[k].bytes = start;
        r->at += part[k].size + 1;
    }
    return push_name(r, &part[0], &part[1]);
}

static int push_stack_global(struct reader *r)
{
    int rc = need(r, 2);
    if (rc)
        return rc;
    struct value module = r->stack[r->depth - 2], name = r->stack[r->depth - 1];
    if (module.kind != TEXT || name.kind != TEXT)
        return bad(r, "a name that is no text");
    r->depth -= 2;
    return push_name(r, &module, &name);
}

/* ---- the memo ---- */

static int put(struct reader *r, uint64_t index)
{
    int rc = need(r, 1);
    if (rc)
        return rc;
    /* Picklers number from 0 or 1 on, without a gap. */
    if (index > r->memo_count + 1 || index >= MAX_MEMO)
        return bad(r, "memo index %llu after %zu entries", (unsigned long long)index,
                   r->memo_count);
    if (index >= r->memo_capacity) {
        size_t capacity = 2 * r->memo_capacity + 64;
        struct value *grown = realloc(r->memo, capacity * sizeof *grown);
        if (!grown)
            return no_memory(r);
        memset(grown + r->memo_capacity, 0,
               (capacity - r->memo_capacity) * sizeof *grown);
        r->memo = grown;
        r->memo_capacity = capacity;
    }
    r->memo[index] = r->stack[r->depth - 1];
    if (index >= r->memo_count)
        r->memo_count = (size_t)index + 1;
    return 0;
}

static int get(struct reader *r, uint64_t index)
{
    if (index >= r->memo_count || r->memo[index].kind == UNSET)
        return bad(r, "memo index %llu was never put", (unsigned long long)index);
    return push(r, r->memo[index]);
}

static int memo_opcode(struct reader *r, int width,
                       int (*act)(struct reader *, uint64_t))
{
    uint64_t index;
    int rc = take_number(&index, r, width);
    return rc ? rc : act(r, index);
}

/* ---- calls ---- */

/* bytes of a text whose characters are all below 256; a view where they are ASCII. */
static int encode_latin1(struct value *out, struct reader *r, const struct value *text)
{
    const uint8_t *p = text->bytes;
    size_t n = text->size, ascii = 0;
    if (n > r->size - r->encoded_bytes)
        return bad(r, "the encoded texts exceed the file");
    r->encoded_bytes += n;
    *out = (struct value){.kind = BYTES, .size = n, .bytes = p};
    while (ascii < n && p[ascii] < 0x80)
        ascii++;
    if (ascii == n)
        return 0;
    struct ff_bin_text *made = malloc(sizeof *made + n);
    if (!made)
        return no_memory(r);
    made->next = r->texts;
    r->texts = made;
    out->bytes = made->bytes;
    out->size = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t c = p[i];
        if (c >= 0x80) {
            if ((c != 0xC2 && c != 0xC3) || i + 1 == n || (p[i + 1] & 0xC0) != 0x80)
                return bad(r, "a text that is not latin-1 at its byte %zu", i);
            c = (uint8_t)(c << 6 | (p[++i] & 0x3F));
        }
        made->bytes[out->size++] = c;
    }
    return 0;
}

static bool is_latin1(const struct value *value)
{
    return is_text(value, "latin1") || is_text(value, "latin-1");
}

/* bytes(), bytearray(bytes), bytearray(text, "latin-1"). */
static int make_bytes(struct value *out, struct reader *r, const struct object *args)
{
    const struct value *a = args->items;
    *out = (struct value){.kind = BYTES, .bytes = r->bytes};
    if (args->count == 0)
        return 0;
    if (args->count == 2 && a[0].kind == TEXT && is_latin1(&a[1]))
        return encode_latin1(out, r, &a[0]);
    if (args->count != 1 || a[0].kind != BYTES)
        return bad(r, "bytes or bytearray of something else than bytes");
    *out = a[0];
    return 0;
}

static bool is_number(const struct value *value)
{
    return value->kind == INT || value->kind == BOOL;
}

/* Fills an array's data: one-dimensional but for axes of length 1. */
static int set_array(struct reader *r, struct object *array, const struct value *shape,
                     const struct value *dtype, const struct value *data)
{
    int64_t length = 1;
    if (shape->kind != TUPLE || dtype->kind != DTYPE || data->kind != BYTES)
        return bad(r, "a numpy array with other than shape, dtype and bytes");
    if (dtype->integer)
        return bad(r, "a numpy array of another type than uint8");
    for (size_t i = 0; i < shape->object->count; i++) {
        const struct value *side = &shape->object->items[i];
        if (side->kind != INT || side->integer < 0)
            return bad(r, "a numpy array with a side that is no length");
        if (side->integer != 1 && length != 1)
            return bad(r, "a numpy array of several dimensions, not an encoded image");
        length *= side->integer;
    }
    if ((uint64_t)length != data->size)
        return bad(r, "a numpy array of %lld elements with %zu bytes",
                   (long long)length, data->size);
    array->data = *data;
    return 0;
}

static int make_array(struct value *out, struct reader *r, const struct object *args,
                      bool from_buffer)
{
    const struct value *a = args->items;
    *out = (struct value){.kind = ARRAY};
    int rc = new_object(&out->object, r);
    if (rc)
        return rc;
    if (from_buffer) { /* (data, dtype, shape, "C" or "F") */
        if (args->count != 4 || (!is_text(&a[3], "C") && !is_text(&a[3], "F")))
            return bad(r, "_frombuffer with unknown arguments");
        return set_array(r, out->object, &a[2], &a[1], &a[0]);
    }
    /* (ndarray, (0,), b"b"): an empty array that BUILD fills */
    if (args->count != 3 || a[0].kind != NAME || a[0].integer != NDARRAY ||
        a[1].kind != TUPLE || !is_text(&a[2], "b"))
        return bad(r, "_reconstruct with unknown arguments");
    return 0;
}

/* dtype("u1" or "b1", align, copy). */
static int make_dtype(struct value *out, struct reader *r, const struct object *args)
{
    const struct value *a = args->items;
    if (args->count != 3 || !is_number(&a[1]) || !is_number(&a[2]))
        return bad(r, "dtype with unknown arguments");
    bool truth = is_text(&a[0], "b1") || is_text(&a[0], "|b1");
    if (!truth && !is_text(&a[0], "u1") && !is_text(&a[0], "|u1"))
        return bad(r, "a numpy type other than uint8 and bool");
    *out = (struct value){.kind = DTYPE, .integer = truth};
    return 0;
}

/* scalar(dtype, byte): a numpy bool. */
static int make_scalar(struct value *out, struct reader *r, const struct object *args)
{
    const struct value *a = args->items;
    if (args->count != 2 || a[0].kind != DTYPE || !a[0].integer || a[1].kind != BYTES ||
        a[1].size != 1 || *a[1].bytes > 1)
        return bad(r, "a numpy scalar that is no bool");
    *out = (struct value){.kind = BOOL, .integer = *a[1].bytes};
    return 0;
}

static int reduce(struct reader *r)
{
    struct value out;
    int rc = need(r, 2);
    if (rc)
        return rc;
    struct value called = r->stack[r->depth - 2], args = r->stack[r->depth - 1];
    if (called.kind != NAME || args.kind != TUPLE)
        return bad(r, "a call of something else than a name with a tuple");
    r->depth -= 2;
    const struct object *list = args.object;
    switch ((enum name)called.integer) {
    case ENCODE:
        if (list->count != 2 || list->items[0].kind != TEXT ||
            !is_latin1(&list->items[1]))
            return bad(r, "encode of something else than a text to latin-1");
        rc = encode_latin1(&out, r, &list->items[0]);
        break;
    case BYTES_TYPE:
    case BYTEARRAY: rc = make_bytes(&out, r, list); break;
    case RECONSTRUCT: rc = make_array(&out, r, list, false); break;
    case FROMBUFFER: rc = make_array(&out, r, list, true); break;
    case DTYPE_TYPE: rc = make_dtype(&out, r, list); break;
    case SCALAR: rc = make_scalar(&out, r, list); break;
    case NDARRAY: return bad(r, "a call of numpy.ndarray");
    }
    return rc ? rc : push(r, out);
}

/* State of a dtype, (version, "|", ...), or an array, (version, shape, dtype, order,
 * bytes). */
static int build(struct reader *r)
{
    int rc = need(r, 2);
    if (rc)
        return rc;
    struct value built = r->stack[r->depth - 2], state = r->stack[--r->depth];
    if (state.kind != TUPLE)
        return bad(r, "a state that is no tuple");
    const struct value *a = state.object->items;
    size_t count = state.object->count;
    if (built.kind == DTYPE && count == 8 && is_text(&a[1], "|"))
        return 0;
    if (built.kind == ARRAY && count == 5 && a[0].kind == INT && is_number(&a[3]))
        return set_array(r, built.object, &a[1], &a[2], &a[4]);
    return bad(r, "an unknown state");
}

/* ---- the machine ---- */

static int frame(struct reader *r)
{
    uint64_t length;
    int rc = take_number(&length, r, 8);
    if (!rc && length > r->size - r->at)
        rc = bad(r, "a frame of %llu bytes, the file ends after %zu",
                 (unsigned long long)length, r->size - r->at);
    return rc;
}

static int tuple(struct reader *r, size_t count)
{
    int rc = need(r, count);
    return rc ? rc : push_container(r, TUPLE, r->depth - count);
}

static int integer(struct reader *r, int width)
{
    uint64_t bits;
    int rc = take_number(&bits, r, width);
    if (rc)
        return rc;
    return push_number(r, INT, width == 4 ? (int32_t)(uint32_t)bits : (int64_t)bits);
}

static int marked(struct reader *r, uint8_t opcode)
{
    size_t first = 0;
    if (opcode == '(') {
        if (r->mark_count == MAX_MARKS)
            return bad(r, "more than %d marks", MAX_MARKS);
        r->marks[r->mark_count++] = r->depth;
        return 0;
    }
    int rc = pop_mark(&first, r);
    if (rc)
        return rc;
    return opcode == 't' ? push_container(r, TUPLE, first) : append(r, first);
}

/* One opcode other than PROTO and STOP. Letters and numbers as in Python's pickle.py.
 */
static int step(struct reader *r, uint8_t opcode)
{
    int rc;
    switch (opcode) {
    case 0x95: return frame(r);
    case '(':
    case 't':
    case 'e': return marked(r, opcode);
    case ']': return push_container(r, LIST, r->depth);
    case ')': return push_container(r, TUPLE, r->depth);
    case 'a': return (rc = need(r, 2)) ? rc : append(r, r->depth - 1);
    case 0x85: return tuple(r, 1);
    case 0x86: return tuple(r, 2);
    case 0x87: return tuple(r, 3);
    case 'N': return push_number(r, NONE, 0);
    case 0x88: return push_number(r, BOOL, 1);
    case 0x89: return push_number(r, BOOL, 0);
    case 'K': return integer(r, 1);
    case 'M': return integer(r, 2);
    case 'J': return integer(r, 4);
    case 0x8a: return push_long(r);
    case 'U': return push_data(r, BYTES, 1);
    case 'T': return push_data(r, BYTES, 4);
    case 'C': return push_data(r, BYTES, 1);
    case 'B': return push_data(r, BYTES, 4);
    case 0x8e: return push_data(r, BYTES, 8);
    case 0x96: return push_data(r, BYTES, 8);
    case 0x8c: return push_data(r, TEXT, 1);
    case 'X': return push_data(r, TEXT, 4);
    case 0x8d: return push_data(r, TEXT, 8);
    case 'c': return push_global(r);
    case 0x93: return push_stack_global(r);
    case 'q': return memo_opcode(r, 1, put);
    case 'r': return memo_opcode(r, 4, put);
    case 0x94: return put(r, r->memo_count);
    case 'h': return memo_opcode(r, 1, get);
    case 'j': return memo_opcode(r, 4, get);
    case 'R': return reduce(r);
    case 'b': return build(r);
    }
    return bad(r, "does not occur in a file of pairs and is refused");
}

static int run(struct reader *r)
{
    if (r->size < 2 || r->bytes[0] != 0x80)
        return ff_err_set(r->err, FF_EDATA, "%.500s: is no pickle of protocol 2 to 5",
                          r->name);
    if (r->bytes[1] < 2 || r->bytes[1] > 5)
        return ff_err_set(r->err, FF_EDATA,
                          "%.500s: pickle protocol %d; 2 to 5 are read", r->name,
                          r->bytes[1]);
    for (r->at = 2; r->at < r->size;) {
        r->opcode_at = r->at++;
        uint8_t opcode = r->bytes[r->opcode_at];
        if (opcode == '.')
            break;
        int rc = step(r, opcode);
        if (rc)
            return rc;
    }
    if (r->bytes[r->opcode_at] != '.')
        return ff_err_set(r->err, FF_EDATA, "%.500s: ends after %zu bytes without STOP",
                          r->name, r->size);
    if (r->at != r->size)
        return bad(r, "%zu bytes follow the end", r->size - r->at);
    if (r->mark_count || r->depth != 1)
        return bad(r, "%zu values on the stack at the end", r->depth);
    return 0;
}

static bool is_sequence(const struct value *value)
{
    return value->kind == LIST || value->kind == TUPLE;
}

static int fill(struct ff_bin_pairs *out, const struct reader *r)
{
    const struct value *root = &r->stack[0];
    if (!is_sequence(root) || root->object->count != 2 ||
        !is_sequence(&root->object->items[0]) || !is_sequence(&root->object->items[1]))
        return ff_err_set(r->err, FF_EDATA,
                          "%.500s: is no pair of a list of images and one of labels",
                          r->name);
    const struct object *images = root->object->items[0].object;
    const struct object *labels = root->object->items[1].object;
    if (images->count != 2 * labels->count || !labels->count)
        return ff_err_set(r->err, FF_EDATA,
                          "%.500s: %zu images and %zu labels; two images a label are "
                          "wanted",
                          r->name, images->count, labels->count);
    out->pairs = (int64_t)labels->count;
    out->image = calloc(images->count, sizeof *out->image);
    out->same = calloc(labels->count, sizeof *out->same);
    if (!out->image || !out->same)
        return no_memory(r);
    for (size_t i = 0; i < images->count; i++) {
        const struct value *image = &images->items[i];
        if (image->kind == ARRAY)
            image = &image->object->data;
        if (image->kind != BYTES)
            return ff_err_set(r->err, FF_EDATA,
                              "%.500s: image %zu is neither bytes nor a numpy array",
                              r->name, i);
        if (!image->size)
            return ff_err_set(r->err, FF_EDATA, "%.500s: image %zu is empty", r->name,
                              i);
        out->image[i] = (struct ff_bin_image){image->bytes, image->size};
    }
    for (size_t i = 0; i < labels->count; i++) {
        const struct value *label = &labels->items[i];
        if (!is_number(label) || label->integer < 0 || label->integer > 1)
            return ff_err_set(r->err, FF_EDATA,
                              "%.500s: label %zu is neither True nor False", r->name,
                              i);
        out->same[i] = (uint8_t)label->integer;
        out->same_count += label->integer;
    }
    return 0;
}

static void reader_fini(struct reader *r)
{
    while (r->objects) {
        struct object *next = r->objects->next;
        free(r->objects->items);
        free(r->objects);
        r->objects = next;
    }
    free(r->memo);
    free(r->stack);
}

int ff_bin_pairs_parse(struct ff_bin_pairs **out, const char *name,
                       const uint8_t *bytes, size_t size, struct ff_err *err)
{
    struct reader r = {.name = name, .bytes = bytes, .size = size, .err = err};
    struct ff_bin_pairs *pairs = calloc(1, sizeof *pairs);
    *out = NULL;
    if (pairs)
        pairs->name = strdup(name);
    int rc = !pairs || !pairs->name ? no_memory(&r) : run(&r);
    if (!rc)
        rc = fill(pairs, &r);
    reader_fini(&r);
    if (pairs)
        pairs->texts = r.texts;
    if (rc)
        ff_bin_pairs_close(pairs);
    else
        *out = pairs;
    return rc;
}

int ff_bin_pairs_open(struct ff_bin_pairs **out, const char *path, struct ff_err *err)
{
    struct stat st; /* a pipe is refused, not waited for */
    int rc = 0, fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    *out = NULL;
    if (fd < 0)
        return ff_err_errno(err, FF_EUSAGE, "%s", path);
    void *map = MAP_FAILED;
    if (fstat(fd, &st))
        rc = ff_err_errno(err, FF_EFAIL, "%s", path);
    else if (!S_ISREG(st.st_mode) || st.st_size == 0)
        rc = ff_err_set(err, FF_EDATA, "%s: is empty or no file", path);
    else if ((map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0)) ==
             MAP_FAILED)
        rc = ff_err_errno(err, FF_EFAIL, "%s", path);
    close(fd);
    if (rc)
        return rc;
    size_t size = (size_t)st.st_size;
    rc = ff_bin_pairs_parse(out, path, map, size, err);
    if (rc) {
        munmap(map, size);
        return rc;
    }
    (*out)->map = map;
    (*out)->map_bytes = size;
    return 0;
}

void ff_bin_pairs_close(struct ff_bin_pairs *pairs)
{
    if (!pairs)
        return;
    while (pairs->texts) {
        struct ff_bin_text *next = pairs->texts->next;
        free(pairs->texts);
        pairs->texts = next;
    }
    if (pairs->map)
        munmap(pairs->map, pairs->map_bytes);
    free(pairs->image);
    free(pairs->same);
    free(pairs->name);
    free(pairs);
}
