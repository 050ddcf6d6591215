"""Stacked recurrent layers as one call runs them: what most calls of a layer and of a cell are, no Python in between.

Arrays that lie as the kernels take them are not checked further; where one does not, the answer is None and the caller
goes the long way by ``recurrent.run``, which says what is amiss.
"""

cimport numpy as cnp

from vledge._ext.arrays cimport has_shape, is_plain, shaped
from vledge._ext.pool cimport check_ended, heed, limits_in_force, thread_count, vl_heed
from vledge._ext.recurrent cimport check_layer, data_of, typenum
from vledge._ext.schedule cimport Sequences, run_sequences
from vledge._ext.weights cimport Direction, made, vl_has_cell_state

cnp.import_array()


cdef inline object new_array(int number, int axes, ptrdiff_t a, ptrdiff_t b, ptrdiff_t c):
    """[a, b, c], [b, c] or [c]; uninitialised."""
    cdef cnp.npy_intp sizes[3]
    sizes[0], sizes[1], sizes[2] = a, b, c
    return cnp.PyArray_EMPTY(axes, sizes + 3 - axes, number, False)


cdef int run_directions(list directions, Sequences *s, int threads) except -1:
    """A layer's directions over sequences that are set."""
    cdef bint done
    cdef Direction direction
    cdef int d
    s.direction_count = len(directions)
    for d in range(s.direction_count):
        direction = directions[d]
        s.directions[d] = &direction.c
    with nogil:
        done = run_sequences(s, threads)
    check_ended(s.heed)
    if not done:
        raise MemoryError("no memory for the working buffers of a recurrent layer")
    return 0


cdef class Layers:
    """What layers that are stacked have in common."""

    cdef list layers             # of lists of one or two directions
    cdef ptrdiff_t input_size, hidden_size, width
    cdef int number, directions  # NumPy's type, directions of each layer
    cdef bint lstm

    cdef int set_layers(self, list layers) except -1:
        cdef Direction first, direction
        cdef Py_ssize_t index
        for index in range(len(layers)):
            check_layer(layers[index])
            first, direction = layers[0][0], layers[index][0]
            if (direction.c.cell != first.c.cell or typenum(direction) != typenum(first)
                    or len(layers[index]) != len(layers[0])
                    or index and direction.c.input_size != first.c.width * len(layers[0])
                    or direction.c.width != first.c.width
                    or direction.c.hidden_size != first.c.hidden_size):
                raise ValueError("stacked layers must have one cell, size and dtype")
        self.layers = layers
        self.directions = len(layers[0])
        self.input_size = first.c.input_size
        self.hidden_size = first.c.hidden_size
        self.width = first.c.width
        self.number = typenum(first)
        self.lstm = vl_has_cell_state(&first.c)
        return 0

    cdef void go_up(self, Sequences *s) noexcept:
        """From a layer's states to those of the layer above."""
        cdef ptrdiff_t rows = self.directions * s.sequences * (8 if self.number == cnp.NPY_FLOAT64 else 4)
        s.h_n += rows * self.width
        if s.h_0 != NULL:
            s.h_0 += rows * self.width
        if s.c_n != NULL:
            s.c_n += rows * self.hidden_size
        if s.c_0 != NULL:
            s.c_0 += rows * self.hidden_size


cdef class Stack(Layers):
    """Stacked layers as one call runs them, where its arrays lie as the kernels take them: what most calls
    are, and no Python in between. Safe to call from several threads at a time."""

    def __init__(self, list layers not None):
        if not layers:
            raise ValueError("a stack has one layer at least")
        self.set_layers([list(directions) for directions in layers])

    def __reduce__(self):
        return Stack, (self.layers,)

    cdef bint takes(self, object state, int axes, ptrdiff_t sequences, ptrdiff_t width):
        """Whether a state is None or lies as it should."""
        cdef ptrdiff_t count = len(self.layers) * self.directions
        if state is None:
            return True
        if not is_plain(state, self.number):
            return False
        if axes == 2:
            return has_shape(state, 2, count, width, 0)
        return has_shape(state, 3, count, sequences, width)

    def run(self, x, h, c, bint batch_first):
        """``x [T, B, input_size]`` (``[B, T, …]`` with batch_first, or ``[T, input_size]``), the states or None
        for zeros -> ``(output, h_n, c_n)``; None where anything is not as usual, of which nothing is said."""
        cdef Sequences s
        cdef vl_heed call
        cdef ptrdiff_t count = len(self.layers), out = self.directions * self.width, layer
        cdef int axes, number = self.number, threads
        cdef cnp.ndarray data, h_n, c_n = None
        cdef ptrdiff_t first, second
        if not is_plain(x, number):
            return None
        data = x
        axes = cnp.PyArray_NDIM(data)
        if axes < 2 or axes > 3 or cnp.PyArray_DIM(data, axes - 1) != self.input_size:
            return None
        batch_first = batch_first and axes == 3
        first, second = cnp.PyArray_DIM(data, 0), cnp.PyArray_DIM(data, 1) if axes == 3 else 1
        s.steps, s.sequences = (second, first) if batch_first else (first, second)
        if not (0 < s.steps <= limits_in_force().most_usual and 0 < s.sequences <= limits_in_force().most_usual
                and self.takes(h, axes, s.sequences, self.width)
                and self.takes(c, axes, s.sequences, self.hidden_size)) or c is not None and not self.lstm:
            return None
        threads = thread_count()
        h_n = self.state(axes, s.sequences, self.width)
        s.h_n = <char *>cnp.PyArray_DATA(h_n)
        s.h_0 = data_of(h)
        s.c_n, s.c_0 = NULL, data_of(c)
        if self.lstm:
            c_n = self.state(axes, s.sequences, self.hidden_size)
            s.c_n = <char *>cnp.PyArray_DATA(c_n)
        s.lengths = NULL
        s.heed = &call
        heed(s.heed)
        for layer in range(count):
            s.x = <const char *>cnp.PyArray_DATA(data)
            s.x_row = cnp.PyArray_DIM(data, axes - 1)
            s.x_time = s.x_row if batch_first else s.x_row * s.sequences
            s.x_row *= s.steps if batch_first else 1
            s.y_time = out if batch_first else out * s.sequences
            s.y_row = out * s.steps if batch_first else out
            _below, data = data, new_array(number, axes, first, second if axes == 3 else first, out)
            s.y = <char *>cnp.PyArray_DATA(data)
            run_directions(self.layers[layer], &s, threads)
            self.go_up(&s)
        return data, h_n, c_n

    cdef object state(self, int axes, ptrdiff_t sequences, ptrdiff_t width):
        cdef ptrdiff_t count = len(self.layers) * self.directions
        return new_array(self.number, axes, count, count if axes == 2 else sequences, width)


cdef class Stepper(Layers):
    """One time step through stacked layers of one direction: what streaming calls, so everything
    that can be is done once, here. Safe to call from several threads at a time."""

    def __init__(self, list layers not None):
        if not layers:
            raise ValueError("a stepper has one layer at least")
        self.set_layers([[made(layer)] for layer in layers])

    def __reduce__(self):
        return Stepper, ([layer for layer, in self.layers],)

    def step(self, x, h, c=None):
        """``x [B, input_size]``, ``h [layers, B, width]``, ``c [layers, B, hidden_size]`` (LSTM), or
        None for zeros -> ``(y [B, width], h, c)`` in new arrays."""
        cdef Sequences s
        cdef vl_heed call
        cdef ptrdiff_t count = len(self.layers), layer
        cdef int threads = thread_count()
        cdef cnp.ndarray rows, y, h_n, c_n = None
        if is_plain(x, self.number) and cnp.PyArray_NDIM(x) == 2 and cnp.PyArray_DIM(x, 1) == self.input_size:
            rows = x
        else:
            rows = shaped(x, "x", self.number, ("batch", self.input_size))
        s.steps, s.sequences = 1, cnp.PyArray_DIM(rows, 0)
        h = self.state(h, "h", count, s.sequences, self.width)
        if self.lstm:
            c = self.state(c, "c", count, s.sequences, self.hidden_size)
            c_n = new_array(self.number, 3, count, s.sequences, self.hidden_size)
        elif c is not None:
            raise ValueError("c goes with an LSTM only")
        y = new_array(self.number, 2, 0, s.sequences, self.width)
        h_n = new_array(self.number, 3, count, s.sequences, self.width)
        if s.sequences == 0:
            return y, h_n, c_n
        s.x = <const char *>cnp.PyArray_DATA(rows)
        s.h_0, s.h_n = data_of(h), data_of(h_n)
        s.c_0, s.c_n = data_of(c), data_of(c_n)
        s.lengths = NULL
        s.heed = &call
        heed(s.heed)
        s.x_time = s.y_time = 0
        s.x_row, s.y_row = self.input_size, self.width
        for layer in range(count):
            s.y = <char *>cnp.PyArray_DATA(y) if layer == count - 1 else NULL
            run_directions(self.layers[layer], &s, threads)
            s.x, s.x_row = s.h_n, self.width    # a layer reads its input where the one below has left its state
            self.go_up(&s)
        return y, h_n, c_n

    def cell(self, x, h, c=None):
        """The one layer as torch's cells: ``x [B, input_size]`` or ``[input_size]``, the states ``[B, width]`` or
        ``[width]`` or None for zeros -> ``(h, c)``; None where anything is not as usual, of which nothing is said."""
        cdef Sequences s
        cdef vl_heed call
        cdef int axes, threads
        cdef cnp.ndarray h_n, c_n = None
        if not is_plain(x, self.number):
            return None
        axes = cnp.PyArray_NDIM(x)
        if axes < 1 or axes > 2 or cnp.PyArray_DIM(x, axes - 1) != self.input_size or len(self.layers) > 1:
            return None
        s.steps, s.sequences = 1, cnp.PyArray_DIM(x, 0) if axes == 2 else 1
        if not (0 < s.sequences <= limits_in_force().most_usual and self.takes(h, axes, s.sequences, self.width)
                and self.takes(c, axes, s.sequences, self.hidden_size)) or c is not None and not self.lstm:
            return None
        threads = thread_count()
        h_n = new_array(self.number, axes, 0, s.sequences, self.width)
        s.x = data_of(x)
        s.h_0, s.h_n = data_of(h), data_of(h_n)
        s.c_0, s.c_n = data_of(c), NULL
        if self.lstm:
            c_n = new_array(self.number, axes, 0, s.sequences, self.hidden_size)
            s.c_n = data_of(c_n)
        s.lengths = NULL
        s.heed = &call
        heed(s.heed)
        s.y = NULL
        s.x_time = s.y_time = s.y_row = 0
        s.x_row = self.input_size
        run_directions(self.layers[0], &s, threads)
        return h_n, c_n

    cdef bint takes(self, object state, int axes, ptrdiff_t sequences, ptrdiff_t width):
        """Whether a cell's state is None or lies as it should."""
        if state is None:
            return True
        return (is_plain(state, self.number) and cnp.PyArray_NDIM(state) == axes
                and cnp.PyArray_DIM(state, axes - 1) == width
                and (axes == 1 or cnp.PyArray_DIM(state, 0) == sequences))

    cdef object state(self, object given, str name, ptrdiff_t count, ptrdiff_t sequences, ptrdiff_t width):
        """A state as kernels may read it, or None."""
        if given is None or is_plain(given, self.number) and has_shape(given, 3, count, sequences, width):
            return given
        return shaped(given, name, self.number, (count, sequences, width))
