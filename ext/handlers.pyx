"""One handler of the native program by itself, on arrays: for tests."""

cimport numpy as cnp
import numpy as np

from libc.stdint cimport int8_t, int32_t, int64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from vledge._ext.isa cimport kernels_for, vl_kernels

cnp.import_array()

cdef extern from "threads.h" nogil:
    ctypedef void vl_task(void *context, int member, int members) noexcept nogil
    void vl_parallel(int threads, vl_task *task, void *context) noexcept nogil

cdef extern from "program/program.h" nogil:
    enum:
        VL_DONE
        VL_DECLINED
        VL_TENSOR
    ctypedef struct vl_block:
        char *data
        size_t bytes
    ctypedef struct vl_tensor:
        char *data
        vl_block *block
        int64_t shape[8]
        int64_t strides[8]
        int8_t type, axes, state
    ctypedef struct vl_instruction:
        int (*run)(vl_frame *f, const vl_instruction *i) noexcept nogil
        int32_t input_count, output_count, int_count, float_count, object_count
        const int32_t *inputs
        const int32_t *outputs
        const int64_t *ints
        const float *floats
        void *const *objects
    ctypedef struct vl_frame:
        vl_tensor *slots
        const vl_kernels *kernels
        int threads
        void (*parallel)(int threads, vl_task *task, void *context) noexcept nogil
        size_t live
    ctypedef int vl_handler(vl_frame *f, const vl_instruction *i) noexcept nogil
    ctypedef struct vl_named_handler:
        const char *name
        vl_handler *run
    void vl_drop(vl_frame *f, int32_t slot)
    void vl_frame_trim(vl_frame *f, size_t keep)
    vl_handler *vl_handler_named(const char *name)

TYPES = tuple(
    np.dtype(t) for t in ("f4", "f8", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")
)


def run(str name, list inputs, ints=(), floats=(), int outputs=1, int threads=1, int repeat=0):
    """The handler's outputs as arrays that lie as it laid them, or None if it declines.

    Inputs are arrays or None. With ``repeat`` it returns the nanoseconds that one of so many runs takes instead.
    """
    cdef vl_handler *handler = vl_handler_named(name.encode())
    if handler == NULL:
        raise KeyError(name)
    cdef vl_frame *f = <vl_frame *>calloc(1, sizeof(vl_frame))
    cdef vl_tensor *slots = <vl_tensor *>calloc(len(inputs) + outputs, sizeof(vl_tensor))
    cdef vl_instruction i
    cdef cnp.ndarray a, result
    cdef int k, axis, status, r, first = len(inputs)
    cdef int64_t[::1] held_ints = np.array(list(ints) + [0], np.int64)
    cdef float[::1] held_floats = np.array(list(floats) + [0], np.float32)
    cdef int32_t[::1] places = np.arange(len(inputs) + outputs + 1, dtype=np.int32)
    cdef int64_t low, high
    import time
    try:
        f.slots = slots
        f.kernels = kernels_for(False)
        f.threads = threads
        f.parallel = vl_parallel
        for k in range(len(inputs)):
            if inputs[k] is None:
                places[k] = -1
                continue
            a = inputs[k]
            slots[k].state = VL_TENSOR
            slots[k].type = TYPES.index(a.dtype)
            slots[k].axes = a.ndim
            slots[k].data = <char *>cnp.PyArray_DATA(a)
            for axis in range(a.ndim):
                slots[k].shape[axis] = a.shape[axis]
                slots[k].strides[axis] = a.strides[axis]
        i.run = handler
        i.inputs, i.outputs = &places[0], &places[first]
        i.input_count, i.output_count = len(inputs), outputs
        i.ints, i.floats, i.objects = &held_ints[0], &held_floats[0], NULL
        i.int_count, i.float_count, i.object_count = len(ints), len(floats), 0
        with nogil:
            status = handler(f, &i)
        if status == VL_DECLINED:
            for k in range(outputs):
                assert slots[first + k].state != VL_TENSOR, "it wrote before it declined"
            assert f.live == 0, "it keeps a block"
            return None
        assert status == VL_DONE, status
        if repeat:
            start = time.thread_time_ns()
            with nogil:
                for r in range(repeat):
                    for k in range(first, first + outputs):
                        vl_drop(f, k)
                    handler(f, &i)
            return (time.thread_time_ns() - start) / repeat
        found = []
        for k in range(first, first + outputs):
            shape = [slots[k].shape[axis] for axis in range(slots[k].axes)]
            strides = [slots[k].strides[axis] for axis in range(slots[k].axes)]
            dtype = TYPES[slots[k].type]
            if 0 in shape:
                found.append(np.empty(shape, dtype))
                continue
            low = sum([(n - 1) * s for n, s in zip(shape, strides) if s < 0])
            high = sum([(n - 1) * s for n, s in zip(shape, strides) if s > 0]) + dtype.itemsize
            buffer = np.empty(high - low, np.uint8)
            memcpy(cnp.PyArray_DATA(buffer), slots[k].data + low, high - low)
            found.append(np.ndarray(shape, dtype, buffer, -low, strides))
        for k in range(first, first + outputs):
            vl_drop(f, k)
        assert f.live == 0, "it keeps a block"
        return found
    finally:
        for k in range(first, first + outputs):
            vl_drop(f, k)
        vl_frame_trim(f, 0)
        free(slots)
        free(f)
