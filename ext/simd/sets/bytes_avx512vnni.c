#include "simd/bytes/byte_products.h"

#if defined(__x86_64__)
#define VL_F64 0
#include "isa_avx512.h"
#ifdef VLEDGE_EMULATE
#include "emulated.h"
#else
#pragma GCC target("avx512vnni")
#endif
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512vnni"))), apply_to = function)
#endif
#include "simd/vectors/vec.h"
#include "simd/vectors/bytes.h"

#define VL_DOT(sum, x, w) ((veci)_mm512_dpbusd_epi32((__m512i)(sum), (__m512i)(x), (__m512i)(w)))
#define VL_DOT_SETS 2 /* the instruction takes 4 or 5 cycles */
#define VL_DOT_NAME vl_integers_avx512vnni
#include "simd/bytes/integer.h"

#define VL_SMALL_SET avx512vnni
#define VL_SMALL_SET_OF_PLANES avx512planes
#include "simd/small/quads.h"

#define VL_ADD_PAIRS(sum, a, b) ((veci)_mm512_dpwssd_epi32((__m512i)(sum), (__m512i)(a), (__m512i)(b)))
#define VL_WORDS(name) vl_small_avx512words_##name
#include "simd/small/pairs.h"

#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute pop
#endif
#else
typedef int vl_no_avx512vnni_here;
#endif
