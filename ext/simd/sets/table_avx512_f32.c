#if defined(__x86_64__)
#define VL_F64 0
#define VL_TABLE vl_table_avx512_f32
#include "simd/bytes/byte_products.h"
#define VL_INTEGERS_BY_DOTS vl_integers_avx512vnni
#define VL_INTEGERS_BY_BYTES vl_integers_avx512bytes
#define VL_SMALL_BY_QUADS vl_small_avx512vnni_product
#define VL_SMALL_BY_PLANES vl_small_avx512planes_product
#define VL_SMALL_BY_WORDS vl_small_avx512words_product
#define VL_SMALL_BY_BYTES vl_small_avx512bytes_product
#include "isa_avx512.h"
#include "instance.h"
#else
typedef int vl_no_avx512_here;
#endif
