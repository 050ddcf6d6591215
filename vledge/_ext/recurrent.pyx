"""Recurrent layers from Python: arrays are checked here, once, and the time loops run without the GIL.

``schedule.pyx`` shares a run between threads, ``walk.pyx`` has the loop over time; beneath them, in C, are the pool of
threads, scratch memory and one step (``pool.pyx``). The thresholds are ``ext/limit_list.h``'s.
"""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport INT32_MAX, PTRDIFF_MAX, int64_t
from libc.string cimport memset

cimport numpy as cnp

from vledge._ext.arrays cimport batch_sizes_of, is_plain, product_of, shaped
from vledge._ext.pool cimport chunk_rows as rows_of_chunk
from vledge._ext.pool cimport (
    VL_MOST_THREADS,
    check_ended,
    heed,
    limits_in_force,
    meet,
    named_limits,
    parallel,
    thread_count,
    vl_heed,
    vl_line,
    vl_named_limit,
    vl_team,
)
from vledge._ext.schedule cimport end_rest, next_turn, rehearse, run_layer, tasks_done
from vledge._ext.walk cimport LayerRun
from vledge._ext.weights cimport Direction, made, vl_direction, vl_has_cell_state

cnp.import_array()

cdef extern from "clock.h" nogil:
    int64_t vl_nanoseconds()

cdef const vl_named_limit *named = named_limits()


def limit_units() -> dict:
    """What each threshold is counted in, by name."""
    cdef int i = 0
    units = {}
    while named[i].name != NULL:
        units[named[i].name.decode()] = named[i].unit.decode()
        i += 1
    return units


def limits(**changes) -> dict:
    """The thresholds by name, after changing those given: tests force the paths that their small sizes would not
    take, benchmarks look for better values. ``ext/limit_list.h`` says what each is and how it was found."""
    cdef int i
    end_rest()
    names = list(limit_units())
    if not set(changes) <= set(names):
        raise ValueError(f"no limit named {', '.join(set(changes) - set(names))}")
    for name, value in changes.items():
        if not isinstance(value, int) or not -1 <= value <= INT32_MAX:
            raise ValueError(f"{name} is {value!r}, expected an int from -1 to {INT32_MAX}")
        i = names.index(name)
        named[i].value[0] = value
    return {name: named[<int>i].value[0] for i, name in enumerate(names)}


def chunk_rows(Direction direction not None, Py_ssize_t rows, Py_ssize_t total) -> int:
    """Rows of projected input that a walk of so many sequences, and of so many rows in all its steps, makes at once."""
    return rows_of_chunk(&made(direction).c, rows, total)


cdef object empty(tuple shape, int type_number, bint zero=False):
    cdef cnp.npy_intp sizes[3]
    cdef int i
    for i in range(len(shape)):
        sizes[i] = shape[i]
    if zero:
        return cnp.PyArray_ZEROS(len(shape), sizes, type_number, False)
    return cnp.PyArray_EMPTY(len(shape), sizes, type_number, False)


cdef int execute(LayerRun *call, int threads) except -1:
    """Runs it, without the GIL."""
    cdef bint done
    cdef vl_heed h
    heed(&h)
    call.heed = &h
    with nogil:
        done = run_layer(call, threads)
    check_ended(&h)
    if not done:
        raise MemoryError("no memory for the working buffers of a recurrent layer")
    return 0


cdef int check_layer(list directions) except -1:
    if not 1 <= len(directions) <= 2:
        raise ValueError("a layer has one direction or two")
    cdef Direction first = made(directions[0]), other
    for one in directions:
        other = made(one)
        if (other.c.cell != first.c.cell or typenum(other) != typenum(first)
                or other.c.width != first.c.width
                or other.c.input_size != first.c.input_size
                or other.c.hidden_size != first.c.hidden_size):
            raise ValueError("the directions of a layer must have one cell, size and dtype")
    return 0


cdef int set_directions(LayerRun *call, list directions) except -1:
    """Checks that the directions are one layer's."""
    cdef Direction direction
    cdef int d
    check_layer(directions)
    call.turned = next_turn()
    call.padded_steps = 0
    call.places = NULL
    call.direction_count = len(directions)
    for d in range(call.direction_count):
        direction = directions[d]
        call.directions[d] = &direction.c
    return 0


cdef cnp.ndarray set_lengths(LayerRun *call, object batch_sizes, ptrdiff_t sequences, ptrdiff_t *total):
    """Checks batch_sizes, which the caller keeps while it runs."""
    cdef cnp.ndarray sizes = batch_sizes_of(batch_sizes, total)
    call.batch_sizes = <const int64_t *>cnp.PyArray_DATA(sizes)
    call.steps = cnp.PyArray_DIM(sizes, 0)
    call.sequences = max(sequences, call.batch_sizes[0] if call.steps else 0)
    return sizes


cdef tuple set_states(LayerRun *call, int number, h_0, c_0):
    """Checks the initial states and makes the final ones: (h_n, c_n, what the call reads)."""
    cdef const vl_direction *direction = call.directions[0]
    h_shape = (call.direction_count, call.sequences, direction.width)
    c_shape = (call.direction_count, call.sequences, direction.hidden_size)
    if c_0 is not None and not vl_has_cell_state(direction):
        raise ValueError("c_0 goes with an LSTM only")
    h_0 = None if h_0 is None else shaped(h_0, "h_0", number, h_shape)
    c_0 = None if c_0 is None else shaped(c_0, "c_0", number, c_shape)
    call.h_0, call.c_0 = data_of(h_0), data_of(c_0)
    h_n = empty(h_shape, number)
    c_n = empty(c_shape, number) if vl_has_cell_state(direction) else None
    call.h_n, call.c_n = data_of(h_n), data_of(c_n)
    return h_n, c_n, (h_0, c_0)


cdef struct Offsets:
    ptrdiff_t *x_time            # of the steps, [steps], ...
    ptrdiff_t *y_time
    ptrdiff_t *x_rows            # ... and of the sorted sequences, [sequences]
    ptrdiff_t *y_rows


cdef Offsets set_offsets(LayerRun *call) except *:
    """Memory for the four tables of offsets and the ranks; the caller fills them, and frees it by the first."""
    cdef Offsets offsets
    cdef ptrdiff_t steps = product_of(call.steps, 2 * sizeof(ptrdiff_t))
    cdef ptrdiff_t rows = product_of(call.sequences, 3 * sizeof(ptrdiff_t))
    offsets.x_time = NULL if steps > PTRDIFF_MAX - rows else <ptrdiff_t *>PyMem_Malloc(steps + rows)
    if offsets.x_time == NULL:
        raise MemoryError
    offsets.y_time = offsets.x_time + call.steps
    offsets.x_rows = offsets.y_time + call.steps
    offsets.y_rows = offsets.x_rows + call.sequences
    call.x_time, call.y_time, call.x_rows, call.y_rows = offsets.x_time, offsets.y_time, offsets.x_rows, offsets.y_rows
    call.ranks = offsets.y_rows + call.sequences
    return offsets


cdef inline ptrdiff_t distance(const void *place, const void *base, ptrdiff_t number_bytes) noexcept:
    """Numbers between two arrays' first ones; each lies at a multiple of its size."""
    return (<ptrdiff_t>place - <ptrdiff_t>base) // number_bytes


cdef int set_starts(ptrdiff_t *x_rows, const LayerRun *call, cnp.ndarray starts, ptrdiff_t steps,
                    ptrdiff_t in_row) except -1:
    """Where each row's sequence begins in an array of so many steps; ValueError where it is not all in it."""
    cdef const int64_t *first = <const int64_t *>cnp.PyArray_DATA(starts)
    cdef ptrdiff_t length = call.steps, r
    for r in range(call.sequences):
        while length > 0 and call.batch_sizes[length - 1] <= r:
            length -= 1
        if first[r] < 0 or first[r] > steps - length:
            raise ValueError(f"starts[{r}] is {first[r]}: a sequence of {length} steps is to be in an array of {steps}")
        x_rows[r] = first[r] * in_row
    return 0


def run(list directions not None, data, batch_sizes, h_0=None, c_0=None, threads=None, starts=None, bint outputs=True):
    """Run one layer over packed sequences, or over such that lie one behind the other.

    Parameters
    ----------
    directions : list of one or two Direction
        All of one cell, size and dtype.
    data : ndarray [sum(batch_sizes), input_size]
    batch_sizes : ndarray of int64 [T], positive, non-increasing
    h_0 : ndarray [D, B, proj_size or hidden_size], or None for zeros
        Rows in the packed (sorted) order; B may exceed ``batch_sizes[0]``: sequences of length 0,
        whose final state is their initial one.
    c_0 : ndarray [D, B, hidden_size], or None for zeros; LSTM only
    threads : int, optional
        Default: :func:`vledge.get_num_threads`.
    starts : ndarray of int64 [B], or None where data are packed
        The row of ``data``, which may be of any number, that each sequence begins with; its steps follow.
    outputs : bool
        Whether the output is wanted; else it is None.

    Returns
    -------
    output : ndarray [sum(batch_sizes), D * (proj_size or hidden_size)], packed
    h_n, c_n : ndarrays shaped as h_0 and c_0; c_n is None for cells other than LSTM
    """
    cdef LayerRun call
    set_directions(&call, directions)
    cdef const vl_direction *direction = call.directions[0]
    cdef int number = typenum(directions[0])
    cdef ptrdiff_t t, r, in_row = direction.input_size, out_row = call.direction_count * direction.width
    cdef ptrdiff_t total, sequences = 0
    cdef Offsets offsets
    if h_0 is not None:
        h_0 = shaped(h_0, "h_0", number, (call.direction_count, "sequences", direction.width))
        sequences = cnp.PyArray_DIM(h_0, 1)
    cdef cnp.ndarray _sizes = set_lengths(&call, batch_sizes, sequences, &total)
    cdef cnp.ndarray rows = shaped(data, "data", number, (total if starts is None else "steps", in_row))
    cdef cnp.ndarray firsts = None
    call.x = <const char *>cnp.PyArray_DATA(rows)
    h_n, c_n, _states = set_states(&call, number, h_0, c_0)
    output = empty((total, out_row), number) if outputs else None
    call.y = data_of(output)
    if call.sequences == 0:
        return output, h_n, c_n
    if starts is not None:
        firsts = shaped(starts, "starts", cnp.NPY_INT64, (call.sequences,))
    offsets = set_offsets(&call)
    try:
        total = 0
        for t in range(call.steps):
            offsets.x_time[t] = (total if firsts is None else t) * in_row
            offsets.y_time[t] = total * out_row
            total += call.batch_sizes[t]
        for r in range(call.sequences):
            offsets.x_rows[r] = r * in_row
            offsets.y_rows[r] = r * out_row
        if firsts is not None:
            set_starts(offsets.x_rows, &call, firsts, cnp.PyArray_DIM(rows, 0), in_row)
        execute(&call, thread_count() if threads is None else threads)
    finally:
        PyMem_Free(offsets.x_time)
    return output, h_n, c_n


def run_padded(list directions not None, data, batch_sizes, order=None, h_0=None, c_0=None,
               bint batch_first=False, threads=None, bint pack=False, unpack=None):
    """Run one layer over a padded batch, without packing it and without working on the padding.

    Parameters
    ----------
    data : ndarray [T, B, input_size], or [B, T, input_size] with batch_first
    batch_sizes : ndarray of int64 [at most T]
        Live sequences at each step, as ``run`` takes them.
    order : ndarray of int64 [B], or None where the batch is already sorted by falling length
        A permutation: ``order[r]`` is the place in the batch of the r-th longest sequence.
    h_0, c_0, directions, threads : as for ``run``, but the states are in the batch's order.
    pack : bool
        The output is packed, as ``run`` has it: for a layer above this one.
    unpack : int, or None
        Where it is given, data are packed, as by ``pack``, and this is T.

    Returns
    -------
    output : ndarray [T, B, D * (proj_size or hidden_size)], axes as in data; zeros past each length
    h_n, c_n : as ``run``, in the batch's order
    """
    cdef LayerRun call
    set_directions(&call, directions)
    cdef const vl_direction *direction = call.directions[0]
    cdef int number = typenum(directions[0])
    cdef ptrdiff_t t, r, row, place, in_row = direction.input_size, out_row = call.direction_count * direction.width
    cdef ptrdiff_t steps, sequences, total
    cdef Offsets offsets
    cdef cnp.ndarray rows
    cdef cnp.ndarray places = None
    cdef cnp.ndarray _sizes
    cdef bint packed = unpack is not None
    if packed:
        sequences, steps = 0 if order is None else len(order), unpack
        _sizes = set_lengths(&call, batch_sizes, sequences, &total)
        rows = shaped(data, "data", number, (total, in_row))
        sequences = call.sequences
    else:
        rows = shaped(data, "data", number, ("B", "T", in_row) if batch_first else ("T", "B", in_row))
        sequences = cnp.PyArray_DIM(rows, 0 if batch_first else 1)
        steps = cnp.PyArray_DIM(rows, 1 if batch_first else 0)
        _sizes = set_lengths(&call, batch_sizes, sequences, &total)
    if call.sequences != sequences or call.steps > steps:
        raise ValueError(f"batch_sizes asks for more than the {steps} steps of {sequences} sequences")
    call.x = <const char *>cnp.PyArray_DATA(rows)
    if order is not None:
        places = shaped(order, "order", cnp.NPY_INT64, (sequences,))
        call.places = <const int64_t *>cnp.PyArray_DATA(places)
    h_n, c_n, _states = set_states(&call, number, h_0, c_0)
    cdef int count = thread_count() if threads is None else threads
    cdef bint padded = not pack and total < product_of(steps, sequences)
    cdef bint zero = padded and (
        count == 1 or int(steps) * sequences * out_row * direction.number_bytes >= limits_in_force().mapped_bytes)
    if pack:
        output = empty((total, out_row), number)
    else:
        output = empty((sequences, steps, out_row) if batch_first else (steps, sequences, out_row), number, zero)
    call.padded_steps = steps if padded and not zero else 0
    call.padded_batch_first = batch_first
    call.y = <char *>cnp.PyArray_DATA(output)
    if sequences == 0:
        return output, h_n, c_n
    offsets = set_offsets(&call)
    try:
        total = 0
        for t in range(call.steps):
            row = t if batch_first else t * sequences
            offsets.x_time[t] = (total if packed else row) * in_row
            offsets.y_time[t] = (total if pack else row) * out_row
            total += call.batch_sizes[t]
        for r in range(sequences):
            call.ranks[r] = -1
        for r in range(sequences):
            place = r if call.places == NULL else call.places[r]
            if place < 0 or place >= sequences:
                raise ValueError(f"order[{r}] is {place}, the batch has {sequences} sequences")
            if call.ranks[place] != -1:
                raise ValueError(f"order is no permutation: it has {place} twice")
            call.ranks[place] = r
            if batch_first:
                place *= steps
            offsets.x_rows[r] = (r if packed else place) * in_row
            offsets.y_rows[r] = (r if pack else place) * out_row
        execute(&call, count)
    finally:
        PyMem_Free(offsets.x_time)
    return output, h_n, c_n


include "lists.pxi"
include "rehearsals.pxi"
