/* SPDX-License-Identifier: MIT */
/* The sheet's storage, its texts and its colours; see sheet.h.
 *
 * The colour map is the table of eleven anchors below, linear in sRGB between them:
 * lightness rises evenly from dark violet over blue-green to yellow (the course of
 * viridis), so equal steps of the value look equally large, also in greyscale print and
 * to colour-blind eyes. */
#include "sheet.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCORE_DIGIT 1e-6 /* scores have six decimals, in percent */

static int clear_cells(struct ff_sheet *sheet, size_t count, struct ff_err *err)
{
    struct ff_sheet_cell *cells = malloc(count * sizeof *cells);
    if (!cells)
        return ff_err_set(err, FF_ENOMEM, "out of memory for a sheet of %zu cells",
                          count);
    for (size_t i = 0; i < count; i++)
        cells[i] = (struct ff_sheet_cell){FF_SHEET_HOLE, NAN, NAN, 0, 0};
    free(sheet->cells);
    sheet->cells = cells;
    sheet->cell_count = count;
    return 0;
}

int ff_sheet_init(struct ff_sheet *sheet, const char *name, const char *metric,
                  int seed_count, struct ff_err *err)
{
    memset(sheet, 0, sizeof *sheet);
    snprintf(sheet->name, sizeof sheet->name, "%s", name);
    snprintf(sheet->metric, sizeof sheet->metric, "%s", metric);
    sheet->seed_count = seed_count;
    return clear_cells(sheet, 1, err);
}

int ff_sheet_add_axis(struct ff_sheet *sheet, const char *name, int count,
                      const char *const *texts, struct ff_err *err)
{
    struct ff_sheet_axis *axis = &sheet->axes[sheet->axis_count];
    axis->texts = malloc((size_t)count * sizeof *axis->texts);
    if (!axis->texts)
        return ff_err_set(err, FF_ENOMEM, "out of memory for axis %s", name);
    sheet->axis_count++;
    axis->count = count;
    snprintf(axis->name, sizeof axis->name, "%s", name);
    for (int i = 0; i < count; i++)
        snprintf(axis->texts[i], sizeof axis->texts[i], "%s", texts[i]);
    return clear_cells(sheet, sheet->cell_count * (size_t)count, err);
}

void ff_sheet_fini(struct ff_sheet *sheet)
{
    for (int a = 0; a < sheet->axis_count; a++)
        free(sheet->axes[a].texts);
    free(sheet->cells);
    memset(sheet, 0, sizeof *sheet);
}

bool ff_sheet_range(double *low, double *high, const struct ff_sheet *sheet)
{
    bool any = false;
    *low = *high = 0;
    for (size_t i = 0; i < sheet->cell_count; i++) {
        if (sheet->cells[i].state != FF_SHEET_VALUE)
            continue;
        double mean = sheet->cells[i].mean;
        *low = any ? fmin(*low, mean) : mean;
        *high = any ? fmax(*high, mean) : mean;
        any = true;
    }
    return any;
}

long ff_sheet_best(const struct ff_sheet *sheet)
{
    long best = -1;
    for (size_t i = 0; i < sheet->cell_count; i++)
        if (sheet->cells[i].state == FF_SHEET_VALUE &&
            (best < 0 ||
             sheet->cells[i].mean > sheet->cells[best].mean + SCORE_DIGIT / 2))
            best = (long)i;
    return best;
}

bool ff_sheet_is_highest(const struct ff_sheet *sheet, long best, size_t cell)
{
    return best >= 0 && sheet->cells[cell].state == FF_SHEET_VALUE &&
           sheet->cells[cell].mean > sheet->cells[best].mean - SCORE_DIGIT / 2;
}

int ff_sheet_decimals(const struct ff_sheet *sheet)
{
    double low, high;
    ff_sheet_range(&low, &high, sheet);
    return high - low >= 20 ? 1 : 2;
}

const char *ff_sheet_cell_text(char out[32], const struct ff_sheet_cell *cell,
                               int decimals)
{
    static const char *const words[FF_SHEET_STATE_COUNT] = {
        "·", NULL, "run", "stale", "div", "fail", "-", "done"};
    if (cell->state == FF_SHEET_VALUE)
        snprintf(out, 32, "%.*f", decimals, cell->mean);
    else
        snprintf(out, 32, "%s", words[cell->state]);
    return out;
}

const char *ff_sheet_state_meaning(enum ff_sheet_state state)
{
    static const char *const meanings[FF_SHEET_STATE_COUNT] = {
        "no value yet", "mean",   "running",  "trained, not scored",
        "diverged",     "failed", "excluded", "trained"};
    return meanings[state];
}

const char *ff_sheet_symbol(const char *name)
{
    static const char *const symbols[][2] = {
        {"gamma0", "γ₀"}, {"delta", "δ"}, {"lambda", "λ"},
        {"tau", "τ"},     {"alpha", "α"}, {"beta", "β"},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++)
        if (!strcmp(name, symbols[i][0]))
            return symbols[i][1];
    return name;
}

const char *ff_sheet_number(char out[32], double value)
{
    char plain[32], scaled[32];
    double size = fabs(value);
    snprintf(plain, sizeof plain, "%.10g", value);
    for (int digits = 0; digits < 9; digits++) {
        snprintf(scaled, sizeof scaled, "%.*e", digits, value);
        if (strtod(scaled, NULL) == value)
            break;
    }
    char *e = strchr(scaled, 'e');
    if (e) { /* "e-05" -> "e-5", "e+06" -> "e6" */
        int exponent = atoi(e + 1);
        snprintf(e, (size_t)(scaled + sizeof scaled - e), "e%d", exponent);
    }
    bool use_scaled = size > 0 && e &&
                      (size < 1e-3 || (size >= 1e5 && strlen(scaled) < strlen(plain)));
    snprintf(out, 32, "%s", use_scaled ? scaled : plain);
    return out;
}

const char *ff_sheet_typeset(char out[128], const char *text)
{
    static const char *const raised[] = {"⁰", "¹", "²", "³", "⁴",
                                         "⁵", "⁶", "⁷", "⁸", "⁹"};
    char *end, *tail;
    strtod(text, &end);
    const char *e = strchr(text, 'e');
    if (end == text || *end || !e) {
        snprintf(out, 128, "%s", text);
        return out;
    }
    long exponent = strtol(e + 1, &tail, 10);
    bool one = e - text == 1 && text[0] == '1';
    size_t used = (size_t)snprintf(out, 128, "%.*s%s10%s", one ? 0 : (int)(e - text),
                                   text, one ? "" : "×", exponent < 0 ? "⁻" : "");
    char digits[24];
    snprintf(digits, sizeof digits, "%ld", labs(exponent));
    for (const char *d = digits; *d && used < 120; d++)
        used += (size_t)snprintf(out + used, 128 - used, "%s", raised[*d - '0']);
    return out;
}

const char *ff_sheet_seed_note(char out[64], const struct ff_sheet *sheet)
{
    if (sheet->seed_count == 1)
        snprintf(out, 64, "one seed");
    else
        snprintf(out, 64, "mean of %d seeds", sheet->seed_count);
    return out;
}

void ff_sheet_colour(double rgb[3], double t)
{
    static const unsigned char anchors[11][3] = {
        {68, 1, 84},    {72, 36, 117},  {65, 68, 135},  {53, 95, 141},
        {42, 120, 142}, {33, 145, 140}, {34, 168, 132}, {68, 191, 112},
        {122, 209, 81}, {189, 223, 38}, {253, 231, 37},
    };
    double place = fmin(fmax(t, 0), 1) * 10;
    int k = place >= 10 ? 9 : (int)place;
    for (int c = 0; c < 3; c++)
        rgb[c] =
            ((k + 1 - place) * anchors[k][c] + (place - k) * anchors[k + 1][c]) / 255;
}

double ff_sheet_position(double mean, double low, double high)
{
    return high > low ? (mean - low) / (high - low) : 0.5;
}

bool ff_sheet_white_text(const double rgb[3])
{
    double linear[3];
    for (int c = 0; c < 3; c++)
        linear[c] =
            rgb[c] <= 0.04045 ? rgb[c] / 12.92 : pow((rgb[c] + 0.055) / 1.055, 2.4);
    double luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
    return 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05;
}
