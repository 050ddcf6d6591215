#include <stddef.h>

#include "limits_in_force.h"
#include "simd/kernels.h"

vl_limits vl_limit = {
#define LIMIT(name, value, unit) .name = (value),
#include "limit_list.h"
#undef LIMIT
};

const vl_named_limit vl_named_limits[] = {
#define LIMIT(name, value, unit) {#name, unit, &vl_limit.name},
#include "limit_list.h"
#undef LIMIT
    {NULL, NULL, NULL}};
