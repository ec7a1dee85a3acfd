/* SPDX-License-Identifier: MIT */
/* Two small hash tables: name -> row and id -> index, for joining lists. */
#ifndef FF_NAME_TABLE_H
#define FF_NAME_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* name -> row. Names are borrowed. */
struct ff_name_table {
    size_t mask;
    const char **name;
    int64_t *row;
};
/* Room for `count` names; 0 or -1 without memory. */
int ff_name_table_init(struct ff_name_table *table, size_t count);
void ff_name_table_fini(struct ff_name_table *table);
/* Returns -1 if the name was new, else the row it already has (nothing is changed). */
int64_t ff_name_table_add(struct ff_name_table *table, const char *name, int64_t row);
/* The row of a name, -1 if it is unknown. */
int64_t ff_name_table_find(const struct ff_name_table *table, const char *name);
/* The same for a name of `length` bytes inside a longer text. */
int64_t ff_name_table_find_part(const struct ff_name_table *table, const char *name,
                                size_t length);

/* id -> index, for ids >= 0: an array where the ids are small, else a hash table. */
struct ff_id_table {
    int64_t direct; /* ids below have index[id], -1 = free; 0 = a hash table */
    size_t mask;
    int64_t *id; /* -1 = free; NULL in an array */
    int32_t *index;
};
/* Room for `count` different ids of at most `largest`; 0 or -1 without memory. */
int ff_id_table_init(struct ff_id_table *table, size_t count, int64_t largest);
void ff_id_table_fini(struct ff_id_table *table);
/* An id that is there already gets the new index. */
void ff_id_table_set(struct ff_id_table *table, int64_t id, int32_t index);
int32_t ff_id_table_find_hashed(const struct ff_id_table *table, int64_t id);
/* -1 if it is unknown. In the header: the pair list asks 31 million times. */
static inline int32_t ff_id_table_find(const struct ff_id_table *table, int64_t id)
{
    if (table->direct)
        return id < table->direct ? table->index[id] : -1;
    return ff_id_table_find_hashed(table, id);
}

#endif
