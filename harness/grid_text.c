/* SPDX-License-Identifier: MIT */
/* A grid as text: names of cells, and the resolved grid file.
 *
 * The resolved file reads back as the same grid: generated axes are spelt out, paths
 * are absolute, environment variables and --set are replaced by their values, and
 * leading comment lines stay in front. It is what lies in a sweep directory and in
 * heatmap.h5. */
#include <stdlib.h>
#include <string.h>

#include "grid.h"
#include "yaml_doc.h"

const char *ff_grid_cell_label(char *out, size_t capacity, const struct ff_grid *grid,
                               const struct ff_cell *cell)
{
    size_t used = 0;
    out[0] = 0;
    for (int a = 0; a < grid->axis_count && used < capacity; a++)
        used += (size_t)snprintf(out + used, capacity - used, "%s%s=%s", a ? " " : "",
                                 grid->axes[a].param->name,
                                 grid->axes[a].texts[cell->at[a]]);
    if ((grid->seed_count > 1 || grid->axis_count == 0) && used < capacity)
        snprintf(out + used, capacity - used, "%sseed=%lld", used ? " " : "",
                 (long long)grid->seeds[cell->seed_index]);
    return out;
}

const char *ff_grid_cell_place(char *out, size_t capacity, const struct ff_grid *grid,
                               const struct ff_cell *cell)
{
    int order[FF_GRID_MAX_AXES];
    for (int a = 0; a < grid->axis_count; a++) {
        int k = a;
        for (; k > 0 && strcmp(grid->axes[order[k - 1]].param->name,
                               grid->axes[a].param->name) > 0;
             k--)
            order[k] = order[k - 1];
        order[k] = a;
    }
    size_t used = 0;
    for (int k = 0; k < grid->axis_count && used < capacity; k++)
        used += (size_t)snprintf(out + used, capacity - used, "%s=%s,",
                                 grid->axes[order[k]].param->name,
                                 grid->axes[order[k]].texts[cell->at[order[k]]]);
    if (used < capacity)
        snprintf(out + used, capacity - used, "seed=%lld",
                 (long long)grid->seeds[cell->seed_index]);
    return out;
}

const char *ff_grid_where(char out[FF_GRID_WHERE], const struct ff_grid *grid,
                          const char *name)
{
    size_t count;
    const struct ff_param_info *info = ff_params_find(name);
    int line = info ? grid->given_line[info - ff_params_table(&count)] : 0;
    for (int a = 0; a < grid->axis_count; a++)
        if (grid->axes[a].param == info)
            line = grid->axes[a].line;
    if (line == FF_GRID_BY_SET)
        snprintf(out, FF_GRID_WHERE, "--set");
    else if (line)
        snprintf(out, FF_GRID_WHERE, "%s:%d", grid->path, line);
    else
        snprintf(out, FF_GRID_WHERE, "%s", grid->path);
    return out;
}

static void write_value(FILE *f, enum ff_param_type type, const char *text)
{
    if (type == FF_PARAM_PATH || type == FF_PARAM_WORD)
        ff_yaml_write_string(f, text);
    else
        fputs(text, f);
}

static void write_train(FILE *f, const struct ff_grid *grid)
{
    size_t count;
    const struct ff_param_info *table = ff_params_table(&count);
    bool any = false;
    for (size_t i = 0; i < count; i++) {
        if (!grid->given_line[i])
            continue;
        if (!any)
            fprintf(f, "train:\n");
        any = true;
        fprintf(f, "  %s: ", table[i].name);
        ff_params_write_value(f, &grid->base, &table[i]);
        fputc('\n', f);
    }
}

static void write_excludes(FILE *f, const struct ff_grid *grid)
{
    if (grid->exclude_count)
        fprintf(f, "exclude:\n");
    for (int i = 0; i < grid->exclude_count; i++) {
        const struct ff_grid_rule *rule = &grid->excludes[i];
        const char *comma = "";
        fprintf(f, "  - {");
        for (int a = 0; a < grid->axis_count; a++)
            if (rule->at[a] >= 0) {
                fprintf(f, "%s%s: ", comma, grid->axes[a].param->name);
                write_value(f, grid->axes[a].param->type,
                            grid->axes[a].texts[rule->at[a]]);
                comma = ", ";
            }
        if (rule->seed_index >= 0)
            fprintf(f, "%sseed: %lld", comma, (long long)grid->seeds[rule->seed_index]);
        fprintf(f, "}\n");
    }
}

static void write_bins(FILE *f, const struct ff_grid_eval *entry)
{
    fprintf(f, ", bin: [");
    for (int k = 0; k < entry->bin_count; k++) {
        fputs(k ? ", " : "", f);
        ff_yaml_write_string(f, entry->bins[k].path);
    }
    fprintf(f, "]}\n");
}

static const char *truth(bool value)
{
    return value ? "true" : "false";
}

int ff_grid_compose(struct ff_grid *grid, const char *comments, struct ff_err *err)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    if (!f)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    fprintf(f, "%sname: %s\n", comments, grid->name);
    write_train(f, grid);
    if (grid->axis_count)
        fprintf(f, "sweep:\n");
    for (int a = 0; a < grid->axis_count; a++) {
        const struct ff_axis *axis = &grid->axes[a];
        fprintf(f, "  %s: [", axis->param->name);
        for (int i = 0; i < axis->count; i++) {
            fputs(i ? ", " : "", f);
            write_value(f, axis->param->type, axis->texts[i]);
        }
        fprintf(f, "]\n");
    }
    write_excludes(f, grid);
    size_t table_count;
    const struct ff_param_info *table = ff_params_table(&table_count);
    if (!grid->given_line[ff_params_find("seed") - table]) {
        fprintf(f, "seeds: [");
        for (int s = 0; s < grid->seed_count; s++)
            fprintf(f, "%s%lld", s ? ", " : "", (long long)grid->seeds[s]);
        fprintf(f, "]\n");
    }
    if (grid->eval_count)
        fprintf(f, "eval:\n");
    for (int e = 0; e < grid->eval_count; e++) {
        const struct ff_grid_eval *entry = &grid->evals[e];
        fprintf(f, "  - {protocol: %s, name: ", entry->protocol);
        ff_yaml_write_string(f, entry->name);
        if (entry->bin_count) {
            write_bins(f, entry);
            continue;
        }
        fprintf(f, ", root: ");
        ff_yaml_write_string(f, entry->root);
        fprintf(f, ", flip: %s, norm: %s, det: %s}\n", truth(entry->flip),
                truth(entry->norm), truth(entry->det));
    }
    if (grid->eval_count)
        fprintf(f, "metric: %s\n", grid->metric.text);
    const char *kept[3];
    int kept_count = 0;
    if (grid->keep_model)
        kept[kept_count++] = "model";
    if (grid->keep_checkpoint)
        kept[kept_count++] = "checkpoint";
    if (grid->keep_features)
        kept[kept_count++] = "features";
    fprintf(f, "keep: [");
    for (int i = 0; i < kept_count; i++)
        fprintf(f, "%s%s", i ? ", " : "", kept[i]);
    fprintf(f, "]\n");
    if (fclose(f) || !text) {
        free(text);
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    }
    free(grid->text);
    grid->text = text;
    return 0;
}
