/* The thresholds of limit_list.h, for whoever reads them. */
#ifndef VLEDGE_NAMED_LIMITS_H
#define VLEDGE_NAMED_LIMITS_H

#include <stdint.h>

typedef struct {
#define LIMIT(name, value, unit) int64_t name;
#include "limit_list.h"
#undef LIMIT
} vl_limits;

typedef struct {
    const char *name, *unit;
    int64_t *value;
} vl_named_limit;

#endif
