/* Everything that a kernel call needs to know of one direction of one layer. */
#ifndef VLEDGE_DIRECTION_H
#define VLEDGE_DIRECTION_H

#include "simd/kernels.h"

typedef struct {
    const vl_kernels *kernels;          /* of the arithmetic, by the instruction set */
    const vl_cell_kernels *run;         /* of these, those of the cell and the storage */
    vl_cell cell;
    int reverse;
    int independent;                    /* units see only their own past: w_hh is a vector */
    ptrdiff_t number_bytes;             /* of input, output, states and sums: what the arithmetic is in */
    ptrdiff_t weight_bytes;             /* of a weight, as it is stored */
    ptrdiff_t input_size, hidden_size;
    ptrdiff_t width;                    /* of the output and of h: proj_size, or hidden_size without projection */
    ptrdiff_t gates;
    ptrdiff_t panels;                   /* of `lanes` units each, the last of which may not be full */
    ptrdiff_t vectors;                  /* of one row of projected input */
    ptrdiff_t ld_h, ld_c, ld_pre;       /* numbers from row to row of h, of c and of projected input */
    int group;                          /* vectors that one group of the input projection holds */
    void *gemm;                         /* BLAS's product for the input projection, or NULL for the tiles */
    const void *w_ih;
    const void *bias;
    const void *w_hh;
    const void *w_candidate;
    const void *bias_candidate;
    const void *w_hr;
    vl_nonlinearity functions[3];       /* where the layer asks for its own activations, ... */
    const vl_nonlinearity *activations; /* ... these; else NULL */
} vl_direction;

static inline int vl_has_cell_state(const vl_direction *direction) { return direction->cell == VL_LSTM; }

/* Bytes of the recurrent weights, which a step reads, and of the input's. */
static inline int64_t vl_recurrent_bytes(const vl_direction *direction)
{
    return (int64_t)direction->vectors * direction->kernels->lanes * direction->width * direction->weight_bytes;
}

static inline int64_t vl_input_bytes(const vl_direction *direction)
{
    return (int64_t)direction->vectors * direction->kernels->lanes * direction->input_size * direction->weight_bytes;
}

#endif
