"""Runs one attack in a process of its own, and tells its peak of memory and its processor time.

``python -m tests.attacks.measured`` prints the table for all of them. A parent that has imported
everything forks a child for each, so that a measurement is of the attack alone.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

SECONDS = 60  # of processor time, after which a child is ended
ADDRESSES = 6 << 30


class Attack(NamedTuple):
    """``build`` writes the file, ``door`` opens it, and this is how that must end.

    ``ends`` is "loads", or a word of the message of a FormatError (a LimitError is one).
    """

    build: Callable[[Path], None]
    door: Callable[[Path], Any]
    ends: str


class Cost(NamedTuple):
    """What came of it; bytes of the file with all beside it, and of memory beyond the parent's."""

    outcome: str  #: "loads", or the name of the exception
    message: str
    length: int  #: of the whole message
    size: int
    peak: int
    seconds: float


class Parent:
    """The process that forks; attacks are named by module and name."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.attacks.measured", "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def cost(self, module: str, name: str) -> Cost:
        """Build the attack's file, open it, and measure that."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([module, name]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the measuring process has ended"
        return Cost(*json.loads(line))

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def _in_child(work: Callable[[], Any]) -> Any:
    """What ``work`` returns in a forked process, which may not run away."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            text = pipe.read()
        _, status = os.waitpid(child, 0)
        return json.loads(text) if text else ["ended", f"by signal or status {status}", 0, 0, 0.0]
    try:
        os.close(reading)
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
        with os.fdopen(writing, "w") as pipe:
            json.dump(work(), pipe)
    except BaseException:
        traceback.print_exc()
    os._exit(0)


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) << 10
    raise LookupError(field)


def _opened(attack: Attack, path: Path) -> list[Any]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before, begun = _status("VmRSS"), time.process_time()
    try:
        attack.door(path)
        outcome, message = "loads", ""
    except Exception as error:
        outcome, message = type(error).__name__, str(error)
    seconds = time.process_time() - begun
    peak = _status("VmHWM") - before
    return [outcome, message[:600], len(message), peak, seconds]


def _measured(module: str, name: str) -> Cost:
    attack: Attack = __import__(f"tests.attacks.{module}", fromlist=["x"]).ATTACKS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        _in_child(lambda: attack.build(path))
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        outcome, message, length, peak, seconds = _in_child(lambda: _opened(attack, path))
        return Cost(outcome, message, length, size, peak, seconds)


def _serve() -> None:
    from tests.attacks import models, weights  # noqa: F401
    from vledge.graph.registry import known_operators

    known_operators()
    for line in sys.stdin:
        print(json.dumps(_measured(*json.loads(line))), flush=True)


def _table() -> None:
    from tests.attacks import models, weights

    parent = Parent()
    print("| attack | file | ends | memory | processor |\n|---|---|---|---|---|")
    for module in (weights, models):
        for name in module.ATTACKS:
            cost = parent.cost(module.__name__.rpartition(".")[2], name)
            print(
                f"| {name} | {cost.size / 1e6:,.3f} MB | {cost.outcome} | "
                f"{cost.peak / 1e6:+,.0f} MB | {cost.seconds:.2f} s |",
                flush=True,
            )
    parent.close()


if __name__ == "__main__":
    if "--serve" in sys.argv:
        _serve()
    else:
        _table()
