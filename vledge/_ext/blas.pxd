# sgemm's or dgemm's Fortran interface where BLAS is to compute the input projection, else NULL
cdef void *gemm_for_projection(bint f64) except? NULL
