/* The table of kernels that every instruction set fills in, and nothing else. What those on bytes take stands in
 * byte_kernels.h, and of small weights in small_kernels.h.
 *
 * A kernel knows rows, lanes and pointers; it never sees a layer, a direction or a sequence. The words:
 *
 *   lane, vector   a number of a CPU's register, and the L of them
 *   panel          the weights of L hidden units: a vector for each gate
 *   group          vectors of packed weights that stand side by side: a panel's gates, or VL_GROUP of any
 *   row            what one sequence, or one row of a matrix, has at one step
 *   tile           rows x vectors of sums in registers, over all or 128 of the terms k
 *   block          rows, a few tiles, that pass by a group before the next rows do
 *   step           one time step
 *
 *   recurrent weights   w[panel][k][gate][L]        k runs over the previous output
 *   projected input     pre[row][panel][gate][L]    bias included
 *   state               h[row][panel][L], c[row][panel][L], padded to whole vectors with anything
 *
 * The last panel, where the hidden size does not fill it, has its gates side by side, as many lanes each as it has
 * units, in no more vectors than that takes. A row of `pre` has room for whole panels all the same.
 *
 * gates: LSTM i,f,g,o; GRU r,z,n (torch's orders). A cell with one gate has its panels in groups of
 * up to four, w[group][k][panel in group][L], so that a tile is as wide as an LSTM's.
 */
#ifndef VLEDGE_KERNELS_H
#define VLEDGE_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include "byte_kernels.h"
#include "small_kernels.h"

/* Vectors that stand side by side in packed weights, which is as wide as a tile gets; three where a panel has three
 * gates. */
enum { VL_GROUP = 4 };

/* Terms that are summed in one go: products/tile.h says why. */
enum { VL_TERMS = 128 };

/* Weights beyond this come from beyond the second-level cache of all but few cores. */
enum { VL_NEAR_BYTES = 1 << 20 };

/* What a layer's weights are stored as. The integers have scales (vl_small). */
typedef enum { VL_STORED_FLOAT32, VL_STORED_FLOAT64, VL_STORED_INT8, VL_STORED_INT8_FAST, VL_STORED_INT16 } vl_storage;

/* What its sums are made in; input, output and states are held in the same. */
typedef enum { VL_IN_FLOAT32, VL_IN_FLOAT64, VL_ARITHMETICS } vl_arithmetic;

typedef enum {
    VL_LSTM,
    VL_GRU,
    VL_GRU_RESET_BEFORE,
    VL_RNN_TANH,
    VL_RNN_RELU,
    VL_RNN,                             /* one gate, whose activation the layer names */
    VL_INDRNN_TANH,
    VL_INDRNN_RELU,
} vl_cell;

/* An activation that a file or a caller may ask for in place of a cell's own. Named as ONNX names them where it does. */
typedef enum {
    VL_SIGMOID,
    VL_TANH,
    VL_RELU,
    VL_AFFINE,           /* alpha x + beta */
    VL_LEAKY_RELU,       /* x, below 0 alpha x */
    VL_THRESHOLDED_RELU, /* x, below alpha 0 */
    VL_SCALED_TANH,      /* alpha tanh(beta x) */
    VL_HARD_SIGMOID,     /* alpha x + beta, from 0 to 1 */
    VL_ELU,              /* beta x, below 0 alpha (exp(x) - 1) */
    VL_SOFTSIGN,         /* x / (1 + |x|) */
    VL_SOFTPLUS,         /* log(1 + exp(x)) */
    VL_EXPONENTIAL,
    VL_SILU,             /* x sigmoid(x) */
    VL_GELU,             /* x (1 + erf(x / sqrt 2)) / 2 */
    VL_CLIP,             /* x, from alpha to beta */
} vl_function;

typedef struct {
    int function;
    double alpha, beta;
} vl_nonlinearity;

/* rows x panels of one time step; panels [first_panel, last_panel) are computed. Pointers are
 * to float or double as the table they are passed to. */
typedef struct {
    ptrdiff_t rows;
    ptrdiff_t depth;                    /* length of the previous output: the k loop's trip count */
    ptrdiff_t first_panel, last_panel;
    ptrdiff_t hidden_size;
    int turned;                         /* panels are computed from the last to the first */
    const void *w;                      /* recurrent weights */
    const void *w_candidate;            /* gru_reset_before: the n gate's weights, one-gate layout */
    const void *bias_candidate;         /* gru: bias_hh of the n gate, [panel][L], or NULL; the last panel's vectors
                                           have zeros for the other gates where it is not full */
    const void *pre;
    ptrdiff_t ld_pre; /* projected input, elements from row to row */
    const void *h;
    ptrdiff_t ld_h;   /* previous output */
    void *h_next;
    ptrdiff_t ld_h_next;
    void *c;
    ptrdiff_t ld_c;   /* lstm: cell state, updated in place; gru_reset_before: exp(-z),
                                           with activations z */
    void *gated;                        /* gru_reset_before: r * h, laid out as h */
    void *out;                          /* the layer's output of this step, or NULL */
    const ptrdiff_t *out_rows;          /* row r goes to out + out_rows[r], unpadded */
    ptrdiff_t out_next;                 /* ... and in the next step so much further */
    const vl_nonlinearity *activations; /* of the gates, the candidate and the LSTM's output; of rnn_tanh its one.
                                           NULL: the cell's own */
    const vl_small *small;              /* how weights are small, else NULL ... */
    char *room; /* ... and memory for `rows` of vl_small_row_bytes(depth or hidden_size), ... */
    int in_room; /* ... where those of h are already */
} vl_step;

/* out[r][0 : columns] = bias + x[r] . w,  w[group][k][vector in group][L]. Row r of x starts at
 * x + x_rows[r]. Vectors [first, last) are computed; both are multiples of `group` or the end.
 * columns is vectors*L, or up to L - 1 fewer: what is past it is not written. The last group may be narrower. */
typedef struct {
    ptrdiff_t rows, depth;
    ptrdiff_t first, last, vectors, columns;
    int group; /* 3 or 4 */
    int turned; /* groups are computed from the last to the first */
    int relu; /* out = max(out, 0), NaN stays NaN */
    const void *x;
    const ptrdiff_t *x_rows;
    const void *w;
    const void *bias; /* [vectors][L] or NULL */
    void *out;
    ptrdiff_t ld_out;
    const vl_small *small; /* as vl_step's; `w` is then [group] of vl_small */
    char *room;
    int in_room;
} vl_product;

/* out[r][c] = sum of x[r][k] * w[k * w_row + c * w_column] over k, for columns [first, last). Row r of x starts at
 * x + x_rows[r]. w_column is 1 or w_row is. */
typedef struct {
    ptrdiff_t rows, depth, first, last;
    const void *x;
    const ptrdiff_t *x_rows;
    const void *w;
    ptrdiff_t w_row, w_column; /* elements */
    void *out;
    ptrdiff_t ld_out;
} vl_thin;

/* An element-wise chain: micro-operations (micro.h) over rows x columns elements of each array. Places are numbered:
 * operands, constants, results, scratch. A micro-operation is VL_MICRO(kind, to, a, b, c): what it computes, the result
 * or scratch that it writes, and the places that it reads, 0 where it has fewer. Results may be read once they are
 * written; a result's memory must not overlap an operand's. */
typedef struct {
    void *data; /* of element [0, 0] */
    ptrdiff_t row, column; /* elements from row to row and from column to column; 0: the same for all */
    int element; /* a vl_chain_element */
} vl_chain_array;

/* What an array has: floats; bytes that are 0 or not, a mask to the micro-operations; or bytes that are their numbers,
 * as results whole ones within the type's range. */
typedef enum { VL_CHAIN_NUMBERS, VL_CHAIN_MASKS, VL_CHAIN_U8, VL_CHAIN_I8 } vl_chain_element;
enum { VL_CHAIN_ELEMENT_BITS = 2 };

enum {
    VL_CHAIN_ARRAYS = 12,
    VL_CHAIN_CONSTANTS = 20,
    VL_CHAIN_SCRATCH = 8,
    VL_CHAIN_BUFFERS = VL_CHAIN_ARRAYS + VL_CHAIN_SCRATCH,
    VL_CHAIN_PLACES = VL_CHAIN_ARRAYS + VL_CHAIN_CONSTANTS + VL_CHAIN_SCRATCH
};
#define VL_MICRO(kind, to, a, b, c)                                                                                    \
    ((int64_t)(kind) | (int64_t)(to) << 8 | (int64_t)(a) << 16 | (int64_t)(b) << 24 | (int64_t)(c) << 32)

typedef struct {
    ptrdiff_t rows, columns;
    int operands, constants, results, scratch, micros;
    const vl_chain_array *arrays; /* operands, then results: at most VL_CHAIN_ARRAYS */
    const void *constant;
    const int64_t *micro;
} vl_chain;

/* What becomes of finished sums before anyone else reads them, while they are in the nearest cache.
 * VL_BOUND: max(low, min(high, s)), NaN stays. VL_LEAKY: s < 0 ? slope * s : s, or slopes[channel].
 * VL_CHAINED: a chain whose operand 0 is the sums; the others lie as the output does, channels last without gaps (their
 * `row` is not 0), or are the same for all rows, `column` from channel to channel. It has one result; float only. */
typedef enum { VL_AS_IT_IS, VL_BOUND, VL_LEAKY, VL_CHAINED } vl_epilogue_kind;
typedef struct {
    int kind;
    double low, high, slope;
    const void *slopes; /* by channel, or NULL: all are `slope` */
    ptrdiff_t channel; /* the output's that is the kernel's first column */
    const vl_chain *chain; /* rows, columns, array 0 and the result's are the kernel's to set */
    const void *out; /* of the whole output */
} vl_epilogue;

/* Elements of x that lie side by side, from where a row's window begins. */
typedef struct {
    ptrdiff_t offset, length;
} vl_segment;

/* Windows times packed weights. A window is a list of segments: their elements in order are k.
 *
 *   out[out_rows[r] + m] = bias[m] + sum over k of x[x_rows[r] + place of k] * w[group][k][vector in group][L]
 *
 * Segments [parts[p], parts[p + 1]) make one part of the sum (tile.h). */
typedef struct {
    ptrdiff_t rows, depth;
    const ptrdiff_t *x_rows, *out_rows;
    const vl_segment *segments;
    const ptrdiff_t *parts;
    ptrdiff_t part_count; /* may be 0: then out is the bias */
    ptrdiff_t segment_count;
    ptrdiff_t vectors, columns; /* as vl_product's */
    int group; /* 1 to 4 */
    const void *x, *w;
    const void *bias; /* [vectors][L] or NULL */
    void *out;
    const vl_epilogue *epilogue;
} vl_windows;

/* The same by `dots`, for so few columns that most lanes of a vector of them would be idle: w is [columns][depth], bias
 * [columns]; parts, vectors and group mean nothing. A lane sums every so manieth term, so depth / lanes should be at most
 * a part's terms. */

/* Every channel by itself: element c of a row's tap is at x + x_rows[r] + x_taps[tap] + c, w is [taps][channels].
 *
 *   out[out_rows[r] + c] = bias[c] + sum of x[r][tap][c] w[tap][c] over the taps */
typedef struct {
    ptrdiff_t rows, taps, channels;
    const ptrdiff_t *x_rows, *x_taps, *out_rows;
    const void *x, *w;
    const void *bias; /* [channels] or NULL */
    void *out;
    const vl_epilogue *epilogue;
} vl_taps;

/* Windows of 3x3 that move by one, four at a time, by Winograd's F(2x2, 3x3): winograd.h. Tile t has its first input
 * at x + x_tiles[t]; from row to row it is x_row further, from pixel to pixel x_pixel. Its outputs, of which the upper
 * left `heights[t]` x `widths[t]` are written, begin at out + out_tiles[t], out_row and out_pixel apart. */
typedef struct {
    ptrdiff_t tiles, channels, vectors, columns;
    int group;
    const ptrdiff_t *x_tiles, *out_tiles;
    const uint8_t *heights, *widths; /* 1 or 2 */
    ptrdiff_t x_row, x_pixel, out_row, out_pixel;
    const void *x;
    const void *w; /* [16][group][k][vector in group][L] */
    const void *bias; /* [vectors][L] or NULL */
    void *out;
    void *scratch; /* VL_WINOGRAD_SCRATCH elements, 64-byte aligned */
    const vl_epilogue *epilogue;
} vl_winograd;

/* Tiles that a call of the Winograd kernel takes at a time, and the elements of scratch memory that it needs. */
enum { VL_WINOGRAD_TILES = 48 };
#define VL_WINOGRAD_SCRATCH(channels, vectors, lanes)                                                                  \
    (16 * VL_WINOGRAD_TILES * ((channels) + (vectors) * (ptrdiff_t)(lanes)))

/* out[out_rows[r] + c]: the greatest x[x_rows[r] + x_taps[tap] + c] of all taps, NaN if one is NaN; or, where
 * `divisor` is not 0, their sum divided by it. There is at least one tap. */
typedef struct {
    ptrdiff_t rows, taps, channels;
    const ptrdiff_t *x_rows, *x_taps, *out_rows;
    double divisor;
    const void *x;
    void *out;
} vl_pool;

/* IndRNN: h = act(pre + w h), every unit by itself, over several steps at once. Step i takes rows
 * [0, live[i]) of h; live only falls over the steps, or only rises. Row r of step i is at
 * pre + pre_steps[i] + r * ld_pre and goes to out + out_steps[i] + out_rows[r], unpadded. */
typedef struct {
    ptrdiff_t steps, rows;
    ptrdiff_t first_panel, last_panel;
    ptrdiff_t hidden_size;
    const ptrdiff_t *live, *pre_steps, *out_steps, *out_rows;
    const void *w; /* [panel][L] */
    const void *pre;
    ptrdiff_t ld_pre;
    void *h;
    ptrdiff_t ld_h; /* state, updated in place */
    void *out; /* or NULL */
} vl_independent;

/* How a cell runs on weights that are stored in one way. */
typedef struct {
    vl_cell cell;
    vl_storage storage;
    void (*product)(const vl_product *); /* W_ih x, and W_hr h where there is a projection */
    void (*step)(const vl_step *); /* one time step, ... */
    void (*candidate)(const vl_step *); /* ... and its rest, once all of a row's gates are there; NULL: there is none */
    void (*independent)(const vl_independent *); /* in place of `step` where every unit is by itself, else NULL */
    const vl_small *small; /* NULL: the storage is not small */
} vl_cell_kernels;

/* out[r] = the sum, or the like, of x[r][0 : columns] over the columns (of_rows), or out[c] of x[0 : rows][c] over the
 * rows. Row r of x starts at x + r * ld. `shift` has an element for each of out, or is NULL. */
enum {
    VL_SUM,
    VL_SUM_ABS,
    VL_SUM_SQUARES,
    VL_SUM_CENTRED_SQUARES, /* (x - shift)^2 */
    VL_SUM_EXP, /* exp(x - shift) */
    VL_PRODUCT,
    VL_GREATEST,
    VL_LEAST
};
typedef struct {
    ptrdiff_t rows, columns;
    int kind, of_rows;
    int join; /* with what stands in out */
    const void *x;
    ptrdiff_t ld;
    const void *shift;
    void *out;
} vl_reduction;

/* Softmax over the columns of each row (of_rows), or over the rows of each column; or its logarithm. */
typedef struct {
    ptrdiff_t rows, columns;
    int of_rows, log;
    const void *x;
    ptrdiff_t ld;
    void *out;
    ptrdiff_t ld_out;
} vl_softmax;

/* Rows without their mean (if centred) and of a mean square of one, times scale[columns] plus bias[columns]; out has no
 * gaps. mean[rows] and inverse[rows], one over the root, are written where they are not NULL. */
typedef struct {
    ptrdiff_t rows, columns;
    int centred;
    float epsilon;
    const void *x;
    ptrdiff_t ld;
    const void *scale, *bias; /* bias: or NULL */
    void *out, *mean, *inverse;
} vl_norm;

/* Fourier transforms of length n, as many as there are lanes: element k of all of them is a vector of re and of im,
 * which are written over, as are other_re and other_im; the results lie there after an odd number of factors. Nothing is
 * divided by n. A call makes the passes of the factors from first to last; that with the last one ends the transform. */
typedef struct {
    ptrdiff_t n;
    int sign; /* of the exponent: -1 forward, 1 back */
    int of_reals; /* n pairs of real numbers: their n + 1 results; root_step is 2 then */
    const int32_t *factors; /* whose product is n; 0 behind the last */
    int first, last; /* which of them; last is behind the last */
    const void *roots; /* [n root_step][2]: cos and sin of sign 2 pi k / (n root_step) */
    ptrdiff_t root_step;
    void *re, *im, *other_re, *other_im;
} vl_fourier;

typedef struct {
    const char *isa; /* the name that VLEDGE_ISA takes */
    vl_arithmetic arithmetic;
    int lanes;
    int max_rows; /* tallest tile of a four-vector panel */
    void (*product)(const vl_product *);
    void (*thin)(const vl_thin *);
    void (*windows)(const vl_windows *);
    void (*dots)(const vl_windows *);
    void (*winograd)(const vl_winograd *);
    void (*taps)(const vl_taps *);
    void (*pool)(const vl_pool *);
    /* An epilogue by itself, in place: of rows of `columns` at out + out_rows[r]. */
    void (*finish)(const vl_epilogue *e, ptrdiff_t rows, ptrdiff_t columns, void *out, const ptrdiff_t *out_rows);
    /* to[c * ld_to + r] = from[r * ld_from + c] */
    void (*transpose)(ptrdiff_t rows, ptrdiff_t columns, const void *from, ptrdiff_t ld_from, void *to,
                      ptrdiff_t ld_to);
    const vl_cell_kernels *cells; /* by cell and storage: vl_cell_kernels_of finds them */
    int cell_count;
    void (*exp)(ptrdiff_t n, const void *x, void *y);
    void (*tanh)(ptrdiff_t n, const void *x, void *y);
    void (*sigmoid)(ptrdiff_t n, const void *x, void *y);
    void (*chain)(const vl_chain *);
    void (*reduce)(const vl_reduction *);
    void (*softmax)(const vl_softmax *);
    void (*norm)(const vl_norm *);
    void (*fourier)(const vl_fourier *);
    void (*integers[VL_INTEGER_WAYS])(const vl_byte_product *);
    void (*byte_taps)(const vl_byte_taps *);
    int32_t (*quantise)(const vl_quantising *);
    /* bounds[0] = the least of bounds[0] and all x, bounds[1] the greatest; NaN if one is NaN */
    void (*range)(ptrdiff_t n, const float *x, float *bounds);
    /* y = (x - zero) scale, of uint8 or int8 */
    void (*dequantise)(ptrdiff_t n, const void *x, int is_signed, int32_t zero, float scale, float *y);
    /* The cell alone. Of an LSTM pre[row][panel][gate][L] are the gates' whole sums, of a GRU, whose h and h_next may be
     * the same, the projected input, and `gated` is R h + b, laid out as that. */
    void (*lstm_cell)(const vl_step *);
    void (*gru_cell)(const vl_step *);
} vl_kernels;

#endif
