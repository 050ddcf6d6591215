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
from libc.string cimport memcpy, memset

cimport numpy as cnp
import numpy as np

from vledge._ext.arrays cimport has_shape, is_plain, share_memory, shaped, writable
from vledge._ext.isa cimport vl_independent, vl_product, vl_step
from vledge._ext.recurrent cimport check_ended, heed, run_independent, step_from_input, vl_barrier, vl_heed
from vledge._ext.weights cimport GRU_RESET_BEFORE, LSTM, Direction, Weights, made

from vledge._ext.weights import GATES, aligned_empty, pack

cdef extern from "simd/cpu_mode.h" nogil:
    uint64_t vl_flush_subnormals()
    void vl_restore_mode(uint64_t mode)

cdef extern from "heed.h" nogil:
    int64_t VL_WORK_BETWEEN_LOOKS
    int vl_shall_end(vl_heed *h)

cnp.import_array()


cdef struct Layer:
    const Weights *w
    vl_product input_product     # pre = bias + W_ih x
    vl_step cell
    vl_independent units         # instead of `cell`, where every unit is by itself
    vl_product projection        # h = W_hr gated, where there is one
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
    cdef object directions, memory
    cdef vl_barrier barrier      # for nobody to wait at: one member

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
        self.itemsize = first.weights.itemsize
        self.number = cnp.NPY_FLOAT64 if self.itemsize == 8 else cnp.NPY_FLOAT32
        self.input_size = first.weights.input_size
        self.width = first.weights.width
        self.has_cell_state = first.weights.cell == LSTM
        self.memory = []
        memset(&self.barrier, 0, sizeof(vl_barrier))
        self.layers = <Layer *>calloc(self.count, sizeof(Layer))
        if self.layers == NULL:
            raise MemoryError
        below = self.input_size
        for index in range(self.count):
            direction = made(directions[index])
            if direction.reverse:
                raise ValueError("a layer that runs backwards needs the end of the sequence first")
            if (direction.weights.cell != first.weights.cell or direction.dtype != first.dtype
                    or direction.weights.input_size != below
                    or direction.weights.width != self.width
                    or direction.weights.hidden_size != first.weights.hidden_size):
                raise ValueError("stacked layers must have one cell, size and dtype")
            self.lay_out(&self.layers[index], direction)
            self.work += rows * direction.weights.vectors * direction.weights.kernels.lanes * (below + self.width)
            below = self.width
        self.out_rows = <ptrdiff_t *>self.keep(np.arange(rows, dtype=np.intp) * self.width)
        self.layers[self.count - 1].cell.out_rows = self.out_rows
        self.layers[self.count - 1].units.out_rows = self.out_rows
        self.set_input_rows(self.input_size)
        for index in range(1, self.count):
            self.fill_rows(self.layers[index].x_rows, self.layers[index - 1].w.ld_h)

    def __dealloc__(self):
        free(self.layers)

    cdef void *keep(self, array) except NULL:
        """The address of an array that lives as long as this object."""
        self.memory.append(array)
        return <void *><size_t>array.ctypes.data

    cdef void *zeros(self, columns) except NULL:
        """Memory for so many numbers a row; sizes are Python's, so that no product overflows."""
        elements = max(int(self.rows) * int(columns), 1)
        array = aligned_empty((elements,), np.float64 if self.itemsize == 8 else np.float32)
        array[:] = 0
        return self.keep(array)

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
        cdef const Weights *w = &direction.weights
        cdef ptrdiff_t lanes = w.kernels.lanes
        cdef vl_product *p = &layer.input_product
        cdef vl_step *k = &layer.cell
        cdef int group
        layer.w = w
        layer.h[0] = <char *>self.zeros(w.ld_h)
        layer.h[1] = layer.h[0] if w.independent else <char *>self.zeros(w.ld_h)
        layer.x_rows = self.offsets()
        p.rows = self.rows
        p.depth = w.input_size
        p.first = 0
        p.last = p.vectors = w.vectors
        p.columns = w.vectors * lanes
        p.ld_out = w.ld_pre
        p.group = w.group
        p.relu = False
        p.x_rows = layer.x_rows
        p.w = w.w_ih
        p.bias = w.bias
        p.out = self.zeros(w.ld_pre)
        if w.gemm != NULL:  # laid out for BLAS: the tiles want panels
            gates = GATES[direction.cell]
            group = 3 if gates == 3 else 4
            p.w = self.keep(pack(direction.weight_ih(), gates, lanes, group))
            p.group = group
        if w.independent:
            self.lay_out_units(layer)
        k.rows = self.rows
        k.depth = w.width
        k.first_panel = 0
        k.last_panel = w.panels
        k.hidden_size = w.hidden_size
        k.w = w.w_hh
        k.w_candidate = w.w_candidate
        k.bias_candidate = w.bias_candidate
        k.activations = w.activations
        k.pre = p.out
        k.ld_pre = w.ld_pre
        k.ld_h = k.ld_h_next = w.ld_h
        if w.cell == LSTM or w.cell == GRU_RESET_BEFORE:
            k.c = self.zeros(w.ld_c)
        k.ld_c = w.ld_c
        if w.w_hr != NULL or w.cell == GRU_RESET_BEFORE:
            k.gated = self.zeros(max(w.ld_c, w.ld_h))
        if w.w_hr != NULL:
            layer.gated_rows = self.offsets()
            self.fill_rows(layer.gated_rows, w.ld_c)
            k.h_next = k.gated
            k.ld_h_next = w.ld_c
            p = &layer.projection
            p.rows = self.rows
            p.depth = w.hidden_size
            p.first = 0
            p.last = p.vectors = (w.width + lanes - 1) // lanes
            p.columns = p.vectors * lanes
            p.ld_out = w.ld_h
            p.group = 4
            p.relu = False
            p.x = k.gated
            p.x_rows = layer.gated_rows
            p.w = w.w_hr
        return 0

    cdef void lay_out_units(self, Layer *layer) noexcept:
        """The kernel's arguments for one step of units that see only their own past."""
        cdef vl_independent *n = &layer.units
        n.steps = 1
        n.rows = self.rows
        n.first_panel = 0
        n.last_panel = layer.w.panels
        n.hidden_size = layer.w.hidden_size
        n.live = &self.rows
        n.pre_steps = n.out_steps = &self.zero
        n.w = layer.w.w_hh
        n.pre = layer.input_product.out
        n.ld_pre = layer.input_product.ld_out
        n.h = layer.h[0]
        n.ld_h = layer.w.ld_h

    cdef void advance(self, const char *x, char *out) noexcept nogil:
        """One frame through every layer; ``out`` is NULL where only the state is wanted."""
        cdef int index, following = 1 - self.current
        cdef ptrdiff_t r
        cdef Layer *layer
        for index in range(self.count):
            layer = &self.layers[index]
            layer.input_product.x = x
            layer.input_product.turned = layer.projection.turned = self.current
            layer.cell.h = layer.h[self.current]
            layer.cell.turned = self.current
            if layer.w.independent:
                layer.w.kernels.product(&layer.input_product)
                layer.units.out = out if index == self.count - 1 else NULL
                run_independent(layer.w, &layer.units)
            elif layer.w.w_hr == NULL:
                layer.cell.h_next = layer.h[following]
                layer.cell.out = out if index == self.count - 1 else NULL
                step_from_input(layer.w, &layer.input_product, &layer.cell, &self.barrier, 1)
            else:
                step_from_input(layer.w, &layer.input_product, &layer.cell, &self.barrier, 1)
                layer.projection.out = layer.h[following]
                layer.w.kernels.product(&layer.projection)
                if out != NULL and index == self.count - 1:
                    for r in range(self.rows):
                        memcpy(out + self.out_rows[r] * self.itemsize,
                               layer.h[following] + r * layer.w.ld_h * self.itemsize,
                               self.width * self.itemsize)
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
        cdef const Weights *w
        dtype = np.float64 if self.itemsize == 8 else np.float32
        at = {array.ctypes.data: array for array in self.memory}
        h, c = [], []
        for index in range(self.count):
            w = self.layers[index].w
            array = at[<size_t>self.layers[index].h[self.current]]
            array = array[:self.rows * w.ld_h].reshape(self.rows, w.ld_h)
            h.append(array[:, :w.width])
            if self.has_cell_state:
                array = at[<size_t>self.layers[index].cell.c]
                array = array[:self.rows * w.ld_c].reshape(self.rows, w.ld_c)
                c.append(array[:, :w.hidden_size])
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
