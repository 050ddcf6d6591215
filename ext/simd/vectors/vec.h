/* The vector type of one instruction set and element type: loads, stores, and the few operations
 * that GCC's and Clang's vector extensions do not spell.
 *
 * The includer defines VL_BYTES (vector size), VL_F64 (0 or 1), VL_TALLEST(vectors), the height of row
 * tiles for panels so many vectors wide (tile.h counts the registers), VL_SPLAT(s) and, where the
 * instruction set has them, VL_FMA(a, b, c) = a*b + c rounded once, VL_MIN / VL_MAX(bound, x)
 * that give NaN when x is NaN, VL_IF_LESS(a, b, yes, no), and VL_LOAD_FIRST(p, n) and VL_STORE_FIRST(p, v, n) for the
 * first n < L lanes alone. What it leaves out is defined here in terms that every CPU runs.
 */
#if VL_F64
typedef double real;
typedef int64_t vl_int;
typedef uint64_t vl_uint;
#else
typedef float real;
typedef int32_t vl_int;
typedef uint32_t vl_uint;
/* 1.5 2^23: a number below 2^22 that it is added to is rounded to a whole one, halves to even, in the low bits. */
#define VL_ROUNDER 12582912.0f
#endif

enum { L = VL_BYTES / sizeof(real) };

typedef real vec __attribute__((vector_size(VL_BYTES), may_alias));
typedef real vec_unaligned __attribute__((vector_size(VL_BYTES), aligned(sizeof(real)), may_alias));
typedef vl_int veci __attribute__((vector_size(VL_BYTES), may_alias));
typedef vl_uint vecu __attribute__((vector_size(VL_BYTES), may_alias)); /* wraps around */
typedef vl_int vl_lane __attribute__((may_alias)); /* one lane's bits */

#define VL_INLINE static inline __attribute__((always_inline))

#ifndef VL_FMA
#define VL_FMA(a, b, c) ((a) * (b) + (c))
#endif

VL_INLINE vec vl_select(veci mask, vec yes, vec no) { return (vec)(((veci)yes & mask) | ((veci)no & ~mask)); }

#ifndef VL_MIN
#define VL_MIN(bound, x) vl_select((x) > (bound), bound, x)
#define VL_MAX(bound, x) vl_select((x) < (bound), bound, x)
#endif

/* `seen`, in which lanes become NaN, and stay so, where x is. */
#ifndef VL_NOTE_NAN
#define VL_NOTE_NAN(seen, x) ((vec)((veci)(seen) | ((x) != (x))))
#endif

/* How often a tile's k loop is unrolled. x86-64: a core whose other thread is busy issues half as much, and
 * fewer instructions are 2 to 5 % there. On Arm two passes at once want more registers than there are. */
#if defined(__x86_64__)
enum { VL_UNROLL = 2 };
#else
enum { VL_UNROLL = 1 };
#endif

#ifndef VL_IF_LESS
#define VL_IF_LESS(a, b, yes, no) vl_select((a) < (b), yes, no)
#endif

/* Makes v come from a register from here on: left to itself, GCC loads a vector that is used two or three
 * times anew for each use, and waits for the second-level cache as often. */
#if defined(__x86_64__) && !defined(VLEDGE_EMULATE) /* where a vector may be wider than a register */
#define VL_KEEP(v) __asm__("" : "+v"(v))
#elif defined(__ARM_NEON)
#define VL_KEEP(v) __asm__("" : "+w"(v))
#else
#define VL_KEEP(v) ((void)(v))
#endif

VL_INLINE vec vl_load(const real *p) { return *(const vec_unaligned *)p; }
VL_INLINE void vl_store(real *p, vec v) { *(vec_unaligned *)p = v; }

/* The first n lanes, 0 < n <= L: what lies behind p + n belongs to someone else. */
#ifndef VL_STORE_FIRST
#define VL_STORE_FIRST(p, v, n) _Pragma("GCC unroll 8") for (int i = 0; i < L - 1; i++) if (i < (n))(p)[i] = (v)[i]
#endif

VL_INLINE void vl_store_first(real *p, vec v, ptrdiff_t n)
{
    if (n == L)
        vl_store(p, v);
    else {
        VL_STORE_FIRST(p, v, n);
    }
}

/* The first n lanes, 0 < n <= L, and zeros: what lies behind p + n is not read. */
#ifndef VL_LOAD_FIRST
VL_INLINE vec vl_load_lanes(const real *p, ptrdiff_t n)
{
    vec v = VL_SPLAT(0);
    for (int i = 0; i < L - 1; i++)
        if (i < n)
            v[i] = p[i];
    return v;
}
#define VL_LOAD_FIRST(p, n) vl_load_lanes(p, n)
#endif

VL_INLINE vec vl_load_first(const real *p, ptrdiff_t n) { return n == L ? vl_load(p) : VL_LOAD_FIRST(p, n); }
