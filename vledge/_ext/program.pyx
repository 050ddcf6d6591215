"""The native program's door: instructions made from Python's descriptions, arrays in, arrays out.

What a frame is, what handlers promise and who owns memory stands in ``ext/program/program.h``. Here the
GIL is taken and released: once around a run, and once more for each node whose handler declined, whose
Python stand-in is then called with views of the frame's tensors.

The files that are included are one module with this: the C handlers are linked to it, and frames, programs and the
handlers written in Cython know each other.
"""

from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport INT32_MAX, INT64_MAX, SIZE_MAX, int8_t, int32_t, int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from collections.abc import Mapping

cimport numpy as cnp
import numpy as np

from vledge._ext.arrays cimport bounds_overlap, has_shape, is_plain, overlaps_itself, wanted, writable
from vledge._ext.isa cimport VL_IN_FLOAT32, VL_IN_FLOAT64, kernels_for, vl_kernels
from vledge._ext.pool cimport check_ended, heed, limits_in_force, parallel, thread_count, vl_heed
from vledge._ext.room import Room
from vledge._ext.schedule cimport Sequences, run_sequences
from vledge._ext.weights cimport vl_direction, vl_has_cell_state

cnp.import_array()

cdef extern from "simd/cpu_mode.h" nogil:
    uint64_t vl_flush_subnormals()
    void vl_restore_mode(uint64_t mode)

include "frame.pxi"


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
    cdef const vl_kernels *doubles
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
        self.doubles = kernels_for(VL_IN_FLOAT64)
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
        if self.limits is None:
            frame.limits = None
            return 0
        for k in range(count):
            t = &frame.c.slots[slots[k]]
            if t.state == VL_TENSOR:
                given += <size_t>vl_count(t.axes, t.shape) * vl_size_of(t.type)
        if frame.limits is self.limits and frame.given == given:
            return 0    # a stream's step makes no number of Python's
        frame.limits, frame.given = self.limits, given
        frame.c.most = min(<object>SIZE_MAX, self.limits.bytes_for(given))
        frame.c.most_trips = min(<object>INT64_MAX, self.limits.trips)
        return 0

    cdef int execute(self, Frame frame) except -1:
        """Runs a frame whose inputs are set."""
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
        return 0

    cdef list executed(self, Frame frame, list outs):
        """Runs a frame whose inputs are set, and takes its outputs."""
        self.execute(frame)
        try:
            results = frame.results(self.output_slots, self.output_count, outs)
            check_ended(&frame.heed)    # as copying them may have been
        except BaseException:
            self.abandon(frame)
            raise
        self.put_back(frame)
        return results

    cdef int put_back(self, Frame frame) except -1:
        """A frame whose outputs have been taken, for another run."""
        self.finish(frame)
        if len(self.idle) < limits_in_force().most_idle_frames:
            self.idle.append(frame)
        return 0

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
include "layer_call.pxi"
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
