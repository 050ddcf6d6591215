"""The weights of one direction of one recurrent layer, laid out for the kernels once, at load.

A matrix ``[G*H, K]`` in torch's layout (G gates of H rows) is cut into vectors of L rows of one
gate, ordered by hidden block, then gate. The hidden units that do not fill a block have their gates side by
side, zero-padded once at the end: an LSTM's 100 units in vectors of 16 are 6 blocks of four vectors and
a single one of four units. Neighbouring vectors form the panels that a tile works on, and a panel is
stored in the order the k loop reads it::

    packed[panel][k][vector in panel][L]

The input projection's panels hold the gates of one hidden block (four of them for a cell with one
gate); where BLAS computes it, one panel holds all vectors, which is a plain row-major matrix. Packing moves values and changes none, so torch's arrays come back bit for bit.
"""

import math

cimport numpy as cnp
import numpy as np

from vledge.machine import projection
from vledge._ext.arrays cimport float_number, readable
from vledge._ext.isa cimport (
    VL_AFFINE,
    VL_CLIP,
    VL_ELU,
    VL_EXPONENTIAL,
    VL_GELU,
    VL_HARD_SIGMOID,
    VL_LEAKY_RELU,
    VL_RELU,
    VL_SCALED_TANH,
    VL_SIGMOID,
    VL_SILU,
    VL_SOFTPLUS,
    VL_SOFTSIGN,
    VL_TANH,
    VL_THRESHOLDED_RELU,
    kernels_for,
    vl_kernels,
)
from vledge.machine.mapped_file import in_memory, release

cnp.import_array()

GATES = {"lstm": 4, "gru": 3, "gru_reset_before": 3, "rnn_tanh": 1, "rnn_relu": 1, "rnn": 1,
         "indrnn_tanh": 1, "indrnn_relu": 1}
CELLS = {
    "lstm": LSTM, "gru": GRU, "gru_reset_before": GRU_RESET_BEFORE,
    "rnn_tanh": RNN_TANH, "rnn_relu": RNN_RELU, "rnn": RNN,
    "indrnn_tanh": INDRNN_TANH, "indrnn_relu": INDRNN_RELU,
}
# How many activations a cell takes in place of its own, and which there are (kernels.h says what they compute).
ACTIVATIONS_OF = {"lstm": 3, "gru": 2, "gru_reset_before": 2, "rnn": 1}
FUNCTIONS = {
    "sigmoid": VL_SIGMOID, "tanh": VL_TANH, "relu": VL_RELU, "affine": VL_AFFINE,
    "leaky_relu": VL_LEAKY_RELU, "thresholded_relu": VL_THRESHOLDED_RELU,
    "scaled_tanh": VL_SCALED_TANH, "hard_sigmoid": VL_HARD_SIGMOID, "elu": VL_ELU,
    "softsign": VL_SOFTSIGN, "softplus": VL_SOFTPLUS, "exponential": VL_EXPONENTIAL,
    "silu": VL_SILU, "gelu": VL_GELU, "clip": VL_CLIP,
}


ctypedef fused real:
    float
    double


def aligned_empty(shape, dtype):
    """An uninitialised C-contiguous array that begins at a multiple of 64 bytes."""
    dtype = np.dtype(dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start:start + size].view(dtype).reshape(shape)


def vector_count(gates, hidden_size, lanes):
    """Vectors of one row of ``gates * hidden_size`` results."""
    blocks, units = divmod(hidden_size, lanes)
    return blocks * gates + -(-units * gates // lanes)


def to_vectors(matrix, gates, lanes):
    """``[gates*H, ...]`` -> ``[vectors, lanes, ...]``."""
    hidden_size, rest = matrix.shape[0] // gates, matrix.shape[1:]
    full = hidden_size // lanes * lanes
    by_gate = matrix.reshape(gates, hidden_size, *rest)
    rows = np.zeros((vector_count(gates, hidden_size, lanes) * lanes, *rest), matrix.dtype)
    blocks = by_gate[:, :full].reshape(gates, full // lanes, lanes, *rest).swapaxes(0, 1)
    rows[:gates * full] = blocks.reshape(gates * full, *rest)
    rows[gates * full:gates * hidden_size] = by_gate[:, full:].reshape(-1, *rest)
    return rows.reshape(-1, lanes, *rest)


def from_vectors(vectors, gates, hidden_size):
    """The inverse of :func:`to_vectors`."""
    lanes, rest = vectors.shape[1], vectors.shape[2:]
    full = hidden_size // lanes * lanes
    rows = vectors.reshape(-1, *rest)
    by_gate = np.empty((gates, hidden_size, *rest), vectors.dtype)
    blocks = rows[:gates * full].reshape(full // lanes, gates, lanes, *rest).swapaxes(0, 1)
    by_gate[:, :full] = blocks.reshape(gates, full, *rest)
    by_gate[:, full:] = rows[gates * full:gates * hidden_size].reshape(gates, -1, *rest)
    return by_gate.reshape(gates * hidden_size, *rest)


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
    """``[gates*H, K]`` -> flat packed array, panels of ``group`` vectors, the last may be narrower.

    Nothing else of the matrix's size is held: no copy in between, and no pages of a mapped file
    that has the matrix in one piece.
    """
    matrix = in_elements(readable(matrix, "a matrix of weights", float_number(matrix, "weights"), 2, False))
    if min(gates, lanes, group) < 1 or matrix.shape[0] % gates:
        raise ValueError(f"{matrix.shape[0]} rows are not those of {gates} gates, in vectors of {lanes}, "
                         f"{group} to a panel")
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


def unpack(packed, gates, hidden_size, depth, lanes, group):
    """The inverse of :func:`pack`."""
    count = vector_count(gates, hidden_size, lanes)
    full = count // group * group
    vectors = np.empty((count, lanes, depth), packed.dtype)
    head = packed[:full * lanes * depth].reshape(full // group, depth, group, lanes)
    vectors[:full] = head.transpose(0, 2, 3, 1).reshape(full, lanes, depth)
    tail = packed[full * lanes * depth:].reshape(depth, count - full, lanes)
    vectors[full:] = tail.transpose(1, 2, 0)
    return from_vectors(vectors, gates, hidden_size)


cdef ptrdiff_t row_stride(ptrdiff_t vectors, ptrdiff_t lanes, ptrdiff_t itemsize):
    """Elements from row to row of a buffer: whole vectors, and a cache line more where the rows would
    begin in the same few sets of the nearest cache, which holds only some lines of a set at a time."""
    cdef ptrdiff_t elements = vectors * lanes
    return elements if elements * itemsize % 1024 else elements + 64 // itemsize


cdef const void *pointer(array) except? NULL:
    if array is None:
        return NULL
    return <const void *><size_t>array.ctypes.data


cdef void *gemm_for_projection(bint f64) except? NULL:
    """sgemm's or dgemm's Fortran interface where BLAS is to compute the projection, else NULL."""
    if projection.selected() == "tile":
        return NULL
    from vledge.machine.blas import gemm    # imported by who wants it

    return <void *><size_t>gemm(f64)


cdef Direction made(object direction):
    """The direction, if it is one and has its weights."""
    if not isinstance(direction, Direction) or (<Direction>direction).weights.kernels == NULL:
        raise TypeError(f"expected a Direction with weights, got {type(direction).__name__}")
    return direction


cdef class Direction:
    """One direction of one layer.

    Parameters
    ----------
    cell : {"lstm", "gru", "gru_reset_before", "rnn_tanh", "rnn_relu", "rnn", "indrnn_tanh", "indrnn_relu"}
        Gates in torch's orders: lstm i, f, g, o; gru r, z, n. ``gru_reset_before`` is the ONNX
        operator's ``linear_before_reset=0``.
    weight_ih : ndarray [G*H, I]
    weight_hh : ndarray [G*H, H], or [G*H, P] with a projection, or an IndRNN's [H]
    bias_ih, bias_hh : ndarray [G*H] or None
    weight_hr : ndarray [P, H] or None
        LSTM's projection (``proj_size``).
    reverse : bool
        Walk each sequence from its own last step to its first.
    activations : tuple of (name, alpha, beta), or None
        In place of sigmoid and tanh: of the gates, of the candidate and, of an LSTM, of its output.
        Cell "rnn" has none of its own and wants one.

    All arrays are float32, or all float64. They are copied; ``nbytes`` is what the copies take.
    """

    def __init__(self, str cell, weight_ih, weight_hh, bias_ih=None, bias_hh=None, weight_hr=None,
                 bint reverse=False, tuple activations=None):
        if cell not in GATES:
            raise ValueError(f"cell {cell!r} is not one of {', '.join(GATES)}")
        if self.weights.kernels != NULL:
            raise TypeError("a Direction is made once: others hold what it has laid out")
        gates = GATES[cell]
        independent = cell.startswith("indrnn")
        number = float_number(weight_ih, "weight_ih")
        dtype = np.dtype(np.float64 if number == cnp.NPY_FLOAT64 else np.float32)
        axes = {"weight_ih": 2, "weight_hh": 1 if independent else 2, "bias_ih": 1, "bias_hh": 1, "weight_hr": 2}
        given = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih,
                 "bias_hh": bias_hh, "weight_hr": weight_hr}
        for name, array in given.items():
            if array is not None or name == "weight_hh":
                given[name] = readable(array, name, number, axes[name], False)
        weight_ih, weight_hh, bias_ih, bias_hh, weight_hr = given.values()
        hidden_size = weight_ih.shape[0] // gates
        depth = hidden_size if weight_hr is None else weight_hr.shape[0]
        expected = {"weight_ih": (gates * hidden_size, weight_ih.shape[1]),
                    "weight_hh": (hidden_size,) if independent else (gates * hidden_size, depth),
                    "bias_ih": (gates * hidden_size,), "bias_hh": (gates * hidden_size,),
                    "weight_hr": (depth, hidden_size)}
        if weight_hr is not None and cell != "lstm":
            raise ValueError(f"weight_hr goes with cell 'lstm' only, not {cell!r}")
        if 0 in (hidden_size, depth):
            raise ValueError("hidden_size and proj_size must be greater than 0")
        for name, array in given.items():
            if array is not None and array.shape != expected[name]:
                raise ValueError(f"{name} has shape {array.shape}, expected {expected[name]}")

        wanted = 0 if activations is None and cell != "rnn" else ACTIVATIONS_OF.get(cell, 0)
        if len(activations or ()) != wanted:
            raise ValueError(f"cell {cell!r} has {wanted} activations, got {activations}")

        cdef Weights *w = &self.weights
        for i, (name, alpha, beta) in enumerate(activations or ()):
            if name not in FUNCTIONS:
                raise ValueError(f"activation {name!r} is not one of {', '.join(FUNCTIONS)}")
            w.functions[i].function = FUNCTIONS[name]
            w.functions[i].alpha, w.functions[i].beta = alpha, beta
        w.activations = w.functions if activations else NULL
        cdef const vl_kernels *kernels = kernels_for(dtype == np.float64)
        w.cell = CELLS[cell]
        lanes = kernels.lanes
        vectors = vector_count(gates, hidden_size, lanes)
        w.gemm = gemm_for_projection(dtype == np.float64)
        group = vectors if w.gemm != NULL else 3 if gates == 3 else 4
        m = {"w_ih": pack(weight_ih, gates, lanes, group)}
        bias_ih, bias_hh = [None if b is None else in_memory(b) for b in (bias_ih, bias_hh)]
        bias = np.zeros(gates * hidden_size, dtype)
        if bias_ih is not None:
            bias += bias_ih
        if bias_hh is not None:
            bias += bias_hh
        n = slice(2 * hidden_size, None)
        if cell == "gru":
            # r and z take both biases with the input; n's recurrent one is gated with R h
            if bias_hh is not None:
                bias[n] = 0 if bias_ih is None else bias_ih[n]
                m["bias_candidate"] = candidate_bias(bias_hh, lanes)
            m["w_hh"] = pack(weight_hh, 3, lanes, 3)
        elif cell == "gru_reset_before":
            m["w_hh"] = pack(weight_hh[:2 * hidden_size], 2, lanes, 2)
            m["w_candidate"] = pack(weight_hh[n], 1, lanes, 4)
        elif independent:
            m["w_hh"] = aligned_copy(to_vectors(in_memory(weight_hh), 1, lanes))
        else:
            m["w_hh"] = pack(weight_hh, gates, lanes, 4)
        m["bias"] = aligned_copy(to_vectors(bias, gates, lanes))
        if weight_hr is not None:
            m["w_hr"] = pack(weight_hr, 1, lanes, 4)

        self.matrices = m
        self.bias_parts = [None if b is None else np.array(b) for b in (bias_ih, bias_hh)]
        self.cell, self.dtype, self.reverse = cell, dtype, reverse
        self.activations = activations
        self.input_size, self.hidden_size = weight_ih.shape[1], hidden_size
        self.proj_size = 0 if weight_hr is None else depth

        w.reverse = reverse
        w.independent = independent
        w.itemsize = dtype.itemsize
        w.input_size = self.input_size
        w.hidden_size = hidden_size
        w.width = depth
        w.gates = gates
        w.panels = -(-hidden_size // lanes)
        w.vectors = vectors
        w.ld_h = row_stride(-(-depth // lanes), lanes, w.itemsize)
        w.ld_c = row_stride(w.panels, lanes, w.itemsize)
        # whole panels: a gate of the last one is loaded as a vector
        w.ld_pre = row_stride(w.panels * gates, lanes, w.itemsize)
        w.group = group
        w.w_ih = pointer(m["w_ih"])
        w.bias = pointer(m["bias"])
        w.w_hh = pointer(m["w_hh"])
        w.w_candidate = pointer(m.get("w_candidate"))
        w.bias_candidate = pointer(m.get("bias_candidate"))
        w.w_hr = pointer(m.get("w_hr"))
        w.kernels = kernels     # last: now it is made

    def __reduce__(self):
        parts = (self.weight_ih(), self.weight_hh(), *self.bias_parts, self.weight_hr(), self.reverse,
                 self.activations)
        return Direction, (self.cell, *parts)

    @property
    def address(self) -> int:
        """Where the kernels' description stands, for who keeps this object alive."""
        return <size_t>&self.weights

    @property
    def isa(self) -> str:
        """The instruction set that the weights are laid out for."""
        return made(self).weights.kernels.isa.decode()

    @property
    def nbytes(self) -> int:
        """Bytes that the packed weights take, padding included."""
        parts = [*self.matrices.values(), *self.bias_parts]
        return sum([a.nbytes for a in parts if a is not None])

    def weight_ih(self):
        """``[G*H, I]`` in torch's layout, bit for bit as given."""
        return unpack(self.matrices["w_ih"], GATES[self.cell], self.hidden_size, self.input_size,
                      self.weights.kernels.lanes, self.weights.group)

    def weight_hh(self):
        """``[G*H, H or P]``, or an IndRNN's ``[H]``, in torch's layout, bit for bit as given."""
        lanes, hidden_size, depth = made(self).weights.kernels.lanes, self.hidden_size, self.weights.width
        w_hh = self.matrices["w_hh"]
        if self.weights.independent:
            return from_vectors(w_hh, 1, hidden_size)
        if self.cell == "gru_reset_before":
            gated = unpack(w_hh, 2, hidden_size, depth, lanes, 2)
            candidate = unpack(self.matrices["w_candidate"], 1, hidden_size, depth, lanes, 4)
            return np.concatenate([gated, candidate])
        gates = GATES[self.cell]
        return unpack(w_hh, gates, hidden_size, depth, lanes, 3 if gates == 3 else 4)

    def weight_hr(self):
        """``[P, H]``, or None without a projection."""
        if not self.proj_size:
            return None
        return unpack(self.matrices["w_hr"], 1, self.proj_size, self.hidden_size,
                      self.weights.kernels.lanes, 4)

    def bias_ih(self):
        """``[G*H]`` or None."""
        return None if self.bias_parts[0] is None else self.bias_parts[0].copy()

    def bias_hh(self):
        """``[G*H]`` or None."""
        return None if self.bias_parts[1] is None else self.bias_parts[1].copy()


def candidate_bias(bias_hh, lanes):
    """What the sums of a GRU's third gate begin with: of the blocks its vectors, and of the units that do not
    fill one, where it shares vectors with the other two, zeros for those."""
    alone = np.zeros_like(bias_hh)
    third = slice(2 * len(bias_hh) // 3, None)
    alone[third] = bias_hh[third]
    vectors = to_vectors(alone, 3, lanes)
    blocks = 3 * (len(bias_hh) // 3 // lanes)
    return aligned_copy(np.concatenate([vectors[2:blocks:3], vectors[blocks:]]))


def aligned_copy(array):
    copy = aligned_empty(array.shape, array.dtype)
    copy[...] = array
    return copy
