"""Which instruction set the kernels run on, and their vector maths on whole arrays.

The best set that the CPU has is taken; ``VLEDGE_ISA`` or :func:`select` force another one, so that
every path the CPU can run is tested. Layers keep the set that was selected when they were packed.
"""

import os

cimport numpy as cnp
import numpy as np

from libc.stdint cimport int64_t

from vledge._ext.arrays cimport float_number, readable

cnp.import_array()

cdef extern from "simd/dispatch.h" nogil:
    const vl_kernels *vl_runnable(int i, vl_arithmetic arithmetic)
    const vl_cell_kernels *vl_cell_kernels_of(const vl_kernels *kernels, vl_cell cell, vl_storage storage,
                                              int way)
    int vl_has_way(const vl_kernels *kernels, int way)
    int vl_takes_unsigned(int way)
    const char *vl_cpu_features()

cdef extern from "simd/micro.h" nogil:
    """
    static const char *const vl_micro_names[] = {
    #define VL_MICRO_NAME(name, sources) #name,
        VL_MICROS(VL_MICRO_NAME)
    };
    static const int vl_micro_source_counts[] = {
    #define VL_MICRO_SOURCE_COUNT(name, sources) sources,
        VL_MICROS(VL_MICRO_SOURCE_COUNT)
    };
    """
    const char *const vl_micro_names[]
    const int vl_micro_source_counts[]
    enum:
        VL_MICRO_COUNT

cdef str chosen = None
cdef str chosen_way = None
WAYS = ("pairs", "dots", "bytes")   # as byte_kernels.h numbers them


def runnable() -> tuple:
    """Names of the instruction sets that this CPU can run, best first."""
    cdef int i = 0
    names = []
    while vl_runnable(i, VL_IN_FLOAT32) != NULL:
        names.append(vl_runnable(i, VL_IN_FLOAT32).isa.decode())
        i += 1
    return tuple(names)


def cpu_features() -> str:
    """The CPU's features that matter to the kernels, separated by spaces."""
    return vl_cpu_features().decode()


def select(name=None) -> str:
    """Select an instruction set by name for layers packed from now on; None takes the best."""
    global chosen
    names = runnable()
    if name is None:
        name = names[0]
    if name not in names:
        raise ValueError(f"instruction set {name!r} cannot run here; this CPU runs {', '.join(names)}")
    chosen = name
    return name


def selected() -> str:
    """The instruction set that layers packed from now on will use."""
    if chosen is None:
        name = os.environ.get("VLEDGE_ISA") or None
        try:
            select(name)
        except ValueError as error:
            raise ValueError(f"environment variable VLEDGE_ISA: {error}") from None
    return chosen


cdef const vl_kernels *kernels_for(vl_arithmetic arithmetic) except NULL:
    # An instruction set without double vectors leaves float64 to the baseline, the last entry.
    cdef int i = 0
    cdef const vl_kernels *last = NULL
    name = selected().encode()
    while vl_runnable(i, arithmetic) != NULL:
        last = vl_runnable(i, arithmetic)
        if last.isa == name:
            break
        i += 1
    return last


cdef const vl_kernels *narrow_kernels(vl_arithmetic arithmetic) except? NULL:
    # Kernels of half the lanes that round alike: of AVX-512 AVX2's, else NULL.
    cdef int i = 0
    if selected() != "avx512":
        return NULL
    while vl_runnable(i, arithmetic) != NULL and vl_runnable(i, arithmetic).isa != b"avx2":
        i += 1
    return vl_runnable(i, arithmetic)


cdef const vl_cell_kernels *cell_kernels_for(vl_cell cell, vl_storage storage, vl_arithmetic arithmetic) except? NULL:
    cdef const vl_cell_kernels *run
    cdef const vl_kernels *kernels = kernels_for(arithmetic)
    ways = integer_ways()
    for way in ways[ways.index(selected_integers()):]:      # what has no row in this way has one in a slower one
        run = vl_cell_kernels_of(kernels, cell, storage, WAYS.index(way))
        if run != NULL:
            return run
    return NULL


def integer_ways() -> tuple:
    """How the selected instruction set can multiply bytes on this CPU, best first: by "dots" (VNNI, Arm's dot
    products), "bytes" or "pairs"."""
    cdef const vl_kernels *k = kernels_for(VL_IN_FLOAT32)
    return tuple([way for way in ("dots", "bytes", "pairs") if vl_has_way(k, WAYS.index(way))])


def select_integers(name=None) -> str:
    """Select the way by name for models opened from now on; None takes the best."""
    global chosen_way
    if name is not None and name not in integer_ways():
        raise ValueError(f"integer products by {name!r} cannot run here; there are {', '.join(integer_ways())}")
    chosen_way = name
    return selected_integers()


def selected_integers() -> str:
    """The way that models opened from now on will use; ``VLEDGE_VNNI=0`` or ``VLEDGE_DOTPROD=0`` leaves "dots" out."""
    ways = integer_ways()
    if chosen_way in ways:
        return chosen_way
    without = "0" in (os.environ.get("VLEDGE_VNNI"), os.environ.get("VLEDGE_DOTPROD"))
    return ways[1] if ways[0] == "dots" and without else ways[0]


def unsigned_weights(str way) -> bool:
    """Whether products of bytes in a way take weights as uint8, or else as int8."""
    return vl_takes_unsigned(WAYS.index(way)) != 0


def lanes(dtype) -> int:
    """Elements of one vector of the selected instruction set."""
    if not isinstance(dtype, (np.dtype, type)):     # of texts NumPy makes many things
        raise TypeError(f"expected a dtype, got a {type(dtype).__name__}")
    return kernels_for(arithmetic_of(np.dtype(dtype).num)).lanes


def tile_rows() -> int:
    """Rows of the tallest tile of the selected instruction set, for tests to step over."""
    return kernels_for(VL_IN_FLOAT32).max_rows


def apply(str function, x):
    """``exp``, ``tanh`` or ``sigmoid`` of a float32 or float64 array, by the selected kernels.

    The result is laid out in memory as x is."""
    cdef int number = float_number(x, "x")
    cdef cnp.ndarray source = readable(x, "x", number, -1, False), target
    target = np.empty_like(source)
    if not same_strides(source, target):    # the result has no gaps, so x has
        source = cnp.PyArray_GETCONTIGUOUS(source)
        target = np.empty_like(source)
    cdef const vl_kernels *k = kernels_for(arithmetic_of(number))
    cdef ptrdiff_t n = cnp.PyArray_SIZE(source)
    cdef const void *read = cnp.PyArray_DATA(source)
    cdef void *write = cnp.PyArray_DATA(target)
    if function == "exp":
        k.exp(n, read, write)
    elif function == "tanh":
        k.tanh(n, read, write)
    elif function == "sigmoid":
        k.sigmoid(n, read, write)
    else:
        raise ValueError(f"no vector function {function!r}; there are exp, tanh and sigmoid")
    return target


def micros() -> dict:
    """The micro-operations of element-wise chains: name -> (number, how many places it reads)."""
    return {vl_micro_names[k].decode(): (k, vl_micro_source_counts[k]) for k in range(VL_MICRO_COUNT)}


def chain_limits() -> tuple:
    """How many arrays (operands and results), constants and scratch places a chain may have."""
    return VL_CHAIN_ARRAYS, VL_CHAIN_CONSTANTS, VL_CHAIN_SCRATCH


def chain_elements() -> tuple:
    """What a chain's arrays may have, by its number in kernels.h."""
    return np.dtype(np.float32), np.dtype(np.bool_), np.dtype(np.uint8), np.dtype(np.int8)


def chain(micro, constants, list operands not None, list results not None, int scratch):
    """Run a chain over float32, bool or byte arrays of two axes, one shape and any strides, by the kernels in force.

    ``micro`` is int64, as in kernels.h, ``constants`` float32.
    """
    cdef vl_chain_array arrays[VL_CHAIN_ARRAYS]
    cdef vl_chain c
    cdef cnp.ndarray a
    cdef int k = 0
    cdef cnp.ndarray operations = readable(micro, "micro", cnp.NPY_INT64, 1)
    cdef cnp.ndarray numbers = readable(constants, "constants", cnp.NPY_FLOAT32, 1)
    check_places(operations, len(operands), len(numbers), len(results), scratch)
    for a in operands + results:
        if (a is None or cnp.PyArray_NDIM(a) != 2 or not cnp.PyArray_ISBEHAVED_RO(a)
                or cnp.PyArray_TYPE(a) not in (cnp.NPY_FLOAT32, cnp.NPY_BOOL, cnp.NPY_UINT8, cnp.NPY_INT8)
                or (<object>a).shape != results[0].shape or a.strides[0] % a.itemsize or a.strides[1] % a.itemsize):
            raise ValueError("a chain runs over aligned arrays of float32, bool or bytes of two axes, all of one shape")
        if k >= len(operands) and not cnp.PyArray_ISWRITEABLE(a):
            raise ValueError("a result of a chain is read-only")
        arrays[k].data = cnp.PyArray_DATA(a)
        arrays[k].row = a.strides[0] // a.itemsize
        arrays[k].column = a.strides[1] // a.itemsize
        arrays[k].element = chain_elements().index(a.dtype)
        k += 1
    c.rows, c.columns = results[0].shape
    c.operands, c.constants, c.results = len(operands), len(numbers), len(results)
    c.scratch, c.micros = scratch, len(operations)
    c.arrays = arrays
    c.constant = cnp.PyArray_DATA(numbers)
    c.micro = <const int64_t *>cnp.PyArray_DATA(operations)
    kernels_for(VL_IN_FLOAT32).chain(&c)


cdef int check_places(cnp.ndarray micro, Py_ssize_t operands, Py_ssize_t constants, Py_ssize_t results,
                      int scratch) except -1:
    """ValueError unless a chain's micro-operations read and write places that it has."""
    if not (results >= 1 and operands + results <= VL_CHAIN_ARRAYS and constants <= VL_CHAIN_CONSTANTS
            and 0 <= scratch <= VL_CHAIN_SCRATCH):
        raise ValueError(f"a chain has {VL_CHAIN_ARRAYS} arrays at most, {VL_CHAIN_CONSTANTS} constants and "
                         f"{VL_CHAIN_SCRATCH} scratch places")
    cdef Py_ssize_t places = operands + constants + results + scratch
    for operation in micro.tolist():
        kind, to, *sources = [operation >> shift & 255 for shift in (0, 8, 16, 24, 32)]
        if not (0 <= operation < 1 << 40 and kind < VL_MICRO_COUNT and operands + constants <= to < places
                and all([source < places for source in sources[:vl_micro_source_counts[kind]]])):
            raise ValueError(f"micro-operation {operation:#x} is none that a chain with {places} places can run")
    return 0


cdef bint same_strides(cnp.ndarray a, cnp.ndarray b):
    cdef int axis
    for axis in range(cnp.PyArray_NDIM(a)):
        if (cnp.PyArray_STRIDE(a, axis) != cnp.PyArray_STRIDE(b, axis)
                and cnp.PyArray_DIM(a, axis) != 1):
            return False
    return True
