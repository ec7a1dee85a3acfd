/* SPDX-License-Identifier: MIT */
/* A YAML file as a tree with line numbers, over libyaml's event parser.
 *
 * One document; anchors, aliases and tags are refused; a key that occurs twice in a
 * mapping is an error. Every message is "<path>:<line>: ...". */
#ifndef FF_YAML_DOC_H
#define FF_YAML_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "err.h"

enum ff_yaml_kind { FF_YAML_SCALAR, FF_YAML_LIST, FF_YAML_MAP };

struct ff_yaml_node {
    enum ff_yaml_kind kind;
    int line;         /* 1-based */
    const char *key;  /* in a map: this entry's key, else NULL */
    const char *text; /* scalar: its text, else NULL */
    bool plain;       /* scalar without quotes */
    size_t count;     /* list, map: entries */
    struct ff_yaml_node *items;
};

struct ff_yaml {
    char *path; /* for messages */
    struct ff_yaml_node root;
};

/* Parses a file / a text (name stands in messages). *doc is freed by ff_yaml_destroy.
 * FF_EUSAGE on a syntax error, FF_EFAIL if the file cannot be read. An empty document
 * is an empty map. */
int ff_yaml_load(struct ff_yaml **doc, const char *path, struct ff_err *err);
int ff_yaml_parse(struct ff_yaml **doc, const char *name, const char *text,
                  size_t bytes, struct ff_err *err);
void ff_yaml_destroy(struct ff_yaml *doc);

/* Entry of a map by key; NULL if absent or not a map. */
const struct ff_yaml_node *ff_yaml_get(const struct ff_yaml_node *map, const char *key);

/* Strict reads of a scalar; FF_EUSAGE names path:line, key and the text found. A float
 * is decimal with an optional exponent (inf, nan and hex refused); an int also takes
 * "1e5" if integral; a bool is true, on, false or off. */
int ff_yaml_f64(double *out, const struct ff_yaml *doc, const struct ff_yaml_node *node,
                struct ff_err *err);
int ff_yaml_i64(int64_t *out, const struct ff_yaml *doc,
                const struct ff_yaml_node *node, struct ff_err *err);
int ff_yaml_bool(bool *out, const struct ff_yaml *doc, const struct ff_yaml_node *node,
                 struct ff_err *err);

/* The same number rules on bare text; 0 or -1. */
int ff_parse_f64(double *out, const char *text);
int ff_parse_i64(int64_t *out, const char *text);

/* "${VAR}" and "${VAR:-default}" replaced from the environment; an unset variable
 * without default is FF_EUSAGE naming it. Output at most `capacity` bytes. */
int ff_expand_env(char *out, size_t capacity, const char *text, struct ff_err *err);

/* Writers for our own YAML files. A float always has a point and reads back as the same
 * double in every YAML reader ("5.0e-05", "0.02"); a string is double-quoted. */
void ff_yaml_write_f64(FILE *f, double value);
void ff_yaml_write_string(FILE *f, const char *text);
/* Shortest such float text into out (at least 32 bytes); returns out. */
const char *ff_f64_text(char out[32], double value);

#endif
