#include "limits_in_force.h"

#include <stddef.h>

vl_limits vl_limit = {
#define VL_LIMIT_VALUE(name, value, unit) .name = (value),
    VL_LIMITS(VL_LIMIT_VALUE)
};

const vl_named_limit vl_named_limits[] = {
#define VL_LIMIT_NAME(name, value, unit) {#name, unit, &vl_limit.name},
    VL_LIMITS(VL_LIMIT_NAME)
    {NULL, NULL, NULL}};
