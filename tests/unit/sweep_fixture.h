/* SPDX-License-Identifier: MIT */
/* A scratch folder with a small grid's data and meta files, for tests of plan and
 * sweep. */
#ifndef FF_SWEEP_FIXTURE_H
#define FF_SWEEP_FIXTURE_H

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "exec_fake.h"
#include "plan.h"

#define FIXTURE_INFO "images: 640\nclasses: 20\nheight: 112\nfingerprint: abc123\n"

static char fixture_dir[64];
/* What stands for the eval: and metric: of fixture_grid; NULL = IJB-C. */
static const char *fixture_eval;
static const struct ff_programs fixture_programs = {"/bin/ff-train", "/bin/ff-eval",
                                                    "/bin/ff-data"};

static inline void fixture_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", fixture_dir, name);
    FILE *f = fopen(path, "w");
    cr_assert(f != NULL, "%s", path);
    fputs(text, f);
    fclose(f);
}

static inline void fixture_setup(void)
{
    char path[256];
    strcpy(fixture_dir, "/tmp/ff-sweep-XXXXXX");
    cr_assert(mkdtemp(fixture_dir) != NULL);
    const char *folders[] = {"faces", "ijb/meta", "ijb/loose_crop"};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", fixture_dir, folders[i]);
        cr_assert(eq(int, ff_mkdirs(path, NULL), 0));
    }
    fixture_file("ijb/meta/ijbc_face_tid_mid.txt", "1.jpg 1 1\n2.jpg 2 2\n");
    fixture_file("ijb/meta/ijbc_template_pair_label.txt", "1 2 0\n1 1 1\n2 2 1\n");
    fixture_file("ijb/meta/ijbc_name_5pts_score.txt",
                 "1.jpg 1 1 2 1 1 2 1 3 2 3 0.9\n2.jpg 1 1 2 1 1 2 1 3 2 3 0.9\n");
}

static inline void fixture_teardown(void)
{
    ff_remove_tree(fixture_dir, NULL);
}

/* A grid of lambda x tau with `train` lines, `lambdas` and the eval switches given. */
static inline struct ff_grid *fixture_grid(const char *train, const char *lambdas,
                                           const char *switches)
{
    char text[1024], eval[512];
    struct ff_grid *grid;
    struct ff_err err = FF_ERR_INIT;
    snprintf(eval, sizeof eval,
             "eval:\n  - {protocol: ijbc, root: %s/ijb%s}\nmetric: tar@1e-1\n",
             fixture_dir, switches);
    snprintf(text, sizeof text,
             "name: small\ntrain:\n  data: %s/faces\n  batch: 32\n%ssweep:\n"
             "  lambda: [%s]\n  tau: [0.1, 0.2]\n%s",
             fixture_dir, train, lambdas, fixture_eval ? fixture_eval : eval);
    cr_assert(eq(int, ff_grid_parse(&grid, "small.yaml", text, NULL, 0, &err), 0), "%s",
              err.text);
    return grid;
}

/* Two files of pairs, scored instead of IJB-C; `text` is what is in one of them. */
static inline void fixture_pairs(const char *text)
{
    static char eval[512];
    fixture_file("lfw.bin", text);
    fixture_file("cfp_fp.bin", "profiles");
    snprintf(eval, sizeof eval,
             "eval:\n  - {protocol: pairs, bin: [%s/lfw.bin, %s/cfp_fp.bin]}\n"
             "metric: accuracy@cfp_fp\n",
             fixture_dir, fixture_dir);
    fixture_eval = eval;
}

#endif
