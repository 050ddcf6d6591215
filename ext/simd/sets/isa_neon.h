/* NEON: 32 registers of 16 bytes on 64-bit Arm (its baseline), 16 on 32-bit Arm with VFPv4.
 * The 32-bit unit has no double vectors: float64 stays with the baseline there. */
#if defined(__arm__)
/* GCC splits float vectors into scalars on 32-bit Arm unless it may flush subnormals, which the
 * unit does anyway. Sums stay in their order all the same: a row has the same bits in every tile. */
#pragma GCC target("fpu=neon-vfpv4")
#pragma GCC optimize("unsafe-math-optimizations", "no-associative-math", "signed-zeros")
#define VL_TALLEST(vectors) ((vectors) == 4 ? 2 : (vectors) == 3 ? 3 : 4)
#else
/* GCC loads every row's x before the first product: six rows of four would spill (tools/arm_estimates.py) */
#define VL_TALLEST(vectors) ((vectors) == 4 ? 5 : (vectors) == 3 ? 7 : 8)
#endif
#include <arm_neon.h>

#define VL_ISA "neon"
#define VL_NEON
#define VL_BYTES 16

/* min and max give NaN when one operand is NaN */
#if VL_F64
#define VL_SPLAT(s) ((vec)vdupq_n_f64(s))
#define VL_FMA(a, b, c) ((vec)vfmaq_f64((float64x2_t)(c), (float64x2_t)(a), (float64x2_t)(b)))
#define VL_MIN(bound, x) ((vec)vminq_f64((float64x2_t)(bound), (float64x2_t)(x)))
#define VL_MAX(bound, x) ((vec)vmaxq_f64((float64x2_t)(bound), (float64x2_t)(x)))
#else
#define VL_SPLAT(s) ((vec)vdupq_n_f32(s))
#define VL_FMA(a, b, c) ((vec)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define VL_MIN(bound, x) ((vec)vminq_f32((float32x4_t)(bound), (float32x4_t)(x)))
#define VL_MAX(bound, x) ((vec)vmaxq_f32((float32x4_t)(bound), (float32x4_t)(x)))
#endif
