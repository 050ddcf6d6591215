#if defined(__aarch64__) || defined(__arm__)
#define VL_F64 0
#define VL_TABLE vl_table_neon_f32
#include "isa_neon.h"
#include "instance.h"
#else
typedef int vl_no_neon_here;
#endif
