/* SPDX-License-Identifier: MIT */
/* A lease on a GPU, so that two runs of one host do not share a card unknowingly.
 *
 * One file a GPU, named by its UUID, in a folder that all users of the host share. The
 * lock (flock) alone decides: it goes with the process, however that ends, and what an
 * earlier holder left in the file blocks nobody. The text inside says who holds it:
 *
 *     pid: 4711
 *     user: anna
 *     host: node3
 *     since: 2026-01-31T12:00:00Z
 *     folder: /home/anna/faces
 *     command: ff-train r100.yaml --out results/r100
 *
 * This file knows nothing of CUDA. */
#ifndef FF_CUDA_LEASE_H
#define FF_CUDA_LEASE_H

#include "err.h"

#define CUDA_LEASE_FOLDER "/tmp/fastface-leases"
#define CUDA_UUID_TEXT 41

struct cuda_lease;

/* "GPU-8d6fa5c2-..." of the 16 bytes of cudaDeviceProp.uuid, as NVML and nvidia-smi
 * write it. Returns out. */
char *cuda_uuid_text(char out[CUDA_UUID_TEXT], const void *uuid);

/* Takes the lease of a GPU, without waiting. FF_EBUSY: another process has it; the
 * message begins with FF_SAYS_GPU_BUSY and names pid, command, user, folder and since
 * when. FF_EFAIL: the folder or the file cannot be used (a run may go on without). The
 * same process may take a lease again and gives it back as often. */
int cuda_lease_take(struct cuda_lease **lease, const char *uuid, struct ff_err *err);
/* The same in another folder, which is made if it is missing. */
int cuda_lease_take_in(struct cuda_lease **lease, const char *folder, const char *uuid,
                       struct ff_err *err);
/* NULL is allowed. */
void cuda_lease_release(struct cuda_lease *lease);

#endif
