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
    small={
        "int8": Small(0.45, 0.75),
        "int8-fast": Small(0.35, 0.6),
        "int16": Small(0.6, 0.75),
    },
    thread=0.984,
    shared=0.438,
    memory=9.94e-11,
    overheads={
        f"{form}.{strategy.name}": strategy.overheads[form]
        for form in FORMS
        for strategy in STRATEGIES.values()
        if form in strategy.forms
    },
)
