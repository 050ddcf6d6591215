#if defined(__aarch64__)
#define VL_F64 1
#define VL_TABLE vl_table_neon_f64
#include "isa_neon.h"
#include "instance.h"
#else
typedef int vl_no_neon_here;
#endif
