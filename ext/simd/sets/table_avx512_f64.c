#if defined(__x86_64__)
#define VL_F64 1
#define VL_TABLE vl_table_avx512_f64
#include "isa_avx512.h"
#include "instance.h"
#else
typedef int vl_no_avx512_here;
#endif
