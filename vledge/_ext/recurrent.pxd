# The pool of threads lives with the time loops; other kernels run on the same one.
ctypedef void (*task)(void *context, int member, int members) noexcept nogil

cdef void parallel(int threads, task work, void *context) noexcept nogil
