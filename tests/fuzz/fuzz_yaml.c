/* SPDX-License-Identifier: MIT */
/* YAML as the programs read it: a document, a file of parameters, a grid. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "atomic_file.h"
#include "grid.h"
#include "log.h"
#include "params.h"
#include "yaml_doc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Strict reads of every scalar below a node. */
static void read_node(const struct ff_yaml *doc, const struct ff_yaml_node *node)
{
    double number;
    int64_t integer;
    bool truth;
    char expanded[256];
    if (node->kind == FF_YAML_SCALAR) {
        ff_yaml_f64(&number, doc, node, NULL);
        ff_yaml_i64(&integer, doc, node, NULL);
        ff_yaml_bool(&truth, doc, node, NULL);
        ff_expand_env(expanded, sizeof expanded, node->text, NULL);
    }
    for (size_t i = 0; i < node->count; i++) {
        if (node->kind == FF_YAML_MAP && !ff_yaml_get(node, node->items[i].key))
            abort();
        read_node(doc, &node->items[i]);
    }
}

/* Parameters that were accepted are written and read back as the same values. */
static void read_params(const char *text, size_t size)
{
    char path[64], *written = NULL;
    size_t bytes = 0;
    struct ff_params params, again;
    struct ff_err err = FF_ERR_INIT;
    struct ff_yaml *doc = NULL;
    int fd = memfd_create("params.yaml", MFD_CLOEXEC);
    if (fd < 0 || write(fd, text, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ff_params_defaults(&params);
    int rc = ff_params_load(&params, path, &err);
    close(fd);
    if (rc || ff_params_resolve(&params, &err))
        return;
    FILE *f = open_memstream(&written, &bytes);
    if (!f)
        abort();
    ff_params_write(f, &params, "");
    fclose(f);
    ff_params_defaults(&again);
    rc = ff_yaml_parse(&doc, "written", written, bytes, &err);
    if (!rc)
        rc = ff_params_set_map(&again, doc, &doc->root, &err);
    /* "${" in a path is expanded once more, which is no round trip. */
    if (!memmem(text, size, "$", 1)) {
        if (rc) {
            fprintf(stderr, "%s\n%s", err.text, written);
            abort();
        }
        char one[65], two[65];
        ff_train_key(one, &params, "data", NULL);
        ff_train_key(two, &again, "data", NULL);
        if (strcmp(one, two) != 0)
            abort();
    }
    ff_yaml_destroy(doc);
    free(written);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ff_yaml *doc = NULL;
    struct ff_grid *grid = NULL;
    struct ff_err err = FF_ERR_INIT;
    char *text = malloc(size + 1);
    if (!text)
        return 0;
    ff_log_set_level(FF_LOG_QUIET);
    memcpy(text, data, size);
    text[size] = 0;
    if (ff_yaml_parse(&doc, "input", text, size, &err) == 0)
        read_node(doc, &doc->root);
    ff_yaml_destroy(doc);
    read_params(text, size);
    if (ff_grid_parse(&grid, "grid", text, NULL, 0, &err) == 0)
        ff_grid_destroy(grid);
    free(text);
    return 0;
}
