"""``x W^T + b`` for weights that are known beforehand: packed once, multiplied by the same tiles as a
layer's input projection.

Each element is summed in order of k whatever the number of rows and threads, so results do not
depend on them.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc

cimport numpy as cnp
import numpy as np

from vledge import threads as thread_settings
from vledge._ext.isa cimport kernels_for, vl_kernels, vl_product
from vledge._ext.recurrent cimport parallel

from vledge._ext.weights import aligned_copy, pack, to_vectors, unpack

cnp.import_array()

cdef enum:
    GROUP = 4   # vectors of a panel

# Rows of x that are multiplied with all weights before the next: they stay in the second-level cache.
cdef ptrdiff_t BLOCK_BYTES = 128 * 1024
# Multiply-adds that are worth waking a thread for.
cdef ptrdiff_t THREAD_WORK = 1 << 20


cdef struct Job:
    const vl_kernels *kernels
    const vl_product *product
    ptrdiff_t itemsize, block


cdef void multiply(void *context, int member, int members) noexcept nogil:
    """One member's rows, in blocks; a single row is shared by its columns."""
    cdef Job *job = <Job *>context
    cdef vl_product p = job.product[0]
    cdef ptrdiff_t rows = p.rows, row, last, groups
    if rows < members:
        groups = (p.vectors + GROUP - 1) // GROUP
        p.first = GROUP * (groups * member // members)
        p.last = min(GROUP * (groups * (member + 1) // members), p.vectors)
        job.kernels.product(&p)
        return
    row = rows * member // members
    last = rows * (member + 1) // members
    while row < last:
        p.rows = min(job.block, last - row)
        p.x_rows = job.product.x_rows + row
        p.out = <char *>job.product.out + row * p.ld_out * job.itemsize
        job.kernels.product(&p)
        row += p.rows


cdef class Product:
    """A matrix to multiply with.

    Parameters
    ----------
    weight : ndarray [N, K], float32 or float64
        As torch.nn.Linear holds it. Copied; ``weight()`` gives it back bit for bit.
    bias : ndarray [N] of the same dtype, or None
    """

    cdef const vl_kernels *kernels
    cdef readonly object dtype
    cdef readonly Py_ssize_t columns, depth
    cdef object packed, bias_vectors
    cdef int number
    cdef ptrdiff_t vectors

    def __init__(self, weight, bias=None):
        if weight.dtype != np.float32 and weight.dtype != np.float64:
            raise ValueError(f"weight has dtype {weight.dtype}, expected float32 or float64")
        if weight.ndim != 2 or (bias is not None and
                                (bias.shape != weight.shape[:1] or bias.dtype != weight.dtype)):
            raise ValueError("weight must be [N, K] and bias [N], of one dtype")
        self.dtype = weight.dtype
        self.columns, self.depth = weight.shape
        self.kernels = kernels_for(self.dtype == np.float64)
        self.number = cnp.NPY_FLOAT64 if self.dtype == np.float64 else cnp.NPY_FLOAT32
        lanes = self.kernels.lanes
        self.vectors = -(-self.columns // lanes)
        self.packed = pack(weight, 1, lanes, GROUP)
        self.bias_vectors = None if bias is None else aligned_copy(to_vectors(bias, 1, lanes))

    def __reduce__(self):
        return Product, (self.weight(), self.bias())

    @property
    def nbytes(self) -> int:
        """Bytes that the packed weights take, padding included."""
        return self.packed.nbytes + (0 if self.bias_vectors is None else self.bias_vectors.nbytes)

    def weight(self):
        """``[N, K]``, bit for bit as given."""
        return unpack(self.packed, 1, self.columns, self.depth, self.kernels.lanes, GROUP)

    def bias(self):
        """``[N]`` or None."""
        return None if self.bias_vectors is None else self.bias_vectors.reshape(-1)[:self.columns].copy()

    def __call__(self, cnp.ndarray x, bint relu=False, threads=None):
        """``x [..., K] -> [..., N]``, a new array: ``x W^T + b``, or with ``relu`` its positive part.

        x may have any strides; only where those of the last axis are not contiguous it is copied.
        """
        cdef int ndim = cnp.PyArray_NDIM(x), axis
        cdef cnp.npy_intp shape[32]
        cdef cnp.npy_intp place[32]
        cdef ptrdiff_t rows = 1, row, offset = 0
        cdef ptrdiff_t *x_rows
        cdef vl_product p
        cdef Job job
        cdef ptrdiff_t itemsize = cnp.PyArray_ITEMSIZE(x)
        cdef int members
        if cnp.PyArray_TYPE(x) != self.number:
            raise ValueError(f"x has dtype {x.dtype}, the weights have {self.dtype}")
        if ndim < 1 or cnp.PyArray_DIM(x, ndim - 1) != self.depth:
            raise ValueError(f"x has shape {(<object>x).shape}, expected [..., {self.depth}]")
        if cnp.PyArray_STRIDE(x, ndim - 1) != itemsize and self.depth > 1:
            x = np.ascontiguousarray(x)
        for axis in range(ndim - 1):
            shape[axis] = cnp.PyArray_DIM(x, axis)
            place[axis] = 0
            rows *= shape[axis]
            if cnp.PyArray_STRIDE(x, axis) % itemsize:
                return self(np.ascontiguousarray(x), relu, threads)
        shape[ndim - 1] = self.columns
        out = cnp.PyArray_EMPTY(ndim, shape, self.number, False)
        if rows == 0 or self.columns == 0:
            return out
        x_rows = <ptrdiff_t *>PyMem_Malloc(rows * sizeof(ptrdiff_t))
        if x_rows == NULL:
            raise MemoryError
        try:
            for row in range(rows):
                x_rows[row] = offset
                axis = ndim - 2
                while axis >= 0:        # the next place, the last axis first
                    offset += cnp.PyArray_STRIDE(x, axis) // itemsize
                    place[axis] += 1
                    if place[axis] < shape[axis]:
                        break
                    offset -= shape[axis] * (cnp.PyArray_STRIDE(x, axis) // itemsize)
                    place[axis] = 0
                    axis -= 1
            p.rows = rows
            p.depth = self.depth
            p.first = 0
            p.last = p.vectors = self.vectors
            p.columns = p.ld_out = self.columns
            p.group = GROUP
            p.relu = relu
            p.x = cnp.PyArray_DATA(x)
            p.x_rows = x_rows
            p.w = <const void *>cnp.PyArray_DATA(self.packed)
            p.bias = NULL if self.bias_vectors is None else cnp.PyArray_DATA(self.bias_vectors)
            p.out = cnp.PyArray_DATA(out)
            job.kernels = self.kernels
            job.product = &p
            job.itemsize = itemsize
            job.block = max(BLOCK_BYTES // (itemsize * max(self.depth, 1)), 48)
            members = thread_settings.get_num_threads() if threads is None else threads
            members = min(members, <int>min(rows * self.columns * self.depth // THREAD_WORK + 1, 64))
            if members == 1:
                with nogil:
                    multiply(&job, 0, 1)
            else:
                with nogil:
                    parallel(members, multiply, &job)
        finally:
            PyMem_Free(x_rows)
        return out
