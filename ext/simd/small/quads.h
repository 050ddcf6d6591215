/* A block's sums by VL_DOT, x86's instructions for bytes: vl_small's ways but the first, in the translation units that
 * have them. Who includes this has defined VL_DOT and, for names, VL_SMALL_SET.
 *
 * Bytes: x is unsigned, its integer plus the offset; the block's integers take the offset's share away. Where VL_DOT adds
 * two products in 16 bits (VL_BY_BYTES) they are such that this does not saturate: x + 127 <= 254 and no two
 * neighbouring weights sum to more than 129, 254 * 129 < 2^15. Planes: int16 as its lower byte and the upper one plus
 * 128, of which each is a dot product of its own.
 */
enum { VL_SMALL_MOST_ROWS = 4 };

VL_INLINE veci vl_quad_of_x(const char *x)
{
    int32_t quad;
    __builtin_memcpy(&quad, x, 4);
    return (veci){0} + quad;
}

VL_INLINE const char *vl_quads_add(const int planes, const int rows, const int vectors, veci (*sum)[VL_GROUP],
                                   const char *const *x, const char *w, ptrdiff_t k, ptrdiff_t terms, ptrdiff_t plane)
{
    veci upper[VL_SMALL_MOST_ROWS][VL_GROUP];
#pragma GCC unroll 32
    for (int i = 0; i < rows * vectors; i++)
        sum[i / vectors][i % vectors] = upper[i / vectors][i % vectors] = (veci){0};
#pragma GCC unroll 2
    for (ptrdiff_t end = k + terms; k < end; k += 4, w += vectors * VL_BYTES)
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const veci xs = vl_quad_of_x(x[r] + k);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[r][v] = VL_DOT(sum[r][v], xs, *(const vl_lanes *)(w + v * VL_BYTES));
            if (planes) {
                const veci above = vl_quad_of_x(x[r] + plane + k);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++)
                    upper[r][v] = VL_DOT(upper[r][v], above, *(const vl_lanes *)(w + v * VL_BYTES));
            }
        }
    if (planes)
#pragma GCC unroll 32
        for (int i = 0; i < rows * vectors; i++)
            sum[i / vectors][i % vectors] += upper[i / vectors][i % vectors] << 8;
    return w;
}

#define VL_NAME_OF(set, name) vl_small_##set##_##name
#define VL_NAME_OF_SET(set, name) VL_NAME_OF(set, name)

#define VL_SMALL(name) VL_NAME_OF_SET(VL_SMALL_SET, name)
#define VL_SMALL_ADD(wide, ...) vl_quads_add(0, __VA_ARGS__)
#define VL_SMALL_OFFSETS 1
#define VL_SMALL_WIDE 0
#define VL_SMALL_TALLEST (VL_BYTES == 64 ? 4 : 3)
#define VL_SMALL_LINKAGE
#include "simd/small/tile.h"

#ifdef VL_SMALL_SET_OF_PLANES
#define VL_SMALL(name) VL_NAME_OF_SET(VL_SMALL_SET_OF_PLANES, name)
#define VL_SMALL_ADD(wide, ...) vl_quads_add(1, __VA_ARGS__)
#define VL_SMALL_OFFSETS 1
#define VL_SMALL_WIDE 0
#define VL_SMALL_TALLEST (VL_BYTES == 64 ? 3 : 1)
#define VL_SMALL_LINKAGE
#include "simd/small/tile.h"
#endif
