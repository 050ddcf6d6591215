cimport numpy as cnp

from vledge._ext.isa cimport number_of
from vledge._ext.weights cimport Direction


cdef inline int typenum(Direction direction):
    """NumPy's number of what a direction computes in."""
    return number_of(direction.c.kernels.arithmetic)


cdef inline char *data_of(cnp.ndarray array):
    return NULL if array is None else <char *>cnp.PyArray_DATA(array)


# Whether the directions are one layer's: a ValueError says where they are not.
cdef int check_layer(list directions) except -1
