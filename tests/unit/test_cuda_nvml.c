/* SPDX-License-Identifier: MIT */
/* The calling side of NVML against a stand-in library, nvml_fake.c, which each test
 * builds with cc as it wants it. No GPU or driver is needed. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "atomic_file.h"
#include "cuda_nvml.h"

#define UUID "GPU-8d6fa5c2-0123-4567-89ab-cdef01234567"
#define GIB ((int64_t)1 << 30)
#define HELD (71 * GIB + GIB / 2) /* by the others, as nvml_fake.c tells */

static char folder[64];

static void setup(void)
{
    strcpy(folder, "/tmp/ff_nvml_XXXXXX");
    cr_assert(ne(ptr, mkdtemp(folder), NULL));
}

static void teardown(void)
{
    ff_remove_tree(folder, NULL);
}

TestSuite(cuda_nvml, .init = setup, .fini = teardown, .timeout = 60);

/* Builds the stand-in and loads it: from then on its soname is the one in memory, which
 * is what a dlopen of that name finds. */
static void use_fake(const char *defines)
{
    char command[1024], path[128];
    const char *source = getenv("FF_TESTS");
    snprintf(path, sizeof path, "%s/libnvidia-ml.so.1", folder);
    snprintf(command, sizeof command,
             "${CC:-cc} -shared -fPIC -Wl,-soname,libnvidia-ml.so.1 %s -o %s "
             "%s/fixtures/nvml_fake.c",
             defines, path, source ? source : "tests");
    cr_assert(eq(int, system(command), 0), "%s", command);
    cr_assert(ne(ptr, dlopen(path, RTLD_NOW | RTLD_LOCAL), NULL), "%s", dlerror());
}

Test(cuda_nvml, power_energy_and_processes_of_the_card)
{
    struct cuda_nvml *nvml, *again;
    struct ff_err err = FF_ERR_INIT;
    char text[256];
    use_fake("");
    cr_assert(eq(int, cuda_nvml_open(&nvml, UUID, &err), 0), "%s", err.text);
    cr_assert(epsilon_eq(dbl, cuda_nvml_watts(nvml), 412.5, 1e-9));
    cr_assert(epsilon_eq(dbl, cuda_nvml_joules(nvml), 9007199254.741, 1e-3));
    cr_assert(eq(i64, cuda_nvml_others(text, sizeof text, nvml), HELD));
    /* pid 1 may have any name; 4000001 is not told how much it has. */
    cr_assert(eq(ptr, strstr(text, "pid 4000002 71.0 GiB, pid 1 ("), text), "%s", text);
    cr_assert(ne(ptr, strstr(text, ") 0.5 GiB, pid 4000001"), NULL), "%s", text);
    cr_assert(eq(i64, cuda_nvml_others(text, 24, nvml), HELD));
    cr_assert(eq(str, text, "pid 4000002 71.0 GiB"));
    /* Closing one leaves the other in use. */
    cr_assert(eq(int, cuda_nvml_open(&again, UUID, &err), 0), "%s", err.text);
    cuda_nvml_close(again);
    cr_assert(epsilon_eq(dbl, cuda_nvml_watts(nvml), 412.5, 1e-9));
    cuda_nvml_close(nvml);
}

static void expect_no_memory(const struct cuda_nvml *nvml, int64_t wanted,
                             int64_t others, const char *what, const char *text)
{
    struct ff_err err = FF_ERR_INIT;
    int rc = cuda_nvml_no_memory(nvml, wanted, GIB, others, what, &err);
    cr_assert(eq(int, rc, FF_ENOMEM));
    cr_assert(eq(ptr, strstr(err.text, text), err.text), "%s", err.text);
}

/* A sweep waits where others have what is missing, and else fails the cell. */
Test(cuda_nvml, too_little_memory_is_put_down_to_those_who_have_it)
{
    struct cuda_nvml *nvml;
    struct ff_err err = FF_ERR_INIT;
    use_fake("");
    cr_assert(eq(int, cuda_nvml_open(&nvml, UUID, &err), 0), "%s", err.text);
    expect_no_memory(nvml, HELD + GIB, 0, NULL,
                     FF_SAYS_GPU_FULL
                     " 72.50 GiB wanted, 1.00 free: pid 4000002 71.0 ");
    expect_no_memory(nvml, HELD + GIB + 1, 0, NULL,
                     "out of device memory: 77846282241 bytes wanted, 1073741824 free");
    expect_no_memory(nvml, HELD + GIB + 1, HELD + 1, NULL,
                     FF_SAYS_GPU_FULL
                     " 72.50 GiB wanted, 1.00 free: pid 4000002 71.0 ");
    cuda_nvml_close(nvml);
    expect_no_memory(NULL, 2 * GIB, GIB, "network 1",
                     FF_SAYS_GPU_FULL
                     " 2.00 GiB wanted, 1.00 free: other programs use");
    expect_no_memory(NULL, 2 * GIB, GIB - 1, "network 1",
                     "out of device memory: 2147483648 bytes wanted (network 1), 1073");
}

/* Own memory is not another's because it stands under another number. */
Test(cuda_nvml, in_a_container_nobody_is_accused)
{
    struct cuda_nvml *nvml;
    struct ff_err err = FF_ERR_INIT;
    use_fake("-DFAKE_CONTAINER");
    cr_assert(eq(int, cuda_nvml_open(&nvml, UUID, &err), 0), "%s", err.text);
    expect_no_memory(nvml, 2 * GIB, 0, NULL,
                     "out of device memory: 2147483648 bytes wanted, 1073741824 free");
    expect_no_memory(nvml, 2 * GIB, GIB, "network 1",
                     FF_SAYS_GPU_FULL " 2.00 GiB wanted, 1.00 free: pid 4000002 71.0 ");
    cuda_nvml_close(nvml);
}

Test(cuda_nvml, an_old_card_tells_less)
{
    struct cuda_nvml *nvml;
    struct ff_err err = FF_ERR_INIT;
    char text[256] = "x";
    use_fake("-DFAKE_OLD_CARD");
    cr_assert(eq(int, cuda_nvml_open(&nvml, UUID, &err), 0), "%s", err.text);
    cr_assert(eq(dbl, cuda_nvml_watts(nvml), 412.5));
    cr_assert(isnan(cuda_nvml_joules(nvml)));
    cr_assert(eq(i64, cuda_nvml_others(text, sizeof text, nvml), 0));
    cr_assert(eq(str, text, ""));
    cuda_nvml_close(nvml);
}

static void expect_none(const char *uuid, const char *reason)
{
    struct cuda_nvml *nvml = (void *)1;
    struct ff_err err = FF_ERR_INIT;
    char text[64] = "x";
    cr_assert(eq(int, cuda_nvml_open(&nvml, uuid, &err), FF_EFAIL));
    cr_assert(eq(ptr, nvml, NULL));
    cr_assert(ne(ptr, strstr(err.text, reason), NULL), "%s", err.text);
    cr_assert(isnan(cuda_nvml_watts(nvml)) && isnan(cuda_nvml_joules(nvml)));
    cr_assert(eq(i64, cuda_nvml_others(text, sizeof text, nvml), 0));
    cr_assert(eq(str, text, ""));
    cuda_nvml_close(nvml);
}

Test(cuda_nvml, a_card_that_is_not_there)
{
    use_fake("");
    expect_none("GPU-0", "nvmlDeviceGetHandleByUUID: Not Found (6)");
}

Test(cuda_nvml, a_driver_that_is_not_loaded)
{
    use_fake("-DFAKE_NO_DRIVER");
    expect_none(UUID, "nvmlInit: Driver Not Loaded (9)");
}

Test(cuda_nvml, a_library_without_the_functions)
{
    use_fake("-DFAKE_POOR");
    expect_none(UUID, "lacks functions");
}

Test(cuda_nvml, no_driver_at_all)
{
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library)
        cr_skip_test("this machine has the driver's library");
    expect_none(UUID, "no power readings: libnvidia-ml.so.1");
}
