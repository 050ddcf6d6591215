/* The thresholds of limit_list.h as they are now, for the module that holds them; others are given a pointer. */
#ifndef VLEDGE_LIMITS_IN_FORCE_H
#define VLEDGE_LIMITS_IN_FORCE_H

#include "named_limits.h"

extern vl_limits vl_limit;

/* By name, in the order of limit_list.h; a name of NULL ends the list. */
extern const vl_named_limit vl_named_limits[];

#endif
