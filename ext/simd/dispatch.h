/* Which kernel tables this CPU can run, best first. */
#ifndef VLEDGE_DISPATCH_H
#define VLEDGE_DISPATCH_H

#include "kernels.h"

/* The i-th table of an arithmetic that this CPU can run, or NULL past the last. */
const vl_kernels *vl_runnable(int i, vl_arithmetic arithmetic);

/* How a cell runs on weights of a storage, by the table of an instruction set and an arithmetic, and where these are
 * small, by a way to multiply integers; NULL where it cannot. */
const vl_cell_kernels *vl_cell_kernels_of(const vl_kernels *kernels, vl_cell cell, vl_storage storage, int way);

/* Whether this CPU can multiply integers in a way of byte_kernels.h, by float's table. */
int vl_has_way(const vl_kernels *kernels, int way);

/* Whether integer products in a way take weights as uint8, or as int8: x86's instructions multiply one by the other. */
static inline int vl_takes_unsigned(int way)
{
#if defined(__x86_64__)
    return way == VL_BY_PAIRS;
#else
    return way == VL_BY_PAIRS || way == VL_BY_QUADS;
#endif
}

/* Names of the CPU's features that matter here, separated by spaces. */
const char *vl_cpu_features(void);

#endif
