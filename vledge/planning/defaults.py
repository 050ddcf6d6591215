"""The built-in constants, for machines on which `vledge calibrate` has not run."""

from typing import Final

from vledge.lengths.strategies import STRATEGIES
from vledge.lengths.strategies.work import FORMS
from vledge.planning.costs import Costs, Kernel, Small

__all__ = ["DEFAULT"]

#: Measured by `vledge calibrate` on an idle EPYC with AVX-512 and two cores. On another CPU all are
#: assumed to be off by much the same factor, which leaves the ranking as it is. What
#: strategies take besides the kernels is in the file of each.
DEFAULT: Final = Costs(
    source="built in; `vledge calibrate` measures this machine",
    kernels={
        "lstm": (
            Kernel(16, 8.94e-08, 3.96e-08),
            Kernel(32, 9.69e-08, 1.14e-07),
            Kernel(64, 2.55e-07, 3.53e-07),
            Kernel(128, 9.39e-07, 1.23e-06),
            Kernel(256, 3.92e-06, 4.61e-06),
            Kernel(512, 1.92e-05, 1.79e-05),
        ),
        "gru": (
            Kernel(16, 9.29e-08, 2.59e-08),
            Kernel(32, 9.43e-08, 8.36e-08),
            Kernel(64, 2.07e-07, 2.65e-07),
            Kernel(128, 7.49e-07, 9.15e-07),
            Kernel(256, 2.51e-06, 3.54e-06),
            Kernel(512, 1.37e-05, 1.36e-05),
        ),
        "rnn": (
            Kernel(16, 7.98e-08, 1.32e-08),
            Kernel(32, 8.17e-08, 3.41e-08),
            Kernel(64, 8.54e-08, 1.01e-07),
            Kernel(128, 2.85e-07, 3.25e-07),
            Kernel(256, 8.99e-07, 1.19e-06),
            Kernel(512, 4.43e-06, 4.53e-06),
        ),
        "indrnn": (
            Kernel(16, 4.6e-08, 3.74e-09),
            Kernel(32, 4.55e-08, 5.76e-09),
            Kernel(64, 4.28e-08, 1.06e-08),
            Kernel(128, 3.73e-08, 2.36e-08),
            Kernel(256, 3.75e-08, 4.31e-08),
            Kernel(512, 2.39e-08, 9.16e-08),
        ),
    },
    multiply_add=1.78e-11,
    double=3.84,
    small={
        "int8": Small(0.45, 0.75),
        "int8-fast": Small(0.35, 0.6),
        "int16": Small(0.6, 0.75),
    },
    thread=0.984,
    shared=0.438,
    memory=1.15e-10,
    overheads={
        f"{form}.{strategy.name}": strategy.overheads[form]
        for form in FORMS
        for strategy in STRATEGIES.values()
        if form in strategy.forms
    },
)
