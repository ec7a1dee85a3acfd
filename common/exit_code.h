/* SPDX-License-Identifier: MIT */
/* Exit codes of the four programs: the contract between ff-grid, its children
 * and users' scripts. */
#ifndef FF_EXIT_CODE_H
#define FF_EXIT_CODE_H

enum ff_exit {
    FF_EXIT_OK = 0,
    FF_EXIT_FAILED = 1,
    FF_EXIT_USAGE = 2,    /* usage or bad parameters */
    FF_EXIT_DIVERGED = 3, /* loss NaN/Inf */
    FF_EXIT_STOPPED = 4,  /* stopped with a checkpoint */
    FF_EXIT_NOMEM = 5,    /* out of memory, host or device */
    FF_EXIT_DATA = 6,     /* bad data */
    FF_EXIT_BUSY = 7,     /* lock held by another process, holder named */
};

/* A message's first words where one exit code has two causes; ff-grid looks for them.
 * BUSY, exit 7: another program holds the GPU (not the run directory). FULL, exit 5:
 * other programs took the GPU's memory (the run is not too large for it). */
#define FF_SAYS_GPU_BUSY "GPU busy:"
#define FF_SAYS_GPU_FULL "GPU full:"

#endif
