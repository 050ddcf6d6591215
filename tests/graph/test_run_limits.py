"""What the values of a run may take together: in its frame, in Python, in a stream."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import vledge
from vledge._ext.room import Room
from vledge.budget import FREE_BYTES, RUN_BYTES, Budget, Limits
from vledge.errors import LimitError
from vledge.graph.plan import Plan
from vledge.model.definition import Graph, Model, Node, ValueInfo
from vledge.streaming.carried import Frames, carried

X = np.ones(25_000, np.float32)
BYTES = X.nbytes


def fan(op_type: str, count: int) -> list[Node]:
    """So many values of x that are all wanted in the end."""
    nodes = [Node(op_type, ["x"], [f"v{i}"], {}, f"n{i}") for i in range(count)]
    return [*nodes, Node("Sum", [f"v{i}" for i in range(count)], ["y"])]


def chain(op_type: str, count: int) -> list[Node]:
    """So many values, each of which the next one takes the place of."""
    names = ["x", *(f"v{i}" for i in range(count - 1)), "y"]
    return [Node(op_type, [a], [b]) for a, b in pairwise(names)]


def plan(nodes: list[Node], limits: Limits) -> Plan:
    graph = Graph(nodes, [ValueInfo("x", "float", ("n",))], [ValueInfo("y", "", None)], {})
    return Plan(Model(graph, {"": 17}, budget=Budget(0, limits)), {})


NATIVE, PYTHON = "Neg", "Asinh"


@pytest.mark.parametrize("program", ["0", "1"])
@pytest.mark.parametrize("op_type", [NATIVE, PYTHON])
def test_values_count_together(op_type: str, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    limits = Limits(run_memory=20 * BYTES)
    assert plan(fan(op_type, 6), limits).run(X)[0].shape == X.shape
    with pytest.raises(LimitError, match=r"together may take .*run_memory="):
        plan(fan(op_type, 40), limits).run(X)


@pytest.mark.parametrize("program", ["0", "1"])
@pytest.mark.parametrize("op_type", [NATIVE, PYTHON])
def test_what_is_done_with_counts_no_more(
    op_type: str, program: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    made = plan(chain(op_type, 60), Limits(run_memory=12 * BYTES))
    for _ in range(3):
        assert made.run(X)[0].shape == X.shape


def test_a_run_may_take_more_where_file_or_inputs_are_large() -> None:
    small, large = Budget(1_000).run_limits, Budget(1_000_000).run_limits
    assert small.bytes_for(12) < FREE_BYTES + (1 << 20)
    assert large.bytes_for(0) == FREE_BYTES + 64_000_000
    assert small.bytes_for(1_000_000) > FREE_BYTES + 256_000_000
    charged = Budget(1_000)
    charged.take(FREE_BYTES // 2, "constants made at load")
    assert charged.run_limits.bytes_for(0) == small.bytes_for(0) - FREE_BYTES // 2
    huge = Budget(1 << 40).run_limits
    assert huge.bytes_for(0) == FREE_BYTES + RUN_BYTES + 10 * (1 << 40)
    assert Budget(1 << 40, Limits(run_memory=7)).run_limits.bytes_for(1 << 40) == 7


def test_the_message_says_what_is_enough() -> None:
    nodes = fan(NATIVE, 40)
    with pytest.raises(LimitError) as caught:
        plan(nodes, Limits(run_memory=20 * BYTES)).run(X)
    enough = int(str(caught.value).rpartition("run_memory=")[2])
    assert plan(nodes, Limits(run_memory=2 * enough)).run(X)[0].shape == X.shape


# ---- sequences, which keep arrays of the frame's memory


def through_a_sequence() -> list[Node]:
    return [
        Node("Neg", ["x"], ["a"]),
        Node("SequenceConstruct", ["a"], ["s"]),
        Node("Asinh", ["x"], ["b"]),
        Node("SequenceInsert", ["s", "b"], ["t"]),
        Node("SequenceAt", ["t", "zero"], ["c"]),
        Node("Abs", ["c"], ["y"]),
    ]


def test_what_a_sequence_has_kept_counts_no_more_in_the_next_run() -> None:
    graph = Graph(
        through_a_sequence(),
        [ValueInfo("x", "float", ("n",))],
        [ValueInfo("y", "", None)],
        {"zero": np.array(0)},
    )
    made = Plan(Model(graph, {"": 17}, budget=Budget(0, Limits(run_memory=12 * BYTES))), {})
    first = made.run(X)[0]
    held = made.memory().held
    for _ in range(50):
        np.testing.assert_array_equal(made.run(X)[0], first)
    assert made.memory().held <= held + BYTES


# ---- the allocator itself


def test_a_room_counts_what_is_there() -> None:
    with Room(1_000_000) as room:
        for _ in range(50):
            np.zeros(100_000, np.float32)
        kept = [np.zeros(50_000, np.float32) for _ in range(4)]
        with pytest.raises(MemoryError):
            np.zeros(100_000, np.float32)
        kept.pop()
        kept.append(np.zeros(50_000, np.float32))
    assert room.refused == 400_000
    assert 800_000 <= room.used < 810_000


def test_a_room_goes_on_from_what_was_used() -> None:
    with Room(1_000_000, used=700_000) as room, pytest.raises(MemoryError):
        np.zeros(100_000, np.float32)
    assert room.used >= 700_000


def test_an_inner_room_has_its_own_limit_and_counts_in_the_outer() -> None:
    with Room(1_000_000) as outer:
        with Room(10_000_000):
            kept = np.zeros(500_000, np.float32)
        with pytest.raises(MemoryError):
            np.zeros(100_000, np.float32)
        del kept
        np.zeros(200_000, np.float32)
    assert outer.used < 10_000


def test_arrays_of_before_that_end_in_a_room_make_no_more_of_it() -> None:
    with Room(1_000_000):
        early = np.zeros(200_000, np.float32)
    with Room(1_000_000):
        del early
        with pytest.raises(MemoryError):
            np.zeros(300_000, np.float32)


# ---- runs that carry states from one to the next, as streams of sessions do


def runs() -> Any:
    """A state `s` that is made as many times as large as x says, then a mean of that."""
    nodes = [
        Node("ReduceMax", ["x"], ["most"], {"keepdims": 0}),
        Node("Cast", ["most"], ["times"], {"to": 7}),
        Node("Reshape", ["times", "one"], ["last"]),
        Node("Concat", ["one", "one", "last"], ["repeats"], {"axis": 0}),
        Node("Tile", ["s", "repeats"], ["large"], {}, "tile"),
        Node("ReduceMean", ["large"], ["mean"], {"axes": [2]}),
        Node("Add", ["x", "mean"], ["y"]),
        Node("Add", ["s", "mean"], ["t"]),
    ]
    graph = Graph(
        nodes,
        [ValueInfo("x", "float", ("T", 1, 3)), ValueInfo("s", "float", (1, 1, 3))],
        [ValueInfo("y", "float", ("T", 1, 3)), ValueInfo("t", "float", (1, 1, 3))],
        {"one": np.array([1])},
    )
    frames = Frames("x", 0, np.dtype(np.float32), (1, 1, 3), 0)
    plan = Plan(Model(graph, {"": 17}), {})
    made = carried(plan, [(1, 1)], [frames], [], [("y", 0, 0)], lambda x: [x[np.newaxis]])
    made.set_states([np.zeros((1, 1, 3), np.float32)])
    return made


@pytest.mark.parametrize("program", ["0", "1"])
def test_a_stream_has_limits(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    made = runs()
    one = np.ones((1, 3), np.float32)
    made.step(one)
    (before,) = made.get_states()
    for _ in range(2):
        with pytest.raises(LimitError, match=r"node 'tile' \(Tile\): .*run_memory="):
            made.step(30_000_000 * one)
    np.testing.assert_array_equal(made.get_states()[0], before)
    for _ in range(3):
        assert made.step(1_000_000 * one).shape == (1, 3)


@pytest.mark.parametrize("program", ["0", "1"])
def test_a_state_earns_a_step_no_room(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a state that grows would be granted 256 times what it has grown to."""
    monkeypatch.setenv("VLEDGE_PROGRAM", program)
    made = runs()
    made.set_states([np.zeros((1, 1, 1_000_000), np.float32)])
    one = np.ones((1, 3), np.float32)
    assert made.step(2 * one).shape == (1, 3)
    with pytest.raises(LimitError, match=r"node 'tile' \(Tile\): .*run_memory="):
        made.step(30 * one)


@pytest.mark.parametrize("budget", [None, Budget(0)])
def test_limits_of_a_model_that_has_been_read(budget: Budget | None) -> None:
    graph = Graph(
        fan(NATIVE, 40), [ValueInfo("x", "float", ("n",))], [ValueInfo("y", "", None)], {}
    )
    model = Model(graph, {"": 17}, ir_version=8, budget=budget)
    assert vledge.InferenceSession(model).run(None, {"x": X})[0].shape == X.shape
    session = vledge.InferenceSession(model, limits=Limits(run_memory=10 * BYTES))
    with pytest.raises(LimitError, match="run_memory="):
        session.run(None, {"x": X})
    assert model.budget is budget
