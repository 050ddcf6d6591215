"""Products with a matrix that is known beforehand, ``x W^T + b``, packed once and multiplied by the
same tiles as a layer's input projection.

Each element is summed in one order whatever the number of rows and threads, so results do not
depend on them.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t

cimport numpy as cnp
import numpy as np

from vledge.machine import threads as thread_settings
from vledge._ext.arrays cimport float_number, product_of, readable
from vledge._ext.isa cimport (
    VL_GROUP,
    VL_LSTM,
    arithmetic_of,
    cell_kernels_for,
    kernels_for,
    vl_cell_kernels,
    vl_kernels,
    vl_product,
    vl_small_row_bytes,
    vl_storage,
)
from vledge._ext.pool cimport check_ended, heed, limits_in_force, parallel, vl_heed, vl_limits

from vledge._ext.weights cimport layout_of

from vledge._ext.layout import aligned_copy, aligned_empty, to_vectors, unpack
from vledge._ext.small_layout import pack_small, unpack_small
from vledge._ext.weights import STORAGES, pack
from vledge.small_matrix import SmallMatrix

cnp.import_array()

cdef extern from "row_blocks.h" nogil:
    ctypedef struct vl_row_blocks:
        void (*kernel)(const vl_product *) noexcept nogil
        const vl_product *product
        ptrdiff_t number_bytes, block, room_bytes
        vl_heed *heed
    int vl_members_for(int64_t work, int64_t thread_work, int threads)
    ptrdiff_t vl_rows_of_block(const vl_limits *limits, ptrdiff_t row_bytes)
    void vl_multiply_rows(void *context, int member, int members) noexcept


cdef ptrdiff_t *places(cnp.ndarray x, int first, int last, ptrdiff_t *count) except NULL:
    """Offsets, in elements, of x's items over axes [first, last); the caller frees them."""
    cdef cnp.npy_intp at[32]
    cdef int axis
    cdef ptrdiff_t i, offset = 0, itemsize = cnp.PyArray_ITEMSIZE(x)
    count[0] = 1
    for axis in range(first, last):
        count[0] = product_of(count[0], cnp.PyArray_DIM(x, axis))
        at[axis] = 0
    cdef ptrdiff_t *offsets = <ptrdiff_t *>PyMem_Malloc(product_of(max(count[0], 1), sizeof(ptrdiff_t)))
    if offsets == NULL:
        raise MemoryError
    for i in range(count[0]):
        offsets[i] = offset
        axis = last - 1
        while axis >= first:        # the last axis first
            offset += cnp.PyArray_STRIDE(x, axis) // itemsize
            at[axis] += 1
            if at[axis] < cnp.PyArray_DIM(x, axis):
                break
            offset -= at[axis] * (cnp.PyArray_STRIDE(x, axis) // itemsize)
            at[axis] = 0
            axis -= 1
    return offsets


cdef cnp.ndarray addressable(cnp.ndarray x):
    """x if it is aligned, its last axis contiguous and all strides whole elements, else a copy."""
    cdef int axis, ndim = cnp.PyArray_NDIM(x)
    cdef ptrdiff_t itemsize = cnp.PyArray_ITEMSIZE(x)
    if not cnp.PyArray_ISALIGNED(x):
        return x.copy()     # ascontiguousarray keeps an array that only lacks alignment
    if cnp.PyArray_STRIDE(x, ndim - 1) != itemsize and cnp.PyArray_DIM(x, ndim - 1) > 1:
        return np.ascontiguousarray(x)
    for axis in range(ndim):
        if cnp.PyArray_STRIDE(x, axis) % itemsize:
            return np.ascontiguousarray(x)
    return x


cdef tuple checked_weights(weight, bias, int number, bint per_row):
    """The weights and the bias, which has one number for each of their first or last axis."""
    weight = readable(weight, "weight", number, -1, False)
    if weight.ndim < 1:
        raise ValueError("weight has no axes")
    if bias is not None:
        bias = readable(bias, "bias", number, 1, False)
        if bias.shape[0] != weight.shape[0 if per_row else weight.ndim - 1]:
            raise ValueError(f"bias has shape {bias.shape}, weight has {weight.shape}")
    return weight, bias


cdef class Product:
    """A matrix to multiply with.

    Parameters
    ----------
    weight : ndarray [N, K], float32 or float64, or SmallMatrix
        As torch.nn.Linear holds it. Copied; ``weight()`` gives it back bit for bit. With small weights x and the
        result are float32.
    bias : ndarray [N] of the same dtype, or None
    """

    cdef const vl_kernels *kernels
    cdef readonly object dtype
    cdef readonly Py_ssize_t columns, depth
    cdef readonly object packed, bias_vectors     # as the kernels read them
    cdef readonly object storage                  # of small weights, else None
    cdef const vl_cell_kernels *run               # whose product small weights have, else NULL
    cdef int number
    cdef ptrdiff_t vectors

    def __init__(self, weight, bias=None):
        if self.kernels != NULL:
            raise TypeError("a Product is made once")
        self.number = cnp.NPY_FLOAT32 if isinstance(weight, SmallMatrix) else float_number(weight, "weight")
        if isinstance(weight, SmallMatrix):
            self.storage = weight.storage
            if bias is not None:
                bias = checked_weights(np.empty((weight.shape[0], 0), np.float32), bias, self.number, True)[1]
        else:
            weight, bias = checked_weights(weight, bias, self.number, True)
        if weight.ndim != 2:
            raise ValueError(f"weight must be [N, K], its shape is {weight.shape}")
        self.dtype = weight.dtype
        self.columns, self.depth = weight.shape
        cdef const vl_kernels *kernels = kernels_for(arithmetic_of(self.number))
        lanes = kernels.lanes
        self.vectors = -(-self.columns // lanes)
        if self.storage is None:
            self.packed = pack(weight, 1, lanes, VL_GROUP)
        else:
            # the product is the same whatever cell has it
            self.run = cell_kernels_for(VL_LSTM, <vl_storage><int>STORAGES[self.storage].number, kernels.arithmetic)
            if self.run == NULL:
                raise ValueError(f"no kernel of {kernels.isa.decode()} multiplies weights stored as {self.storage}")
            self.packed = pack_small(weight, 1, lanes, VL_GROUP, layout_of(self.run.small))
        self.bias_vectors = None if bias is None else aligned_copy(to_vectors(bias, 1, lanes))
        self.kernels = kernels      # last: now it is made

    cdef int check_made(self) except -1:
        if self.kernels == NULL:
            raise TypeError("this Product has no weights")
        return 0

    def __reduce__(self):
        return Product, (self.weight(), self.bias())

    @property
    def nbytes(self) -> int:
        """Bytes that the packed weights take, padding included."""
        return self.packed.nbytes + (0 if self.bias_vectors is None else self.bias_vectors.nbytes)

    def weight(self):
        """``[N, K]``, bit for bit as given."""
        self.check_made()
        if self.run != NULL:
            return unpack_small(self.packed, 1, self.columns, self.depth, self.kernels.lanes, VL_GROUP, self.storage,
                                layout_of(self.run.small))
        return unpack(self.packed, 1, self.columns, self.depth, self.kernels.lanes, VL_GROUP)

    def bias(self):
        """``[N]`` or None."""
        return None if self.bias_vectors is None else self.bias_vectors.reshape(-1)[:self.columns].copy()

    def __call__(self, x, bint relu=False, out=None, threads=None):
        """``x [..., K] -> [..., N]``: ``x W^T + b``, or with ``relu`` its positive part.

        x may have any strides; only where those of the last axis are not contiguous it is copied.
        The result is a new array, or ``out``, which may be columns ``[..., i : i + N]`` of a
        C-contiguous array, and may lie where x lies.
        """
        cdef cnp.npy_intp shape[32]
        cdef ptrdiff_t *x_rows
        cdef vl_product p
        cdef vl_row_blocks blocks
        cdef vl_heed call
        cdef cnp.ndarray source, target
        cdef int members, axis
        cdef ptrdiff_t rows
        cdef cnp.ndarray room
        self.check_made()
        source = readable(x, "x", self.number, -1, False)
        cdef int ndim = cnp.PyArray_NDIM(source)
        cdef ptrdiff_t itemsize = cnp.PyArray_ITEMSIZE(source)
        if ndim < 1 or ndim > 32 or cnp.PyArray_DIM(source, ndim - 1) != self.depth:
            raise ValueError(f"x has shape {(<object>source).shape}, expected [..., {self.depth}]")
        source = addressable(source)
        p.ld_out = self.columns
        if out is None:
            for axis in range(ndim - 1):
                shape[axis] = cnp.PyArray_DIM(source, axis)
            shape[ndim - 1] = self.columns
            target = cnp.PyArray_EMPTY(ndim, shape, self.number, False)
        else:
            target = out
            p.ld_out = self.distance_of_rows(target, source)
            if np.may_share_memory(source, target):
                source = source.copy()
        x_rows = places(source, 0, ndim - 1, &p.rows)
        try:
            if p.rows == 0 or self.columns == 0:
                return target
            p.depth = self.depth
            p.first = 0
            p.last = p.vectors = self.vectors
            p.columns = self.columns
            p.group = VL_GROUP
            p.turned = False
            p.relu = relu
            p.x = cnp.PyArray_DATA(source)
            p.x_rows = x_rows
            p.w = cnp.PyArray_DATA(self.packed)
            p.bias = NULL if self.bias_vectors is None else cnp.PyArray_DATA(self.bias_vectors)
            p.out = cnp.PyArray_DATA(target)
            blocks.kernel = self.kernels.product
            p.small = NULL
            p.room = NULL
            p.in_room = False
            blocks.room_bytes = 0
            blocks.product = &p
            blocks.number_bytes = itemsize
            blocks.block = vl_rows_of_block(limits_in_force(), itemsize * self.depth)
            blocks.heed = &call
            most = thread_settings.get_num_threads() if threads is None else threads
            members = vl_members_for(<int64_t>p.rows * self.columns * self.depth, limits_in_force().thread_work,
                                     max(most, 1))
            if self.run != NULL:
                rows = p.rows if p.rows < members else min(blocks.block, p.rows)
                blocks.room_bytes = product_of(rows, vl_small_row_bytes(self.depth))
                room = aligned_empty((product_of(members, blocks.room_bytes),), np.uint8)
                p.small = self.run.small
                p.room = <char *>cnp.PyArray_DATA(room)
                blocks.kernel = self.run.product
            heed(&call)
            with nogil:
                if members == 1:
                    vl_multiply_rows(&blocks, 0, 1)
                else:
                    parallel(members, vl_multiply_rows, &blocks, &call)
            check_ended(&call)
        finally:
            PyMem_Free(x_rows)
        return target

    cdef ptrdiff_t distance_of_rows(self, cnp.ndarray out, cnp.ndarray x) except -1:
        """Elements from row to row of the array that the result goes to."""
        cdef int axis, ndim = cnp.PyArray_NDIM(x)
        cdef ptrdiff_t itemsize = cnp.PyArray_ITEMSIZE(out), stride = -1, distance = self.columns
        if ((<object>out).shape != (*(<object>x).shape[:ndim - 1], self.columns)
                or cnp.PyArray_TYPE(out) != self.number or not cnp.PyArray_ISBEHAVED(out)
                or cnp.PyArray_STRIDE(out, ndim - 1) != itemsize and self.columns > 1):
            raise ValueError("out does not have the result's shape and dtype, or cannot be written as it "
                             "lies in memory")
        for axis in range(ndim - 2, -1, -1):
            if cnp.PyArray_DIM(out, axis) == 1:
                continue
            if stride == -1:
                stride = cnp.PyArray_STRIDE(out, axis)
                distance = stride // itemsize
            if cnp.PyArray_STRIDE(out, axis) != stride or stride % itemsize or stride < 0:
                raise ValueError("out must have rows at equal distances")
            stride *= cnp.PyArray_DIM(out, axis)
        return distance
