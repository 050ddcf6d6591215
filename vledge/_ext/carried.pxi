# A program whose states stay its own tensors from run to run: what a stream of a session steps. Included by
# program.pyx.


cdef struct Fed:
    int32_t slot
    int number                   # NumPy's type
    int axes, time_axis
    int64_t shape[VL_MOST_AXES]  # with the time axis


cdef class CarriedProgram:
    """A program with states that each run takes over from the one before, in a frame of its own.

    A state's tensor is the block that the last run made it in; the run before's goes back to the frame, so two
    blocks alternate and nothing is allocated. A run that fails, or whose `out` does not fit, leaves the states as
    they were.

    Parameters
    ----------
    states : list of (place among the program's outputs, place among its inputs)
    frames : list of (name, place among the inputs, dtype, shape with the time axis, time axis)
    lengths : list of (place among the inputs, array for one frame)
    results : list of (name, place among the outputs, time axis or None)
    taken : function
        Of what `step` was given -> arrays of the frames, time axis included, or an error in words. Asked where
        that is not a plain array of the right shape, or a dict of such arrays.
    misfit : function
        Of {name: (dtype, shape)} of the results and what was given as ``out`` -> why it cannot take them.
    blamed : function
        Called with an exception of a run, which it may raise again in other words.

    It serves one thread at a time, and says so to a second one.
    """

    cdef Program program
    cdef Frame frame
    cdef Fed *fed
    cdef vl_tensor *following    # the states after the run, until all is well
    cdef int32_t *state_inputs
    cdef int32_t *state_outputs
    cdef int32_t *fed_slots      # what a step may take goes by its frames, not by the states that it grows
    cdef int32_t *result_slots
    cdef int *result_axes
    cdef int fed_count, state_count, result_count
    cdef list memory, names, result_names, held
    cdef list lengths
    cdef object taken, misfit, blamed
    cdef bint busy
    cdef int long_steps          # in a row

    def __cinit__(self, Program program not None, list states, list frames, list lengths, list results, taken,
                  misfit, blamed):
        cdef int k, axis
        self.program = program
        self.frame = Frame.__new__(Frame, program, len(states))
        self.taken, self.misfit, self.blamed = taken, misfit, blamed
        self.memory = []
        self.state_count, self.fed_count, self.result_count = len(states), len(frames), len(results)
        self.following = <vl_tensor *>self.room(self.state_count * sizeof(vl_tensor))
        self.state_outputs = <int32_t *>self.room(self.state_count * sizeof(int32_t))
        self.state_inputs = <int32_t *>self.room(self.state_count * sizeof(int32_t))
        self.fed = <Fed *>self.room(self.fed_count * sizeof(Fed))
        self.fed_slots = <int32_t *>self.room(self.fed_count * sizeof(int32_t))
        self.result_slots = <int32_t *>self.room(self.result_count * sizeof(int32_t))
        self.result_axes = <int *>self.room(self.result_count * sizeof(int))
        for k in range(self.state_count):
            self.state_outputs[k] = program.outputs[states[k][0]]
            self.state_inputs[k] = program.inputs[states[k][1]]
        self.names, self.held = [], [None] * self.fed_count
        for k in range(self.fed_count):
            name, place, dtype, shape, time_axis = frames[k]
            if not 0 <= time_axis < len(shape):
                raise ValueError(f"{name!r} has {len(shape)} axes, and axis {time_axis} is to be time")
            self.names.append(name)
            self.fed[k].slot = self.fed_slots[k] = program.inputs[place]
            self.fed[k].number = plain_dtype(dtype).num
            self.fed[k].axes = len(shape) if len(shape) <= VL_MOST_AXES else -1     # -1: as no array is
            self.fed[k].time_axis = time_axis
            for axis in range(self.fed[k].axes):
                self.fed[k].shape[axis] = shape[axis]
        self.lengths = [(program.inputs[place], array) for place, array in lengths]
        self.result_names = []
        for k in range(self.result_count):
            name, place, axis_or_none = results[k]
            self.result_names.append(name)
            self.result_slots[k] = program.outputs[place]
            self.result_axes[k] = -1 if axis_or_none is None else axis_or_none

    cdef void *room(self, size_t bytes) except NULL:
        array = np.zeros(max(bytes, 1), np.uint8)
        self.memory.append(array)
        return <void *><size_t>array.ctypes.data

    def step(self, x, out=None):
        """One frame: an array without its time axis, or a dict of such arrays by name."""
        if self.busy:
            raise RuntimeError("a stream belongs to one thread at a time, and another one is in it")
        if not self.set_frame(x):
            return self.run(self.taken(x), out, True)
        return self.finished(out, True)

    def run(self, list arrays, out=None, bint one_frame=False):
        """Frames with their time axes, in order; lengths, too, where these are not of ``one_frame``, whose
        results lose their time axes."""
        cdef int k
        if self.busy:
            raise RuntimeError("a stream belongs to one thread at a time, and another one is in it")
        for k in range(self.fed_count):
            if not describe(arrays[k], &self.frame.c.slots[self.fed[k].slot]):
                self.frame.put(self.fed[k].slot, arrays[k])
            self.held[k] = arrays[k]
        if not one_frame:
            self.set_lengths([(slot, array) for (slot, _), array in zip(self.lengths, arrays[self.fed_count:])])
        return self.finished(out, one_frame)

    cdef bint set_frame(self, object x):
        """Fills the frames' slots; False where one is not as it should be."""
        cdef int k
        if not isinstance(x, dict):
            return self.fed_count == 1 and self.set_one(0, x)
        if len(<dict>x) != self.fed_count:
            return False
        for k in range(self.fed_count):
            if not self.set_one(k, (<dict>x).get(self.names[k])):
                return False
        return True

    cdef bint set_one(self, int k, object value):
        cdef Fed *fed = &self.fed[k]
        cdef vl_tensor *t = &self.frame.c.slots[fed.slot]
        cdef cnp.ndarray array
        cdef int axis, at = 0
        if not isinstance(value, cnp.ndarray):
            return False
        array = value
        if (cnp.PyArray_TYPE(array) != fed.number or cnp.PyArray_NDIM(array) != fed.axes - 1
                or not describe(array, t)):
            return False
        for axis in range(fed.axes - 1, -1, -1):     # makes room for the time axis
            if axis == fed.time_axis:
                t.shape[axis] = 1
                t.strides[axis] = vl_size_of(t.type)
                continue
            at = axis if axis < fed.time_axis else axis - 1
            t.shape[axis] = cnp.PyArray_DIM(array, at)
            t.strides[axis] = cnp.PyArray_STRIDE(array, at)
            if t.shape[axis] != fed.shape[axis]:
                return False
        t.axes = fed.axes
        self.held[k] = value
        return True

    cdef int set_lengths(self, list lengths) except -1:
        cdef int32_t slot
        for slot, array in lengths:
            if not describe(array, &self.frame.c.slots[slot]):
                self.frame.put(slot, array)
        return 0

    cdef object finished(self, object out, bint one_frame):
        """Runs the frames that are set."""
        cdef int status, k
        cdef int64_t begin, taken
        cdef Frame frame = self.frame
        cdef vl_tensor *t
        self.busy = True
        try:
            if one_frame and self.lengths:
                self.set_lengths(self.lengths)
            for k in range(self.state_count):
                t = &frame.c.slots[self.state_inputs[k]]
                t[0] = frame.carried[k]
                vl_block_use(t.block)    # so that nobody writes over what the next run may need once more
            frame.c.peak = frame.c.live
            self.program.limit(frame, self.fed_slots, self.fed_count)
            heed(&frame.heed)
            if one_frame and self.long_steps < limits_in_force().most_long_steps:
                frame.c.threads = 1
                begin = vl_nanoseconds()
                frame.mode = vl_flush_subnormals()
                status = vl_run(&frame.c, self.program.main)
                vl_restore_mode(frame.mode)
                taken = vl_nanoseconds() - begin
                self.long_steps = self.long_steps + 1 if taken > limits_in_force().short_step_nanoseconds else 0
            else:
                frame.c.threads = thread_count()
                with nogil:
                    frame.mode = vl_flush_subnormals()
                    status = vl_run(&frame.c, self.program.main)
                    vl_restore_mode(frame.mode)
            check_ended(&frame.heed)
            if status != VL_DONE:
                error = self.program.failure(frame, status)
                self.blamed(error)
                raise error
            for k in range(self.state_count):
                self.take_state(k)
            results = self.delivered(out, one_frame)
            check_ended(&frame.heed)    # states and results are copied, which may have been ended as well
            for k in range(self.state_count):
                vl_block_drop(&frame.c, frame.carried[k].block)
                frame.carried[k] = self.following[k]
                self.following[k].block = NULL
            self.program.finish(frame)
            return results
        except BaseException:
            for k in range(self.state_count):
                vl_block_drop(&frame.c, self.following[k].block)
                self.following[k].block = NULL
            self.program.abandon(frame)
            raise
        finally:
            for k in range(self.fed_count):
                self.held[k] = None
            self.busy = False

    cdef int take_state(self, int k) except -1:
        """What the run made of a state, alone in its block and without gaps."""
        cdef const vl_tensor *t = &self.frame.c.slots[self.state_outputs[k]]
        if t.state == VL_TENSOR and self.frame.is_whole_block(t):
            self.following[k] = t[0]
            vl_block_use(t.block)
        elif t.state == VL_TENSOR:
            self.own_copy(&self.following[k], t)
        else:
            self.own_object(&self.following[k], self.frame.shared(t))
        return 0

    cdef int own_copy(self, vl_tensor *to, const vl_tensor *t) except -1:
        to[0] = t[0]
        to.block = vl_block_new(&self.frame.c, <size_t>vl_count(t.axes, t.shape) * vl_size_of(t.type))
        if to.block == NULL:
            raise MemoryError
        to.data = to.block.data
        vl_set_contiguous(to)
        vl_copy(&self.frame.c, to, t)
        return 0

    cdef int own_object(self, vl_tensor *to, object value) except -1:
        """The same of what handlers do not read."""
        value = np.array(value)
        to.block = vl_block_of_object(&self.frame.c, <void *>value)
        if to.block == NULL:
            raise MemoryError
        Py_INCREF(value)
        if not describe(value, to):
            to.state = VL_OBJECT
        return 0

    cdef vl_tensor result(self, int k, bint one_frame) except *:
        """The k-th result; of one frame, without its time axis."""
        cdef vl_tensor t = self.frame.c.slots[self.result_slots[k]]
        cdef int axis = self.result_axes[k]
        if axis < 0 or not one_frame or t.state != VL_TENSOR:
            return t
        if axis >= t.axes or t.shape[axis] < 1:
            raise ValueError(f"output {self.result_names[k]!r} has no frame for the frame that was given")
        t.axes -= 1
        while axis < t.axes:
            t.shape[axis] = t.shape[axis + 1]
            t.strides[axis] = t.strides[axis + 1]
            axis += 1
        return t

    cdef object delivered(self, object out, bint one_frame):
        """The results: one array, or a dict of several; in ``out`` where that is given."""
        cdef vl_tensor t
        cdef int j, k
        if out is None:
            if self.result_count == 1:
                t = self.result(0, one_frame)
                return self.frame.result(&t)
            made = {}
            for k in range(self.result_count):
                t = self.result(k, one_frame)
                made[self.result_names[k]] = self.frame.result(&t)
            return made
        if self.result_count == 1 and isinstance(out, cnp.ndarray):
            t = self.result(0, one_frame)
            if not self.frame.fits(&t, out):
                raise self.refused(out, one_frame)
            self.frame.write(&t, out)
            return out
        if not isinstance(out, dict) and not isinstance(out, Mapping):     # the second is slow, and allocates
            raise self.refused(out, one_frame)
        for k in range(self.result_count):
            t = self.result(k, one_frame)
            if not self.frame.fits(&t, out.get(self.result_names[k])):
                raise self.refused(out, one_frame)
            for j in range(k):
                if bounds_overlap(out[self.result_names[j]], out[self.result_names[k]]) and (
                        why := self.why_refused(out, one_frame)):
                    raise ValueError(why)
        for k in range(self.result_count):
            t = self.result(k, one_frame)
            self.frame.write(&t, out[self.result_names[k]])
        return out

    cdef object refused(self, object out, bint one_frame):
        return ValueError(self.why_refused(out, one_frame))

    cdef str why_refused(self, object out, bint one_frame):
        cdef vl_tensor t
        cdef int k
        wanted = {}
        for k in range(self.result_count):
            t = self.result(k, one_frame)
            array = self.frame.shared(&t)
            wanted[self.result_names[k]] = (array.dtype, array.shape)
        return self.misfit(wanted, out)

    def get_states(self):
        """Copies of the states, in order."""
        cdef int k
        if self.busy:
            raise RuntimeError("a stream belongs to one thread at a time, and another one is in it")
        states = []
        for k in range(self.state_count):
            vl_block_use(self.frame.carried[k].block)       # so that it is not handed over
            states.append(self.frame.result(&self.frame.carried[k]))
            vl_block_drop(&self.frame.c, self.frame.carried[k].block)
        return states

    def set_states(self, list arrays):
        """Replace the states by copies of arrays, in order."""
        cdef int k
        cdef vl_tensor given, made
        if self.busy:
            raise RuntimeError("a stream belongs to one thread at a time, and another one is in it")
        for k in range(self.state_count):
            if describe(arrays[k], &given):
                given.block = NULL
                self.own_copy(&made, &given)
            else:
                self.own_object(&made, arrays[k])
            vl_block_drop(&self.frame.c, self.frame.carried[k].block)
            self.frame.carried[k] = made
        self.frame.let_go()
