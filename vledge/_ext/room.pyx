"""How much room the arrays that Python makes may take: NumPy's allocator, with a limit in front.

Operators are NumPy's and each makes what its inputs ask for: an outer sum, a Tile, a Pad. Rather than
foretell the size of each, a limit is set while an operator runs: arrays are counted until they are
freed, and one beyond the limit is refused by NumPy's own MemoryError before memory is touched. Views
that repeat an element ask by `ask`.
Source: NEP 49.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_New
from libc.stdint cimport INT64_MAX, int64_t, uint8_t
from libc.string cimport strcpy

cimport numpy as cnp

cnp.import_array()

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyDataMemAllocator:
        void *ctx
        void *(*malloc)(void *ctx, size_t size) noexcept nogil
        void *(*calloc)(void *ctx, size_t count, size_t size) noexcept nogil
        void *(*realloc)(void *ctx, void *memory, size_t size) noexcept nogil
        void (*free)(void *ctx, void *memory, size_t size) noexcept nogil
    ctypedef struct PyDataMem_Handler:
        char name[127]
        uint8_t version
        PyDataMemAllocator allocator
    object PyDataMem_SetHandler(object handler)
    object PyDataMem_GetHandler()

cdef extern from *:
    """
    static _Thread_local int64_t room_most = INT64_MAX, room_used = 0, room_refused = 0;
    static _Thread_local int64_t trips_left = INT64_MAX;
    enum { AN_OBJECT = 128 };    /* what an array takes beside its numbers: a million of one number is as large */
    """
    enum: AN_OBJECT    # bytes
    int64_t room_most, room_used, room_refused, trips_left

cdef PyDataMemAllocator usual       # NumPy's own, which keeps small blocks and asks for large pages
cdef PyDataMem_Handler limited
cdef object capsule


cdef bint too_large(size_t count, size_t size) noexcept nogil:
    global room_refused
    if size and count > <size_t>INT64_MAX / size:
        room_refused = INT64_MAX
        return True
    if <int64_t>(count * size) > room_most - room_used - AN_OBJECT:
        room_refused = <int64_t>(count * size)
        return True
    return False


cdef inline void *taken(void *memory, size_t size) noexcept nogil:
    global room_used
    if memory != NULL:
        room_used += <int64_t>size + AN_OBJECT
    return memory


cdef void *room_malloc(void *ctx, size_t size) noexcept nogil:
    return NULL if too_large(1, size) else taken(usual.malloc(usual.ctx, size), size)


cdef void *room_calloc(void *ctx, size_t count, size_t size) noexcept nogil:
    return NULL if too_large(count, size) else taken(usual.calloc(usual.ctx, count, size), count * size)


# NumPy doesn't say how large it was: what an array grows by while it is read from an iterator is not counted.
cdef void *room_realloc(void *ctx, void *memory, size_t size) noexcept nogil:
    return NULL if too_large(1, size) else usual.realloc(usual.ctx, memory, size)


cdef void room_free(void *ctx, void *memory, size_t size) noexcept nogil:
    global room_used
    room_used = max(room_used - <int64_t>size - AN_OBJECT, 0)    # it may be of before, or of another thread
    usual.free(usual.ctx, memory, size)


cdef void begin():
    global capsule, usual
    usual = (<PyDataMem_Handler *>PyCapsule_GetPointer(PyDataMem_GetHandler(), "mem_handler")).allocator
    strcpy(limited.name, "vledge: with a limit")
    limited.version = 1
    limited.allocator.ctx = NULL
    limited.allocator.malloc = room_malloc
    limited.allocator.calloc = room_calloc
    limited.allocator.realloc = room_realloc
    limited.allocator.free = room_free
    capsule = PyCapsule_New(&limited, "mem_handler", NULL)


begin()


cdef class Room:
    """``with Room(nbytes, trips):`` arrays of this thread take no more together, loops make no more trips.

    ``used`` is how much of it arrays take that were made before, then that were made and are still
    there. One inside of another has its own limits. ``refused`` is how large what was refused last
    is, 0 for nothing; ``left`` are the trips that are left.
    """

    cdef int64_t most, trips, begun, before_most, before_used, before_refused, before_trips
    cdef readonly int64_t refused, left, used
    cdef object handler

    def __init__(self, int64_t most, int64_t trips=INT64_MAX, int64_t used=0):
        self.most, self.trips, self.begun = max(most, 0), trips, max(used, 0)
        self.used = self.begun

    def __enter__(self):
        global room_most, room_used, room_refused, trips_left
        self.before_most, self.before_used = room_most, room_used
        self.before_refused, self.before_trips = room_refused, trips_left
        self.handler = PyDataMem_SetHandler(capsule)
        room_most, room_used, room_refused, trips_left = self.most, self.begun, 0, self.trips
        return self

    def __exit__(self, *error):
        global room_most, room_used, room_refused, trips_left
        self.refused, self.left, self.used = room_refused, trips_left, room_used
        room_most, room_used = self.before_most, max(self.before_used + self.used - self.begun, 0)
        room_refused, trips_left = self.before_refused, self.before_trips
        PyDataMem_SetHandler(self.handler)


def ask(nbytes):
    """MemoryError where so many bytes are more than what the room has; for who repeats without memory."""
    global room_refused
    if nbytes > room_most - room_used:
        room_refused = min(nbytes, INT64_MAX)
        raise MemoryError(f"a value of {nbytes:,} bytes is more than there is room for")


def count_trip():
    """One trip of a loop; OverflowError where none is left."""
    global trips_left
    trips_left -= 1
    if trips_left < 0:
        raise OverflowError("a loop makes more trips than a run may")
