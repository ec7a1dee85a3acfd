/* SPDX-License-Identifier: MIT */
/* Power and energy of a GPU, and who else uses its memory, as the driver tells it.
 *
 * The driver's management library is looked for at run time and may be absent or know
 * less: whatever is not known is NaN, or no text. Figures are of the whole card, other
 * programs on it included. This file includes nothing of CUDA. */
#ifndef FF_CUDA_NVML_H
#define FF_CUDA_NVML_H

#include <stddef.h>
#include <stdint.h>

#include "err.h"

struct cuda_nvml;

/* `uuid` as cuda_uuid_text writes it. FF_EFAIL with the reason in err and *nvml NULL,
 * with which all that follows may be called. FF_ENOMEM. */
int cuda_nvml_open(struct cuda_nvml **nvml, const char *uuid, struct ff_err *err);
void cuda_nvml_close(struct cuda_nvml *nvml);

/* Power in W: the mean over the last second, on cards where it is not momentary. NaN if
 * not known. */
double cuda_nvml_watts(const struct cuda_nvml *nvml);
/* Energy in J since the driver was loaded: use differences. NaN if not known. */
double cuda_nvml_joules(const struct cuda_nvml *nvml);

/* Other processes with memory on the card, the largest first: "pid 4711 (python3) 71.2
 * GiB, pid 12 0.5 GiB". Returns their bytes, of those that the driver tells; 0 where
 * this process is not in its list: in a container processes may be hidden, or have
 * other numbers, this one too. */
int64_t cuda_nvml_others(char *out, size_t capacity, const struct cuda_nvml *nvml);

/* Fills err and returns FF_ENOMEM: `wanted` bytes where `there` are free. Where other
 * processes hold what is missing the text begins with FF_SAYS_GPU_FULL and names them;
 * `others`: bytes that must be theirs, whatever the driver tells. `what` the bytes are
 * for, or NULL. */
int cuda_nvml_no_memory(const struct cuda_nvml *nvml, int64_t wanted, int64_t there,
                        int64_t others, const char *what, struct ff_err *err);

#endif
