/* SPDX-License-Identifier: MIT */
/* Sheets as text: exact tables, colours, number and symbol texts. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "terminal_map.h"

static const char *const lambdas[] = {"2.5e-5", "1e-4"};
static const char *const taus[] = {"0.02", "0.05", "0.1"};

static char *printed(const struct ff_sheet *sheet, bool colour)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    cr_assert(ne(ptr, f, NULL));
    ff_terminal_map_print(f, sheet, colour);
    fclose(f);
    return text;
}

static void make(struct ff_sheet *sheet, int seeds)
{
    int rc = ff_sheet_init(sheet, "demo", "TAR@FAR=1e-2 (%)", seeds, NULL);
    rc |= ff_sheet_add_axis(sheet, "lambda", 2, lambdas, NULL);
    rc |= ff_sheet_add_axis(sheet, "tau", 3, taus, NULL);
    cr_assert(eq(int, rc, 0));
}

static void value(struct ff_sheet *sheet, size_t cell, double mean, int values)
{
    sheet->cells[cell] = (struct ff_sheet_cell){FF_SHEET_VALUE, mean, NAN, values, 0};
}

Test(terminal_map, prints_values_and_marks)
{
    struct ff_sheet sheet;
    make(&sheet, 1);
    value(&sheet, 0, 91.254, 1);
    value(&sheet, 1, 93.5, 1);
    sheet.cells[2].state = FF_SHEET_DIVERGED;
    sheet.cells[3].state = FF_SHEET_FAILED;
    sheet.cells[4].state = FF_SHEET_RUNNING;
    char *text = printed(&sheet, false);
    cr_assert(eq(str, text,
                 "demo: TAR@FAR=1e-2 (%), one seed\n"
                 "\n"
                 " λ \\ τ │  0.02   0.05    0.1 \n"
                 "───────┼─────────────────────\n"
                 "2.5e-5 │ 91.25  93.50    div \n"
                 "  1e-4 │  fail    run      · \n"
                 "\n"
                 "· = no value yet, run = running, div = diverged, fail = failed\n"
                 "highest: 93.50 at λ = 2.5e-5, τ = 0.05\n"));
    free(text);
    ff_sheet_fini(&sheet);
}

Test(terminal_map, counts_the_cells_that_share_the_highest_value)
{
    struct ff_sheet sheet;
    make(&sheet, 1);
    for (size_t i = 0; i < 5; i++)
        value(&sheet, i, i < 2 ? 3 : 3.030303, 1);
    sheet.cells[4].mean = 3.0303 + 3e-6 + 1e-15; /* a mean over seeds, rounded */
    char *text = printed(&sheet, false);
    cr_assert(ne(ptr, strstr(text, "highest: 3.03 at λ = 2.5e-5, τ = 0.1 and 2 more\n"),
                 NULL),
              "%s", text);
    free(text);
    value(&sheet, 4, 3.030302, 1); /* less in the last digit */
    value(&sheet, 3, 3.02, 1);
    text = printed(&sheet, false);
    cr_assert(ne(ptr, strstr(text, "τ = 0.1\n"), NULL), "%s", text);
    free(text);
    ff_sheet_fini(&sheet);
}

Test(terminal_map, prints_one_table_a_panel)
{
    static const char *const gammas[] = {"0.01", "0.02"};
    struct ff_sheet sheet;
    make(&sheet, 1);
    int rc = ff_sheet_add_axis(&sheet, "gamma0", 2, gammas, NULL);
    cr_assert(eq(int, rc, 0));
    value(&sheet, 3, 50, 1); /* lambda 0, tau 1, gamma0 1 */
    char *text = printed(&sheet, false);
    const char *second = strstr(text, "γ₀ = 0.02\n");
    cr_assert(ne(ptr, strstr(text, "γ₀ = 0.01\n"), NULL));
    cr_assert(ne(ptr, (void *)second, NULL));
    cr_assert(ne(ptr, strstr(second, "2.5e-5 │     ·  50.00      · \n"), NULL));
    cr_assert(ne(ptr,
                 strstr(text, "highest: 50.00 at λ = 2.5e-5, τ = 0.05, γ₀ = 0.02\n"),
                 NULL));
    free(text);
    ff_sheet_fini(&sheet);
}

Test(terminal_map, prints_a_row_for_one_axis_and_a_value_for_none)
{
    struct ff_sheet sheet;
    int rc = ff_sheet_init(&sheet, "one", "TAR@FAR=1e-4 (%)", 1, NULL);
    cr_assert(eq(int, rc, 0));
    value(&sheet, 0, 96.5, 1);
    char *text = printed(&sheet, false);
    cr_assert(eq(str, text, "one: TAR@FAR=1e-4 (%), one seed\n\n 96.50 \n\n"));
    free(text);
    rc = ff_sheet_add_axis(&sheet, "tau", 3, taus, NULL);
    cr_assert(eq(int, rc, 0));
    sheet.cells[1].state = FF_SHEET_EXCLUDED;
    text = printed(&sheet, false);
    cr_assert(ne(ptr, strstr(text, "τ │ 0.02  0.05   0.1 \n"), NULL));
    cr_assert(ne(ptr, strstr(text, "  │    ·     -     · \n"), NULL));
    free(text);
    ff_sheet_fini(&sheet);
}

Test(terminal_map, colours_only_when_asked)
{
    struct ff_sheet sheet;
    make(&sheet, 1);
    value(&sheet, 0, 10, 1);
    value(&sheet, 1, 20, 1);
    char *plain = printed(&sheet, false), *coloured = printed(&sheet, true);
    cr_assert(eq(ptr, strchr(plain, '\033'), NULL));
    /* lowest: dark violet with white text; highest: yellow with black text */
    cr_assert(ne(ptr, strstr(coloured, "\033[48;5;53;38;5;231m 10.00 \033[0m"), NULL));
    cr_assert(ne(ptr, strstr(coloured, "\033[48;5;220;38;5;16m 20.00 \033[0m"), NULL));
    cr_assert(ne(ptr, strstr(coloured, "\033[0m     · \n"), NULL), "a hole is bare");
    free(plain);
    free(coloured);
    ff_sheet_fini(&sheet);
}

Test(terminal_map, counts_cells_that_lack_seeds)
{
    struct ff_sheet sheet;
    make(&sheet, 3);
    value(&sheet, 0, 10, 3);
    value(&sheet, 1, 20, 2);
    char *text = printed(&sheet, false);
    cr_assert(ne(ptr, strstr(text, "mean of 3 seeds"), NULL));
    cr_assert(ne(ptr, strstr(text, "1 cell with fewer than 3 seeds so far\n"), NULL));
    free(text);
    ff_sheet_fini(&sheet);
}

Test(terminal_map, writes_numbers_short)
{
    static const struct {
        double value;
        const char *text, *print;
    } cases[] = {
        {0.05, "0.05", "0.05"},
        {5e-5, "5e-5", "5×10⁻⁵"},
        {2.5e-5, "2.5e-5", "2.5×10⁻⁵"},
        {1e-4, "1e-4", "10⁻⁴"},
        {0.001, "0.001", "0.001"},
        {2, "2", "2"},
        {2e6, "2e6", "2×10⁶"},
        {123456, "123456", "123456"},
        {0, "0", "0"},
        {-1e-10, "-1e-10", "-1×10⁻¹⁰"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[32], print[128];
        cr_assert(eq(str, (char *)ff_sheet_number(text, cases[i].value),
                     (char *)cases[i].text));
        cr_assert(
            eq(str, (char *)ff_sheet_typeset(print, text), (char *)cases[i].print));
    }
    char print[128];
    cr_assert(eq(str, (char *)ff_sheet_typeset(print, "r100"), "r100"));
    cr_assert(eq(str, (char *)ff_sheet_typeset(print, "cosine"), "cosine"));
    cr_assert(eq(str, (char *)ff_sheet_symbol("gamma0"), "γ₀"));
    cr_assert(eq(str, (char *)ff_sheet_symbol("batch"), "batch"));
}

Test(terminal_map, colour_map_is_dark_to_light)
{
    double before = -1, rgb[3];
    for (int i = 0; i <= 100; i++) {
        ff_sheet_colour(rgb, i / 100.0);
        double luminance = 0.2126 * pow(rgb[0], 2.2) + 0.7152 * pow(rgb[1], 2.2) +
                           0.0722 * pow(rgb[2], 2.2);
        cr_assert(lt(dbl, before, luminance), "at %d %%", i);
        before = luminance;
    }
    ff_sheet_colour(rgb, -1);
    cr_assert(epsilon_eq(dbl, rgb[0], 68 / 255.0, 1e-12));
    cr_assert(ff_sheet_white_text(rgb));
    ff_sheet_colour(rgb, 2);
    cr_assert(epsilon_eq(dbl, rgb[0], 253 / 255.0, 1e-12));
    cr_assert(not(ff_sheet_white_text(rgb)));
}
