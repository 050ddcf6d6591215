/* What kernels on bytes take: exact products in int32, and numbers to bytes. The words are those of kernels.h. */
#ifndef VLEDGE_BYTE_KERNELS_H
#define VLEDGE_BYTE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

/* Ways: by products of 16-bit numbers, which every CPU has; by an instruction that sums four products of bytes (VNNI,
 * Arm's udot); and by one that sums two of them in 16 bits and saturates (AVX2, AVX-512 BW). That is exact while of two
 * weights side by side neither the positive nor the negative ones sum to more than 128; of the few pairs beyond, a part
 * stands in an extra four of k. Weights are uint8 or int8 as vl_takes_unsigned says. A table has NULL for a way it
 * lacks. */
enum { VL_BY_PAIRS, VL_BY_QUADS, VL_BY_BYTES, VL_INTEGER_WAYS };

/* Rows of bytes times packed weights, in int32, exact: w[group of 4][k / 4][vector in group][L][k % 4].
 * A row is one run of bytes or several, each of 4 * run_quads: a convolution's window, where it lies.
 *
 *   total[r][c] = sum over k of (x[r][k] - x_zeros[r]) (w[k][c] - zeros[c])
 *
 * as the sum of x w less x_zeros[r] sums[c] and zeros[c] x_sums[r], where sums[c] is that of w[k][c] - zeros[c].
 * Run k of row r of x starts at x + x_rows[r] + run_starts[k]; w has zeros where a run ends amid four. Vectors
 * [first, last) are computed; first is a multiple of 4. Columns are as vl_product's. The result is total, or with `scales`, in float,
 *
 *   out[r][c] = total * (x_scale * scales[c]) + bias[c] + add[r][c]
 *
 * or with `requantised`, in bytes, clipped to [low, high],
 *
 *   out[r][c] = round((total + added[c]) steps[c]) + zero */
typedef struct {
    const float *steps; /* [vectors][L] */
    int32_t *added; /* [vectors][L]; with x_zeros NULL what they would take off is in it */
    int32_t zero;
    float low, high;
} vl_requantising;

typedef struct {
    ptrdiff_t rows;
    ptrdiff_t runs, run_quads;
    const ptrdiff_t *run_starts;
    ptrdiff_t first, last, vectors, columns;
    int turned; /* groups are computed from the last to the first */
    const uint8_t *x;
    const ptrdiff_t *x_rows;
    const int32_t *x_zeros, *x_sums; /* x_zeros: or NULL, all are 0; x_sums: where there are zeros */
    const uint8_t *w; /* uint8 or int8, as the way takes them */
    const int32_t *zeros; /* [vectors][L], of w as it is packed, or NULL: all are 0 */
    const int32_t *sums; /* [vectors][L] */
    const int64_t *starts; /* VL_BY_BYTES: where each group's weights begin, ... */
    const int32_t *extra_starts; /* ... [groups + 1], which of `extras` are a group's: fours of k whose ... */
    const int32_t *extras; /* ... further weights stand behind the group's own; else NULL */
    const float *scales; /* [vectors][L] or NULL */
    float x_scale;
    const float *bias; /* [vectors][L] or NULL */
    const float *add;
    ptrdiff_t ld_add; /* or NULL; may be out */
    const vl_requantising *requantised; /* or NULL */
    void *out;
    ptrdiff_t ld_out;
} vl_byte_product;

/* Convolutions of one channel each: out[r][c] as above of
 *
 *   total[r][c] = sum over t of (x[r][taps[t] + c] - zero) w[t][c]
 *
 * Columns are channels. `finish` has rows, columns, vectors, x_zeros, sums, and what becomes of them. Whole vectors of
 * bytes are read: some behind the last channel, whose weights are 0. */
typedef struct {
    vl_byte_product finish;
    const uint8_t *x;
    const ptrdiff_t *x_rows; /* [rows] */
    ptrdiff_t tap_count;
    const ptrdiff_t *taps;
    const int32_t *w; /* [tap][vectors][L], below 2^15 */
} vl_byte_taps;

/* out[k] = round(x[k] / scale) + zero, within [low, high], a byte; the sum of them. torch's rounding is that of
 * x[k] * inverse, which is 1 / scale in float. */
typedef struct {
    ptrdiff_t n;
    const float *x;
    float scale, zero, low, high;
    uint8_t *out;
    float inverse; /* or 0 */
} vl_quantising;

#endif
