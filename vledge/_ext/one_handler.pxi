def run_handler(str name, list inputs, ints=(), floats=(), int outputs=1, int threads=1, int repeat=0,
                list objects=[]):
    """One handler by itself, for tests: its outputs as arrays that lie as it laid them, None if it declines.

    Inputs are arrays or None; `outputs` is how many it has. With ``repeat`` the nanoseconds that one of so many
    runs takes are returned instead.
    """
    cdef vl_handler *handler = vl_handler_named(name.encode())
    cdef vl_frame *f
    cdef vl_tensor *slots
    cdef vl_instruction i
    cdef int k, axis, status, r, first = len(inputs)
    cdef int64_t low, high
    if handler == NULL:
        raise ValueError(f"no handler named {name!r}")
    held_ints, held_floats = np.array([*ints, 0], np.int64), np.array([*floats, 0], np.float32)
    places = np.arange(first + outputs, dtype=np.int32)
    places[[k for k in range(first) if inputs[k] is None]] = -1
    addresses = np.array([o.ctypes.data if isinstance(o, np.ndarray) else o.address for o in objects] + [0], np.uintp)
    memset(&i, 0, sizeof(vl_instruction))
    i.inputs = <const int32_t *><size_t>places.ctypes.data
    i.outputs = i.inputs + first
    i.ints = <const int64_t *><size_t>held_ints.ctypes.data
    i.floats = <const float *><size_t>held_floats.ctypes.data
    i.objects = <void *const *><size_t>addresses.ctypes.data
    i.input_count, i.output_count, i.object_count = first, outputs, len(objects)
    i.int_count, i.float_count = len(ints), len(floats)
    f = <vl_frame *>calloc(1, sizeof(vl_frame))
    slots = <vl_tensor *>calloc(first + outputs, sizeof(vl_tensor))
    f.slots, f.threads, f.parallel = slots, threads, parallel
    f.kernels, f.doubles = kernels_for(VL_IN_FLOAT32), kernels_for(VL_IN_FLOAT64)
    f.limits = limits_in_force()
    f.most, f.most_trips = SIZE_MAX, INT64_MAX
    try:
        for k in range(first):
            if inputs[k] is not None and not describe(inputs[k], &slots[k]):
                return None
        with nogil:
            status = handler(f, &i)
        if status == VL_DECLINED:
            assert f.live == 0, "the handler took memory before it declined"
            return None
        assert status == VL_DONE, status
        if repeat:
            from time import thread_time_ns
            start = thread_time_ns()
            with nogil:
                for r in range(repeat):
                    for k in range(first, first + outputs):
                        vl_drop(f, k)
                    handler(f, &i)
            return (thread_time_ns() - start) / repeat
        found = []
        for k in range(first, first + outputs):
            if slots[k].state != VL_TENSOR:
                found.append(None)
                continue
            shape = [slots[k].shape[axis] for axis in range(slots[k].axes)]
            strides = [slots[k].strides[axis] for axis in range(slots[k].axes)]
            dtype = next(dtype for dtype, code in TYPES.items() if code == slots[k].type)
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
        assert f.live == 0, "the handler keeps memory"
        return found
    finally:
        for k in range(first, first + outputs):
            vl_drop(f, k)
        vl_frame_trim(f, 0)
        free(slots)
        free(f)
