"""The weights of one direction of one recurrent layer, laid out for the kernels once, at load.

A matrix ``[G*H, K]`` in torch's layout (G gates of H rows) is cut into vectors of L rows of one gate, ordered by
panel (L hidden units), then gate. The hidden units that do not fill a panel have their gates side by side, zero-padded
once at the end: an LSTM's 100 units in vectors of 16 are 6 panels of four vectors and a single vector of four units.
Neighbouring vectors form the groups that a tile multiplies, and a group is stored in the order the k loop reads it::

    packed[group][k][vector in group][L]

A group holds the gates of one panel, or four panels of a cell with one gate; where BLAS computes the input projection,
one group holds all vectors, which is a plain row-major matrix.

What the weights are stored as is one thing, what they are computed in another: a :class:`Storage` packs them, and the
kernels of (cell, storage, arithmetic, instruction set) read them. Floats are moved and not changed, so that torch's
arrays come back bit for bit; small weights (small_matrix.py) are rounded once, unless they come as small ones.
"""

from collections import namedtuple

cimport numpy as cnp
import numpy as np

from vledge.machine import projection
from vledge.recurrent.cells import CELLS as TABLE
from vledge._ext.arrays cimport float_number, readable
from vledge._ext.isa cimport (
    VL_AFFINE,
    VL_CLIP,
    VL_ELU,
    VL_EXPONENTIAL,
    VL_GELU,
    VL_GROUP,
    VL_GRU,
    VL_GRU_RESET_BEFORE,
    VL_HARD_SIGMOID,
    VL_INDRNN_RELU,
    VL_INDRNN_TANH,
    VL_LEAKY_RELU,
    VL_LSTM,
    VL_RELU,
    VL_RNN,
    VL_RNN_RELU,
    VL_RNN_TANH,
    VL_SCALED_TANH,
    VL_SIGMOID,
    VL_SILU,
    VL_SOFTPLUS,
    VL_SOFTSIGN,
    VL_STORED_FLOAT32,
    VL_STORED_FLOAT64,
    VL_STORED_INT8,
    VL_STORED_INT8_FAST,
    VL_STORED_INT16,
    VL_TANH,
    VL_THRESHOLDED_RELU,
    arithmetic_of,
    cell_kernels_for,
    kernels_for,
    vl_kernels,
    vl_small,
    vl_storage,
)
from vledge.machine.mapped_file import in_memory, release
from vledge._ext.layout import (
    aligned_copy,
    aligned_empty,
    candidate_bias,
    from_vectors,
    group_of,
    to_vectors,
    unpack,
    vector_count,
)
from vledge._ext.small_layout import SmallLayout, pack_small, unpack_small
from vledge.small_matrix import SmallMatrix, rounded

cnp.import_array()

# Of every cell: gates, and activations that it takes in place of its own.
GATES = {name: cell.gates for name, cell in TABLE.items()}
ACTIVATIONS_OF = {name: cell.replaced for name, cell in TABLE.items()}
CELLS = {
    "lstm": VL_LSTM, "gru": VL_GRU, "gru_reset_before": VL_GRU_RESET_BEFORE,
    "rnn_tanh": VL_RNN_TANH, "rnn_relu": VL_RNN_RELU, "rnn": VL_RNN,
    "indrnn_tanh": VL_INDRNN_TANH, "indrnn_relu": VL_INDRNN_RELU,
}
# Which activations there are; kernels.h says what they compute.
FUNCTIONS = {
    "sigmoid": VL_SIGMOID, "tanh": VL_TANH, "relu": VL_RELU, "affine": VL_AFFINE,
    "leaky_relu": VL_LEAKY_RELU, "thresholded_relu": VL_THRESHOLDED_RELU,
    "scaled_tanh": VL_SCALED_TANH, "hard_sigmoid": VL_HARD_SIGMOID, "elu": VL_ELU,
    "softsign": VL_SOFTSIGN, "softplus": VL_SOFTPLUS, "exponential": VL_EXPONENTIAL,
    "silu": VL_SILU, "gelu": VL_GELU, "clip": VL_CLIP,
}


include "float_packing.pxi"

# A way to store weights: its number in the kernels' tables, bytes of a weight, and whether they are small integers, or
# floats, which are packed as they are.
Storage = namedtuple("Storage", "number itemsize small")

# Another one is a row here, a row for each cell in the kernels' tables (ext/simd/sets/instance.h), and the kernels that
# read it; a small one besides a row in small_matrix.py's FORMS.
STORAGES = {
    "float32": Storage(VL_STORED_FLOAT32, 4, False),
    "float64": Storage(VL_STORED_FLOAT64, 8, False),
    "int8": Storage(VL_STORED_INT8, 1, True),
    "int8-fast": Storage(VL_STORED_INT8_FAST, 1, True),
    "int16": Storage(VL_STORED_INT16, 2, True),
}


cdef object layout_of(const vl_small *small):
    """How small weights lie in memory for the kernels of a direction."""
    return SmallLayout(small.terms, -small.offset, small.weight_offset)


def common_storage(matrices, dtype, storage):
    """What a direction's weights are to be stored as: as asked for, or as they come."""
    given = {matrix.storage for matrix in matrices if isinstance(matrix, SmallMatrix)}
    storage = storage or (min(given) if given else dtype.name)
    if storage not in STORAGES:
        raise ValueError(f"storage {storage!r} is not one of {', '.join(STORAGES)}")
    if not given <= {storage}:
        raise ValueError(f"weights that are stored as {', '.join(sorted(given))} cannot be a layer of {storage}")
    return storage


cdef ptrdiff_t row_stride(ptrdiff_t vectors, ptrdiff_t lanes, ptrdiff_t itemsize):
    """Numbers from row to row of a buffer: whole vectors, and a cache line more where the rows would
    begin in the same few sets of the nearest cache, which holds only some lines of a set at a time."""
    cdef ptrdiff_t elements = vectors * lanes
    return elements if elements * itemsize % 1024 else elements + 64 // itemsize


cdef const void *pointer(array) except? NULL:
    if array is None:
        return NULL
    return <const void *><size_t>array.ctypes.data


cdef void *gemm_for_projection(bint f64, size_t depth, size_t columns) except? NULL:
    """sgemm's or dgemm's Fortran interface where BLAS is to compute the projection, else NULL."""
    if projection.chosen(8 if f64 else 4, depth, columns) == "tile":
        return NULL
    from vledge.machine import blas     # imported by who wants it

    if projection.selected() == "auto" and not blas.is_there():
        return NULL
    return <void *><size_t>blas.gemm(f64)


cdef Direction made(object direction):
    """The direction, if it is one and has its weights."""
    if not isinstance(direction, Direction) or (<Direction>direction).c.kernels == NULL:
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
    storage : str, a key of ``STORAGES``
        What the kernels read the weights from; by default what they are given as.

    All arrays are float32, or all float64, which is what the layer computes in. They are copied; ``nbytes`` is what
    the copies take. Matrices may be :class:`vledge.small_matrix.SmallMatrix`, too, and the layer then computes in
    float32.
    """

    def __init__(self, str cell, weight_ih, weight_hh, bias_ih=None, bias_hh=None, weight_hr=None,
                 bint reverse=False, tuple activations=None, str storage=None):
        if cell not in GATES:
            raise ValueError(f"cell {cell!r} is not one of {', '.join(GATES)}")
        if self.c.kernels != NULL:
            raise TypeError("a Direction is made once: others hold what it has laid out")
        gates = GATES[cell]
        independent = cell.startswith("indrnn")
        number = cnp.NPY_FLOAT32 if isinstance(weight_ih, SmallMatrix) else float_number(weight_ih, "weight_ih")
        dtype = np.dtype(np.float64 if number == cnp.NPY_FLOAT64 else np.float32)
        axes = {"weight_ih": 2, "weight_hh": 1 if independent else 2, "bias_ih": 1, "bias_hh": 1, "weight_hr": 2}
        given = {"weight_ih": weight_ih, "weight_hh": weight_hh, "bias_ih": bias_ih,
                 "bias_hh": bias_hh, "weight_hr": weight_hr}
        for name, array in given.items():
            if isinstance(array, SmallMatrix) and axes[name] == 2 and number == cnp.NPY_FLOAT32:
                continue
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

        wanted = 0 if activations is None and cell != "rnn" else ACTIVATIONS_OF[cell]
        if len(activations or ()) != wanted:
            raise ValueError(f"cell {cell!r} has {wanted} activations, got {activations}")

        cdef vl_direction *c = &self.c
        for i, (name, alpha, beta) in enumerate(activations or ()):
            if name not in FUNCTIONS:
                raise ValueError(f"activation {name!r} is not one of {', '.join(FUNCTIONS)}")
            c.functions[i].function = FUNCTIONS[name]
            c.functions[i].alpha, c.functions[i].beta = alpha, beta
        c.activations = c.functions if activations else NULL
        storage = common_storage([weight_ih, weight_hh, weight_hr], dtype, storage)
        stored = STORAGES[storage]
        cdef const vl_kernels *kernels = kernels_for(arithmetic_of(number))
        c.cell = CELLS[cell]
        c.run = cell_kernels_for(c.cell, <vl_storage><int>stored.number, kernels.arithmetic)
        if c.run == NULL:
            raise ValueError(f"no kernel of {kernels.isa.decode()} runs cell {cell!r} in {dtype.name} on weights that "
                             f"are stored as {storage}")
        lanes = kernels.lanes
        vectors = vector_count(gates, hidden_size, lanes)
        c.gemm = NULL
        if storage == dtype.name:
            c.gemm = gemm_for_projection(dtype == np.float64, weight_ih.shape[1], gates * hidden_size)
        group = vectors if c.gemm != NULL else group_of(gates)
        self.storage = storage
        m = {"w_ih": self.packed(weight_ih, gates, lanes, group)}
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
        if cell == "gru_reset_before":
            m["w_hh"] = self.packed(weight_hh[:2 * hidden_size], 2, lanes, 2)
            m["w_candidate"] = self.packed(weight_hh[n], 1, lanes, VL_GROUP)
        elif independent:
            m["w_hh"] = aligned_copy(to_vectors(in_memory(weight_hh), 1, lanes))
        else:
            m["w_hh"] = self.packed(weight_hh, gates, lanes, group_of(gates))
        m["bias"] = aligned_copy(to_vectors(bias, gates, lanes))
        if weight_hr is not None:
            m["w_hr"] = self.packed(weight_hr, 1, lanes, VL_GROUP)

        self.matrices = m
        self.bias_parts = [None if b is None else np.array(b) for b in (bias_ih, bias_hh)]
        self.cell, self.dtype, self.reverse = cell, dtype, reverse
        self.activations = activations
        self.input_size, self.hidden_size = weight_ih.shape[1], hidden_size
        self.proj_size = 0 if weight_hr is None else depth

        c.reverse = reverse
        c.independent = independent
        c.number_bytes = dtype.itemsize
        c.weight_bytes = stored.itemsize
        c.input_size = self.input_size
        c.hidden_size = hidden_size
        c.width = depth
        c.gates = gates
        c.panels = -(-hidden_size // lanes)
        c.vectors = vectors
        c.ld_h = row_stride(-(-depth // lanes), lanes, c.number_bytes)
        c.ld_c = row_stride(c.panels, lanes, c.number_bytes)
        # whole panels: a gate of the last one is loaded as a vector
        c.ld_pre = row_stride(c.panels * gates, lanes, c.number_bytes)
        c.group = group
        c.w_ih = pointer(m["w_ih"])
        c.bias = pointer(m["bias"])
        c.w_hh = pointer(m["w_hh"])
        c.w_candidate = pointer(m.get("w_candidate"))
        c.bias_candidate = pointer(m.get("bias_candidate"))
        c.w_hr = pointer(m.get("w_hr"))
        c.kernels = kernels     # last: now it is made

    def __reduce__(self):
        parts = (self.stored("weight_ih"), self.stored("weight_hh"), *self.bias_parts, self.stored("weight_hr"),
                 self.reverse, self.activations, self.storage)
        return Direction, (self.cell, *parts)

    @property
    def address(self) -> int:
        """Where the kernels' description stands, for who keeps this object alive."""
        return <size_t>&self.c

    @property
    def isa(self) -> str:
        """The instruction set that the weights are laid out for."""
        return made(self).c.kernels.isa.decode()

    @property
    def nbytes(self) -> int:
        """Bytes that the packed weights take, padding included."""
        parts = [*self.matrices.values(), *self.bias_parts]
        return sum([a.nbytes for a in parts if a is not None])

    cdef object packed(self, matrix, gates, lanes, group):
        """One of the matrices, laid out."""
        if self.c.run.small == NULL:
            return pack(matrix, gates, lanes, group)
        if not isinstance(matrix, SmallMatrix):
            matrix = rounded(in_memory(matrix), self.storage)
        return pack_small(matrix, gates, lanes, group, layout_of(self.c.run.small))

    cdef object unpacked(self, str name, gates, hidden_size, depth, group):
        """One of the matrices as it was given."""
        lanes, matrix = self.c.kernels.lanes, self.matrices[name]
        if self.c.run.small == NULL:
            return unpack(matrix, gates, hidden_size, depth, lanes, group)
        return unpack_small(matrix, gates, hidden_size, depth, lanes, group, self.storage,
                            layout_of(self.c.run.small))

    def stored(self, str name):
        """A matrix in torch's layout as it is stored, a :class:`vledge.small_matrix.SmallMatrix` where that is small;
        None where there is none."""
        made(self)
        hidden_size, depth, gates = self.hidden_size, self.c.width, GATES[self.cell]
        if name == "weight_ih":
            return self.unpacked("w_ih", gates, hidden_size, self.input_size, self.c.group)
        if name == "weight_hr":
            return self.unpacked("w_hr", 1, depth, hidden_size, VL_GROUP) if self.proj_size else None
        if name != "weight_hh":
            raise ValueError(f"no matrix of weights {name!r}; there are weight_ih, weight_hh and weight_hr")
        if self.c.independent:
            return from_vectors(self.matrices["w_hh"], 1, hidden_size)
        if self.cell == "gru_reset_before":
            parts = [self.unpacked("w_hh", 2, hidden_size, depth, 2),
                     self.unpacked("w_candidate", 1, hidden_size, depth, VL_GROUP)]
            if self.c.run.small == NULL:
                return np.concatenate(parts)
            return SmallMatrix(np.concatenate([part.values for part in parts]),
                               np.concatenate([part.scales for part in parts]), self.storage)
        return self.unpacked("w_hh", gates, hidden_size, depth, group_of(gates))

    def weight_ih(self):
        """``[G*H, I]`` in torch's layout, bit for bit as given, or what the small weights stand for."""
        return np.asarray(self.stored("weight_ih"))

    def weight_hh(self):
        """``[G*H, H or P]``, or an IndRNN's ``[H]``, as weight_ih()."""
        return np.asarray(self.stored("weight_hh"))

    def weight_hr(self):
        """``[P, H]``, as weight_ih(), or None without a projection."""
        return np.asarray(self.stored("weight_hr")) if self.proj_size else None

    def bias_ih(self):
        """``[G*H]`` or None."""
        return None if self.bias_parts[0] is None else self.bias_parts[0].copy()

    def bias_hh(self):
        """``[G*H]`` or None."""
        return None if self.bias_parts[1] is None else self.bias_parts[1].copy()
