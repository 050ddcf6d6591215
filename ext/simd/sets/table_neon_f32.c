#if defined(__aarch64__) || defined(__arm__)
#define VL_F64 0
#define VL_TABLE vl_table_neon_f32
#include "simd/bytes/byte_products.h"
#if VL_HAVE_NEON_DOTS
#define VL_INTEGERS_BY_DOTS vl_integers_neondots
#define VL_SMALL_BY_QUADS vl_small_neondots_product
#define VL_SMALL_BY_PLANES vl_small_neonplanes_product
#endif
#include "isa_neon.h"
#include "instance.h"
#else
typedef int vl_no_neon_here;
#endif
