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
            Kernel(16, 4.98e-08, 6.21e-08),
            Kernel(32, 5.26e-08, 1.61e-07),
            Kernel(64, 2.65e-07, 4.41e-07),
            Kernel(128, 1e-06, 1.4e-06),
            Kernel(256, 5.25e-06, 4.87e-06),
            Kernel(512, 1.96e-05, 1.86e-05),
        ),
        "gru": (
            Kernel(16, 5.02e-08, 4.76e-08),
            Kernel(32, 4.55e-08, 1.25e-07),
            Kernel(64, 1.89e-07, 3.42e-07),
            Kernel(128, 7.49e-07, 1.07e-06),
            Kernel(256, 3.42e-06, 3.79e-06),
            Kernel(512, 1.6e-05, 1.42e-05),
        ),
        "rnn": (
            Kernel(16, 5.43e-08, 1.63e-08),
            Kernel(32, 5.43e-08, 4.27e-08),
            Kernel(64, 5.54e-08, 1.23e-07),
            Kernel(128, 2.97e-07, 3.64e-07),
            Kernel(256, 8.31e-07, 1.38e-06),
            Kernel(512, 5.41e-06, 5.21e-06),
        ),
        "indrnn": (
            Kernel(16, 3.91e-08, 5.68e-09),
            Kernel(32, 4.18e-08, 7.24e-09),
            Kernel(64, 2.57e-08, 1.93e-08),
            Kernel(128, 2.28e-08, 3.88e-08),
            Kernel(256, 2.33e-08, 7.52e-08),
            Kernel(512, 4.85e-08, 1.51e-07),
        ),
    },
    multiply_add=1.88e-11,
    double=3.96,
    thread=0.984,
    shared=0.438,
    memory=9.94e-11,
    overheads={
        "list.padded": Overhead(4.21e-05, 1.77e-06, 0.0, 0.0, 0.0),
        "list.packed": Overhead(5.99e-05, 3.44e-06, 0.0, 0.0, 8.78e-12),
        "list.bucketed": Overhead(6.37e-05, 3.35e-06, 0.0, 0.0, 6.14e-12),
        "list.lanes": Overhead(6.8e-05, 3.23e-06, 0.0, 0.0, 4.88e-12),
        "list.streaming": Overhead(5.75e-05, 1.67e-06, 0.0, 0.0, 0.0),
        "padded.padded": Overhead(2.06e-05, 0.0, 2.22e-09, 0.0, 0.0),
        "padded.packed": Overhead(7.52e-05, 0.0, 0.0, 0.0, 0.0),
        "padded.masked": Overhead(6.27e-05, 0.0, 1.56e-08, 0.0, 0.0),
        "padded.bucketed": Overhead(7.86e-05, 3.46e-06, 0.0, 1.09e-10, 0.0),
        "padded.lanes": Overhead(8.24e-05, 3.72e-06, 2.97e-09, 4.5e-11, 0.0),
        "padded.streaming": Overhead(2.64e-05, 0.0, 0.0, 0.0, 0.0),
        "packed.padded": Overhead(6.47e-05, 0.0, 0.0, 0.0, 0.0),
        "packed.packed": Overhead(1.37e-05, 8.76e-09, 0.0, 0.0, 0.0),
        "packed.bucketed": Overhead(9.67e-05, 5.82e-06, 0.0, 8.5e-11, 0.0),
        "packed.lanes": Overhead(0.000113, 5.8e-06, 0.0, 0.0, 7.41e-12),
        "packed.streaming": Overhead(9.15e-05, 0.0, 0.0, 0.0, 0.0),
        "masked.padded": Overhead(6.6e-05, 3.59e-06, 1.91e-08, 7.3e-11, 0.0),
        "masked.packed": Overhead(6.8e-05, 3.52e-07, 3.82e-08, 0.0, 6.07e-11),
        "masked.masked": Overhead(6.26e-05, 3.14e-07, 3.51e-08, 0.0, 5.99e-11),
        "masked.bucketed": Overhead(0.000102, 5.09e-06, 1.64e-08, 1.14e-10, 5.23e-11),
        "masked.lanes": Overhead(0.000103, 4.81e-06, 0.0, 1.46e-10, 4.65e-11),
        "masked.streaming": Overhead(8.33e-05, 3.51e-06, 3.06e-08, 0.0, 0.0),
    },
)
