/* SPDX-License-Identifier: MIT */
/* See cuda_load.h. A program that never asks for a GPU loads nothing. */
#include "cuda_load.h"

#include <dlfcn.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cuda/cuda_entry.h"

/* The libraries that a bare node keeps elsewhere, by soname, from the first folder of
 * FF_CUDA_LIBS (divided by ':') that has them; the rest is left to the loader. */
static void preload(void)
{
    static const char *const names[] = {"libnvrtc.so.13", "libcublasLt.so.13",
                                        "libcudnn.so.9"};
    const char *folders = getenv("FF_CUDA_LIBS");
    char path[PATH_MAX];
    for (size_t i = 0; folders && i < sizeof names / sizeof *names; i++)
        for (const char *at = folders; *at;) {
            int length = (int)strcspn(at, ":");
            int n = snprintf(path, sizeof path, "%.*s/%s", length, at, names[i]);
            if (n < PATH_MAX && dlopen(path, RTLD_NOW | RTLD_GLOBAL))
                break;
            at += length + (at[length] == ':');
        }
}

/* Whether the driver has a card; under WSL it has another door. */
static bool card_is_there(void)
{
    return access("/dev/nvidiactl", F_OK) == 0 || access("/dev/dxg", F_OK) == 0;
}

/* FF_ENODEV, or FF_EFAIL where there is a card and the library lacks another. */
static int open_library(void **library, struct ff_err *err)
{
    static const char *const places[] = {"%s/" FF_CUDA_LIBRARY,
                                         "%s/../lib/" FF_CUDA_LIBRARY,
                                         "%s/../../lib/" FF_CUDA_LIBRARY};
    char self[PATH_MAX], path[2 * PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    self[n > 0 ? n : 0] = 0;
    char *folder = dirname(self);
    preload();
    /* The last is for programs in tests/<suite>/. */
    size_t count = sizeof places / sizeof *places - !strstr(folder, "/tests/");
    for (size_t i = 0; i < count; i++) {
        snprintf(path, sizeof path, places[i], folder);
        if (access(path, F_OK) != 0)
            continue;
        *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (*library)
            return 0;
        return ff_err_set(err, card_is_there() ? FF_EFAIL : FF_ENODEV, "%s", dlerror());
    }
    *library = dlopen(FF_CUDA_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    return *library ? 0 : ff_err_set(err, FF_ENODEV, "this build has no CUDA backend");
}

int ff_cuda_load(const struct ff_ops **ops, struct ff_ops_ctx **ctx,
                 const struct ff_ops_options *options, struct ff_err *err)
{
    static void *library;
    static ff_cuda_open_fn *entry;
    if (!library) {
        int rc = open_library(&library, err);
        if (rc)
            return rc;
        *(void **)&entry = dlsym(library, FF_CUDA_ENTRY);
    }
    if (!entry)
        return ff_err_set(err, FF_EFAIL, "%s has no %s: it is of another version",
                          FF_CUDA_LIBRARY, FF_CUDA_ENTRY);
    return entry(ops, ctx, options, err);
}
