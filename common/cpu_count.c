/* SPDX-License-Identifier: MIT */
/* How many CPUs this process may use; see params.h.
 *
 * The affinity mask bounds the count, and so does the CPU quota of every control group
 * from the process's own up to the root (version 2: cpu.max, version 1: cpu.cfs_*). A
 * fraction is rounded down: threads beyond a quota are stopped in the middle of a step.
 */
#include "params.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"

#define CPUS_MAX 16384

static int affinity_count(void)
{
    int count = 0;
    size_t bytes = CPU_ALLOC_SIZE(CPUS_MAX);
    cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
    if (set && !sched_getaffinity(0, bytes, set))
        count = CPU_COUNT_S(bytes, set);
    if (set)
        CPU_FREE(set);
    return count > 0 ? count : 1;
}

/* Lowers count to the quota of one folder; nothing if it has none. */
static int bound_by(int count, const char *folder)
{
    char path[FF_PATH_MAX];
    char *text;
    size_t bytes;
    double quota = -1, period = 0;
    if (!ff_path(path, NULL, "%s/cpu.max", folder) &&
        !ff_read_file(&text, &bytes, path, NULL)) {
        if (sscanf(text, "%lf %lf", &quota, &period) != 2)
            quota = -1;
        free(text);
    } else {
        if (!ff_path(path, NULL, "%s/cpu.cfs_quota_us", folder) &&
            !ff_read_file(&text, &bytes, path, NULL)) {
            quota = atof(text);
            free(text);
        }
        if (!ff_path(path, NULL, "%s/cpu.cfs_period_us", folder) &&
            !ff_read_file(&text, &bytes, path, NULL)) {
            period = atof(text);
            free(text);
        }
    }
    if (quota > 0 && period > 0 && quota / period < count)
        count = (int)(quota / period);
    return count > 0 ? count : 1;
}

int ff_cpu_count(void)
{
    int count = affinity_count();
    char *groups;
    size_t bytes;
    if (ff_read_file(&groups, &bytes, "/proc/self/cgroup", NULL))
        groups = NULL;
    char *rest = groups;
    for (char *line = rest ? strsep(&rest, "\n") : NULL; line;
         line = rest ? strsep(&rest, "\n") : NULL) {
        /* "0::/a/b" (version 2) or "4:cpu,cpuacct:/a/b" (version 1). */
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = 0;
        bool v2 = !names[1];
        if (!v2 && strncmp(names + 1, "cpu", 3))
            continue;
        char folder[FF_PATH_MAX];
        const char *mount = v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu";
        size_t root = strlen(mount);
        if (ff_path(folder, NULL, "%s%s", mount, path))
            continue;
        for (;;) {
            count = bound_by(count, folder);
            char *slash = strrchr(folder, '/');
            if (strlen(folder) <= root || !slash)
                break;
            *slash = 0;
        }
    }
    free(groups);
    return count;
}
