/* SPDX-License-Identifier: MIT */
/* A sheet as a table of text; see terminal_map.h.
 *
 *     demo: TAR@FAR=1e-2 (%), one seed
 *
 *     λ \ τ │   0.02    0.05
 *     ──────┼────────────────
 *      1e-4 │  91.25   93.50
 *      5e-5 │    div       ·
 *
 * Every table of a sheet has the same column widths, so that panels line up. */
#include "terminal_map.h"

#include <math.h>
#include <string.h>

/* Characters shown: code points, all of width one here. */
static int shown(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += ((unsigned char)*text & 0xc0) != 0x80;
    return n;
}

static void pad(FILE *f, int count, const char *with)
{
    for (; count > 0; count--)
        fputs(with, f);
}

/* Right-aligned in `width` characters. */
static void right(FILE *f, const char *text, int width)
{
    pad(f, width - shown(text), " ");
    fputs(text, f);
}

/* The nearest colour of the terminal's 6 x 6 x 6 cube. */
static int cube_colour(const double rgb[3])
{
    static const double levels[6] = {0, 95, 135, 175, 215, 255};
    int index = 0;
    for (int c = 0; c < 3; c++) {
        int best = 0;
        for (int k = 1; k < 6; k++)
            if (fabs(levels[k] - 255 * rgb[c]) < fabs(levels[best] - 255 * rgb[c]))
                best = k;
        index = index * 6 + best;
    }
    return 16 + index;
}

struct table {
    FILE *f;
    const struct ff_sheet *sheet;
    bool colour;
    int head_width, cell_width, decimals;
    double low, high;
};

static void print_cell(const struct table *t, const struct ff_sheet_cell *cell)
{
    char text[32];
    ff_sheet_cell_text(text, cell, t->decimals);
    bool coloured = t->colour;
    if (coloured && cell->state == FF_SHEET_VALUE) {
        double rgb[3];
        ff_sheet_colour(rgb, ff_sheet_position(cell->mean, t->low, t->high));
        fprintf(t->f, "\033[48;5;%d;38;5;%dm", cube_colour(rgb),
                ff_sheet_white_text(rgb) ? 231 : 16);
    } else if (coloured &&
               (cell->state == FF_SHEET_DIVERGED || cell->state == FF_SHEET_FAILED)) {
        fputs("\033[38;5;160m", t->f);
    } else if (coloured && cell->state == FF_SHEET_RUNNING) {
        fputs("\033[38;5;33m", t->f);
    } else {
        coloured = false;
    }
    right(t->f, text, t->cell_width);
    fputs(coloured ? " \033[0m" : " ", t->f);
}

/* One panel; `panel` counts over the axes beyond the second. */
static void print_panel(const struct table *t, size_t panel, size_t panels)
{
    const struct ff_sheet *s = t->sheet;
    const struct ff_sheet_axis *row = s->axis_count >= 2 ? &s->axes[0] : NULL;
    const struct ff_sheet_axis *column = s->axis_count >= 2 ? &s->axes[1] : &s->axes[0];
    char corner[160] = "";
    if (row)
        snprintf(corner, sizeof corner, "%s \\ %s", ff_sheet_symbol(row->name),
                 ff_sheet_symbol(column->name));
    else
        snprintf(corner, sizeof corner, "%s", ff_sheet_symbol(column->name));
    right(t->f, corner, t->head_width);
    fputs(" │", t->f);
    for (int j = 0; j < column->count; j++) {
        right(t->f, column->texts[j], t->cell_width);
        fputc(' ', t->f);
    }
    fputc('\n', t->f);
    pad(t->f, t->head_width + 1, "─");
    fputs("┼", t->f);
    pad(t->f, column->count * (t->cell_width + 1), "─");
    fputc('\n', t->f);
    for (int i = 0; i < (row ? row->count : 1); i++) {
        right(t->f, row ? row->texts[i] : "", t->head_width);
        fputs(" │", t->f);
        for (int j = 0; j < column->count; j++) {
            size_t place = (size_t)i * (size_t)column->count + (size_t)j;
            print_cell(t, &s->cells[place * panels + panel]);
        }
        fputc('\n', t->f);
    }
}

static void print_panel_title(FILE *f, const struct ff_sheet *s, size_t panel)
{
    size_t inner = s->axis_count == 4 ? (size_t)s->axes[3].count : 1;
    const struct ff_sheet_axis *axis = &s->axes[2];
    fprintf(f, "%s = %s", ff_sheet_symbol(axis->name), axis->texts[panel / inner]);
    if (s->axis_count == 4)
        fprintf(f, ", %s = %s", ff_sheet_symbol(s->axes[3].name),
                s->axes[3].texts[panel % inner]);
    fputc('\n', f);
}

/* What the marks mean, and the best cell, or the first of them. */
static void print_notes(const struct table *t)
{
    const struct ff_sheet *s = t->sheet;
    bool used[FF_SHEET_STATE_COUNT] = {false};
    int partial = 0;
    for (size_t i = 0; i < s->cell_count; i++) {
        const struct ff_sheet_cell *cell = &s->cells[i];
        used[cell->state] = true;
        partial += cell->state == FF_SHEET_VALUE && cell->values < s->seed_count;
    }
    bool any = false;
    for (int k = 0; k < FF_SHEET_STATE_COUNT; k++) {
        if (!used[k] || k == FF_SHEET_VALUE)
            continue;
        char mark[32];
        struct ff_sheet_cell cell = {(enum ff_sheet_state)k, NAN, NAN, 0, 0};
        fprintf(t->f, "%s%s = %s", any ? ", " : "", ff_sheet_cell_text(mark, &cell, 0),
                ff_sheet_state_meaning(cell.state));
        any = true;
    }
    if (any)
        fputc('\n', t->f);
    if (partial)
        fprintf(t->f, "%d cell%s with fewer than %d seeds so far\n", partial,
                partial == 1 ? "" : "s", s->seed_count);
    long best = ff_sheet_best(s);
    if (best < 0 || s->axis_count == 0)
        return;
    fprintf(t->f, "highest: %.*f at", t->decimals, s->cells[best].mean);
    size_t below = s->cell_count;
    for (int a = 0; a < s->axis_count; a++) {
        below /= (size_t)s->axes[a].count;
        size_t at = (size_t)best / below % (size_t)s->axes[a].count;
        fprintf(t->f, "%s %s = %s", a ? "," : "", ff_sheet_symbol(s->axes[a].name),
                s->axes[a].texts[at]);
    }
    int more = -1;
    for (size_t i = 0; i < s->cell_count; i++)
        more += ff_sheet_is_highest(s, best, i);
    if (more)
        fprintf(t->f, " and %d more", more);
    fputc('\n', t->f);
}

void ff_terminal_map_print(FILE *f, const struct ff_sheet *sheet, bool colour)
{
    struct table t = {f, sheet, colour, 0, 0, ff_sheet_decimals(sheet), 0, 0};
    char text[64], note[64];
    ff_sheet_range(&t.low, &t.high, sheet);
    fprintf(f, "%s: %s, %s\n\n", sheet->name, sheet->metric,
            ff_sheet_seed_note(note, sheet));
    for (size_t i = 0; i < sheet->cell_count; i++) {
        int width = shown(ff_sheet_cell_text(text, &sheet->cells[i], t.decimals));
        t.cell_width = width > t.cell_width ? width : t.cell_width;
    }
    if (sheet->axis_count == 0) {
        t.cell_width++;
        print_cell(&t, &sheet->cells[0]);
        fputs("\n\n", f);
        print_notes(&t);
        return;
    }
    const struct ff_sheet_axis *row = &sheet->axes[0];
    const struct ff_sheet_axis *column = &sheet->axes[sheet->axis_count >= 2 ? 1 : 0];
    t.head_width = shown(ff_sheet_symbol(column->name));
    if (sheet->axis_count >= 2) {
        t.head_width += shown(ff_sheet_symbol(row->name)) + 3;
        for (int i = 0; i < row->count; i++)
            if (shown(row->texts[i]) > t.head_width)
                t.head_width = shown(row->texts[i]);
    }
    for (int j = 0; j < column->count; j++)
        if (shown(column->texts[j]) > t.cell_width)
            t.cell_width = shown(column->texts[j]);
    t.cell_width += 1;
    size_t panels = 1;
    for (int a = 2; a < sheet->axis_count; a++)
        panels *= (size_t)sheet->axes[a].count;
    for (size_t p = 0; p < panels; p++) {
        if (sheet->axis_count > 2)
            print_panel_title(f, sheet, p);
        print_panel(&t, p, panels);
        fputc('\n', f);
    }
    print_notes(&t);
}
