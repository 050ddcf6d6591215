/* Small weights, and what kernels on them take. The words are those of kernels.h. */
#ifndef VLEDGE_SMALL_KERNELS_H
#define VLEDGE_SMALL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Small weights: integers q, and a scale for each row of the matrix and block of terms k. A row of x becomes integers
 * with one scale, so that its largest number is `levels` of them. Both are such that a block's sum of products is exact
 * in int32, whatever x: it is the same for all tiles, threads and instruction sets.
 *
 *   out[r][c] = start[r][c] + x_scale[r] * sum over blocks b of scale[b][c] * (sum over k in b of x[r][k] q[k][c])
 *
 * w[group] is one block after another: scales[vector in group][L]; where x has an offset, as many int32,
 * -offset * the sum of q over the block; then q[k / terms][vector in group][L][k % terms], each with the weights' offset
 * added. Past the depth, to a multiple of VL_SMALL_STEP terms, q is 0. */
enum { VL_SMALL_STEP = 4 };

enum { VL_SMALL_MOST_ROWS = 4 }; /* of a tile */

/* Terms that share a scale. 32 are worth a third of the error of whole rows on trained networks, and 3 % of the time;
 * twice as many are as good where x has 8 bits only. */
enum { VL_INT8_LEVELS = 127 * 256 + 127 }; /* the most that two signed bytes hold */
enum { VL_INT8_BLOCK = 32, VL_INT16_BLOCK = 32, VL_INT8_FAST_BLOCK = 64 };

/* What a row of x becomes, at vl_small_row_of (small/rows.h): int16; bytes, the integer plus the offset; or two planes of
 * signed bytes, integer = 256 upper + lower. */
typedef enum { VL_ROW_INT16, VL_ROW_BYTES, VL_ROW_PLANES } vl_small_form;

/* Rows times one group, as vl_small has it; or one row times several. */
typedef struct {
    ptrdiff_t rows, depth;
    int vectors;                        /* of the group */
    int block, wide;                    /* vl_small's block; whether weights are int16 */
    const char *x;                      /* rows in their small form, vl_small_row_bytes(depth) apart */
    const char *w;
    const float *start;                 /* row r's sums begin with start + r * ld_start, ... */
    ptrdiff_t ld_start;
    const float *last;                  /* ... but for the last vector of each with this, where it is not NULL */
    float *out;
    ptrdiff_t ld_out;
    ptrdiff_t groups;                   /* of one row; 1 where there are more rows. From one to the next: ... */
    ptrdiff_t group_bytes;              /* ... of w, ... */
    ptrdiff_t group_start, group_last, group_out; /* ... and numbers; all of them may be negative */
} vl_small_product;

typedef struct {
    int block, levels;
    int offset;                         /* of the integers of x, ... */
    int weight_offset;                  /* ... or of the weights */
    int weight_bytes;
    int terms;                          /* that stand side by side in a lane */
    vl_small_form form;
    int way;                            /* of vl_byte_product's, which the CPU has to have */
    void (*product)(const vl_small_product *);
} vl_small;

/* A small row: bytes before its integers, of which the first are a float, the scale; the integers, two planes of them; and
 * where weights have an offset an int32 for each block, -weight_offset * the sum of the row's integers. */
enum { VL_SMALL_HEAD = 64 };
static inline ptrdiff_t vl_small_plane(ptrdiff_t depth) { return (depth + 63) & ~(ptrdiff_t)63; }
static inline ptrdiff_t vl_small_row_bytes(ptrdiff_t depth)
{
    const ptrdiff_t undo = (ptrdiff_t)sizeof(int32_t) * (vl_small_plane(depth) / VL_INT8_BLOCK);
    return VL_SMALL_HEAD + 2 * vl_small_plane(depth) + ((undo + 63) & ~(ptrdiff_t)63);
}

/* Bytes of one vector of packed weights, over all blocks. */
static inline ptrdiff_t vl_small_vector_bytes(const vl_small *small, ptrdiff_t depth, int lanes)
{
    const ptrdiff_t blocks = (depth + small->block - 1) / small->block;
    const ptrdiff_t terms = (depth + VL_SMALL_STEP - 1) / VL_SMALL_STEP * VL_SMALL_STEP;
    return lanes * (blocks * (small->offset ? 8 : 4) + terms * small->weight_bytes);
}

#endif
