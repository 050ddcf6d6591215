#if defined(__x86_64__)
#define VL_F64 0
#define VL_TABLE vl_table_avx2_f32
#include "simd/bytes/byte_products.h"
#if VL_HAVE_AVX_VNNI
#define VL_INTEGERS_BY_DOTS vl_integers_avxvnni
#endif
#define VL_INTEGERS_BY_BYTES vl_integers_avx2bytes
#include "isa_avx2.h"
#include "instance.h"
#else
typedef int vl_no_avx2_here;
#endif
