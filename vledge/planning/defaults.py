"""The built-in constants, for machines on which `vledge calibrate` has not run."""

from typing import Final

from vledge.planning.costs import Costs, Kernel, Overhead

__all__ = ["DEFAULT"]

#: Measured by `vledge calibrate` on an EPYC with AVX-512, but for what threads gain, which is an
#: estimate. On another CPU all are assumed to be off by much the same factor, which leaves the
#: ranking as it is.
DEFAULT: Final = Costs(
    source="built in; `vledge calibrate` measures this machine",
    kernels={
        "lstm": (
            Kernel(16, 5.69e-08, 6.1e-08),
            Kernel(32, 6.39e-08, 1.61e-07),
            Kernel(64, 3.2e-07, 4.44e-07),
            Kernel(128, 9.81e-07, 1.41e-06),
            Kernel(256, 4.82e-06, 5.11e-06),
            Kernel(512, 1.91e-05, 1.91e-05),
        ),
        "gru": (
            Kernel(16, 6.18e-08, 4.59e-08),
            Kernel(32, 5.6e-08, 1.25e-07),
            Kernel(64, 1.83e-07, 3.45e-07),
            Kernel(128, 7.3e-07, 1.09e-06),
            Kernel(256, 3.11e-06, 4.01e-06),
            Kernel(512, 1.64e-05, 1.43e-05),
        ),
        "rnn": (
            Kernel(16, 7.42e-08, 1.33e-08),
            Kernel(32, 6.48e-08, 4.4e-08),
            Kernel(64, 7.57e-08, 1.17e-07),
            Kernel(128, 3.17e-07, 3.65e-07),
            Kernel(256, 1.04e-06, 1.27e-06),
            Kernel(512, 5.09e-06, 4.74e-06),
        ),
        "indrnn": (
            Kernel(16, 4.6e-08, 5.76e-09),
            Kernel(32, 4.68e-08, 1.08e-08),
            Kernel(64, 5.23e-08, 1.87e-08),
            Kernel(128, 4.29e-08, 4.82e-08),
            Kernel(256, 1.82e-08, 9.79e-08),
            Kernel(512, 2.91e-08, 2.05e-07),
        ),
    },
    multiply_add=1.98e-11,
    double=2.1,
    thread=0.8,
    overheads={
        "list.padded": Overhead(4.15e-05, 2.55e-06, 0.0, 7.5e-11, 3.09e-11),
        "list.packed": Overhead(5.66e-05, 3.45e-06, 0.0, 7.89e-11, 0.0),
        "list.bucketed": Overhead(6.26e-05, 3.62e-06, 0.0, 4.79e-11, 0.0),
        "list.lanes": Overhead(5.65e-05, 6e-06, 0.0, 3.91e-11, 0.0),
        "list.streaming": Overhead(5.98e-05, 2.85e-06, 0.0, 9.25e-11, 3.97e-11),
        "padded.padded": Overhead(2.07e-05, 1.43e-07, 1.69e-09, 4.25e-12, 8.89e-12),
        "padded.packed": Overhead(7.66e-05, 1.58e-07, 2.17e-09, 4.09e-11, 1.16e-11),
        "padded.masked": Overhead(5.98e-05, 1.43e-07, 3.39e-08, 3.42e-11, 1.23e-11),
        "padded.bucketed": Overhead(7.5e-05, 4.41e-06, 0.0, 1.6e-10, 0.0),
        "padded.lanes": Overhead(6.83e-05, 6.34e-06, 0.0, 1.51e-10, 0.0),
        "padded.streaming": Overhead(4.03e-05, 3.05e-07, 4.12e-09, 4.78e-12, 2.45e-11),
        "packed.padded": Overhead(7.49e-05, 3.11e-07, 1.4e-08, 4.32e-11, 4.58e-11),
        "packed.packed": Overhead(1.34e-05, 4.64e-08, 0.0, 0.0, 0.0),
        "packed.bucketed": Overhead(9.06e-05, 6.26e-06, 0.0, 1.77e-10, 0.0),
        "packed.lanes": Overhead(9.1e-05, 7.86e-06, 0.0, 1.69e-10, 0.0),
        "packed.streaming": Overhead(9.54e-05, 5.11e-07, 1.38e-08, 5.2e-11, 5.78e-11),
        "masked.padded": Overhead(6e-05, 4.2e-06, 3.48e-08, 1.36e-10, 1.03e-10),
        "masked.packed": Overhead(6.33e-05, 6.18e-07, 5.52e-08, 2.47e-11, 7.4e-11),
        "masked.masked": Overhead(5.8e-05, 4.38e-07, 6.21e-08, 0.0, 7.59e-11),
        "masked.bucketed": Overhead(9.5e-05, 5.52e-06, 2.37e-08, 2.36e-10, 5.76e-11),
        "masked.lanes": Overhead(8.57e-05, 7.74e-06, 4.77e-09, 2.75e-10, 4.08e-11),
        "masked.streaming": Overhead(7.83e-05, 4.26e-06, 4.01e-08, 1.62e-10, 1.1e-10),
    },
)
