from vledge._ext.isa cimport vl_independent, vl_product, vl_step
from vledge._ext.weights cimport Weights

cdef extern from "threads.h" nogil:
    ctypedef struct vl_barrier:
        pass

# The pool of threads lives with the time loops; other kernels run on the same one.
ctypedef void (*task)(void *context, int member, int members) noexcept nogil

cdef void parallel(int threads, task work, void *context) noexcept nogil

# One time step of a layer from its input; with one member nobody waits at the barrier.
cdef void step_from_input(const Weights *w, vl_product *p, vl_step *k, vl_barrier *barrier,
                          int members) noexcept nogil

# The steps of a layer of independent units, with the state in place.
cdef void run_independent(const Weights *w, const vl_independent *n) noexcept nogil
