from vledge._ext.isa cimport vl_kernels, vl_nonlinearity

cdef enum Cell:
    LSTM
    GRU
    GRU_RESET_BEFORE
    RNN_TANH
    RNN_RELU
    RNN                      # its activation is one of `functions`
    INDRNN_TANH
    INDRNN_RELU

# Everything that a kernel call needs to know of one direction of one layer.
ctypedef struct Weights:
    const vl_kernels *kernels
    Cell cell
    bint reverse
    bint independent         # units see only their own past: w_hh is a vector
    ptrdiff_t itemsize
    ptrdiff_t input_size, hidden_size
    ptrdiff_t width          # of the output and of h: proj_size, or hidden_size without projection
    ptrdiff_t gates
    ptrdiff_t panels         # hidden blocks of `lanes` units, the last of which may not be full
    ptrdiff_t vectors        # of one row of projected input
    ptrdiff_t ld_h, ld_c, ld_pre  # elements from row to row of h, of c and of projected input
    int group                # vectors that one panel of the input projection holds
    void *gemm               # BLAS's product for the input projection, or NULL for the tiles
    const void *w_ih
    const void *bias
    const void *w_hh
    const void *w_candidate
    const void *bias_candidate
    const void *w_hr
    vl_nonlinearity functions[3]         # where the layer asks for its own activations, ...
    const vl_nonlinearity *activations   # ... these; else NULL


cdef class Direction:
    cdef Weights weights
    cdef dict matrices       # name -> the packed array that `weights` points into
    cdef object bias_parts   # (bias_ih, bias_hh) as they were given, for unpacking
    cdef readonly str cell
    cdef readonly object dtype
    cdef readonly tuple activations      # (name, alpha, beta) each, or None
    cdef readonly Py_ssize_t input_size, hidden_size, proj_size
    cdef readonly bint reverse


cdef Direction made(object direction)
