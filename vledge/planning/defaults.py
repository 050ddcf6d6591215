"""The built-in constants, for machines on which `vledge calibrate` has not run."""

from typing import Final

from vledge.planning.costs import Conversion, Costs, Kernel

__all__ = ["DEFAULT"]

#: Measured by `vledge calibrate` on an EPYC with AVX-512. On another CPU all are off by
#: much the same factor, which leaves the ranking as it is.
DEFAULT: Final = Costs(
    source="built in; `vledge calibrate` measures this machine",
    kernels={
        "lstm": (
            Kernel(16, 4.32e-08, 6.09e-08),
            Kernel(32, 3.57e-08, 1.65e-07),
            Kernel(64, 2.61e-07, 4.81e-07),
            Kernel(128, 4.44e-07, 1.75e-06),
            Kernel(256, 2.3e-06, 6.58e-06),
            Kernel(512, 6.28e-08, 5.34e-05),
        ),
        "gru": (
            Kernel(16, 4.3e-08, 4.7e-08),
            Kernel(32, 3.47e-08, 1.26e-07),
            Kernel(64, 1.7e-07, 3.47e-07),
            Kernel(128, 7.58e-07, 1.11e-06),
            Kernel(256, 1.96e-06, 4.76e-06),
            Kernel(512, 1.92e-06, 2.36e-05),
        ),
        "rnn": (
            Kernel(16, 5.26e-08, 1.59e-08),
            Kernel(32, 5e-08, 4.28e-08),
            Kernel(64, 5.53e-08, 1.22e-07),
            Kernel(128, 2.83e-07, 3.79e-07),
            Kernel(256, 9.04e-07, 1.35e-06),
            Kernel(512, 2.84e-06, 6.04e-06),
        ),
        "indrnn": (
            Kernel(16, 2.92e-08, 6.11e-09),
            Kernel(32, 2.94e-08, 1.14e-08),
            Kernel(64, 3.03e-08, 2.51e-08),
            Kernel(128, 3.1e-08, 5.06e-08),
            Kernel(256, 1.18e-10, 1.22e-07),
            Kernel(512, 2.84e-10, 2.54e-07),
        ),
    },
    multiply_add=1.91e-11,
    double=2.1,
    thread=0.8,
    conversions={
        "list.packed": Conversion(2.16e-05, 1.75e-06, 0.0, 8.67e-11),
        "list.from_packed": Conversion(1.24e-05, 1.34e-06, 0.0, 4.74e-11),
        "list.padded": Conversion(3.67e-06, 1.54e-06, 0.0, 5.04e-11),
        "list.from_padded": Conversion(1.07e-05, 6.51e-07, 0.0, 4.22e-11),
        "padded.packed": Conversion(2.57e-05, 3.59e-08, 0.0, 3.23e-11),
        "padded.from_packed": Conversion(2.1e-05, 1.16e-08, 0.0, 3.17e-11),
        "padded.sequences": Conversion(2.19e-06, 1.77e-07, 0.0, 0.0),
        "padded.from_sequences": Conversion(1.94e-06, 3.84e-07, 1.72e-09, 2.7e-11),
        "masked.packed": Conversion(9.5e-06, 8.64e-08, 7.89e-09, 3.99e-11),
        "masked.from_packed": Conversion(2.28e-06, 9.65e-09, 6.68e-09, 2.51e-11),
        "masked.padded": Conversion(6e-06, 3.58e-06, 3.21e-09, 5.79e-11),
        "masked.from_padded": Conversion(5e-06, 1.51e-07, 2.44e-08, 1.24e-10),
        "masked.sequences": Conversion(2.74e-06, 1.71e-06, 7.21e-09, 2.42e-11),
        "masked.from_sequences": Conversion(2.88e-06, 1.84e-07, 8.81e-09, 4.23e-11),
        "packed.padded": Conversion(1.92e-05, 3.91e-08, 0.0, 2.8e-11),
        "packed.from_padded": Conversion(1.98e-05, 1.33e-07, 1.92e-09, 1.54e-10),
        "packed.sequences": Conversion(1.12e-05, 1.81e-06, 0.0, 1.81e-11),
        "packed.from_sequences": Conversion(1.53e-05, 2.83e-06, 0.0, 1.66e-11),
        "clear": Conversion(5.5e-07, 2.67e-08, 0.0, 1.69e-11),
        "lanes": Conversion(2.61e-05, 6.9e-06, 0.0, 4.94e-11),
        "window": Conversion(6.06e-07, 7.74e-10, 0.0, 2.06e-11),
        "run": Conversion(5.94e-06, 2.89e-08, 1.91e-08, 6.43e-11),
    },
)
