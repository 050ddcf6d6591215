"""How long a call hears nothing of Ctrl-C, at worst.

A timer's signal comes every few milliseconds while the call runs; Python runs its handler when the
call looks for signals. The longest time between two handlers, by the clock of the thread's own
processor time, is how late Ctrl-C can be heard, wherever in the call it comes, and whatever else
the machine does. A call that lasts is ended as by Ctrl-C; what it takes to leave it counts too.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

PROMISED: Final = 0.1
TICK: Final = 0.004  # seconds
LONG_ENOUGH: Final = 1.0  # seconds, after which a call is ended
MOST_SECONDS: Final = 200  # after which one that hears nothing is killed
TRIES: Final = 3
HEARD_NOTHING: Final = "heard nothing"


class Heard(NamedTuple):
    seconds: float
    deaf: float
    where: str  # the line of vledge that had been entered when the signal was heard at last

    def __str__(self) -> str:
        return f"{self.seconds:.2f} s, deaf {self.deaf * 1e3:.0f} ms, until {self.where}"


def listen(call: Callable[[], object], long_enough: float = LONG_ENOUGH) -> Heard:
    """What the call took, and the longest time in which it heard no signal."""
    last = begin = time.thread_time()
    longest, where = 0.0, ""
    leaving = False

    def hear(_: int, frame: FrameType | None) -> None:
        nonlocal last, longest, where, leaving
        now = time.thread_time()
        if now - last > longest:
            longest, where = now - last, _place(frame)
        last = now
        if now - begin > long_enough:
            signal.setitimer(signal.ITIMER_REAL, 0)
            leaving = True
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, hear)
    signal.setitimer(signal.ITIMER_REAL, TICK, TICK)
    with suppress(KeyboardInterrupt):
        call()
    end = time.thread_time()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    if end - last > longest:
        longest, where = end - last, "leaving it" if leaving else "its end"
    return Heard(end - begin, longest, where)


def _place(frame: FrameType | None) -> str:
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if "vledge" in path.parts[:-1] and "benchmarks" not in path.parts:
            return f"{path.name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class Answer(NamedTuple):
    heard: Heard
    error: str = ""


_FORK: Final = multiprocessing.get_context("fork")


def apart(call: Callable[..., Heard], *arguments: Any) -> Answer:
    """The call's answer from a process of its own, or what it raised or died of.

    Where others take the memory's bandwidth and the caches, a thread's own time grows, too: what
    seems late is tried again, and the best counts.
    """
    answers = [_once(call, *arguments)]
    while len(answers) < TRIES and answers[-1].heard.deaf > PROMISED and not answers[-1].error:
        answers.append(_once(call, *arguments))
    return min(answers, key=lambda answer: answer.heard.deaf)


def _once(call: Callable[..., Heard], *arguments: Any) -> Answer:
    ours, theirs = _FORK.Pipe(duplex=False)
    child = _FORK.Process(target=_tell, args=(theirs, call, arguments))
    child.start()
    theirs.close()
    nothing = Heard(0, 0, "")
    try:
        if not ours.poll(MOST_SECONDS):
            child.kill()
            return Answer(Heard(MOST_SECONDS, MOST_SECONDS, ""), HEARD_NOTHING)
        told = ours.recv()
    except EOFError:
        return Answer(nothing, "the process died")
    finally:
        child.join()
    return Answer(nothing, told) if isinstance(told, str) else Answer(told)


def _tell(where: Any, call: Callable[..., Heard], arguments: tuple[Any, ...]) -> None:
    try:
        where.send(call(*arguments))
    except Exception as error:
        where.send(f"{type(error).__name__}: {error}"[:200])
