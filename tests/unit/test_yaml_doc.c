/* SPDX-License-Identifier: MIT */
/* YAML trees: structure, line numbers, refusals, strict numbers, environment, writers.
 */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "rng.h"
#include "yaml_doc.h"

static struct ff_yaml *parse(const char *text)
{
    struct ff_yaml *doc;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_yaml_parse(&doc, "grid.yaml", text, strlen(text), &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return doc;
}

static void refused(const char *text, const char *message)
{
    struct ff_yaml *doc;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_yaml_parse(&doc, "grid.yaml", text, strlen(text), &err);
    cr_assert(eq(int, rc, FF_EUSAGE), "accepted: %s", text);
    cr_assert(eq(ptr, doc, NULL));
    cr_assert(strncmp(err.text, message, strlen(message)) == 0, "%s: got \"%s\"", text,
              err.text);
}

Test(yaml_doc, tree_with_lines)
{
    struct ff_yaml *doc = parse("# head\nname: demo\nsweep:\n  lambda: [1, 2.5]\n"
                                "  tau:\n    - 0.1\n    - \"x y\"\n");
    const struct ff_yaml_node *sweep = ff_yaml_get(&doc->root, "sweep");
    cr_assert(ne(ptr, (void *)sweep, NULL));
    cr_assert(eq(sz, doc->root.count, 2));
    cr_assert(eq(int, sweep->line, 3));
    const struct ff_yaml_node *lambda = ff_yaml_get(sweep, "lambda");
    cr_assert(eq(int, (int)lambda->kind, FF_YAML_LIST));
    cr_assert(eq(int, lambda->line, 4));
    cr_assert(eq(str, (char *)lambda->items[1].text, "2.5"));
    const struct ff_yaml_node *tau = ff_yaml_get(sweep, "tau");
    cr_assert(eq(int, tau->items[1].line, 7));
    cr_assert(tau->items[0].plain && !tau->items[1].plain);
    cr_assert(eq(ptr, (void *)tau->items[0].key, NULL));
    cr_assert(eq(ptr, (void *)ff_yaml_get(sweep, "delta"), NULL));
    cr_assert(eq(ptr, (void *)ff_yaml_get(lambda, "x"), NULL));
    ff_yaml_destroy(doc);
}

Test(yaml_doc, empty_document_is_an_empty_map)
{
    static const char *const texts[] = {"", "# only words\n", "---\n", "{}"};
    for (int i = 0; i < 4; i++) {
        struct ff_yaml *doc = parse(texts[i]);
        cr_assert(eq(int, (int)doc->root.kind, FF_YAML_MAP), "%s", texts[i]);
        cr_assert(eq(sz, doc->root.count, 0));
        ff_yaml_destroy(doc);
    }
}

Test(yaml_doc, refusals_name_the_line)
{
    refused("a: 1\nb: 2\na: 3\n",
            "grid.yaml:3: key \"a\" occurs twice (first in line 1)");
    refused("a: &x 1\n", "grid.yaml:1: anchors");
    refused("a: 1\nb: *x\n", "grid.yaml:2: aliases");
    refused("a: !!int 3\n", "grid.yaml:1: tags");
    refused("a: 1\n---\nb: 2\n", "grid.yaml:2: more than one document");
    refused("a: 1\n[x]: 2\n", "grid.yaml:2: ");
    refused("a: [1, 2\nb: 3\n", "grid.yaml:2: not YAML: ");
    refused("a: \"x\\0y\"\n", "grid.yaml:1: zero byte");
    refused("a: 1\n\tb: 2\n", "grid.yaml:2: not YAML: ");
    refused("a: \xff\xfe\n", "grid.yaml:1: not YAML: ");
    refused("a: 1\nb: 2\nc: \xe9\nd: 4\n", "grid.yaml:3: not YAML: ");
    refused("a: 1\n# \a\nc: 2\n", "grid.yaml:2: not YAML: ");
}

/* A comparison of each key with every other takes minutes here. */
Test(yaml_doc, two_hundred_thousand_keys_take_no_time, .timeout = 15)
{
    enum { KEYS = 200000 };
    char *text;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    for (int i = 0; i < KEYS; i++)
        fprintf(f, "key_%d: %d\n", i, i);
    cr_assert(eq(int, fflush(f), 0));
    struct ff_yaml *doc = parse(text);
    cr_assert(eq(sz, doc->root.count, KEYS));
    cr_assert(eq(int, doc->root.items[KEYS - 1].line, KEYS));
    ff_yaml_destroy(doc);
    fputs("key_199998: 1\n", f);
    cr_assert(eq(int, fclose(f), 0));
    refused(text, "grid.yaml:200001: key \"key_199998\" occurs twice (first in line "
                  "199999)");
    free(text);
}

Test(yaml_doc, deep_nesting_is_refused)
{
    char text[2001];
    memset(text, '[', 1000);
    memset(text + 1000, ']', 1000);
    text[2000] = 0;
    refused(text, "grid.yaml:1: nested too deeply");
}

Test(yaml_doc, cut_and_spoilt_texts_never_crash)
{
    static const char whole[] =
        "name: demo\ntrain:\n  data: \"${X}\"\n  milestones: [1, 2]\n"
        "sweep:\n  lambda: {log: [1.0e-5, 2.0e-4], n: 5}\n"
        "exclude:\n  - {tau: 0.1}\n";
    char text[sizeof whole];
    for (uint64_t i = 0; i < 3000; i++) {
        memcpy(text, whole, sizeof whole);
        for (uint64_t k = 0; k < 1 + i % 3; k++) {
            uint64_t r = ff_rng_u64(1, k, i);
            text[r % (sizeof whole - 1)] = (char)(r >> 32);
        }
        struct ff_yaml *doc;
        struct ff_err err = FF_ERR_INIT;
        int rc = ff_yaml_parse(&doc, "g", text, i % sizeof whole, &err);
        cr_assert(rc == 0 || (rc == FF_EUSAGE && err.text[0]));
        cr_assert(eq(int, doc != NULL, rc == 0));
        ff_yaml_destroy(doc);
    }
}

Test(yaml_doc, strict_floats)
{
    static const char *const bad[] = {"",    ".",     "e5",    "1e",    "0x10",
                                      "nan", "inf",   "1.2.3", "1,5",   " 1",
                                      "1 ",  "1e999", "--1",   "1_000", "1e-400"};
    double value;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert(eq(int, ff_parse_f64(&value, bad[i]), -1), "accepted \"%s\"", bad[i]);
    cr_assert(eq(int, ff_parse_f64(&value, "5e-5"), 0));
    cr_assert(eq(dbl, value, 5e-5));
    cr_assert(eq(int, ff_parse_f64(&value, "-.5E+1"), 0));
    cr_assert(eq(dbl, value, -5));
    cr_assert(eq(int, ff_parse_f64(&value, "0e-400"), 0));
    cr_assert(eq(dbl, value, 0));
    cr_assert(eq(int, ff_parse_f64(&value, "-0.0"), 0));
    cr_assert(eq(int, signbit(value) != 0, 0));
}

Test(yaml_doc, strict_integers)
{
    static const char *const bad[] = {
        "", "+", "1.5", "1e-1", "abc", "9223372036854775808", "1 ", "0x1", "1e300"};
    int64_t value;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert(eq(int, ff_parse_i64(&value, bad[i]), -1), "accepted \"%s\"", bad[i]);
    cr_assert(eq(int, ff_parse_i64(&value, "-9223372036854775808"), 0));
    cr_assert(eq(i64, value, INT64_MIN));
    cr_assert(eq(int, ff_parse_i64(&value, "1e5"), 0));
    cr_assert(eq(i64, value, 100000));
}

Test(yaml_doc, typed_reads_name_place_and_text)
{
    struct ff_yaml *doc = parse("a: 1\nlambda: abc\nn: [1]\non: yes\n");
    struct ff_err err = FF_ERR_INIT;
    double f;
    int64_t n;
    bool b;
    cr_assert(eq(int, ff_yaml_f64(&f, doc, &doc->root.items[1], &err), FF_EUSAGE));
    cr_assert(eq(str, err.text, "grid.yaml:2: lambda: \"abc\" is not a number"));
    cr_assert(eq(int, ff_yaml_i64(&n, doc, &doc->root.items[2], &err), FF_EUSAGE));
    cr_assert(eq(str, err.text, "grid.yaml:3: n: a list is not an integer"));
    cr_assert(eq(int, ff_yaml_bool(&b, doc, &doc->root.items[3], &err), FF_EUSAGE));
    cr_assert(eq(str, err.text, "grid.yaml:4: on: \"yes\" is not true or false"));
    cr_assert(eq(int, ff_yaml_i64(&n, doc, &doc->root.items[0], &err), 0));
    cr_assert(eq(i64, n, 1));
    ff_yaml_destroy(doc);
}

Test(yaml_doc, environment_is_expanded)
{
    char out[32];
    struct ff_err err = FF_ERR_INIT;
    setenv("FF_TEST_A", "/data", 1);
    setenv("FF_TEST_EMPTY", "", 1);
    unsetenv("FF_TEST_NONE");
    cr_assert(eq(int, ff_expand_env(out, sizeof out, "x${FF_TEST_A}/y$z", &err), 0));
    cr_assert(eq(str, out, "x/data/y$z"));
    cr_assert(eq(
        int, ff_expand_env(out, sizeof out, "${FF_TEST_NONE:-/d}/${FF_TEST_A}", &err),
        0));
    cr_assert(eq(str, out, "/d//data"));
    cr_assert(
        eq(int,
           ff_expand_env(out, sizeof out, "${FF_TEST_EMPTY:-e}|${FF_TEST_EMPTY}", &err),
           0));
    cr_assert(eq(str, out, "e|"));
    cr_assert(
        eq(int, ff_expand_env(out, sizeof out, "${FF_TEST_NONE}/x", &err), FF_EUSAGE));
    cr_assert(
        eq(str, err.text,
           "\"${FF_TEST_NONE}/x\": environment variable FF_TEST_NONE is not set"));
    cr_assert(eq(int, ff_expand_env(out, sizeof out, "${X", &err), FF_EUSAGE));
    cr_assert(eq(int, ff_expand_env(out, sizeof out, "${X:?no}", &err), FF_EUSAGE));
    cr_assert(
        eq(int, ff_expand_env(out, sizeof out, "0123456789012345678901234567890", &err),
           0));
    cr_assert(eq(
        int, ff_expand_env(out, sizeof out, "01234567890123456789012345678901", &err),
        FF_EUSAGE));
}

Test(yaml_doc, float_text_is_shortest_and_exact)
{
    char text[32];
    cr_assert(eq(str, (char *)ff_f64_text(text, 5e-5), "5.0e-05"));
    cr_assert(eq(str, (char *)ff_f64_text(text, 0.02), "0.02"));
    cr_assert(eq(str, (char *)ff_f64_text(text, 64), "64.0"));
    cr_assert(eq(str, (char *)ff_f64_text(text, 1e20), "1.0e+20"));
    cr_assert(eq(str, (char *)ff_f64_text(text, -2.5e-5), "-2.5e-05"));
    cr_assert(eq(str, (char *)ff_f64_text(text, 0), "0.0"));
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t bits = ff_rng_u64(5, 5, i);
        double value, back;
        memcpy(&value, &bits, sizeof value);
        if (!isfinite(value))
            continue;
        ff_f64_text(text, value);
        cr_assert(strchr(text, '.') && strlen(text) < 32, "%s", text);
        cr_assert(ff_parse_f64(&back, text) == 0 && back == value, "%s", text);
    }
}

Test(yaml_doc, strings_read_back)
{
    static const char text[] = "a \"b\" \\ c\n\t\x01 \xc3\xa9 # no: comment";
    char *buffer;
    size_t bytes;
    FILE *f = open_memstream(&buffer, &bytes);
    fputs("x: ", f);
    ff_yaml_write_string(f, text);
    fclose(f);
    struct ff_yaml *doc = parse(buffer);
    cr_assert(eq(str, (char *)doc->root.items[0].text, (char *)text));
    ff_yaml_destroy(doc);
    free(buffer);
}
