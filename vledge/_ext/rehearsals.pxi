# What benchmarks and calibration ask of the threads; a part of recurrent.pyx.

cdef struct Meetings:
    vl_line lines[VL_MOST_THREADS]
    int count


cdef void meet_often(void *context, int member, int members) noexcept nogil:
    cdef Meetings *meetings = <Meetings *>context
    cdef vl_team team
    cdef int _
    team.lines, team.member, team.members = meetings.lines, member, members
    for _ in range(meetings.count):
        meet(&team)


def seconds_of_meetings(int members, int count) -> float:
    """What calling so many threads takes in all, who meet so often and do nothing else."""
    cdef Meetings meetings
    cdef int64_t start
    if not (1 <= members <= VL_MOST_THREADS and 0 <= count <= 1000000):
        raise ValueError(f"{members} threads, {count} meetings; expected 1 to {VL_MOST_THREADS}, 1,000,000 at most")
    memset(&meetings, 0, sizeof(meetings))
    meetings.count = count
    with nogil:
        start = vl_nanoseconds()
        parallel(members, meet_often, &meetings, NULL)
        start = vl_nanoseconds() - start
    return start * 1e-9


def tasks_of_threads() -> list:
    """How many slices each thread has taken in the last call whose threads took slices, the caller first."""
    return tasks_done()


def rehearsal(list directions not None, data, batch_sizes, int threads) -> dict:
    """How so many threads would share a run, as the engine chooses it, and how long each member of a team takes for
    each of its tasks, one after the other on this thread with nobody to wait for.

    Returns ``members`` in all, those of a ``team``, the ``slices``, the ``predicted`` seconds, and ``seconds``, a list
    [task][member of its team]; tasks are in the order in which teams take them.
    """
    cdef LayerRun call
    set_directions(&call, directions)
    cdef const vl_direction *direction = call.directions[0]
    cdef int number = typenum(directions[0]), task, tasks
    cdef ptrdiff_t t, r, total, out_row = call.direction_count * direction.width
    cdef Offsets offsets
    cdef int64_t nanoseconds[2 * VL_MOST_THREADS * VL_MOST_THREADS]
    cdef cnp.ndarray _sizes = set_lengths(&call, batch_sizes, 0, &total)
    cdef cnp.ndarray rows = shaped(data, "data", number, (total, direction.input_size))
    cdef bint done
    if call.sequences == 0:
        raise ValueError("there are no sequences to be shared")
    call.x, call.heed = <const char *>cnp.PyArray_DATA(rows), NULL
    _states = set_states(&call, number, None, None)
    output = empty((total, out_row), number)
    call.y = <char *>cnp.PyArray_DATA(output)
    offsets = set_offsets(&call)
    try:
        total = 0
        for t in range(call.steps):
            offsets.x_time[t] = total * direction.input_size
            offsets.y_time[t] = total * out_row
            total += call.batch_sizes[t]
        for r in range(call.sequences):
            offsets.x_rows[r] = r * direction.input_size
            offsets.y_rows[r] = r * out_row
        with nogil:
            done = rehearse(&call, threads, nanoseconds, 2 * VL_MOST_THREADS * VL_MOST_THREADS)
        if not done:
            raise MemoryError("no memory for the working buffers of a recurrent layer")
    finally:
        PyMem_Free(offsets.x_time)
    tasks, team = call.sharing.slices * call.direction_count, call.sharing.team
    return {
        "members": call.sharing.members,
        "team": team,
        "slices": call.sharing.slices,
        "predicted": call.sharing.nanoseconds * 1e-9,
        "seconds": [[nanoseconds[task * team + m] * 1e-9 for m in range(team)] for task in range(tasks)],
    }
