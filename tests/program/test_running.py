"""The loop over instructions: control flow, what a run leaves behind, threads, signals."""

import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import vledge
from tests.peers import peer

peer("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def info(name, kind=FLOAT, shape=None):
    return helper.make_tensor_value_info(name, kind, shape)


def graph(nodes, inputs, outputs, constants=None, name="g"):
    tensors = [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()]
    return helper.make_graph(nodes, name, inputs, outputs, tensors)


def session(main, opset=18):
    model = helper.make_model(main, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return vledge.InferenceSession(model.SerializeToString())


def both(ours, feed):
    """Results of the native program, which the plan's Python function gives as well."""
    plan = ours._plan
    arrays = [feed[name] for name in plan.inputs]
    declined = np.zeros(len(plan.native.nodes), np.int32)
    results = plan.native.program.run(arrays, (np.zeros(len(declined), np.int64), declined))
    expected = plan.function(*arrays)
    for result, wanted in zip(results, expected, strict=True):
        np.testing.assert_array_equal(result, wanted)
        assert result.dtype == wanted.dtype
    return results, int(declined.sum())


def swapping_loop():
    """(a, b) -> (b, a + b), and every a: two states that change places, an output that grows."""
    body = graph(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Identity", ["cond"], ["cond_out"]),
        ],
        [info("i", INT64, []), info("cond", BOOL, []), info("a"), info("b")],
        [info("cond_out", BOOL, []), info("b"), info("sum"), info("a")],
        name="body",
    )
    # a body may hand an input through as an output only under another name
    body.output[1].name, body.output[3].name = "b_out", "a_out"
    body.node.append(helper.make_node("Identity", ["b"], ["b_out"]))
    body.node.append(helper.make_node("Identity", ["a"], ["a_out"]))
    return graph(
        [helper.make_node("Loop", ["n", "", "x", "y"], ["p", "q", "all"], body=body)],
        [info("n", INT64, []), info("x"), info("y")],
        [info("p"), info("q"), info("all")],
    )


@pytest.mark.parametrize("trips", [1, 2, 7, 2000])
def test_states_of_a_loop_that_change_places(trips):
    ours = session(swapping_loop())
    feed = {
        "n": np.array(trips),
        "x": np.array([0, 1], np.float32),
        "y": np.array([1, 1], np.float32),
    }
    (_, _, every), declined = both(ours, feed)
    assert declined == 0
    assert every.shape == (trips, 2)


def test_a_loop_of_no_trips_is_the_operators():
    ours = session(swapping_loop())
    feed = {"n": np.array(0), "x": np.ones(2, np.float32), "y": np.ones(2, np.float32)}
    _, declined = both(ours, feed)
    assert declined == 1


def scanning():
    body = graph(
        [
            helper.make_node("Add", ["s", "x"], ["t"]),
            helper.make_node("Identity", ["t"], ["element"]),
        ],
        [info("s"), info("x")],
        [info("t"), info("element")],
        name="body",
    )
    return body


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("backwards", [0, 1])
@pytest.mark.parametrize("out_axis", [0, 1, -1])
@pytest.mark.parametrize("out_backwards", [0, 1])
def test_scan(axis, backwards, out_axis, out_backwards):
    ours = session(
        graph(
            [
                helper.make_node(
                    "Scan", ["s", "x"], ["t", "all"], body=scanning(), num_scan_inputs=1,
                    scan_input_axes=[axis], scan_input_directions=[backwards],
                    scan_output_axes=[out_axis], scan_output_directions=[out_backwards],
                )
            ],
            [info("s"), info("x")],
            [info("t"), info("all")],
        )
    )  # fmt: skip
    rng = np.random.default_rng(0)
    shape = {0: (5, 3, 4), 1: (3, 5, 4), -1: (3, 4, 5)}[axis]
    feed = {
        "s": np.zeros((3, 4), np.float32),
        "x": rng.integers(-9, 9, shape).astype(np.float32),
    }
    _, declined = both(ours, feed)
    assert declined == 0


def test_branches_that_hand_outer_values_through():
    then = graph([helper.make_node("Identity", ["x"], ["r"])], [], [info("r")], name="then")
    otherwise = graph([helper.make_node("Neg", ["x"], ["r2"])], [], [info("r2")], name="else")
    ours = session(
        graph(
            [helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=otherwise)],
            [info("c", BOOL, []), info("x")],
            [info("y")],
        )
    )
    for choice in (True, False):
        (y,), declined = both(ours, {"c": np.array(choice), "x": np.arange(3, dtype=np.float32)})
        assert declined == 0
        y[:] = 0  # the caller's own


def test_results_are_the_callers_own_and_stay():
    """Large results are the program's own memory, which no later run takes back."""
    ours = session(
        graph([helper.make_node("Relu", ["x"], ["y"])], [info("x")], [info("y"), info("y")])
    )
    x = np.random.default_rng(0).standard_normal((500, 700)).astype(np.float32)
    first, again = ours.run(None, {"x": x})
    assert not np.shares_memory(first, again)
    kept = first.copy()
    for _ in range(3):
        ours.run(None, {"x": -x})
    del ours
    np.testing.assert_array_equal(first, kept)
    first[:] = 1


def test_a_failure_leaves_the_session_usable_and_names_the_node():
    ours = session(
        graph(
            [
                helper.make_node("Add", ["x", "x"], ["z"]),
                helper.make_node("Reshape", ["z", "shape"], ["y"], name="fold"),
            ],
            [info("x"), info("shape", INT64)],
            [info("y")],
        )
    )
    x = np.ones(6, np.float32)
    for _ in range(3):
        with pytest.raises(ValueError, match=r"node 'fold' \(Reshape\)"):
            ours.run(None, {"x": x, "shape": np.array([4, 2])})
        (y,) = ours.run(None, {"x": x, "shape": np.array([2, 3])})
        assert y.shape == (2, 3)


def test_several_threads_on_one_session():
    ours = session(swapping_loop())

    def one(seed):
        feed = {
            "n": np.array(1 + seed % 50),
            "x": np.full((1 + seed % 3, 4), seed, np.float32),
            "y": np.full((1 + seed % 3, 4), 0.5 * seed, np.float32),
        }
        results = ours.run(None, feed)
        for result, wanted in zip(
            results, ours._plan.function(*(feed[n] for n in ours._plan.inputs)), strict=True
        ):
            np.testing.assert_array_equal(result, wanted)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(400)))


def test_memory_does_not_grow_with_changing_sizes():
    ours = session(
        graph(
            [
                helper.make_node("Mul", ["x", "x"], ["z"]),
                helper.make_node("Softmax", ["z"], ["p"]),
                helper.make_node("ReduceSum", ["p"], ["y"], keepdims=0),
            ],
            [info("x")],
            [info("y")],
        )
    )
    rng = np.random.default_rng(0)

    def peak():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    for size in rng.integers(1, 400_000, 30):
        ours.run(None, {"x": np.ones((1, size), np.float32)})
    before = peak()
    for size in rng.integers(1, 400_000, 200):
        ours.run(None, {"x": np.ones((1, size), np.float32)})
    assert peak() - before < 16 << 20


def endless():
    body = graph(
        [helper.make_node("Identity", ["cond"], ["go"]), helper.make_node("Neg", ["s"], ["t"])],
        [info("i", INT64, []), info("cond", BOOL, []), info("s")],
        [info("go", BOOL, []), info("t")],
        name="body",
    )
    return session(
        graph(
            [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body)],
            [info("n", INT64, []), info("x")],
            [info("y")],
        )
    )


def test_ctrl_c_ends_a_run():
    ours = endless()
    begin = time.monotonic()
    # a process that was started in the background ignores the signal, and Python then leaves it so
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            ours.run(None, {"n": np.array(10**9), "x": np.ones(3, np.float32)})
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - begin < 5
    (y,) = ours.run(None, {"n": np.array(3), "x": np.ones(3, np.float32)})
    np.testing.assert_array_equal(y, -np.ones(3))


def test_without_the_program(monkeypatch):
    monkeypatch.setenv("VLEDGE_PROGRAM", "0")
    ours = session(swapping_loop())
    assert ours._plan.native is None
    feed = {"n": np.array(3), "x": np.zeros(2, np.float32), "y": np.ones(2, np.float32)}
    np.testing.assert_array_equal(ours.run(["q"], feed)[0], [3, 3])


@pytest.mark.parametrize("op_type", ["ScatterElements", "ScatterND"])
@pytest.mark.parametrize("roles", ["xxu", "xix", "xxx"])
def test_one_value_in_several_roles(op_type, roles):
    """A value that is written over in place is not read as indices or updates afterwards."""
    size = 257
    shape = [size] if op_type == "ScatterElements" else [size, 1]
    x = np.roll(np.arange(size), 1).reshape(shape)
    given = {"x": "v", "i": "i", "u": "u"}
    nodes = [helper.make_node("Add", ["x", "zero"], ["v"])]
    nodes.append(helper.make_node(op_type, [given[role] for role in roles], ["y"]))
    names = ["x", "zero", *(name for name in ("i", "u") if name in roles[1:])]
    ours = session(graph(nodes, [info(name, INT64) for name in names], [info("y", INT64)]))
    feed = {
        "x": x,
        "zero": np.zeros(1, np.int64),
        "i": np.arange(size).reshape(shape)[::-1].copy(),
        "u": (np.arange(size) % 7 + 2**45).reshape(shape),
    }
    _, declined = both(ours, feed)
    assert declined == 0


def test_no_memory_for_a_value_names_the_node():
    """In a process of its own, which may take so much and no more."""
    script = """
import resource, numpy as np, vledge
from tests.program.test_running import INT64, graph, helper, info, session
nodes = [helper.make_node("Expand", ["x", "shape"], ["e"]),
         helper.make_node("Relu", ["e"], ["y"], name="large")]
ours = session(graph(nodes, [info("x"), info("shape", INT64)], [info("y")]))
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
feed = {"x": np.ones(1, np.float32), "shape": np.array([2**20, 2**18])}
try:
    ours.run(None, feed)
except MemoryError as error:
    print(error)
feed["shape"] = np.array([2, 3])
print(ours.run(None, feed)[0].shape)
"""
    unlimited = {**os.environ, "VLEDGE_LIMITS": "run_memory=9000GB"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=unlimited, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert "node 'large' (Relu)" in said[0], done.stderr
    assert said[1] == "(2, 3)"


def test_one_array_is_not_two_outputs():
    nodes = [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])]
    ours = session(graph(nodes, [info("x")], [info("y"), info("z")]))
    out = np.zeros(3, np.float32)
    for given in ([out, out], {"y": out, "z": out}):
        with pytest.raises(ValueError, match="share memory"):
            ours.run(None, {"x": np.ones(3, np.float32)}, out=given)
