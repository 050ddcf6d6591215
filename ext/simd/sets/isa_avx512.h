/* AVX-512 F, VL, BW, DQ: 32 registers of 64 bytes. */
#ifdef VLEDGE_EMULATE
#pragma GCC target("avx2,fma")
#include "emulated.h"
#else
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")
#ifdef __clang__
#define VL_CLANG_TARGET
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"))),                   \
                             apply_to = function)
#endif
#include <immintrin.h>
#endif

#define VL_ISA "avx512"
#define VL_BYTES 64
#define VL_TALLEST(vectors) ((vectors) == 4 ? 6 : 8)

/* min and max give their second operand when one is NaN */
#if VL_F64
#define VL_SPLAT(s) ((vec)_mm512_set1_pd(s))
#define VL_FMA(a, b, c) ((vec)_mm512_fmadd_pd((__m512d)(a), (__m512d)(b), (__m512d)(c)))
#define VL_MIN(bound, x) ((vec)_mm512_min_pd((__m512d)(bound), (__m512d)(x)))
#define VL_MAX(bound, x) ((vec)_mm512_max_pd((__m512d)(bound), (__m512d)(x)))
#define VL_IF_LESS(a, b, yes, no)                                                                                      \
    ((vec)_mm512_mask_blend_pd(_mm512_cmp_pd_mask((__m512d)(a), (__m512d)(b), _CMP_LT_OQ), (__m512d)(no),              \
                               (__m512d)(yes)))
#define VL_NOTE_NAN(seen, x)                                                                                           \
    ((vec)_mm512_mask_mov_pd((__m512d)(seen), _mm512_cmp_pd_mask((__m512d)(x), (__m512d)(x), _CMP_UNORD_Q),            \
                             (__m512d)(x)))
#define VL_STORE_FIRST(p, v, n) _mm512_mask_storeu_pd(p, (__mmask8)((1u << (n)) - 1), (__m512d)(v))
#define VL_LOAD_FIRST(p, n) ((vec)_mm512_maskz_loadu_pd((__mmask8)((1u << (n)) - 1), p))
#else
#define VL_SPLAT(s) ((vec)_mm512_set1_ps(s))
#define VL_FMA(a, b, c) ((vec)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define VL_MIN(bound, x) ((vec)_mm512_min_ps((__m512)(bound), (__m512)(x)))
#define VL_MAX(bound, x) ((vec)_mm512_max_ps((__m512)(bound), (__m512)(x)))
#define VL_IF_LESS(a, b, yes, no)                                                                                      \
    ((vec)_mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512)(a), (__m512)(b), _CMP_LT_OQ), (__m512)(no), (__m512)(yes)))
/* y less the nearest integer, 0 for infinities; and p 2^n */
#define VL_FRACTION(y) ((vec)_mm512_reduce_ps((__m512)(y), 0x08))
#define VL_TIMES_POWER(p, n) ((vec)_mm512_scalef_ps((__m512)(p), (__m512)(n)))
#define VL_NOTE_NAN(seen, x)                                                                                           \
    ((vec)_mm512_mask_mov_ps((__m512)(seen), _mm512_cmp_ps_mask((__m512)(x), (__m512)(x), _CMP_UNORD_Q), (__m512)(x)))
#define VL_STORE_FIRST(p, v, n) _mm512_mask_storeu_ps(p, (__mmask16)((1u << (n)) - 1), (__m512)(v))
#define VL_LOAD_FIRST(p, n) ((vec)_mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), p))
#endif
