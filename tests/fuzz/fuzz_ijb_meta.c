/* SPDX-License-Identifier: MIT */
/* Fuzz target: the IJB lists, and the 1:N lists joined to them.
 *
 * The input is the points list, the template list, the pair list and one 1:N list, with
 * a zero byte between them; parts that are missing are taken from a sound set. What is
 * accepted must be consistent. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "gallery.h"
#include "ijb_meta.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LISTS = 4 };

static char folder[] = "/tmp/ff_fuzz_meta_XXXXXX";

static void clean_up(void)
{
    ff_remove_tree(folder, NULL);
}

static void put(const char *name, const uint8_t *data, size_t size)
{
    char path[FF_PATH_MAX];
    if (ff_path(path, NULL, "%s/meta/%s", folder, name))
        abort();
    FILE *f = fopen(path, "w");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        abort();
}

static void start(void)
{
    char path[FF_PATH_MAX];
    if (!mkdtemp(folder) || ff_path(path, NULL, "%s/meta", folder) ||
        ff_mkdirs(path, NULL) || atexit(clean_up))
        abort();
}

static void check(const struct ff_ijb_meta *m)
{
    int64_t genuine = 0;
    for (int64_t i = 0; i < m->image_count; i++)
        if (m->image[i].template_index < 0 ||
            m->image[i].template_index >= m->template_count || !*m->image[i].name)
            abort();
    for (int64_t i = 0; i < m->pair_count; i++) {
        if (m->pair_a[i] < 0 || m->pair_a[i] >= m->template_count || m->pair_b[i] < 0 ||
            m->pair_b[i] >= m->template_count)
            abort();
        genuine += m->genuine[i];
    }
    if (genuine != m->genuine_count ||
        m->member_start[m->template_count] != m->image_count)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[LISTS] = {
        "ijbc_name_5pts_score.txt", "ijbc_face_tid_mid.txt",
        "ijbc_template_pair_label.txt", "ijbc_1N_gallery_G1.csv"};
    static const char *const sound[LISTS] = {
        "a.jpg 1 2 3 4 5 6 7 8 9 10 0.5\nb.jpg 1 2 3 4 5 6 7 8 9 10 0.5\n",
        "a.jpg 5 3\nb.jpg 70000000001 9\n", "5 5 1\n5 70000000001 0\n",
        "t,s\n5,1\n70000000001,2\n"};
    static int started;
    if (!started++)
        start();
    for (int k = 0; k < LISTS; k++) {
        const uint8_t *end = size ? memchr(data, 0, size) : NULL;
        size_t bytes = end ? (size_t)(end - data) : size;
        if (bytes)
            put(names[k], data, bytes);
        else
            put(names[k], (const uint8_t *)sound[k], strlen(sound[k]));
        data += end ? bytes + 1 : bytes;
        size -= end ? bytes + 1 : bytes;
    }
    put("ijbc_1N_gallery_G2.csv", (const uint8_t *)"t,s\n5,1\n", 8);
    put("ijbc_1N_probe_mixed.csv", (const uint8_t *)"t,s\n5,1\n", 8);
    struct ff_ijb_meta *meta;
    struct ff_err err = FF_ERR_INIT;
    if (ff_ijb_meta_load(&meta, folder, "ijbc", true, 1, &err)) {
        if (!*err.text)
            abort();
        return 0;
    }
    check(meta);
    struct ff_gallery_lists lists;
    ff_gallery_load(&lists, folder, "ijbc", meta, NULL);
    ff_gallery_fini(&lists);
    ff_ijb_meta_destroy(meta);
    return 0;
}
