/* SPDX-License-Identifier: MIT */
/* Open addressing with linear probing, at most half full; see name_table.h. */
#include "name_table.h"

#include <stdlib.h>
#include <string.h>

static size_t slots_for(size_t count)
{
    size_t slots = 16;
    while (slots < 2 * count)
        slots *= 2;
    return slots;
}

/* Spreads the bits of a key (the finaliser of SplitMix64). */
static uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

static uint64_t hash_name(const char *name, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 0x100000001b3u;
    return mix(hash);
}

int ff_name_table_init(struct ff_name_table *table, size_t count)
{
    size_t slots = slots_for(count);
    table->mask = slots - 1;
    table->name = calloc(slots, sizeof *table->name);
    table->row = malloc(slots * sizeof *table->row);
    if (table->name && table->row)
        return 0;
    ff_name_table_fini(table);
    return -1;
}

void ff_name_table_fini(struct ff_name_table *table)
{
    free(table->name);
    free(table->row);
    memset(table, 0, sizeof *table);
}

int64_t ff_name_table_add(struct ff_name_table *table, const char *name, int64_t row)
{
    size_t i = hash_name(name, strlen(name)) & table->mask;
    for (; table->name[i]; i = (i + 1) & table->mask) {
        if (!strcmp(table->name[i], name))
            return table->row[i];
    }
    table->name[i] = name;
    table->row[i] = row;
    return -1;
}

int64_t ff_name_table_find_part(const struct ff_name_table *table, const char *name,
                                size_t length)
{
    size_t i = hash_name(name, length) & table->mask;
    for (; table->name[i]; i = (i + 1) & table->mask) {
        if (!strncmp(table->name[i], name, length) && !table->name[i][length])
            return table->row[i];
    }
    return -1;
}

int64_t ff_name_table_find(const struct ff_name_table *table, const char *name)
{
    return ff_name_table_find_part(table, name, strlen(name));
}

#define DIRECT_IDS (INT64_C(1) << 22) /* at most: 16 MiB */

int ff_id_table_init(struct ff_id_table *table, size_t count, int64_t largest)
{
    bool direct = largest < DIRECT_IDS;
    size_t slots = direct ? (size_t)largest + 1 : slots_for(count);
    *table = (struct ff_id_table){.direct = direct ? largest + 1 : 0};
    table->index = malloc(slots * sizeof *table->index);
    if (!direct) {
        table->mask = slots - 1;
        table->id = malloc(slots * sizeof *table->id);
    }
    if (!table->index || (!direct && !table->id)) {
        ff_id_table_fini(table);
        return -1;
    }
    for (size_t i = 0; i < slots; i++) {
        if (direct)
            table->index[i] = -1;
        else
            table->id[i] = -1;
    }
    return 0;
}

void ff_id_table_fini(struct ff_id_table *table)
{
    free(table->id);
    free(table->index);
    memset(table, 0, sizeof *table);
}

static size_t id_slot(const struct ff_id_table *table, int64_t id)
{
    size_t i = mix((uint64_t)id) & table->mask;
    while (table->id[i] != -1 && table->id[i] != id)
        i = (i + 1) & table->mask;
    return i;
}

void ff_id_table_set(struct ff_id_table *table, int64_t id, int32_t index)
{
    size_t i = table->direct ? (size_t)id : id_slot(table, id);
    if (!table->direct)
        table->id[i] = id;
    table->index[i] = index;
}

int32_t ff_id_table_find_hashed(const struct ff_id_table *table, int64_t id)
{
    size_t i = id_slot(table, id);
    return table->id[i] == id ? table->index[i] : -1;
}
