/* AVX2 and FMA: 16 registers of 32 bytes. */
#pragma GCC target("avx2,fma")
#ifdef __clang__
#define VL_CLANG_TARGET
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#endif
#include <immintrin.h>

#define VL_ISA "avx2"
#define VL_BYTES 32
#define VL_TALLEST(vectors) ((vectors) == 4 ? 3 : (vectors) == 3 ? 4 : 6)

/* min and max give their second operand when one is NaN */
#if VL_F64
#define VL_SPLAT(s) ((vec)_mm256_set1_pd(s))
#define VL_FMA(a, b, c) ((vec)_mm256_fmadd_pd((__m256d)(a), (__m256d)(b), (__m256d)(c)))
#define VL_MIN(bound, x) ((vec)_mm256_min_pd((__m256d)(bound), (__m256d)(x)))
#define VL_MAX(bound, x) ((vec)_mm256_max_pd((__m256d)(bound), (__m256d)(x)))
#define VL_STORE_FIRST(p, v, n)                                                                                        \
    _mm256_maskstore_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3)), (__m256d)(v))
#define VL_LOAD_FIRST(p, n)                                                                                            \
    ((vec)_mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3))))
#else
#define VL_SPLAT(s) ((vec)_mm256_set1_ps(s))
#define VL_FMA(a, b, c) ((vec)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define VL_MIN(bound, x) ((vec)_mm256_min_ps((__m256)(bound), (__m256)(x)))
#define VL_MAX(bound, x) ((vec)_mm256_max_ps((__m256)(bound), (__m256)(x)))
#define VL_STORE_FIRST(p, v, n)                                                                                        \
    _mm256_maskstore_ps(p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), \
                        (__m256)(v))
#define VL_LOAD_FIRST(p, n)                                                                                            \
    ((vec)_mm256_maskload_ps(                                                                                          \
        p, _mm256_cmpgt_epi32(_mm256_set1_epi32((int)(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))))
#endif
