/* SPDX-License-Identifier: MIT */
/* Grid files: what is read, what is refused and with which message. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "grid.h"

static const char sheet[] = "# a header\n"
                            "# of two lines\n"
                            "name: sheet\n"
                            "train:\n"
                            "  data: /data/faces\n"
                            "  backbone: r18\n"
                            "sweep:\n"
                            "  lambda: [1.0e-5, 5.0e-5]\n"
                            "  tau: {linear: [0.01, 0.05], n: 3}\n"
                            "exclude:\n"
                            "  - {lambda: 5.0e-5, tau: 0.03}\n"
                            "seeds: [3407, 1]\n"
                            "eval:\n"
                            "  - {protocol: ijbc, root: /ijb}\n"
                            "metric: tar@1e-2\n";

static struct ff_grid *must_parse(const char *text)
{
    struct ff_grid *grid;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_grid_parse(&grid, "g.yaml", text, NULL, 0, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return grid;
}

/* The text is refused as bad usage, and the message holds `wanted`. */
static void refuses(const char *text, const char *wanted)
{
    struct ff_grid *grid;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_grid_parse(&grid, "g.yaml", text, NULL, 0, &err);
    cr_expect(eq(int, rc, FF_EUSAGE), "%s", text);
    cr_expect(zero(ptr, grid));
    cr_expect(strstr(err.text, wanted) != NULL, "found \"%s\", wanted \"%s\"", err.text,
              wanted);
    ff_grid_destroy(grid);
}

Test(grid, spreads_axes_and_seeds_row_major)
{
    struct ff_grid *grid = must_parse(sheet);
    cr_assert(eq(int, grid->axis_count, 2));
    cr_assert(eq(int, grid->cell_count, 12));
    const struct ff_cell *cell =
        &grid->cells[ff_grid_cell_index(grid, (int[]){1, 2, 0, 0}, 1)];
    cr_assert(eq(int, (int)(cell - grid->cells), 11));
    cr_assert(eq(dbl, cell->params.lambda, 5e-5));
    cr_assert(eq(dbl, cell->params.tau, 0.05));
    cr_assert(eq(i64, cell->params.seed, 1));
    cr_assert(eq(int, cell->params.backbone, FF_BACKBONE_R18));
    char text[200];
    cr_assert(eq(str, (char *)ff_grid_cell_label(text, sizeof text, grid, cell),
                 "lambda=5.0e-05 tau=0.05 seed=1"));
    cr_assert(eq(str, (char *)ff_grid_cell_place(text, sizeof text, grid, cell),
                 "lambda=5.0e-05,tau=0.05,seed=1"));
    ff_grid_destroy(grid);
}

Test(grid, excludes_by_rule_over_all_seeds)
{
    struct ff_grid *grid = must_parse(sheet);
    int excluded = 0;
    for (int i = 0; i < grid->cell_count; i++)
        excluded += grid->cells[i].excluded;
    cr_assert(eq(int, excluded, 2));
    cr_assert(grid->cells[ff_grid_cell_index(grid, (int[]){1, 1, 0, 0}, 0)].excluded);
    ff_grid_destroy(grid);
}

Test(grid, rounds_generated_values_to_six_digits)
{
    struct ff_grid *grid =
        must_parse("name: a\ntrain: {data: /d}\n"
                   "sweep:\n  lambda: {log: [1.0e-5, 2.0e-4], n: 4}\n");
    const struct ff_axis *axis = &grid->axes[0];
    cr_assert(eq(int, axis->count, 4));
    cr_assert(eq(dbl, axis->values[0], 1e-5));
    cr_assert(eq(dbl, axis->values[1], 2.71442e-5));
    cr_assert(eq(dbl, axis->values[2], 7.36806e-5));
    cr_assert(eq(dbl, axis->values[3], 2e-4));
    ff_grid_destroy(grid);
}

Test(grid, takes_enumerations_as_axes)
{
    struct ff_grid *grid = must_parse("name: a\ntrain: {data: /d}\n"
                                      "sweep:\n  schedule: [fastface, cosine]\n"
                                      "  batch: [32, 64]\n");
    cr_assert(eq(int, grid->axes[0].kind, FF_AXIS_TEXT));
    cr_assert(eq(str, grid->axes[0].texts[1], "cosine"));
    cr_assert(eq(int, grid->cells[2].params.schedule, FF_SCHEDULE_COSINE));
    cr_assert(eq(i64, grid->cells[3].params.batch, 64));
    ff_grid_destroy(grid);
}

Test(grid, resolved_text_reads_back_as_the_same_grid)
{
    setenv("FF_TEST_ROOT", "/some/where", 1);
    struct ff_grid *grid = must_parse(
        "# kept\nname: a\ntrain: {data: '${FF_TEST_ROOT}/faces', init: rel/model.h5}\n"
        "sweep:\n  gamma0: {log: [0.01, 0.1], n: 3}\n  backbone: [r18, r34]\n"
        "exclude: [{gamma0: 0.1, backbone: r34, seed: 7}]\nseeds: [7, 8]\n"
        "eval:\n  - {protocol: ijbb, root: '${FF_TEST_ROOT}/b', name: x, det: false}\n"
        "  - {protocol: ijbc, root: /c}\nmetric: tar_compat@1e-3:x\n"
        "keep: [model, features]\n");
    unsetenv("FF_TEST_ROOT");
    struct ff_grid *again = must_parse(grid->text);
    cr_assert(eq(str, again->text, grid->text));
    cr_assert(eq(int, strncmp(grid->text, "# kept\nname: a\n", 15), 0));
    cr_assert(eq(str, again->base.data, "/some/where/faces"));
    cr_assert(eq(chr, again->base.init[0], '/'));
    cr_assert(eq(str, again->evals[0].root, "/some/where/b"));
    cr_assert(not(again->evals[0].det));
    cr_assert(again->evals[0].flip);
    cr_assert(eq(int, again->metric.kind, FF_METRIC_TAR_COMPAT));
    cr_assert(eq(int, again->metric.far_index, 3));
    cr_assert(again->keep_features);
    cr_assert(not(again->keep_checkpoint));
    for (int i = 0; i < grid->cell_count; i++) {
        cr_assert(eq(int, again->cells[i].excluded, grid->cells[i].excluded));
        cr_assert(eq(dbl, again->cells[i].params.gamma0, grid->cells[i].params.gamma0));
    }
    ff_grid_destroy(again);
    ff_grid_destroy(grid);
}

Test(grid, names_evaluations_by_protocol)
{
    struct ff_grid *grid = must_parse(sheet);
    cr_assert(eq(str, grid->evals[0].name, "ijbc"));
    cr_assert(eq(int, grid->metric.far_index, 4));
    cr_assert(eq(int, grid->metric.eval_index, 0));
    ff_grid_destroy(grid);
}

Test(grid, sets_go_on_top_of_train)
{
    struct ff_grid *grid;
    struct ff_err err = FF_ERR_INIT;
    const char *sets[] = {"batch=32", "backbone=r34"};
    cr_assert(eq(int, ff_grid_parse(&grid, "g.yaml", sheet, sets, 2, &err), 0));
    cr_assert(eq(i64, grid->cells[0].params.batch, 32));
    cr_assert(eq(int, grid->cells[0].params.backbone, FF_BACKBONE_R34));
    cr_assert(strstr(grid->text, "batch: 32\n") != NULL);
    ff_grid_destroy(grid);
    const char *axis[] = {"tau=0.5"};
    cr_assert(eq(int, ff_grid_parse(&grid, "g.yaml", sheet, axis, 1, &err), FF_EUSAGE));
    cr_assert(strstr(err.text, "tau is an axis") != NULL);
}

Test(grid, picks_cells_by_values)
{
    struct ff_grid *grid = must_parse(sheet);
    struct ff_err err = FF_ERR_INIT;
    int found = 0;
    for (int i = 0; i < grid->cell_count; i++)
        found += ff_grid_cell_matches(grid, &grid->cells[i], "tau=0.05,seed=1", &err);
    cr_assert(eq(int, found, 2));
    cr_assert(
        eq(int, ff_grid_cell_matches(grid, grid->cells, "lamda=1", &err), FF_EUSAGE));
    cr_assert(
        eq(int, ff_grid_cell_matches(grid, grid->cells, "tau=0.02", &err), FF_EUSAGE));
    cr_assert(strstr(err.text, "0.02") != NULL);
    ff_grid_destroy(grid);
}

Test(grid, one_run_without_axes)
{
    struct ff_grid *grid = must_parse("name: one\ntrain: {data: /d}\n");
    cr_assert(eq(int, grid->cell_count, 1));
    cr_assert(eq(int, grid->metric.eval_index, -1));
    ff_grid_destroy(grid);
}

Test(grid, refuses_with_the_line)
{
    refuses("train: {data: /d}\n", "name: is missing");
    refuses("name: a\nbatch: 3\n", "g.yaml:2: unknown key batch");
    refuses("name: a/b\n", "g.yaml:1: name: a/b");
    refuses("name: a\ntrain:\n  lamda: 1\n", "g.yaml:3:");
    refuses("name: a\nsweep:\n  lamda: [1]\n",
            "g.yaml:3: sweep: unknown parameter lamda; "
            "nearest is lambda");
    refuses("name: a\nsweep:\n  tau: [0.1, 0.1]\n",
            "g.yaml:3: tau: value 0.1 occurs twice");
    refuses("name: a\nsweep:\n  tau: [0.1,\n   2.5]\n", "g.yaml:4: tau: 2.5");
    refuses("name: a\nsweep:\n  tau: {log: [0, 1], n: 3}\n", "above 0");
    refuses("name: a\nsweep:\n  tau: {log: [0.1, 1], n: 1}\n", "n is 1");
    refuses("name: a\nsweep:\n  head: {linear: [0, 1], n: 3}\n", "is no number");
    refuses("name: a\nsweep:\n  seed: [1, 2]\n", "seeds:");
    refuses("name: a\nsweep:\n  milestones: [1, 2]\n", "cannot be an axis");
    refuses("name: a\ntrain: {tau: 0.1}\nsweep:\n  tau: [0.1]\n", "g.yaml:4:");
    refuses("name: a\nsweep: {tau: [0.1], beta: [0.1], alpha: [0.1], delta: [2],\n"
            "  lambda: [1]}\n",
            "axis 5");
    refuses("name: a\nsweep: {tau: [0.1]}\nexclude: [{tau: 0.2}]\n",
            "g.yaml:3: exclude");
    refuses("name: a\nexclude: [{tau: 0.2}]\n", "tau is no axis");
    refuses("name: a\nseeds: [1, 1]\n", "occurs twice");
    refuses("name: a\nseeds:\n  - 1\n  - 1.5\n", "g.yaml:4: seeds: 1.5 is not an");
    refuses("name: a\nseeds: [[1]]\n", "g.yaml:2: seeds: what stands here is not an");
    refuses("name: a\nsweep:\n  tau: {log: [x, 1], n: 2}\n",
            "g.yaml:3: tau: log: x is not a number");
    refuses("name: a\nsweep:\n  tau: {linear: [0, [1]], n: 2}\n",
            "g.yaml:3: tau: linear: what stands");
    refuses("name: a\ntrain:\n  data: /d\n  image_size: 33\n",
            "g.yaml:4: cell seed=3407: image_size: 33 is not a multiple of 16");
    refuses("name: a\nsweep:\n  image_size: [32,\n    33]\n",
            "g.yaml:3: cell image_size=33: image_size: 33 is");
    refuses("name: a\neval: [{protocol: ijbd, root: /x}]\n", "protocol ijbd");
    refuses("name: a\neval: [{protocol: ijbc}]\n", "root is missing");
    refuses("name: a\neval: [{protocol: ijbc, root: '${FF_NO_SUCH}/x'}]\n",
            "FF_NO_SUCH");
    refuses("name: a\neval: [{protocol: ijbc, root: /x}, {protocol: ijbc, root: /y}]\n",
            "two entries are named ijbc");
    refuses("name: a\neval: [{protocol: ijbc, root: /x}]\nmetric: tar@2e-4\n",
            "FAR 2e-4");
    refuses("name: a\neval: [{protocol: ijbc, root: /x}]\nmetric: far@1e-4\n",
            "g.yaml:3: metric: far@1e-4");
    refuses("name: a\neval: [{protocol: ijbc, root: /x}, {protocol: ijbb, root: /x}]\n"
            "metric: tar@1e-4\n",
            "tar@1e-4:ijbc");
    refuses("name: a\nmetric: tar@1e-4\n", "there is no eval entry");
    refuses("name: a\nkeep: [modle]\n", "keep: modle");
    refuses("name: a\nname: b\n", "g.yaml:2:");
}

static const char pairs_sheet[] =
    "name: a\ntrain: {data: /d, validate: [v/lfw.bin, /w.bin]}\n"
    "eval:\n  - {protocol: ijbc, root: /c}\n"
    "  - {protocol: pairs, bin: ['${FF_TEST_BINS}/lfw.bin', rel/cfp_fp.bin]}\n"
    "  - {protocol: pairs, name: more, bin: /x/agedb_30.bin}\n"
    "metric: accuracy@cfp_fp\n";

Test(grid, reads_files_of_pairs)
{
    setenv("FF_TEST_BINS", "/bins", 1);
    struct ff_grid *grid = must_parse(pairs_sheet);
    unsetenv("FF_TEST_BINS");
    struct ff_grid *again = must_parse(grid->text);
    cr_assert(eq(str, again->text, grid->text));
    for (int i = 0; i < 2; i++) {
        const struct ff_grid *g = i ? again : grid;
        cr_assert(eq(int, g->eval_count, 3));
        cr_assert(eq(int, g->evals[0].bin_count, 0));
        cr_assert(eq(str, (char *)g->evals[1].name, "pairs"));
        cr_assert(eq(int, g->evals[1].bin_count, 2));
        cr_assert(eq(str, (char *)g->evals[1].bins[0].path, "/bins/lfw.bin"));
        cr_assert(eq(chr, g->evals[1].bins[1].path[0], '/'));
        cr_assert(eq(str, (char *)g->evals[1].bins[1].name, "cfp_fp"));
        cr_assert(eq(str, (char *)g->evals[2].name, "more"));
        cr_assert(eq(str, (char *)g->evals[2].bins[0].name, "agedb_30"));
        cr_assert(eq(int, g->metric.kind, FF_METRIC_ACCURACY));
        cr_assert(eq(int, g->metric.eval_index, 1));
        cr_assert(eq(int, g->metric.bin_index, 1));
        /* relative paths of validate are absolute in every cell */
        cr_assert(eq(chr, g->cells[0].params.validate[0], '/'));
        cr_assert(
            ne(ptr, strstr(g->cells[0].params.validate, "/v/lfw.bin\n/w.bin\n"), NULL));
    }
    ff_grid_destroy(again);
    ff_grid_destroy(grid);
}

Test(grid, one_file_of_pairs_is_the_metric)
{
    struct ff_grid *grid = must_parse("name: a\ntrain: {data: /d}\n"
                                      "eval: [{protocol: pairs, bin: [/x/lfw.bin]}]\n");
    cr_assert(eq(str, grid->metric.text, "accuracy@lfw"));
    cr_assert(eq(int, grid->metric.kind, FF_METRIC_ACCURACY));
    ff_grid_destroy(grid);
}

Test(grid, refuses_pairs_that_make_no_sense)
{
#define PAIRS "name: a\neval:\n- protocol: pairs\n"
    refuses(PAIRS, "g.yaml:3: eval: bin is missing");
    refuses(PAIRS "  bin: []\n", "g.yaml:4: eval: bin: a list of files");
    refuses(PAIRS "  bin: [/a.bin]\n  root: /x\n", "eval: protocol pairs has no root");
    refuses(PAIRS "  flip: true\n  bin: [/a.bin]\n", "protocol pairs has no flip");
    refuses("name: a\neval: [{protocol: ijbc, root: /x, bin: /a.bin}]\n",
            "protocol ijbc has no bin");
    refuses(PAIRS "  bin: [/a.bin, /b/a.bin]\n", "two files are named a");
    refuses(PAIRS "  bin: [/a.bin]\n- {protocol: pairs, name: x, bin: /b/a.bin}\n",
            "two files are named a");
    refuses(PAIRS "  bin: ['/my faces.bin']\n", "the file's name must be of letters");
    refuses(PAIRS "  bin: ['${FF_NO_SUCH}/a.bin']\n", "FF_NO_SUCH");
    refuses(PAIRS "  bin: [/a.bin, /b.bin]\n", "accuracy@a");
    refuses(PAIRS "  bin: [/a.bin]\nmetric: accuracy@b\n",
            "g.yaml:5: metric: no file of pairs is named b");
    refuses(PAIRS "  bin: [/a.bin]\nmetric: tar@1e-4\n",
            "entry pairs has no TAR; accuracy@a is possible");
    refuses(PAIRS "  bin: [/a.bin]\nmetric: accuracy\n", "accuracy@NAME is wanted");
    refuses("name: a\neval: [{protocol: ijbc, root: /x}]\nmetric: accuracy@lfw\n",
            "no file of pairs is named lfw");
    refuses("name: a\nsweep:\n  validate: [/a.bin, /b.bin]\n", "cannot be an axis");
}

Test(grid, committed_grids_read)
{
    setenv("FF_DATA", "/data", 1);
    setenv("FF_IJB_FORMAT", "/data/set", 1);
    setenv("FF_SMALL", "/data/lfw", 1);
    const struct {
        const char *path;
        int cells, evals, backbone;
    } grids[] = {{"grids/lambda_tau.yaml", 25, 1, FF_BACKBONE_R100},
                 {"grids/gamma_delta.yaml", 25, 1, FF_BACKBONE_R100},
                 {"grids/published_ms1mv3_r100.yaml", 1, 2, FF_BACKBONE_R100},
                 {"grids/lambda_tau_ijb_format.yaml", 25, 1, FF_BACKBONE_R100},
                 {"grids/lambda_tau_pairs.yaml", 25, 1, FF_BACKBONE_R100},
                 {"grids/lambda_tau_small.yaml", 9, 1, FF_BACKBONE_R18}};
    for (size_t i = 0; i < sizeof grids / sizeof *grids; i++) {
        struct ff_grid *grid;
        struct ff_err err = FF_ERR_INIT;
        cr_assert(eq(int, ff_grid_load(&grid, grids[i].path, NULL, 0, &err), 0), "%s",
                  err.text);
        cr_assert(eq(int, grid->cell_count, grids[i].cells));
        cr_assert(eq(int, grid->eval_count, grids[i].evals));
        const struct ff_params *p = &grid->cells[0].params;
        cr_assert(eq(int, p->backbone, grids[i].backbone));
        cr_assert(eq(i64, p->seed, 3407));
        if (p->schedule == FF_SCHEDULE_HAAR)
            cr_assert(eq(int, (int)(p->tau * 202320), 8000));
        ff_grid_destroy(grid);
    }
}
