from libc.stdint cimport int64_t

cdef extern from "simd/kernels.h" nogil:
    enum:
        VL_AS_IT_IS
        VL_CLIP
        VL_LEAKY

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

    ctypedef struct vl_product:
        ptrdiff_t rows, depth, first, last, vectors, columns
        int group, turned, relu
        const void *x
        const ptrdiff_t *x_rows
        const void *w
        const void *bias
        void *out
        ptrdiff_t ld_out

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
        int mask

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

    ctypedef struct vl_kernels:
        const char *isa
        int lanes
        int max_rows
        void (*product)(const vl_product *) noexcept nogil
        void (*transpose)(ptrdiff_t, ptrdiff_t, const void *, ptrdiff_t, void *, ptrdiff_t) noexcept nogil
        void (*lstm)(const vl_step *) noexcept nogil
        void (*gru)(const vl_step *) noexcept nogil
        void (*gru_gates)(const vl_step *) noexcept nogil
        void (*gru_candidate)(const vl_step *) noexcept nogil
        void (*rnn_tanh)(const vl_step *) noexcept nogil
        void (*rnn_relu)(const vl_step *) noexcept nogil
        void (*indrnn_tanh)(const vl_independent *) noexcept nogil
        void (*indrnn_relu)(const vl_independent *) noexcept nogil
        void (*exp)(ptrdiff_t, const void *, void *) noexcept nogil
        void (*tanh)(ptrdiff_t, const void *, void *) noexcept nogil
        void (*sigmoid)(ptrdiff_t, const void *, void *) noexcept nogil
        void (*chain)(const vl_chain *) noexcept nogil


cdef const vl_kernels *kernels_for(bint f64) except NULL
