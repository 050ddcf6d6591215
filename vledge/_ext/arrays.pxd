cimport numpy as cnp


cdef inline bint is_plain(object array, int number) noexcept:
    """Whether kernels may read an object's memory as it lies: an array of this type, C-contiguous,
    aligned and in this machine's byte order."""
    return (isinstance(array, cnp.ndarray) and cnp.PyArray_TYPE(array) == number
            and cnp.PyArray_ISCARRAY_RO(array))


cdef inline bint has_shape(cnp.ndarray array, int ndim, ptrdiff_t a, ptrdiff_t b,
                           ptrdiff_t c) noexcept:
    """Whether an array has these two or three sizes."""
    return (cnp.PyArray_NDIM(array) == ndim and cnp.PyArray_DIM(array, 0) == a
            and cnp.PyArray_DIM(array, 1) == b and (ndim == 2 or cnp.PyArray_DIM(array, 2) == c))


cdef inline bint share_memory(cnp.ndarray a, cnp.ndarray b) noexcept:
    """Whether two C-contiguous arrays have a byte in common."""
    cdef const char *a_first = <const char *>cnp.PyArray_DATA(a)
    cdef const char *b_first = <const char *>cnp.PyArray_DATA(b)
    return (a_first < b_first + cnp.PyArray_NBYTES(b) and b_first < a_first + cnp.PyArray_NBYTES(a))


# An array that may be read; of any number of axes where ndim is -1, of any strides without c_order.
cdef cnp.ndarray readable(object array, str name, int number, int ndim, bint c_order=*)

# The same of one shape.
cdef cnp.ndarray shaped(object array, str name, int number, tuple shape)

# How messages name an array that is expected.
cdef str wanted(int number, tuple shape)

# An array that is given to be written to.
cdef cnp.ndarray writable(object array, str name, int number, tuple shape)

# Whether two elements of an array may have a byte in common.
cpdef bint overlaps_itself(cnp.ndarray array) except -1

# Whether what lies between the first and the last byte of two arrays meets.
cdef bint bounds_overlap(cnp.ndarray a, cnp.ndarray b)

# batch_sizes [T] and their sum.
cdef cnp.ndarray batch_sizes_of(object array, ptrdiff_t *total)

# a * b, or a MemoryError where no address is that large.
cdef ptrdiff_t product_of(ptrdiff_t a, ptrdiff_t b) except -1

# NPY_FLOAT32 or NPY_FLOAT64, of an array of weights.
cdef int float_number(object array, str name) except -1
