/* A block's sums by VL_DOT, an instruction that multiplies bytes: vl_small's ways but the first, in the translation units
 * that have one. Who includes this has defined VL_DOT(sum, unsigned, signed) and, for names, VL_SMALL_SET. On Arm it is
 * VL_DOT(sum, signed, signed), and nothing has an offset; VL_DOT_LANE takes one of four quads of x.
 *
 * Where VL_DOT adds two products in 16 bits (VL_BY_BYTES) x is unsigned, its integer plus the offset, for that does not
 * saturate: x + 127 <= 254 and no two neighbouring weights sum to more than 129, 254 * 129 < 2^15. Each block has the
 * integers that take the offset's share away.
 *
 * Where it does not saturate (VL_BY_QUADS) the weights are unsigned: the offset's share is then the same for all
 * columns, one integer that a row's sums begin with, and nothing has to be read for it. Planes: a dot product of the
 * lower bytes, and one of the upper ones.
 */
#ifdef VL_SMALL_SET_OF_PLANES
#define VL_SMALL_DOT(sum, x, w) VL_DOT(sum, w, x)
#else
#define VL_SMALL_DOT(sum, x, w) VL_DOT(sum, x, w)
#endif

VL_INLINE veci vl_quad_of_x(const char *x)
{
    int32_t quad;
    __builtin_memcpy(&quad, x, 4);
    return (veci){0} + quad;
}

/* One quad of terms. */
VL_INLINE void vl_quad_add(const int planes, const int rows, const int vectors, veci (*sum)[VL_GROUP],
                           veci (*upper)[VL_GROUP], const char *const *x, const char *w, ptrdiff_t k, ptrdiff_t plane)
{
    veci own[VL_GROUP];
#pragma GCC unroll 4
    for (int v = 0; v < vectors; v++) {
        own[v] = *(const vl_lanes *)(w + v * VL_BYTES);
        if (rows > 1 || planes)
            VL_KEEP(own[v]);
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        const veci xs = vl_quad_of_x(x[r] + k);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[r][v] = VL_SMALL_DOT(sum[r][v], xs, own[v]);
        if (planes) {
            const veci above = vl_quad_of_x(x[r] + plane + k);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                upper[r][v] = VL_SMALL_DOT(upper[r][v], above, own[v]);
        }
    }
}

#ifdef VL_DOT_LANE
/* Makes four vectors come from registers from here on: their loads are then two, of which a core that runs in order waits
 * for one (a quarter of a row's time on the A55, as tools/arm_estimates.py has it). */
#define VL_KEEP_FOUR(v) __asm__("" : "+w"((v)[0]), "+w"((v)[1]), "+w"((v)[2]), "+w"((v)[3]))

/* Four quads of terms, of which x's are in one vector. */
VL_INLINE void vl_lanes_add(const int planes, const int rows, const int vectors, veci (*sum)[VL_GROUP],
                            veci (*upper)[VL_GROUP], const char *const *x, const char *w, ptrdiff_t k, ptrdiff_t plane)
{
    veci xs[VL_SMALL_MOST_ROWS], above[VL_SMALL_MOST_ROWS];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        xs[r] = *(const vl_lanes *)(x[r] + k);
        if (planes)
            above[r] = *(const vl_lanes *)(x[r] + plane + k);
    }
#define VL_OF_LANE(lane)                                                                                               \
    {                                                                                                                  \
        veci own[VL_GROUP] = {{0}};                                                                                    \
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++) own[v] =                                             \
            *(const vl_lanes *)(w + ((lane) * vectors + v) * VL_BYTES);                                                \
        if (rows == 1 && vectors == VL_GROUP)                                                                          \
            VL_KEEP_FOUR(own);                                                                                         \
        _Pragma("GCC unroll 4") for (int v = 0; v < vectors; v++)                                                      \
            _Pragma("GCC unroll 4") for (int r = 0; r < rows; r++)                                                     \
        {                                                                                                              \
            sum[r][v] = VL_DOT_LANE(sum[r][v], xs[r], lane, own[v]);                                                   \
            if (planes)                                                                                                \
                upper[r][v] = VL_DOT_LANE(upper[r][v], above[r], lane, own[v]);                                        \
        }                                                                                                              \
    }
    VL_OF_LANE(0)
    VL_OF_LANE(1)
    VL_OF_LANE(2)
    VL_OF_LANE(3)
#undef VL_OF_LANE
}
#endif

VL_INLINE const char *vl_quads_run(const int planes, const int whole, const int rows, const int vectors,
                                   veci (*sum)[VL_GROUP], veci (*upper)[VL_GROUP], const char *const *x, const char *w,
                                   ptrdiff_t k, ptrdiff_t terms, ptrdiff_t plane)
{
    const ptrdiff_t end = k + terms;
#ifdef VL_DOT_LANE
    for (; k + 16 <= end; k += 16, w += 4 * vectors * VL_BYTES)
        vl_lanes_add(planes, rows, vectors, sum, upper, x, w, k, plane);
    if (whole)
        return w;
#endif
    if (whole && rows == 1) {
#pragma GCC unroll 8
        for (; k < end; k += 4, w += vectors * VL_BYTES)
            vl_quad_add(planes, rows, vectors, sum, upper, x, w, k, plane);
    } else if (whole) {
#pragma GCC unroll 4
        for (; k < end; k += 4, w += vectors * VL_BYTES)
            vl_quad_add(planes, rows, vectors, sum, upper, x, w, k, plane);
    } else
        for (; k < end; k += 4, w += vectors * VL_BYTES)
            vl_quad_add(planes, rows, vectors, sum, upper, x, w, k, plane);
    return w;
}

/* One row takes both planes at each load of w, which bounds it. More rows take one plane after the other in the same
 * sums: with those of both, the float sums would have no registers. */
VL_INLINE const char *vl_quads_add(const int planes, const int whole, const int rows, const int vectors,
                                   veci (*sum)[VL_GROUP], const char *const *x, const char *w, ptrdiff_t k,
                                   ptrdiff_t terms, ptrdiff_t plane)
{
    const int in_turn = planes && rows > 1;
    veci upper[VL_SMALL_MOST_ROWS][VL_GROUP];
    const char *above[VL_SMALL_MOST_ROWS];
    for (int r = 0; r < rows; r++)
        above[r] = x[r] + plane;
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++)
        sum[i / vectors][i % vectors] = upper[i / vectors][i % vectors] = (veci){0};
    if (in_turn)
        vl_quads_run(0, whole, rows, vectors, sum, upper, above, w, k, terms, 0);
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
#if defined(VL_SMALL_SET_OF_PLANES) && !defined(VL_DOT_LANE)
        const veci undo = vl_quad_of_x(x[r] + 2 * plane + k / (planes ? VL_INT8_BLOCK : VL_INT8_FAST_BLOCK) * 4);
#else
        const veci undo = {0};
#endif
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[r][v] = (sum[r][v] << 8) + undo;
    }
    w = vl_quads_run(planes && !in_turn, whole, rows, vectors, sum, upper, x, w, k, terms, plane);
    if (planes && !in_turn)
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++)
            sum[0][v] += upper[0][v] << 8;
    return w;
}

#define VL_NAME_OF(set, name) vl_small_##set##_##name
#define VL_NAME_OF_SET(set, name) VL_NAME_OF(set, name)

#define VL_SMALL(name) VL_NAME_OF_SET(VL_SMALL_SET, name)
#define VL_SMALL_ADD(wide, ...) vl_quads_add(0, __VA_ARGS__)
#define VL_SMALL_WHOLE VL_INT8_FAST_BLOCK
#ifdef VL_SMALL_SET_OF_PLANES
#define VL_SMALL_OFFSETS 0
#else
#define VL_SMALL_OFFSETS 1
#endif
#define VL_SMALL_WIDE 0
#define VL_SMALL_TALLEST 3
#define VL_SMALL_LINKAGE
#include "simd/small/tile.h"

#ifdef VL_SMALL_SET_OF_PLANES
#define VL_SMALL(name) VL_NAME_OF_SET(VL_SMALL_SET_OF_PLANES, name)
#define VL_SMALL_ADD(wide, ...) vl_quads_add(1, __VA_ARGS__)
#define VL_SMALL_WHOLE VL_INT8_BLOCK
#define VL_SMALL_OFFSETS 0
#define VL_SMALL_WIDE 0
#define VL_SMALL_TALLEST 3
#define VL_SMALL_LINKAGE
#include "simd/small/tile.h"
#endif
