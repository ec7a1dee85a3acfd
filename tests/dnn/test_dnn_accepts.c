/* SPDX-License-Identifier: MIT */
/* cuDNN has a plan for every convolution of every network, on GPUs that are not here:
 * their properties stand in tests/fixtures/deviceprop. This says nothing of results or
 * speed. Where statistics come with the convolution is told in the log (--verbose) and
 * asserted for IResNets in fp16 alone.
 *
 * Every distinct shape at batch 128 and 64 in fp16, bf16 and fp32, deterministic and
 * without TF32. */
#include "dnn_fixture.h"

struct count {
    int plans, workspaces, none;
    int64_t largest_workspace_bytes;
};

/* A plan by the heuristics' first choice; needed: its absence fails the test. */
static void check(struct count *count, const struct dnn_target *target,
                  const struct dnn_problem *problem, bool needed)
{
    char text[DNN_PROBLEM_TEXT];
    struct dnn_plan *plan, *again;
    struct ff_err err = FF_ERR_INIT;
    int rc = dnn_plan_create(&plan, target, problem, NULL, &err);
    if (rc == FF_EUSAGE && !needed) {
        count->none++;
        return;
    }
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(int, dnn_plan_is_runtime_compiled(plan), 0), "%s",
              dnn_problem_text(text, problem));
    int64_t bytes = dnn_plan_workspace_bytes(plan);
    count->plans++;
    count->workspaces += bytes > 0;
    if (bytes > count->largest_workspace_bytes)
        count->largest_workspace_bytes = bytes;
    /* The choice alone gives the same plan. */
    rc = dnn_plan_create(&again, target, problem, dnn_plan_choice(plan), &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(str, (char *)dnn_plan_choice(again), (char *)dnn_plan_choice(plan)));
    cr_assert(eq(i64, dnn_plan_workspace_bytes(again), bytes));
    dnn_plan_destroy(again);
    dnn_plan_destroy(plan);
}

static void walk(const char *device, const struct shapes *shapes, bool stats_needed)
{
    static const enum cuda_type types[] = {CUDA_F16, CUDA_F32, CUDA_BF16};
    static const char *const kinds[] = {"forward", "with statistics", "backward data",
                                        "backward weights"};
    bool has_bf16 = strcmp(device, "t4_sm75") != 0;
    struct dnn_target target = target_named(device);
    for (int t = 0; t < 3; t++)
        for (int kind = DNN_FWD; kind <= DNN_BWD_WEIGHTS; kind++) {
            struct count count = {0};
            for (int batch = 128; batch >= 64; batch /= 2)
                for (int i = 0; i < shapes->count; i++) {
                    struct dnn_problem problem = {.shape = shapes->items[i],
                                                  .type = types[t],
                                                  .kind = (enum dnn_kind)kind,
                                                  .deterministic = true};
                    bool needed = kind == DNN_FWD_STATS
                                      ? stats_needed && types[t] == CUDA_F16
                                      : has_bf16 || types[t] != CUDA_BF16;
                    problem.shape.N = batch;
                    if (kind == DNN_BWD_DATA && reads_pixels(&problem.shape))
                        continue;
                    check(&count, &target, &problem, needed);
                }
            cr_log_info("%-12s %s %-16s: %2d plans, %2d with workspace (up to %lld "
                        "KiB), %2d problems without engine\n",
                        device, cuda_type_name(types[t]), kinds[kind], count.plans,
                        count.workspaces,
                        (long long)count.largest_workspace_bytes / 1024, count.none);
        }
    dnn_target_close(&target);
}

static void walk_iresnet(const char *device, bool stats_needed)
{
    const struct shapes shapes = iresnet_shapes();
    cr_assert(eq(int, shapes.count, 17));
    walk(device, &shapes, stats_needed);
}

TestSuite(dnn_accepts, .timeout = 250);

Test(dnn_accepts, iresnet_on_sm_75)
{
    walk_iresnet("t4_sm75", false);
}
Test(dnn_accepts, iresnet_on_sm_80)
{
    walk_iresnet("a100_sm80", true);
}
Test(dnn_accepts, iresnet_on_sm_86)
{
    walk_iresnet("rtx3090_sm86", true);
}
Test(dnn_accepts, iresnet_on_sm_89)
{
    walk_iresnet("rtx4090_sm89", true);
}
Test(dnn_accepts, iresnet_on_sm_90)
{
    walk_iresnet("h200_sm90", true);
}

static void walk_mbf(const char *device)
{
    const struct shapes shapes = mbf_shapes();
    walk(device, &shapes, false);
}

Test(dnn_accepts, mbf_on_sm_80)
{
    walk_mbf("a100_sm80");
}
Test(dnn_accepts, mbf_on_sm_86)
{
    walk_mbf("rtx3090_sm86");
}
Test(dnn_accepts, mbf_on_sm_90)
{
    walk_mbf("h200_sm90");
}
