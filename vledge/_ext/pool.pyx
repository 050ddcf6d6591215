"""The pool of threads, and what C there is beneath the time loops: scratch memory, one step, thresholds.

The C is in ``ext/recurrent/``: ``pool.c`` has the threads, ``barrier.c`` where they
meet, ``sharing.c`` what each is to do, ``scratch.c`` the memory that a walk works in, ``step.c``
one time step, ``limits.c`` the thresholds of ``ext/limit_list.h``; their headers say what each function does. It is
linked here, once, and other modules reach it by cimport. Beside it stands what every compiled call asks for: how many
threads it may use, and whether Ctrl-C was pressed.
"""

from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint64_t

from vledge.machine import threads as thread_settings

cdef extern from "Python.h":
    int PyContextVar_Get(PyObject *var, PyObject *default, PyObject **value)

cdef extern from "simd/cpu_mode.h" nogil:
    uint64_t vl_keep_subnormals()
    void vl_restore_mode(uint64_t mode)

cdef extern from "heed.h" nogil:
    void vl_heed_begin(vl_heed *h, int (*look)(vl_heed *) noexcept nogil)

cdef extern from "recurrent/limits_in_force.h" nogil:
    const vl_named_limit vl_named_limits[]
    vl_limits vl_limit

cdef extern from "recurrent/pool.h" nogil:
    void vl_parallel(int threads, task work, void *context, vl_heed *heed)
    int vl_take(int *counter)

cdef extern from "recurrent/barrier.h" nogil:
    int64_t vl_meet(const vl_team *team)

cdef extern from "recurrent/sharing.h" nogil:
    void vl_choose_sharing(const vl_direction *const *directions, int direction_count, vl_rows rows, int threads,
                           int slices, vl_sharing *sharing)

cdef extern from "recurrent/scratch.h" nogil:
    void *vl_scratch_memory(size_t bytes)
    void vl_scratch_trim(size_t keep)
    ptrdiff_t vl_chunk_rows(const vl_direction *d, ptrdiff_t rows, ptrdiff_t total)
    uint64_t vl_lay_out(const vl_direction *d, ptrdiff_t rows, ptrdiff_t chunk_rows, int members, char *memory,
                        vl_scratch *s)

cdef extern from "recurrent/step.h" nogil:
    void vl_run_step(const vl_direction *d, const vl_step *step, const vl_team *team)
    void vl_run_step_from_input(const vl_direction *d, vl_product *projection, vl_step *step, const vl_team *team)
    void vl_set_state_projection(const vl_direction *d, const void *gated, const ptrdiff_t *gated_rows, char *room,
                                 vl_product *p)
    void vl_project_state(const vl_direction *d, vl_product *p, ptrdiff_t rows, bint turned, void *h_next, char *out,
                          const ptrdiff_t *out_rows)

cdef object threads_of_call = thread_settings._of_call


# ---- the C, for other modules ------------------------------------------------------------------

cdef void parallel(int threads, task work, void *context, vl_heed *heed) noexcept nogil:
    vl_parallel(threads, work, context, heed)


cdef int take(int *counter) noexcept nogil:
    return vl_take(counter)


cdef int64_t meet(const vl_team *team) noexcept nogil:
    return vl_meet(team)


cdef void choose_sharing(const vl_direction *const *directions, int direction_count, vl_rows rows, int threads,
                         int slices, vl_sharing *sharing) noexcept nogil:
    vl_choose_sharing(directions, direction_count, rows, threads, slices, sharing)


cdef void *scratch_memory(size_t bytes) noexcept nogil:
    return vl_scratch_memory(bytes)


cdef void scratch_trim(size_t keep) noexcept nogil:
    vl_scratch_trim(keep)


cdef ptrdiff_t chunk_rows(const vl_direction *d, ptrdiff_t rows, ptrdiff_t total) noexcept nogil:
    return vl_chunk_rows(d, rows, total)


cdef uint64_t lay_out(const vl_direction *d, ptrdiff_t rows, ptrdiff_t chunk_rows, int members, char *memory,
                      vl_scratch *s) noexcept nogil:
    return vl_lay_out(d, rows, chunk_rows, members, memory, s)


cdef void run_step(const vl_direction *d, const vl_step *step, const vl_team *team) noexcept nogil:
    vl_run_step(d, step, team)


cdef void step_from_input(const vl_direction *d, vl_product *projection, vl_step *step,
                          const vl_team *team) noexcept nogil:
    vl_run_step_from_input(d, projection, step, team)


cdef void set_state_projection(const vl_direction *d, const void *gated, const ptrdiff_t *gated_rows, char *room,
                               vl_product *p) noexcept nogil:
    vl_set_state_projection(d, gated, gated_rows, room, p)


cdef void project_state(const vl_direction *d, vl_product *p, ptrdiff_t rows, bint turned, void *h_next, char *out,
                        const ptrdiff_t *out_rows) noexcept nogil:
    vl_project_state(d, p, rows, turned, h_next, out, out_rows)


cdef const vl_limits *limits_in_force() noexcept nogil:
    return &vl_limit


cdef const vl_named_limit *named_limits() noexcept nogil:
    return vl_named_limits


# ---- of every call -----------------------------------------------------------------------------

cdef int take_measured(dict limits) except -1:
    """In the place of the built-in ones."""
    cdef int i = 0
    while vl_named_limits[i].name != NULL:
        value = limits.get(vl_named_limits[i].name.decode())
        if value is not None:
            vl_named_limits[i].value[0] = value
        i += 1
    return 0


cdef int usable = 0     # cores, once somebody has asked for more than one


cdef int thread_count() except -1:
    global usable
    cdef PyObject *of_call = NULL
    if PyContextVar_Get(<PyObject *>threads_of_call, NULL, &of_call) < 0:
        raise RuntimeError("no context")
    given = <object>of_call
    Py_DECREF(given)        # the context has one
    if given is None:
        given = thread_settings._num_threads
    cdef int asked = thread_settings.get_num_threads() if given is None else given
    if usable == 0 and asked > 1:
        usable = thread_settings.usable_cores()
        take_measured(thread_settings.measured_limits())
    return min(asked, <int>vl_limit.cores if vl_limit.cores > 0 else usable) if asked > 1 else asked


cdef int look_at_signals(vl_heed *h) noexcept with gil:
    """Lets Python run its signal handlers, one of which may raise KeyboardInterrupt."""
    cdef uint64_t mode = vl_keep_subnormals()
    try:
        PyErr_CheckSignals()
    except BaseException as error:
        Py_INCREF(error)
        h.error = <void *>error
        return 1
    finally:
        vl_restore_mode(mode)
    return 0


cdef void heed(vl_heed *h) noexcept nogil:
    vl_heed_begin(h, look_at_signals)


cdef int check_ended(vl_heed *h) except -1:
    if h.error == NULL:
        return 0
    error = <object>h.error
    h.error = NULL
    Py_DECREF(error)
    raise error
