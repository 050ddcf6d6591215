"""Stacked recurrent layers that keep their own state: what a stream calls for every frame.

Everything that does not change from step to step is laid out once: the buffers, the tables of
offsets, the kernels' arguments. A step then fills in two pointers a layer and calls the kernels. It
allocates nothing, takes no lock (it holds the GIL, for the microseconds that it lasts) and runs on
the caller's thread; `push` releases the GIL once for the whole chunk.

The state alternates between two buffers, and a layer reads its input where the layer below has
written its state: nothing is copied between layers.
"""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free

cimport numpy as cnp
import numpy as np

from vledge._ext.arrays cimport has_shape, is_plain, share_memory, shaped, writable
from vledge._ext.isa cimport VL_GRU_RESET_BEFORE, number_of, vl_independent, vl_product, vl_small_row_bytes, vl_step
from vledge._ext.pool cimport (
    VL_WORK_BETWEEN_LOOKS,
    check_ended,
    heed,
    project_state,
    set_state_projection,
    step_from_input,
    vl_heed,
    vl_shall_end,
    vl_team,
)
from vledge._ext.weights cimport Direction, made, vl_direction, vl_has_cell_state

from vledge._ext.layout import aligned_empty, group_of
from vledge._ext.weights import GATES, pack
from vledge.pieces import copy_into

cdef extern from "simd/cpu_mode.h" nogil:
    uint64_t vl_flush_subnormals()
    void vl_restore_mode(uint64_t mode)

cnp.import_array()


cdef struct Layer:
    const vl_direction *direction
    vl_product input_product     # pre = bias + W_ih x
    vl_step step
    vl_independent units         # instead of `step`, where every unit is by itself
    vl_product state_projection  # h = W_hr gated, where there is one
    char *h[2]                   # [rows, ld_h]; one buffer for independent units
    ptrdiff_t *x_rows            # offsets of the input's rows
    ptrdiff_t *gated_rows


cdef class StreamingStack:
    """Layers of one direction with the state of ``rows`` independent streams, zeros at first.

    Parameters
    ----------
    directions : list of Direction, the lowest layer first
    rows : int
        How many streams run side by side.
    """

    cdef Layer *layers
    cdef int count, current, number
    cdef bint has_cell_state
    cdef ptrdiff_t rows, input_size, width, itemsize, zero
    cdef int64_t work            # multiply-adds of a frame, about
    cdef ptrdiff_t *out_rows
    cdef object directions, dtype, memory
    cdef vl_team team            # of one, who waits for nobody

    def __cinit__(self, list directions not None, ptrdiff_t rows):
        if not directions:
            raise ValueError("a stream has one layer at least")
        cdef Direction first = made(directions[0])
        cdef Direction direction
        cdef ptrdiff_t below
        if rows < 0:
            raise ValueError(f"a stream has 0 or more rows, got {rows}")
        self.directions = list(directions)
        self.count = len(directions)
        self.rows = rows
        self.itemsize = first.c.number_bytes
        self.dtype = first.dtype
        self.number = number_of(first.c.kernels.arithmetic)
        self.input_size = first.c.input_size
        self.width = first.c.width
        self.has_cell_state = vl_has_cell_state(&first.c)
        self.memory = []
        self.team.lines, self.team.member, self.team.members = NULL, 0, 1
        self.layers = <Layer *>calloc(self.count, sizeof(Layer))
        if self.layers == NULL:
            raise MemoryError
        below = self.input_size
        for index in range(self.count):
            direction = made(directions[index])
            if direction.reverse:
                raise ValueError("a layer that runs backwards needs the end of the sequence first")
            if (direction.c.cell != first.c.cell or direction.dtype != first.dtype
                    or direction.c.input_size != below
                    or direction.c.width != self.width
                    or direction.c.hidden_size != first.c.hidden_size):
                raise ValueError("stacked layers must have one cell, size and dtype")
            self.lay_out(&self.layers[index], direction)
            self.work += rows * direction.c.vectors * direction.c.kernels.lanes * (below + self.width)
            below = self.width
        self.out_rows = <ptrdiff_t *>self.keep(np.arange(rows, dtype=np.intp) * self.width)
        self.layers[self.count - 1].step.out_rows = self.out_rows
        self.layers[self.count - 1].units.out_rows = self.out_rows
        self.set_input_rows(self.input_size)
        for index in range(1, self.count):
            self.fill_rows(self.layers[index].x_rows, self.layers[index - 1].direction.ld_h)

    def __dealloc__(self):
        free(self.layers)

    cdef void *keep(self, array) except NULL:
        """The address of an array that lives as long as this object."""
        self.memory.append(array)
        return <void *><size_t>array.ctypes.data

    cdef void *zeros(self, columns) except NULL:
        """Memory for so many numbers a row; sizes are Python's, so that no product overflows."""
        elements = max(int(self.rows) * int(columns), 1)
        array = aligned_empty((elements,), self.dtype)
        copy_into(array, np.zeros((), self.dtype))
        return self.keep(array)

    cdef void *room(self, ptrdiff_t depth) except NULL:
        """Memory for the rows in their small form."""
        return self.keep(aligned_empty((max(int(self.rows) * int(vl_small_row_bytes(depth)), 1),), np.uint8))

    cdef ptrdiff_t *offsets(self) except NULL:
        return <ptrdiff_t *>self.keep(np.zeros(max(self.rows, 1), np.intp))

    cdef void fill_rows(self, ptrdiff_t *table, ptrdiff_t stride) noexcept:
        cdef ptrdiff_t r
        for r in range(self.rows):
            table[r] = r * stride

    cdef void set_input_rows(self, ptrdiff_t stride) noexcept:
        self.fill_rows(self.layers[0].x_rows, stride)

    cdef int lay_out(self, Layer *layer, Direction direction) except -1:
        """Buffers and the kernels' arguments of one layer."""
        cdef const vl_direction *d = &direction.c
        cdef ptrdiff_t lanes = d.kernels.lanes
        cdef vl_product *input_product = &layer.input_product
        cdef vl_step *step = &layer.step
        layer.direction = d
        layer.h[0] = <char *>self.zeros(d.ld_h)
        layer.h[1] = layer.h[0] if d.independent else <char *>self.zeros(d.ld_h)
        layer.x_rows = self.offsets()
        input_product.rows = self.rows
        input_product.depth = d.input_size
        input_product.first = 0
        input_product.last = input_product.vectors = d.vectors
        input_product.columns = d.vectors * lanes
        input_product.ld_out = d.ld_pre
        input_product.group = d.group
        input_product.relu = False
        input_product.x_rows = layer.x_rows
        input_product.w = d.w_ih
        input_product.bias = d.bias
        input_product.out = self.zeros(d.ld_pre)
        if d.gemm != NULL:  # laid out for BLAS: the tiles want groups
            gates = GATES[direction.cell]
            input_product.group = group_of(gates)
            input_product.w = self.keep(pack(
                direction.weight_ih(), gates, lanes, group_of(gates)))
        if d.independent:
            self.lay_out_units(layer)
        step.rows = self.rows
        step.depth = d.width
        step.first_panel = 0
        step.last_panel = d.panels
        step.hidden_size = d.hidden_size
        step.w = d.w_hh
        step.w_candidate = d.w_candidate
        step.bias_candidate = d.bias_candidate
        step.activations = d.activations
        step.pre = input_product.out
        step.ld_pre = d.ld_pre
        step.ld_h = step.ld_h_next = d.ld_h
        if self.has_cell_state or d.cell == VL_GRU_RESET_BEFORE:
            step.c = self.zeros(d.ld_c)
        step.ld_c = d.ld_c
        if d.run.small != NULL:
            input_product.small = step.small = d.run.small
            input_product.room = <char *>self.room(d.input_size)
            step.room = <char *>self.room(max(d.width, d.hidden_size))
        if d.w_hr != NULL or d.cell == VL_GRU_RESET_BEFORE:
            step.gated = self.zeros(max(d.ld_c, d.ld_h))
        if d.w_hr != NULL:
            layer.gated_rows = self.offsets()
            self.fill_rows(layer.gated_rows, d.ld_c)
            step.h_next = step.gated
            step.ld_h_next = d.ld_c
            set_state_projection(d, step.gated, layer.gated_rows, step.room, &layer.state_projection)
        return 0

    cdef void lay_out_units(self, Layer *layer) noexcept:
        """The kernel's arguments for one step of units that see only their own past."""
        cdef vl_independent *units = &layer.units
        cdef const vl_direction *d = layer.direction
        units.steps = 1
        units.rows = self.rows
        units.first_panel = 0
        units.last_panel = d.panels
        units.hidden_size = d.hidden_size
        units.live = &self.rows
        units.pre_steps = units.out_steps = &self.zero
        units.w = d.w_hh
        units.pre = layer.input_product.out
        units.ld_pre = layer.input_product.ld_out
        units.h = layer.h[0]
        units.ld_h = d.ld_h

    cdef void advance(self, const char *x, char *out) noexcept nogil:
        """One frame through every layer; ``out`` is NULL where only the state is wanted."""
        cdef int index, following = 1 - self.current
        cdef char *out_of_layer
        cdef Layer *layer
        cdef const vl_direction *d
        for index in range(self.count):
            layer = &self.layers[index]
            d = layer.direction
            out_of_layer = out if index == self.count - 1 else NULL
            layer.input_product.x = x
            layer.input_product.turned = self.current
            layer.step.h = layer.h[self.current]
            layer.step.turned = self.current
            if d.independent:
                d.run.product(&layer.input_product)
                layer.units.out = out_of_layer
                d.run.independent(&layer.units)
            elif d.w_hr == NULL:
                layer.step.h_next = layer.h[following]
                layer.step.out = out_of_layer
                step_from_input(d, &layer.input_product, &layer.step, &self.team)
            else:
                step_from_input(d, &layer.input_product, &layer.step, &self.team)
                project_state(d, &layer.state_projection, self.rows, self.current, layer.h[following], out_of_layer,
                              self.out_rows)
            x = layer.h[following]
        self.current = following

    cdef bint fits(self, object array, int axes, ptrdiff_t steps, ptrdiff_t features):
        """Whether an array is ``[rows, features]`` or ``[steps, rows, features]`` as it lies."""
        if not is_plain(array, self.number):
            return False
        if axes == 2:
            return has_shape(array, 2, self.rows, features, 0)
        return has_shape(array, 3, steps, self.rows, features)

    cdef tuple shape(self, int axes, ptrdiff_t steps, ptrdiff_t features):
        sizes = (steps, self.rows, features)
        return sizes[3 - axes:]

    cdef cnp.ndarray frames(self, object array, str name, int axes, ptrdiff_t steps):
        """Frames of the input, as kernels may read them."""
        if self.fits(array, axes, steps, self.input_size):
            return array
        return shaped(array, name, self.number, self.shape(axes, steps, self.input_size))

    cdef cnp.ndarray target(self, object out, int axes, ptrdiff_t steps):
        """Where the results go: ``out``, or a new array where that is None."""
        cdef cnp.npy_intp sizes[3]
        if out is None:
            sizes[0], sizes[1], sizes[2] = steps, self.rows, self.width
            return cnp.PyArray_EMPTY(axes, sizes + 3 - axes, self.number, False)
        if self.fits(out, axes, steps, self.width) and cnp.PyArray_ISWRITEABLE(out):
            return out
        return writable(out, "out", self.number, self.shape(axes, steps, self.width))

    def step(self, x, out=None):
        """``x [rows, input_size]`` -> ``[rows, width]``, in ``out`` if that is given, which may be x."""
        cdef cnp.ndarray source = self.frames(x, "x", 2, 1)
        cdef cnp.ndarray result = self.target(out, 2, 1)
        cdef uint64_t mode
        if out is not None and share_memory(source, result):
            source = cnp.PyArray_NewCopy(source, cnp.NPY_CORDER)
        mode = vl_flush_subnormals()
        self.advance(<const char *>cnp.PyArray_DATA(source), <char *>cnp.PyArray_DATA(result))
        vl_restore_mode(mode)
        return result

    def push(self, chunk, out=None):
        """``chunk [T, rows, input_size]`` -> ``[T, rows, width]``, in ``out`` if that is given.

        Ctrl-C ends a long one, and the state is then what it was before."""
        cdef ptrdiff_t t, steps = 0
        cdef ptrdiff_t x_step = self.rows * self.input_size * self.itemsize
        cdef ptrdiff_t y_step = self.rows * self.width * self.itemsize
        cdef int64_t work = 0
        cdef uint64_t mode
        cdef vl_heed call
        if getattr(chunk, "ndim", 0) == 3:
            steps = chunk.shape[0]
        cdef cnp.ndarray source = self.frames(chunk, "chunk", 3, steps)
        cdef cnp.ndarray result = self.target(out, 3, steps)
        if out is not None and share_memory(source, result):
            source = cnp.PyArray_NewCopy(source, cnp.NPY_CORDER)
        cdef const char *read = <const char *>cnp.PyArray_DATA(source)
        cdef char *write = <char *>cnp.PyArray_DATA(result)
        before = self.get_state() if steps >= VL_WORK_BETWEEN_LOOKS // max(self.work, 64) else None
        heed(&call)
        with nogil:
            mode = vl_flush_subnormals()
            for t in range(steps):
                self.advance(read + t * x_step, write + t * y_step)
                work += max(self.work, 64)
                if work >= VL_WORK_BETWEEN_LOOKS:
                    work = 0
                    if vl_shall_end(&call):
                        break
            vl_restore_mode(mode)
        if call.error != NULL:
            self.set_state(*before)
            check_ended(&call)
        return result

    def _views(self):
        """(h, c): for each layer a view of its state now, ``[rows, width]`` and, for an LSTM, of its
        cells, ``[rows, hidden_size]``."""
        cdef int index
        cdef const vl_direction *d
        at = {array.ctypes.data: array for array in self.memory}
        h, c = [], []
        for index in range(self.count):
            d = self.layers[index].direction
            array = at[<size_t>self.layers[index].h[self.current]]
            array = array[:self.rows * d.ld_h].reshape(self.rows, d.ld_h)
            h.append(array[:, :d.width])
            if self.has_cell_state:
                array = at[<size_t>self.layers[index].step.c]
                array = array[:self.rows * d.ld_c].reshape(self.rows, d.ld_c)
                c.append(array[:, :d.hidden_size])
        return h, c

    def get_state(self):
        """``(h [layers, rows, width], c [layers, rows, hidden_size] or None)``, copies."""
        h, c = self._views()
        return np.stack(h), np.stack(c) if c else None

    def set_state(self, h, c=None):
        """Replace the state by arrays as ``get_state`` gives them; the caller checked them."""
        mine_h, mine_c = self._views()
        for index in range(self.count):
            mine_h[index][:] = h[index]
            if self.has_cell_state:
                mine_c[index][:] = c[index]
