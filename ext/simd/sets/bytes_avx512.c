#include "simd/bytes/byte_products.h"

#if defined(__x86_64__)
#define VL_F64 0
#include "isa_avx512.h"
#include "simd/vectors/vec.h"
#include "simd/vectors/bytes.h"

VL_INLINE veci vl_dot(veci sum, veci x, veci w)
{
    __m512i pairs = _mm512_maddubs_epi16((__m512i)x, (__m512i)w);
    return sum + (veci)_mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
}
#define VL_DOT vl_dot
#define VL_DOT_SETS 1
#define VL_DOT_NAME vl_integers_avx512bytes
#include "simd/bytes/integer.h"

#define VL_SMALL_SET avx512bytes
#include "simd/small/quads.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int vl_no_avx512bytes_here;
#endif
