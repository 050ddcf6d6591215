# Layers over lists of sequences, which are read where they lie; a part of recurrent.pyx.

cdef inline bint is_sequence(object given, int number, ptrdiff_t features) noexcept:
    """Whether it is an array [L, features] whose memory kernels may read as it lies."""
    return (is_plain(given, number) and cnp.PyArray_NDIM(<cnp.ndarray>given) == 2
            and cnp.PyArray_DIM(<cnp.ndarray>given, 1) == features)


def plain_lengths(sequences not None, dtype not None, Py_ssize_t features):
    """Lengths, int64 [B], of a list or tuple of arrays [L, features] that kernels read where they lie; None where
    there are none, or where one is anything else."""
    cdef tuple given = tuple(sequences)
    cdef Py_ssize_t r, count = len(given)
    cdef int number = (<cnp.dtype>dtype).num
    cdef cnp.npy_intp size = count
    cdef cnp.ndarray lengths
    cdef int64_t *length
    if not count:
        return None
    lengths = cnp.PyArray_EMPTY(1, &size, cnp.NPY_INT64, False)
    length = <int64_t *>cnp.PyArray_DATA(lengths)
    for r in range(count):
        if not is_sequence(given[r], number, features):
            return None
        length[r] = cnp.PyArray_DIM(<cnp.ndarray>given[r], 0)
    return lengths


def run_list(list directions not None, list sequences not None, batch_sizes, order, h_0=None, c_0=None, threads=None):
    """Run one layer over sequences that are arrays of their own: they are read where they lie, and nothing is packed.

    Parameters
    ----------
    sequences : list of ndarray [L, input_size]
    batch_sizes, order, directions, threads : as for ``run_padded``, and of these lengths
    h_0, c_0 : as for ``run_padded``, in the order of the list

    Returns
    -------
    outputs : list of ndarray [L, D * (proj_size or hidden_size)]
    h_n, c_n : as ``run_padded``
    """
    cdef LayerRun call
    set_directions(&call, directions)
    cdef const vl_direction *direction = call.directions[0]
    cdef int number = typenum(directions[0])
    cdef ptrdiff_t in_row = direction.input_size, out_row = call.direction_count * direction.width
    cdef ptrdiff_t number_bytes = direction.number_bytes, count = len(sequences), t, r, place, length, total
    cdef Offsets offsets
    cdef cnp.ndarray one
    cdef cnp.ndarray _sizes = set_lengths(&call, batch_sizes, count, &total)
    cdef cnp.ndarray places = shaped(order, "order", cnp.NPY_INT64, (count,))
    cdef list held = [given if is_sequence(given, number, in_row) else
                      shaped(given, "a sequence", number, ("steps", in_row)) for given in sequences]
    cdef list outputs = [None] * count
    if call.sequences != count or len(held) != count:
        raise ValueError(f"batch_sizes asks for {call.sequences} sequences, there are {count}")
    call.places = <const int64_t *>cnp.PyArray_DATA(places)
    h_n, c_n, _states = set_states(&call, number, h_0, c_0)
    if count == 0:
        return outputs, h_n, c_n
    offsets = set_offsets(&call)
    try:
        for t in range(call.steps):
            offsets.x_time[t] = t * in_row
            offsets.y_time[t] = t * out_row
        for r in range(count):
            call.ranks[r] = -1
        length = call.steps
        for r in range(count):
            place = call.places[r]
            if not 0 <= place < count or call.ranks[place] != -1:
                raise ValueError(f"order is no permutation of {count} sequences")
            call.ranks[place] = r
            while length > 0 and call.batch_sizes[length - 1] <= r:
                length -= 1
            one = held[place]
            if cnp.PyArray_DIM(one, 0) != length:
                raise ValueError(f"sequences[{place}] has {cnp.PyArray_DIM(one, 0)} steps, not {length}")
            if r == 0:
                call.x = <const char *>cnp.PyArray_DATA(one)
            offsets.x_rows[r] = distance(cnp.PyArray_DATA(one), call.x, number_bytes)
            one = empty((length, out_row), number)
            outputs[place] = one
            if r == 0:
                call.y = <char *>cnp.PyArray_DATA(one)
            offsets.y_rows[r] = distance(cnp.PyArray_DATA(one), call.y, number_bytes)
        execute(&call, thread_count() if threads is None else threads)
    finally:
        PyMem_Free(offsets.x_time)
    return outputs, h_n, c_n
