"""Anything at all in the place of each argument of the public doors: taken, or refused in words.

What nobody may see is a raw error of the inside: IndexError, KeyError, AttributeError and the like.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vledge
from vledge import nn
from vledge.errors import VledgeError
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.nn.utils import rnn

F = np.float32
RNG = np.random.default_rng(0)
WEIGHTS = {
    "weight_ih_l0": RNG.normal(size=(16, 3)).astype(F),
    "weight_hh_l0": RNG.normal(size=(16, 4)).astype(F),
}
X, LENGTHS = np.ones((5, 2, 3), F), np.array([5, 2])
STATE = (np.zeros((1, 2, 4), F), np.zeros((1, 2, 4), F))
LSTM = nn.LSTM.from_weights(WEIGHTS)


class NoArray:
    def __array__(self, *arguments: Any, **options: Any) -> np.ndarray:
        raise TypeError("no array")


HOSTILE: list[Any] = [
    *(None, True, 0, 1, -1, 2**31, 2**63, -(2**63), 2**70, 1.5, float("nan"), float("inf")),
    *("", "x", "\ud800", b"x", [], [[]], [1, [2]], {}, {"x": 1}, (), object(), range(5), int),
    *(np.zeros(0), np.zeros((0, 3), F), np.zeros((3, 0), F), np.array(5), np.array("a")),
    *(np.array([None]), np.ones((5, 2, 3), ">f4"), np.ones((5, 2, 3), "c8"), np.ones((5, 2, 4), F)),
    *(np.ones((1,) * 8, F), np.full((5, 2, 3), np.nan, F), np.array([5, -1])),
    *(np.array([2**62, 5]), np.array([5.0, 2.0]), np.zeros(3, [("a", "f4")])),
    *(np.array(["2020"], "M8[D]"), NoArray(), [X[:, 0], None], [X[:, 0], np.ones((2, 4), F)]),
]


def session() -> vledge.InferenceSession:
    graph = Graph(
        [Node("LSTM", ["x", "w", "r"], ["y"], {"hidden_size": 4})],
        [ValueInfo("x", "float", ("T", "B", 3))],
        [ValueInfo("y", "float", None)],
        {"w": np.ones((1, 16, 3), F), "r": np.ones((1, 16, 4), F)},
    )
    return vledge.InferenceSession(Model(graph, {"": 17}, ir_version=9))


SESSION = session()
PACKED = rnn.pack_padded_sequence(X, LENGTHS)


def restated(stream: Callable[[], Any]) -> Callable[[Any], None]:
    return lambda state: setattr(stream(), "state", state)


def streamed() -> Any:
    return LSTM.stream(batch=2)


def session_stream() -> Any:
    return SESSION.stream(batch=2, time_axis=0)


#: A call, and arguments that it takes.
DOORS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "layer": (LSTM, (X, STATE), {"lengths": LENGTHS, "mask": None, "strategy": None}),
    "layer.step": (LSTM.step, (X[0], STATE), {}),
    "layer.stream": (LSTM.stream, (), {"batch": 2}),
    "stream.step": (lambda *a, **k: streamed().step(*a, **k), (X[0],), {"out": None}),
    "stream.push": (lambda *a, **k: streamed().push(*a, **k), (X,), {"out": None}),
    "stream.state": (restated(streamed), (streamed().state,), {}),
    "stream.reset": (lambda rows: streamed().reset(rows), ([0],), {}),
    "from_weights": (nn.LSTM.from_weights, (WEIGHTS,), {"prefix": "", "dtype": None}),
    "load_state_dict": (nn.LSTM(3, 4, bias=False).load_state_dict, (WEIGHTS,), {}),
    "pack_padded_sequence": (rnn.pack_padded_sequence, (X, LENGTHS), {"batch_first": False}),
    "pad_packed_sequence": (
        rnn.pad_packed_sequence, (PACKED,), {"padding_value": 0.0, "total_length": None},
    ),
    "pack_sequence": (rnn.pack_sequence, ([X[:, 0], X[:2, 0]],), {}),
    "pad_sequence": (rnn.pad_sequence, ([X[:, 0], X[:2, 0]],), {"padding_value": 0.0}),
    "PackedSequence": (
        lambda *a: LSTM(rnn.PackedSequence(*a)),
        (PACKED.data, PACKED.batch_sizes, PACKED.sorted_indices, PACKED.unsorted_indices),
        {},
    ),
    "session.run": (SESSION.run, (None, {"x": X}), {}),
    "session.run, a value": (lambda x: SESSION.run(None, {"x": x}), (X,), {}),
    "session.run, outs": (lambda out: SESSION.run(None, {"x": X}, out=out), (None,), {}),
    "session.stream": (
        SESSION.stream, (), {"batch": 2, "time_axis": 0, "states": None, "fixed": None},
    ),
    "session stream.step": (lambda x: session_stream().step(x), (X[0],), {}),
    "session stream.push": (lambda x: session_stream().push(x), (X,), {}),
    "session stream.state": (restated(session_stream), (session_stream().state,), {}),
    "Limits": (lambda *a: SESSION.__class__(b"", limits=vledge.Limits(*a)), (9, 9, None), {}),
}  # fmt: skip


def problem(call: Callable[..., Any], arguments: list[Any], options: dict[str, Any]) -> str:
    try:
        call(*arguments, **options)
    except (ValueError, TypeError, VledgeError, MemoryError) as error:
        if len(str(error)) > 2_000:
            return f"{len(str(error)):,} characters"
    except RuntimeError as error:  # torch's, for sizes that do not fit
        words = ("xpected", "must", "Error(s) in loading")
        return "" if any(word in str(error) for word in words) else repr(error)
    except Exception as error:
        return repr(error)
    return ""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("door", DOORS)
def test_anything_in_the_place_of_an_argument(door: str) -> None:
    call, arguments, options = DOORS[door]
    found = []
    for place in (*range(len(arguments)), *options):
        for value in HOSTILE:
            given, named = list(arguments), dict(options)
            if isinstance(place, int):
                given[place] = value
            else:
                named[place] = value
            if said := problem(call, given, named):
                found.append(f"{place} = {value!r:.60}: {said:.200}")
    assert not found, "\n".join(found)


SIZES = [-1, 2**31, 2**62, 2**63, 2**70, 1.5, float("nan"), "x", None, True, (2**40, 2**40)]
LAYERS: dict[str, tuple[int, ...]] = {
    "RNN": (3, 4), "GRU": (3, 4), "LSTM": (3, 4), "IndRNN": (3, 4), "LSTMCell": (3, 4),
    "Linear": (3, 4), "Embedding": (5, 4), "EmbeddingBag": (5, 4), "Conv1d": (4, 8, 3, 1, 0, 1, 1),
    "BatchNorm1d": (4,), "LayerNorm": (4,), "PReLU": (1,), "AvgPool1d": (2, 2, 0),
    "MaxPool1d": (2, 2, 0, 1), "AdaptiveAvgPool1d": (3,), "AdaptiveMaxPool1d": (3,),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_sizes_of_layers(name: str) -> None:
    """Whatever a layer is said to be as large as: made at once, or refused in words, and shown."""
    good = LAYERS[name]
    recurrent = {"num_layers": 1} if name in ("RNN", "GRU", "LSTM", "IndRNN") else {}
    found = []
    for place in (*range(len(good)), *recurrent):
        for size in SIZES:
            given, named = list(good), dict(recurrent)
            (given if isinstance(place, int) else named)[place] = size  # type: ignore[index]
            call = lambda *a, **k: repr(getattr(nn, name)(*a, **k))  # noqa: E731
            if said := problem(call, given, named):
                found.append(f"{place} = {size!r:.60}: {said:.200}")
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: nn.LSTM(3, 4, num_layers=2**31), "num_layers is 2147483648, at most 10,000"),
        (lambda: nn.Linear(2**40, 2**40), "weight would have shape .*more bytes than an array"),
        (lambda: nn.Embedding(2**62, 1), "weight would have shape .*more bytes than an array"),
        (lambda: nn.AdaptiveAvgPool1d(2**62)(X[0]), "output would have shape .*more bytes"),
        (lambda: nn.AdaptiveMaxPool1d(2**62)(X[0]), "output would have shape .*more bytes"),
        (lambda: rnn.pad_packed_sequence(PACKED, total_length=2**62), "padded batch .*more bytes"),
        (lambda: LSTM.stream(batch=2**62), "more streams than an array can have"),
    ],
)
def test_sizes_that_no_array_has(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
