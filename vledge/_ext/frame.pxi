# Frames as Python sees them: element types, tensors that look at arrays and arrays that look at tensors, nodes that
# run in Python. Included by program.pyx.

cdef dict TYPES = {
    np.dtype(np.float32): VL_F32, np.dtype(np.float64): VL_F64, np.dtype(np.float16): VL_F16,
    np.dtype(np.int64): VL_I64, np.dtype(np.int32): VL_I32, np.dtype(np.int16): VL_I16,
    np.dtype(np.int8): VL_I8, np.dtype(np.uint64): VL_U64, np.dtype(np.uint32): VL_U32,
    np.dtype(np.uint16): VL_U16, np.dtype(np.uint8): VL_U8, np.dtype(np.bool_): VL_BOOL,
}
cdef int TYPE_OF[256]       # by NumPy's type number; -1: none
cdef int NUMBER_OF[16]      # and back
cdef dict NUMPY_TYPES = {code: dtype for dtype, code in TYPES.items()}


cdef void list_types():
    cdef int k
    for k in range(256):
        TYPE_OF[k] = -1
    for dtype, code in TYPES.items():
        NUMBER_OF[code] = dtype.num
        for name in ("l", "q", "i", "L", "Q", "I"):     # which of them are the same differs by machine
            if np.dtype(name) == dtype:
                TYPE_OF[np.dtype(name).num] = code
        TYPE_OF[dtype.num] = code


list_types()


def type_code(dtype):
    """The number that stands for an element type in handlers' parameters; None for what none reads."""
    return TYPES.get(plain_dtype(dtype))


cdef object plain_dtype(object dtype):
    """The dtype; of a text NumPy would make many things."""
    if not isinstance(dtype, (np.dtype, type)):
        raise TypeError(f"expected a dtype, got a {type(dtype).__name__}")
    return np.dtype(dtype)


cdef cnp.ndarray array_like(const vl_tensor *t, cnp.npy_intp *strides, void *data, int flags):
    """An array of the tensor's type and shape over this memory; over memory of its own, where that is NULL."""
    cdef cnp.npy_intp shape[VL_MOST_AXES]
    cdef int axis
    for axis in range(t.axes):
        shape[axis] = t.shape[axis]
    try:
        return cnp.PyArray_New(cnp.ndarray, t.axes, shape, NUMBER_OF[t.type], strides, data, 0, flags, <object>NULL)
    except ValueError:      # it is empty, and its other axes together are longer than NumPy's may be
        sizes = tuple([t.shape[axis] for axis in range(t.axes)])
        raise ValueError(f"a value is {wanted(NUMBER_OF[t.type], sizes)}, more than an array can hold") from None


cdef class Frame


cdef class Holder:
    """Keeps a block of a frame's memory for an array that looks at it."""

    cdef vl_block *block
    cdef Frame frame    # that counts the block; None where it has been handed out

    def __dealloc__(self):
        cdef size_t gone
        if self.block != NULL:
            gone = vl_block_drop_elsewhere(self.block)
            if self.frame is not None:
                self.frame.gone += gone


cdef bint describe(object array, vl_tensor *t):
    """Fills in all but the block; False for what handlers do not read."""
    cdef cnp.ndarray a
    cdef int axis, code
    if not isinstance(array, cnp.ndarray):
        return False
    a = array
    code = TYPE_OF[cnp.PyArray_TYPE(a)] if cnp.PyArray_TYPE(a) < 256 else -1
    if (code < 0 or cnp.PyArray_NDIM(a) > VL_MOST_AXES or not cnp.PyArray_ISALIGNED(a)
            or not cnp.PyArray_ISNOTSWAPPED(a)):
        return False
    t.data = <char *>cnp.PyArray_DATA(a)
    t.type = code
    t.axes = cnp.PyArray_NDIM(a)
    for axis in range(t.axes):
        t.shape[axis] = cnp.PyArray_DIM(a, axis)
        t.strides[axis] = cnp.PyArray_STRIDE(a, axis)
    t.state = VL_TENSOR
    return True


cdef object in_memory_order(object array):
    """An array as handlers read it, aligned and in this machine's byte order, where only that is amiss."""
    if isinstance(array, cnp.ndarray) and not (array.flags.aligned and array.dtype.isnative):
        return array.astype(array.dtype.newbyteorder("="))
    return array


cdef class Frame:
    """The slots of one run, the memory that it keeps for the next, and what went wrong in it."""

    cdef vl_frame c
    cdef vl_heed heed
    cdef vl_tensor *carried      # of a program whose states stay from run to run; no slots
    cdef int carried_count
    cdef list standins, events
    cdef object limits          # of the run: a RunLimits, or None for none
    cdef size_t given           # bytes of the inputs that these are for
    cdef object error
    cdef size_t gone            # bytes of blocks that Python has freed since the frame was last told
    cdef uint64_t mode

    def __cinit__(self, Program program, int carried_count=0):
        memset(&self.c, 0, sizeof(vl_frame))
        self.c.slots = <vl_tensor *>calloc(max(program.slot_count, 1), sizeof(vl_tensor))
        self.carried = <vl_tensor *>calloc(max(carried_count, 1), sizeof(vl_tensor))
        if self.c.slots == NULL or self.carried == NULL:
            raise MemoryError
        self.carried_count = carried_count
        memcpy(self.c.slots, program.slots, program.slot_count * sizeof(vl_tensor))
        self.c.instructions = program.instructions
        self.c.kernels = program.kernels
        self.c.doubles = program.doubles
        self.c.limits = limits_in_force()
        self.c.parallel = parallel
        self.c.python = stand_in
        self.c.heed = &self.heed
        self.c.program = <void *>self
        self.c.most = SIZE_MAX
        self.c.most_trips = INT64_MAX
        self.standins = program.standins

    def __dealloc__(self):
        cdef int k
        for k in range(self.carried_count):
            vl_block_drop(&self.c, self.carried[k].block)
        self.let_go()
        vl_frame_trim(&self.c, 0)
        free(self.carried)
        free(self.c.slots)

    cdef void let_go(self) noexcept:
        """The Python objects that the run has done with, and blocks that only they had."""
        cdef vl_block *block
        while self.c.garbage != NULL:
            block = self.c.garbage
            self.c.garbage = block.next
            Py_DECREF(<object>block.object)
            free(block)
        self.c.live -= self.gone
        self.c.held -= self.gone
        self.gone = 0

    cdef int put(self, int32_t slot, object value) except -1:
        """A Python value into an empty slot."""
        cdef vl_tensor *t = &self.c.slots[slot]
        cdef vl_block *block
        if value is None:
            t.state = VL_ABSENT
            t.block = NULL
            return 0
        block = vl_block_of_object(&self.c, <void *>value)
        if block == NULL:
            raise MemoryError
        Py_INCREF(value)
        if not describe(value, t):
            t.state = VL_OBJECT
        t.block = block
        return 0

    cdef object get(self, int32_t slot):
        """The slot's value as an array that shares its memory."""
        return None if slot < 0 else self.shared(&self.c.slots[slot])

    cdef object shared(self, const vl_tensor *t):
        """The tensor's value as an array that shares its memory."""
        cdef cnp.ndarray array
        cdef Holder holder
        cdef cnp.npy_intp strides[VL_MOST_AXES]
        cdef int axis
        if t.state == VL_ABSENT:
            return None
        if t.state == VL_OBJECT:
            return <object>t.block.object
        for axis in range(t.axes):
            strides[axis] = t.strides[axis]
        array = array_like(t, strides, t.data, 0)
        if t.block != NULL:
            if t.block.object != NULL:
                base = <object>t.block.object
            else:
                holder = Holder.__new__(Holder)
                vl_block_use(t.block)
                holder.block = t.block
                holder.frame = self
                base = holder
            cnp.set_array_base(array, base)
        return array

    cdef bint owns(self, const vl_tensor *t) noexcept:
        """Whether the tensor's memory is the frame's, no input's, constant's or Python object's."""
        return t.block != NULL and t.block.object == NULL

    cdef bint is_whole_block(self, const vl_tensor *t) noexcept:
        """Whether it is alone in a block of the frame's, from the beginning without gaps, and takes half of it."""
        return (self.owns(t) and t.data == t.block.data and t.block.uses == 1 and t.block.kind >= 0
                and vl_is_contiguous(t)
                and t.block.bytes / 2 <= <size_t>(vl_count(t.axes, t.shape) * <int64_t>vl_size_of(t.type)))

    cdef object result(self, const vl_tensor *t):
        """The tensor's value as an array of the caller's own; a sequence's as a list of them."""
        cdef vl_tensor to
        cdef cnp.ndarray array
        cdef Holder holder
        if t.state != VL_TENSOR:
            value = self.shared(t)
            if isinstance(value, cnp.ndarray):
                return value.copy()
            return None if value is None else [array.copy() for array in value.arrays]
        if (vl_count(t.axes, t.shape) * <int64_t>vl_size_of(t.type) >= limits_in_force().hand_over_bytes
                and self.is_whole_block(t)):
            array = array_like(t, NULL, t.data, cnp.NPY_ARRAY_WRITEABLE)
            holder = Holder.__new__(Holder)
            holder.block = t.block
            vl_block_use(t.block)
            vl_block_hand_out(&self.c, t.block)
            cnp.set_array_base(array, holder)
            return array
        array = array_like(t, NULL, NULL, 0)
        describe(array, &to)
        vl_copy(&self.c, &to, t)
        return array

    cdef bint fits(self, const vl_tensor *t, object out):
        """Whether the tensor's value can be written into what a caller gave for it."""
        cdef cnp.ndarray array
        cdef int axis
        if not isinstance(out, cnp.ndarray):
            return False
        array = out
        if not cnp.PyArray_ISWRITEABLE(array) or overlaps_itself(array):
            return False
        if t.state != VL_TENSOR:
            value = self.shared(t)
            return isinstance(value, cnp.ndarray) and value.dtype == array.dtype and (
                value.shape == (<object>array).shape)
        if (cnp.PyArray_TYPE(array) >= 256 or TYPE_OF[cnp.PyArray_TYPE(array)] != t.type
                or not cnp.PyArray_ISNOTSWAPPED(array) or cnp.PyArray_NDIM(array) != t.axes):
            return False
        for axis in range(t.axes):
            if cnp.PyArray_DIM(array, axis) != t.shape[axis]:
                return False
        return True

    cdef int write(self, const vl_tensor *t, cnp.ndarray out) except -1:
        """The tensor's value into an array that it fits, which may share memory with the run's inputs."""
        cdef vl_tensor to
        if t.state == VL_TENSOR and self.owns(t) and describe(out, &to):
            vl_copy(&self.c, &to, t)
        else:
            out[...] = self.shared(t)
        return 0

    cdef list results(self, const int32_t *slots, int count, list outs):
        """Arrays of the slots' values: those of ``outs`` where that has any. Where one of these does not
        fit, nothing is written, and all are new."""
        cdef int k
        cdef list given = outs
        cdef const vl_tensor *t
        if outs is not None:
            for k in range(count):
                if outs[k] is not None and not self.fits(&self.c.slots[slots[k]], outs[k]):
                    given = None
                    break
        if given is None:
            return [self.result(&self.c.slots[slots[k]]) for k in range(count)]
        made = []
        for k in range(count):      # before an output is written where an input stands, of which another is a view
            t = &self.c.slots[slots[k]]
            made.append(self.result(t) if given[k] is None or not self.owns(t) else None)
        for k in range(count):
            if given[k] is None:
                continue
            if made[k] is None:
                self.write(&self.c.slots[slots[k]], given[k])
            else:
                given[k][...] = made[k]
            made[k] = given[k]
        return made


cdef object within(object error, object room, object limits):
    """The error of an operator, or that of the limit which it ran into."""
    if limits is not None and room.refused:
        return limits.too_large(room.refused).with_traceback(error.__traceback__)
    if limits is not None and room.left < 0:
        return limits.too_long().with_traceback(error.__traceback__)
    return error


cdef int stand_in(vl_frame *f, const vl_instruction *i) noexcept with gil:
    """Runs a node's Python operator on views of its inputs."""
    cdef Frame frame = <Frame>f.program
    cdef int k
    cdef int64_t left = f.most_trips - f.trips
    vl_restore_mode(frame.mode)
    room = Room(<int64_t>min(f.most - min(f.live, f.most), <size_t>INT64_MAX), left, f.elsewhere)
    try:
        with room:
            arguments = [frame.get(i.inputs[k]) for k in range(i.input_count)]
            with np.errstate(all="ignore"):
                results = frame.standins[i.number](*arguments)
            del arguments
            for k in range(i.output_count):
                if i.outputs[k] >= 0:
                    frame.put(i.outputs[k], results[k])
            results = None
            frame.let_go()
        f.trips += left - room.left
        f.elsewhere = room.used
    except BaseException as error:
        frame.error = within(error, room, frame.limits)
        return VL_FAILED
    finally:
        vl_flush_subnormals()
    return VL_DONE


cdef object seen(vl_frame *f, int32_t slot):
    """What stands in a slot, for who watches a run: (dtype, shape, address of its block), None for no tensor."""
    cdef vl_tensor *t
    cdef int axis
    if slot < 0 or f.slots[slot].state != VL_TENSOR:
        return None
    t = &f.slots[slot]
    return NUMPY_TYPES[t.type], tuple([t.shape[axis] for axis in range(t.axes)]), <size_t>t.block


cdef void observe(vl_frame *f, const vl_instruction *i, int64_t begin, int64_t end, int declined) noexcept with gil:
    cdef Frame frame = <Frame>f.program
    cdef int k
    inputs = [seen(f, i.inputs[k]) for k in range(i.input_count)]
    outputs = [seen(f, i.outputs[k]) for k in range(i.output_count)]
    frame.events.append((i.number, begin, end, declined != 0, inputs, outputs, f.live + f.elsewhere))
