#include "simd/bytes/byte_products.h"

#if VL_HAVE_NEON_DOTS
#define VL_F64 0
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
#include "isa_neon.h"
#include "simd/vectors/vec.h"
#include "simd/vectors/bytes.h"

/* Both factors are unsigned, or both signed. A lane of x is four bytes. */
#define VL_DOT(sum, x, w) ((veci)vdotq_u32((uint32x4_t)(sum), (uint8x16_t)(x), (uint8x16_t)(w)))
#define VL_DOT_LANE(sum, x, lane, w) ((veci)vdotq_laneq_u32((uint32x4_t)(sum), (uint8x16_t)(w), (uint8x16_t)(x), lane))
#define VL_DOT_SETS 1
#define VL_DOT_NAME vl_integers_neondots
#include "simd/bytes/integer.h"

#undef VL_DOT
#undef VL_DOT_LANE
#define VL_DOT(sum, x, w) ((veci)vdotq_s32((int32x4_t)(sum), (int8x16_t)(x), (int8x16_t)(w)))
#define VL_DOT_LANE(sum, x, lane, w) ((veci)vdotq_laneq_s32((int32x4_t)(sum), (int8x16_t)(w), (int8x16_t)(x), lane))
#define VL_SMALL_SET neondots
#define VL_SMALL_SET_OF_PLANES neonplanes
#include "simd/small/quads.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int vl_no_neondots_here;
#endif
