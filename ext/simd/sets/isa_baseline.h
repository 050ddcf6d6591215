/* What every CPU of the architecture has: 16-byte vectors spelled in the compiler's own vector
 * extensions, without FMA. On x86-64 that is SSE2. */
#if defined(__SSE2__)
#include <emmintrin.h>
#define VL_ISA "sse2"
#else
#define VL_ISA "generic"
#endif
#define VL_BYTES 16
/* 16 registers, and a product needs one more than an FMA does */
#define VL_TALLEST(vectors) ((vectors) == 4 ? 2 : (vectors) == 3 ? 3 : 4)

#if VL_F64
#define VL_SPLAT(s) ((vec){(s), (s)})
#else
#define VL_SPLAT(s) ((vec){(s), (s), (s), (s)})
#endif
