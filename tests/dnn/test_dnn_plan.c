/* SPDX-License-Identifier: MIT */
/* Problems, candidates, choices and plans of cuDNN, without a GPU. */
#include "cuda_choices.h"
#include "dnn_fixture.h"

static struct dnn_target target;

static void setup(void)
{
    target = target_named("a100_sm80");
}

static void teardown(void)
{
    dnn_target_close(&target);
}

TestSuite(dnn_plan, .init = setup, .fini = teardown, .timeout = 60);

static struct dnn_problem problem_of(enum cuda_type type, enum dnn_kind kind)
{
    return square_problem(128, 256, 14, type, kind);
}

static struct dnn_candidates list_of(const struct dnn_problem *problem, bool every)
{
    struct dnn_candidates list;
    struct ff_err err = FF_ERR_INIT;
    int rc = dnn_list(&list, &target, problem, every, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return list;
}

static bool holds(const struct dnn_candidates *list, const char *choice)
{
    for (int i = 0; i < list->count; i++)
        if (!strcmp(list->items[i].choice, choice))
            return true;
    return false;
}

/* Makes a plan that is thrown away. */
static int try_choice(const struct dnn_problem *problem, const char *choice,
                      struct ff_err *err)
{
    struct dnn_plan *plan;
    int rc = dnn_plan_create(&plan, &target, problem, choice, err);
    dnn_plan_destroy(plan);
    return rc;
}

Test(dnn_plan, texts_tell_problems_apart)
{
    char text[DNN_PROBLEM_TEXT];
    struct dnn_problem p = problem_of(CUDA_F16, DNN_BWD_WEIGHTS);
    cr_assert(eq(str, dnn_problem_text(text, &p),
                 "conv 256->256 3x3 s1 14x14 N128 fp16 backward weights"));
    p = problem_of(CUDA_F32, DNN_FWD_STATS);
    p.tf32 = true;
    cr_assert(eq(str, dnn_problem_text(text, &p),
                 "conv 256->256 3x3 s1 14x14 N128 tf32 forward with statistics"));
    p = problem_of(CUDA_BF16, DNN_BWD_DATA);
    p.tf32 = true;
    p.shape.pad = 0;
    p.shape.groups = 256;
    p.shape.stride = 2;
    cr_assert(eq(str, dnn_problem_text(text, &p),
                 "conv 256->256 3x3 s2 p0 g256 14x14 N128 bf16 backward data"));
}

_Static_assert(DNN_PROBLEM_TEXT <= CUDA_CHOICES_TEXT, "problems fit into the table");
_Static_assert(DNN_CHOICE_TEXT <= CUDA_CHOICES_TEXT, "choices fit into the table");

Test(dnn_plan, problems_and_choices_go_through_the_table)
{
    struct cuda_choices table = CUDA_CHOICES_INIT, again = CUDA_CHOICES_INIT;
    const struct shapes shapes = mbf_shapes();
    char text[DNN_PROBLEM_TEXT];
    struct ff_err err = FF_ERR_INIT;
    struct dnn_problem p = problem_of(CUDA_F16, DNN_BWD_WEIGHTS);
    for (int i = 0; i < shapes.count; i++) {
        p.shape = shapes.items[i];
        p.shape.N = 128;
        struct dnn_candidates list = list_of(&p, false);
        int rc = cuda_choices_set(&table, dnn_problem_text(text, &p),
                                  list.items[list.count - 1].choice, &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        dnn_candidates_free(&list);
    }
    cr_assert(eq(int, table.count, shapes.count));
    char *all = cuda_choices_text(&table, "# fastface choices 1: x");
    cr_assert(eq(int, cuda_choices_parse(&again, all, "t", NULL, &err), 0), "%s",
              err.text);
    for (int i = 0; i < shapes.count; i++) {
        p.shape = shapes.items[i];
        p.shape.N = 128;
        const char *choice = cuda_choices_get(&again, dnn_problem_text(text, &p));
        cr_assert(choice && !try_choice(&p, choice, &err), "%s: %s", text, err.text);
    }
    free(all);
    cuda_choices_fini(&again);
    cuda_choices_fini(&table);
}

/* Words of "eng62 k2=0 k13=1" that the other choice has not. */
static int words_more(const char *choice, const char *other)
{
    char words[DNN_CHOICE_TEXT], *next;
    int more = 0;
    strcpy(words, choice);
    for (char *word = strtok_r(words, " ", &next); word;
         word = strtok_r(NULL, " ", &next)) {
        size_t n = strlen(word);
        const char *at = strstr(other, word);
        while (at && at[n] && at[n] != ' ')
            at = strstr(at + 1, word);
        more += !at;
    }
    return more;
}

/* Tile, order, shape of a cluster, ...: 17 plans and more one step from the first. */
Test(dnn_plan, neighbours_differ_in_one_knob)
{
    dnn_target_close(&target);
    target = target_named("h200_sm90");
    for (int kind = DNN_FWD; kind <= DNN_BWD_WEIGHTS; kind++) {
        struct dnn_problem p = problem_of(CUDA_F16, (enum dnn_kind)kind);
        struct ff_err err = FF_ERR_INIT;
        struct dnn_candidates list = list_of(&p, false);
        int listed = list.count, plans = 0;
        char first[DNN_CHOICE_TEXT];
        strcpy(first, list.items[0].choice);
        cr_assert(eq(int, dnn_neighbours(&list, &target, &p, first, &err), 0), "%s",
                  err.text);
        for (int i = listed; i < list.count; i++) {
            const char *choice = list.items[i].choice;
            cr_assert(eq(int, words_more(choice, first), 1), "%s, %s", first, choice);
            cr_assert(le(int, words_more(first, choice), 1)); /* 0: a knob was added */
            cr_assert(eq(sz, strcspn(choice, " "), strcspn(first, " ")));
            for (int k = 0; k < i; k++)
                cr_assert(ne(str, list.items[k].choice, list.items[i].choice));
            plans += !try_choice(&p, list.items[i].choice, &err);
        }
        cr_assert(lt(int, 8, plans), "%d of %d", plans, list.count - listed);
        int all = list.count;
        cr_assert(eq(int, dnn_neighbours(&list, &target, &p, first, &err), 0));
        cr_assert(eq(int, list.count, all));
        cr_assert(
            eq(int, dnn_neighbours(&list, &target, &p, "tile 5", &err), FF_EDATA));
        cr_assert(eq(int, dnn_neighbours(&list, &target, &p, "eng9999", &err) != 0, 1));
        cr_assert(eq(int, list.count, all));
        dnn_candidates_free(&list);
    }
}

Test(dnn_plan, every_candidate_comes_back_from_its_text)
{
    for (int type = CUDA_F32; type <= CUDA_BF16; type++)
        for (int kind = DNN_FWD; kind <= DNN_BWD_WEIGHTS; kind++) {
            struct dnn_problem p =
                problem_of((enum cuda_type)type, (enum dnn_kind)kind);
            struct dnn_candidates list = list_of(&p, true);
            int plans = 0;
            for (int i = 0; i < list.count; i++) {
                struct dnn_plan *plan;
                struct ff_err err = FF_ERR_INIT;
                int rc =
                    dnn_plan_create(&plan, &target, &p, list.items[i].choice, &err);
                if (rc) {
                    cr_assert(eq(int, rc, FF_EDATA), "%s", err.text);
                    continue;
                }
                plans++;
                cr_assert(eq(str, (char *)dnn_plan_choice(plan), list.items[i].choice));
                cr_assert(eq(int, dnn_plan_is_runtime_compiled(plan),
                             list.items[i].runtime_compiled));
                cr_assert(ge(i64, dnn_plan_workspace_bytes(plan), 0));
                dnn_plan_destroy(plan);
            }
            bool stats = kind == DNN_FWD_STATS && type != CUDA_F16;
            cr_assert(stats || plans > 2, "%d %d: %d plans", type, kind, plans);
            dnn_candidates_free(&list);
        }
}

Test(dnn_plan, heuristics_come_first_and_each_candidate_once)
{
    struct dnn_problem p = problem_of(CUDA_F16, DNN_BWD_WEIGHTS);
    struct dnn_candidates few = list_of(&p, false), all = list_of(&p, true);
    struct dnn_plan *plan;
    cr_assert(lt(int, few.count, all.count));
    for (int i = 0; i < all.count; i++) {
        if (i < few.count)
            cr_assert(eq(str, all.items[i].choice, few.items[i].choice));
        for (int k = 0; k < i; k++)
            cr_assert(ne(str, all.items[i].choice, all.items[k].choice));
    }
    cr_assert(eq(int, dnn_plan_create(&plan, &target, &p, NULL, NULL), 0));
    cr_assert(eq(str, (char *)dnn_plan_choice(plan), few.items[0].choice));
    dnn_plan_destroy(plan);
    dnn_candidates_free(&few);
    dnn_candidates_free(&all);
}

/* What `wider` admits and `narrower` does not is refused as a choice, too. */
static void check_filter(const struct dnn_problem *wider,
                         const struct dnn_problem *narrower)
{
    struct dnn_candidates more = list_of(wider, true), less = list_of(narrower, true);
    int refused = 0;
    cr_assert(lt(int, 0, less.count));
    for (int i = 0; i < less.count; i++)
        cr_assert(holds(&more, less.items[i].choice));
    for (int i = 0; i < more.count; i++) {
        struct ff_err err = FF_ERR_INIT;
        if (holds(&less, more.items[i].choice))
            continue;
        refused++;
        cr_assert(eq(int, try_choice(narrower, more.items[i].choice, &err), FF_EDATA));
        cr_assert(strstr(err.text, "numerical notes") != NULL, "%s", err.text);
    }
    cr_assert(lt(int, 0, refused));
    cr_assert(eq(int, less.refused > more.refused, 1));
    dnn_candidates_free(&more);
    dnn_candidates_free(&less);
}

Test(dnn_plan, deterministic_leaves_engines_out)
{
    struct dnn_problem wider = problem_of(CUDA_F32, DNN_BWD_WEIGHTS), narrower = wider;
    narrower.deterministic = true;
    check_filter(&wider, &narrower);
}

Test(dnn_plan, without_tf32_no_tensor_cores)
{
    struct dnn_problem wider = problem_of(CUDA_F32, DNN_FWD), narrower = wider;
    wider.tf32 = true;
    check_filter(&wider, &narrower);
}

Test(dnn_plan, tf32_is_nothing_to_fp16)
{
    struct dnn_problem p = problem_of(CUDA_F16, DNN_FWD);
    struct dnn_candidates without = list_of(&p, false);
    p.tf32 = true;
    struct dnn_candidates with = list_of(&p, false);
    cr_assert(eq(int, with.count, without.count));
    dnn_candidates_free(&with);
    dnn_candidates_free(&without);
}

Test(dnn_plan, damaged_choices_are_refused)
{
    static const char *const bad[] = {"",
                                      "eng",
                                      "eng-1",
                                      "eng1 ",
                                      "eng1 k2",
                                      "eng1 k=",
                                      "eng01",
                                      "eng1  k2=0",
                                      "eng1 k3=0 k2=0",
                                      "eng1 k2=0 k2=0",
                                      "Eng1",
                                      "eng1 k2=0x",
                                      "eng1 k2=0\n",
                                      "eng999",
                                      "eng28 k2=999",
                                      "eng1x",
                                      "eng1 k43=0",
                                      "eng1 k2=99999999999999999999999",
                                      "eng1 k4294967298=0"};
    struct dnn_problem p = problem_of(CUDA_F16, DNN_FWD);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ff_err err = FF_ERR_INIT;
        int rc = try_choice(&p, bad[i], &err);
        cr_assert(eq(int, rc, FF_EDATA), "\"%s\": %d %s", bad[i], rc, err.text);
        cr_assert(strstr(err.text, "N128 fp16 forward: ") && !strchr(err.text, '\n'),
                  "%s", err.text);
    }
}

Test(dnn_plan, missing_statistics_are_told_by_their_code)
{
    struct dnn_problem p = problem_of(CUDA_F32, DNN_FWD_STATS);
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, try_choice(&p, NULL, &err), FF_EUSAGE));
    cr_assert(strstr(err.text, "fp32 forward with statistics: cuDNN ") &&
                  strstr(err.text, "has no engine"),
              "%s", err.text);
}

Test(dnn_plan, without_a_choice_the_workspace_stays_in_its_limit)
{
    struct dnn_problem p = problem_of(CUDA_F32, DNN_FWD);
    struct dnn_plan *plan;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, dnn_plan_create(&plan, &target, &p, NULL, &err), 0));
    int64_t bytes = dnn_plan_workspace_bytes(plan);
    cr_assert(lt(i64, 1 << 20, bytes));
    dnn_plan_destroy(plan);
    target.workspace_limit_bytes = 1 << 20;
    cr_assert(eq(int, dnn_plan_create(&plan, &target, &p, NULL, &err), 0));
    cr_assert(le(i64, dnn_plan_workspace_bytes(plan), 1 << 20));
    dnn_plan_destroy(plan);
}

Test(dnn_plan, impossible_problems_are_errors)
{
    struct dnn_problem p = problem_of(CUDA_F16, DNN_FWD);
    struct ff_err err = FF_ERR_INIT;
    p.shape.N = 0;
    cr_assert(eq(int, try_choice(&p, NULL, &err), FF_EFAIL), "%s", err.text);
    cr_assert(strstr(err.text, "CUDNN_STATUS_BAD_PARAM") != NULL, "%s", err.text);
}

Test(dnn_plan, damaged_device_properties_are_an_error)
{
    struct dnn_target broken;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(
        eq(int, dnn_target_open_json(&broken, "{\"deviceVer\": ", &err), FF_EFAIL));
    cr_assert(strstr(err.text, "device properties") != NULL, "%s", err.text);
    cr_assert(eq(ptr, broken.properties, NULL));
    dnn_target_close(&broken);
}
