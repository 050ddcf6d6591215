"""Where a session's time goes: each instruction of the native program, and a run as a Chrome trace.

The program is run several times with a clock around each instruction, and once more with somebody
who looks on and notes what each instruction read and wrote.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from vledge.errors import UnsupportedError
from vledge.graph.native.emit import Emitted
from vledge.graph.native.work import operations
from vledge.graph.plan import Plan
from vledge.graph.values import Value
from vledge.model.definition import Node
from vledge.shown import html_table, listed

if TYPE_CHECKING:
    from vledge._ext.program import Event, Seen

__all__ = ["Profile", "Row", "profile"]

# Their results are, where nothing has to be moved, their inputs' memory in another shape.
_VIEWS: Final = frozenset(
    """
    Expand Flatten Identity Reshape Slice Split Squeeze Transpose Unsqueeze
    """.split()  # noqa: SIM905
)
# They read no element, or it is their bodies that do.
_READ_NOTHING: Final = frozenset(["If", "Loop", "Scan", "Shape", "Size"])


@dataclass(frozen=True)
class Row:
    """One instruction in one run of the model.

    ``name`` is its first node's, or of that node's first output. ``handler`` is what runs it, None
    where that is Python from the start. ``why`` says why Python ran, empty where it did not.
    ``seconds`` is the median over the runs; what the instructions of a Loop's, Scan's or If's body
    take stands with them, and not with the Loop. ``operations`` counts multiplications and
    additions of products (`vledge.graph.native.work`), ``bytes`` is what it read and wrote, 0 where
    it gave a view.
    """

    name: str
    operators: tuple[str, ...]
    handler: str | None
    why: str
    calls: int
    python_calls: int
    seconds: float
    operations: int
    bytes: int


@dataclass(frozen=True, repr=False)
class Profile:
    """What `profile` found: ``rows`` in the order of the program, all that ran."""

    rows: list[Row]
    runs: int
    _events: list[Event]
    _labels: list[tuple[str, tuple[str, ...], str]]  # by instruction: name, operators, handler

    def __repr__(self) -> str:
        slow = sorted(self.rows, key=lambda row: -row.seconds)
        python = sum(bool(row.python_calls) for row in self.rows)
        told = (f"{row.name} {row.seconds * 1e6:.1f} us" for row in slow)
        return (
            f"Profile: {self.seconds * 1e6:.1f} us a run, {len(self.rows)} instructions, {python} "
            f"in Python, medians of {self.runs} runs\n  {listed(told)}"
        )

    def _repr_html_(self) -> str:
        """The instructions as a table, slowest first, for notebooks."""
        lines = [
            (
                row.name,
                " + ".join(row.operators),
                "Python" if row.python_calls else row.handler,
                f"{row.seconds * 1e6:.1f}",
                f"{row.seconds / self.seconds:.1%}" if self.seconds else "",
                row.why,
            )
            for row in sorted(self.rows, key=lambda row: -row.seconds)
        ]
        return html_table(("node", "operators", "runs as", "us", "share", "why"), lines)

    @property
    def seconds(self) -> float:
        """Of a run: the sum over its instructions."""
        return sum(row.seconds for row in self.rows)

    def trace(self) -> dict[str, object]:
        """One run as chrome://tracing and Perfetto read it: a JSON object of their events."""
        begin = min((event[1] for event in self._events), default=0)
        events: list[dict[str, object]] = []
        for number, start, end, declined, inputs, outputs, live in self._events:
            name, operators, handler = self._labels[number]
            events.append(
                {
                    "name": name,
                    "cat": "python" if declined else "native",
                    "ph": "X",
                    "ts": (start - begin) / 1e3,
                    "dur": (end - start) / 1e3,
                    "pid": 1,
                    "tid": 1,
                    "args": {
                        "operators": " + ".join(operators),
                        "runs as": "Python" if declined else handler,
                        "inputs": [_shown(value) for value in inputs],
                        "outputs": [_shown(value) for value in outputs],
                    },
                }
            )
            events.append(
                {
                    "name": "bytes in use",
                    "ph": "C",
                    "ts": (end - begin) / 1e3,
                    "pid": 1,
                    "args": {"frame": live},
                }
            )
        return {"traceEvents": events, "displayTimeUnit": "ns"}


def profile(plan: Plan, arrays: Sequence[Value], runs: int) -> Profile:
    """Run a plan so often on the same checked arrays, and say where the time went.

    ``InferenceSession.profile`` is the door to it. Raises what the plan's runs raise, ValueError
    where ``runs`` is less than 1, UnsupportedError where ``VLEDGE_PROGRAM=0`` has switched the
    native program off.
    """
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    native = plan.native
    if native is None:
        raise UnsupportedError(
            "there is no native program to profile: VLEDGE_PROGRAM=0 was set when the session "
            "was made"
        )
    times: list[np.ndarray] = []
    events: list[Event] = []
    plan.run(*arrays)  # which words errors, and warms what is made at a first run
    for _ in range(runs):
        taken = np.zeros(len(native.nodes), np.int64)
        declined = np.zeros(len(native.nodes), np.int32)
        native.program.run(list(arrays), (taken, declined))
        times.append(taken)
    native.program.run(list(arrays), events=events)
    seconds = np.median(times, axis=0) / 1e9
    labels = [
        (_name(nodes), tuple(node.op_type for node in nodes), handler or "Python")
        for nodes, handler in zip(native.nodes, native.handlers, strict=True)
    ]
    return Profile(_rows(native, labels, seconds, events), runs, events, labels)


def _rows(
    native: Emitted,
    labels: Sequence[tuple[str, tuple[str, ...], str]],
    seconds: np.ndarray,
    events: Sequence[Event],
) -> list[Row]:
    own = seconds.copy()
    for number, parent in _parents(events).items():
        own[parent] -= seconds[number]
    calls = Counter(event[0] for event in events)
    python = Counter(event[0] for event in events if event[3])
    work: Counter[int] = Counter()
    moved: Counter[int] = Counter()
    met: dict[int, str] = {}
    for number, _, _, declined, inputs, outputs, _ in events:
        shapes = [[None if v is None else v[1] for v in values] for values in (inputs, outputs)]
        work[number] += operations(native.nodes[number], native.objects[number], *shapes)
        moved[number] += _moved(labels[number][1], inputs, outputs)
        if declined:
            met.setdefault(number, ", ".join(_shown(value) for value in inputs))
    rows = []
    for number in sorted(calls):
        name, operators, _ = labels[number]
        why = native.why_python(number)
        if python[number] and not why:
            often = f" at {python[number]} of {calls[number]} calls" if calls[number] > 1 else ""
            why = f"{native.handlers[number]} declined{often}: {met[number]}"
        rows.append(
            Row(
                name,
                operators,
                native.handlers[number],
                why,
                calls[number],
                python[number],
                max(float(own[number]), 0.0),
                work[number],
                moved[number],
            )
        )
    return rows


def _parents(events: Sequence[Event]) -> dict[int, int]:
    """The instruction whose body each is in: events of a body stand before it, within its time."""
    parents: dict[int, int] = {}
    waiting: list[tuple[int, int]] = []  # number and begin of those that may be in a body
    for number, begin, *_ in events:
        while waiting and waiting[-1][1] >= begin:
            parents[waiting.pop()[0]] = number
        waiting.append((number, begin))
    return parents


def _moved(operators: tuple[str, ...], inputs: Sequence[Seen], outputs: Sequence[Seen]) -> int:
    if operators[0] in _READ_NOTHING:
        return 0
    blocks = {value[2] for value in inputs if value is not None}
    if operators[0] in _VIEWS and all(v is None or v[2] in blocks for v in outputs):
        return 0
    values = (value for value in (*inputs, *outputs) if value is not None)
    return sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape, _ in values)


def _name(nodes: Sequence[Node]) -> str:
    node = nodes[0]
    return node.name or next((name for name in node.outputs if name), node.op_type)


def _shown(value: Seen) -> str:
    if (
        value is None
    ):  # left out, absent, a sequence, of more axes or another type than handlers read
        return "no tensor"
    dtype, shape, _ = value
    return f"{dtype}[{', '.join(map(str, shape))}]"
