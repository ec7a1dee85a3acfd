/* SPDX-License-Identifier: MIT */
/* Argument vectors; see child_argv.h. */
#include "child_argv.h"

#include <assert.h>
#include <string.h>

void ff_child_argv_add(struct ff_child_argv *argv, const char *word)
{
    assert(argv->count + 1 < FF_CHILD_ARGV_MAX);
    argv->items[argv->count++] = word;
    argv->items[argv->count] = NULL;
}

static void add_pair(struct ff_child_argv *argv, const char *name, const char *value)
{
    ff_child_argv_add(argv, name);
    ff_child_argv_add(argv, value);
}

static const char *on_off(bool value)
{
    return value ? "on" : "off";
}

void ff_child_argv_eval(struct ff_child_argv *argv, const struct ff_programs *programs,
                        const struct ff_grid_eval *entry,
                        const struct ff_params *params, const char *model,
                        const char *out)
{
    memset(argv, 0, sizeof *argv);
    ff_child_argv_add(argv, programs->eval);
    ff_child_argv_add(argv, entry->bin_count ? "pairs" : "ijb");
    for (int k = 0; k < entry->bin_count; k++)
        add_pair(argv, "--bin", entry->bins[k].path);
    if (!entry->bin_count) {
        add_pair(argv, "--root", entry->root);
        add_pair(argv, "--protocol", entry->protocol);
    }
    add_pair(argv, "--model", model);
    add_pair(argv, "--out", out);
    add_pair(argv, "--name", entry->name);
    if (!entry->bin_count) {
        add_pair(argv, "--flip", on_off(entry->flip));
        add_pair(argv, "--norm", on_off(entry->norm));
        add_pair(argv, "--det", on_off(entry->det));
    }
    if (params->backend != FF_BACKEND_AUTO) {
        ff_params_text(argv->backend, sizeof argv->backend, params,
                       ff_params_find("backend"));
        add_pair(argv, "--backend", argv->backend);
    }
    if (strcmp(params->device, "0") != 0)
        add_pair(argv, "--device", params->device);
    if (params->threads > 0) {
        snprintf(argv->threads, sizeof argv->threads, "%lld",
                 (long long)params->threads);
        add_pair(argv, "--threads", argv->threads);
    }
}
