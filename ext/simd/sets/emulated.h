/* AVX-512's and AVX-VNNI's instructions lane by lane, for CPUs that lack them: the kernels are then as they are, slow,
 * and tested like the others. Only what the kernels use; a build has this where VLEDGE_EMULATE is set (setup.py).
 * Source: Intel's Intrinsics Guide. */
#ifndef VL_EMULATED_H
#define VL_EMULATED_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#define VL_LANES(vector, lane) ((int)(sizeof(vector) / sizeof(lane)))
#define VL_EMULATED static inline __attribute__((always_inline, unused))

/* of each lane an expression of a, b, c and the lane's place k */
#define VL_EMULATE_3(name, vector, lane, expression)                                                                   \
    VL_EMULATED vector name(vector va, vector vb, vector vc)                                                           \
    {                                                                                                                  \
        vector out;                                                                                                    \
        for (int k = 0; k < VL_LANES(vector, lane); k++) {                                                             \
            const lane a = va[k], b = vb[k], c = vc[k];                                                                \
            out[k] = (expression);                                                                                     \
        }                                                                                                              \
        return out;                                                                                                    \
    }
#define VL_EMULATE_2(name, vector, lane, expression)                                                                   \
    VL_EMULATED vector name(vector va, vector vb)                                                                      \
    {                                                                                                                  \
        vector out;                                                                                                    \
        for (int k = 0; k < VL_LANES(vector, lane); k++) {                                                             \
            const lane a = va[k], b = vb[k];                                                                           \
            out[k] = (expression);                                                                                     \
        }                                                                                                              \
        return out;                                                                                                    \
    }

/* arithmetic: of min and max the second operand where one is NaN */
VL_EMULATE_3(vl_emulated_fmadd_ps, __m512, float, __builtin_fmaf(a, b, c))
VL_EMULATE_3(vl_emulated_fmadd_pd, __m512d, double, __builtin_fma(a, b, c))
VL_EMULATE_2(vl_emulated_min_ps, __m512, float, a < b ? a : b)
VL_EMULATE_2(vl_emulated_max_ps, __m512, float, a > b ? a : b)
VL_EMULATE_2(vl_emulated_min_pd, __m512d, double, a < b ? a : b)
VL_EMULATE_2(vl_emulated_max_pd, __m512d, double, a > b ? a : b)
VL_EMULATE_2(vl_emulated_scalef_ps, __m512, float,
             isnan(a) || isnan(b) ? a + b : scalbnf(a, (int)fmaxf(fminf(floorf(b), 1000), -1000)))
VL_EMULATED __m512 vl_emulated_reduce_ps(__m512 x)
{
    __m512 out;
    for (int k = 0; k < 16; k++)
        out[k] = isinf(x[k]) ? 0 : x[k] - rintf(x[k]);
    return out;
}

/* masks: what is masked is neither read nor written */
#define VL_EMULATE_MASKED(letter, vector, lane, mask)                                                                  \
    VL_EMULATED vector vl_emulated_maskz_loadu_p##letter(mask which, const void *from)                                 \
    {                                                                                                                  \
        vector out = {0};                                                                                              \
        for (int k = 0; k < VL_LANES(vector, lane); k++)                                                               \
            if (which >> k & 1)                                                                                        \
                out[k] = ((const lane *)from)[k];                                                                      \
        return out;                                                                                                    \
    }                                                                                                                  \
    VL_EMULATED void vl_emulated_mask_storeu_p##letter(void *to, mask which, vector x)                                 \
    {                                                                                                                  \
        for (int k = 0; k < VL_LANES(vector, lane); k++)                                                               \
            if (which >> k & 1)                                                                                        \
                ((lane *)to)[k] = x[k];                                                                                \
    }                                                                                                                  \
    VL_EMULATED vector vl_emulated_mask_blend_p##letter(mask which, vector no, vector yes)                             \
    {                                                                                                                  \
        vector out;                                                                                                    \
        for (int k = 0; k < VL_LANES(vector, lane); k++)                                                               \
            out[k] = which >> k & 1 ? yes[k] : no[k];                                                                  \
        return out;                                                                                                    \
    }                                                                                                                  \
    VL_EMULATED mask vl_emulated_less_p##letter(vector a, vector b)                                                    \
    {                                                                                                                  \
        unsigned out = 0;                                                                                              \
        for (int k = 0; k < VL_LANES(vector, lane); k++)                                                               \
            out |= (unsigned)(a[k] < b[k]) << k;                                                                       \
        return (mask)out;                                                                                              \
    }
VL_EMULATE_MASKED(s, __m512, float, __mmask16)
VL_EMULATE_MASKED(d, __m512d, double, __mmask8)

/* integers, which wrap but where they are said to saturate */
typedef int8_t vl_emulated_i8 __attribute__((vector_size(64), may_alias));
typedef uint8_t vl_emulated_u8 __attribute__((vector_size(64), may_alias));
typedef int16_t vl_emulated_i16 __attribute__((vector_size(64), may_alias));
typedef int32_t vl_emulated_i32 __attribute__((vector_size(64), may_alias));
typedef uint32_t vl_emulated_u32 __attribute__((vector_size(64), may_alias));

VL_EMULATED __m512i vl_emulated_madd_epi16(__m512i a, __m512i b)
{
    vl_emulated_i16 x = (vl_emulated_i16)a, y = (vl_emulated_i16)b;
    vl_emulated_u32 out;
    for (int k = 0; k < 16; k++)
        out[k] = (uint32_t)(x[2 * k] * y[2 * k]) + (uint32_t)(x[2 * k + 1] * y[2 * k + 1]);
    return (__m512i)out;
}
VL_EMULATED __m512i vl_emulated_maddubs_epi16(__m512i a, __m512i b)
{
    vl_emulated_u8 x = (vl_emulated_u8)a;
    vl_emulated_i8 y = (vl_emulated_i8)b;
    vl_emulated_i16 out;
    for (int k = 0; k < 32; k++) {
        int sum = x[2 * k] * y[2 * k] + x[2 * k + 1] * y[2 * k + 1];
        out[k] = (int16_t)(sum > INT16_MAX ? INT16_MAX : sum < INT16_MIN ? INT16_MIN : sum);
    }
    return (__m512i)out;
}
#define VL_EMULATE_DOT(name, vector)                                                                                   \
    VL_EMULATED vector name(vector sums, vector a, vector b)                                                           \
    {                                                                                                                  \
        uint32_t out[sizeof(vector) / 4];                                                                              \
        uint8_t x[sizeof(vector)];                                                                                     \
        int8_t y[sizeof(vector)];                                                                                      \
        __builtin_memcpy(out, &sums, sizeof out);                                                                      \
        __builtin_memcpy(x, &a, sizeof x);                                                                             \
        __builtin_memcpy(y, &b, sizeof y);                                                                             \
        for (int k = 0; k < (int)sizeof x; k++)                                                                        \
            out[k / 4] += (uint32_t)(x[k] * y[k]);                                                                     \
        __builtin_memcpy(&sums, out, sizeof out);                                                                      \
        return sums;                                                                                                   \
    }
VL_EMULATE_DOT(vl_emulated_dpbusd_epi32, __m512i)
VL_EMULATE_DOT(vl_emulated_dpbusd_avx_epi32, __m256i)
#define VL_EMULATE_WORDS(name, vector)                                                                                 \
    VL_EMULATED vector name(vector sums, vector a, vector b)                                                           \
    {                                                                                                                  \
        uint32_t out[sizeof(vector) / 4];                                                                              \
        int16_t x[sizeof(vector) / 2], y[sizeof(vector) / 2];                                                          \
        __builtin_memcpy(out, &sums, sizeof out);                                                                      \
        __builtin_memcpy(x, &a, sizeof x);                                                                             \
        __builtin_memcpy(y, &b, sizeof y);                                                                             \
        for (int k = 0; k < (int)(sizeof x / 2); k++)                                                                  \
            out[k / 2] += (uint32_t)(x[k] * y[k]);                                                                     \
        __builtin_memcpy(&sums, out, sizeof out);                                                                      \
        return sums;                                                                                                   \
    }
VL_EMULATE_WORDS(vl_emulated_dpwssd_epi32, __m512i)
VL_EMULATE_WORDS(vl_emulated_dpwssd_avx_epi32, __m256i)
#define VL_EMULATE_WIDER(name, narrow, type, lanes, wide)                                                              \
    VL_EMULATED __m512i name(narrow x)                                                                                 \
    {                                                                                                                  \
        type from[sizeof(x) / sizeof(type)];                                                                           \
        __builtin_memcpy(from, &x, sizeof x);                                                                          \
        wide out;                                                                                                      \
        for (int k = 0; k < (lanes); k++)                                                                              \
            out[k] = from[k];                                                                                          \
        return (__m512i)out;                                                                                           \
    }
VL_EMULATE_WIDER(vl_emulated_cvtepu8_epi32, __m128i, uint8_t, 16, vl_emulated_i32)
VL_EMULATE_WIDER(vl_emulated_cvtepi8_epi32, __m128i, int8_t, 16, vl_emulated_i32)
VL_EMULATE_WIDER(vl_emulated_cvtepi8_epi16, __m256i, int8_t, 32, vl_emulated_i16)
VL_EMULATED __m128i vl_emulated_cvtepi32_epi8(__m512i a)
{
    vl_emulated_i32 x = (vl_emulated_i32)a;
    int8_t to[16];
    for (int k = 0; k < 16; k++)
        to[k] = (int8_t)x[k];
    __m128i out;
    __builtin_memcpy(&out, to, sizeof out);
    return out;
}

#define _mm512_fmadd_ps vl_emulated_fmadd_ps
#define _mm512_fmadd_pd vl_emulated_fmadd_pd
#define _mm512_min_ps vl_emulated_min_ps
#define _mm512_min_pd vl_emulated_min_pd
#define _mm512_max_ps vl_emulated_max_ps
#define _mm512_max_pd vl_emulated_max_pd
#define _mm512_scalef_ps vl_emulated_scalef_ps
#undef _mm512_reduce_ps
#define _mm512_reduce_ps(x, nearest_integer) vl_emulated_reduce_ps(x)
#define _mm512_maskz_loadu_ps vl_emulated_maskz_loadu_ps
#define _mm512_maskz_loadu_pd vl_emulated_maskz_loadu_pd
#define _mm512_mask_storeu_ps vl_emulated_mask_storeu_ps
#define _mm512_mask_storeu_pd vl_emulated_mask_storeu_pd
#define _mm512_mask_blend_ps vl_emulated_mask_blend_ps
#define _mm512_mask_blend_pd vl_emulated_mask_blend_pd
#undef _mm512_cmp_ps_mask
#undef _mm512_cmp_pd_mask
#define _mm512_cmp_ps_mask(a, b, less) vl_emulated_less_ps(a, b)
#define _mm512_cmp_pd_mask(a, b, less) vl_emulated_less_pd(a, b)
#define _mm512_set1_ps(x) ((float)(x) - (__m512){0}) /* which leaves -0 as it is */
#define _mm512_set1_pd(x) ((double)(x) - (__m512d){0})
#define _mm512_set1_epi16(x) ((__m512i)((vl_emulated_i16){0} + (int16_t)(x)))
#define _mm512_madd_epi16 vl_emulated_madd_epi16
#define _mm512_maddubs_epi16 vl_emulated_maddubs_epi16
#define _mm512_dpbusd_epi32 vl_emulated_dpbusd_epi32
#define _mm256_dpbusd_avx_epi32 vl_emulated_dpbusd_avx_epi32
#define _mm512_dpwssd_epi32 vl_emulated_dpwssd_epi32
#define _mm256_dpwssd_avx_epi32 vl_emulated_dpwssd_avx_epi32
#define _mm512_cvtepu8_epi32 vl_emulated_cvtepu8_epi32
#define _mm512_cvtepi8_epi32 vl_emulated_cvtepi8_epi32
#define _mm512_cvtepi8_epi16 vl_emulated_cvtepi8_epi16
#define _mm512_cvtepi32_epi8 vl_emulated_cvtepi32_epi8

#endif
