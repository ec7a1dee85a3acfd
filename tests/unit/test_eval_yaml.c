/* SPDX-License-Identifier: MIT */
/* The result file reads back as YAML with every key and value. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "eval_yaml.h"
#include "yaml_doc.h"

static struct ff_eval_result result = {
    .name = "my \"set\"",
    .protocol = "ijbb",
    .eval_key = "0123",
    .model_sha256 = "feed",
    .backend = "ref",
    .switches = {true, false, true},
    .images = 7,
    .templates = 3,
    .pairs = 1005,
    .genuine = 5,
    .missing = 2,
    .seconds = 1.5,
    .far_count = 2,
    .tar = {{1e-5, 0.2, 0.75, 0, 0}, {0.01, 0.6, 0.5, 0.01, 10}},
    .compat = {{1e-5, 0.2, 0.76, 0, 0}, {0.01, 0.8, 0.49, 0.011, 11}},
    .replicates = 30,
    .identities = 4,
    .interval = {{1e-5, 0.1, 0.3, 0.05}, {0.01, 0.5, 0.7, 0.06}},
};

TestSuite(eval_yaml);

static double number(const struct ff_yaml *doc, const struct ff_yaml_node *map,
                     const char *key)
{
    double value = -1;
    const struct ff_yaml_node *node = ff_yaml_get(map, key);
    cr_assert(ne(ptr, (void *)node, NULL), "%s", key);
    cr_assert(eq(int, ff_yaml_f64(&value, doc, node, NULL), 0), "%s", key);
    return value;
}

Test(eval_yaml, every_key_reads_back)
{
    char folder[] = "/tmp/ff_eval_XXXXXX", path[FF_PATH_MAX];
    struct ff_yaml *doc;
    struct ff_err err = FF_ERR_INIT;
    bool norm = true;
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    ff_path(path, NULL, "%s/eval-x.yaml", folder);
    cr_assert(eq(int, ff_eval_write_yaml(path, &result, &err), 0), "%s", err.text);
    cr_assert(eq(int, ff_yaml_load(&doc, path, &err), 0), "%s", err.text);
    const struct ff_yaml_node *root = &doc->root;
    cr_assert(eq(str, (char *)ff_yaml_get(root, "name")->text, "my \"set\""));
    cr_assert(eq(str, (char *)ff_yaml_get(root, "protocol")->text, "ijbb"));
    cr_assert(eq(str, (char *)ff_yaml_get(root, "model_sha256")->text, "feed"));
    cr_assert(eq(str, (char *)ff_yaml_get(root, "eval_key")->text, "0123"));
    cr_assert(eq(int, ff_yaml_bool(&norm, doc, ff_yaml_get(root, "norm"), NULL), 0));
    cr_assert(not(norm));
    cr_assert(epsilon_eq(dbl, number(doc, root, "pairs"), 1005, 0));
    cr_assert(epsilon_eq(dbl, number(doc, root, "missing"), 2, 0));
    const struct ff_yaml_node *tar = ff_yaml_get(root, "tar");
    const struct ff_yaml_node *compat = ff_yaml_get(root, "compat");
    cr_assert(eq(sz, tar->count, 2));
    cr_assert(epsilon_eq(dbl, number(doc, &tar->items[0], "far"), 1e-5, 0));
    cr_assert(epsilon_eq(dbl, number(doc, &tar->items[1], "tar"), 60, 1e-9));
    cr_assert(epsilon_eq(dbl, number(doc, &tar->items[1], "threshold"), 0.5, 0));
    cr_assert(epsilon_eq(dbl, number(doc, &tar->items[1], "false_accepts"), 10, 0));
    cr_assert(epsilon_eq(dbl, number(doc, &compat->items[1], "tar"), 80, 1e-9));
    cr_assert(epsilon_eq(dbl, number(doc, &compat->items[1], "actual_far"), 0.011, 0));
    const struct ff_yaml_node *interval = ff_yaml_get(root, "interval");
    cr_assert(epsilon_eq(dbl, number(doc, &interval->items[0], "high"), 30, 1e-9));
    ff_yaml_destroy(doc);
    ff_remove_tree(folder, NULL);
}

Test(eval_yaml, table_says_where_impostors_are_too_few)
{
    char *text;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    ff_eval_print(f, &result);
    fclose(f);
    cr_assert(ne(ptr, strstr(text, "1e-05*"), NULL), "%s", text);
    cr_assert(eq(ptr, strstr(text, "0.01*"), NULL), "%s", text);
    cr_assert(ne(ptr, strstr(text, "2 images MISSING"), NULL));
    cr_assert(ne(ptr, strstr(text, "TAR at zero false accepts"), NULL));
    free(text);
}

Test(eval_yaml, pairs_read_back)
{
    static struct ff_eval_pairs pairs = {
        .name = "mine",
        .eval_key = "0123",
        .model_sha256 = "feed",
        .backend = "ref",
        .count = 2,
        .file = {{"lfw", 6000, 3000, {.mean = 99.75, .std = 0.25}},
                 {"cfp_fp", 7000, 3500, {.mean = 97.5, .std = 1, .threshold = {1.5}}}},
    };
    char folder[] = "/tmp/ff_eval_XXXXXX", path[FF_PATH_MAX], *text = NULL;
    struct ff_yaml *doc;
    size_t bytes;
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
    ff_path(path, NULL, "%s/eval-x.yaml", folder);
    cr_assert(eq(int, ff_eval_write_pairs_yaml(path, &pairs, NULL), 0));
    cr_assert(eq(int, ff_yaml_load(&doc, path, NULL), 0));
    const struct ff_yaml_node *root = &doc->root;
    cr_assert(eq(str, (char *)ff_yaml_get(root, "protocol")->text, "pairs"));
    cr_assert(eq(str, (char *)ff_yaml_get(root, "model_sha256")->text, "feed"));
    cr_assert(eq(str, (char *)ff_yaml_get(root, "eval_key")->text, "0123"));
    const struct ff_yaml_node *list = ff_yaml_get(root, "accuracy");
    cr_assert(eq(sz, list->count, 2));
    cr_assert(eq(str, (char *)ff_yaml_get(&list->items[1], "name")->text, "cfp_fp"));
    cr_assert(epsilon_eq(dbl, number(doc, &list->items[0], "accuracy"), 99.75, 1e-9));
    cr_assert(epsilon_eq(dbl, number(doc, &list->items[1], "std"), 1, 1e-9));
    cr_assert(epsilon_eq(dbl, number(doc, &list->items[1], "pairs"), 7000, 0));
    cr_assert(epsilon_eq(dbl, number(doc, &list->items[1], "same"), 3500, 0));
    ff_yaml_destroy(doc);
    ff_remove_tree(folder, NULL);
    FILE *f = open_memstream(&text, &bytes);
    ff_eval_print_pairs(f, &pairs);
    fclose(f);
    cr_assert(ne(ptr, strstr(text, "lfw    |     6000     3000 |     99.750"), NULL),
              "%s", text);
    cr_assert(ne(ptr, strstr(text, "97.500    1.000     0.150"), NULL), "%s", text);
    free(text);
}
