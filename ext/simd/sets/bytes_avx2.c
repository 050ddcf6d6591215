#include "simd/bytes/byte_products.h"

#if defined(__x86_64__)
#define VL_F64 0
#include "isa_avx2.h"
#include "simd/vectors/vec.h"
#include "simd/vectors/bytes.h"

VL_INLINE veci vl_dot(veci sum, veci x, veci w)
{
    __m256i pairs = _mm256_maddubs_epi16((__m256i)x, (__m256i)w);
    return sum + (veci)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#define VL_DOT vl_dot
#define VL_DOT_SETS 1
#define VL_DOT_NAME vl_integers_avx2bytes
#include "simd/bytes/integer.h"

#define VL_SMALL_SET avx2bytes
#include "simd/small/quads.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int vl_no_avx2bytes_here;
#endif
