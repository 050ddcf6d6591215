"""The native program's door: instructions made from Python's descriptions, arrays in, arrays out.

What a frame is, what handlers promise and who owns memory stands in ``ext/program/program.h``. Here the
GIL is taken and released: once around a run, and once more for each node whose handler declined, whose
Python stand-in is then called with views of the frame's tensors.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport INT32_MAX, INT64_MAX, SIZE_MAX, int8_t, int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from collections.abc import Mapping

cimport numpy as cnp
import numpy as np

from vledge._ext.arrays cimport bounds_overlap, overlaps_itself, writable
from vledge._ext.isa cimport VL_IN_FLOAT32, VL_IN_FLOAT64, kernels_for, vl_kernels
from vledge._ext.pool cimport check_ended, heed, limits_in_force, parallel, thread_count, vl_heed
from vledge._ext.room import Room
from vledge._ext.schedule cimport Sequences, run_sequences
from vledge._ext.weights cimport vl_direction, vl_has_cell_state

cnp.import_array()

cdef extern from "simd/cpu_mode.h" nogil:
    uint64_t vl_flush_subnormals()
    void vl_restore_mode(uint64_t mode)

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
        cdef cnp.npy_intp shape[VL_MOST_AXES]
        cdef cnp.npy_intp strides[VL_MOST_AXES]
        cdef int axis
        if t.state == VL_ABSENT:
            return None
        if t.state == VL_OBJECT:
            return <object>t.block.object
        for axis in range(t.axes):
            shape[axis] = t.shape[axis]
            strides[axis] = t.strides[axis]
        array = cnp.PyArray_New(cnp.ndarray, t.axes, shape, NUMBER_OF[t.type], strides, t.data, 0, 0, <object>NULL)
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
        """Whether it is alone in a block of the frame's, from the beginning and without gaps."""
        return (self.owns(t) and t.data == t.block.data and t.block.uses == 1 and t.block.kind >= 0
                and vl_is_contiguous(t))

    cdef object result(self, const vl_tensor *t):
        """The tensor's value as an array of the caller's own; a sequence's as a list of them."""
        cdef vl_tensor to
        cdef cnp.npy_intp shape[VL_MOST_AXES]
        cdef cnp.ndarray array
        cdef Holder holder
        cdef int axis
        if t.state != VL_TENSOR:
            value = self.shared(t)
            if isinstance(value, cnp.ndarray):
                return value.copy()
            return None if value is None else [array.copy() for array in value.arrays]
        for axis in range(t.axes):
            shape[axis] = t.shape[axis]
        if (vl_count(t.axes, t.shape) * <int64_t>vl_size_of(t.type) >= limits_in_force().hand_over_bytes
                and self.is_whole_block(t)):
            array = cnp.PyArray_New(cnp.ndarray, t.axes, shape, NUMBER_OF[t.type], NULL, t.data, 0,
                                    cnp.NPY_ARRAY_WRITEABLE, <object>NULL)
            holder = Holder.__new__(Holder)
            holder.block = t.block
            vl_block_use(t.block)
            vl_block_hand_out(&self.c, t.block)
            cnp.set_array_base(array, holder)
            return array
        array = cnp.PyArray_EMPTY(t.axes, shape, NUMBER_OF[t.type], 0)
        describe(array, &to)
        vl_copy(self.c.kernels, &to, t)
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
            vl_copy(self.c.kernels, &to, t)
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


cdef class Program:
    """A graph that runs natively, for any sizes.

    Parameters
    ----------
    slot_count : int
    constants : dict, slot -> ndarray
    instructions : list of (handler name or None, inputs, outputs, drops, ints, floats, objects, stand_in)
        Slots are ints, -1 for none. ``objects`` are ndarrays, or objects with an ``address``; the
        program keeps them. ``stand_in`` is called with the inputs as arrays and returns a list of outputs.
    main : (first, last)
        The instructions of the graph itself; those of its bodies stand before or behind.
    inputs, outputs : lists of slots
    """

    cdef vl_instruction *instructions
    cdef vl_tensor *slots
    cdef int count, slot_count
    cdef vl_range main
    cdef const vl_kernels *kernels
    cdef list standins, keep, idle
    cdef size_t peak
    cdef public object limits   #: of each run: a RunLimits, None for none
    cdef readonly list inputs, outputs
    cdef const int32_t *input_slots
    cdef const int32_t *output_slots
    cdef int32_t input_count, output_count

    def __cinit__(self, int slot_count, dict constants, list instructions, tuple main, list inputs,
                  list outputs):
        cdef int k
        cdef vl_instruction *i
        self.kernels = kernels_for(VL_IN_FLOAT32)
        self.keep, self.idle, self.standins = [], [], []
        self.inputs, self.outputs = inputs, outputs
        self.slot_count = slot_count
        self.count = len(instructions)
        self.input_slots = self.places(inputs, 0, &self.input_count)
        self.output_slots = self.places(outputs, 0, &self.output_count)
        self.main.first, self.main.last = main
        if slot_count < 0 or not 0 <= self.main.first <= self.main.last <= self.count:
            raise ValueError(f"main is {main}, there are {self.count} instructions and {slot_count} slots")
        self.slots = <vl_tensor *>PyMem_Calloc(max(slot_count, 1), sizeof(vl_tensor))
        self.instructions = <vl_instruction *>PyMem_Calloc(max(self.count, 1), sizeof(vl_instruction))
        if self.slots == NULL or self.instructions == NULL:
            raise MemoryError
        for slot, array in constants.items():
            self.keep.append(array)
            if not 0 <= slot < slot_count:
                raise ValueError(f"a constant is in slot {slot}, there are {slot_count}")
            if not describe(array, &self.slots[<int>slot]):
                self.keep_object(<int>slot, array)
        for k in range(self.count):
            i = &self.instructions[k]
            name, takes, gives, drops, ints, floats, objects, standin = instructions[k]
            if name is not None:
                i.run = vl_handler_named(name.encode())
                if i.run == NULL:
                    i.run = handler_here(name)
            i.number = k
            self.standins.append(standin)
            i.inputs = self.places(takes, -1, &i.input_count)
            i.outputs = self.places(gives, -1, &i.output_count)
            i.drops = self.places(drops, 0, &i.drop_count)
            i.ints = <const int64_t *>self.array(ints, np.int64, &i.int_count)
            i.floats = <const float *>self.array(floats, np.float32, &i.float_count)
            addresses = [object.ctypes.data if isinstance(object, np.ndarray) else object.address
                         for object in objects]
            self.keep.extend(objects)
            i.objects = <void *const *>self.array(addresses, np.uintp, &i.object_count)

    def __dealloc__(self):
        cdef int k
        PyMem_Free(self.instructions)
        if self.slots != NULL:
            for k in range(self.slot_count):
                free(self.slots[k].block)
        PyMem_Free(self.slots)

    cdef int keep_object(self, int slot, object value) except -1:
        """A constant that only Python reads; `keep` has the reference, and no run ends its use."""
        self.slots[slot].state = VL_OBJECT
        self.slots[slot].block = <vl_block *>calloc(1, sizeof(vl_block))
        if self.slots[slot].block == NULL:
            raise MemoryError
        self.slots[slot].block.object = <void *>value
        self.slots[slot].block.uses = 1 << 30
        return 0

    cdef const int32_t *places(self, slots, int least, int32_t *count) except? NULL:
        """The same of slots, each of which there is; -1 is none."""
        for slot in slots:
            if not least <= slot < self.slot_count:
                raise ValueError(f"there is no slot {slot} among {self.slot_count}")
        return <const int32_t *>self.array(slots, np.int32, count)

    cdef const void *array(self, values, dtype, int32_t *count) except? NULL:
        """The address of numbers that live as long as the program."""
        array = np.array(values, dtype).reshape(-1)
        count[0] = len(array)
        self.keep.append(array)
        return <const void *><size_t>array.ctypes.data

    def run(self, list arrays, profile=None, list outs=None, list events=None):
        """``arrays`` of the inputs, in order -> a list of new arrays of the outputs.

        ``outs`` may have an array for each output, to be written to, or None for a new one. Where one
        is of another shape or dtype or read-only, nothing is written and all are new.

        ``profile`` is None or a pair of arrays (int64 nanoseconds, int32 declined), an element an
        instruction, which the run adds to. To ``events`` each instruction that has run is appended:
        (number, nanoseconds when it began, when it ended, whether Python ran, what was seen of its
        inputs, of its outputs, bytes of the frame in use then); those of a body before the one that it
        is the body of.
        """
        cdef Frame frame
        cdef int k = 0
        cdef int32_t slot
        cdef cnp.ndarray nanoseconds, declined
        if len(arrays) != self.input_count:
            raise ValueError(f"the program has {self.input_count} inputs, got {len(arrays)}")
        frame = self.idle_frame()
        if profile is not None:
            nanoseconds = writable(profile[0], "nanoseconds", cnp.NPY_INT64, (self.count,))
            declined = writable(profile[1], "declined", cnp.NPY_INT32, (self.count,))
            frame.c.nanoseconds = <int64_t *>cnp.PyArray_DATA(nanoseconds)
            frame.c.declined = <int32_t *>cnp.PyArray_DATA(declined)
        if events is not None:
            frame.events, frame.c.observe = events, observe
        for array in arrays:
            slot = self.input_slots[k]
            if not describe(array, &frame.c.slots[slot]):
                frame.put(slot, in_memory_order(array))
            k += 1
        return self.executed(frame, outs)

    def run_feed(self, dict feed, tuple expected, list outs=None):
        """The same for a dict of exactly the inputs' arrays by name, if all are as ``expected``: for each input
        (name, NumPy's type number, sizes, -1 where free, or None for any). None where one is another
        thing, which the caller looks at more closely."""
        cdef Frame frame
        cdef int k = 0, axis
        cdef int32_t slot
        cdef cnp.ndarray array
        cdef tuple sizes
        cdef Py_ssize_t size
        if len(feed) != len(expected):
            return None
        frame = self.idle_frame()
        for name, number, shape in expected:
            value = feed.get(name)
            slot = self.input_slots[k]
            if not isinstance(value, cnp.ndarray):
                break
            array = value
            if cnp.PyArray_TYPE(array) != <int>number or not describe(array, &frame.c.slots[slot]):
                break
            if shape is not None:
                sizes = shape
                if cnp.PyArray_NDIM(array) != len(sizes):
                    break
                for axis in range(len(sizes)):
                    size = sizes[axis]
                    if size >= 0 and size != cnp.PyArray_DIM(array, axis):
                        break
                else:
                    k += 1
                    continue
                break
            k += 1
        if k < len(expected):
            self.clear(frame)
            self.idle.append(frame)
            return None
        return self.executed(frame, outs)

    cdef Frame idle_frame(self):
        """A frame whose inputs are still empty."""
        cdef Frame frame = self.idle.pop() if self.idle else Frame.__new__(Frame, self)
        frame.c.threads = thread_count()
        frame.c.peak = frame.c.live
        frame.c.nanoseconds = NULL
        frame.c.declined = NULL
        frame.c.observe = NULL
        frame.events = None
        return frame

    cdef int limit(self, Frame frame, const int32_t *slots, int count) except -1:
        """What a run may take whose inputs stand in ``slots``."""
        cdef int k
        cdef size_t given = 0
        cdef const vl_tensor *t
        frame.c.trips = 0
        frame.c.elsewhere = 0
        frame.limits = self.limits
        if self.limits is None:
            return 0
        for k in range(count):
            t = &frame.c.slots[slots[k]]
            if t.state == VL_TENSOR:
                given += <size_t>vl_count(t.axes, t.shape) * vl_size_of(t.type)
        frame.c.most = min(<object>SIZE_MAX, self.limits.bytes_for(given))
        frame.c.most_trips = min(<object>INT64_MAX, self.limits.trips)
        return 0

    cdef list executed(self, Frame frame, list outs):
        """Runs a frame whose inputs are set, and takes its outputs."""
        cdef int status
        heed(&frame.heed)
        self.limit(frame, self.input_slots, self.input_count)
        with nogil:
            frame.mode = vl_flush_subnormals()
            status = vl_run(&frame.c, self.main)
            vl_restore_mode(frame.mode)
        if status != VL_DONE:
            error = self.failure(frame, status)
            self.abandon(frame)
            check_ended(&frame.heed)
            raise error
        try:
            results = frame.results(self.output_slots, self.output_count, outs)
        except BaseException:
            self.abandon(frame)
            raise
        self.finish(frame)
        if len(self.idle) < limits_in_force().most_idle_frames:
            self.idle.append(frame)
        return results

    cdef object failure(self, Frame frame, int status):
        """The exception that ended a run."""
        error, frame.error = frame.error, None
        if status == VL_TOO_LONG:
            return self.limits.too_long()
        return error if status == VL_FAILED else MemoryError("no memory for a value of the graph")

    cdef void finish(self, Frame frame) noexcept:
        """Makes a frame ready for the next run when its outputs have been taken."""
        self.clear(frame)
        frame.let_go()
        vl_frame_trim(&frame.c, frame.c.peak + <size_t>limits_in_force().keep_frame_bytes)
        self.peak = max(self.peak, frame.c.peak)

    cdef void clear(self, Frame frame) noexcept:
        """What the run has left in the slots of inputs and outputs."""
        cdef int k
        for k in range(self.input_count):
            vl_drop(&frame.c, self.input_slots[k])
        for k in range(self.output_count):
            if self.slots[self.output_slots[k]].state == VL_ABSENT:
                vl_drop(&frame.c, self.output_slots[k])

    cdef void abandon(self, Frame frame) noexcept:
        """A run that failed leaves values anywhere."""
        cdef int slot
        for slot in range(self.slot_count):
            if self.slots[slot].state == VL_ABSENT:
                vl_drop(&frame.c, slot)
        frame.let_go()

    def memory(self):
        """(bytes that idle frames keep, the most that one run has used of its frame)."""
        cdef size_t held = 0
        for frame in self.idle:
            held += (<Frame>frame).c.held
        return held, self.peak


include "carried.pxi"
include "recurrent_nodes.pxi"
include "one_handler.pxi"


cdef vl_handler *handler_here(name) except NULL:
    """Handlers that are written in Cython."""
    if name == "recurrent":
        return run_node
    if name == "recurrent_cell":
        return run_cell
    if name == "recurrent_masked":
        return run_masked
    raise ValueError(f"no handler named {name!r}")
