/* SPDX-License-Identifier: MIT */
/* Fuzz target: a safetensors file, its network's shape and its tensors. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "model_file.h"
#include "safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"x", "conv1.weight", "fc.weight",
                                        "layers.0.layers.0.weight"};
    struct ff_safetensors *file;
    struct ff_model_config config;
    char path[64];
    int fd = memfd_create("input", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!ff_safetensors_open(&file, path, NULL)) {
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
            struct ff_safetensor t;
            float *values;
            if (ff_safetensors_find(&t, file, names[i]) &&
                !ff_safetensors_f32(&values, file, &t, NULL))
                free(values);
        }
        ff_safetensors_close(file);
    }
    ff_model_read_config(&config, path, NULL);
    close(fd);
    return 0;
}
