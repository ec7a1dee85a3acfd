/* SPDX-License-Identifier: MIT */
/* The parameter table: defaults, messages, reading, writing, rules. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "params.h"

static void set_ok(struct ff_params *params, const char *name, const char *text)
{
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_params_set(params, name, text, "here", &err), 0), "%s",
              err.text);
}

static void refused(const char *name, const char *text, const char *message)
{
    struct ff_params params, before;
    struct ff_err err = FF_ERR_INIT;
    ff_params_defaults(&params);
    before = params;
    cr_assert(
        eq(int, ff_params_set(&params, name, text, "grid.yaml:7", &err), FF_EUSAGE));
    cr_assert(eq(str, err.text, (char *)message));
    cr_assert(eq(int, memcmp(&params, &before, sizeof params), 0));
}

Test(params, published_defaults)
{
    struct ff_params p;
    ff_params_defaults(&p);
    cr_assert(eq(dbl, p.gamma0, 0.02));
    cr_assert(eq(dbl, p.delta, 2));
    cr_assert(eq(dbl, p.lambda, 5e-5));
    cr_assert(eq(dbl, p.tau, 0.05));
    cr_assert(p.alpha == 0.001 && p.beta == 0.001);
    cr_assert(eq(i64, p.batch, 128));
    cr_assert(eq(i64, p.seed, 3407));
    cr_assert(eq(i64, p.max_drops, 8));
    cr_assert(eq(int, p.backbone, FF_BACKBONE_R100));
    cr_assert(eq(int, p.schedule, FF_SCHEDULE_FASTFACE));
    cr_assert(p.deterministic);
    cr_assert(not(p.weights_beside));
    cr_assert(isnan(p.margin));
    cr_assert(eq(i64, p.workers, 0));
}

Test(params, every_row_is_sound)
{
    size_t count;
    const struct ff_param_info *table = ff_params_table(&count);
    struct ff_params params;
    ff_params_defaults(&params);
    cr_assert(lt(sz, 40, count));
    for (size_t i = 0; i < count; i++) {
        struct ff_err err = FF_ERR_INIT;
        cr_assert(eq(ptr, (void *)ff_params_find(table[i].name), (void *)&table[i]));
        cr_assert(
            eq(int,
               ff_params_set(&params, table[i].name, table[i].neutral_text, "t", &err),
               0),
            "%s", err.text);
        cr_assert(table[i].help[0] != 0, "%s", table[i].name);
        cr_assert(eq(int, table[i].type == FF_PARAM_ENUM, table[i].choices[0] != 0));
    }
}

Test(params, enumerations_match_their_choices)
{
    static const struct {
        const char *name, *text;
        int value;
    } last[] = {{"schedule", "plateau", FF_SCHEDULE_PLATEAU},
                {"slope_init", "published", FF_SLOPE_INIT_PUBLISHED},
                {"smooth", "box", FF_SMOOTH_BOX},
                {"backbone", "r200", FF_BACKBONE_R200},
                {"head", "softmax", FF_HEAD_SOFTMAX},
                {"margin_grad", "exact", FF_MARGIN_GRAD_EXACT},
                {"precision", "bf16", FF_PRECISION_BF16},
                {"head_precision", "fp16", FF_HEAD_PRECISION_FP16},
                {"backend", "ref", FF_BACKEND_REF}};
    struct ff_params p;
    ff_params_defaults(&p);
    for (size_t i = 0; i < sizeof last / sizeof last[0]; i++) {
        set_ok(&p, last[i].name, last[i].text);
        const struct ff_param_info *info = ff_params_find(last[i].name);
        cr_assert(eq(int, *(int *)(void *)((char *)&p + info->offset), last[i].value),
                  "%s", last[i].name);
    }
}

Test(params, messages)
{
    refused("lamda", "1", "grid.yaml:7: unknown parameter \"lamda\" (nearest: lambda)");
    refused("lambda", "abc", "grid.yaml:7: lambda: \"abc\" is not a number");
    refused("tau", "1.5", "grid.yaml:7: tau: 1.5 is out of range [0, 1]");
    refused("lambda", "auto", "grid.yaml:7: lambda: \"auto\" is not a number");
    refused("margin", "x", "grid.yaml:7: margin: \"x\" is not a number or auto");
    refused("batch", "1.5", "grid.yaml:7: batch: \"1.5\" is not an integer");
    refused("workers", "0", "grid.yaml:7: workers: 0 is out of range [1, 1024]");
    refused("head", "arc",
            "grid.yaml:7: head: \"arc\" is none of: arcface cosface softmax");
    refused(
        "head", "arcface cosface",
        "grid.yaml:7: head: \"arcface cosface\" is none of: arcface cosface softmax");
    refused("head", "", "grid.yaml:7: head: \"\" is none of: arcface cosface softmax");
    refused("deterministic", "yes",
            "grid.yaml:7: deterministic: \"yes\" is not true or false");
    refused("milestones", "[3, 2]",
            "grid.yaml:7: milestones: 2 does not exceed the item before it");
    refused("milestones", "[0]",
            "grid.yaml:7: milestones: 0 is out of range [1, 1e+12]");
    refused("milestones", "[1, x]",
            "grid.yaml:7: milestones: \"[1, x]\" is not a list of "
            "integers such as [1000, 2000]");
    refused("milestones", "1]2",
            "grid.yaml:7: milestones: \"1]2\" is not a list of "
            "integers such as [1000, 2000]");
    refused("milestones", "[1",
            "grid.yaml:7: milestones: \"[1\" is not a list of "
            "integers such as [1000, 2000]");
    unsetenv("FF_TEST_NONE");
    refused("data", "${FF_TEST_NONE}/t1",
            "grid.yaml:7: data: \"${FF_TEST_NONE}/t1\": "
            "environment variable FF_TEST_NONE is not set");
}

Test(params, lists_in_every_spelling)
{
    static const char *const texts[] = {"[10, 200]", "10,200", "10 200", "[1e1,200]",
                                        "[ 10 , 200 ]"};
    struct ff_params p;
    ff_params_defaults(&p);
    for (int i = 0; i < 5; i++) {
        set_ok(&p, "milestones", "[]");
        cr_assert(eq(i64, p.milestones.count, 0));
        set_ok(&p, "milestones", texts[i]);
        cr_assert(p.milestones.count == 2 && p.milestones.items[0] == 10 &&
                      p.milestones.items[1] == 200,
                  "%s", texts[i]);
    }
}

/* The list as one text, " | " between. */
static const char *paths(const struct ff_params *p)
{
    static char text[FF_PATHS_TEXT];
    char path[FF_PARAM_TEXT];
    const char *list = p->validate;
    text[0] = 0;
    while (ff_paths_next(path, &list))
        strcat(strcat(text, *text ? " | " : ""), path);
    return text;
}

Test(params, paths_in_every_spelling)
{
    struct ff_params p, again;
    struct ff_yaml *doc;
    char text[4096];
    setenv("FF_TEST_BINS", "/data", 1);
    ff_params_defaults(&p);
    cr_assert(eq(str, (char *)paths(&p), ""));
    set_ok(&p, "validate", "lfw.bin");
    cr_assert(eq(str, (char *)paths(&p), "lfw.bin"));
    set_ok(&p, "validate", "['${FF_TEST_BINS}/a.bin', 'b, c.bin']");
    cr_assert(eq(str, (char *)paths(&p), "/data/a.bin | b, c.bin"));
    ff_params_text(text, sizeof text, &p, ff_params_find("validate"));
    cr_assert(eq(str, text, "[\"/data/a.bin\", \"b, c.bin\"]"));
    ff_params_defaults(&again);
    set_ok(&again, "validate", text);
    cr_assert(eq(int, memcmp(&again, &p, sizeof p), 0));
    const char yaml[] = "validate:\n  - ${FF_TEST_BINS}/a.bin\n  - b, c.bin\n";
    ff_params_defaults(&again);
    cr_assert(eq(int, ff_yaml_parse(&doc, "p", yaml, strlen(yaml), NULL), 0));
    cr_assert(eq(int, ff_params_set_map(&again, doc, &doc->root, NULL), 0));
    ff_yaml_destroy(doc);
    cr_assert(eq(int, memcmp(&again, &p, sizeof p), 0));
    set_ok(&p, "validate", "[]");
    set_ok(&again, "validate", "");
    cr_assert(eq(int, memcmp(&again, &p, sizeof p), 0));
    cr_assert(eq(str, (char *)paths(&p), ""));
    refused("validate", "[a",
            "grid.yaml:7: validate: \"[a\" is not a list of paths such "
            "as [lfw.bin]");
    refused("validate", "[a, '']", "grid.yaml:7: validate: a path is empty");
    refused("validate", "[a, [b]]", "grid.yaml:7: validate: a path is empty");
    refused("validate", "\"a\nb", "grid.yaml:7: validate: a path is broken over lines");
    struct ff_err err = FF_ERR_INIT;
    char list[FF_PATHS_TEXT] = "", longest[FF_PARAM_TEXT + 1];
    memset(longest, 'x', FF_PARAM_TEXT);
    longest[FF_PARAM_TEXT] = 0;
    cr_assert(eq(int, ff_paths_add(list, longest, &err), FF_EUSAGE));
    longest[FF_PARAM_TEXT - 1] = 0;
    cr_assert(eq(int, ff_paths_add(list, longest, &err), 0), "%s", err.text);
    cr_assert(eq(int, ff_paths_add(list, longest, &err), FF_EUSAGE));
    cr_assert(ne(ptr, strstr(err.text, "2047 characters with the paths"), NULL), "%s",
              err.text);
    longest[1000] = 0;
    cr_assert(eq(int, ff_paths_add(list, longest, &err), 0), "%s", err.text);
}

Test(params, set_argument)
{
    struct ff_params p;
    struct ff_err err = FF_ERR_INIT;
    ff_params_defaults(&p);
    cr_assert(eq(int, ff_params_set_arg(&p, "data=/a=b", &err), 0));
    cr_assert(eq(str, p.data, "/a=b"));
    cr_assert(eq(int, ff_params_set_arg(&p, "tau=1.5", &err), FF_EUSAGE));
    cr_assert(eq(str, err.text, "--set: tau: 1.5 is out of range [0, 1]"));
    cr_assert(eq(int, ff_params_set_arg(&p, "tau", &err), FF_EUSAGE));
    cr_assert(eq(str, err.text, "--set: \"tau\" is not name=value"));
}

Test(params, yaml_map)
{
    static const char good[] = "lambda: 1.0e-4\nmilestones: [5, 7]\nmargin: auto\n";
    static const char *const bad[][2] = {
        {"tau: 0.1\nlamda: 3\n",
         "p.yaml:2: unknown parameter \"lamda\" (nearest: lambda)"},
        {"tau: [1, 2]\n", "p.yaml:1: tau: a list stands where one value belongs"},
        {"milestones: {a: 1}\n",
         "p.yaml:1: milestones: a map stands where one value belongs"},
        {"- 1\n", "p.yaml:1: parameters must be a map of lines \"name: value\""}};
    struct ff_params p;
    struct ff_yaml *doc;
    struct ff_err err = FF_ERR_INIT;
    ff_params_defaults(&p);
    cr_assert(eq(int, ff_yaml_parse(&doc, "p.yaml", good, strlen(good), &err), 0));
    cr_assert(eq(int, ff_params_set_map(&p, doc, &doc->root, &err), 0), "%s", err.text);
    cr_assert(eq(dbl, p.lambda, 1e-4));
    cr_assert(eq(i64, p.milestones.items[1], 7));
    ff_yaml_destroy(doc);
    for (int i = 0; i < 4; i++) {
        cr_assert(eq(
            int, ff_yaml_parse(&doc, "p.yaml", bad[i][0], strlen(bad[i][0]), &err), 0));
        cr_assert(eq(int, ff_params_set_map(&p, doc, &doc->root, &err), FF_EUSAGE));
        cr_assert(eq(str, err.text, (char *)bad[i][1]));
        ff_yaml_destroy(doc);
    }
}

Test(params, written_file_reads_back)
{
    char path[] = "/tmp/ff_params_XXXXXX";
    struct ff_params p, back;
    struct ff_err err = FF_ERR_INIT;
    ff_params_defaults(&p);
    set_ok(&p, "lambda", "0.000012345678901234567");
    set_ok(&p, "milestones", "[3, 1000000000000]");
    set_ok(&p, "data", "/a \"b\" # c: \\d");
    set_ok(&p, "head", "cosface");
    set_ok(&p, "deterministic", "false");
    FILE *f = fdopen(mkstemp(path), "w");
    ff_params_write(f, &p, "");
    fclose(f);
    ff_params_defaults(&back);
    cr_assert(eq(int, ff_params_load(&back, path, &err), 0), "%s", err.text);
    cr_assert(isnan(back.margin));
    back.margin = p.margin; /* two NaN may differ in their bits */
    cr_assert(eq(int, memcmp(&p, &back, sizeof p), 0));
    unlink(path);
}

static void unresolved(const char *name, const char *text, const char *name2,
                       const char *text2, const char *message)
{
    struct ff_params p;
    struct ff_err err = FF_ERR_INIT;
    ff_params_defaults(&p);
    set_ok(&p, name, text);
    if (name2)
        set_ok(&p, name2, text2);
    cr_assert(eq(int, ff_params_resolve(&p, &err), FF_EUSAGE), "%s", name);
    cr_assert(eq(str, err.text, (char *)message));
}

Test(params, rules)
{
    unresolved("haar_width", "3", NULL, NULL, "haar_width: 3 is not even");
    unresolved("image_size", "50", NULL, NULL,
               "image_size: 50 is not a multiple of 16");
    unresolved("embedding", "12", NULL, NULL, "embedding: 12 is not a multiple of 8");
    unresolved("head", "softmax", "margin", "0.5",
               "margin: 0.5 given, but head softmax has none");
    unresolved(
        "precision", "fp16", "backend", "onednn",
        "precision: fp16 does not run on backend onednn (hint: precision: fp32, or "
        "backend: cuda)");
    unresolved(
        "head_precision", "fp16", "backend", "ref",
        "head_precision: fp16 does not run on backend ref (hint: head_precision: "
        "fp32, or backend: cuda)");
}

Test(params, margin_by_head)
{
    static const char *const heads[] = {"arcface", "cosface", "softmax"};
    static const double margins[] = {0.5, 0.4, 0};
    for (int i = 0; i < 3; i++) {
        struct ff_params p;
        ff_params_defaults(&p);
        set_ok(&p, "head", heads[i]);
        cr_assert(eq(int, ff_params_resolve(&p, NULL), 0));
        cr_assert(eq(dbl, p.margin, margins[i]));
    }
}

Test(params, help_names_everything)
{
    char *text;
    size_t bytes, count;
    const struct ff_param_info *table = ff_params_table(&count);
    FILE *f = open_memstream(&text, &bytes);
    ff_params_help(f);
    fclose(f);
    for (size_t i = 0; i < count; i++)
        cr_assert(strstr(text, table[i].name) && strstr(text, table[i].help), "%s",
                  table[i].name);
    free(text);
}

Test(params, at_least_one_cpu)
{
    int n = ff_cpu_count();
    cr_assert(n >= 1 && n <= sysconf(_SC_NPROCESSORS_CONF));
}
