/* SPDX-License-Identifier: MIT */
/* Train key: which runs are the same computation; see params.h.
 *
 * Only values that differ from the frozen neutral value enter, so that a parameter
 * added later leaves old keys as they were. `auto` margin and the margin it stands for
 * are the same value: a key does not depend on whether ff_params_resolve has run.
 * FF_NUMERICS is raised only when the same parameters begin to give other results. */
#include "params.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "hash.h"

#define PARAMS_MAX 256

static double margin_of(const struct ff_params *params, double margin)
{
    struct ff_params one = *params;
    if (!isnan(margin))
        return margin;
    one.margin = margin;
    ff_params_resolve(&one, NULL);
    return one.margin;
}

static int by_name(const void *a, const void *b)
{
    const struct ff_param_info *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* The value as it enters the key: every bit of a float, no spaces in a list. */
static void key_text(char *out, size_t capacity, const struct ff_params *params,
                     const struct ff_param_info *info)
{
    const char *field = (const char *)params + info->offset;
    if (info->type == FF_PARAM_FLOAT) {
        double value = *(const double *)(const void *)field;
        if (info->offset == offsetof(struct ff_params, margin))
            value = margin_of(params, value);
        snprintf(out, capacity, "%.17g", value + 0.0); /* -0 and 0 are the same */
        return;
    }
    ff_params_text(out, capacity, params, info);
    char *to = out;
    for (const char *from = out; *from; from++)
        if (*from != ' ')
            *to++ = *from;
    *to = 0;
}

void ff_train_key(char out[65], const struct ff_params *params,
                  const char *data_fingerprint, const char *init_hash)
{
    size_t count, used = 0;
    const struct ff_param_info *table = ff_params_table(&count);
    const struct ff_param_info *sorted[PARAMS_MAX];
    char lines[16384];
    struct ff_params neutral = *params;
    size_t n = 0;
    for (size_t i = 0; i < count && n < PARAMS_MAX; i++) {
        if (table[i].param_class == FF_PARAM_NEITHER)
            continue;
        sorted[n++] = &table[i];
        ff_params_set(&neutral, table[i].name, table[i].neutral_text, "neutral", NULL);
    }
    neutral.head = params->head; /* decides what an auto margin stands for */
    qsort(sorted, n, sizeof sorted[0], by_name);
    for (size_t i = 0; i < n; i++) {
        char value[32 * FF_PARAM_LIST], plain[32 * FF_PARAM_LIST];
        key_text(value, sizeof value, params, sorted[i]);
        key_text(plain, sizeof plain, &neutral, sorted[i]);
        if (sorted[i]->offset == offsetof(struct ff_params, head))
            strcpy(plain, sorted[i]->neutral_text);
        if (strcmp(value, plain))
            used += (size_t)snprintf(lines + used, sizeof lines - used, "%s=%s\n",
                                     sorted[i]->name, value);
    }
    used += (size_t)snprintf(lines + used, sizeof lines - used, "data=%.200s\n",
                             data_fingerprint);
    if (init_hash && *init_hash)
        used += (size_t)snprintf(lines + used, sizeof lines - used, "init=%.200s\n",
                                 init_hash);
    used += (size_t)snprintf(lines + used, sizeof lines - used, "numerics=%d\n",
                             FF_NUMERICS);
    ff_sha256(out, lines, used);
}
