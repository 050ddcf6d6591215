/* A matrix of bytes that is packed beforehand, and products with it: what handlers on integers share. */
#ifndef VLEDGE_INTEGER_H
#define VLEDGE_INTEGER_H

#include "program.h"

typedef struct {
    int way;                    /* byte_kernels.h: VL_BY_PAIRS or VL_BY_QUADS */
    int64_t depth, columns, runs; /* of how many runs a row of x is, as long each */
    const uint8_t *w;
    const int32_t *sums, *zeros; /* zeros, scales and bias: or NULL */
    const int64_t *starts;       /* VL_BY_BYTES: byte_kernels.h */
    const int32_t *extra_starts, *extras;
    const float *scales, *bias;
} vl_integer_matrix;

/* As an instruction names it. ints: the way, depth, columns, runs, and which of zeros (1), scales (2) and bias (4) there are;
 * objects: w, sums, by bytes starts, extra_starts and extras, and those. Answers how many objects that are. */
enum { VL_MATRIX_INTS = 5 };
int vl_read_matrix(const int64_t *ints, void *const *objects, vl_integer_matrix *matrix);

/* Bytes of a run of x that the product reads, in whole fours, and of a row. */
static inline int64_t vl_run_bytes(const vl_integer_matrix *matrix)
{
    return (matrix->depth / matrix->runs + 3) & ~(int64_t)3;
}
static inline int64_t vl_row_bytes(const vl_integer_matrix *matrix) { return matrix->runs * vl_run_bytes(matrix); }

/* What a zero point that all rows have takes off the sums, taken off what is added to them. */
void vl_add_zero(vl_requantising *finish, int64_t columns, const int32_t *sums, int32_t zero);

/* Multiplies on the frame's threads. The product has rows, x, x_rows, x_zeros, x_sums, x_scale and out, and of a matrix
 * of several runs run_starts. */
void vl_multiply_integers(vl_frame *f, const vl_integer_matrix *matrix, vl_byte_product *product);
/* The same on one thread: what a thread calls. */
void vl_multiply_here(const vl_kernels *kernels, const vl_integer_matrix *matrix, vl_byte_product *product);

/* The scale and zero point of uint8 for numbers between bounds[0] and bounds[1], and 0. The scale is NaN where a bound
 * is no finite number. */
void vl_dynamic_scale(const float *bounds, float *scale, float *zero);

/* How torch's dynamically quantised layers choose them: so many steps of uint8, 127 or 255. Sets scale, zero, low, high
 * and inverse. */
void vl_torchs_scale(const float *bounds, int64_t steps, vl_quantising *quantising);

/* A tensor of one number, of any shape */
int vl_is_number(const vl_tensor *t, int type);

static inline int vl_is_bytes(const vl_tensor *t) { return t && (t->type == VL_U8 || t->type == VL_I8); }

static inline int32_t vl_byte_at(const vl_tensor *t, int64_t offset)
{
    return t->type == VL_I8 ? *(const int8_t *)(t->data + offset) : *(const uint8_t *)(t->data + offset);
}

/* From the scales of the two inputs and the output, the output's zero point and int32 to add, if there are any; w's scale
 * is one number or one for each column. `factor` goes with x's scale. VL_DONE, and what *block holds, or VL_DECLINED or
 * VL_NO_MEMORY. */
int vl_read_requantising(vl_frame *f, const vl_tensor *x_scale, float factor, const vl_tensor *w_scale,
                         const vl_tensor *y_scale, const vl_tensor *zero, int has_bias, const vl_tensor *bias,
                         int64_t columns, vl_requantising *finish, vl_block **block);

#endif
