"""The one check of every array that comes into compiled code: dtype, byte order, alignment, axes.

Kernels take pointers and trust them. So every door of this package, of whatever module, takes its
arrays through here. Byte order, alignment and strides are how numbers lie in memory, not what they
are: an array that has others is copied. A dtype or a shape other than those expected are errors
with the argument's name, and so is an `out` that cannot be written to as it is.
"""

from libc.stdint cimport int64_t, uint64_t

cimport numpy as cnp
import numpy as np

cnp.import_array()

cdef extern from *:
    bint __builtin_mul_overflow(ptrdiff_t a, ptrdiff_t b, ptrdiff_t *product) noexcept nogil
    bint __builtin_add_overflow(ptrdiff_t a, int64_t b, ptrdiff_t *sum) noexcept nogil


cdef str described(object array):
    """How messages name what was given."""
    if not isinstance(array, cnp.ndarray):
        return type(array).__name__
    return f"{array.dtype} [{', '.join([str(size) for size in array.shape])}]"


cdef str wanted(int number, tuple shape):
    return f"{cnp.PyArray_DescrFromType(number)} [{', '.join([str(size) for size in shape])}]"


cdef object native(object given, int number):
    """The array behind what was given, aligned and in this machine's byte order; None if it is none
    of that dtype. What is no array but can be read as one, as torch's tensors can, is read."""
    dtype = cnp.PyArray_DescrFromType(number)
    array = given
    if not isinstance(array, cnp.ndarray) and hasattr(array, "__array__"):
        array = np.asarray(array.detach() if hasattr(array, "detach") else array)
    if not isinstance(array, cnp.ndarray) or array.dtype.newbyteorder("=") != dtype:
        return None
    return np.require(array, dtype, "A")


cdef cnp.ndarray readable(object array, str name, int number, int ndim, bint c_order=True):
    """The array, or a copy in this machine's byte order, in C order, at an aligned address."""
    cdef bint as_it_lies = (isinstance(array, cnp.ndarray) and cnp.PyArray_TYPE(array) == number
                            and cnp.PyArray_ISBEHAVED_RO(array))
    taken = array if as_it_lies else native(array, number)
    if taken is None or (ndim >= 0 and cnp.PyArray_NDIM(taken) != ndim):
        axes = f" with {ndim} axes" if ndim >= 0 else ""
        raise ValueError(f"{name} is {described(array)}, expected an array of "
                         f"{cnp.PyArray_DescrFromType(number)}{axes}")
    if c_order and not cnp.PyArray_IS_C_CONTIGUOUS(taken):
        return np.ascontiguousarray(taken)
    return taken


cdef cnp.ndarray shaped(object array, str name, int number, tuple shape):
    """The same, of one shape; an axis that may have any size is a name in it."""
    cdef int axis, ndim = len(shape)
    taken = array if is_plain(array, number) else native(array, number)
    cdef bint fits = taken is not None and cnp.PyArray_NDIM(taken) == ndim
    for axis in range(ndim):
        if fits and not isinstance(shape[axis], str):
            fits = cnp.PyArray_DIM(taken, axis) == <ptrdiff_t>shape[axis]
    if not fits:
        raise ValueError(
            f"{name} is {described(array)}, expected an array of {wanted(number, shape)}")
    if not cnp.PyArray_IS_C_CONTIGUOUS(taken):
        return np.ascontiguousarray(taken)
    return taken


cdef cnp.ndarray writable(object array, str name, int number, tuple shape):
    """The array itself: what is written to a copy would be lost."""
    if not isinstance(array, cnp.ndarray) or cnp.PyArray_TYPE(array) != number or (
            array.shape != shape):
        raise ValueError(f"{name} is {described(array)}, expected a C-contiguous array of "
                         f"{wanted(number, shape)}")
    if not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError(f"{name} is read-only")
    if not cnp.PyArray_ISCARRAY(array):
        raise ValueError(f"{name} must be C-contiguous, aligned and in the machine's byte order, "
                         "for it is written to in place")
    return array


cpdef bint overlaps_itself(cnp.ndarray array) except -1:
    """Whether two elements may have a byte in common: an axis does not step over those inside of it.

    Views that slicing, transposing and the like make never do; broadcast ones and windows do.
    """
    cdef ptrdiff_t extent, stride, least
    cdef uint64_t seen = 0
    cdef int axis, smallest, _
    if array is None:
        raise TypeError("expected an array, got None")
    extent = cnp.PyArray_ITEMSIZE(array)
    if cnp.PyArray_IS_C_CONTIGUOUS(array) or cnp.PyArray_SIZE(array) < 2:
        return False
    for _ in range(cnp.PyArray_NDIM(array)):
        smallest, least = -1, 0
        for axis in range(cnp.PyArray_NDIM(array)):
            stride = cnp.PyArray_STRIDE(array, axis)
            stride = -stride if stride < 0 else stride
            if not seen >> axis & 1 and cnp.PyArray_DIM(array, axis) > 1 and (
                    smallest < 0 or stride < least):
                smallest, least = axis, stride
        if smallest < 0:
            break
        if least < extent:
            return True
        seen |= <uint64_t>1 << smallest
        extent += least * (cnp.PyArray_DIM(array, smallest) - 1)
    return False


cdef bint bounds_overlap(cnp.ndarray a, cnp.ndarray b):
    """Whether the memory from the first to the last byte of one array meets the other's."""
    cdef char *a_first
    cdef char *a_end
    cdef char *b_first
    cdef char *b_end
    bounds(a, &a_first, &a_end)
    bounds(b, &b_first, &b_end)
    return a_first < b_end and b_first < a_end


cdef void bounds(cnp.ndarray array, char **first, char **end):
    cdef int axis
    cdef ptrdiff_t reach
    first[0] = <char *>cnp.PyArray_DATA(array)
    end[0] = first[0] + cnp.PyArray_ITEMSIZE(array)
    if not cnp.PyArray_SIZE(array):
        end[0] = first[0]
        return
    for axis in range(cnp.PyArray_NDIM(array)):
        reach = cnp.PyArray_STRIDE(array, axis) * (cnp.PyArray_DIM(array, axis) - 1)
        if reach < 0:
            first[0] += reach
        else:
            end[0] += reach


cdef cnp.ndarray batch_sizes_of(object array, ptrdiff_t *total):
    """Live sequences at each step: positive, never increasing, of a sum that can be."""
    cdef cnp.ndarray checked = readable(array, "batch_sizes", cnp.NPY_INT64, 1)
    cdef const int64_t *sizes = <const int64_t *>cnp.PyArray_DATA(checked)
    cdef ptrdiff_t t
    total[0] = 0
    for t in range(cnp.PyArray_DIM(checked, 0)):
        if sizes[t] < 1 or (t > 0 and sizes[t] > sizes[t - 1]):
            raise ValueError(
                f"batch_sizes must be positive and non-increasing, batch_sizes[{t}] is {sizes[t]}")
        if __builtin_add_overflow(total[0], sizes[t], total):
            raise ValueError("batch_sizes add up to more rows than memory has addresses")
    return checked


cdef ptrdiff_t product_of(ptrdiff_t a, ptrdiff_t b) except -1:
    cdef ptrdiff_t product
    if __builtin_mul_overflow(a, b, &product):
        raise MemoryError(f"{a} times {b} is more than memory has addresses")
    return product


cdef int float_number(object array, str name) except -1:
    """The type number of weights; ValueError for what is no array of float32 or float64."""
    dtype = getattr(array, "dtype", None)
    if isinstance(dtype, np.dtype):
        dtype = dtype.newbyteorder("=")
        if dtype == np.float32:
            return cnp.NPY_FLOAT32
        if dtype == np.float64:
            return cnp.NPY_FLOAT64
    raise ValueError(
        f"{name} is {described(array)}, expected an array of float32 or float64")
