"""The built-in constants, for machines on which `vledge calibrate` has not run."""

from typing import Final

from vledge.planning.costs import Costs, Kernel, Overhead

__all__ = ["DEFAULT"]

#: Measured by `vledge calibrate` on an idle EPYC with AVX-512 and two cores. On another CPU all are
#: assumed to be off by much the same factor, which leaves the ranking as it is.
DEFAULT: Final = Costs(
    source="built in; `vledge calibrate` measures this machine",
    kernels={
        "lstm": (
            Kernel(16, 4.35e-08, 6.1e-08),
            Kernel(32, 4.74e-08, 1.61e-07),
            Kernel(64, 2.6e-07, 4.42e-07),
            Kernel(128, 9.78e-07, 1.42e-06),
            Kernel(256, 5.98e-06, 5.23e-06),
            Kernel(512, 2.04e-05, 1.86e-05),
        ),
        "gru": (
            Kernel(16, 5.84e-08, 4.73e-08),
            Kernel(32, 4.84e-08, 1.24e-07),
            Kernel(64, 1.92e-07, 3.37e-07),
            Kernel(128, 6.58e-07, 1.12e-06),
            Kernel(256, 3.19e-06, 3.86e-06),
            Kernel(512, 1.56e-05, 1.43e-05),
        ),
        "rnn": (
            Kernel(16, 5.38e-08, 1.61e-08),
            Kernel(32, 5.68e-08, 4.15e-08),
            Kernel(64, 5.77e-08, 1.21e-07),
            Kernel(128, 3.06e-07, 3.64e-07),
            Kernel(256, 1.06e-06, 1.26e-06),
            Kernel(512, 5.35e-06, 4.58e-06),
        ),
        "indrnn": (
            Kernel(16, 2.74e-08, 4.13e-09),
            Kernel(32, 2.78e-08, 7.71e-09),
            Kernel(64, 3.15e-08, 1.75e-08),
            Kernel(128, 3.07e-08, 3.57e-08),
            Kernel(256, 2.69e-08, 7.26e-08),
            Kernel(512, 1.78e-08, 1.48e-07),
        ),
    },
    multiply_add=1.75e-11,
    double=3.64,
    thread=0.95,
    shared=0.404,
    overheads={
        "list.padded": Overhead(3.96e-05, 2.69e-06, 0.0, 9e-11, 2.78e-11),
        "list.packed": Overhead(5.47e-05, 3.75e-06, 0.0, 7.31e-11, 0.0),
        "list.bucketed": Overhead(6.02e-05, 3.87e-06, 0.0, 5.48e-11, 0.0),
        "list.lanes": Overhead(6.49e-05, 3.5e-06, 0.0, 5.97e-11, 0.0),
        "list.streaming": Overhead(5.58e-05, 2.78e-06, 0.0, 1.38e-10, 3.41e-11),
        "padded.padded": Overhead(2.01e-05, 1.65e-07, 1.88e-09, 1.41e-11, 9.62e-12),
        "padded.packed": Overhead(7.23e-05, 1.89e-07, 0.0, 7.39e-11, 8.24e-12),
        "padded.masked": Overhead(5.67e-05, 2.58e-07, 2.74e-08, 7.47e-11, 6.08e-12),
        "padded.bucketed": Overhead(7.11e-05, 4.26e-06, 0.0, 2.05e-10, 0.0),
        "padded.lanes": Overhead(7.58e-05, 4.23e-06, 0.0, 1.68e-10, 0.0),
        "padded.streaming": Overhead(3.9e-05, 2.89e-07, 3.42e-09, 2.3e-11, 2.29e-11),
        "packed.padded": Overhead(6.99e-05, 4.13e-07, 1.6e-09, 1.11e-10, 3.83e-11),
        "packed.packed": Overhead(1.32e-05, 4.83e-08, 0.0, 9.01e-12, 0.0),
        "packed.bucketed": Overhead(8.61e-05, 6.31e-06, 0.0, 2.19e-10, 0.0),
        "packed.lanes": Overhead(0.000103, 6.05e-06, 0.0, 1.59e-10, 0.0),
        "packed.streaming": Overhead(9.16e-05, 5.77e-07, 5.17e-09, 9.55e-11, 5.66e-11),
        "masked.padded": Overhead(5.58e-05, 4.58e-06, 1.12e-08, 2.31e-10, 8.8e-11),
        "masked.packed": Overhead(6.03e-05, 7.78e-07, 5.13e-08, 4.33e-11, 7.3e-11),
        "masked.masked": Overhead(5.49e-05, 7.41e-07, 5.45e-08, 2.31e-11, 7.36e-11),
        "masked.bucketed": Overhead(9.08e-05, 6.5e-06, 0.0, 3.07e-10, 4.07e-11),
        "masked.lanes": Overhead(9.46e-05, 5.68e-06, 0.0, 3.2e-10, 3.36e-11),
        "masked.streaming": Overhead(7.44e-05, 4.66e-06, 1.3e-08, 2.55e-10, 9.67e-11),
    },
)
