from libc.stdint cimport int64_t

cimport numpy as cnp

cdef extern from "simd/kernels.h" nogil:
    enum:
        VL_GROUP
        VL_TERMS
        VL_INT8_BLOCK
        VL_INT8_FAST_BLOCK
        VL_INT16_BLOCK
        VL_SMALL_STEP
    ctypedef enum vl_storage:
        VL_STORED_FLOAT32
        VL_STORED_FLOAT64
        VL_STORED_INT8
        VL_STORED_INT8_FAST
        VL_STORED_INT16
    ctypedef enum vl_arithmetic:
        VL_IN_FLOAT32
        VL_IN_FLOAT64
    ctypedef enum vl_cell:
        VL_LSTM
        VL_GRU
        VL_GRU_RESET_BEFORE
        VL_RNN_TANH
        VL_RNN_RELU
        VL_RNN
        VL_INDRNN_TANH
        VL_INDRNN_RELU

    ctypedef struct vl_nonlinearity:
        int function
        double alpha, beta

    int VL_SIGMOID, VL_TANH, VL_RELU, VL_AFFINE, VL_LEAKY_RELU, VL_THRESHOLDED_RELU
    int VL_SCALED_TANH, VL_HARD_SIGMOID, VL_ELU, VL_SOFTSIGN, VL_SOFTPLUS, VL_EXPONENTIAL
    int VL_SILU, VL_GELU, VL_CLIP
    enum:
        VL_AS_IT_IS
        VL_BOUND
        VL_LEAKY

    ctypedef struct vl_small:
        int block, levels, offset, weight_offset, weight_bytes, terms, way

    ptrdiff_t vl_small_row_bytes(ptrdiff_t depth)

    ctypedef struct vl_step:
        ptrdiff_t rows, depth, first_panel, last_panel, hidden_size
        int turned
        const void *w
        const void *w_candidate
        const void *bias_candidate
        const void *pre
        ptrdiff_t ld_pre
        const void *h
        ptrdiff_t ld_h
        void *h_next
        ptrdiff_t ld_h_next
        void *c
        ptrdiff_t ld_c
        void *gated
        void *out
        const ptrdiff_t *out_rows
        ptrdiff_t out_next
        const vl_nonlinearity *activations
        const vl_small *small
        char *room
        int in_room

    ctypedef struct vl_product:
        ptrdiff_t rows, depth, first, last, vectors, columns
        int group, turned, relu
        const void *x
        const ptrdiff_t *x_rows
        const void *w
        const void *bias
        void *out
        ptrdiff_t ld_out
        const vl_small *small
        char *room
        int in_room

    ctypedef struct vl_epilogue:
        int kind
        double low, high, slope
        const void *slopes
        ptrdiff_t channel

    ctypedef struct vl_independent:
        ptrdiff_t steps, rows, first_panel, last_panel, hidden_size
        const ptrdiff_t *live
        const ptrdiff_t *pre_steps
        const ptrdiff_t *out_steps
        const ptrdiff_t *out_rows
        const void *w
        const void *pre
        ptrdiff_t ld_pre
        void *h
        ptrdiff_t ld_h
        void *out

    ctypedef struct vl_chain_array:
        void *data
        ptrdiff_t row, column
        int element

    enum:
        VL_CHAIN_ARRAYS
        VL_CHAIN_CONSTANTS
        VL_CHAIN_SCRATCH

    ctypedef struct vl_chain:
        ptrdiff_t rows, columns
        int operands, constants, results, scratch, micros
        const vl_chain_array *arrays
        const void *constant
        const int64_t *micro

    ctypedef struct vl_cell_kernels:
        vl_cell cell
        vl_storage storage
        void (*product)(const vl_product *) noexcept nogil
        void (*step)(const vl_step *) noexcept nogil
        void (*candidate)(const vl_step *) noexcept nogil
        void (*independent)(const vl_independent *) noexcept nogil
        const vl_small *small

    ctypedef struct vl_kernels:
        const char *isa
        vl_arithmetic arithmetic
        int lanes
        int max_rows
        void (*product)(const vl_product *) noexcept nogil
        void (*transpose)(ptrdiff_t, ptrdiff_t, const void *, ptrdiff_t, void *, ptrdiff_t) noexcept nogil
        const vl_cell_kernels *cells
        int cell_count
        void (*exp)(ptrdiff_t, const void *, void *) noexcept nogil
        void (*tanh)(ptrdiff_t, const void *, void *) noexcept nogil
        void (*sigmoid)(ptrdiff_t, const void *, void *) noexcept nogil
        void (*chain)(const vl_chain *) noexcept nogil


# The arithmetic of arrays of a NumPy type, which is float32 or float64, and back.
cdef inline vl_arithmetic arithmetic_of(int number) noexcept nogil:
    return VL_IN_FLOAT64 if number == cnp.NPY_FLOAT64 else VL_IN_FLOAT32


cdef inline int number_of(vl_arithmetic arithmetic) noexcept nogil:
    return cnp.NPY_FLOAT64 if arithmetic == VL_IN_FLOAT64 else cnp.NPY_FLOAT32


# Of the selected instruction set.
cdef const vl_kernels *kernels_for(vl_arithmetic arithmetic) except NULL
cdef const vl_kernels *narrow_kernels(vl_arithmetic arithmetic) except? NULL

# How a cell runs on weights of a storage, in an arithmetic, by the selected instruction set; NULL where it cannot.
cdef const vl_cell_kernels *cell_kernels_for(vl_cell cell, vl_storage storage, vl_arithmetic arithmetic) except? NULL
