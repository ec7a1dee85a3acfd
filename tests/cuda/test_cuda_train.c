/* SPDX-License-Identifier: MIT */
/* Whole runs on the cuda backend: the same losses as on the CPU, the same bytes twice
 * and after a resume, the loss scale in curve and checkpoint, a checkpoint that changes
 * the device, memory that is not there, embeddings that do not know their batch. */
#ifdef FF_CUDA_EMULATED
#include <cuda_runtime_api.h>
#endif

#include "cuda_train_fixture.h"
#include "embedder.h"
#include "net_fixture.h"

TestSuite(cuda_train, .init = setup, .fini = teardown, .timeout = 250);

static void near(const struct curve *got, const struct curve *want, double limit)
{
    cr_assert(eq(int, got->lines, T));
    for (int t = 0; t < T; t++) {
        cr_assert(fabs(got->loss[t] - want->loss[t]) <= limit * fabs(want->loss[t]),
                  "iteration %d: loss %.9g, wanted %.9g", t, got->loss[t],
                  want->loss[t]);
        cr_assert(fabs(got->norm[t] - want->norm[t]) <= 10 * limit * want->norm[t],
                  "iteration %d: norm %.9g, wanted %.9g", t, got->norm[t],
                  want->norm[t]);
    }
}

Test(cuda_train, ten_steps_of_r18_follow_the_cpu)
{
    set("precision=fp32");
    train_ok("gpu");
    set("backend=onednn");
    train_ok("cpu");
    struct curve gpu = read_curve("gpu"), cpu = read_curve("cpu");
    near(&gpu, &cpu, 1e-4);
}

Test(cuda_train, ten_steps_of_r50_follow_the_cpu)
{
    set("precision=fp32");
    set("backbone=r50");
    set("gamma0=0.001");
    train_ok("gpu");
    set("backend=onednn");
    train_ok("cpu");
    struct curve gpu = read_curve("gpu"), cpu = read_curve("cpu");
    near(&gpu, &cpu, 1e-4);
}

Test(cuda_train, mbf_follows_the_cpu)
{
    set("precision=fp32");
    set("backbone=mbf");
    set("image_size=32");
    set("width=0.1");
    set("gamma0=0.0005"); /* its gradients are large: rounding would grow */
    train_ok("gpu");
    set("backend=onednn");
    train_ok("cpu");
    struct curve gpu = read_curve("gpu"), cpu = read_curve("cpu");
    near(&gpu, &cpu, 1e-3);
}

Test(cuda_train, halves_stay_near_f32)
{
    static const char *const halves[] = {"precision=fp16", "precision=bf16"};
    set("precision=fp32");
    set("scale=0.1"); /* gradients that 65536 does not take out of a half's range */
    train_ok("f32");
    struct curve f32 = read_curve("f32");
    for (int i = 0; i < 2; i++) {
        set(halves[i]);
        train_ok(halves[i] + strlen("precision="));
        struct curve half = read_curve(halves[i] + strlen("precision="));
        cr_assert(eq(int, half.lines, T));
        for (int t = 0; t < T; t++) {
            cr_assert(eq(dbl, half.scale[t], i ? 1 : 65536));
            cr_assert(fabs(half.loss[t] - f32.loss[t]) <= 0.05 * f32.loss[t],
                      "%s iteration %d: loss %.6g, f32 %.6g", halves[i], t,
                      half.loss[t], f32.loss[t]);
        }
    }
}

Test(cuda_train, equal_runs_give_equal_bytes)
{
    train_ok("a");
    params.workers = 3;
    train_ok("b");
    same_file("a", "b", "model.h5");
    same_file("a", "b", "curve.csv");
}

Test(cuda_train, stopped_and_resumed_equals_undisturbed)
{
    struct ff_err err = FF_ERR_INIT;
    set("head_precision=fp16");
    train_ok("whole");
    for (int done = STOP; done < T; done += STOP)
        cr_assert(eq(int, train("parts", STOP, &err), FF_ESTOPPED), "%s", err.text);
    train_ok("parts");
    same_file("whole", "parts", "model.h5");
    same_file("whole", "parts", "curve.csv");
}

#ifdef FF_CUDA_EMULATED
extern double emulated_dnn_ms[4]; /* by enum dnn_kind */
extern double emulated_other_ms;  /* of what is not cuDNN's */

static char *choices_of(struct side *s)
{
    char *text;
    cr_assert(eq(int, s->ops->choices(s->ctx, &text, NULL), 0));
    return text;
}

static int made_C = 8, made_K = 16;

/* Opens a backend with the choices, if any, and makes a convolution with sums. */
static char *choices_made(const char *choices, bool search)
{
    const struct ff_ops_options options = {.backend = FF_BACKEND_CUDA,
                                           .threads = 1,
                                           .precision = FF_PRECISION_FP16,
                                           .engine_search = search};
    struct side s = cuda_open_with(&options);
    const struct ff_conv_shape shape = {.N = 2,
                                        .C = made_C,
                                        .H = 4,
                                        .W = 4,
                                        .K = made_K,
                                        .R = 3,
                                        .S = 3,
                                        .stride = 1,
                                        .pad = 1,
                                        .groups = 1};
    struct ff_conv *conv;
    if (choices)
        cr_assert(eq(int, s.ops->set_choices(s.ctx, choices, NULL), 0));
    cr_assert(eq(int, s.ops->conv_create(s.ctx, &conv, &shape, true, NULL), 0));
    cr_assert(eq(int, s.ops->sync(s.ctx, NULL), 0));
    char *text = choices_of(&s);
    s.ops->conv_destroy(s.ctx, conv);
    side_close(&s);
    return text;
}

/* Channel sums from the epilogue or from a pass of their own: by the clock where there
 * is nothing to go by, then by the cache and, before it, by the checkpoint. */
Test(cuda_train, the_faster_way_to_the_sums_is_taken_and_kept)
{
    static const char own[] = "forward sums: own\n", fused[] = "forward sums: eng",
                      plain[] = "fp16 forward: eng";
    char *text[5];
    text[0] = choices_made(NULL, false); /* 2 ms against 1 */
    emulated_dnn_ms[0] = 0.5;
    text[1] = choices_made(NULL, false); /* cached */
    setenv("XDG_CACHE_HOME", at(&scratch, "cache2"), 1);
    text[2] = choices_made(NULL, false);
    emulated_dnn_ms[0] = 2;
    text[3] = choices_made(NULL, false); /* cached */
    setenv("XDG_CACHE_HOME", at(&scratch, "cache3"), 1);
    text[4] = choices_made(text[2], false);
    for (int i = 0; i < 5; i++) {
        bool is_own = i >= 2;
        cr_assert(eq(int, strstr(text[i], own) != NULL, is_own), "%d: %s", i, text[i]);
        cr_assert(eq(int, strstr(text[i], fused) != NULL, !is_own));
        cr_assert(eq(int, strstr(text[i], plain) != NULL, is_own));
        free(text[i]);
    }
}

/* They take part in a search; what it chose is every run's, and a name that this build
 * does not know is chosen anew. */
Test(cuda_train, our_own_convolutions_are_found_by_a_search_and_kept)
{
    static const char *const lines[] = {"fp16 forward: conv90 192x256\n",
                                        "backward data: conv90 192x128\n",
                                        "backward weights: conv90 3x128x128\n"};
    char *text[5];
    made_C = 128;
    made_K = 256;
    text[0] = choices_made(NULL, true); /* 3 ms against 1 */
    setenv("XDG_CACHE_HOME", at(&scratch, "cache2"), 1);
    emulated_other_ms = 0.5;
    text[1] = choices_made(NULL, false);
    text[2] = choices_made(NULL, true);
    text[3] = choices_made(NULL, false); /* cached */
    char *old = strdup(text[3]);
    memcpy(strstr(old, "3x128x128"), "9x128x128", 9);
    text[4] = choices_made(old, false);
    for (int i = 0; i < 5; i++) {
        for (int k = 0; k < 3; k++)
            cr_assert(eq(int, strstr(text[i], lines[k]) != NULL,
                         i == 2 || i == 3 || (i == 4 && k < 2)),
                      "%d, %s: %s", i, lines[k], text[i]);
        cr_assert(eq(ptr, strstr(text[i], "9x128x128"), NULL));
        free(text[i]);
    }
    free(old);
    made_C = 8;
    made_K = 16;
    emulated_other_ms = 3;
}

/* A search does not take what was chosen without one; what it finds is every run's. */
Test(cuda_train, what_a_search_found_is_kept_for_all)
{
    static const char weights[] = "fp16 backward weights: eng7 ";
    char *text[5];
    text[0] = choices_made(NULL, false);
    text[1] = choices_made(NULL, true);
    text[2] = choices_made(NULL, false);
    text[3] = choices_made(text[0], true); /* as the checkpoint says */
    text[4] = choices_made(NULL, true);
    for (int i = 0; i < 5; i++) {
        const char *line = strstr(text[i], weights);
        cr_assert(line != NULL, "%s", text[i]);
        bool plain = !strncmp(line + strlen(weights), "k2=1\n", 5);
        cr_assert(eq(int, plain, i == 0 || i == 3), "%d: %s", i, text[i]);
        cr_assert(eq(ptr, strstr(text[i], "searched"), NULL));
        free(text[i]);
    }
}

/* The bits depend on the way to the sums: a resumed run stays with its own. */
Test(cuda_train, a_resumed_run_keeps_its_way_to_the_sums)
{
    struct ff_err err = FF_ERR_INIT;
    train_ok("fused");
    setenv("XDG_CACHE_HOME", at(&scratch, "cache2"), 1);
    emulated_dnn_ms[0] = 0.5;
    train_ok("whole");
    cr_assert(eq(int, train("parts", STOP, &err), FF_ESTOPPED), "%s", err.text);
    setenv("XDG_CACHE_HOME", at(&scratch, "cache3"), 1);
    emulated_dnn_ms[0] = 2;
    train_ok("parts");
    same_file("whole", "parts", "model.h5");
    same_file("whole", "parts", "engines.txt");
    struct curve other = read_curve("fused"), own = read_curve("whole");
    cr_assert(memcmp(other.loss, own.loss, sizeof own.loss) != 0);
}
#endif

/* A loss scale that overflows at once: skipped steps change nothing but BN and the
 * scale, and the schedule goes on. */
Test(cuda_train, a_loss_scale_that_is_too_large_comes_down)
{
    set("scale=1000.0"); /* gradients of 1000 / 8 a cosine, times 65536 */
    train_ok("run");
    struct curve c = read_curve("run");
    cr_assert(eq(int, c.lines, T));
    cr_assert(lt(int, 0, c.skipped));
    for (int t = 1; t < T; t++)
        cr_assert(le(dbl, c.scale[t], c.scale[t - 1]));
    cr_assert(lt(dbl, c.scale[T - 1], 65536));
}

Test(cuda_train, a_run_begun_on_the_cpu_goes_on_here)
{
    struct ff_err err = FF_ERR_INIT;
    set("precision=fp32");
    set("backend=onednn");
    train_ok("whole");
    cr_assert(eq(int, train("moved", T / 2, &err), FF_ESTOPPED), "%s", err.text);
    set("backend=cuda");
    train_ok("moved");
    struct curve moved = read_curve("moved"), whole = read_curve("whole");
    near(&moved, &whole, 1e-4);
    char text[4096] = "";
    FILE *f = fopen(at(&scratch, "moved/summary.yaml"), "r");
    cr_assert(lt(sz, 0, fread(text, 1, sizeof text - 1, f)));
    fclose(f);
    cr_assert(ne(ptr, strstr(text, "bit_equal: false"), NULL));
}

Test(cuda_train, too_little_memory_is_told_before_the_start)
{
    struct ff_err err = FF_ERR_INIT;
    set("backbone=r200");
    set("width=4.0"); /* 40 images: 290 GB */
    set("image_size=448");
    cr_assert(eq(int, make_set(at(&scratch, "large"), IDENTITIES, EACH, 448, 0), 0));
    snprintf(params.data, sizeof params.data, "%s/large", scratch.dir);
    set(IDENTITIES * EACH >= 40 ? "batch=40" : "batch=20");
    params.embedding = 2048;
    int rc = train("run", 0, &err);
    cr_assert(eq(int, rc, FF_ENOMEM), "%s", err.text);
    cr_assert(ne(ptr, strstr(err.text, "bytes wanted"), NULL), "%s", err.text);
    cr_assert(eq(int, ff_err_exit_code(rc), FF_EXIT_NOMEM));
}

#ifdef FF_CUDA_EMULATED
extern size_t emulated_memory_bytes, emulated_others_bytes, emulated_taken_bytes;

extern cudaError_t emulated_count_status, emulated_set_status;
extern int emulated_driver;

static void expect_open(int code, const char *text)
{
    const struct ff_ops_options options = {.backend = FF_BACKEND_AUTO, .threads = 1};
    struct ff_err err = FF_ERR_INIT;
    struct side s = {0};
    const char *reason = NULL;
    int rc = ff_ops_open(&s.ops, &s.ctx, &reason, &options, &err);
    cr_assert(eq(int, rc, code), "%s", err.text);
    const char *said = code ? err.text : reason;
    cr_assert(ne(ptr, strstr(said, text), NULL), "%s", said);
    if (!rc) {
        cr_assert(eq(str, (char *)s.ops->name, "onednn"));
        side_close(&s);
    }
}

/* auto goes on with the CPU where there is no GPU, and where there is one that does not
 * work it says so. */
Test(cuda_train, a_gpu_that_does_not_work_is_not_passed_over)
{
    emulated_count_status = cudaErrorNoDevice;
    expect_open(0, "auto: no GPU: ");
    emulated_count_status = cudaErrorInsufficientDriver;
    emulated_driver = 0;
    expect_open(0, "auto: no GPU: no driver");
    emulated_driver = 12080;
    expect_open(FF_EFAIL, "the driver is for CUDA 12.8, this program for ");
    emulated_count_status = cudaErrorSystemNotReady;
    expect_open(FF_EFAIL, "the GPU cannot be used: ");
    emulated_count_status = cudaSuccess;
    emulated_driver = CUDART_VERSION;
    emulated_set_status = cudaErrorDevicesUnavailable;
    expect_open(FF_EBUSY, FF_SAYS_GPU_BUSY);
    emulated_set_status = cudaErrorMemoryAllocation;
    expect_open(FF_ENOMEM, FF_SAYS_GPU_FULL);
    emulated_set_status = cudaErrorECCUncorrectable;
    expect_open(FF_EFAIL, "(hint: backend: onednn)");
    emulated_set_status = cudaSuccess;
}

/* The run would fit if the others were not there. */
Test(cuda_train, a_card_filled_by_others_is_said_to_be)
{
    struct ff_err err = FF_ERR_INIT;
    emulated_others_bytes = emulated_memory_bytes - 1000000;
    cr_assert(eq(int, train("run", 0, &err), FF_ENOMEM), "%s", err.text);
    cr_assert(eq(ptr, strstr(err.text, FF_SAYS_GPU_FULL), err.text), "%s", err.text);
    emulated_others_bytes = 0;
    train_ok("run");
}

/* What is asked for before the start is what is taken, but for the rounding of each
 * tensor and what does not depend on the network. */
Test(cuda_train, the_memory_of_a_run_is_known_before_it)
{
    static const struct {
        int backbone, precision;
        bool training, beside;
    } cases[] = {{FF_BACKBONE_R18, FF_PRECISION_FP16, true, false},
                 {FF_BACKBONE_R18, FF_PRECISION_BF16, true, true},
                 {FF_BACKBONE_R50, FF_PRECISION_FP32, true, false},
                 {FF_BACKBONE_MBF, FF_PRECISION_FP16, true, false},
                 {FF_BACKBONE_R18, FF_PRECISION_FP16, false, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct ff_ops_options options = {.backend = FF_BACKEND_CUDA,
                                               .threads = 1,
                                               .precision = cases[i].precision,
                                               .weights_beside = cases[i].beside};
        const struct ff_model_config config = {cases[i].backbone, 0.5, 32, 64};
        const struct ff_head_shape shape = {8, 64, 3000, FF_HEAD_ARCFACE, 0, 64, 0.5f};
        struct side s = cuda_open_with(&options);
        struct ff_model *model;
        struct ff_head_plan *head;
        size_t before = emulated_taken_bytes;
        int64_t bytes;
        int rc = ff_model_bytes(&bytes, s.ops, &config, 8, cases[i].training, NULL);
        if (!rc)
            rc = ff_model_create(&model, s.ops, s.ctx, &config, 8, cases[i].training,
                                 NULL);
        cr_assert(eq(int, rc, 0));
        double taken = (double)(emulated_taken_bytes - before);
        cr_assert(le(dbl, (double)bytes, taken), "case %zu", i);
        cr_assert(lt(dbl, taken, 1.01 * (double)bytes), "case %zu: %.0f of %.0f", i,
                  taken, (double)bytes);
        before = emulated_taken_bytes;
        cr_assert(eq(int, s.ops->head_create(s.ctx, &head, &shape, NULL), 0));
        taken = (double)(emulated_taken_bytes - before);
        bytes = s.ops->head_bytes(s.ctx, &shape);
        cr_assert(le(dbl, (double)bytes, taken), "case %zu", i);
        cr_assert(lt(dbl, taken, 1.01 * (double)bytes), "case %zu: %.0f of %.0f", i,
                  taken, (double)bytes);
        s.ops->head_destroy(s.ctx, head);
        ff_model_destroy(model);
        side_close(&s);
    }
}
#endif

/* Whole runs by the memory plan: fp16 with an fp16 head, batch 128, r100. */
Test(cuda_train, two_million_classes_fit_24_gb_and_eight_million_80_gb)
{
    struct side s = cuda_open_side(FF_PRECISION_FP16, FF_HEAD_PRECISION_FP16);
    const struct ff_model_config config = {FF_BACKBONE_R100, 1.0, 112, 512};
    static const double limits[][2] = {{93431, 16}, {2e6, 24}, {8e6, 80}};
    int64_t network;
    cr_assert(eq(int, ff_model_bytes(&network, s.ops, &config, 128, true, NULL), 0));
    for (int i = 0; i < 3; i++) {
        const struct ff_head_shape shape = {.N = 128,
                                            .D = 512,
                                            .CLS = (int64_t)limits[i][0],
                                            .kind = FF_HEAD_ARCFACE,
                                            .scale = 64,
                                            .margin = 0.5f};
        int64_t bytes = network + s.ops->head_bytes(s.ctx, &shape) +
                        8 * shape.CLS * shape.D + ((int64_t)512 << 20);
        cr_assert(lt(dbl, (double)bytes, 1e9 * limits[i][1]),
                  "%.0f classes: %.2f GB, network %.2f GB", limits[i][0],
                  1e-9 * (double)bytes, 1e-9 * (double)network);
    }
    side_close(&s);
}

Test(cuda_train, an_embedding_does_not_know_its_batch)
{
    enum { COUNT = 6, D = 16, BYTES = SIDE * SIDE * 3 };
    struct ff_err err = FF_ERR_INIT;
    static uint8_t pixels[COUNT * BYTES];
    float want[COUNT * D] = {0}, got[COUNT * D];
    train_ok("run");
    for (int i = 0; i < COUNT * BYTES; i++)
        pixels[i] = (uint8_t)ff_rng_u64(1, 2, (uint64_t)i);
    static const int batches[] = {COUNT, 1, 4};
    for (int b = 0; b < 3; b++) {
        struct ff_embedder *e;
        int rc = ff_embedder_create(
            &e, at(&scratch, "run/model.h5"), batches[b],
            &(struct ff_ops_options){.backend = FF_BACKEND_CUDA, .threads = 1}, &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        for (int i = 0; i < COUNT; i += batches[b]) {
            int count = COUNT - i < batches[b] ? COUNT - i : batches[b];
            rc = ff_embedder_run(got + i * D, e, pixels + i * BYTES, NULL, count, &err);
            cr_assert(eq(int, rc, 0), "%s", err.text);
        }
        ff_embedder_destroy(e);
        for (int i = 0; i < COUNT * D; i++) {
            if (b == 0)
                want[i] = got[i];
            cr_assert(epsilon_eq(flt, got[i], want[i], 1e-5f));
        }
    }
}

/* Engines are timed for the passes that a network takes, and for no others. */
Test(cuda_train, nothing_is_chosen_for_the_gradient_of_the_pixels)
{
    struct net net;
    const struct ff_model_config config = {FF_BACKBONE_R18, 0.25, SIDE, 16};
    char *text = NULL, *next;
    int stem = 0, data = 0;
    net_open(&net, FF_BACKEND_CUDA, 1, &config, 2, true);
    cr_assert(eq(int, net.ops->choices(net.ctx, &text, NULL), 0));
    for (char *line = strtok_r(text, "\n", &next); line;
         line = strtok_r(NULL, "\n", &next)) {
        bool by_data = strstr(line, "backward data") != NULL;
        data += by_data;
        if (strncmp(line, "conv 8->16 ", 11) != 0) /* the stem alone reads 8 */
            continue;
        stem++;
        cr_assert(not(by_data), "%s", line);
    }
    cr_assert(ge(int, stem, 2));
    cr_assert(lt(int, 5, data));
    cr_assert(eq(int, net.ops->sync(net.ctx, NULL), 0));
    free(text);
    net_close(&net);
}

#ifdef FF_CUDA_EMULATED
extern int64_t emulator_queued;

/* Of one training pass, all that is queued. */
static int kernels_of(int backbone)
{
    enum { N = 2, D = 16, BYTES = SIDE * SIDE * 3 };
    static uint8_t pixels[N * BYTES], flip[N];
    const struct ff_model_config config = {backbone, 0.05, SIDE, D};
    struct net net;
    net_open(&net, FF_BACKEND_CUDA, 1, &config, N, true);
    net_fill(&net);
    int64_t before = emulator_queued;
    ff_model_backward(net.model, ff_model_forward(net.model, pixels, flip));
    int queued = (int)(emulator_queued - before);
    cr_assert(eq(int, net.ops->sync(net.ctx, NULL), 0));
    net_close(&net);
    return queued;
}

/* What NOTES.md counts, and around it: input with two copies 3, weights' cast 1, linear
 * layer 5, its BN 4. r50 has 16 blocks more, none of them with a stride. */
Test(cuda_train, a_block_takes_fourteen_kernels)
{
    int r18 = kernels_of(FF_BACKBONE_R18);
    cr_assert(eq(int, r18, 139 + 13));
    cr_assert(eq(int, kernels_of(FF_BACKBONE_R50) - r18, 16 * 14));
}
#endif

/* Weights and running statistics of one network in another of the same backend. */
static void copy_values(struct ff_model *to, const struct ff_model *from)
{
    for (int i = 0; i < from->named_count; i++) {
        const struct ff_named *n = &from->named[i];
        float *values;
        cr_assert(eq(int,
                     ff_model_get(&values, from, n,
                                  n->trained ? &from->weight : &from->buffer, NULL),
                     0));
        ff_model_set(to, n, n->trained ? &to->weight : &to->buffer, values, NULL);
        free(values);
    }
    ff_model_pack(to);
}

/* Validation: the training network in eval mode, between steps, on its own plans. */
Test(cuda_train, a_borrowed_network_embeds_as_an_eval_one_and_is_left_alone)
{
    enum { N = 4, D = 16, BYTES = SIDE * SIDE * 3 };
    struct net net, eval;
    const struct ff_model_config config = {FF_BACKBONE_R18, 0.05, SIDE, D};
    const struct ff_head_shape shape = {N, D, 5, FF_HEAD_COSFACE, 0, 16, 0.2f};
    static uint8_t pixels[N * BYTES], flip[N];
    int64_t label[N];
    float got[N * D], want[N * D];
    struct ff_embedder *e;
    net_open(&net, FF_BACKEND_CUDA, 1, &config, N, true);
    net_open(&eval, FF_BACKEND_CUDA, 1, &config, N, false);
    net_open_head(&net, &shape);
    net_fill(&net);
    for (int step = 0; step < 3; step++) {
        net_batch(pixels, flip, label, step, N, SIDE, 5);
        net_gradients(&net, pixels, flip, label);
        net_update(&net, 0.01);
    }
    cr_assert(eq(int, ff_embedder_borrow(&e, net.model, NULL), 0));
    cr_assert(eq(int, ff_embedder_run(got, e, pixels, flip, N, NULL), 0));
    ff_embedder_destroy(e);
    copy_values(eval.model, net.model);
    eval.ops->download(eval.ctx, want, ff_model_forward(eval.model, pixels, flip));
    double diff = 0, norm = 0;
    for (int i = 0; i < N * D; i++) {
        diff += (double)(got[i] - want[i]) * (double)(got[i] - want[i]);
        norm += (double)want[i] * (double)want[i];
    }
    cr_assert(lt(dbl, 0, norm));
    cr_assert(lt(dbl, sqrt(diff / norm), 5e-3)); /* halves, other engines */
    net_close(&eval);
    net_close(&net);
}
