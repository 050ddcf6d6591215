/* Which kernel tables this CPU can run, best first. */
#ifndef VLEDGE_DISPATCH_H
#define VLEDGE_DISPATCH_H

#include "kernels.h"

/* The i-th table for the element type that this CPU can run, or NULL past the last. */
const vl_kernels *vl_runnable(int i, int f64);

/* Whether this CPU can multiply integers in a way of kernels.h, by float's table. */
int vl_has_way(const vl_kernels *kernels, int way);

/* Names of the CPU's features that matter here, separated by spaces. */
const char *vl_cpu_features(void);

#endif
