# Packing weights as they are, float32 or float64; a part of weights.pyx.

ctypedef fused real:
    float
    double


def vector_rows(matrix, gates, lanes, vector):
    """The rows of ``[gates*H, K]`` that a vector holds, in memory: ``[at most lanes, K]``."""
    hidden_size = matrix.shape[0] // gates
    block, gate = divmod(vector, gates)
    if block < hidden_size // lanes:
        first = gate * hidden_size + block * lanes
        return in_memory(matrix[first:first + lanes])
    units = hidden_size % lanes
    first = (vector - hidden_size // lanes * gates) * lanes     # of the rows that stand side by side
    last = min(first + lanes, gates * units)
    parts = []
    for gate in range(first // units, -(-last // units)):
        end = (gate + 1) * hidden_size
        begin = end - units
        parts.append(in_memory(matrix[max(begin, begin + first - gate * units):
                                      min(end, begin + last - gate * units)]))
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


cdef void place(real *rows, Py_ssize_t row_stride, Py_ssize_t stride, Py_ssize_t height,
                Py_ssize_t depth, real *vector, Py_ssize_t step, Py_ssize_t lanes) noexcept:
    """rows ``[height, depth]``, one a lane -> a vector every ``step`` elements, zero-padded."""
    cdef Py_ssize_t k, lane
    for k in range(depth):
        for lane in range(height):
            vector[lane] = rows[lane * row_stride + k * stride]
        for lane in range(height, lanes):
            vector[lane] = 0
        vector += step


def pack(matrix, gates, lanes, group):
    """``[gates*H, K]`` -> flat packed array, groups of so many vectors, the last may be narrower.

    Nothing else of the matrix's size is held: no copy in between, and no pages of a mapped file
    that has the matrix in one piece.
    """
    matrix = in_elements(readable(matrix, "a matrix of weights", float_number(matrix, "weights"), 2, False))
    if min(gates, lanes, group) < 1 or matrix.shape[0] % gates:
        raise ValueError(f"{matrix.shape[0]} rows are not those of {gates} gates, in vectors of {lanes}, "
                         f"{group} to a group")
    hidden_size, depth = matrix.shape[0] // gates, matrix.shape[1]
    count = vector_count(gates, hidden_size, lanes)
    packed = aligned_empty((count * lanes * depth,), matrix.dtype)
    if not matrix.size:     # rows of no bytes, of which there may be any number
        return packed
    release(matrix)     # whoever looked at it before brought some
    cdef const void *source
    cdef char *target = <char *><size_t>packed.ctypes.data
    cdef Py_ssize_t vector, itemsize = matrix.itemsize
    for start in range(0, count, group):
        width = min(group, count - start)
        step = width * lanes
        for i in range(width):
            rows = vector_rows(matrix, gates, lanes, start + i)
            height = len(rows)
            row_stride, stride = [s // matrix.itemsize for s in rows.strides]
            source = pointer(rows)
            vector = (start * depth + i) * lanes * itemsize
            if itemsize == sizeof(float):
                place[float](<float *>source, row_stride, stride, height, depth,
                             <float *>(target + vector), step, lanes)
            else:
                place[double](<double *>source, row_stride, stride, height, depth,
                              <double *>(target + vector), step, lanes)
    return packed


def in_elements(array):
    """The array, or a copy if its strides are no whole elements, as in a record's field."""
    return array.copy() if any([stride % array.itemsize for stride in array.strides]) else array
