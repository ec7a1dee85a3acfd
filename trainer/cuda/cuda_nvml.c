/* SPDX-License-Identifier: MIT */
/* NVML by dlopen; see cuda_nvml.h.
 *
 * The few declarations below stand for nvml.h, which CUDA's smaller packages do not
 * have; the library's interface is stable, a changed call gets another name (_v2, _v3).
 * Its name is libnvidia-ml.so.1 on every driver. NVML counts users of itself, so init
 * and shutdown may nest. */
#include "cuda_nvml.h"

#include <dlfcn.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LIBRARY "libnvidia-ml.so.1"
#define MAX_PROCESSES 64
#define NVML_SUCCESS 0

/* nvmlProcessInfo_t of _v2 and _v3 calls. */
struct process_info {
    unsigned int pid;
    unsigned long long bytes; /* NOT_AVAILABLE where the driver does not say */
    unsigned int gpu_instance, compute_instance;
};
_Static_assert(sizeof(struct process_info) == 24, "as in nvml.h");
#define NOT_AVAILABLE (~0ULL)

struct cuda_nvml {
    void *library;
    void *device; /* nvmlDevice_t */
    int (*shutdown)(void);
    int (*power)(void *device, unsigned int *milliwatts);
    int (*energy)(void *device, unsigned long long *millijoules);
    int (*processes)(void *device, unsigned int *count, struct process_info *infos);
};

/* A function of the library; NULL if it has none of that name. */
#define FIND(pointer, name)                                                            \
    do {                                                                               \
        void *found_ = dlsym(nvml->library, name);                                     \
        memcpy(&(pointer), &found_, sizeof found_);                                    \
    } while (0)

int cuda_nvml_open(struct cuda_nvml **out, const char *uuid, struct ff_err *err)
{
    int (*init)(void) = NULL, (*by_uuid)(const char *, void **) = NULL, code;
    const char *(*text)(int) = NULL;
    *out = NULL;
    struct cuda_nvml *nvml = calloc(1, sizeof *nvml);
    if (!nvml)
        return ff_err_set(err, FF_ENOMEM, "out of memory");
    nvml->library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!nvml->library) {
        int rc = ff_err_set(err, FF_EFAIL, "no power readings: %s", dlerror());
        free(nvml);
        return rc;
    }
    FIND(init, "nvmlInit_v2");
    FIND(by_uuid, "nvmlDeviceGetHandleByUUID");
    FIND(text, "nvmlErrorString");
    FIND(nvml->shutdown, "nvmlShutdown");
    FIND(nvml->power, "nvmlDeviceGetPowerUsage");
    FIND(nvml->energy, "nvmlDeviceGetTotalEnergyConsumption");
    FIND(nvml->processes, "nvmlDeviceGetComputeRunningProcesses_v3");
    if (!nvml->processes)
        FIND(nvml->processes, "nvmlDeviceGetComputeRunningProcesses_v2");
    if (!init || !by_uuid || !nvml->shutdown) {
        ff_err_set(err, FF_EFAIL, "no power readings: %s lacks functions", LIBRARY);
        goto unload;
    }
    const char *call = "nvmlInit";
    code = init();
    if (code != NVML_SUCCESS)
        goto refused;
    call = "nvmlDeviceGetHandleByUUID";
    code = by_uuid(uuid, &nvml->device);
    if (code == NVML_SUCCESS) {
        *out = nvml;
        return 0;
    }
    nvml->shutdown();
refused:
    ff_err_set(err, FF_EFAIL, "no power readings: %s: %s (%d)", call,
               text ? text(code) : "failed", code);
unload:
    dlclose(nvml->library);
    free(nvml);
    return FF_EFAIL;
}

void cuda_nvml_close(struct cuda_nvml *nvml)
{
    if (!nvml)
        return;
    nvml->shutdown();
    dlclose(nvml->library);
    free(nvml);
}

double cuda_nvml_watts(const struct cuda_nvml *nvml)
{
    unsigned int milliwatts = 0;
    if (!nvml || !nvml->power || nvml->power(nvml->device, &milliwatts))
        return NAN;
    return 1e-3 * milliwatts;
}

double cuda_nvml_joules(const struct cuda_nvml *nvml)
{
    unsigned long long millijoules = 0;
    if (!nvml || !nvml->energy || nvml->energy(nvml->device, &millijoules))
        return NAN;
    return 1e-3 * (double)millijoules;
}

static int by_bytes(const void *a, const void *b)
{
    const struct process_info *x = a, *y = b;
    return (x->bytes < y->bytes) - (x->bytes > y->bytes);
}

/* What a process is called; "" if it cannot be seen from here. */
static void name_of(char out[32], unsigned int pid)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(out, 1, 31, f) : 0;
    if (f)
        fclose(f);
    out[n] = 0;
    out[strcspn(out, "\n")] = 0;
    for (char *p = out; *p; p++)
        if ((unsigned char)*p < ' ' || *p == 127)
            *p = '?';
}

int64_t cuda_nvml_others(char *out, size_t capacity, const struct cuda_nvml *nvml)
{
    struct process_info infos[MAX_PROCESSES];
    unsigned int count = MAX_PROCESSES;
    int64_t bytes = 0;
    bool complete = false;
    size_t used = 0;
    out[0] = 0;
    if (!nvml || !nvml->processes ||
        nvml->processes(nvml->device, &count, infos) != NVML_SUCCESS)
        return 0;
    count = count < MAX_PROCESSES ? count : MAX_PROCESSES;
    for (unsigned int i = 0; i < count; i++)
        if (infos[i].bytes == NOT_AVAILABLE)
            infos[i].bytes = 0;
    qsort(infos, count, sizeof *infos, by_bytes);
    for (unsigned int i = 0; i < count; i++) {
        char name[32], item[96];
        if (infos[i].pid == (unsigned int)getpid()) {
            complete = true;
            continue;
        }
        name_of(name, infos[i].pid);
        int n = snprintf(item, sizeof item, "%spid %u%s%s%s", used ? ", " : "",
                         infos[i].pid, *name ? " (" : "", name, *name ? ")" : "");
        if (infos[i].bytes)
            n += snprintf(item + n, sizeof item - (size_t)n, " %.1f GiB",
                          (double)infos[i].bytes / (1 << 30));
        bytes += (int64_t)infos[i].bytes;
        if (used + (size_t)n < capacity) { /* whole items only */
            memcpy(out + used, item, (size_t)n + 1);
            used += (size_t)n;
        }
    }
    return complete ? bytes : 0;
}

int cuda_nvml_no_memory(const struct cuda_nvml *nvml, int64_t wanted, int64_t there,
                        int64_t others, const char *what, struct ff_err *err)
{
    char users[512];
    int64_t told = cuda_nvml_others(users, sizeof users, nvml);
    if (wanted - there <= (told > others ? told : others))
        return ff_err_set(err, FF_ENOMEM,
                          FF_SAYS_GPU_FULL " %.2f GiB wanted, %.2f free: %s",
                          (double)wanted / (1 << 30), (double)there / (1 << 30),
                          *users ? users : "other programs use it");
    return ff_err_set(err, FF_ENOMEM,
                      "out of device memory: %lld bytes wanted%s%s%s, %lld free",
                      (long long)wanted, what ? " (" : "", what ? what : "",
                      what ? ")" : "", (long long)there);
}
