"""What is particular to the machine: threads, BLAS, mapped files, a test of its kernels."""
