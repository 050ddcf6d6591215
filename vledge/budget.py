"""What one file may cost: a budget of bytes and steps, charged wherever a file is made larger.

Whoever expands, inlines, inflates, copies or walks what a stranger's file says charges the file's
budget before it does so. Bytes are estimates of what memory holds, never given back; a step is what
takes about a microsecond of one core. What grows with the file's own size alone (a checksum, a view
of mapped memory) is not charged.
"""

from __future__ import annotations

import os
import re
from typing import Final, NamedTuple

from vledge.errors import LimitError, VledgeError

__all__ = ["ENVIRONMENT", "Budget", "Limits", "RunLimits"]

ENVIRONMENT: Final = "VLEDGE_LIMITS"

#: What any file may take, and how many times its own size it may take beyond that.
FREE_BYTES: Final = 64 << 20
TIMES_ITS_SIZE: Final = 10
#: Below five seconds of one core of a small computer, with what is not charged.
STEPS: Final = 3_000_000
#: The values of one run are larger than the file and the inputs that ask for them: 16 times the
#: file of a model of texts, 230 times the letters that it is given. So they may take as many times
#: both, but not more than this beyond ten times.
RUN_TIMES_FILE: Final = 64
RUN_TIMES_INPUTS: Final = 256
RUN_BYTES: Final = 1 << 30
LEAST_FREE_RUN_BYTES: Final = 16 << 20

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_FIELD = re.compile(
    r"(memory|steps|run_memory)=(\d+(?:\.\d+)?(?:e\d+)?) ?([kmgt]?)b?", re.IGNORECASE
)


# Errors of ours, for a file's door to let through: the file is not at fault.
class _NoLimits(VledgeError, TypeError): ...


class _NoLimitsText(VledgeError, ValueError): ...


class Limits(NamedTuple):
    """What one file may cost, to read, to prepare and to run; None stands for the default.

    Parameters
    ----------
    memory : int, optional
        Bytes beyond those of mapped files. By default 64 MiB and ten times the size of the file
        (of all its files together, where it has several).
    steps : int, optional
        What about a microsecond of work counts as; by default 3,000,000. Loops of a graph may make
        as many trips in a run.
    run_memory : int, optional
        Bytes that the values of one run may take at a time, inputs not counted. By default 64 MiB,
        64 times the size of the file and 256 times that of the inputs; of each of the two at most
        ten times and 1 GiB.

    ``VLEDGE_LIMITS`` sets the same for a process: ``VLEDGE_LIMITS="memory=4GB steps=1e9"``.

    >>> Limits(memory=4_000_000_000)
    Limits(memory=4000000000, steps=None, run_memory=None)
    """

    memory: int | None = None
    steps: int | None = None
    run_memory: int | None = None

    @classmethod
    def from_environment(cls) -> Limits:
        """Those of ``VLEDGE_LIMITS``; ValueError for text that says none."""
        text = os.environ.get(ENVIRONMENT, "")
        try:
            return cls.from_text(text)
        except ValueError as error:
            raise _NoLimitsText(f"{ENVIRONMENT}={error}") from None

    @classmethod
    def from_text(cls, text: str) -> Limits:
        """``"memory=4GB steps=1e9"``; ValueError for text that says none."""
        text = text.strip()
        given: dict[str, int] = {}
        for part in re.split(r"[,;\s]+", text) if text else ():
            field = _FIELD.fullmatch(part)
            if field is None or field[1].lower() in given:
                raise ValueError(f'{text[:80]!r}: expected for example "memory=4GB steps=1e9"')
            given[field[1].lower()] = int(float(field[2]) * _UNITS[field[3].lower()])
        return cls(**given)


class RunLimits(NamedTuple):
    """Of one run: bytes of its values at a time, so many times its inputs' beyond, loops' trips."""

    memory: int
    times_inputs: int
    trips: int

    def bytes_for(self, inputs: int) -> int:
        """What the values of a run may take whose inputs have so many bytes."""
        return self.memory + _grown(inputs, self.times_inputs)

    def too_large(self, nbytes: int) -> LimitError:
        """For a value that there is no room for."""
        shown = "more than an array can have" if nbytes >= 1 << 62 else _bytes(nbytes)
        return LimitError(
            f"a value would take {shown} of memory; all values of a run together may take "
            f"{_bytes(self.memory)}, and {self.times_inputs} times what its inputs do. "
            f"{_how('run_memory', 2 * (min(nbytes, 1 << 62) + self.memory))}"
        )

    def too_long(self) -> LimitError:
        """For loops that have made all the trips that they may."""
        return LimitError(
            f"loops would make more than {_count(self.trips)} trips in a run. "
            f"{_how('steps', 2 * self.trips)}"
        )


class Budget:
    """What a file of ``size`` bytes has left; LimitError by whoever asks for more.

    ``limits`` go before those of the environment, and these before the defaults.
    """

    __slots__ = ("_bytes", "_limits", "_memory", "_size", "_steps", "_work")

    def __init__(self, size: int, limits: Limits | None = None) -> None:
        if limits is not None and not isinstance(limits, Limits):
            raise _NoLimits(
                f"limits is a value of the type {type(limits).__name__}, expected vledge.Limits"
            )
        own, around = limits or Limits(), Limits.from_environment()
        self._limits = Limits(
            around.memory if own.memory is None else own.memory,
            around.steps if own.steps is None else own.steps,
            around.run_memory if own.run_memory is None else own.run_memory,
        )
        self._size = size
        self._bytes = self._steps = 0
        self._memory = self._limits.memory or 0
        self._work = STEPS if self._limits.steps is None else self._limits.steps
        self.add_file(0)

    def add_file(self, size: int) -> None:
        """Another file that belongs to this one: as many bytes more to be ten times as large as."""
        self._size += size
        if self._limits.memory is None:
            self._memory = FREE_BYTES + TIMES_ITS_SIZE * self._size

    def copy(self, limits: Limits | None = None) -> Budget:
        """One that has used as much, for who goes on from here more than once, or otherwise."""
        other = Budget(self._size, self._limits if limits is None else limits)
        other._bytes, other._steps = self._bytes, self._steps
        return other

    @property
    def size(self) -> int:
        """Bytes of the file, and of those that belong to it."""
        return self._size

    @property
    def bytes_left(self) -> int:
        """How many bytes can still be charged."""
        return self._memory - self._bytes

    @property
    def run_limits(self) -> RunLimits:
        """What one run of the file's graph may take."""
        own = self._limits.run_memory
        if own is not None:
            return RunLimits(own, 0, self._work)
        free = max(FREE_BYTES - self._bytes, LEAST_FREE_RUN_BYTES)  # what was made at load stays
        return RunLimits(free + _grown(self._size, RUN_TIMES_FILE), RUN_TIMES_INPUTS, self._work)

    def take(self, nbytes: int, what: str) -> None:
        """Charge bytes, of which ``what`` says what for; before they are there."""
        self._bytes += nbytes
        if self._bytes > self._memory:
            raise LimitError(
                f"{what} would take {_bytes(self._bytes)} of memory with what was read before; "
                f"{self._allowed('memory')} {_bytes(self._memory)}. {_how('memory', self._bytes)}"
            )

    def step(self, count: int, what: str) -> None:
        """Charge steps, of which ``what`` says what for; before they are done."""
        self._steps += count
        if self._steps > self._work:
            raise LimitError(
                f"{what} would take {_count(self._steps)} steps of about a microsecond with what "
                f"was done before; {self._allowed('steps')} {_count(self._work)}. "
                f"{_how('steps', self._steps)}"
            )

    def _allowed(self, which: str) -> str:
        if getattr(self._limits, which) is not None:
            return "the limit that was set is"
        return (
            f"a file of {_bytes(self._size)} may take" if which == "memory" else "a file may take"
        )


def _grown(size: int, times: int) -> int:
    """What values may take for so many bytes of a file or of inputs."""
    return min(times * size, TIMES_ITS_SIZE * size + RUN_BYTES)


def _bytes(count: int) -> str:
    return f"{count >> 20:,} MiB" if count >= 10 << 20 else f"{count:,} bytes"


def _count(count: int) -> str:
    return f"{count:,}" if count < 10**15 else "more than 10^15"


def _how(which: str, wanted: int) -> str:
    """How to let a file through that one trusts."""
    enough = 1 << max(wanted, 1).bit_length()
    shown = str(enough) if wanted < 10**15 else "..."
    return (
        f"For a file that you trust: limits=vledge.Limits({which}={shown}), or "
        f"{ENVIRONMENT}={which}={shown}"
    )
