#if defined(__x86_64__)
#define VL_F64 0
#define VL_TABLE vl_table_avx2_f32
#include "simd/bytes/byte_products.h"
#if VL_HAVE_AVX_VNNI
#define VL_INTEGERS_BY_DOTS vl_integers_avxvnni
#define VL_SMALL_BY_QUADS vl_small_avxvnni_product
#define VL_SMALL_BY_PLANES vl_small_avxplanes_product
#define VL_SMALL_BY_WORDS vl_small_avxwords_product
#endif
#define VL_INTEGERS_BY_BYTES vl_integers_avx2bytes
#define VL_SMALL_BY_BYTES vl_small_avx2bytes_product
#include "isa_avx2.h"
#include "instance.h"
#else
typedef int vl_no_avx2_here;
#endif
