/* SPDX-License-Identifier: MIT */
/* A small sweep with every state, for the tests of heatmaps: 2 x 3 cells, 2 seeds, two
 * eval entries, one excluded place. */
#ifndef HEATMAP_FIXTURE_H
#define HEATMAP_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "grid.h"
#include "heatmap.h"

static const char fixture_text[] =
    "name: small\n"
    "train:\n"
    "  data: /nowhere/train\n"
    "sweep:\n"
    "  backbone: [r18, r50]\n"
    "  lambda: [2.5e-05, 5.0e-05, 1.0e-04]\n"
    "exclude:\n"
    "  - {backbone: r50, lambda: 1.0e-04}\n"
    "seeds: [11, 12]\n"
    "eval:\n"
    "  - {protocol: ijbc, root: /nowhere/c}\n"
    "  - {protocol: ijbc, name: plain, root: /nowhere/c, norm: false}\n"
    "metric: tar@1e-2:plain\n";

struct fixture {
    char dir[64];
    struct ff_grid *grid;
    struct ff_cell_result *results;
    size_t count;
};

/* A finished run: metric `value` percent at FAR 1e-2 of entry "plain". */
static inline void fixture_done(struct fixture *fx, size_t cell, double value)
{
    struct ff_cell_result *r = &fx->results[cell];
    r->status = FF_CELL_DONE;
    r->trained = true;
    r->seconds = 60 + (double)cell;
    r->samples_per_second = 100;
    r->final_loss = 1.5;
    snprintf(r->train_key, sizeof r->train_key, "key%zu", cell);
    snprintf(r->device, sizeof r->device, "cpu0");
    snprintf(r->backend, sizeof r->backend, "onednn");
    for (int e = 0; e < 2; e++) {
        r->evals[e].present = true;
        char *key = r->evals[e].eval_key;
        snprintf(key, sizeof r->evals[e].eval_key, "eval%d-%zu", e, cell);
        for (int k = 0; k < FF_FAR_COUNT; k++) {
            r->evals[e].tar[k] = e == 1 && k == 4 ? value : 10 * e + k;
            r->evals[e].compat[k] = r->evals[e].tar[k] + 0.5;
        }
    }
}

/* Places: 0 two seeds done, 1 one done and one diverged, 2 planned, 3 failed and
 * diverged, 4 running and stale, 5 excluded. */
static inline void fixture_open(struct fixture *fx)
{
    struct ff_err err = FF_ERR_INIT;
    strcpy(fx->dir, "/tmp/ff-heatmap-XXXXXX");
    cr_assert(ne(ptr, mkdtemp(fx->dir), NULL));
    int rc = ff_grid_parse(&fx->grid, "small.yaml", fixture_text, NULL, 0, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    fx->count = (size_t)fx->grid->cell_count;
    cr_assert(eq(sz, fx->count, 12));
    fx->results = calloc(fx->count, sizeof *fx->results);
    cr_assert(ne(ptr, fx->results, NULL));
    for (size_t c = 0; c < fx->count; c++)
        ff_cell_result_init(&fx->results[c]);
    fixture_done(fx, 0, 80);
    fixture_done(fx, 1, 83);
    fixture_done(fx, 2, 90);
    fx->results[3].status = FF_CELL_DIVERGED;
    fx->results[6].status = FF_CELL_FAILED;
    snprintf(fx->results[6].reason, sizeof fx->results[6].reason, "killed <9> & gone");
    fx->results[7].status = FF_CELL_DIVERGED;
    fx->results[8].status = FF_CELL_RUNNING;
    fixture_done(fx, 9, 70);
    fx->results[9].status = FF_CELL_STALE;
    fx->results[2].drops = malloc(3 * sizeof(int64_t));
    cr_assert(ne(ptr, fx->results[2].drops, NULL));
    fx->results[2].drop_count = 3;
    for (int i = 0; i < 3; i++)
        fx->results[2].drops[i] = 100 * (i + 1);
    fx->results[1].bit_equal = false;
}

static inline void fixture_close(struct fixture *fx)
{
    struct ff_err err = FF_ERR_INIT;
    for (size_t c = 0; c < fx->count; c++)
        ff_cell_result_fini(&fx->results[c]);
    free(fx->results);
    ff_grid_destroy(fx->grid);
    int rc = ff_remove_tree(fx->dir, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
}

#endif
