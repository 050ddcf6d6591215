# Recurrent layers that are a program, as one call of theirs runs: what vledge._ext.stack.Stack is of others. Included
# by program.pyx.


cdef class LayerCall:
    """The call of a program whose inputs are x [T, B, input_size], for each layer h, and for each c, if it is an
    LSTM's, [directions, B, hidden_size]; and its outputs y [T, B, features] and the states in the same order."""

    cdef Program program
    cdef ptrdiff_t layers, directions, input_size, hidden_size
    cdef bint lstm

    def __init__(self, Program program not None, ptrdiff_t layers, ptrdiff_t directions, ptrdiff_t input_size,
                 ptrdiff_t hidden_size, bint lstm):
        cdef ptrdiff_t kinds = 2 if lstm else 1, states = program.input_count - 1
        if layers < 1 or states % kinds or states // kinds != layers or program.output_count != program.input_count:
            raise ValueError(f"a program of {program.input_count} inputs is not one of {layers} layers")
        if not 1 <= directions <= 2 or input_size < 0 or not 0 <= hidden_size <= INT32_MAX:
            raise ValueError(f"no layer has {directions} directions, {input_size} inputs, {hidden_size} units")
        self.program, self.layers, self.directions = program, layers, directions
        self.input_size, self.hidden_size, self.lstm = input_size, hidden_size, lstm

    cdef bint takes(self, object state, int axes, ptrdiff_t sequences):
        """Whether a state is None or lies as it should."""
        cdef ptrdiff_t count = self.layers * self.directions
        if state is None:
            return True
        if not is_plain(state, cnp.NPY_FLOAT32):
            return False
        if axes == 2:
            return has_shape(state, 2, count, self.hidden_size, 0)
        return has_shape(state, 3, count, sequences, self.hidden_size)

    def run(self, x, h, c, bint batch_first):
        """As vledge._ext.stack.Stack.run: ``(output, h_n, c_n)``, or None where anything is not as usual."""
        cdef Frame frame
        cdef cnp.ndarray data
        cdef vl_tensor *source
        cdef vl_tensor y
        cdef int axes
        cdef ptrdiff_t steps, sequences
        if not is_plain(x, cnp.NPY_FLOAT32):
            return None
        data = x
        axes = cnp.PyArray_NDIM(data)
        if axes < 2 or axes > 3 or cnp.PyArray_DIM(data, axes - 1) != self.input_size:
            return None
        batch_first = batch_first and axes == 3
        steps, sequences = cnp.PyArray_DIM(data, 0), cnp.PyArray_DIM(data, 1) if axes == 3 else 1
        if batch_first:
            steps, sequences = sequences, steps
        if not (0 < steps <= limits_in_force().most_usual and 0 < sequences <= limits_in_force().most_usual
                and self.takes(h, axes, sequences) and self.takes(c, axes, sequences)) or (
                    c is not None and not self.lstm):
            return None
        h, c = self.given(h, sequences), self.given(c, sequences) if self.lstm else None
        frame = self.program.idle_frame()
        source = &frame.c.slots[self.program.input_slots[0]]
        describe(data, source)
        if batch_first:
            turn(source)
        elif axes == 2:
            source.axes = 3
            source.shape[2], source.strides[2] = source.shape[1], source.strides[1]
            source.shape[1], source.strides[1] = 1, source.strides[0]
        self.lay(frame, 0, h, sequences)
        if self.lstm:
            self.lay(frame, 1, c, sequences)
        self.program.execute(frame)
        try:
            y = frame.c.slots[self.program.output_slots[0]]
            if y.state != VL_TENSOR or y.axes != 3:
                raise ValueError("the program's first output has not the 3 axes of a layer's")
            if batch_first:
                turn(&y)
            elif axes == 2:
                y.axes = 2
                y.shape[1], y.strides[1] = y.shape[2], y.strides[2]
            output = frame.result(&y)
            h, c = self.taken(frame, 0, axes, sequences), self.taken(frame, 1, axes, sequences) if self.lstm else None
            check_ended(&frame.heed)    # as copying them may have been
        except BaseException:
            self.program.abandon(frame)
            raise
        self.program.put_back(frame)
        return output, h, c

    cdef object given(self, object state, ptrdiff_t sequences):
        """The state, or zeros."""
        cdef cnp.npy_intp sizes[3]
        if state is not None:
            return state
        sizes[0], sizes[1], sizes[2] = self.layers * self.directions, sequences, self.hidden_size
        return cnp.PyArray_ZEROS(3, sizes, cnp.NPY_FLOAT32, False)

    cdef vl_tensor part(self, cnp.ndarray state, ptrdiff_t layer, ptrdiff_t sequences) noexcept:
        """A layer's part of a state."""
        cdef vl_tensor t
        t.block = NULL
        t.type, t.axes, t.state = VL_F32, 3, VL_TENSOR
        t.shape[0], t.shape[1], t.shape[2] = self.directions, sequences, self.hidden_size
        vl_set_contiguous(&t)
        t.data = <char *>cnp.PyArray_DATA(state) + layer * self.directions * t.strides[0]
        return t

    cdef void lay(self, Frame frame, int kind, cnp.ndarray state, ptrdiff_t sequences) noexcept:
        """A state into its slots: h is of kind 0, c of kind 1."""
        cdef ptrdiff_t layer
        for layer in range(self.layers):
            frame.c.slots[self.program.input_slots[1 + kind * self.layers + layer]] = self.part(state, layer, sequences)

    cdef object taken(self, Frame frame, int kind, int axes, ptrdiff_t sequences):
        """A state out of its slots, in a new array."""
        cdef cnp.npy_intp sizes[3]
        cdef cnp.ndarray state
        cdef vl_tensor to
        cdef const vl_tensor *made
        cdef ptrdiff_t layer
        sizes[0], sizes[1], sizes[2] = self.layers * self.directions, sequences, self.hidden_size
        if axes == 2:
            sizes[1] = self.hidden_size
        state = cnp.PyArray_EMPTY(axes, sizes, cnp.NPY_FLOAT32, False)
        for layer in range(self.layers):
            to = self.part(state, layer, sequences)
            made = &frame.c.slots[self.program.output_slots[1 + kind * self.layers + layer]]
            if made.state != VL_TENSOR or made.type != VL_F32 or made.axes != 3 or (
                    made.shape[0] != to.shape[0] or made.shape[1] != to.shape[1] or made.shape[2] != to.shape[2]):
                raise ValueError("an output of the program is no state of its layers")
            vl_copy(&frame.c, &to, made)
        return state


cdef void turn(vl_tensor *t) noexcept:
    """The first two axes change places."""
    t.shape[0], t.shape[1] = t.shape[1], t.shape[0]
    t.strides[0], t.strides[1] = t.strides[1], t.strides[0]
