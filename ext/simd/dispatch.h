/* Which kernel tables this CPU can run, best first. */
#ifndef VLEDGE_DISPATCH_H
#define VLEDGE_DISPATCH_H

#include "kernels.h"

/* The i-th table for the element type that this CPU can run, or NULL past the last. */
const vl_kernels *vl_runnable(int i, int f64);

/* Whether this CPU runs float's table's integer products by dots. */
int vl_has_dots(const vl_kernels *kernels);

/* Names of the CPU's features that matter here, separated by spaces. */
const char *vl_cpu_features(void);

#endif
