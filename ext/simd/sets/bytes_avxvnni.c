#include "simd/bytes/byte_products.h"

#if VL_HAVE_AVX_VNNI
#define VL_F64 0
#include "isa_avx2.h"
#ifdef VLEDGE_EMULATE
#include "emulated.h"
#else
#pragma GCC target("avxvnni")
#endif
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avxvnni"))), apply_to = function)
#endif
#include "simd/vectors/vec.h"
#include "simd/vectors/bytes.h"

#define VL_DOT(sum, x, w) ((veci)_mm256_dpbusd_avx_epi32((__m256i)(sum), (__m256i)(x), (__m256i)(w)))
#define VL_DOT_SETS 2 /* the instruction takes 4 or 5 cycles */
#define VL_DOT_NAME vl_integers_avxvnni
#include "simd/bytes/integer.h"

#define VL_SMALL_SET avxvnni
#define VL_SMALL_SET_OF_PLANES avxplanes
#include "simd/small/quads.h"

#define VL_ADD_PAIRS(sum, a, b) ((veci)_mm256_dpwssd_avx_epi32((__m256i)(sum), (__m256i)(a), (__m256i)(b)))
#define VL_WORDS(name) vl_small_avxwords_##name
#include "simd/small/pairs.h"

#ifdef __clang__
#pragma clang attribute pop
#pragma clang attribute pop
#endif
#else
typedef int vl_no_avxvnni_here;
#endif
